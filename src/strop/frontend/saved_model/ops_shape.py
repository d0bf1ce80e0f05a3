"""TensorFlow's ops that move elements: views, joins, cuts, padding, repeating, space and batch; and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from strop.frontend.saved_model import sizes
from strop.frontend.saved_model.context import NodeContext
from strop.frontend.saved_model.registry import tf_op
from strop.frontend.tensorflow import blocks, slices
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.expr import cast_array
from strop.ir.graph import Value
from strop.ops.data import Concat, Expand, Pad
from strop.ops.reduce import Reduce
from strop.ops.sizes import Iota

# ---- views


@tf_op("Reshape")
def reshape(node: NodeContext) -> Value:
    x = node.stored(0)
    return node.reshape(x, slices.resolved(node, x.shape, node.dims(1, "shape")))


@tf_op("Squeeze")
def squeeze(node: NodeContext) -> Value:
    return slices.squeezed(node, node.stored(0), node.numbers("squeeze_dims", node.numbers("axis", ())))


@tf_op("ExpandDims")
def expand_dims(node: NodeContext) -> Value:
    return slices.unsqueezed(node, node.stored(0), node.integer(1, "axis"))


@tf_op("Transpose")
def transpose(node: NodeContext) -> Value:
    x = node.stored(0)
    return node.turned(x, [node.axis(p, x.type.rank) for p in node.ints(1, "perm")])


# ---- joins and cuts


@tf_op("ConcatV2", "Concat")
def concat(node: NodeContext) -> Value:
    """The axis is the last operand, of Concat the first."""
    old = node.op == "Concat"
    axis = node.integer(0 if old else len(node) - 1, "axis")
    parts = node.values(1) if old else node.values(0, len(node) - 1)
    if not parts:
        raise node.malformed("there are no operands")
    axis = node.axis(axis, parts[0].type.rank)
    return node.step(Concat(axis), *parts) if len(parts) > 1 else parts[0]


@tf_op("Pack")
def pack(node: NodeContext) -> Value:
    return slices.stacked(node, node.values(), int(node.attr("axis", "i", 0)))


@tf_op("Unpack")
def unpack(node: NodeContext) -> Sequence[Value]:
    x = node.stored(0)
    return slices.unstacked(node, x, node.axis(int(node.attr("axis", "i", 0)), x.type.rank), int(node.attr("num", "i")))


@tf_op("Split")
def split(node: NodeContext) -> Sequence[Value]:
    """Operands: axis, x."""
    x = node.stored(1)
    axis = node.axis(node.integer(0, "axis"), x.type.rank)
    return slices.parted(node, x, axis, slices.evenly(node, x.shape[axis], int(node.attr("num_split", "i"))))


@tf_op("SplitV")
def split_v(node: NodeContext) -> Sequence[Value]:
    """Operands: x, sizes of the parts, axis; a size of -1 is the rest."""
    x, parts = node.stored(0), node.ints(1, "size_splits")
    axis = node.axis(node.integer(2, "axis"), x.type.rank)
    if not parts or parts.count(-1) > 1 or any(s < -1 for s in parts):
        raise node.malformed("the parts do not fit", got=parts)
    rest = sh.sub(x.shape[axis], sum(s for s in parts if s >= 0))
    return slices.parted(node, x, axis, [rest if s == -1 else s for s in parts])


@tf_op("Slice")
def slice_(node: NodeContext) -> Value:
    return slices.sliced(node, node.stored(0), node.dims(1, "begin"), node.dims(2, "size"))


@tf_op("StridedSlice")
def strided_slice(node: NodeContext) -> Value:
    """As numpy's indexing, with masks for what is left out, ellipsis, new axes and axes that go."""
    begin, end, step = (list(node.dims(k, what)) for k, what in ((1, "begin"), (2, "end"), (3, "strides")))
    if not len(begin) == len(end) == len(step):
        raise node.malformed("begin, end and strides differ in number", got=f"{begin}, {end}, {step}")
    return slices.indexed(node, node.stored(0), sizes.index_of(node, begin, end, step))


@tf_op("ReverseV2")
def reverse_v2(node: NodeContext) -> Value:
    x = node.stored(0)
    return slices.flipped(node, x, sorted({node.axis(a, x.type.rank) for a in node.ints(1, "axis")}))


@tf_op("Roll")
def roll(node: NodeContext) -> Value:
    """Elements shifted along axes; those that leave come back at the other end."""
    x = node.stored(0)
    shifts, axes = node.ints(1, "shift"), node.ints(2, "axis")
    if len(shifts) != len(axes):
        raise node.malformed("shifts and axes differ in number", got=f"{shifts}, {axes}")
    for shift, axis in zip(shifts, axes, strict=True):
        axis = node.axis(axis, x.type.rank)
        (size,) = sh.static(x.shape[axis : axis + 1], node.where)
        by = shift % size if size else 0
        if by:
            parts = [slices.cut(node, x, [(axis, size - by, slices.END, 1)]), slices.cut(node, x, [(axis, 0, size - by, 1)])]
            x = node.step(Concat(axis), *parts)
    return x


# ---- padding and repeating


@tf_op("Pad", "PadV2")
def pad(node: NodeContext) -> Value:
    """With zeros, or with operand 2."""
    x = node.stored(0)
    value = node.number(2, "constant_values") if node.op == "PadV2" else 0.0
    return node.step(Pad(slices.paddings(node, 1, x.type.rank), "constant", value), x)


@tf_op("MirrorPad")
def mirror_pad(node: NodeContext) -> Value:
    """REFLECT leaves out the edge, SYMMETRIC repeats it."""
    x = node.stored(0)
    return slices.mirrored(node, x, slices.paddings(node, 1, x.type.rank), node.text("mode") == "SYMMETRIC")


@tf_op("Tile")
def tile(node: NodeContext) -> Value:
    return slices.tiled(node, node.stored(0), node.dims(1, "multiples"))


@tf_op("Fill")
def fill(node: NodeContext) -> Value:
    shape, value = node.dims(0, "dims"), node.stored(1)
    if any(isinstance(d, int) and d < 0 for d in shape) or value.type.rank:
        raise node.malformed("a size is negative, or the value no scalar", got=f"{shape}, {value.type}")
    if value.const is not None:
        return node.filled(shape, value.const.item(), value.dtype)
    return node.step(Expand(shape), node.reshape(value, (1,) * len(shape)))


# ---- space, channels and batch


@tf_op("ResizeBilinear", "ResizeNearestNeighbor")
def resize(node: NodeContext) -> Value:
    linear, x = node.op == "ResizeBilinear", node.stored(0)
    x = node.cast(x, dt.f32) if linear and not x.dtype.is_float else x
    corners, half = bool(node.attr("align_corners", "b", False)), bool(node.attr("half_pixel_centers", "b", False))
    return blocks.resized(node, x, node.dims(1, "size"), linear, corners, half)


@tf_op("DepthToSpace")
def depth_to_space(node: NodeContext) -> Value:
    _last(node)
    return blocks.depth_to_space(node, node.stored(0), int(node.attr("block_size", "i")))


@tf_op("SpaceToDepth")
def space_to_depth(node: NodeContext) -> Value:
    _last(node)
    return blocks.space_to_depth(node, node.stored(0), int(node.attr("block_size", "i")))


def _last(node: NodeContext) -> None:
    if node.text("data_format", "NHWC") != "NHWC":
        raise node.unsupported("this data format is not supported", got=node.text("data_format"), expected="NHWC")


@tf_op("SpaceToBatchND")
def space_to_batch_nd(node: NodeContext) -> Value:
    block = node.ints(1, "block_shape")
    return blocks.space_to_batch(node, node.stored(0), block, slices.paddings(node, 2, len(block)))


@tf_op("BatchToSpaceND")
def batch_to_space_nd(node: NodeContext) -> Value:
    block = node.ints(1, "block_shape")
    return blocks.batch_to_space(node, node.stored(0), block, slices.paddings(node, 2, len(block)))


# ---- sizes as data


@tf_op("Shape")
def shape(node: NodeContext) -> Value:
    kind = node.dtype("out_type") if "out_type" in node.node.attributes else dt.i32
    return node.held(np.array(node.stored(0).shape, object), kind)


@tf_op("ShapeN")
def shape_n(node: NodeContext) -> list[Value]:
    kind = node.dtype("out_type") if "out_type" in node.node.attributes else dt.i32
    return [node.held(np.array(v.shape, object), kind) for v in node.values()]


@tf_op("Size")
def size(node: NodeContext) -> Value:
    kind = node.dtype("out_type") if "out_type" in node.node.attributes else dt.i32
    return node.held(np.asarray(sh.volume(node.stored(0).shape), object), kind)


@tf_op("Rank")
def rank(node: NodeContext) -> Value:
    return node.const(np.asarray(node.stored(0).type.rank, np.int32))


@tf_op("BroadcastArgs")
def broadcast_args(node: NodeContext) -> Value:
    found = sh.broadcast(node.dims(0, "s0"), node.dims(1, "s1"), where=node.where)
    return node.held(np.array(found, object), node.stored(0).dtype)


@tf_op("Range")
def range_(node: NodeContext) -> Value:
    """start, limit, delta: known, or from 0 in steps of 1 up to a free size."""
    limit = node.symbolic.get(node.stored(1))
    if limit is not None and node.integer(0, "start") == 0 and node.integer(2, "delta") == 1:
        return node.step(Iota(limit.reshape(-1)[0], node.stored(1).dtype))
    start, stop, step = (node.array(k, what) for k, what in enumerate(("start", "limit", "delta")))
    if not start.size == stop.size == step.size == 1 or step.reshape(())[()] == 0:
        raise node.malformed("start, limit and delta are numbers, delta is not 0")
    first, end, by = (float(a.reshape(())) for a in (start, stop, step))
    count = int(max(0, np.ceil((end - first) / by)))
    if count > 1 << 24:
        raise node.malformed("the range is too long", got=count)
    wide = np.float64 if start.dtype.kind == "f" else np.int64
    return node.const(cast_array(start.reshape(()).astype(wide) + np.arange(count) * step.reshape(()).astype(wide), dt.from_numpy(start.dtype)))


@tf_op("LinSpace")
def lin_space(node: NodeContext) -> Value:
    """start, stop, num."""
    start, stop, count = node.number(0, "start"), node.number(1, "stop"), node.integer(2, "num")
    if not 1 <= count <= 1 << 24:
        raise node.malformed("the number of values does not fit", got=count)
    return node.const(np.linspace(start, stop, count).astype(node.stored(0).dtype.numpy))


# ---- reductions

KINDS = {"Mean": "mean", "Sum": "sum", "Max": "max", "Min": "min", "Prod": "prod", "EuclideanNorm": "l2"}


def _op(node: NodeContext, kind: str) -> Reduce:
    rank = node.stored(0).type.rank
    axes = {node.axis(a, rank) for a in node.ints(1, "axis")}
    return Reduce(kind, tuple(sorted(axes)), bool(node.attr("keep_dims", "b", False)))


def _reduce(node: NodeContext, kind: str) -> Value:
    op = _op(node, kind)
    if op.axes:
        return node.step(op, node.stored(0))
    return node.apply("abs", node.stored(0)) if kind == "l2" else node.stored(0)


for _name, _kind in KINDS.items():
    tf_op(_name)(partial(_reduce, kind=_kind))


@tf_op("Any", "All")
def any_(node: NodeContext) -> Value:
    op = _op(node, "max" if node.op == "Any" else "min")
    return node.cast(node.step(op, node.cast(node.stored(0), dt.u8)), dt.boolean) if op.axes else node.stored(0)
