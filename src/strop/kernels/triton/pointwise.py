"""Pure elementwise regions and copies: any chain of scalar functions over strided, broadcast operands, one pass over the result.

Places are numbered in the order in which the result lies. Where a large operand lies in another order, as in a transpose, tiles have two axes, so
that both reading and writing go along consecutive elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from strop.ir.expr import Expr, Input
from strop.kernels.base import In, Out, Region, View
from strop.kernels.c.axes import Axes
from strop.kernels.triton.emit import (
    Block,
    GpuEmitted,
    Launch,
    Printer,
    Tile,
    Writer,
    ceil_div,
    literal,
    loaded,
    power_of_two,
    printable,
)
from strop.kernels.triton.parts import GpuKernel, Pointers, traffic
from strop.target.base import Target


@dataclass(frozen=True)
class Params:
    """Places of a tile along the result's fastest axis and across it, and warps."""

    along: int
    across: int
    warps: int


class Pointwise(GpuKernel[Params]):
    """See the module's text."""

    name = "pointwise"
    in_place = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if region.op is not None:
            return "it has an anchor op"
        if region.symbols:
            return "its code is made for fixed shapes"
        return printable(region.epilogue, [o.view.dtype for o in region.operands if o is not None])

    def space(self, region: Region, target: Target) -> list[Params]:
        if _across(region) is not None:
            return [Params(32, 32, 4), Params(64, 32, 4), Params(64, 64, 8), Params(32, 64, 8)]
        most = max(32, power_of_two(region.out.count))
        return [Params(size, 1, warps) for size in (256, 512, 1024, 2048) for warps in (1, 4, 8) if 2 <= size // (32 * warps) <= 32 and size <= 2 * most] or [
            Params(64, 1, 1)
        ]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        each = params.along * params.across / (32 * params.warps)
        programs = ceil_div(region.out.count, params.along * params.across)
        waves = ceil_div(programs, target.cores * max(1, min(32, 64 // params.warps)))
        return max(traffic(region, target), waves * (900 + each * 20) / (target.ghz * 1e9) + 2e-6) * (1.0 + 0.01 * abs(each - 8))

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        w = Writer()
        present = [(k, o) for k, o in enumerate(region.operands) if o is not None]
        axes = Axes.merged([region.out, *(o.view for _, o in present)])
        views = [View(axes.extents, strides, v.dtype) for strides, v in zip(axes.strides, (region.out, *(o.view for _, o in present)), strict=True)]
        tile, grid = _tile(w, views, params, _across(region))
        pointers = Pointers.none()

        def load(node: Expr, index: list[str]) -> str:
            assert isinstance(node, Input)
            operand = present[node.index][1]
            if operand.const is not None and operand.const.size == 1:
                return literal(operand.const.reshape(-1)[0].item(), operand.view.dtype)
            w(f"v{node.index} = {loaded(tile.load(f'x{node.index}', views[1 + node.index]), operand.view.dtype)}")
            return f"v{node.index}"

        for number, (k, operand) in enumerate(present):
            if operand.const is None or operand.const.size != 1:
                pointers.add(f"x{number}", operand.view.dtype, In(k))
        pointers.add("y", region.out.dtype, Out(0))
        text = Printer([o.view.dtype for _, o in present], load, w, known=[o.const for _, o in present]).value(region.epilogue, region.out.dtype)
        if not tile.w.text() or text.replace(".", "").isdigit():
            text = f"tl.full(({params.along},), {text}, tl.float32)"
        tile.store("y", views[0], text)
        return pointers.emitted([Launch(w.text(), grid, params.warps, 1)])


def _across(region: Region) -> int | None:
    """The merged axis along which a large operand lies consecutively while the result does not; None where there is none."""
    present = [o.view for o in region.operands if o is not None]
    axes = Axes.merged([region.out, *present])
    last = len(axes.extents) - 1
    for view, strides in zip(present, axes.strides[1:], strict=True):
        if view.span * 4 < region.out.count or strides[last] in (0, 1) or axes.extents[last] < 4:
            continue
        found = [k for k in range(last) if strides[k] == 1 and axes.extents[k] >= 4]
        if found:
            return found[0]
    return None


def _tile(w: Writer, views: list[View], p: Params, across: int | None) -> tuple[Tile, tuple[int, int, int]]:
    extents = views[0].shape
    places = tuple(range(len(extents)))
    if across is None:
        count = math.prod(extents)
        w(f"m = tl.program_id(0) * {p.along} + tl.arange(0, {p.along})")
        return Tile(w, (Block("m", places, extents, p.along, count % p.along != 0),)), (ceil_div(count, p.along), 1, 1)
    last = len(extents) - 1
    outer = tuple(k for k in places if k not in (across, last))
    w(f"m = tl.program_id(0) * {p.across} + tl.arange(0, {p.across})", f"n = tl.program_id(1) * {p.along} + tl.arange(0, {p.along})")
    blocks = [
        Block("m", (across,), (extents[across],), p.across, extents[across] % p.across != 0),
        Block("n", (last,), (extents[last],), p.along, extents[last] % p.along != 0),
    ]
    count = math.prod(extents[k] for k in outer)
    if count > 1:
        w("b = tl.program_id(2)")
        blocks.append(Block("b", outer, tuple(extents[k] for k in outer), 0, False))
    return Tile(w, blocks), (ceil_div(extents[across], p.across), ceil_div(extents[last], p.along), count)


KERNEL = Pointwise()
