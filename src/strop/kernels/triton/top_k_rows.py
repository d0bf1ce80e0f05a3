"""The k best elements of every row, and the place of the best one: programs find the best of a stretch each, then one per row those of all stretches.

An element and its place are one whole number that orders as they do: the element's bits, which count as i32 once those of negative floats are turned
round, above the place counted from the end. NaN is above all numbers, as numpy sorts; of equal elements the first is better.
"""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.kernels.base import In, Out, Region, View
from strop.kernels.triton.emit import (
    Block,
    GpuEmitted,
    Launch,
    Tile,
    Writer,
    ceil_div,
    power_of_two,
    stored,
    wide_of,
)
from strop.kernels.triton.parts import LAUNCH, GpuKernel, Pointers, finish, standard, traffic
from strop.ops.base import axis_of
from strop.ops.index import TopK
from strop.ops.reduce import ArgReduce
from strop.target.base import Target

#: Most elements that are picked: each takes a pass over the registers.
MOST = 128
#: Below every element's number.
_NONE = "-9223372036854775808"
_PLACES = 0xFFFFFFFF


@dataclass(frozen=True)
class Params:
    """Elements of a stretch, a power of two, and warps."""

    stretch: int
    warps: int


class TopKRows(GpuKernel[Params]):
    """See the module's text."""

    name = "top_k_rows"

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, (TopK, ArgReduce)):
            return "it picks no elements"
        x = region.operand(0).view
        if x.dtype.name not in ("f32", "f16", "bf16", "i32", "i16", "u16", "i8", "u8"):
            return "its elements are not whole numbers of 32 bits in order"
        if region.out.count == 0 or x.count >= 1 << 31:
            return "it has no or too many elements"
        if isinstance(region.op, TopK) and (region.epilogue != Input(0) or len(region.outs) != 2):
            return "it has not one view per result"
        return None if _picked(region) <= MOST else "it picks too many elements"

    def space(self, region: Region, target: Target) -> list[Params]:
        _, length, _ = _sizes(region)
        whole = power_of_two(length)
        found = [Params(s, w) for s in (32, 128, 512, 1024, 2048, 4096, 8192) for w in (1, 2, 4, 8) if s <= whole and 2 <= s // (32 * w) <= 32]
        found = [p for p in found if _merged(length, p, _picked(region)) <= 8192]
        return found or [Params(whole if whole <= 8192 else 8192, 1 if whole <= 64 else 8)]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        _, length, rows = _sizes(region)
        count = ceil_div(length, params.stretch)
        k, seconds = _picked(region), traffic(region, target)
        for programs, size, warps in ((rows * count, params.stretch, params.warps), (rows * (count > 1), _merged(length, params, k), 4)):
            waves = ceil_div(programs, target.cores * max(1, min(16, 48 // warps)))
            seconds += waves * (1500 + k * (150 + 4 * size / (32 * warps))) / (target.ghz * 1e9)
        return seconds + LAUNCH * (count > 1)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        _, length, rows = _sizes(region)
        count, k = ceil_div(length, params.stretch), _picked(region)
        pointers = standard(region, [("x", 0)]) if isinstance(region.op, ArgReduce) else _both(region)
        if count == 1:
            w = Writer()
            _stretch(w, region, params)
            _pick(w, region)
            return pointers.emitted([Launch(w.text(), (rows, 1, 1), params.warps, 1)])
        first, second = Writer(), Writer()
        _stretch(first, region, params)
        kept = "(work).to(tl.pointer_type(tl.int64))"
        first(f"kept = {kept} + (m * {count} + tl.program_id(1)) * {k}")
        with first.block(f"for j in range({k})"):
            first("best = tl.max(keys, 0)", "tl.store(kept + j, best)", f"keys = tl.where(keys == best, {_NONE}, keys)")
        size = power_of_two(count * k)
        second("m = tl.program_id(0)", f"c = tl.arange(0, {size})", f"kept = {kept} + m * {count * k}")
        second(f"keys = tl.load(kept + c, mask=c < {count * k}, other={_NONE})")
        _pick(second, region)
        warps = max(1, min(8, size // 128))
        launches = [Launch(first.text(), (rows, count, 1), params.warps, 1), Launch(second.text(), (rows, 1, 1), warps, 1)]
        return pointers.emitted(launches, 8 * rows * count * k)


def _picked(region: Region) -> int:
    """Elements that are picked of a row."""
    return int(str(region.op.k)) if isinstance(region.op, TopK) else 1


def _sizes(region: Region) -> tuple[int, int, int]:
    """(axis, elements of a row, rows)."""
    assert isinstance(region.op, (TopK, ArgReduce))
    x = region.operand(0).view
    axis = axis_of(region.op, region.op.axis, len(x.shape))
    return axis, x.shape[axis], x.count // max(1, x.shape[axis])


def _merged(length: int, p: Params, k: int) -> int:
    """Numbers that the second launch looks at per row."""
    return power_of_two(ceil_div(length, p.stretch) * k)


def _both(region: Region) -> Pointers:
    found = Pointers.none()
    found.add("x", region.operand(0).view.dtype, In(0))
    for k, view in enumerate(region.outs):
        found.add(f"y{k}", view.dtype, Out(k))
    return found


def _rows(region: Region) -> Block:
    """The rows ``m``: all axes of the operand but that of the elements."""
    x, (axis, _, _) = region.operand(0).view, _sizes(region)
    outer = tuple(a for a in range(len(x.shape)) if a != axis)
    return Block("m", outer, tuple(x.shape[a] for a in outer), 0, False)


def _start(w: Writer, rows: Block, view: View) -> str:
    """Text of the offset at which the row ``m`` of a view begins; empty for 0."""
    return rows.offset(w, [view.strides[a] for a in rows.axes], wide_of(view))


def _row(w: Writer, region: Region) -> str:
    """Text of where the row ``m`` of the operand begins."""
    text = _start(w, _rows(region), region.operand(0).view)
    return f"x + {text}" if text else "x"


def _stretch(w: Writer, region: Region, p: Params) -> None:
    """Writes the numbers ``keys`` of a stretch of the row ``m``."""
    axis, length, _ = _sizes(region)
    x = region.operand(0).view
    w("m = tl.program_id(0)", f"c = tl.program_id(1) * {p.stretch} + tl.arange(0, {p.stretch})")
    w(f"v = tl.load({_row(w, region)} + c{'.to(tl.int64)' if wide_of(x) else ''} * {x.strides[axis]}, mask=c < {length}, other=0)")
    if x.dtype.is_float:
        w("v = v.to(tl.float32)", "bits = tl.where(v == 0, 0.0, v).to(tl.int32, bitcast=True)", "order = bits ^ ((bits >> 31) & 0x7fffffff)")
        # where the smallest are picked, sorting puts NaN last and numpy's argmin takes it first
        w("order = tl.where(v != v, 0x7fffffff, order)")
    else:
        w("order = v.to(tl.int32)")
    if not _largest(region):
        w("order = ~order")
        if isinstance(region.op, ArgReduce) and x.dtype.is_float:
            w("order = tl.where(v != v, 0x7fffffff, order)")
    place = "c" if isinstance(region.op, ArgReduce) and region.op.last else f"({_PLACES} - c.to(tl.int64))"
    w(f"keys = order.to(tl.int64) * {_PLACES + 1} + {place}")
    if length % p.stretch:
        w(f"keys = tl.where(c < {length}, keys, {_NONE})")


def _pick(w: Writer, region: Region) -> None:
    """Writes the results of the row ``m`` by its numbers ``keys``."""
    axis, _, _ = _sizes(region)
    x = region.operand(0).view
    last = isinstance(region.op, ArgReduce) and region.op.last
    place = f"(best & {_PLACES})" if last else f"({_PLACES} - (best & {_PLACES}))"
    if isinstance(region.op, ArgReduce):
        w("best = tl.max(keys, 0)", f"at = {place}")
        block = Block("m", tuple(range(len(region.out.shape))), region.out.shape, 0, False)
        finish(region, Tile(w, (block,)), "at", dt.i64)
        return
    row = _row(w, region)
    rows = _rows(region)
    starts = [_start(w, rows, view) or "0" for view in region.outs]
    with w.block(f"for j in range({_picked(region)})"):
        w("best = tl.max(keys, 0)", f"at = {place}", f"value = tl.load({row} + at * {x.strides[axis]})")
        for number, (view, start, value) in enumerate(zip(region.outs, starts, ("value", stored("at", region.outs[1].dtype)), strict=True)):
            w(f"tl.store(y{number} + {start} + j * {view.strides[axis]}, {value})")
        w(f"keys = tl.where(keys == best, {_NONE}, keys)")


def _largest(region: Region) -> bool:
    assert isinstance(region.op, (TopK, ArgReduce))
    return region.op.largest if isinstance(region.op, TopK) else region.op.kind == "max"


KERNEL = TopKRows()
