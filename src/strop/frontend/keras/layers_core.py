"""Keras's layers without windows or state: products, activations, merging, shapes, normalization."""

from __future__ import annotations

from functools import partial

import numpy as np

from strop.frontend.keras import activations
from strop.frontend.keras.context import LayerContext
from strop.frontend.keras.registry import keras_layer
from strop.frontend.tensorflow import slices
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops.data import Concat, Tile
from strop.ops.index import Gather
from strop.ops.matmul import MatMul
from strop.ops.norm import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from strop.ops.reduce import Reduce

# ---- products and lookups


def product(node: LayerContext, x: Value, w: Value) -> Value:
    """x [.., I] times w [I, O]; the leading axes of x become rows."""
    if x.type.rank == 2:
        return node.step(MatMul(), x, w)
    depth, width = sh.static(w.shape, node.where)
    rows = node.reshape(x, (sh.volume(x.shape[:-1]), depth))
    return node.reshape(node.step(MatMul(), rows, w), (*x.shape[:-1], width))


@keras_layer("Dense")
def dense(node: LayerContext) -> Value:
    """Kernel [I, O]."""
    x = node.floats()
    kernel, *bias = node.saved("kernel", *node.biased())
    if kernel.ndim != 2 or x.type.rank < 1 or x.shape[-1] != kernel.shape[0]:
        raise node.malformed("the weights do not fit", got=f"{x.type}, {list(kernel.shape)}")
    x = node.reshape(x, (1, *x.shape)) if x.type.rank == 1 else x
    found = product(node, x, node.weight("kernel", kernel))
    found = node.apply("add", found, node.weight("bias", bias[0])) if bias else found
    return activations.activated(node, found, node.option("activation", None))


@keras_layer("Embedding")
def embedding(node: LayerContext) -> Value:
    """Rows by number. Masks are not passed on, so a layer that makes one is refused."""
    if node.flag("mask_zero"):
        raise node.unsupported("masks are not supported", got="mask_zero", hint="build it with mask_zero=False")
    (table,) = node.saved("embeddings")
    at = node.stored(0)
    at = at if at.dtype in (dt.i32, dt.i64) else node.cast(at, dt.i32)
    return node.step(Gather(0), node.weight("embeddings", table), at)


# ---- activations


@keras_layer("Activation")
def activation(node: LayerContext) -> Value:
    return activations.activated(node, node.floats(), node.option("activation"))


@keras_layer("ReLU")
def relu(node: LayerContext) -> Value:
    return activations.rectified(node, node.floats(), node.config)


@keras_layer("LeakyReLU")
def leaky_relu(node: LayerContext) -> Value:
    return activations.leaky(node, node.floats(), node.config)


@keras_layer("ELU")
def elu(node: LayerContext) -> Value:
    return activations.exponential_unit(node, node.floats(), node.config)


@keras_layer("ThresholdedReLU")
def thresholded_relu(node: LayerContext) -> Value:
    return activations.thresholded(node, node.floats(), node.config)


@keras_layer("Softmax")
def softmax(node: LayerContext) -> Value:
    if len(node) > 1 or node.extra.get("mask") is not None:
        raise node.unsupported("masks are not supported")
    return activations.softmax(node, node.floats(), node.config)


@keras_layer("PReLU")
def prelu(node: LayerContext) -> Value:
    """The slope has x's shape without the batch; axes that share it have size 1."""
    (alpha,) = node.saved("alpha")
    return node.apply("prelu", node.floats(), node.weight("alpha", alpha))


# ---- what does nothing in inference


@keras_layer(
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization",
    "Identity", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast", "RandomBrightness",
)  # fmt: skip
def unchanged(node: LayerContext) -> Value:
    """Only training changes anything."""
    return node.stored(0)


# ---- merging


def _merged(node: LayerContext, fn: str) -> Value:
    found = node.stored(0)
    if len(node) < 2:
        raise node.malformed("there is nothing to merge", got=len(node), expected="two operands or more")
    for k in range(1, len(node)):
        other = node.stored(k)
        found = node.apply(fn, *_aligned(node, found, other))
    return found


def _aligned(node: LayerContext, a: Value, b: Value) -> tuple[Value, Value]:
    """Operands of other ranks get axes of size 1 behind the batch."""
    while 0 < a.type.rank < b.type.rank:
        a = node.reshape(a, (a.shape[0], 1, *a.shape[1:]))
    while 0 < b.type.rank < a.type.rank:
        b = node.reshape(b, (b.shape[0], 1, *b.shape[1:]))
    return a, b


for _name, _fn in (("Add", "add"), ("Subtract", "sub"), ("Multiply", "mul"), ("Maximum", "max"), ("Minimum", "min"), ("TrueDivide", "div"), ("Divide", "div")):
    keras_layer(_name)(partial(_merged, fn=_fn))


@keras_layer("Average")
def average(node: LayerContext) -> Value:
    total = _merged(node, "add")
    return node.apply("mul", total, node.like(1 / len(node), total))


@keras_layer("Concatenate")
def concatenate(node: LayerContext) -> Value:
    parts = [node.stored(k) for k in range(len(node))]
    if not parts:
        raise node.malformed("there is nothing to join")
    axis = node.axis(node.whole("axis", -1), parts[0].type.rank)
    return node.step(Concat(axis), *parts) if len(parts) > 1 else parts[0]


@keras_layer("Dot")
def dot(node: LayerContext) -> Value:
    """The products over one axis of each operand; with ``normalize`` of rows of length 1."""
    x, y = node.floats(0), node.floats(1)
    axes = node.numbers("axes", 2)
    if x.type.rank != y.type.rank or x.type.rank not in (2, 3):
        raise node.unsupported("operands of these ranks are not supported", got=f"{x.type}, {y.type}", expected="both of rank 2 or 3")
    a, b = (node.axis(axis, x.type.rank) for axis in axes)
    if a == 0 or b == 0:
        raise node.malformed("the batch is no axis of it", got=axes)
    if node.flag("normalize"):
        x, y = (_unit(node, v, axis) for v, axis in ((x, a), (y, b)))
    if x.type.rank == 2:
        return node.step(Reduce("sum", (1,), True), node.apply("mul", x, y))
    return node.step(MatMul(a == 1, b == 2), x, y)


def _unit(node: LayerContext, x: Value, axis: int) -> Value:
    """x with rows of length 1 along an axis."""
    squares = node.step(Reduce("sum", (axis,), True), node.apply("square", x))
    return node.apply("mul", x, node.apply("rsqrt", node.apply("max", squares, node.like(1e-12, x))))


@keras_layer("TFOpLambda")
def operator(node: LayerContext) -> Value:
    """An operation of two operands on tensors, as Keras 2 writes it: by name, without code."""
    name = node.word("function")
    fn = _OPERATORS.get(name)
    if fn is None:
        raise node.unsupported("this function is not supported", got=name, expected=", ".join(sorted(_OPERATORS)))
    x, y = node.stored(0), node.extra.get("y", node.extra.get("x"))
    if isinstance(y, (int, float)) and not isinstance(y, bool):
        y = node.like(y, x)
    if not isinstance(y, Value):
        raise node.malformed("the second operand is missing")
    return node.apply(fn, x, y)


_OPERATORS = {
    "__operators__.add": "add", "math.add": "add", "math.subtract": "sub", "math.multiply": "mul", "math.truediv": "div", "math.divide": "div",
    "math.maximum": "max", "math.minimum": "min",
}  # fmt: skip


@keras_layer("GetItem")
def get_item(node: LayerContext) -> Value:
    """x at an index as numpy writes it."""
    key = list(node.operands[1:])
    index = key[0] if len(key) == 1 and isinstance(key[0], list) else key
    if not all(i is None or isinstance(i, (slice, int)) for i in index):
        raise node.unsupported("this index is not supported", got=repr(index)[:80], expected="numbers and slices")
    return slices.indexed(node, node.stored(0), index)


# ---- shapes


@keras_layer("Flatten")
def flatten(node: LayerContext) -> Value:
    x = node.stored(0)
    if x.type.rank == 1:
        return node.reshape(x, (*x.shape, 1))
    x = x if node.channels_are_last or x.type.rank < 3 else node.channels_last(x)
    return node.reshape(x, (x.shape[0], sh.volume(x.shape[1:])))


@keras_layer("Reshape")
def reshape(node: LayerContext) -> Value:
    x, wanted = node.stored(0), node.option("target_shape")
    if not isinstance(wanted, list) or not all(isinstance(d, int) or d is None for d in wanted):
        raise node.malformed("target_shape does not fit", got=repr(wanted)[:80])
    return node.reshape(x, (x.shape[0], *slices.resolved(node, x.shape[1:], [-1 if d is None else d for d in wanted])))


@keras_layer("Permute")
def permute(node: LayerContext) -> Value:
    x = node.stored(0)
    return node.turned(x, (0, *node.numbers("dims", x.type.rank - 1)))


@keras_layer("RepeatVector")
def repeat_vector(node: LayerContext) -> Value:
    x, times = node.stored(0), node.whole("n")
    if x.type.rank != 2 or times < 1:
        raise node.malformed("x is a vector per sample, n positive", got=f"{x.type}, {times}")
    return node.step(Tile((1, times, 1)), node.reshape(x, (x.shape[0], 1, x.shape[1])))


# ---- normalization


def _axes(node: LayerContext, rank: int) -> list[int]:
    given = node.option("axis", -1)
    found = [given] if isinstance(given, int) else given
    if not isinstance(found, list) or not all(isinstance(a, int) for a in found):
        raise node.malformed("axis does not fit", got=repr(given)[:80])
    return sorted({node.axis(a, rank) for a in found})


@keras_layer("BatchNormalization")
def batch_normalization(node: LayerContext) -> Value:
    """With the moving mean and variance."""
    x = node.floats()
    axes = _axes(node, x.type.rank)
    if len(axes) != 1:
        raise node.unsupported("normalization over several axes is not supported", got=axes)
    scaled, centered = node.flag("scale", True), node.flag("center", True)
    names = [*(["gamma"] if scaled else []), *(["beta"] if centered else []), "moving_mean", "moving_variance"]
    held = dict(zip(names, node.saved(*names), strict=True))
    size = held["moving_mean"].shape
    held.setdefault("gamma", np.ones(size, np.float32))
    held.setdefault("beta", np.zeros(size, np.float32))
    parts = [node.weight(name, held[name]) for name in ("gamma", "beta", "moving_mean", "moving_variance")]
    axis = axes[0]
    order = (0, axis, *(k for k in range(1, x.type.rank) if k != axis))
    if axis == 0:
        raise node.unsupported("normalization over the batch is not supported", got=axes)
    found = node.step(BatchNorm(node.number("epsilon", 1e-3)), node.turned(x, order), *parts)
    return node.turned(found, [order.index(k) for k in range(x.type.rank)])


@keras_layer("LayerNormalization", "RMSNormalization")
def layer_normalization(node: LayerContext) -> Value:
    """Over the last axes."""
    x = node.floats()
    axes, rank = _axes(node, x.type.rank), x.type.rank
    if axes != list(range(axes[0], rank)):
        raise node.unsupported("normalization over other axes than the last ones is not supported", got=axes)
    root = node.op == "RMSNormalization"
    scaled, centered = root or (node.flag("scale", True) and not node.flag("rms_scaling")), not root and node.flag("center", True)
    if not root and node.flag("rms_scaling"):
        raise node.unsupported("rms_scaling is not supported", hint="use RMSNormalization")
    names = [*(["gamma"] if scaled else []), *(["beta"] if centered else [])]
    held = dict(zip(names, node.saved(*names), strict=True))
    shape = sh.static(x.shape[axes[0] :], node.where)
    gamma = node.weight("gamma", held.get("gamma", np.ones(shape, np.float32)).reshape(shape))
    if root:
        return node.step(RMSNorm(axes[0], node.number("epsilon", 1e-6)), x, gamma)
    beta = node.weight("beta", held.get("beta", np.zeros(shape, np.float32)).reshape(shape))
    return node.step(LayerNorm(axes[0], node.number("epsilon", 1e-3)), x, gamma, beta)


@keras_layer("GroupNormalization")
def group_normalization(node: LayerContext) -> Value:
    """Channels along one axis, in groups; -1 groups are as many as channels."""
    x = node.floats()
    axes = _axes(node, x.type.rank)
    if len(axes) != 1 or axes[0] not in (1, x.type.rank - 1):
        raise node.unsupported("normalization over these axes is not supported", got=axes)
    order = (0, axes[0], *(k for k in range(1, x.type.rank) if k != axes[0]))
    names = [*(["gamma"] if node.flag("scale", True) else []), *(["beta"] if node.flag("center", True) else [])]
    held = dict(zip(names, node.saved(*names), strict=True))
    (size,) = sh.static(x.shape[axes[0] : axes[0] + 1], node.where)
    gamma, beta = held.get("gamma", np.ones(size, np.float32)), held.get("beta", np.zeros(size, np.float32))
    groups = node.whole("groups", 32)
    op = GroupNorm(size if groups == -1 else groups, node.number("epsilon", 1e-3))
    found = node.step(op, node.turned(x, order), node.weight("gamma", gamma), node.weight("beta", beta))
    return node.turned(found, [order.index(k) for k in range(x.type.rank)])


@keras_layer("UnitNormalization")
def unit_normalization(node: LayerContext) -> Value:
    x = node.floats()
    axes = _axes(node, x.type.rank)
    squares = node.step(Reduce("sum", tuple(axes), True), node.apply("square", x))
    return node.apply("mul", x, node.apply("rsqrt", node.apply("max", squares, node.like(1e-12, x))))


@keras_layer("Rescaling")
def rescaling(node: LayerContext) -> Value:
    """x * scale + offset; numbers, or one per channel."""
    x = node.floats()
    scale, offset = (np.asarray(node.option(name, default), np.float32) for name, default in (("scale", 1.0), ("offset", 0.0)))
    return node.apply("add", node.apply("mul", x, node.weight("scale", scale)), node.weight("offset", offset))


@keras_layer("Normalization")
def normalization(node: LayerContext) -> Value:
    """(x - mean) / max(root of variance, 1e-7), of the configuration or as adapted; ``invert`` goes back."""
    x = node.floats()
    given = [node.option(name, None) for name in ("mean", "variance")]
    if None in given:
        arrays = node.weights.arrays()
        if len(arrays) not in (2, 3):
            raise node.malformed("the file has another number of weights for it", got=len(arrays), expected="mean, variance, count")
        given = arrays[:2]
    mean, variance = (np.asarray(g, np.float32) for g in given)
    axes = [] if node.option("axis", -1) is None else _axes(node, x.type.rank)
    shape = [sh.static((d,), node.where)[0] if k in axes else 1 for k, d in enumerate(x.shape)]
    if mean.size != int(np.prod(shape)) and mean.size != 1:
        raise node.malformed("mean and variance do not fit", got=list(mean.shape), expected=shape)
    mean, deviation = (v.reshape(shape if v.size > 1 else [1] * len(shape)) for v in (mean, np.maximum(np.sqrt(variance), np.float32(1e-7))))
    m, d = node.weight("mean", mean), node.weight("deviation", deviation)
    if node.flag("invert"):
        return node.apply("add", node.apply("mul", x, d), m)
    return node.apply("div", node.apply("sub", x, m), d)


