"""TFLite's convolutions, products, pools, softmax and normalizations."""

from __future__ import annotations

from collections.abc import Sequence

from strop.frontend.tensorflow.windows import (
    convolved,
    kernel_of,
    pooled,
    positive,
    same_pads,
    transposed,
)
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.registry import tflite_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
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
