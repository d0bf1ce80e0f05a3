"""ONNX ops that pick, place or order elements by index."""

from __future__ import annotations

import numpy as np

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Operand
from strop.frontend.onnx.registry import onnx_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ops.data import Expand, Reshape
from strop.ops.elementwise import Cast, make
from strop.ops.index import Gather, GatherElements, GatherND, OneHot, TopK
from strop.ops.scatter import ScatterElements, ScatterND


@onnx_op("Gather", since=1)
def gather(node: NodeContext) -> Operand:
    return node.step(Gather(node.axis(default=0)), node.operand(0), node.operand(1))


@onnx_op("GatherElements", since=11)
def gather_elements(node: NodeContext) -> Operand:
    return node.step(GatherElements(node.axis(default=0)), node.operand(0), node.operand(1))


@onnx_op("GatherND", since=11)
def gather_nd(node: NodeContext) -> Operand:
    """batch_dims comes with opset 12."""
    return node.step(GatherND(node.integer("batch_dims", 0)), node.operand(0), node.operand(1))


@onnx_op("Scatter", since=9, until=10)
@onnx_op("ScatterElements", since=11)
def scatter_elements(node: NodeContext) -> Operand:
    """add and mul come with opset 16, max and min with 18."""
    op = ScatterElements(node.axis(default=0), node.text("reduction", "none", _reductions(node)))
    return node.step(op, *node.required())


@onnx_op("ScatterND", since=11)
def scatter_nd(node: NodeContext) -> Operand:
    return node.step(ScatterND(node.text("reduction", "none", _reductions(node))), *node.required())


def _reductions(node: NodeContext) -> tuple[str, ...]:
    if node.opset < 16:
        return ("none",)
    return ("none", "add", "mul") if node.opset < 18 else ("none", "add", "mul", "max", "min")


@onnx_op("OneHot", since=9)
def one_hot(node: NodeContext) -> Operand:
    """Indices of any numeric type; the depth is known."""
    indices = node.operand(0)
    if indices.type.dtype not in (dt.i32, dt.i64):
        indices = node.step(Cast(dt.i64), indices)
    depth = int(node.scalar(1, "depth"))
    axis = node.axis(default=-1, rank=indices.type.rank + 1)
    return node.step(OneHot(depth, axis), indices, node.operand(2))


@onnx_op("TopK", since=1, until=9)
def top_k_1(node: NodeContext) -> tuple[Operand, ...]:
    return node.steps(TopK(node.axis(default=-1), node.integer("k"), True), node.operand(0))


@onnx_op("TopK", since=10)
def top_k_10(node: NodeContext) -> tuple[Operand, ...]:
    """Results are in order whether the model asks for it or not."""
    node.ignore("sorted")
    k = int(node.scalar(1, "K"))
    return node.steps(TopK(node.axis(default=-1), k, node.flag("largest", True)), node.operand(0))


@onnx_op("ReverseSequence", since=10)
def reverse_sequence(node: NodeContext) -> Operand:
    """The first sequence_lens[b] steps of sample b in reverse order, the rest as it is."""
    x, lengths = node.operand(0), node.operand(1)
    time, batch = node.integer("time_axis", 0), node.integer("batch_axis", 1)
    if {time, batch} != {0, 1} or x.type.rank < 2:
        raise node.malformed(
            "axes do not fit", got=f"time_axis {time}, batch_axis {batch}", expected="0 and 1"
        )
    (steps,) = sh.static(x.type.shape[time : time + 1], node.where)
    node.check_size((steps,), 8)
    step = node.const(np.arange(steps).reshape((-1, 1) if time == 0 else (1, -1)))
    samples = x.type.shape[batch]
    length = node.step(Reshape((1, samples) if time == 0 else (samples, 1)), lengths)
    inside = node.step(make("lt"), step, length)
    last = node.step(make("sub"), length, node.const(np.asarray(1)))
    index = node.step(make("where"), inside, node.step(make("sub"), last, step), step)
    column = node.step(Reshape((*index.type.shape, *(1,) * (x.type.rank - 2))), index)
    return node.step(GatherElements(time), x, node.step(Expand(x.type.shape), column))


@onnx_op("Compress", since=9)
def compress(node: NodeContext) -> Operand:
    """Slices at which a known condition holds; without an axis, elements of the flattened operand."""
    x, condition = node.operand(0), node.constant(1, "condition")
    axis = node.axis() if node.has("axis") else 0
    if not node.has("axis"):
        x = node.step(Reshape((sh.volume(x.type.shape),)), x)
    size = x.type.shape[axis] if x.type.rank else 0
    if (
        condition.ndim != 1
        or condition.dtype != np.bool_
        or (isinstance(size, int) and condition.size > size)
    ):
        raise node.malformed(
            "condition does not fit",
            got=f"{condition.dtype}{list(condition.shape)} for axis of {size}",
        )
    return node.step(Gather(axis), x, node.const(np.flatnonzero(condition).astype(np.int64)))
