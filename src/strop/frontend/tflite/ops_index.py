"""TFLite operators that pick by index, sort or count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.tensorflow import picks
from strop.frontend.tensorflow.picks import indices
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.emission import NodeWriter
from strop.frontend.tflite.registry import tflite_op, writes
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops.cumulative import CumSum
from strop.ops.data import Concat, Slice
from strop.ops.index import Gather, GatherND, TopK
from strop.ops.reduce import ArgReduce
from strop.ops.select import NonMaxSuppression, Unique


@tflite_op("GATHER")
def gather(node: NodeContext) -> Value:
    return picks.picked(node, node.moved(0), indices(node, node.stored(1)), node.option("Axis", 0), node.option("BatchDims", 0))


@tflite_op("GATHER_ND")
def gather_nd(node: NodeContext) -> Value:
    return node.step(GatherND(0), node.moved(0), indices(node, node.stored(1)))


@tflite_op("EMBEDDING_LOOKUP")
def embedding_lookup(node: NodeContext) -> Value:
    """Rows of operand 1."""
    return node.step(Gather(0), node.real(1), indices(node, node.stored(0)))


@tflite_op("ARG_MAX", "ARG_MIN")
def arg_max(node: NodeContext) -> Value:
    """The first of equal elements; integers of a grid are in the order of the numbers they stand for."""
    x = node.stored(0)
    axis = node.axis(node.integer(1, "axis"), x.type.rank)
    return node.step(ArgReduce("max" if node.operator.code == "ARG_MAX" else "min", axis, False), x)


@tflite_op("TOPK_V2")
def topk_v2(node: NodeContext) -> Sequence[Value]:
    return picks.top_k(node, node.moved(0), node.integer(1, "k"))


@tflite_op("ONE_HOT")
def one_hot(node: NodeContext) -> Value:
    """Operands: indices, depth, on, off."""
    (depth,) = node.dims(1, "depth")
    return picks.one_hot(node, indices(node, node.stored(0)), depth, node.option("Axis", -1), node.moved(2), node.moved(3))


@tflite_op("WHERE")
def where(node: NodeContext) -> Value:
    return picks.nonzero(node, node.stored(0))


@tflite_op("UNIQUE")
def unique(node: NodeContext) -> Sequence[Value]:
    """The distinct elements of a list in the order in which they first occur, and which of them each element is."""
    x = node.stored(0)
    if x.type.rank != 1:
        raise node.malformed("the operand is no list", got=x.type)
    most = sh.bounds(x.shape[0])[1]
    if most >= 1 << 31:
        raise node.unsupported("how many elements it finds has no limit", got=x.type, hint="give the free dims ranges with --shape")
    op = Unique(node.symbol(f"{node.name}_count", most), ordered=False)
    rows, _, which, *_ = node.steps(op, node.reshape(x, (x.shape[0], 1)))
    return [node.reshape(rows, rows.shape[:1]), which]


@tflite_op("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
def non_max_suppression(node: NodeContext) -> Sequence[Value]:
    """Operands: boxes [n, 4], scores [n], most boxes, the overlap from which on and the score up to which there is none, of V5 the softness.

    Results: places of the boxes, best first, then zeros; of V5 their scores, then zeros; how many boxes there are. Source:
    tensorflow/lite/kernels/internal/reference/non_max_suppression.h
    """
    boxes, scores, most = node.floats(0), node.floats(1), node.integer(2, "max_output_size")
    overlap, least = (np.asarray(node.array(k, what), np.float32).reshape(1) for k, what in ((3, "iou_threshold"), (4, "score_threshold")))
    scored = node.operator.code == "NON_MAX_SUPPRESSION_V5"
    if scored and node.array(5, "soft_nms_sigma").any():
        raise node.unsupported("soft suppression is not supported", got=f"sigma {node.array(5, 'soft_nms_sigma')}", expected="0")
    (count,) = sh.static(scores.shape, node.where)
    if most < 0 or boxes.shape != (count, 4):
        raise node.malformed("operands do not fit", got=f"{boxes.type}, {scores.type}, most {most}")
    op = NonMaxSuppression(node.symbol(f"{node.name}_count", min(most, count)))
    given = [node.const(a) for a in (np.array([most], np.int64), np.nextafter(overlap, np.float32(-1)), least)]
    found, number = node.steps(op, node.reshape(boxes, (1, count, 4)), node.reshape(scores, (1, 1, count)), *given)
    places = node.reshape(node.step(Slice((2,), (3,), (1,), (1,)), found), found.shape[:1])
    place = node.const(np.arange(most))
    filled = node.step(Gather(0), node.step(Concat(0), places, node.const(np.zeros(most, np.int64))), place)
    if not scored:
        return [filled, number]
    there = node.apply("lt", place, number)
    return [filled, node.apply("where", there, node.step(Gather(0), scores, filled), node.like(0, scores)), number]


@tflite_op("CUMSUM")
def cumsum(node: NodeContext) -> Value:
    x = node.real(0)
    axis = node.axis(node.integer(1, "axis"), x.type.rank)
    return node.step(CumSum(axis, bool(node.option("Exclusive", False)), bool(node.option("Reverse", False))), x)


@tflite_op("MATRIX_DIAG")
def matrix_diag(node: NodeContext) -> Value:
    """The last axis as the diagonal of matrices."""
    x = node.moved(0)
    (size,) = sh.static(x.shape[-1:], node.where)
    eye = node.const(np.eye(size, dtype=np.bool_))
    return node.apply("where", eye, node.reshape(x, (*x.shape, 1)), node.like(0, x))


@tflite_op("MATRIX_SET_DIAG")
def matrix_set_diag(node: NodeContext) -> Value:
    """Matrices with another diagonal, the last axis of operand 1."""
    x, diagonal = node.moved(0), node.moved(1)
    if x.type.rank < 2 or diagonal.type.rank != x.type.rank - 1:
        raise node.malformed("the diagonals do not fit", got=f"{x.type}, {diagonal.type}")
    rows, columns = sh.static(x.shape[-2:], node.where)
    lead, size = diagonal.shape[:-1], diagonal.shape[-1]
    spread = node.reshape(diagonal, (*lead, 1, size) if columns < rows else (*lead, size, 1))
    return node.apply("where", node.const(np.eye(rows, columns, dtype=np.bool_)), spread, x)


# ---- written


@writes(Gather)
def write_gather(w: NodeWriter) -> None:
    """Indices that count from the end are made to count from the front where they are constant; computed ones are taken to do so."""
    op, at = w.op, w.value(1)
    assert isinstance(op, Gather)
    axis = op.axis % w.value(0).type.rank
    indices = w.operand(1)
    if at.const is not None:
        size = w.value(0).shape[axis]
        array = at.const
        if (array < 0).any():
            (size,) = w.static((size,))
            array = np.where(array < 0, array + size, array)
        indices = w.const(array.astype(np.int32), "indices")
    w.emit("GATHER", [w.operand(0), indices], None, "GatherOptions", Axis=axis)


@writes(GatherND)
def write_gather_nd(w: NodeWriter) -> None:
    assert isinstance(w.op, GatherND)
    if w.op.batch_dims:
        raise w.refused("batch axes are not supported", got=w.op.batch_dims, expected=0)
    at, indices = w.value(1).const, w.operand(1)
    if at is not None and (at < 0).any():
        indices = w.const(np.where(at < 0, at + np.asarray(w.static(w.value(0).shape[: at.shape[-1]])), at).astype(at.dtype), "indices")
    w.emit("GATHER_ND", [w.operand(0), indices], None, "GatherNdOptions")


@writes(ArgReduce)
def write_arg_reduce(w: NodeWriter) -> None:
    """The first of equal elements."""
    op, x = w.op, w.value(0)
    assert isinstance(op, ArgReduce)
    if op.last:
        raise w.refused("the last of equal elements is not supported")
    code = "ARG_MAX" if op.kind == "max" else "ARG_MIN"
    axis = w.const(np.asarray(op.axis % x.type.rank, np.int32), "axis")
    options = {"ArgMaxOptions" if op.kind == "max" else "ArgMinOptions": 3}
    (name,) = options
    shape = w.node.output.shape
    if not op.keepdims:
        w.emit(code, [w.operand(0), axis], None, name, OutputType=4)
        return
    kept = tuple(d for k, d in enumerate(shape) if k != op.axis % x.type.rank)
    w.reshaped(w.emit(code, [w.operand(0), axis], [w.temporary(kept)], name, OutputType=4), shape, w.result())


@writes(TopK)
def write_top_k(w: NodeWriter) -> None:
    """The largest along the last axis; indices are i32 there."""
    op, x = w.op, w.value(0)
    assert isinstance(op, TopK)
    if not op.largest or op.axis % x.type.rank != x.type.rank - 1 or not isinstance(op.k, int):
        raise w.refused("only the largest along the last axis, as many as are known, are supported", got=f"axis {op.axis}, k {op.k}, largest {op.largest}")
    narrow = w.temporary(w.node.outputs[1].shape, dt.i32)
    w.emit("TOPK_V2", [w.operand(0), w.const(np.asarray(op.k, np.int32), "k")], [w.result(0), narrow], "TopKV2Options")
    w.emit("CAST", [narrow], [w.result(1)], "CastOptions")


@writes(CumSum)
def write_cumsum(w: NodeWriter) -> None:
    op, x = w.op, w.value(0)
    assert isinstance(op, CumSum)
    axis = w.const(np.asarray(op.axis % x.type.rank, np.int32), "axis")
    w.emit("CUMSUM", [w.operand(0), axis], None, "CumsumOptions", Exclusive=op.exclusive, Reverse=op.reverse)
