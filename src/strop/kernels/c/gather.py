"""Slices picked along an axis by i32 or i64 indices (ONNX Gather), any dtype and layout.

Negative indices count from the end. An index out of range is forced into it, so that nothing outside the operand is read; ONNX leaves
the result undefined. Runs that are consecutive on both sides are copied whole; an epilogue over f32 is applied by vectors along the
innermost axis.
"""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, View, memory_seconds
from strop.kernels.c.axes import Axes
from strop.kernels.c.rows import Finish, Track, address, vectors
from strop.kernels.c.units import Units
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import Writer
from strop.kernels.extent import is_symbolic
from strop.ops.index import Gather
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Runs of at most this many bytes are copied by moves in place of a call.
_INLINE = 512


@dataclass(frozen=True)
class _Plan:
    """How the result is walked. Views are numbered result, x, indices, extras; x and indices do not move along the other's axes.

    Attributes:
        axes: loops, innermost last.
        size: elements of x along the picked axis.
        step: elements between x's neighbours along the picked axis.
    """

    axes: Axes
    size: int
    step: int


def _plan(region: Region) -> _Plan:
    assert isinstance(region.op, Gather)
    x, indices = region.operand(0).view, region.operand(1).view
    axis = region.op.axis % len(x.shape)
    rank = len(indices.shape)
    shape = region.out.shape
    spread = View(shape, (*x.strides[:axis], *(0,) * rank, *x.strides[axis + 1 :]), x.dtype)
    picked = View(shape, (*(0,) * axis, *indices.strides, *(0,) * (len(shape) - axis - rank)), indices.dtype)
    axes = Axes.merged([region.out, spread, picked, *(e.view for e in region.extras)])
    return _Plan(axes, x.shape[axis], x.strides[axis])


class GatherKernel(Kernel[None]):
    """See the module's text."""

    name = "gather"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, Gather):
            return "the anchor is not gather"
        if region.out.count == 0 or region.operand(0).view.count == 0:
            return "nothing to gather"
        if not region.has_epilogue:
            return None
        if region.operand(0).view.dtype != dt.f32 or region.out.dtype != dt.f32:
            return "an epilogue needs f32"
        if not vectorizable(region.epilogue, [dt.f32, *(e.view.dtype for e in region.extras)]):
            return "the epilogue has no vector form"
        if _plan(region).axes.strides[2][-1] != 0:
            return "an epilogue needs slices of more than one element, innermost in the result"
        return None

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        axes = _plan(region).axes
        run = axes.extents[-1] if axes.strides[2][-1] == 0 else 1
        cycles = region.out.count / run * (12.0 + run / 8.0)
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target)) + 1e-8

    def emit(self, region: Region, params: None, target: Target) -> Emitted:
        plan = _plan(region)
        w = Writer()
        kind = "float" if region.has_epilogue else f"uint{8 * region.out.dtype.size}_t"
        kinds = [kind, kind, region.operand(1).view.dtype.c, *["float"] * len(region.extras)]
        names = ["y", "x", "picks", *(f"e{k}" for k in range(len(region.extras)))]
        for k, (name, c) in enumerate(zip(names, kinds, strict=True)):
            w(f"{'' if k == 0 else 'const '}{c} *{name} = a->p[{k}];")
        units = Units.of(plan.axes.extents[:-1], plan.axes.extents[-1], target.cores)
        inner = [s[-1] for s in plan.axes.strides]
        with units.loops(w) as places:
            starts = {name: address(name, s[:-1], places) for name, s in zip(names, plan.axes.strides, strict=True)}
            w(f"{kind} *to = {starts['y']};", f"const {kind} *from = {starts['x']};")
            if inner[2] == 0:
                self._pick(w, plan, f"*({starts['picks']})" if starts["picks"] != "picks" else "*picks")
                self._run(w, region, plan, [starts[n] for n in names[3:]], ISAS[target.isa].lanes)
            else:
                w(f"const {kinds[2]} *pick = {starts['picks']};")
                with w.loop("j", plan.axes.extents[-1]):
                    self._pick(w, plan, _at("pick", inner[2]))
                    w(f"{_at('to', inner[0])} = from[{' + '.join(_terms(plan, inner[1]))}];")
        pointers: tuple[Pointer, ...] = (Out(0), In(0), In(1), *(In(region.anchors + k) for k in range(len(region.extras))))
        return Emitted(w.text(), pointers, units.tasks)

    @staticmethod
    def _pick(w: Writer, plan: _Plan, index: str) -> None:
        """Declares ``at``, an index forced into range."""
        w(f"int64_t at = {index};", f"at += at < 0 ? {plan.size} : 0;")
        w(f"at = at < 0 ? 0 : at < {plan.size} ? at : {plan.size - 1};")

    @staticmethod
    def _run(w: Writer, region: Region, plan: _Plan, extras: list[str], lanes: int) -> None:
        """Moves the slice's elements along the innermost axis."""
        length = plan.axes.extents[-1]
        inner = [s[-1] for s in plan.axes.strides]
        w(f"from += at * {plan.step};")
        if region.has_epilogue:
            tracks = [Track(start, step) for start, step in zip(extras, inner[3:], strict=True)]
            finish = Finish(w, region.epilogue, Track("to", inner[0]), tracks)
            source = Track("from", inner[1])
            for at, tail, _ in vectors(w, length, lanes):
                with w.block(""):
                    w(f"const vf v = {source.load(at, tail)};")
                    finish.store(at, "v", tail)
            return
        if inner[:2] == [1, 1]:
            size = region.out.dtype.size
            short = not is_symbolic(length) and length * size <= _INLINE
            w(f"{'__builtin_memcpy_inline' if short else 'memcpy'}(to, from, {length * size});")
            return
        with w.loop("j", length):
            w(f"{_at('to', inner[0])} = {_at('from', inner[1])};")


def _at(name: str, step: int) -> str:
    return f"{name}[{'0' if step == 0 else 'j' if step == 1 else f'j * {step}'}]"


def _terms(plan: _Plan, step: int) -> list[str]:
    """Summands of an element's offset in x."""
    found = ["at" if plan.step == 1 else f"at * {plan.step}"]
    return found + ([] if step == 0 else ["j" if step == 1 else f"j * {step}"])


KERNEL = GatherKernel()
