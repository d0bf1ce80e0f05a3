"""Where elements are not zero: counted first, as rows of the result follow one another without a gap, then written."""

from __future__ import annotations

from contextlib import ExitStack

from strop.kernels.base import Emitted, In, Kernel, Out, Region, memory_seconds
from strop.kernels.c.writer import Writer, address, from_memory
from strop.ops.select import NonZero
from strop.target.base import Target

#: Cycles assumed per element that is looked at.
_LOOK = 2.0


class NonZeroKernel(Kernel[None]):
    """See the module's text."""

    name = "non_zero"
    symbolic = True
    empty = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, NonZero):
            return "the anchor is not non_zero"
        return None if region.out.is_dense() else "the result is not row-major"

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        cycles = 2 * _LOOK * region.operand(0).view.count
        return cycles / (target.ghz * 1e9) + memory_seconds(region, target) + 1e-7

    def emit(self, region: Region, params: None, target: Target) -> Emitted:
        x = region.operand(0).view
        w = Writer()
        w(f"const {x.dtype.c} *x = a->p[0];", "int64_t *y = a->p[1], count = 0, at = 0;")
        names = [f"i{k}" for k in range(len(x.shape))]
        element = f"x[{address('', *zip(names, x.strides, strict=True))}]"
        hit = f"{from_memory(element, x.dtype)} != 0"
        with ExitStack() as stack:
            for name, extent in zip(names, x.shape, strict=True):
                stack.enter_context(w.loop(name, extent))
            w(f"count += {hit};")
        with ExitStack() as stack:
            for name, extent in zip(names, x.shape, strict=True):
                stack.enter_context(w.loop(name, extent))
            stack.enter_context(w.block(f"if ({hit})"))
            for k, name in enumerate(names):
                w(f"y[{f'{k} * count + ' if k else ''}at] = {name};")
            w("at++;")
        w("*(int64_t *)a->p[2] = count;")
        return Emitted(w.text(), (In(0), Out(0), Out(1)), 1)


KERNEL = NonZeroKernel()
