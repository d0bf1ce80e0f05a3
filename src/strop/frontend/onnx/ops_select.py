"""ONNX ops whose results have a size that the data decides: NonZero, Compress, Unique, NonMaxSuppression."""

from __future__ import annotations

import numpy as np

from strop.frontend.onnx import sizes
from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Operand
from strop.frontend.onnx.registry import onnx_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.op import Array
from strop.ir.shape import Dim, Sym
from strop.ops.data import Reshape, Transpose
from strop.ops.elementwise import Cast
from strop.ops.index import Gather
from strop.ops.select import NonMaxSuppression, NonZero, Unique

#: Most scores of known boxes that are looked at while a model is read.
MAX_SCORES = 1 << 18
#: Stands for the size that an op over known operands finds at once.
_ANY = Sym("count", 0, 1)


def _count(node: NodeContext, most: Dim) -> Sym:
    """The symbol of what the node's op finds, at most ``most``."""
    return sizes.found(node, "count", most, *(name for name in node.results if name))


@onnx_op("NonZero", since=9)
def non_zero(node: NodeContext) -> Operand:
    """A scalar has one place, at no index."""
    x = node.operand(0)
    rank = x.type.rank
    if isinstance(x, Known):
        node.check_size((max(rank, 1), x.array.size), 8)
        return node.const(NonZero(_ANY).reference(np.atleast_1d(x.array))[0][:rank])
    if rank == 0:
        raise node.unsupported("whether a scalar is zero decides over the shape of nothing", got=x.type, expected="rank 1 or more")
    return node.steps(NonZero(_count(node, sh.volume(x.type.shape))), x)[0]


@onnx_op("Compress", since=9)
def compress(node: NodeContext) -> Operand:
    """Slices at which the condition holds; without an axis, elements of the flattened operand."""
    x, condition = node.operand(0), node.operand(1)
    axis = node.axis() if node.has("axis") else 0
    if not node.has("axis"):
        x = node.step(Reshape((sh.volume(x.type.shape),)), x)
    size = x.type.shape[axis] if x.type.rank else 0
    type = condition.type
    if type.rank != 1 or type.dtype != dt.boolean or (sh.compare(size, type.shape[0]) == -1 and size != type.shape[0]):
        raise node.malformed("condition does not fit", got=f"{type} for axis of {size}")
    if isinstance(condition, Known):
        return node.step(Gather(axis), x, node.const(np.flatnonzero(condition.array).astype(np.int64)))
    count = _count(node, type.shape[0])
    places = node.steps(NonZero(count), condition)[0]
    return node.step(Gather(axis), x, node.step(Reshape((count,)), places))


@onnx_op("Unique", since=11)
def unique(node: NodeContext) -> tuple[Operand, ...]:
    """Distinct elements, or slices along an axis; in the order of first occurrence without ``sorted``."""
    x, ordered = node.operand(0), node.flag("sorted", True)
    axis = node.axis() if node.has("axis") else None
    shape = x.type.shape
    if axis is None:
        matrix = node.step(Reshape((sh.volume(shape), 1)), x)
    else:
        perm = (axis, *(k for k in range(len(shape)) if k != axis))
        rest = tuple(shape[p] for p in perm[1:])
        turned = node.step(Transpose(perm), x)
        matrix = node.step(Reshape((shape[axis], sh.volume(rest))), turned)
    if isinstance(matrix, Known):
        found: list[Operand] = [node.const(a) for a in Unique(_ANY, ordered).reference(matrix.array)]
    else:
        found = list(node.steps(Unique(_count(node, matrix.type.shape[0]), ordered), matrix))
    kept, count = found[0], found[0].type.shape[0]
    if axis is None:
        values = node.step(Reshape((count,)), kept)
    else:
        back = tuple(perm.index(k) for k in range(len(shape)))
        values = node.step(Transpose(back), node.step(Reshape((count, *rest)), kept))
    return values, *found[1:4]


@onnx_op("NonMaxSuppression", since=10)
def non_max_suppression(node: NodeContext) -> Operand:
    """Without max_output_boxes_per_class nothing is kept, without score_threshold every score counts."""
    boxes, scores = node.operand(0), node.operand(1)
    given = node.optional(2)
    most = node.const(np.zeros(1, np.int64)) if given is None else given
    if most.type.dtype != dt.i64:
        most = node.step(Cast(dt.i64), most)
    numbers: tuple[Operand, ...] = (most, _number(node, 3, 0.0), _number(node, 4, -np.inf))
    op = NonMaxSuppression(_ANY, node.flag("center_point_box"))
    op.infer([o.type for o in (boxes, scores, *numbers)])
    images, kinds, count = scores.type.shape
    per_class = sh.minimum(count, max(int(most.array.reshape(-1)[0]), 0)) if isinstance(most, Known) else count
    arrays: list[Array] = [o.array for o in (boxes, scores, *numbers) if isinstance(o, Known)]
    if per_class == 0:
        return node.const(np.zeros((0, 3), np.int64))
    if len(arrays) == 5 and arrays[1].size <= MAX_SCORES:
        return node.const(op.reference(*arrays)[0])
    whole = sh.mul(sh.mul(images, kinds), per_class)
    return node.steps(op.replace(count=_count(node, whole)), boxes, scores, *numbers)[0]


def _number(node: NodeContext, index: int, usual: float) -> Operand:
    """An optional operand of one f32."""
    found = node.optional(index)
    return node.const(np.full(1, usual, np.float32)) if found is None else found
