"""Cuts, joins and views as TensorFlow means them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strop.frontend.tensorflow.node import TensorFlowNode
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.data import Concat, Pad, Slice, Split, Tile

#: Behind the end of every axis.
END = 1 << 40


def resolved(node: TensorFlowNode, shape: Sequence[Dim], wanted: Sequence[Dim]) -> tuple[Dim, ...]:
    """A shape whose only -1 stands for what is left."""
    if list(wanted).count(-1) > 1 or any(isinstance(d, int) and d < -1 for d in wanted):
        raise node.malformed("a shape is negative", got=list(wanted))
    rest = sh.volume(tuple(d for d in wanted if d != -1))
    return tuple(sh.floordiv(sh.volume(tuple(shape)), rest) if d == -1 and rest != 0 else 0 if d == -1 else d for d in wanted)


def tiled(node: TensorFlowNode, x: Value, repeats: Sequence[Dim]) -> Value:
    """x so many times along every axis."""
    if len(repeats) != x.type.rank or any(isinstance(r, int) and r < 0 for r in repeats):
        raise node.malformed("multiples do not fit", got=repeats, expected=f"{x.type.rank} numbers")
    return node.step(Tile(tuple(repeats)), x)


def squeezed(node: TensorFlowNode, x: Value, axes: Sequence[int]) -> Value:
    """x without axes of size 1; all of them where none is named."""
    gone = {node.axis(a, x.type.rank) for a in axes} or {k for k, d in enumerate(x.shape) if d == 1}
    if any(x.shape[a] != 1 for a in gone):
        raise node.malformed("an axis that goes has another size than 1", got=x.type, expected=sorted(gone))
    return node.reshape(x, tuple(d for k, d in enumerate(x.shape) if k not in gone))


def unsqueezed(node: TensorFlowNode, x: Value, axis: int) -> Value:
    """x with a new axis of size 1."""
    axis = node.axis(axis, x.type.rank + 1)
    return node.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def stacked(node: TensorFlowNode, parts: Sequence[Value], axis: int) -> Value:
    """Values side by side on a new axis."""
    if not parts or len({p.type for p in parts}) > 1:
        raise node.malformed("the operands differ in type", got=[str(p.type) for p in parts])
    axis = node.axis(axis, parts[0].type.rank + 1)
    parts = [unsqueezed(node, p, axis) for p in parts]
    return node.step(Concat(axis), *parts) if len(parts) > 1 else parts[0]


def parted(node: TensorFlowNode, x: Value, axis: int, sizes: Sequence[Dim]) -> Sequence[Value]:
    """x cut into parts of given sizes."""
    return node.steps(Split(axis, tuple(sizes)), x) if len(sizes) > 1 else [x]


def evenly(node: TensorFlowNode, size: Dim, count: int) -> list[Dim]:
    """Sizes of equal parts of an axis."""
    if count < 1 or sh.mul(sh.floordiv(size, count), count) != size:
        raise node.malformed("the axis cannot be cut into so many parts", got=size, expected=f"a multiple of {count}")
    return [sh.floordiv(size, count)] * count


def unstacked(node: TensorFlowNode, x: Value, axis: int, count: int) -> list[Value]:
    """The slices along an axis of ``count`` elements, without it."""
    if x.shape[axis] != count:
        raise node.malformed("the axis has another size than there are results", got=x.type, expected=count)
    return [node.reshape(p, (*x.shape[:axis], *x.shape[axis + 1 :])) for p in parted(node, x, axis, [1] * count)]


def cut(node: TensorFlowNode, x: Value, cuts: Sequence[tuple[int, Dim, Dim, int]]) -> Value:
    """(axis, start, stop, step) of axes of which not everything is kept."""
    real = [c for c in cuts if not (c[1] == 0 and c[3] == 1 and c[2] in (END, x.shape[c[0]]))]
    if not real:
        return x
    axes, starts, stops, steps = zip(*real, strict=True)
    return node.step(Slice.of(x.shape, starts, stops, axes, steps), x)


def sliced(node: TensorFlowNode, x: Value, begin: Sequence[Dim], size: Sequence[Dim]) -> Value:
    """From begin, as many as size; -1 goes to the end."""
    if not len(begin) == len(size) == x.type.rank:
        raise node.malformed("begin and size do not fit", got=f"{begin}, {size}", expected=f"{x.type.rank} numbers")
    if any(isinstance(s, int) and s < -1 for s in size) or any(isinstance(b, int) and b < 0 for b in begin):
        raise node.malformed("begin or size is negative", got=f"{begin}, {size}")
    stops = [END if s == -1 else sh.add(b, s) for b, s in zip(begin, size, strict=True)]
    for d, stop in zip(x.shape, stops, strict=True):
        if isinstance(d, int) and isinstance(stop, int) and d < stop != END:
            raise node.malformed("the slice leaves the tensor", got=stops, expected=x.type)
    return cut(node, x, [(k, b, e, 1) for k, (b, e) in enumerate(zip(begin, stops, strict=True))])


def index_of(begin: Sequence[Any], end: Sequence[Any], step: Sequence[Any], masks: dict[str, int], offset: bool = False) -> tuple[Any, ...]:
    """A strided slice as numpy writes it.

    Args:
        begin: first indices.
        end: indices behind the last, or with ``offset`` how many after the first.
        step: strides.
        masks: bits by position, of Begin, End, Ellipsis, NewAxis and ShrinkAxis.
        offset: see ``end``.
    """
    found: list[Any] = []
    for k, (b, e, s) in enumerate(zip(begin, end, step, strict=True)):
        bit = 1 << k
        if masks["Ellipsis"] & bit:
            found.append(Ellipsis)
        elif masks["NewAxis"] & bit:
            found.append(None)
        elif masks["ShrinkAxis"] & bit:
            found.append(b)
        else:
            last = b + e if offset else e
            found.append(slice(None if masks["Begin"] & bit else b, None if masks["End"] & bit else last, s))
    return tuple(found)


def indexed(node: TensorFlowNode, x: Value, index: Sequence[Any]) -> Value:
    """x at an index as numpy writes it: ints and Dims, slices, None and one Ellipsis."""
    taken = sum(1 for i in index if i is not None and i is not Ellipsis)
    if taken > x.type.rank or sum(1 for i in index if i is Ellipsis) > 1:
        raise node.malformed("there are more indices than axes", got=len(index), expected=x.type.rank)
    cuts: list[tuple[int, Dim, Dim, int]] = []
    layout: list[int | None] = []  # axes of the result: one of x, or a new one
    axis = 0
    for entry in index:
        if entry is Ellipsis:
            layout += range(axis, axis + x.type.rank - taken)
            axis += x.type.rank - taken
        elif entry is None:
            layout.append(None)
        elif isinstance(entry, slice):
            stride = 1 if entry.step is None else int(entry.step)
            if stride == 0:
                raise node.malformed("a stride is 0")
            first = (0 if stride > 0 else END) if entry.start is None else entry.start
            last = (END if stride > 0 else -END) if entry.stop is None else entry.stop
            cuts.append((axis, first, last, stride))
            layout.append(axis)
            axis += 1
        else:
            size = x.shape[axis]
            if isinstance(size, int) and not (isinstance(entry, int) and -size <= entry < size):
                raise node.malformed("an index is out of range", got=entry, expected=f"below {size}")
            cuts.append((axis, entry, END if entry == -1 else sh.add(entry, 1), 1))
            axis += 1
    layout += range(axis, x.type.rank)
    found = cut(node, x, cuts)
    return node.reshape(found, tuple(1 if a is None else found.shape[a] for a in layout))


def flipped(node: TensorFlowNode, x: Value, axes: Sequence[int]) -> Value:
    """x with axes turned around."""
    return cut(node, x, [(a, END, -END, -1) for a in axes])


def mirrored(node: TensorFlowNode, x: Value, pads: Sequence[int], symmetric: bool) -> Value:
    """Padding, before all axes, then after, with what lies next to the edge; symmetric repeats the edge itself."""
    rank = x.type.rank
    if not symmetric:
        return node.step(Pad(tuple(pads), "reflect"), x)
    for axis in range(rank):
        (size,) = sh.static(x.shape[axis : axis + 1], node.where)
        before, after = pads[axis], pads[rank + axis]
        if before > size or after > size:
            raise node.malformed("paddings are larger than the axis", got=(before, after), expected=size)
        parts = [cut(node, x, [(axis, before - 1, -END, -1)])] if before else []
        parts.append(x)
        parts += [cut(node, x, [(axis, END, -after - 1 if after < size else -END, -1)])] if after else []
        x = node.step(Concat(axis), *parts) if len(parts) > 1 else x
    return x


def paddings(node: TensorFlowNode, index: int, rank: int) -> tuple[int, ...]:
    """A known operand [rank, 2]: before every axis, then after every axis."""
    found = node.array(index, "paddings")
    if found.shape != (rank, 2) or found.dtype.kind not in "iu" or (found.size and (found.min() < 0 or found.max() > 1 << 30)):
        raise node.malformed("paddings do not fit", got=f"{found.dtype}{list(found.shape)}", expected=f"[{rank}, 2] integers from 0 on")
    return tuple(int(v) for v in found.T.reshape(-1))
