"""TFLite operators that move elements: views, joins, cuts, padding, repeating."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.tensorflow.slices import (
    evenly,
    flipped,
    indexed,
    mirrored,
    paddings,
    parted,
    resolved,
    sliced,
    squeezed,
    stacked,
    tiled,
    unsqueezed,
    unstacked,
)
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.emission import NodeWriter
from strop.frontend.tflite.registry import tflite_op, writes
from strop.frontend.tflite.sizes import index_of
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.expr import cast_array
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.data import Concat, Expand, Identity, Pad, Reshape, Slice, Split, Tile, Transpose
from strop.ops.sizes import Iota

# ---- views


@tflite_op("RESHAPE")
def reshape(node: NodeContext) -> Value:
    """The new shape is operand 1, or an option in old files."""
    x = node.moved(0)
    wanted: tuple[Dim, ...] = node.dims(1, "shape") if node.has(1) else node.option_ints("NewShape")
    if node.has(1) and node.stored(1).type.rank == 0 and wanted == (0,):  # how converters wrote the shape of a scalar
        wanted = ()
    return node.reshape(x, resolved(node, x.shape, wanted))


@tflite_op("SQUEEZE")
def squeeze(node: NodeContext) -> Value:
    x = node.moved(0)
    return squeezed(node, x, node.option_ints("SqueezeDims"))


@tflite_op("EXPAND_DIMS")
def expand_dims(node: NodeContext) -> Value:
    return unsqueezed(node, node.moved(0), node.integer(1, "axis"))


@tflite_op("TRANSPOSE")
def transpose(node: NodeContext) -> Value:
    x = node.moved(0)
    perm = tuple(p + x.type.rank if p < 0 else p for p in node.ints(1, "perm"))
    return node.turned(x, perm)


# ---- joins and cuts


@tflite_op("CONCATENATION")
def concatenation(node: NodeContext) -> Value:
    """Parts on other grids than the result's are requantized."""
    count = len(node)
    fused = node.option("FusedActivationFunction", 0) != 0
    parts = [node.real(k) if fused else node.moved(k) for k in range(count)]
    if len({p.dtype for p in parts}) > 1:
        parts = [node.real(k) for k in range(count)]
    if not parts:
        raise node.malformed("there are no operands")
    axis = node.axis(node.option("Axis"), parts[0].type.rank)
    return node.activated(node.step(Concat(axis), *parts) if count > 1 else parts[0])


@tflite_op("PACK")
def pack(node: NodeContext) -> Value:
    """Operands side by side on a new axis."""
    return stacked(node, [node.moved(k) for k in range(len(node))], node.option("Axis"))


def _split(node: NodeContext, x: Value, axis: int, sizes: Sequence[Dim]) -> Sequence[Value]:
    if len(sizes) != len(node.operator.outputs):
        raise node.malformed("the parts differ from the results in number", got=len(sizes), expected=len(node.operator.outputs))
    return parted(node, x, axis, sizes)


@tflite_op("UNPACK")
def unpack(node: NodeContext) -> Sequence[Value]:
    x = node.moved(0)
    return unstacked(node, x, node.axis(node.option("Axis"), x.type.rank), len(node.operator.outputs))


@tflite_op("SPLIT")
def split(node: NodeContext) -> Sequence[Value]:
    """Operands: axis, x."""
    x = node.moved(1)
    axis = node.axis(node.integer(0, "axis"), x.type.rank)
    return _split(node, x, axis, evenly(node, x.shape[axis], len(node.operator.outputs)))


@tflite_op("SPLIT_V")
def split_v(node: NodeContext) -> Sequence[Value]:
    """Operands: x, sizes of the parts, axis; a size of -1 is the rest."""
    x, sizes = node.moved(0), node.ints(1, "size_splits")
    axis = node.axis(node.integer(2, "axis"), x.type.rank)
    if sizes.count(-1) > 1 or any(s < -1 for s in sizes):
        raise node.malformed("the parts do not fit", got=sizes)
    rest = sh.sub(x.shape[axis], sum(s for s in sizes if s >= 0))
    return _split(node, x, axis, [rest if s == -1 else s for s in sizes])


@tflite_op("SLICE")
def slice_(node: NodeContext) -> Value:
    """From begin, as many as size; -1 goes to the end."""
    return sliced(node, node.moved(0), node.dims(1, "begin"), node.dims(2, "size"))


@tflite_op("STRIDED_SLICE")
def strided_slice(node: NodeContext) -> Value:
    """As numpy's indexing, with masks for what is left out, ellipsis, new axes and axes that go."""
    x = node.moved(0)
    begin, end, step = (list(node.dims(k, what)) for k, what in ((1, "begin"), (2, "end"), (3, "strides")))
    if not len(begin) == len(end) == len(step):
        raise node.malformed("begin, end and strides differ in number", got=f"{begin}, {end}, {step}")
    return indexed(node, x, index_of(node, begin, end, step))


@tflite_op("REVERSE_V2")
def reverse_v2(node: NodeContext) -> Value:
    x = node.moved(0)
    axes = sorted({node.axis(a, x.type.rank) for a in node.ints(1, "axis")})
    return flipped(node, x, axes)


# ---- padding and repeating


@tflite_op("PAD", "PADV2")
def pad(node: NodeContext) -> Value:
    """With real zeros, or with operand 2."""
    x = node.real(0)
    pads = paddings(node, 1, x.type.rank)
    value = 0.0
    if node.has(2):
        grid, given = node.grid(2), node.array(2, "constant_values").astype(np.float64)
        if given.size != 1:
            raise node.malformed("the constant has several elements", got=given.shape)
        value = float(given.reshape(())) if grid is None else float((given.reshape(()) - grid.zero[0]) * grid.scale[0])
    found = node.step(Pad(pads, "constant", value), x)
    if node.moved(0) is not x:  # on one grid: what reads it may as well read it before it is rounded
        node.scope.reals[node.operator.outputs[0]] = found
    return found


@tflite_op("MIRROR_PAD")
def mirror_pad(node: NodeContext) -> Value:
    """REFLECT leaves out the edge, SYMMETRIC repeats it."""
    x = node.moved(0)
    return mirrored(node, x, paddings(node, 1, x.type.rank), node.option("Mode") != 0)


@tflite_op("TILE")
def tile(node: NodeContext) -> Value:
    return tiled(node, node.moved(0), node.dims(1, "multiples"))


@tflite_op("BROADCAST_TO")
def broadcast_to(node: NodeContext) -> Value:
    return node.step(Expand(node.dims(1, "shape")), node.moved(0))


@tflite_op("BROADCAST_ARGS")
def broadcast_args(node: NodeContext) -> Value:
    """The shape that two shapes broadcast to."""
    return node.sizes(np.array(sh.broadcast(node.dims(0, "s0"), node.dims(1, "s1"), where=node.where), object))


@tflite_op("FILL")
def fill(node: NodeContext) -> Value:
    shape, value = node.dims(0, "dims"), node.moved(1)
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise node.malformed("a size is negative", got=shape)
    return node.step(Expand(shape), node.reshape(value, (1,) * len(shape)))


# ---- sizes as data


@tflite_op("SHAPE")
def shape(node: NodeContext) -> Value:
    return node.sizes(np.array(node.stored(0).shape, object))


@tflite_op("RANK")
def rank(node: NodeContext) -> Value:
    return node.const(np.asarray(node.stored(0).type.rank, np.int32))


@tflite_op("RANGE")
def range_(node: NodeContext) -> Value:
    """start, limit, delta: known, or from 0 in steps of 1 up to a free size."""
    limit = node.session.symbolic.get(node.stored(1))
    if limit is not None and node.integer(0, "start") == 0 and node.integer(2, "delta") == 1:
        return node.step(Iota(limit.reshape(-1)[0], node.stored(1).dtype))
    start, stop, step = (node.array(k, what).reshape(-1) for k, what in enumerate(("start", "limit", "delta")))
    if not start.size == stop.size == step.size == 1 or step[0] == 0:
        raise node.malformed("start, limit and delta are numbers, delta is not 0")
    count = int(max(0, np.ceil((float(stop[0]) - float(start[0])) / float(step[0]))))
    if count > 1 << 24:
        raise node.malformed("the range is too long", got=count)
    found = start.astype(np.float64 if start.dtype.kind == "f" else np.int64) + np.arange(count) * step.astype(np.float64 if step.dtype.kind == "f" else np.int64)
    return node.const(cast_array(found, dt.from_numpy(start.dtype)))


# ---- written


@writes(Reshape, Identity)
def write_reshape(w: NodeWriter) -> None:
    """Of reshapes behind each other only the last one counts."""
    maker, x = w.only_maker(w.value(0)), w.operand(0)
    if maker is not None and maker.code == "RESHAPE" and maker.inputs[0] is not None:
        w.drop(maker)
        x = maker.inputs[0]
    w.reshaped(x, w.node.output.shape, w.result())


@writes(Transpose)
def write_transpose(w: NodeWriter) -> None:
    """A reshape where only axes of size 1 move."""
    op = w.op
    assert isinstance(op, Transpose)
    shape = w.value(0).shape
    if [p for p in op.perm if shape[p] != 1] == sorted(p for p in op.perm if shape[p] != 1):
        w.reshaped(w.operand(0), w.node.output.shape, w.result())
    else:
        w.turned(w.operand(0), op.perm, w.result())


@writes(Concat)
def write_concat(w: NodeWriter) -> None:
    op = w.op
    assert isinstance(op, Concat)
    axis = op.axis % w.value(0).type.rank
    w.emit("CONCATENATION", [w.operand(k) for k in range(len(w.node.inputs))], None, "ConcatenationOptions", Axis=axis)


@writes(Split)
def write_split(w: NodeWriter) -> None:
    """SPLIT into equal parts, else SPLIT_V, which know no bools."""
    op = w.op
    assert isinstance(op, Split)
    axis, sizes = op.axis % w.value(0).type.rank, w.static(op.sizes)
    results = [w.result(k) for k in range(len(sizes))]
    if w.value(0).dtype is dt.boolean:
        for result, size, end in zip(results, sizes, np.cumsum(sizes), strict=True):
            begin = [int(end) - size if k == axis else 0 for k in range(w.value(0).type.rank)]
            length = [size if k == axis else -1 for k in range(w.value(0).type.rank)]
            w.emit("SLICE", [w.operand(0), w.ints(begin, "begin"), w.ints(length, "size")], [result], "SliceOptions")
    elif len(set(sizes)) == 1:
        w.emit("SPLIT", [w.const(np.asarray(axis, np.int32), "axis"), w.operand(0)], results, "SplitOptions", NumSplits=len(sizes))
    else:
        operands = [w.operand(0), w.ints(sizes, "sizes"), w.const(np.asarray(axis, np.int32), "axis")]
        w.emit("SPLIT_V", operands, results, "SplitVOptions", NumSplits=len(sizes))


@writes(Slice)
def write_slice(w: NodeWriter) -> None:
    """SLICE where every element in between is kept, else STRIDED_SLICE; a whole free axis is left out of both."""
    op, shape = w.op, w.value(0).shape
    assert isinstance(op, Slice)
    cuts = dict(zip(op.axes, zip(op.starts, op.stops, op.steps, strict=True), strict=True))
    begin, end, step, begins, ends = [], [], [], 0, 0
    for axis, size in enumerate(shape):
        start, stop, stride = cuts.get(axis, (0, size, 1))
        if axis not in cuts or (isinstance(start, int) and stop == size and stride > 0):
            stop, ends = 0, ends | 1 << axis
        start, stop = w.static((start, stop))
        if stride < 0 and stop < 0:
            stop, ends = 0, ends | 1 << axis
        begin.append(start)
        end.append(stop)
        step.append(stride)
    if all(s == 1 for s in step):
        lengths = [-1 if ends >> k & 1 else max(e - b, 0) for k, (b, e) in enumerate(zip(begin, end, strict=True))]
        w.emit("SLICE", [w.operand(0), w.ints(begin, "begin"), w.ints(lengths, "size")], None, "SliceOptions")
        return
    operands = [w.operand(0), w.ints(begin, "begin"), w.ints(end, "end"), w.ints(step, "strides")]
    w.emit("STRIDED_SLICE", operands, None, "StridedSliceOptions", BeginMask=begins, EndMask=ends)


@writes(Pad)
def write_pad(w: NodeWriter) -> None:
    """PAD with zeros, PADV2 with another number, MIRROR_PAD of what is reflected; what is cut off is sliced away first."""
    op, x, shape = w.op, w.operand(0), w.value(0).shape
    assert isinstance(op, Pad)
    rank = len(shape)
    if op.mode not in ("constant", "reflect"):
        raise w.refused("this kind of padding is not supported", got=op.mode, expected="constant, reflect")
    if any(p < 0 for p in op.pads):
        kept = w.static(shape)
        begin = [max(-p, 0) for p in op.pads[:rank]]
        size = [d - b - max(-p, 0) for d, b, p in zip(kept, begin, op.pads[rank:], strict=True)]
        x = w.emit("SLICE", [x, w.ints(begin, "begin"), w.ints(size, "size")], [w.temporary(size)], "SliceOptions")
    table = w.const(np.asarray([[max(b, 0), max(a, 0)] for b, a in zip(op.pads[:rank], op.pads[rank:], strict=True)], np.int32), "paddings")
    if op.mode == "reflect":
        w.emit("MIRROR_PAD", [x, table], None, "MirrorPadOptions", Mode=0)
    elif op.value == 0:
        w.emit("PAD", [x, table], None, "PadOptions")
    else:
        w.emit("PADV2", [x, table, w.like(op.value, x)], None, "PadV2Options")


@writes(Expand)
def write_expand(w: NodeWriter) -> None:
    w.emit("BROADCAST_TO", [w.operand(0), w.ints(w.static(w.node.output.shape), "shape")], None, "BroadcastToOptions")


@writes(Tile)
def write_tile(w: NodeWriter) -> None:
    assert isinstance(w.op, Tile)
    w.emit("TILE", [w.operand(0), w.ints(w.static(w.op.repeats), "multiples")], None, "TileOptions")
