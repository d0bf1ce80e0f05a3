"""Picking by index, sorting and counting as TensorFlow means it."""

from __future__ import annotations

from collections.abc import Sequence

from strop.frontend.tensorflow.node import TensorFlowNode
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.index import Gather, GatherND, TopK
from strop.ops.select import NonZero
from strop.ops.sizes import Iota


def indices(node: TensorFlowNode, value: Value) -> Value:
    """Indices as i32 or i64."""
    return value if value.dtype in (dt.i32, dt.i64) else node.cast(value, dt.i32)


def picked(node: TensorFlowNode, x: Value, at: Value, axis: int, batch: int) -> Value:
    """Slices along an axis; with batch axes indices are looked up in their own batch."""
    axis = node.axis(axis, x.type.rank)
    batch = batch + at.type.rank if batch < 0 else batch
    if batch == 0:
        return node.step(Gather(axis), x, at)
    if not batch <= at.type.rank or batch != axis:
        raise node.unsupported("batch axes that are not all axes before the one that is picked from are not supported", got=f"{batch}, axis {axis}")
    return node.step(GatherND(batch), x, node.reshape(at, (*at.shape, 1)))


def top_k(node: TensorFlowNode, x: Value, k: int) -> Sequence[Value]:
    """The largest k elements along the last axis, and their places."""
    if x.type.rank == 0 or k < 0:
        raise node.malformed("x needs an axis, k is not negative", got=f"{x.type}, {k}")
    return node.steps(TopK(x.type.rank - 1, k), x)


def one_hot(node: TensorFlowNode, at: Value, depth: Dim, axis: int, on: Value, off: Value) -> Value:
    """``on`` where an index says so, else ``off``; indices out of range match nothing. The new axis -1 is the last."""
    axis = at.type.rank if axis == -1 else node.axis(axis, at.type.rank + 1)
    places = node.reshape(node.step(Iota(depth, at.dtype)), (depth, *(1,) * (at.type.rank - axis)))
    found = node.apply("eq", node.reshape(at, (*at.shape[:axis], 1, *at.shape[axis:])), places)
    return node.apply("where", found, node.reshape(on, ()), node.reshape(off, ()))


def nonzero(node: TensorFlowNode, x: Value) -> Value:
    """Coordinates of elements that are not zero, a row each."""
    if x.type.rank == 0:
        raise node.unsupported("a scalar is not supported", got=x.type)
    most = sh.bounds(sh.volume(x.shape))[1]
    if most >= 1 << 31:
        raise node.unsupported("how many elements it finds has no limit", got=x.type, hint="give the free dims ranges with --shape")
    found = node.steps(NonZero(node.symbol(f"{node.name}_count", most)), x)[0]
    return node.turned(found, (1, 0))
