"""Running sums and products: one pass along the axis, side by side over the innermost other axis."""

from __future__ import annotations

from strop.ir.expr import Input
from strop.kernels.base import Emitted, In, Kernel, Out, Region, memory_seconds
from strop.kernels.c.rows import walk_rows
from strop.kernels.c.writer import Writer, from_memory, held, literal, to_memory
from strop.ops.cumulative import CumProd, CumSum
from strop.target.base import Target

#: Cycles assumed per element: of a chain of dependent operations, and side by side.
_CHAIN, _BESIDE = 5.0, 2.0


class Cumulative(Kernel[None]):
    """See the module's text."""

    name = "cumulative"

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, (CumSum, CumProd)):
            return "the anchor is no running sum or product"
        if region.epilogue != Input(0):
            return "no epilogue is applied here"
        if region.out.count == 0:
            return "nothing to add up"
        return None

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        cycles = _CHAIN if _beside(region) is None else _BESIDE
        return cycles * region.out.count / (target.ghz * 1e9) + memory_seconds(region, target) + 1e-7

    def emit(self, region: Region, params: None, target: Target) -> Emitted:
        op = region.op
        assert isinstance(op, (CumSum, CumProd))
        x, y = region.operand(0).view, region.out
        axis, kind = op.axis % len(x.shape), held(x.dtype)
        size, beside = x.shape[axis], _beside(region)
        width = 1 if beside is None else x.shape[beside]
        w = Writer()
        w(f"{y.dtype.c} *y0 = a->p[0];", f"const {x.dtype.c} *x0 = a->p[1];")
        w(f"{kind.c} *sum = (void *)a->scratch;")
        skipped = {axis} if beside is None else {axis, beside}
        with walk_rows(w, [("y0", y), ("x0", x)], skipped) as (out, row):
            with w.loop("c", width):
                w(f"sum[c] = {literal(op.neutral, kind)};")
            head = f"for (int64_t i = {size} - 1; i >= 0; i--)" if op.reverse else f"for (int64_t i = 0; i < {size}; i++)"
            with w.block(head), w.loop("c", width):
                steps = (0, 0) if beside is None else (y.strides[beside], x.strides[beside])
                here = [f"i * {v.strides[axis]} + c * {s}" for v, s in zip((y, x), steps, strict=True)]
                w(f"const {kind.c} v = {from_memory(f'{row}[{here[1]}]', x.dtype)};")
                store = f"{out}[{here[0]}] = {to_memory('sum[c]', y.dtype)};"
                change = f"sum[c] {'+' if op.combine == 'add' else '*'}= v;"
                w(*((store, change) if op.exclusive else (change, store)))
        return Emitted(w.text(), (Out(0), In(0)), y.count // size // width, width * kind.size)


def _beside(region: Region) -> int | None:
    """The innermost axis of x other than the one summed along, when its elements lie closer together."""
    assert isinstance(region.op, (CumSum, CumProd))
    x = region.operand(0).view
    axis = region.op.axis % len(x.shape)
    others = [k for k in range(len(x.shape)) if k != axis and x.shape[k] > 1]
    if not others:
        return None
    inner = min(others, key=lambda k: x.strides[k])
    return inner if x.strides[inner] < x.strides[axis] else None


KERNEL = Cumulative()
