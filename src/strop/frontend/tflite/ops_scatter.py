"""TFLite operators that put elements at computed places, and those that turn parts of sequences around."""

from __future__ import annotations

import numpy as np

from strop.frontend.tensorflow.picks import indices
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.registry import tflite_op
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops.base import highest, lowest
from strop.ops.data import Expand, Slice
from strop.ops.index import GatherElements
from strop.ops.scatter import ScatterND

#: Most elements of a table of places.
MAX_PLACES = 1 << 24
#: The greatest f32.
_GREATEST = float(np.finfo(np.float32).max)


@tflite_op("SCATTER_ND")
def scatter_nd(node: NodeContext) -> Value:
    """Operands: indices, updates, shape; what goes to one place is added."""
    updates = node.moved(1)
    blank = node.filled(node.dims(2, "shape"), 0, updates.dtype)
    return node.step(ScatterND("add"), blank, indices(node, node.stored(0)), updates)


@tflite_op("SPARSE_TO_DENSE")
def sparse_to_dense(node: NodeContext) -> Value:
    """Operands: places [n, rank], [n] or one number; shape; a value per place or for all; the value elsewhere."""
    at, values = indices(node, node.stored(0)), node.stored(2)
    blank = node.step(Expand(node.dims(1, "output_shape")), node.stored(3))
    rank = blank.type.rank
    places = at.shape if at.type.rank == 2 else (*(at.shape or (1,)), 1)
    if at.type.rank > 2 or places[-1] != rank:
        raise node.malformed("the places do not fit the shape", got=at.type, expected=f"[n, {rank}]")
    updates = node.step(Expand(places[:1]), values) if values.type.rank == 0 else values
    return node.step(ScatterND("none"), blank, node.reshape(at, places), updates)


@tflite_op("DYNAMIC_UPDATE_SLICE")
def dynamic_update_slice(node: NodeContext) -> Value:
    """Operands: x, what replaces a part of it, where this begins along each axis; beginnings are moved so that the part lies in x."""
    x, update, start = node.moved(0), node.moved(1), indices(node, node.stored(2))
    whole, part = (sh.static(v.shape, node.where) for v in (x, update))
    if len(whole) != len(part) or start.shape != (len(whole),) or any(p > w for p, w in zip(part, whole, strict=True)):
        raise node.malformed("operands do not fit", got=f"{x.type}, {update.type}, {start.type}")
    if whole == part:
        return update
    depth = 1 + max(k for k, (p, w) in enumerate(zip(part, whole, strict=True)) if p != w)
    if np.prod(part[:depth], dtype=np.int64) * depth > MAX_PLACES:
        raise node.unsupported("the part is too large", got=update.type, expected=f"at most {MAX_PLACES} places")
    kind = start.dtype.numpy
    if depth < len(whole):
        start = node.step(Slice((0,), (depth,), (0,), (1,)), start)
    room = node.const(np.array([w - p for p, w in zip(part[:depth], whole[:depth], strict=True)], kind))
    start = node.apply("min", node.apply("max", start, node.const(np.zeros(depth, kind))), room)
    grid = node.const(np.stack(np.meshgrid(*(np.arange(p, dtype=kind) for p in part[:depth]), indexing="ij"), -1))
    return node.step(ScatterND("none"), x, node.apply("add", grid, start), update)


# ---- segments


def _segments(node: NodeContext, at: Value, count: int, reduction: str, first: float | int) -> Value:
    """Rows of operand 0 combined by their segment's number; a negative number, or one that is too large, is no segment's."""
    x = node.real(0)
    rest = x.shape[at.type.rank :]
    if count < 0 or x.shape[: at.type.rank] != at.shape:
        raise node.malformed("the numbers of segments do not fit", got=f"{x.type}, {at.type}, {count} segments")
    outside = node.apply("or", node.apply("lt", at, node.like(0, at)), node.apply("ge", at, node.like(count, at)))
    places = node.reshape(node.apply("where", outside, node.like(count, at), at), (*at.shape, 1))
    found = node.step(ScatterND(reduction), node.filled((count + 1, *rest), first, x.dtype), places, x)
    return node.step(Slice((0,), (count,), (0,), (1,)), found)


@tflite_op("UNSORTED_SEGMENT_SUM", "UNSORTED_SEGMENT_PROD", "UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_MIN")
def unsorted_segments(node: NodeContext) -> Value:
    """Operands: x, numbers of segments, how many there are. A segment of no rows is the type's least number of MAX, the greatest of MIN."""
    kind = node.real(0).dtype
    least, greatest = (-_GREATEST, _GREATEST) if kind.is_float else (lowest(kind), highest(kind))
    rules: dict[str, tuple[str, float | int]] = {"SUM": ("add", 0), "PROD": ("mul", 1), "MAX": ("max", least), "MIN": ("min", greatest)}
    return _segments(node, indices(node, node.stored(1)), node.integer(2, "num_segments"), *rules[node.operator.code.rpartition("_")[2]])


@tflite_op("SEGMENT_SUM")
def segment_sum(node: NodeContext) -> Value:
    """Operands: x, ascending numbers of segments, which say how many there are."""
    numbers = node.array(1, "segment_ids")
    if numbers.ndim != 1 or (np.diff(numbers) < 0).any() or (numbers < 0).any():
        raise node.malformed("the numbers of segments do not ascend from 0", got=numbers.shape)
    return _segments(node, indices(node, node.stored(1)), int(numbers[-1]) + 1 if numbers.size else 0, "add", 0)


# ---- sequences


@tflite_op("REVERSE_SEQUENCE")
def reverse_sequence(node: NodeContext) -> Value:
    """The first lengths[b] steps of sample b in reverse order, the rest as it is."""
    x, lengths = node.moved(0), indices(node, node.stored(1))
    rank = x.type.rank
    along, batch = node.axis(node.option("SeqDim"), rank), node.axis(node.option("BatchDim", 0), rank)
    if along == batch or lengths.shape != (x.shape[batch],):
        raise node.malformed("lengths and axes do not fit", got=f"{lengths.type}, axes {along} and {batch} of {x.type}")
    (steps,) = sh.static((x.shape[along],), node.where)

    def column(axis: int) -> tuple[sh.Dim, ...]:
        return tuple(x.shape[axis] if k == axis else 1 for k in range(rank))

    step = node.const(np.arange(steps, dtype=lengths.dtype.numpy).reshape([steps if k == along else 1 for k in range(rank)]))
    length = node.reshape(lengths, column(batch))
    last = node.apply("sub", length, node.like(1, length))
    at = node.apply("where", node.apply("lt", step, length), node.apply("sub", last, step), step)
    return node.step(GatherElements(along), x, node.step(Expand(x.shape), at))
