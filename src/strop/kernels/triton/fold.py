"""Sums, means, extremes and the like over axes: tiles of results by folded elements."""

from __future__ import annotations

import math
from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.kernels.base import Region, View
from strop.kernels.triton.emit import (
    Block,
    GpuEmitted,
    Launch,
    Tile,
    Writer,
    ceil_div,
    power_of_two,
)
from strop.kernels.triton.parts import GpuKernel, finish, is_float, standard, traffic
from strop.ops.base import axes_of
from strop.ops.reduce import Reduce
from strop.target.base import Target

#: Per kind: first value, text of what an element contributes, text of the step, reduction along the tile, text of the result.
_SUM = ("0.0", "{}", "acc + {}", "tl.sum(acc, 0)", "{}")
_KINDS = {
    "sum": _SUM,
    "mean": (*_SUM[:4], "({} / {count})"),
    "l1": ("0.0", "tl.abs({})", *_SUM[2:]),
    "sumsq": ("0.0", "{0} * {0}", *_SUM[2:]),
    "l2": ("0.0", "{0} * {0}", *_SUM[2:4], "tl.sqrt({})"),
    "logsum": (*_SUM[:4], "tl.log({})"),
    "max": ('float("-inf")', "{}", "tl.maximum(acc, {}, propagate_nan=tl.PropagateNan.ALL)", "tl.max(acc, 0)", "{}"),
    "min": ('float("inf")', "{}", "tl.minimum(acc, {}, propagate_nan=tl.PropagateNan.ALL)", "tl.min(acc, 0)", "{}"),
}


@dataclass(frozen=True)
class Params:
    """Results and folded elements of a tile, and warps."""

    results: int
    folded: int
    warps: int


class Fold(GpuKernel[Params]):
    """See the module's text."""

    name = "fold"

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, Reduce) or region.op.kind not in _KINDS or not region.op.axes:
            return "it is no sum, mean or extreme"
        return None if is_float(region.operand(0).view) else "it is not of floats"

    def space(self, region: Region, target: Target) -> list[Params]:
        kept, folded = _counts(region)
        found = []
        for results in (1, 4, 8, 16, 32, 64, 128):
            for size in (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192):
                if results <= max(1, power_of_two(kept)) and size <= max(8, power_of_two(folded)) and 256 <= results * size <= 8192:
                    found += [Params(results, size, warps) for warps in (4, 8)]
        return found or [Params(1, 256, 4)]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        kept, folded = _counts(region)
        x = region.operand(0).view
        axes = axes_of(region.op, region.op.axes, len(x.shape)) if isinstance(region.op, Reduce) else ()
        along = any(x.strides[a] == 1 and x.shape[a] > 1 for a in axes)
        run = params.folded if along else params.results
        programs = ceil_div(kept, params.results)
        rounds = ceil_div(folded, params.folded)
        waves = ceil_div(programs, target.cores * max(1, 48 // params.warps))
        cycles = waves * (1200 + rounds * 500) + rounds * params.results * params.folded * programs / target.cores / 40
        return max(traffic(region, target), cycles / (target.ghz * 1e9) + 2e-6) * (1.0 if run >= 16 else 2.0)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        op, w, p = region.op, Writer(), params
        assert isinstance(op, Reduce)
        x = region.operand(0).view
        axes = axes_of(op, op.axes, len(x.shape))
        kept, count = _counts(region)
        view = region.out if op.keepdims else _spread(region.out, axes, len(x.shape))
        places = tuple(range(len(x.shape)))
        first, element, step, along, result = _KINDS[op.kind]
        w(f"m = tl.program_id(0) * {p.results} + tl.arange(0, {p.results})")
        m = Block("m", places, view.shape, p.results, kept % p.results != 0)
        w(f"acc = tl.full(({p.folded}, {p.results}), {first}, tl.float32)")
        base = m.offset(w, [0 if a in axes else s for a, s in enumerate(x.strides)]) or "m * 0"
        w(f"x_tile = x + ({base})[None, :]")
        rounds = ceil_div(count, p.folded)
        with w.block(f"for step in range({rounds})"):
            w(f"r = step * {p.folded} + tl.arange(0, {p.folded})")
            r = Block("r", axes, tuple(x.shape[a] for a in axes), p.folded, count % p.folded != 0)
            text = r.offset(w, [x.strides[a] for a in axes]) or "r * 0"
            masks = [*([f"(r < {count})[:, None]"] if r.checked else []), *([f"(m < {kept})[None, :]"] if m.checked else [])]
            mask = f", mask={' & '.join(masks)}, other={first}" if masks else ""
            w(f"v = tl.load(x_tile + ({text})[:, None]{mask}).to(tl.float32)")
            w(f"acc = {step.format(element.format('v'))}")
        w(f"total = {along}")
        value = result.format("total", count=count)
        turned = Region(region.name, op, region.operands, region.anchors, region.epilogue, (view,), region.source, region.work)
        if not op.keepdims:
            turned = _aligned(turned, axes, len(x.shape))
        finish(turned, Tile(w, (m,)), value, dt.f32, view)
        return standard(region, [("x", 0)]).emitted([Launch(w.text(), (ceil_div(kept, p.results), 1, 1), p.warps, 3)])


def _counts(region: Region) -> tuple[int, int]:
    """(results, elements folded into each)."""
    kept = region.out.count
    return kept, region.operand(0).view.count // max(1, kept)


def _spread(view: View, axes: tuple[int, ...], rank: int) -> View:
    """The view with axes of length 1 where others were folded away."""
    shape, strides = list(view.shape), list(view.strides)
    for axis in sorted(axes):
        shape.insert(axis, 1)
        strides.insert(axis, 0)
    assert len(shape) == rank and math.prod(shape) == view.count
    return View(tuple(shape), tuple(strides), view.dtype)


def _aligned(region: Region, axes: tuple[int, ...], rank: int) -> Region:
    """The region with such axes in the views of the epilogue's operands, too."""
    from_operand = type(region.operand(0))
    operands = tuple(
        o if o is None or k < region.anchors else from_operand(_spread(o.view, axes, rank), o.const, o.name) for k, o in enumerate(region.operands)
    )
    return Region(region.name, region.op, operands, region.anchors, region.epilogue, region.outs, region.source, region.work)


KERNEL = Fold()
