"""TensorFlow's convolutions, products, pools, softmax and normalizations."""

from __future__ import annotations

import re
from collections.abc import Sequence

from strop.frontend.saved_model.context import NodeContext
from strop.frontend.saved_model.registry import tf_op
from strop.frontend.tensorflow.windows import (
    convolved,
    kernel_of,
    pooled,
    positive,
    same_pads,
    transposed,
)
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.data import Expand
from strop.ops.matmul import MatMul
from strop.ops.norm import LRN, BatchNorm
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce
from strop.ops.softmax import LogSoftmax, Softmax


def last(node: NodeContext, value: Value) -> Value:
    """A value with its channels last, as the ops below take it."""
    return value if node.channels_axis() else node.channels_last(value)


def back(node: NodeContext, value: Value) -> Value:
    """A result, channels last, in the node's order of axes."""
    return value if node.channels_axis() else node.channels_first(value)


def spatial(node: NodeContext, name: str, rank: int, default: Sequence[int] | None = None) -> tuple[int, ...]:
    """The numbers of a list attribute that belong to the spatial axes; those of batch and channels are 1."""
    found = node.numbers(name, default)
    if not found:
        return (1,) * rank
    if len(found) != rank + 2:
        raise node.malformed(f"attribute {name} does not fit", got=found, expected=f"{rank + 2} numbers")
    inner, outer = (found[1:-1], (found[0], found[-1])) if node.channels_axis() else (found[2:], found[:2])
    if outer != (1, 1):
        raise node.unsupported(f"{name} of batch or channels other than 1 is not supported", got=found)
    return positive(node, inner)


def pads_of(node: NodeContext, sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """Padding before all axes, then after."""
    kind = node.text("padding")
    if kind == "VALID":
        return (0,) * (2 * len(kernel))
    if kind == "SAME":
        return same_pads(node, sizes, kernel, strides, dilations)
    given = node.numbers("explicit_paddings", ())
    if kind != "EXPLICIT" or len(given) != 2 * (len(kernel) + 2) or any(p < 0 for p in given):
        raise node.malformed("the padding does not fit", got=f"{kind} {given}", expected="SAME, VALID, or EXPLICIT with two numbers for every axis")
    begin = 1 if node.channels_axis() else 2
    return (*given[2 * begin : 2 * (begin + len(kernel)) : 2], *given[2 * begin + 1 : 2 * (begin + len(kernel)) : 2])


def _convolution(node: NodeContext, rank: int, w: Value, depthwise: bool) -> Value:
    """x, channels last, with weights [O, C / groups, kernel..]."""
    x = last(node, node.floats(0))
    kernel, groups = kernel_of(node, x, w, rank, depthwise)
    strides, dilations = spatial(node, "strides", rank), spatial(node, "dilations", rank, ())
    pads = pads_of(node, x.shape[1:-1], kernel, strides, dilations)
    return back(node, convolved(node, x, w, None, strides, pads, dilations, groups))


@tf_op("Conv2D")
def conv_2d(node: NodeContext) -> Value:
    """Weights [H, W, I / groups, O]."""
    return _convolution(node, 2, node.permuted(node.floats(1), (3, 2, 0, 1)), depthwise=False)


@tf_op("Conv3D")
def conv_3d(node: NodeContext) -> Value:
    """Weights [D, H, W, I, O]."""
    return _convolution(node, 3, node.permuted(node.floats(1), (4, 3, 0, 1, 2)), depthwise=False)


@tf_op("DepthwiseConv2dNative")
def depthwise_conv_2d(node: NodeContext) -> Value:
    """Weights [H, W, C, multiplier]; the results of one channel are neighbours."""
    w = node.floats(1)
    if w.type.rank != 4:
        raise node.malformed("the weights have another rank", got=w.type, expected=4)
    height, width, channels, multiplier = sh.static(w.shape, node.where)
    turned = node.permuted(w, (2, 3, 0, 1))
    shape = (channels * multiplier, 1, height, width)
    made = node.constant(turned.const.reshape(shape)) if turned.const is not None else node.reshape(turned, shape)
    return _convolution(node, 2, made, depthwise=True)


@tf_op("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def conv_transpose(node: NodeContext) -> Value:
    """Operands: sizes of the result, weights [kernel.., O, C], x."""
    rank = 2 if node.op == "Conv2DBackpropInput" else 3
    x, sizes = last(node, node.floats(2)), node.dims(0, "input_sizes")
    w = node.permuted(node.floats(1), (rank + 1, rank, *range(rank)))
    if len(sizes) == rank + 2:
        sizes = sizes[1:-1] if node.channels_axis() else sizes[2:]
    if x.type.rank != rank + 2 or len(sizes) != rank or not sh.is_static(tuple(sizes)):
        raise node.unsupported("the size of the result must be known, of x's rank", got=f"{sizes}, {x.type}")
    shape = sh.static(tuple(sizes), node.where)
    strides, dilations = spatial(node, "strides", rank), spatial(node, "dilations", rank, ())
    pads = pads_of(node, shape, sh.static(w.shape[2:], node.where), strides, dilations)
    return back(node, transposed(node, x, w, None, shape, strides, pads, dilations))


@tf_op("BiasAdd")
def bias_add(node: NodeContext) -> Value:
    x, bias = node.stored(0), node.stored(1)
    if not node.channels_axis():
        bias = node.reshape(bias, (*bias.shape, *(1,) * (x.type.rank - 2)))
    return node.apply("add", x, bias)


# ---- products


@tf_op("MatMul")
def matmul(node: NodeContext) -> Value:
    op = MatMul(bool(node.attr("transpose_a", "b", False)), bool(node.attr("transpose_b", "b", False)))
    return node.step(op, node.floats(0), node.floats(1))


@tf_op("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def batch_matmul(node: NodeContext) -> Value:
    op = MatMul(bool(node.attr("adj_x", "b", False)), bool(node.attr("adj_y", "b", False)))
    return node.step(op, node.floats(0), node.floats(1))


@tf_op("Einsum")
def einsum(node: NodeContext) -> Value:
    """Two operands, every letter once in each: letters of both that are kept are batch axes, those that go are summed."""
    equation = node.text("equation").replace(" ", "")
    match = re.fullmatch(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]*)", equation)
    if match is None or len(node) != 2 or any(len(set(part)) != len(part) for part in match.groups()):
        raise node.unsupported("this equation is not supported", got=equation, expected="two operands, no letter twice in one of them, no ellipsis")
    a, b, out = match.groups()
    return contracted(node, node.floats(0), node.floats(1), a, b, out)


def contracted(node: NodeContext, x: Value, y: Value, a: str, b: str, out: str) -> Value:
    """The sum of products of x and y over the letters that ``out`` lacks; a, b and out name their axes."""
    if x.type.rank != len(a) or y.type.rank != len(b) or not set(out) <= set(a) | set(b):
        raise node.malformed("the equation does not fit the operands", got=f"{a},{b}->{out} of {x.type}, {y.type}")
    sizes = dict(zip(a, x.shape, strict=True)) | dict(zip(b, y.shape, strict=True))
    x, a = _alone(node, x, a, b + out)
    y, b = _alone(node, y, b, a + out)
    batch = [c for c in a if c in b and c in out]
    summed = [c for c in a if c in b and c not in out]
    left, right = ([c for c in letters if c not in batch and c not in summed] for letters in (a, b))
    volume = {name: sh.volume(tuple(sizes[c] for c in group)) for name, group in (("l", left), ("r", right), ("s", summed))}
    lead = tuple(sizes[c] for c in batch)
    x = node.reshape(node.turned(x, [a.index(c) for c in (*batch, *left, *summed)]), (*lead, volume["l"], volume["s"]))
    y = node.reshape(node.turned(y, [b.index(c) for c in (*batch, *summed, *right)]), (*lead, volume["s"], volume["r"]))
    found = node.reshape(node.step(MatMul(), x, y), tuple(sizes[c] for c in (*batch, *left, *right)))
    order = [*batch, *left, *right]
    return node.turned(found, [order.index(c) for c in out])


def _alone(node: NodeContext, value: Value, letters: str, others: str) -> tuple[Value, str]:
    """A value summed over the axes whose letters nothing else has, and the letters that stay."""
    alone = tuple(k for k, c in enumerate(letters) if c not in others)
    kept = "".join(c for c in letters if c in others)
    return (node.step(Reduce("sum", alone, False), value) if alone else value), kept


# ---- pools


@tf_op("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D")
def pool(node: NodeContext) -> Value:
    """Averages do not count padding."""
    rank = 3 if node.op.endswith("3D") else 2
    return _pooled(node, rank, spatial(node, "ksize", rank), spatial(node, "strides", rank))


@tf_op("MaxPoolV2")
def max_pool_v2(node: NodeContext) -> Value:
    """Operands: x, kernel, strides."""
    numbers = [node.ints(k, what) for k, what in ((1, "ksize"), (2, "strides"))]
    cut = [n[1:-1] if node.channels_axis() else n[2:] for n in numbers]
    return _pooled(node, 2, *(positive(node, n) for n in cut))


def _pooled(node: NodeContext, rank: int, kernel: Sequence[int], strides: Sequence[int]) -> Value:
    x = last(node, node.stored(0))
    if x.type.rank != rank + 2 or len(kernel) != rank or len(strides) != rank:
        raise node.malformed("operand 0 has another rank", got=x.type, expected=rank + 2)
    pads = pads_of(node, x.shape[1:-1], kernel, strides, (1,) * rank)
    return back(node, pooled(node, MaxPool if node.op.startswith("Max") else AveragePool, x, kernel, strides, pads))


# ---- normalizations


@tf_op("Softmax", "LogSoftmax")
def softmax(node: NodeContext) -> Value:
    return node.step((Softmax if node.op == "Softmax" else LogSoftmax)(-1), node.floats(0))


@tf_op("FusedBatchNorm", "FusedBatchNormV2", ports=("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"))
@tf_op("FusedBatchNormV3", ports=("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2", "reserve_space_3"))
def fused_batch_norm(node: NodeContext) -> list[Value]:
    """x, scale, offset, mean, variance, of inference."""
    if node.attr("is_training", "b", True):
        raise node.unsupported("batch normalization of training is not supported", hint="save the model with training=False")
    x, scale, offset, mean, variance = node.values(0, 5)
    op = BatchNorm(float(node.attr("epsilon", "f", 1e-4)))
    parts = [node.cast(v, x.dtype) for v in (scale, offset, mean, variance)]
    if node.channels_axis():
        return [node.channels_last(node.step(op, node.channels_first(x), *parts)), mean, variance, mean, variance, mean]
    return [node.step(op, x, *parts), mean, variance, mean, variance, mean]


@tf_op("LRN")
def lrn(node: NodeContext) -> Value:
    """x / (bias + alpha * sum of squares of 2 radius + 1 channels) ** beta."""
    x, size = node.floats(0), 2 * int(node.attr("depth_radius", "i", 5)) + 1
    if x.type.rank != 4 or size < 1:
        raise node.malformed("operand 0 has another rank, or the radius is negative", got=x.type, expected=4)
    op = LRN(size, float(node.attr("alpha", "f", 1.0)) * size, float(node.attr("beta", "f", 0.5)), float(node.attr("bias", "f", 1.0)))
    return node.channels_last(node.step(op, node.channels_first(x)))


@tf_op("L2Loss")
def l2_loss(node: NodeContext) -> Value:
    x = node.floats(0)
    total = node.step(Reduce("sum", tuple(range(x.type.rank)), False), node.apply("square", x)) if x.type.rank else node.apply("square", x)
    return node.apply("mul", total, node.like(0.5, total))


@tf_op("BroadcastTo")
def broadcast_to(node: NodeContext) -> Value:
    return node.step(Expand(node.dims(1, "shape")), node.stored(0))
