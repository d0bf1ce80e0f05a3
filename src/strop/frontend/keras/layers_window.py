"""Keras's convolutions, pools, and what pads, cuts or resizes space."""

from __future__ import annotations

from collections.abc import Sequence

from strop.frontend.keras import activations
from strop.frontend.keras.context import LayerContext
from strop.frontend.keras.registry import keras_layer
from strop.frontend.tensorflow import blocks, slices
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
from strop.ir.op import Array
from strop.ir.shape import Dim
from strop.ops.data import Expand, Pad
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce


def _spatial(node: LayerContext) -> int:
    for rank in (1, 2, 3):
        if f"{rank}D" in node.op:
            return rank
    raise node.unsupported("its class tells no number of axes", got=node.op)


def _pads(node: LayerContext, sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """Padding before all axes, then after; ``causal`` pads before only, for windows that end at a step."""
    kind = node.word("padding", "valid").lower()
    if kind == "valid":
        return (0,) * (2 * len(kernel))
    if kind == "same":
        return same_pads(node, sizes, kernel, strides, dilations)
    if kind == "causal" and len(kernel) == 1:
        return (dilations[0] * (kernel[0] - 1), 0)
    raise node.unsupported("this padding is not supported", got=kind, expected="valid, same, or causal over one axis")


def _window(node: LayerContext, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations."""
    return positive(node, node.numbers("strides", rank, 1)), positive(node, node.numbers("dilation_rate", rank, 1))


def _finished(node: LayerContext, found: Value) -> Value:
    return node.back(activations.activated(node, found, node.option("activation", None)))


def _first(array: Array) -> Array:
    """Weights [kernel.., I, O] as [O, I, kernel..]."""
    return array.transpose(array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))


def _checked(node: LayerContext, array: Array, rank: int) -> Array:
    if array.ndim != rank + 2:
        raise node.malformed("the weights have another rank", got=list(array.shape), expected=rank + 2)
    return array


@keras_layer("Conv1D", "Conv2D", "Conv3D")
def conv(node: LayerContext) -> Value:
    """Kernel [kernel.., I / groups, O]."""
    rank = _spatial(node)
    x = node.ranked(rank + 2)
    kernel, *bias = node.saved("kernel", *node.biased())
    w = node.weight("kernel", _first(_checked(node, kernel, rank)))
    window, groups = kernel_of(node, x, w, rank, depthwise=False)
    if groups != node.whole("groups", 1):
        raise node.malformed("the weights do not fit the channels", got=f"{x.type}, {w.type}", expected=f"{node.whole('groups', 1)} groups")
    strides, dilations = _window(node, rank)
    pads = _pads(node, x.shape[1:-1], window, strides, dilations)
    b = node.weight("bias", bias[0]) if bias else None
    return _finished(node, convolved(node, x, w, b, strides, pads, dilations, groups))


def _depthwise(node: LayerContext, x: Value, kernel: Array, bias: Value | None, rank: int) -> Value:
    """Kernel [kernel.., C, multiplier]; the results of one channel are neighbours."""
    kernel = _checked(node, kernel, rank)
    *window, channels, multiplier = kernel.shape
    w = node.weight("depthwise_kernel", kernel.transpose(rank, rank + 1, *range(rank)).reshape(channels * multiplier, 1, *window))
    window, groups = kernel_of(node, x, w, rank, depthwise=True)
    strides, dilations = _window(node, rank)
    pads = _pads(node, x.shape[1:-1], window, strides, dilations)
    return convolved(node, x, w, bias, strides, pads, dilations, groups)


@keras_layer("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_conv(node: LayerContext) -> Value:
    rank = _spatial(node)
    kernel, *bias = node.saved("depthwise_kernel", *node.biased())
    b = node.weight("bias", bias[0]) if bias else None
    return _finished(node, _depthwise(node, node.ranked(rank + 2), kernel, b, rank))


@keras_layer("SeparableConv1D", "SeparableConv2D")
def separable_conv(node: LayerContext) -> Value:
    """A depthwise convolution, then one of window 1."""
    rank = _spatial(node)
    depth, point, *bias = node.saved("depthwise_kernel", "pointwise_kernel", *node.biased())
    x = _depthwise(node, node.ranked(rank + 2), depth, None, rank)
    w = node.weight("pointwise_kernel", _first(_checked(node, point, rank)))
    kernel_of(node, x, w, rank, depthwise=False)
    ones = (1,) * rank
    b = node.weight("bias", bias[0]) if bias else None
    return _finished(node, convolved(node, x, w, b, ones, (0,) * (2 * rank), ones, 1))


@keras_layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def conv_transpose(node: LayerContext) -> Value:
    """Kernel [kernel.., O, I]. The result has stride * size places, of ``valid`` padding more where the window is larger than the stride."""
    rank = _spatial(node)
    x = node.ranked(rank + 2)
    kernel, *bias = node.saved("kernel", *node.biased())
    w = node.weight("kernel", _first(_checked(node, kernel, rank)))
    strides, dilations = _window(node, rank)
    window = [dilation * (k - 1) + 1 for k, dilation in zip(kernel.shape[:rank], dilations, strict=True)]
    given = node.option("output_padding", None)
    extra = None if given is None else node.numbers("output_padding", rank)
    same = node.word("padding", "valid").lower() == "same"
    shape = []
    for k, size in enumerate(sh.static(x.shape[1:-1], node.where)):
        if extra is None:
            shape.append(size * strides[k] if same else size * strides[k] + max(window[k] - strides[k], 0))
        else:
            shape.append((size - 1) * strides[k] + window[k] - (2 * (window[k] // 2) if same else 0) + extra[k])
    if extra is not None and same:
        pads = tuple(2 * [w // 2 for w in window])
    else:
        pads = _pads(node, shape, kernel.shape[:rank], strides, dilations)
    b = node.weight("bias", bias[0]) if bias else None
    return _finished(node, transposed(node, x, w, b, shape, strides, pads, dilations))


# ---- pools


@keras_layer("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D")
def pool(node: LayerContext) -> Value:
    """Averages do not count padding."""
    rank = _spatial(node)
    x = node.ranked(rank + 2)
    kernel = positive(node, node.numbers("pool_size", rank, 2))
    strides = kernel if node.option("strides", None) is None else positive(node, node.numbers("strides", rank))
    pads = _pads(node, x.shape[1:-1], kernel, strides, (1,) * rank)
    return node.back(pooled(node, MaxPool if node.op.startswith("Max") else AveragePool, x, kernel, strides, pads))


@keras_layer(
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
)  # fmt: skip
def global_pool(node: LayerContext) -> Value:
    rank = _spatial(node)
    x, first = node.floats(), 1 if node.channels_are_last else 2
    if x.type.rank != rank + 2:
        raise node.malformed("its operand has another rank", got=x.type, expected=rank + 2)
    return node.step(Reduce("max" if "Max" in node.op else "mean", tuple(range(first, first + rank)), node.flag("keepdims")), x)


# ---- padding, cutting, resizing


def _around(node: LayerContext, name: str, rank: int) -> tuple[list[int], list[int]]:
    """Numbers before and after the spatial axes."""
    pairs = node.pairs(name, rank)
    return [p[0] for p in pairs], [p[1] for p in pairs]


@keras_layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(node: LayerContext) -> Value:
    rank = _spatial(node)
    x = node.ranked(rank + 2)
    before, after = _around(node, "padding", rank)
    return node.back(node.step(Pad((0, *before, 0, 0, *after, 0)), x))


@keras_layer("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(node: LayerContext) -> Value:
    rank = _spatial(node)
    x = node.ranked(rank + 2)
    before, after = _around(node, "cropping", rank)
    cuts = [(1 + k, b, sh.sub(x.shape[1 + k], a), 1) for k, (b, a) in enumerate(zip(before, after, strict=True))]
    for axis, start, stop, _ in cuts:
        if isinstance(stop, int) and stop <= start:
            raise node.malformed("nothing is left of an axis", got=x.type, expected=f"more than {x.shape[axis]}")
    return node.back(slices.cut(node, x, cuts))


@keras_layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(node: LayerContext) -> Value:
    """Every element repeated; in two axes also bilinear."""
    rank = _spatial(node)
    x = node.ranked(rank + 2)
    times = positive(node, node.numbers("size", rank, 2))
    mode = node.word("interpolation", "nearest")
    if mode == "bilinear" and rank == 2:
        sizes = [sh.mul(d, t) for d, t in zip(x.shape[1:3], times, strict=True)]
        return node.back(blocks.resized(node, x, sizes, True, False, True))
    if mode != "nearest":
        raise node.unsupported("this interpolation is not supported", got=mode, expected="nearest, or bilinear in two axes")
    split, wide, whole = [x.shape[0]], [x.shape[0]], [x.shape[0]]
    for size, t in zip(x.shape[1:-1], times, strict=True):
        split, wide, whole = [*split, size, 1], [*wide, size, t], [*whole, sh.mul(size, t)]
    channels = x.shape[-1]
    repeated = node.step(Expand((*wide, channels)), node.reshape(x, (*split, channels)))
    return node.back(node.reshape(repeated, (*whole, channels)))


@keras_layer("Resizing")
def resizing(node: LayerContext) -> Value:
    """Bilinear or nearest with half pixels; what crops or pads to keep the ratio is not read."""
    if any(node.option(name, False) for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias")):
        raise node.unsupported("resizing that keeps the ratio or widens its window is not supported")
    mode = node.word("interpolation", "bilinear").lower()
    if mode not in ("bilinear", "nearest"):
        raise node.unsupported("this interpolation is not supported", got=mode, expected="bilinear or nearest")
    sizes = [node.whole("height"), node.whole("width")]
    return node.back(blocks.resized(node, node.ranked(4), sizes, mode == "bilinear", False, True))


@keras_layer("CenterCrop")
def center_crop(node: LayerContext) -> Value:
    """The middle; a larger size than there is is not read."""
    x = node.ranked(4)
    wanted = (node.whole("height"), node.whole("width"))
    have = sh.static(x.shape[1:3], node.where)
    if any(w > h or w < 1 for w, h in zip(wanted, have, strict=True)):
        raise node.unsupported("a crop larger than x is not supported", got=x.type, expected=f"at least {wanted}")
    starts = [int((h - w) / 2) for w, h in zip(wanted, have, strict=True)]
    return node.back(slices.cut(node, x, [(1 + k, s, s + w, 1) for k, (s, w) in enumerate(zip(starts, wanted, strict=True))]))
