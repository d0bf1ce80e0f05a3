"""TFLite's convolutions, products, pools, softmax and normalizations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.tensorflow.windows import (
    convolved,
    kernel_of,
    pooled,
    positive,
    same_padding,
    same_pads,
    transposed,
)
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.emission import NodeWriter
from strop.frontend.tflite.records import OutTensor
from strop.frontend.tflite.registry import tflite_custom, tflite_op, writes
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.op import Array
from strop.ir.shape import Dim
from strop.ops.base import lowest
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.matmul import MatMul
from strop.ops.norm import LRN
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce
from strop.ops.softmax import LogSoftmax, Softmax

SAME, VALID = 0, 1


def _pads(node: NodeContext, sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """Padding before all axes, then after: SAME gives ceil(size / stride) windows, the odd element of padding last."""
    kind = node.option("Padding")
    if kind == VALID:
        return (0,) * (2 * len(kernel))
    if kind != SAME:
        raise node.malformed("unknown padding", got=kind, expected="0 (SAME) or 1 (VALID)")
    return same_pads(node, sizes, kernel, strides, dilations)


def _convolved(node: NodeContext, axes: str, perm: Sequence[int], depthwise: bool) -> Value:
    """A convolution, channels last; ``axes`` are the letters of the spatial axes in the options."""
    x, w = node.floats(0), node.weights(1, perm)
    rank = len(axes)
    kernel, groups = kernel_of(node, x, w, rank, depthwise)
    strides = positive(node, [node.option(f"Stride{a}") for a in axes])
    dilations = positive(node, [node.option(f"Dilation{a}Factor") for a in axes])
    pads = _pads(node, x.shape[1:-1], kernel, strides, dilations)
    return node.activated(convolved(node, x, w, node.bias(2, 0, 1), strides, pads, dilations, groups))


@tflite_op("CONV_2D")
def conv_2d(node: NodeContext) -> Value:
    """Weights [O, H, W, I / groups]."""
    return _convolved(node, "HW", (0, 3, 1, 2), depthwise=False)


@tflite_op("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(node: NodeContext) -> Value:
    """Weights [1, H, W, C * multiplier]; the results of one channel are neighbours."""
    return _convolved(node, "HW", (3, 0, 1, 2), depthwise=True)


@tflite_op("CONV_3D")
def conv_3d(node: NodeContext) -> Value:
    """Weights [D, H, W, I, O]."""
    return _convolved(node, "DHW", (4, 3, 0, 1, 2), depthwise=False)


@tflite_op("TRANSPOSE_CONV")
def transpose_conv(node: NodeContext) -> Value:
    """Operands: size of the result, weights [O, H, W, I], x, bias. It is padded as the convolution that it is the gradient of."""
    shape, x = node.ints(0, "output_shape"), node.floats(2)
    if len(shape) != 4 or x.type.rank != 4:
        raise node.malformed("operands have another rank", got=f"{shape}, {x.type}", expected="4 sizes, x of rank 4")
    w = node.weights(1, (3, 0, 1, 2))
    strides = positive(node, [node.option(f"Stride{a}") for a in "HW"])
    pads = _pads(node, shape[1:3], sh.static(w.shape[2:], node.where), strides, (1, 1))
    return node.activated(transposed(node, x, w, node.bias(3, 2, 1), shape[1:3], strides, pads, (1, 1)))


@tflite_custom("Convolution2DTransposeBias")
def convolution_2d_transpose_bias(node: NodeContext) -> Value:
    """Operands: x, weights [O, H, W, I], bias. Options: kind of padding, 1 for SAME and 2 for VALID, horizontal and vertical stride, i32 each
    (MediaPipe, transpose_conv_bias.cc, over TfLiteTransposeConvParams)."""
    stored = node.operator.custom_options
    if len(stored) < 12:
        raise node.malformed("the options are too short", got=f"{len(stored)} bytes", expected="12")
    kind, across, down = (int(v) for v in np.frombuffer(stored[:12], "<i4"))
    node.rank(0, 4)
    x, w, strides = node.floats(0), node.weights(1, (3, 0, 1, 2)), positive(node, [down, across])
    kernel, given = sh.static(w.shape[2:], node.where), sh.static(x.shape[1:3], node.where)
    if kind == 1:
        sizes = [d * s for d, s in zip(given, strides, strict=True)]
        pads = same_pads(node, sizes, kernel, strides, (1, 1))
    elif kind == 2:
        sizes, pads = [(d - 1) * s + k for d, s, k in zip(given, strides, kernel, strict=True)], (0, 0, 0, 0)
    else:
        raise node.malformed("unknown padding", got=kind, expected="1 (SAME) or 2 (VALID)")
    return transposed(node, x, w, node.bias(2, 0, 1), sizes, strides, pads, (1, 1))


@tflite_op("CONV_3D_TRANSPOSE")
def conv_3d_transpose(node: NodeContext) -> Value:
    """Operands: size of the result, weights [D, H, W, O, I], x, bias."""
    shape, x = node.ints(0, "output_shape"), node.floats(2)
    if len(shape) != 5 or x.type.rank != 5:
        raise node.malformed("operands have another rank", got=f"{shape}, {x.type}", expected="5 sizes, x of rank 5")
    w = node.weights(1, (4, 3, 0, 1, 2))
    strides, dilations = (positive(node, [node.option(name.format(a)) for a in "DHW"]) for name in ("Stride{}", "Dilation{}Factor"))
    pads = _pads(node, shape[1:4], sh.static(w.shape[2:], node.where), strides, dilations)
    return node.activated(transposed(node, x, w, node.bias(3, 2, 1), shape[1:4], strides, pads, dilations))


@tflite_op("FULLY_CONNECTED")
def fully_connected(node: NodeContext) -> Value:
    """x w^T + b with weights [O, I]; x is a matrix with rows of I elements, or keeps its leading axes."""
    if node.option("WeightsFormat", 0) != 0:
        raise node.unsupported("shuffled weights are not supported", got=node.option("WeightsFormat"))
    x, w = node.floats(0), node.weights(1, (0, 1))
    _, depth = sh.static(w.shape, node.where)
    if node.option("KeepNumDims", False):
        if x.type.rank == 0 or x.shape[-1] != depth:
            raise node.malformed("the weights do not fit", got=f"{x.type}, {w.type}")
        x = node.reshape(x, (1, depth)) if x.type.rank == 1 else x
    elif depth < 1:
        raise node.malformed("the weights are empty", got=w.type)
    elif x.type.rank != 2 or x.shape[-1] != depth:
        x = node.reshape(x, (sh.floordiv(sh.volume(x.shape), depth), depth))
    result = node.step(MatMul(transpose_b=True), x, w)
    bias = node.bias(2, 0, 1)
    result = result if bias is None else node.apply("add", result, bias)
    if node.option("KeepNumDims", False) and node.stored(0).type.rank == 1:
        result = node.reshape(result, result.shape[1:])
    return node.activated(result)


@tflite_op("BATCH_MATMUL")
def batch_matmul(node: NodeContext) -> Value:
    return node.step(MatMul(bool(node.option("AdjX")), bool(node.option("AdjY"))), node.floats(0), node.floats(1))


# ---- pools


@tflite_op("MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D")
def pool_2d(node: NodeContext) -> Value:
    """Averages do not count padding; of integers they are rounded on the grid, halves away from 0. L2 is the root of the average square."""
    code = node.operator.code
    if code == "AVERAGE_POOL_2D" and node.stored(0).dtype.size == 1 and node.option("FusedActivationFunction") == 0 and _keeps_grid(node):
        mean = _pooled(node, AveragePool, node.cast(node.stored(0), dt.f32))
        away = node.apply("mul", node.apply("sign", mean), node.like(0.5, mean))
        return node.cast(node.apply("trunc", node.apply("add", mean, away)), node.stored(0).dtype)
    x = node.moved(0) if code == "MAX_POOL_2D" and node.option("FusedActivationFunction") == 0 else node.floats(0)
    x = node.apply("square", x) if code == "L2_POOL_2D" else x
    result = _pooled(node, MaxPool if code == "MAX_POOL_2D" else AveragePool, x)
    return node.activated(node.apply("sqrt", result) if code == "L2_POOL_2D" else result)


def _keeps_grid(node: NodeContext) -> bool:
    grid = node.grid(0)
    return grid is not None and grid.same(node.result().grid)


def _pooled(node: NodeContext, op: type[MaxPool] | type[AveragePool], x: Value) -> Value:
    """A pool with the window of the options, channels last."""
    if x.type.rank != 4:
        raise node.malformed("operand 0 has another rank", got=x.type, expected=4)
    kernel = positive(node, [node.option("FilterHeight"), node.option("FilterWidth")])
    strides = positive(node, [node.option("StrideH"), node.option("StrideW")])
    pads = _pads(node, x.shape[1:3], kernel, strides, (1, 1))
    return pooled(node, op, x, kernel, strides, pads)


# ---- along the last axis


@tflite_op("SOFTMAX")
def softmax(node: NodeContext) -> Value:
    x, beta = node.floats(0), float(node.option("Beta", 1.0))
    return node.step(Softmax(-1), x if beta == 1 else node.apply("mul", x, node.like(beta, x)))


@tflite_op("LOG_SOFTMAX")
def log_softmax(node: NodeContext) -> Value:
    return node.step(LogSoftmax(-1), node.floats(0))


@tflite_op("L2_NORMALIZATION")
def l2_normalization(node: NodeContext) -> Value:
    """x / max(root of the sum of squares, 1e-6)."""
    x = node.floats(0)
    length = node.step(Reduce("l2", (x.type.rank - 1,), True), x)
    return node.activated(node.apply("div", x, node.apply("max", length, node.like(1e-6, x))))


@tflite_op("LOCAL_RESPONSE_NORMALIZATION")
def local_response_normalization(node: NodeContext) -> Value:
    """x / (bias + alpha * sum of squares of 2 radius + 1 channels) ** beta."""
    x, size = node.floats(0), 2 * int(node.option("Radius")) + 1
    if x.type.rank != 4 or size < 1:
        raise node.malformed("operand 0 has another rank, or the radius is negative", got=x.type, expected=4)
    op = LRN(size, float(node.option("Alpha")) * size, float(node.option("Beta")), float(node.option("Bias")))
    return node.channels_last(node.step(op, node.channels_first(x)))


# ---- written: channels are last wherever they count


def _planar(w: NodeWriter) -> tuple[OutTensor, tuple[Dim, ...]]:
    """Operand 0 with two spatial axes at least, and its shape: one of rank 3 has a first one of size 1."""
    x, shape = w.operand(0), w.value(0).shape
    if len(shape) == 3:
        shape = (shape[0], 1, *shape[1:])
        x = w.reshaped(x, shape)
    return x, shape


def _plane(numbers: Sequence[int], neutral: int) -> tuple[int, ...]:
    """Numbers per spatial axis, or before and after each, for two axes."""
    return (neutral, numbers[0]) if len(numbers) == 1 else tuple(numbers)


def _plane_pads(pads: Sequence[int]) -> tuple[int, ...]:
    return (0, pads[0], 0, pads[1]) if len(pads) == 2 else tuple(pads)


def _given(w: NodeWriter, shape: Sequence[Dim], operator: Sequence[OutTensor | None], code: str, options: str, **fields: object) -> None:
    """Emits an operator over planes; the node's result has one spatial axis less where its operand has."""
    if len(w.node.output.shape) == len(shape):
        w.emit(code, operator, None, options, **fields)
    else:
        made = w.emit(code, operator, [w.temporary(shape)], options, **fields)
        w.reshaped(made, w.node.output.shape, w.result())


def _result_shape(w: NodeWriter) -> tuple[Dim, ...]:
    shape = w.node.output.shape
    return (shape[0], 1, *shape[1:]) if len(shape) == 3 else shape


def padded(w: NodeWriter, x: OutTensor, shape: Sequence[Dim], pads: Sequence[int], fill: float = 0.0) -> tuple[OutTensor, tuple[Dim, ...]]:
    """x[N, spatial.., C] with elements around its spatial axes, and its shape then."""
    rank = len(pads) // 2
    amounts = [[0, 0], *([pads[k], pads[rank + k]] for k in range(rank)), [0, 0]]
    grown = tuple(sh.add(d, before + after) for d, (before, after) in zip(shape, amounts, strict=True))
    result = w.temporary(grown, x.dtype)
    table = w.const(np.asarray(amounts, np.int32), "paddings")
    if fill == 0.0:
        return w.emit("PAD", [x, table], [result], "PadOptions"), grown
    return w.emit("PADV2", [x, table, w.like(fill, x)], [result], "PadV2Options"), grown


def _windowed(
    w: NodeWriter, x: OutTensor, shape: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int], fill: float = 0.0
) -> tuple[OutTensor, int]:
    """x, padded by an operator of its own where neither kind of padding is what is wanted, and the kind."""
    if not any(pads):
        return x, VALID
    if tuple(pads) == same_padding(shape[1:-1], kernel, strides, dilations):
        return x, SAME
    return padded(w, x, shape, pads, fill)[0], VALID


def _f32(w: NodeWriter) -> None:
    if w.value(0).dtype is not dt.f32:
        raise w.refused("TensorFlow Lite computes it in f32 only", got=w.value(0).type, hint="export the network in f32")


def _bias(w: NodeWriter, channels: int) -> OutTensor:
    return w.operand(2) if w.node.has(2) else w.const(np.zeros(channels, np.float32), "bias")


@writes(Conv)
def write_conv(w: NodeWriter) -> None:
    """CONV_2D, CONV_3D, or DEPTHWISE_CONV_2D where every channel is alone."""
    op, weights = w.op, w.array(1, "weights")
    assert isinstance(op, Conv) and w.last, "convolutions are arranged channels-last"
    _f32(w)
    x, shape = _planar(w)
    if weights.ndim == 3:
        weights = weights[:, :, None]
    kernel, rank = weights.shape[2:], weights.ndim - 2
    strides, dilations, pads = _plane(op.strides, 1), _plane(op.dilations, 1), _plane_pads(op.pads)
    fields: dict[str, object] = {f"Stride{a}": s for a, s in zip("DHW"[3 - rank :], strides, strict=True)}
    fields.update({f"Dilation{a}Factor": d for a, d in zip("DHW"[3 - rank :], dilations, strict=True)})
    x, fields["Padding"] = _windowed(w, x, shape, kernel, strides, pads, dilations)
    bias, out = _bias(w, weights.shape[0]), _result_shape(w)
    if rank == 3:
        if op.groups != 1:
            raise w.refused("groups of channels in three spatial axes are not supported", got=op.groups, expected=1)
        _given(w, out, [x, _packed(w, weights, (2, 3, 4, 1, 0)), bias], "CONV_3D", "Conv3DOptions", **fields)
    elif op.groups > 1 and weights.shape[1] == 1:
        fields["DepthMultiplier"] = weights.shape[0] // op.groups
        _given(w, out, [x, _packed(w, weights, (1, 2, 3, 0)), bias], "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", **fields)
    else:
        _given(w, out, [x, _packed(w, weights, (0, 2, 3, 1)), bias], "CONV_2D", "Conv2DOptions", **fields)


def _packed(w: NodeWriter, weights: Array, perm: Sequence[int]) -> OutTensor:
    """Weights as the operator has them."""
    return w.const(np.ascontiguousarray(weights.transpose(perm)), "weights")


@writes(ConvTranspose)
def write_conv_transpose(w: NodeWriter) -> None:
    """TRANSPOSE_CONV over dense weights: groups and dilations are zeros in them. What padding cuts off is sliced away where SAME does not."""
    op, weights = w.op, w.array(1, "weights")
    assert isinstance(op, ConvTranspose) and w.last, "convolutions are arranged channels-last"
    _f32(w)
    if weights.ndim > 4:
        raise w.refused("three spatial axes are not supported", got=w.value(0).type, expected="one or two")
    x, shape = _planar(w)
    weights = weights[:, :, None] if weights.ndim == 3 else weights
    weights = _dense(weights, op.groups, _plane(op.dilations, 1))
    channels, kernel = weights.shape[1], weights.shape[2:]
    strides, pads, extra = _plane(op.strides, 1), _plane_pads(op.pads), _plane(op.output_padding, 0)
    batch, *spatial = w.static(shape[:-1])
    out = w.static(_result_shape(w))
    whole = [(size - 1) * s + k for size, s, k in zip(spatial, strides, kernel, strict=True)]
    packed, bias = _packed(w, weights, (1, 2, 3, 0)), _bias(w, channels)
    fields: dict[str, object] = {"StrideH": strides[0], "StrideW": strides[1]}
    same = same_padding(out[1:3], kernel, strides, (1, 1))
    ends = [pads[2 + k] - extra[k] for k in range(2)]
    fits = [-(-out[1 + k] // strides[k]) == spatial[k] for k in range(2)]
    if same == (*pads[:2], *ends) and all(fits):
        _given(w, out, [w.ints(out, "output_shape"), packed, x, bias], "TRANSPOSE_CONV", "TransposeConvOptions", Padding=SAME, **fields)
        return
    if any(e < 0 for e in ends):
        whole = [size + max(-e, 0) for size, e in zip(whole, ends, strict=True)]
        packed = _packed(w, np.pad(weights, [(0, 0), (0, 0), *((0, max(-e, 0)) for e in ends)]), (1, 2, 3, 0))
    full = (batch, *whole, channels)
    operands = [w.ints(full, "output_shape"), packed, x, bias]
    if full == out:
        _given(w, out, operands, "TRANSPOSE_CONV", "TransposeConvOptions", Padding=VALID, **fields)
        return
    made = w.emit("TRANSPOSE_CONV", operands, [w.temporary(full)], "TransposeConvOptions", Padding=VALID, **fields)
    cut = [made, w.ints((0, *pads[:2], 0), "begin"), w.ints(out, "size")]
    _given(w, out, cut, "SLICE", "SliceOptions")


def _dense(weights: Array, groups: int, dilations: Sequence[int]) -> Array:
    """Weights [I, O / groups, H, W] as [I, O, H', W'] without groups and dilations."""
    taken, made, *kernel = weights.shape
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    dense = np.zeros((taken, made * groups, *reach), weights.dtype)
    for group in range(groups):
        rows, columns = slice(group * taken // groups, (group + 1) * taken // groups), slice(group * made, (group + 1) * made)
        dense[rows, columns, :: dilations[0], :: dilations[1]] = weights[rows]
    return dense


@writes(MatMul)
def write_matmul(w: NodeWriter) -> None:
    """FULLY_CONNECTED for a matrix of constants, else BATCH_MATMUL."""
    op = w.op
    assert isinstance(op, MatMul)
    _f32(w)
    a, b = w.value(0), w.value(1)
    if b.const is not None and b.const.ndim == 2 and not op.transpose_a and a.type.rank >= 2 and b.const.size:
        weights = w.const(b.const if op.transpose_b else np.ascontiguousarray(b.const.T), "weights")
        x, keeps = _flattened(w), a.type.rank > 2
        w.emit("FULLY_CONNECTED", [x, weights], None, "FullyConnectedOptions", KeepNumDims=keeps)
        return
    x, y = w.operand(0), w.operand(1)
    x = w.reshaped(x, (1, *a.shape)) if a.type.rank == 1 else x
    y = w.reshaped(y, (*b.shape, 1)) if b.type.rank == 1 else y
    rows = a.shape[-1:-3:-1] if op.transpose_a else (1, *a.shape)[-2:]
    columns = b.shape[-1:-3:-1] if op.transpose_b else (*b.shape, 1)[-2:] if b.type.rank == 1 else b.shape[-2:]
    full = (*sh.broadcast(a.shape[:-2], b.shape[:-2]), rows[0], columns[-1])
    whole = full == w.node.output.shape
    made = w.emit("BATCH_MATMUL", [x, y], None if whole else [w.temporary(full)], "BatchMatMulOptions", AdjX=op.transpose_a, AdjY=op.transpose_b)
    if not whole:
        w.reshaped(made, w.node.output.shape, w.result())


def _flattened(w: NodeWriter) -> OutTensor:
    """Operand 0 of a product of matrices: what only a reshape makes a matrix of is read as it is, as the operator flattens it itself."""
    maker = w.only_maker(w.value(0))
    if w.value(0).type.rank != 2 or maker is None or maker.code != "RESHAPE":
        return w.operand(0)
    source, width = maker.inputs[0], w.value(0).shape[-1]
    if source is None or source.data is not None or source.free or len(source.shape) < 3 or int(np.prod(source.shape[1:])) != width:
        return w.operand(0)
    w.drop(maker)
    return source


# ---- pools


@writes(MaxPool, AveragePool)
def write_pool(w: NodeWriter) -> None:
    """A last partial window is more padding. An average that counts padding is one over a padded plane."""
    op = w.op
    assert isinstance(op, (MaxPool, AveragePool)) and w.last, "pools are arranged channels-last"
    if not isinstance(op, MaxPool) or w.value(0).dtype not in (dt.i8, dt.i16):
        _f32(w)
    if len(op.kernel) > 2 or any(d != 1 for d in op.dilations):
        raise w.refused("pools in three spatial axes and dilated pools are not supported", got=f"{op.kernel}, dilations {op.dilations}")
    x, shape = _planar(w)
    kernel, strides, pads, out = _plane(op.kernel, 1), _plane(op.strides, 1), list(_plane_pads(op.pads)), _result_shape(w)
    wanted = list(pads)
    if op.ceil_mode:
        spatial = w.static(shape[1:-1])
        wanted[2:] = [max(pads[2 + k], (w.static(out)[1 + k] - 1) * strides[k] + kernel[k] - spatial[k] - pads[k]) for k in range(2)]
    fields: dict[str, object] = {"FilterHeight": kernel[0], "FilterWidth": kernel[1], "StrideH": strides[0], "StrideW": strides[1]}
    if isinstance(op, MaxPool):
        kind = w.value(0).dtype
        least = 0.0 if _never_negative(w) else float(np.finfo(np.float32).min) if kind is dt.f32 else float(lowest(kind))
        x, fields["Padding"] = _windowed(w, x, shape, kernel, strides, wanted, (1, 1), least)
        _given(w, out, [x], "MAX_POOL_2D", "Pool2DOptions", **fields)
        return
    same = tuple(wanted) == same_padding(shape[1:-1], kernel, strides, (1, 1))
    if not any(wanted) or (same and not op.count_include_pad):
        fields["Padding"] = SAME if any(wanted) else VALID
        _given(w, out, [x], "AVERAGE_POOL_2D", "Pool2DOptions", **fields)
        return
    x, _ = padded(w, x, shape, wanted)
    fields["Padding"] = VALID
    if op.count_include_pad and wanted == pads:
        _given(w, out, [x], "AVERAGE_POOL_2D", "Pool2DOptions", **fields)
        return
    counted = [op._counted(size, k) for k, size in enumerate(w.static(w.value(0).shape[1:-1]))]
    shares = kernel[0] * kernel[1] / (counted[0][:, None] * counted[1] if len(counted) == 2 else counted[0][None, :])
    made = w.emit("AVERAGE_POOL_2D", [x], [w.temporary(out)], "Pool2DOptions", **fields)
    _given(w, out, [made, w.const(shares[None, :, :, None].astype(np.float32), "shares")], "MUL", "MulOptions")


def _never_negative(w: NodeWriter) -> bool:
    """True when the operator before says so."""
    maker = w.writing.makers.get(w.operand(0))
    return maker is not None and (maker.code in ("RELU", "RELU6", "LOGISTIC") or maker.fields.get("FusedActivationFunction") in (1, 3))


# ---- along the last axis


@writes(Softmax)
def write_softmax(w: NodeWriter) -> None:
    _f32(w)
    w.emit("SOFTMAX", [_last_axis(w)], None, "SoftmaxOptions", Beta=1.0)


@writes(LogSoftmax)
def write_log_softmax(w: NodeWriter) -> None:
    _f32(w)
    w.emit("LOG_SOFTMAX", [_last_axis(w)], None, "LogSoftmaxOptions")


def _last_axis(w: NodeWriter) -> OutTensor:
    assert isinstance(w.op, (Softmax, LogSoftmax)) and w.op.axis in (-1, w.value(0).type.rank - 1), "the axis is made the last one before"
    return w.operand(0)


@writes(LRN)
def write_lrn(w: NodeWriter) -> None:
    """A window of an odd number of channels."""
    op = w.op
    assert isinstance(op, LRN) and w.last
    _f32(w)
    if op.size % 2 == 0 or w.value(0).type.rank != 4:
        raise w.refused("only windows of an odd number of channels over two spatial axes are supported", got=f"size {op.size}, {w.value(0).type}")
    w.emit(
        "LOCAL_RESPONSE_NORMALIZATION", [w.operand(0)], None, "LocalResponseNormalizationOptions",
        Radius=op.size // 2, Alpha=op.alpha / op.size, Beta=op.beta, Bias=op.bias,
    )  # fmt: skip
