"""Local response normalization over channels-last activations.

A row is one pixel's channels. Their squares go to scratch between zeros, so that the sum over
neighbours is one unaligned load per neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.ir.shape import count
from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, View, memory_seconds
from strop.kernels.c.rows import (
    Finish,
    Track,
    address,
    indices,
    outer_axes,
    row_loop,
    rows_per_task,
    tree,
    vectors,
)
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import Writer, literal
from strop.kernels.extent import is_symbolic
from strop.ops.norm import LRN
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: C text of t ** -beta for the usual betas.
_POWERS = {
    0.5: "vset1(1.0f) / vsqrt(t)",
    0.75: "vset1(1.0f) / (vsqrt(t) * vsqrt(vsqrt(t)))",
    1.0: "vset1(1.0f) / t",
}
#: Neighbours above which a running sum would be the better algorithm.
_MOST = 64


@dataclass(frozen=True)
class Params:
    """vectors: per loop iteration."""

    vectors: int


class NormLrn(Kernel[Params]):
    """See the module's text."""

    name = "norm_lrn"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, LRN):
            return "the anchor is not LRN"
        views = _views(region)
        if not region.all_floats() or not vectorizable(region.epilogue, [v.dtype for v in views[1:]]):
            return "not f32 or 16-bit floats, or the epilogue has no vector form"
        if region.out.count == 0:
            return "the result is empty"
        if region.out.shape[1] == 1 or views[0].strides[1] != 1 or views[1].strides[1] != 1:
            return "channels are not consecutive"
        if is_symbolic(region.out.shape[1]):
            return "the number of channels is not fixed"
        if region.op.size > _MOST:
            return f"more than {_MOST} neighbours"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        whole = -(-region.out.shape[1] // ISAS[target.isa].lanes)
        return [Params(n) for n in (1, 2) if n <= whole]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        assert isinstance(region.op, LRN)
        channels = region.out.shape[1]
        whole = -(-channels // ISAS[target.isa].lanes)
        power = 30.0 if region.op.beta in _POWERS else 45.0
        cycles = (
            region.out.count
            // channels
            * (whole * (4.0 + region.op.size + power + 1.0 / params.vectors) + 20.0)
        )
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        op = region.op
        assert isinstance(op, LRN)
        lanes = ISAS[target.isa].lanes
        names = ["y", "x", *(f"e{k}" for k in range(len(region.extras)))]
        channels, before, after = region.out.shape[1], (op.size - 1) // 2, op.size // 2
        views = _views(region)
        outer = outer_axes(views, [a for a in range(len(region.out.shape)) if a != 1])
        rows = count(outer.extents)
        per_task = rows_per_task(rows, channels, target)
        room = before + -(-channels // lanes) * lanes + after
        w = Writer()
        for k, (name, view) in enumerate(zip(names, views, strict=True)):
            w(f"{'' if k == 0 else 'const '}{view.dtype.c} *{name} = a->p[{k}];")
        w("float *squares = a->scratch;", f"memset(squares, 0, {room} * sizeof(float));")
        with row_loop(w, rows, per_task) as row:
            found = indices(w, row, outer.extents, "i")
            for name, view, strides in zip(names, views, outer.strides, strict=True):
                w(
                    f"{'' if name == 'y' else 'const '}{view.dtype.c} *{name}_row = {address(name, strides, found)};"
                )
            y, x, *extras = (
                Track(f"{name}_row", v.strides[1], v.dtype) for name, v in zip(names, views, strict=True)
            )
            inner = Track(f"squares + {before}" if before else "squares", 1)
            for at, tail, _ in vectors(w, channels, lanes, params.vectors):
                with w.block(""):
                    w(f"const vf v = {x.load(at, tail)};", inner.store(at, "v * v"))
            finish = Finish(w, region.epilogue, y, extras)
            for at, tail, _ in vectors(w, channels, lanes, params.vectors):
                with w.block(""):
                    near = [
                        Track("squares", 1).load(f"{at} + {k}" if k else at) for k in range(op.size)
                    ]
                    alpha, bias = (
                        f"vset1({literal(v, dt.f32)})" for v in (op.alpha / op.size, op.bias)
                    )
                    w(f"const vf t = vfma({tree('+', near)}, {alpha}, {bias});")
                    power = _POWERS.get(
                        op.beta, f"vexp(vset1({literal(-op.beta, dt.f32)}) * vlog(t))"
                    )
                    w(f"const vf v = {x.load(at, tail)} * ({power});")
                    finish.store(at, "v", tail)
        pointers: tuple[Pointer, ...] = (
            Out(0),
            In(0),
            *(In(region.anchors + k) for k in range(len(region.extras))),
        )
        return Emitted(w.text(), pointers, -(-rows // per_task), 4 * room)


def _views(region: Region) -> list[View]:
    return [region.out, region.operand(0).view, *(e.view for e in region.extras)]


KERNEL = NormLrn()
