"""ONNX layers: convolution, pooling, normalization, softmax, dropout."""

from __future__ import annotations

from math import prod

import numpy as np

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Operand
from strop.frontend.onnx.registry import onnx_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.shape import Dim
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.data import Expand, Identity, Reshape
from strop.ops.elementwise import Cast, make
from strop.ops.norm import LRN, BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from strop.ops.pool import AveragePool, MaxPool, MaxPoolIndices
from strop.ops.reduce import Reduce
from strop.ops.softmax import LogSoftmax, Softmax

_AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")

# ---- windows


def window(node: NodeContext, name: str, rank: int, default: int | None = 1) -> tuple[int, ...]:
    """A per-axis window attribute (default None: required); ModelError when it has not one number per spatial axis."""
    values = node.integers(name) if default is None else node.integers(name, (default,) * rank)
    if len(values) != rank:
        raise node.malformed(
            f"attribute {name} does not fit", got=values, expected=f"{rank} numbers"
        )
    if name != "output_padding" and any(v < 1 for v in values):
        raise node.malformed(f"attribute {name} out of range", got=values, expected="at least 1")
    return values


def _kernel(node: NodeContext, weights: Operand) -> tuple[int, ...]:
    """The window of a convolution, as its weights and its kernel_shape both say."""
    kernel = sh.static(weights.type.shape[2:], node.where)
    declared = node.optional_integers("kernel_shape")
    if declared is not None and declared != kernel:
        raise node.malformed("kernel_shape does not fit the weights", got=declared, expected=kernel)
    return kernel


def _pads(
    node: NodeContext,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    spatial: tuple[Dim, ...] | None = None,
) -> tuple[int, ...]:
    """Explicit pads from ``pads`` and ``auto_pad`` over spatial axes of the given sizes, by default those of operand 0: SAME keeps ceil(size / stride), the odd one goes last for SAME_UPPER."""
    rank = len(kernel)
    mode = node.text("auto_pad", "NOTSET", _AUTO_PADS)
    explicit = node.integers("pads", (0,) * (2 * rank))
    if len(explicit) != 2 * rank:
        raise node.malformed(
            "attribute pads does not fit", got=explicit, expected=f"{2 * rank} numbers"
        )
    if mode == "NOTSET":
        return explicit
    if mode == "VALID":
        return (0,) * (2 * rank)
    before, after = [], []
    for size, k, stride, dilation in zip(
        spatial or node.shape(0)[2:], kernel, strides, dilations, strict=True
    ):
        total = _same_total(node, size, (k - 1) * dilation + 1, stride)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return (*before, *after)


def _same_total(node: NodeContext, size: Dim, extent: int, stride: int) -> int:
    """Elements to add along an axis such that ceil(size / stride) windows fit."""
    if stride == 1:
        return extent - 1
    if not isinstance(size, int):
        raise node.unsupported(
            "auto_pad needs a known size where the stride is not 1",
            got=f"axis of size {size}, stride {stride}",
            hint="give the symbols values with --shape",
        )
    return max((-(-size // stride) - 1) * stride + extent - size, 0)


def _spatial_rank(node: NodeContext) -> int:
    """Number of spatial axes of operand 0; UnsupportedError for more than 3."""
    rank = node.rank(0) - 2
    if rank < 1:
        raise node.malformed("operand 0 has no spatial axes", got=node.operand(0).type)
    if rank > 3:
        raise node.unsupported(
            "more than 3 spatial axes are not supported", got=node.operand(0).type
        )
    return rank


def conv_op(node: NodeContext, weights: Operand) -> Conv:
    """The Conv that the attributes of a convolution node describe; operand 0 is its input."""
    rank = _spatial_rank(node)
    kernel = _kernel(node, weights)
    if len(kernel) != rank:
        raise node.malformed("weights do not fit", got=weights.type, expected=f"rank {rank + 2}")
    strides, dilations = window(node, "strides", rank), window(node, "dilations", rank)
    pads = _pads(node, kernel, strides, dilations)
    return Conv(strides, pads, dilations, node.integer("group", 1))


@onnx_op("Conv", since=1)
def conv(node: NodeContext) -> Operand:
    x, weights = node.operand(0), node.operand(1)
    return node.step(conv_op(node, weights), x, weights, node.optional(2))


@onnx_op("ConvTranspose", since=1)
def conv_transpose(node: NodeContext) -> Operand:
    x, weights = node.operand(0), node.operand(1)
    rank = _spatial_rank(node)
    kernel = _kernel(node, weights)
    if len(kernel) != rank:
        raise node.malformed("weights do not fit", got=weights.type, expected=f"rank {rank + 2}")
    strides, dilations = window(node, "strides", rank), window(node, "dilations", rank)
    extra = window(node, "output_padding", rank, 0)
    mode = node.text("auto_pad", "NOTSET", _AUTO_PADS)
    wanted = node.optional_integers("output_shape")
    if wanted is None and mode in ("NOTSET", "VALID"):
        pads = _pads(node, kernel, strides, dilations)
    else:
        node.ignore("pads")
        sizes = sh.static(node.shape(0)[2:], node.where)
        targets = wanted or tuple(n * s for n, s in zip(sizes, strides, strict=True))
        if len(targets) != rank:
            raise node.malformed(
                "attribute output_shape does not fit", got=targets, expected=f"{rank} numbers"
            )
        before, after, grown = [], [], []
        for i, target in enumerate(targets):
            full = strides[i] * (sizes[i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
            total = max(full - target, 0)
            small, large = total // 2, total - total // 2
            before.append(small if mode == "SAME_UPPER" else large)
            after.append(large if mode == "SAME_UPPER" else small)
            grown.append(extra[i] + max(target - full, 0))
        pads, extra = (*before, *after), tuple(grown)
    op = ConvTranspose(strides, pads, dilations, node.integer("group", 1), extra)
    return node.step(op, x, weights, node.optional(2))


Ints = tuple[int, ...]


def window_pool(node: NodeContext, spatial: tuple[Dim, ...]) -> tuple[Ints, Ints, Ints, Ints]:
    """Kernel, strides, pads and dilations of a pooling node over spatial axes of the given sizes."""
    rank = _spatial_rank(node)
    kernel = window(node, "kernel_shape", rank, None)
    strides, dilations = window(node, "strides", rank), window(node, "dilations", rank)
    return kernel, strides, _pads(node, kernel, strides, dilations, spatial), dilations


@onnx_op("MaxPool", since=1)
def max_pool(node: NodeContext) -> tuple[Operand, ...]:
    """The indices (result 1) are found by an op of their own when they are read."""
    columns = node.flag("storage_order")
    shape, ceil = window_pool(node, node.shape(0)[2:]), node.flag("ceil_mode")
    x = node.operand(0)
    result = node.step(MaxPool(*shape, ceil), x)
    if not any(node.wanted[1:]):
        return (result,)
    return result, node.step(MaxPoolIndices(*shape, ceil, columns), x)


def average_pool_op(node: NodeContext) -> AveragePool:
    """The AveragePool that the attributes of a pooling node describe; operand 0 is its input."""
    shape = window_pool(node, node.shape(0)[2:])
    return AveragePool(*shape, node.flag("ceil_mode"), node.flag("count_include_pad"))


@onnx_op("AveragePool", since=1)
def average_pool(node: NodeContext) -> Operand:
    return node.step(average_pool_op(node), node.operand(0))


@onnx_op("LpPool", since=2)
def lp_pool(node: NodeContext) -> Operand:
    """Root of the sum of powers: an average that counts the padding, times the window's size."""
    power, rank = node.integer("p", 2), _spatial_rank(node)
    if power < 1 or node.flag("ceil_mode"):
        raise node.unsupported(
            "only p of 1 and more without ceil_mode is supported", got=f"p {power}"
        )
    kernel = window(node, "kernel_shape", rank, None)
    strides, dilations = window(node, "strides", rank), window(node, "dilations", rank)
    pads = _pads(node, kernel, strides, dilations)
    x = node.step(make("abs"), node.operand(0))
    powers = x if power == 1 else node.step(make("pow"), x, node.like(power, x))
    mean = node.step(AveragePool(kernel, strides, pads, dilations, False, True), powers)
    total = node.step(make("mul"), mean, node.like(prod(kernel), x))
    return total if power == 1 else node.step(make("pow"), total, node.like(1 / power, x))


@onnx_op("GlobalAveragePool", "GlobalMaxPool", since=1)
def global_pool(node: NodeContext) -> Operand:
    kind = "mean" if node.op_type == "GlobalAveragePool" else "max"
    return node.step(Reduce(kind, tuple(range(2, node.rank(0))), True), node.operand(0))


# ---- normalization


@onnx_op("BatchNormalization", since=6, until=6)
def batch_norm_6(node: NodeContext) -> Operand:
    """Inference is asked for with is_test."""
    node.only("is_test", 1, default=0)
    return batch_norm_7(node)


@onnx_op("BatchNormalization", since=7)
def batch_norm_7(node: NodeContext) -> Operand:
    """Inference only: the statistics are operands. Parameters of another float type set the type it computes in."""
    node.ignore("momentum")
    node.only("training_mode", 0)
    node.only("spatial", 1)
    x = node.operand(0)
    params = [node.operand(i) for i in range(1, 5)]
    op = BatchNorm(node.number("epsilon", 1e-5))
    dtypes = {p.type.dtype for p in params} | {x.type.dtype}
    if len(dtypes) == 1:
        return node.step(op, x, *params)
    wide = max(dtypes, key=lambda d: d.size)
    cast = [p if p.type.dtype == wide else node.step(Cast(wide), p) for p in (x, *params)]
    return node.step(Cast(x.type.dtype), node.step(op, *cast))


@onnx_op("InstanceNormalization", since=6)
def instance_norm(node: NodeContext) -> Operand:
    op = InstanceNorm(node.number("epsilon", 1e-5))
    return node.step(op, node.operand(0), node.operand(1), node.operand(2))


@onnx_op("GroupNormalization", since=18, until=20)
def group_norm_18(node: NodeContext) -> Operand:
    """Scale and bias are per group."""
    groups = node.integer("num_groups")
    (channels,) = sh.static(node.shape(0)[1:2], node.where)
    if groups < 1 or channels % groups:
        raise node.malformed(
            "num_groups does not divide the channels",
            got=groups,
            expected=f"a divisor of {channels}",
        )
    each = []
    for index in (1, 2):
        column = node.step(Reshape((groups, 1)), node.operand(index))
        spread = node.step(Expand((groups, channels // groups)), column)
        each.append(node.step(Reshape((channels,)), spread))
    return node.step(GroupNorm(groups, node.number("epsilon", 1e-5)), node.operand(0), *each)


@onnx_op("GroupNormalization", since=21)
def group_norm_21(node: NodeContext) -> Operand:
    node.ignore("stash_type")  # half precision is computed in f32 anyway
    op = GroupNorm(node.integer("num_groups"), node.number("epsilon", 1e-5))
    return node.step(op, node.operand(0), node.operand(1), node.operand(2))


@onnx_op("LRN", since=1)
def lrn(node: NodeContext) -> Operand:
    alpha, beta, bias = (
        node.number("alpha", 1e-4),
        node.number("beta", 0.75),
        node.number("bias", 1.0),
    )
    return node.step(LRN(node.integer("size"), alpha, beta, bias), node.operand(0))


@onnx_op("LayerNormalization", since=17)
def layer_norm(node: NodeContext) -> tuple[Operand, ...]:
    """Results 1 and 2, mean and inverse deviation, are computed beside it when they are read."""
    node.only("stash_type", 1)
    x = node.operand(0)
    axis, epsilon = node.axis(default=-1), node.number("epsilon", 1e-5)
    inner = x.type.shape[axis:]
    scale, bias = node.operand(1), node.optional(2)
    if _fits(scale, inner) and (bias is None or _fits(bias, inner)):
        shaped = [_trailing(node, p, len(inner)) for p in (scale, bias) if p is not None]
        result = node.step(LayerNorm(axis, epsilon), x, *shaped)
    else:  # scale or bias vary along axes that are not normalized
        plain = node.step(LayerNorm(axis, epsilon), x, node.like(1, x))
        result = node.step(make("mul"), plain, scale)
        result = result if bias is None else node.step(make("add"), result, bias)
    if not any(node.wanted[1:]):
        return (result,)
    axes = tuple(range(axis, x.type.rank))
    wide = x if x.type.dtype in (dt.f32, dt.f64) else node.step(Cast(dt.f32), x)
    mean = node.step(Reduce("mean", axes, True), wide)
    spread = node.step(make("square"), node.step(make("sub"), wide, mean))
    variance = node.step(Reduce("mean", axes, True), spread)
    inverse = node.step(make("rsqrt"), node.step(make("add"), variance, node.like(epsilon, wide)))
    return result, mean, inverse


@onnx_op("RMSNormalization", since=23)
def rms_norm(node: NodeContext) -> Operand:
    node.only("stash_type", 1)
    x, scale = node.operand(0), node.operand(1)
    axis, epsilon = node.axis(default=-1), node.number("epsilon", 1e-5)
    inner = x.type.shape[axis:]
    if scale.type.dtype == x.type.dtype and _fits(scale, inner):
        return node.step(RMSNorm(axis, epsilon), x, _trailing(node, scale, len(inner)))
    plain = node.step(RMSNorm(axis, epsilon), x, node.like(1, x))
    if scale.type.dtype != x.type.dtype:
        plain = node.step(Cast(scale.type.dtype), plain)
    return node.step(make("mul"), plain, scale)


def _fits(param: Operand, inner: tuple[Dim, ...]) -> bool:
    """Whether a parameter varies along the normalized axes only."""
    shape = param.type.shape
    lead, tail = shape[: max(len(shape) - len(inner), 0)], shape[max(len(shape) - len(inner), 0) :]
    return all(d == 1 for d in lead) and all(
        d in (1, n) for d, n in zip(reversed(tail), reversed(inner), strict=False)
    )


def _trailing(node: NodeContext, param: Operand, rank: int) -> Operand:
    """A parameter without leading axes of size 1 that lie outside the normalized ones."""
    shape = param.type.shape
    return param if len(shape) <= rank else node.step(Reshape(shape[len(shape) - rank :]), param)


@onnx_op("MeanVarianceNormalization", since=9)
def mean_variance_norm(node: NodeContext) -> Operand:
    """(x - mean) / (deviation + 1e-9), as the function body in the ONNX standard has it."""
    x = node.operand(0)
    axes = tuple(sorted(node.normal_axes(node.integers("axes", (0, 2, 3)), x.type.rank)))
    mean = Reduce("mean", axes, True)
    square_of_mean = node.step(make("square"), node.step(mean, x))
    mean_of_square = node.step(mean, node.step(make("square"), x))
    variance = node.step(make("sub"), mean_of_square, square_of_mean)
    deviation = node.step(make("sqrt"), variance)
    centred = node.step(make("sub"), x, node.step(mean, x))
    return node.step(make("div"), centred, node.step(make("add"), deviation, node.like(1e-9, x)))


# ---- softmax


@onnx_op("Softmax", "LogSoftmax", since=1, until=12)
def softmax_1(node: NodeContext) -> Operand:
    """Over all axes from ``axis`` on, taken as one."""
    x = node.operand(0)
    rank = x.type.rank
    axis = node.axis(default=1)
    make_op = Softmax if node.op_type == "Softmax" else LogSoftmax
    if axis == rank - 1:
        return node.step(make_op(axis), x)
    matrix = (sh.volume(x.type.shape[:axis]), sh.volume(x.type.shape[axis:]))
    flat = node.step(make_op(1), node.step(Reshape(matrix), x))
    return node.step(Reshape(x.type.shape), flat)


@onnx_op("Softmax", "LogSoftmax", since=13)
def softmax_13(node: NodeContext) -> Operand:
    axis = node.axis(default=-1)
    return node.step(
        Softmax(axis) if node.op_type == "Softmax" else LogSoftmax(axis), node.operand(0)
    )


# ---- dropout


@onnx_op("Dropout", since=6, until=6)
def dropout_6(node: NodeContext) -> tuple[Operand, ...]:
    """Inference is asked for with is_test."""
    node.only("is_test", 1, default=0)
    return dropout_7(node)


@onnx_op("Dropout", since=7)
def dropout_7(node: NodeContext) -> tuple[Operand, ...]:
    """Does nothing in inference; the mask (result 1) is all true."""
    node.ignore("ratio", "seed")
    x = node.operand(0)
    training = node.optional(2) is not None and node.scalar(2, "training_mode")
    if training and (node.optional(1) is None or node.scalar(1, "ratio") != 0):
        raise node.unsupported(
            "training_mode is not supported", got=True, hint="export the model for inference"
        )
    result = node.step(Identity(), x)
    if not any(node.wanted[1:]):
        return (result,)
    mask_type = np.bool_ if node.opset >= 10 else x.type.dtype.numpy
    shape = sh.static(x.type.shape, node.where)
    return result, node.filled(shape, np.asarray(1, mask_type))
