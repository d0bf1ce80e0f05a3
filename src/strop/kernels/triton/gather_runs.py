"""Ops that find each element of the result at a computed place: gather, pad, concat and the like, any dtype and layout.

The loop program of the op says where. Its index expressions have the shape of what they depend on: those of a row are computed, and the indices that
they load are loaded, once for a whole run of elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from strop.errors import StropError
from strop.ir.expr import Axis, Call, Cast, Expr, Load, walk
from strop.ir.loops import Stage
from strop.kernels.base import In, Out, Region
from strop.kernels.triton.emit import (
    Block,
    GpuEmitted,
    Guarded,
    Tile,
    Writer,
    loaded,
    masked,
    times,
    wide_of,
)
from strop.kernels.triton.loops import program_of
from strop.kernels.triton.parts import GpuKernel, Pointers, finish
from strop.kernels.triton.places import Params, Places, launch, moved_bytes
from strop.target.base import Target


class GatherRuns(GpuKernel[Params]):
    """See the module's text."""

    name = "gather_runs"

    def takes(self, region: Region, target: Target) -> str | None:
        stage = _stage(region)
        if isinstance(stage, str):
            return stage
        if region.out.count == 0:
            return "there is nothing to find"
        try:
            self.emit(region, _places(region, stage).space(region.out)[0], target)
        except StropError as error:
            return f"{error.what}: {error.got}"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        return _places(region, _the(region)).space(region.out)

    def cost(self, region: Region, params: Params, target: Target) -> float:
        stage = _the(region)
        work = sum(isinstance(n, (Call, Cast)) for n in walk(stage.body))
        return _places(region, stage).cost(region.out, params, moved_bytes(region), 2.0 * work, target)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        w, stage, pointers = Writer(), _the(region), Pointers.none()
        for k, operand in enumerate(region.operands):
            if operand is not None:
                pointers.add(f"x{k}" if k < region.anchors else f"e{k - region.anchors}", operand.view.dtype, In(k))
        pointers.add("y", region.out.dtype, Out(0))
        tile, programs = _places(region, stage).begin(w, region.out, params)
        owners: dict[str, Block] = {}
        for number, loop in enumerate(stage.axes):
            block = next((b for b in tile.blocks if number in b.axes), None)
            if block is None:
                w(f"{loop.name} = tl.full((), 0, tl.int32)")
                continue
            owners[loop.name] = block
            w(f"{loop.name} = {tile.shaped(block.axis(w, block.axes.index(number)), block)}")
        for block in tile.blocks:
            tile.mask([block])
        tile.mask(tile.blocks)
        w(f"element = {_element(w, region, stage, tile, owners)}")
        finish(region, tile, "element", stage.dtype)
        return pointers.emitted([launch(w, programs, params)])


def _element(w: Writer, region: Region, stage: Stage, tile: Tile, owners: dict[str, Block]) -> str:
    """Text of the result's element."""
    numbers, other = count(), "0"

    def load(node: Expr, index: list[str]) -> str:
        assert isinstance(node, Load) and isinstance(node.source, int)
        view = region.operand(node.source).view
        names = [*_axes((node, *(condition for _, condition in printer.guards)))]
        along = [b for b in tile.blocks if any(owners.get(name) is b for name in names)]
        wide = wide_of(view)
        terms = [f"({times(f'({i}).to(tl.int64)' if wide else f'({i})', s)})" for i, s in zip(index, view.strides, strict=True) if s and i != "0"]
        shape = [tile.shaped(f"{b.name} * 0", b) for b in along]  # conditions may vary along more than the place does
        inside = tile.mask(along)
        guards = [*([inside] if inside else []), *(text for text, _ in printer.guards)]
        name, where = f"found{next(numbers)}", " + ".join([f"x{node.source}", *terms, *shape])
        w(f"{name} = {loaded(f'tl.load({where}{masked(guards, other)})', view.dtype)}")
        return name

    types = [o.view.dtype for o in region.operands if o is not None]
    printer = Guarded(types, load, w)
    return printer.value(stage.body, stage.dtype)


def _axes(exprs: tuple[Expr, ...]) -> Iterator[str]:
    """Names of the axes that expressions vary along."""
    return (n.name for e in exprs for n in walk(e) if isinstance(n, Axis))


def _stage(region: Region) -> Stage | str:
    """The only stage of the op's program, or why there is no such."""
    if region.op is None or region.op.computed:
        return "it has no anchor op, or one that finds sizes"
    if any(o is None for o in region.operands):
        return "an operand is left out"
    program = program_of(region)
    if program is None or len(program.parts) != 1 or len(region.outs) != 1:
        return "its elements are not found one by one"
    (stage,) = program.parts
    if not isinstance(stage, Stage) or stage.combine is not None or stage.name != "out0":
        return "its elements are not found one by one"
    return stage


def _the(region: Region) -> Stage:
    stage = _stage(region)
    assert isinstance(stage, Stage)
    return stage


def _places(region: Region, stage: Stage) -> Places:
    names = [loop.name for loop in stage.axes]
    return Places.of(region.out, {names.index(name) for name in _apart(stage.body)})


def _apart(expr: Expr) -> set[str]:
    """Axes that do more than count along an axis of an operand."""
    if isinstance(expr, Load):
        return set(_axes(tuple(i for i in expr.index if not isinstance(i, Axis))))
    if isinstance(expr, (Call, Cast)):
        return {name for inner in (expr.args if isinstance(expr, Call) else (expr.arg,)) for name in _apart(inner)}
    return {expr.name} if isinstance(expr, Axis) else set()


KERNEL = GatherRuns()
