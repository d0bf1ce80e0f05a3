"""What each op is in ONNX, opset 21: one function per op, the counterpart of its import function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from strop.frontend.onnx.emission import OPSET, NodeWriter, element_number
from strop.frontend.onnx.ops_math import PARAM_ROWS, ROWS
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.op import Op
from strop.ir.shape import Dim
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.cumulative import CumSum
from strop.ops.data import Concat, Expand, Identity, Pad, Reshape, Slice, Split, Tile, Transpose
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.index import Gather, GatherElements, GatherND, OneHot, TopK, Trilu
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.mixed import MixedMatMul
from strop.ops.norm import LRN, BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from strop.ops.pool import AveragePool, MaxPool, MaxPoolIndices
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.recurrent import GRU, LSTM, RNN
from strop.ops.reduce import ArgReduce, Reduce
from strop.ops.resize import Resize
from strop.ops.roi import MaxRoiPool, RoiAlign
from strop.ops.sampling import GridSample
from strop.ops.scatter import ScatterElements, ScatterND
from strop.ops.select import NonMaxSuppression, NonZero, Unique
from strop.ops.sizes import Iota, ReadSizes, Sizes
from strop.ops.softmax import LogSoftmax, Softmax

Handler = Callable[[NodeWriter], object]
WRITERS: dict[type[Op], Handler] = {}


def writes(*ops: type[Op]) -> Callable[[Handler], Handler]:
    """Registers the function that writes nodes of these ops."""

    def register(function: Handler) -> Handler:
        WRITERS.update(dict.fromkeys(ops, function))
        return function

    return register


# ---- elementwise

#: Op type by function; where it has attributes, by what param each is.
_PLAIN = {fn: op for op, fn, since in ROWS if since <= OPSET and "." not in op} | {"max": "Max", "min": "Min", "pow": "Pow"}
_PARAMS = {fn: (op, params) for op, fn, since, params in PARAM_ROWS if since <= OPSET and "." not in op}
_OTHERS = ("mod", "fmod", "gelu", "gelu_tanh", "clip", "isinf", "shl", "shr")


def direct(op: Op, operands: Sequence[Value]) -> bool:
    """Whether there is an operator for an elementwise function; others are taken apart (``strop.export.expand``). Resizing always has one."""
    if not isinstance(op, Elementwise):
        return True
    if op.fn in ("shl", "shr"):
        return operands[0].dtype.name.startswith("u")
    if op.fn in _PARAMS and operands[0].dtype is dt.f64:  # attributes are f32
        return all(float(np.float32(p)) == p for p in op.param.values())
    return op.fn in _PLAIN or op.fn in _PARAMS or op.fn in _OTHERS


@writes(Elementwise)
def _elementwise(w: NodeWriter) -> None:
    op = w.op
    params: dict[str, float] = op.param
    if not direct(op, w.node.operands):
        raise w.refused("there is no operator for this function over these types", got=", ".join(str(v.dtype) for v in w.node.operands))
    if op.fn in _PLAIN:
        w.emit(_PLAIN[op.fn], w.operands)
    elif op.fn in _PARAMS:
        name, pairs = _PARAMS[op.fn]
        attributes: dict[str, Any] = {attribute: float(params[param]) for attribute, param, _ in pairs}
        w.emit(name, w.operands, **attributes)
    elif op.fn in ("mod", "fmod"):
        if op.fn == "mod" and w.value(0).dtype.is_float:  # Mod of floats is C's fmod
            a, b = w.operands
            whole = w.emit("Floor", [w.emit("Div", [a, b], [w.temporary()])], [w.temporary()])
            w.emit("Sub", [a, w.emit("Mul", [b, whole], [w.temporary()])])
        else:
            w.emit("Mod", w.operands, fmod=int(op.fn == "fmod"))
    elif op.fn in ("gelu", "gelu_tanh"):
        w.emit("Gelu", w.operands, approximate="tanh" if op.fn == "gelu_tanh" else "none")
    elif op.fn == "clip":
        kind = w.value(0).dtype.numpy
        bounds = ["" if np.isinf(params[k]) else w.const(np.asarray(params[k]).astype(kind), k) for k in ("lo", "hi")]
        w.emit("Clip", [w.operand(0), *bounds])
    elif op.fn in ("shl", "shr"):
        w.emit("BitShift", w.operands, direction="LEFT" if op.fn == "shl" else "RIGHT")
    else:
        w.emit("IsInf", w.operands)


@writes(Cast)
def _cast(w: NodeWriter) -> None:
    w.emit("Cast", w.operands, to=element_number(w.op.to))


# ---- products and pools


def _window(op: Op) -> dict[str, Any]:
    return {key: list(getattr(op, key)) for key in ("strides", "pads", "dilations")}


def _around(w: NodeWriter, emit: Callable[[str, list[str] | None], str]) -> None:
    """Emits what knows channels first, between transpositions where the op has them last."""
    if getattr(w.op, "layout", "NCHW") == "NCHW":
        emit(w.operand(0), None)
        return
    rank = w.value(0).type.rank
    first = w.turned(w.operand(0), (0, rank - 1, *range(1, rank - 1)))
    w.emit("Transpose", [emit(first, [w.temporary()])], perm=[0, *range(2, rank), 1])


@writes(Conv)
def _conv(w: NodeWriter) -> None:
    if not w.value(0).dtype.is_float:
        raise w.refused("convolutions of integers without zero points are not supported", got=w.value(0).type)
    _around(w, lambda x, to: w.emit("Conv", [x, *w.operands[1:]], to, group=w.op.groups, **_window(w.op)))


@writes(IntegerConv)
def _integer_conv(w: NodeWriter) -> None:
    zeros = [_zero(w, k, 1) for k in (2, 3)]
    _around(w, lambda x, to: w.emit("ConvInteger", [x, w.operand(1), *zeros], to, group=w.op.groups, **_window(w.op)))


def _zero(w: NodeWriter, index: int, axes: int) -> str:
    """A zero point as a scalar or a vector; UnsupportedError where it varies along more than one axis."""
    if not w.node.has(index) or w.value(index).shape == (0,):
        return ""
    value = w.value(index)
    if value.const is None or sum(d != 1 for d in value.shape) > axes:
        raise w.refused("computed zero points, or those along several axes, are not supported", got=value.type)
    return w.const(value.const.reshape(() if value.const.size == 1 else (-1,)), "zero")


@writes(IntegerMatMul)
def _integer_matmul(w: NodeWriter) -> None:
    a, b = _factors(w)
    if w.op.transpose_a or w.op.transpose_b or any(w.node.has(k) and w.value(k).type.rank and w.value(k).shape[-1] != 1 and k == 2 for k in (2, 3)):
        raise w.refused("turned factors and zero points along the depth are not supported", got=w.node)
    w.emit("MatMulInteger", [a, b, _zero(w, 2, 1), _zero(w, 3, 1)])


@writes(ConvTranspose)
def _conv_transpose(w: NodeWriter) -> None:
    w.emit("ConvTranspose", w.operands, group=w.op.groups, output_padding=list(w.op.output_padding), **_window(w.op))


@writes(MaxPool, AveragePool)
def _pool(w: NodeWriter) -> None:
    op = w.op
    counts = int(op.count_include_pad) if isinstance(op, AveragePool) else None
    name = "MaxPool" if isinstance(op, MaxPool) else "AveragePool"
    w.emit(name, w.operands, kernel_shape=list(op.kernel), ceil_mode=int(op.ceil_mode), count_include_pad=counts, **_window(op))


@writes(MaxPoolIndices)
def _max_pool_indices(w: NodeWriter) -> None:
    op = w.op
    ends = [w.temporary(), *w.results]
    w.emit("MaxPool", w.operands, ends, kernel_shape=list(op.kernel), ceil_mode=int(op.ceil_mode), storage_order=int(op.column_major), **_window(op))


def _factors(w: NodeWriter) -> list[str]:
    """The operands of a product as it multiplies them; constants are turned at once."""
    found = []
    for index, turned in ((0, w.op.transpose_a), (1, w.op.transpose_b)):
        value = w.value(index)
        if not turned:
            found.append(w.operand(index))
        elif value.const is not None:
            found.append(w.const(np.ascontiguousarray(np.swapaxes(value.const, -1, -2)), "turned"))
        else:
            rank = value.type.rank
            found.append(w.turned(w.operand(index), (*range(rank - 2), rank - 1, rank - 2)))
    return found


@writes(MatMul)
def _matmul(w: NodeWriter) -> None:
    w.emit("MatMul", _factors(w))


@writes(MixedMatMul)
def _mixed_matmul(w: NodeWriter) -> None:
    """The weights stay integers in the file, but those with a scale per group, which are written as the floats that they stand for."""
    if w.op.group:
        known = [v.const for v in w.node.operands[1:]]
        if any(array is None for array in known):
            raise w.refused("weights in groups that only a run knows cannot be written", got=w.node)
        real = w.op.real(*known)
        w.emit("MatMul", [w.operand(0), w.const(real.T if w.op.transpose_b else real, "weights")])
        return
    weights = w.emit("Cast", [w.operand(1)], [w.temporary()], to=element_number(dt.f32))
    w.emit("MatMul", [w.operand(0), w.turned(weights, (1, 0)) if w.op.transpose_b else weights])


# ---- reductions, normalizations

_KINDS = {
    "sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd", "l1": "ReduceL1", "l2": "ReduceL2",
    "sumsq": "ReduceSumSquare", "logsum": "ReduceLogSum", "logsumexp": "ReduceLogSumExp",
}  # fmt: skip


@writes(Reduce)
def _reduce(w: NodeWriter) -> None:
    op = w.op
    w.emit(_KINDS[op.kind], [w.operand(0), w.ints(op.axes, "axes")], keepdims=int(op.keepdims), noop_with_empty_axes=0 if op.axes else 1)


@writes(ArgReduce)
def _arg_reduce(w: NodeWriter) -> None:
    op = w.op
    w.emit("ArgMax" if op.kind == "max" else "ArgMin", w.operands, axis=op.axis, keepdims=int(op.keepdims), select_last_index=int(op.last))


@writes(Softmax, LogSoftmax)
def _softmax(w: NodeWriter) -> None:
    w.emit("Softmax" if isinstance(w.op, Softmax) else "LogSoftmax", w.operands, axis=w.op.axis)


@writes(BatchNorm, InstanceNorm)
def _batch_norm(w: NodeWriter) -> None:
    w.emit("BatchNormalization" if isinstance(w.op, BatchNorm) else "InstanceNormalization", w.operands, epsilon=w.op.epsilon)


@writes(GroupNorm)
def _group_norm(w: NodeWriter) -> None:
    w.emit("GroupNormalization", w.operands, epsilon=w.op.epsilon, num_groups=w.op.groups)


@writes(LayerNorm)
def _layer_norm(w: NodeWriter) -> None:
    """Scale and bias have the shape of the normalized axes."""
    op, x = w.op, w.value(0)
    wanted = x.shape[op.axis % x.type.rank :]
    given = [w.operand(0)]
    for index in range(1, len(w.node.inputs)):
        value = w.value(index)
        if value.shape == wanted:
            given.append(w.operand(index))
        else:
            given.append(w.emit("Expand", [w.operand(index), w.vector(wanted, "shape")], [w.temporary()]))
    w.emit("LayerNormalization", given, axis=op.axis, epsilon=op.epsilon)


@writes(LRN)
def _lrn(w: NodeWriter) -> None:
    op = w.op
    w.emit("LRN", w.operands, size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)


# ---- what moves elements


@writes(Identity)
def _identity(w: NodeWriter) -> None:
    w.emit("Identity", w.operands)


@writes(Reshape)
def _reshape(w: NodeWriter) -> None:
    """One free size is what is left, more are computed."""
    shape = w.op.shape
    free = [d for d in shape if not isinstance(d, int)]
    if len(free) == 1 and 0 not in shape:
        w.emit("Reshape", [w.operand(0), w.ints([d if isinstance(d, int) else -1 for d in shape], "shape")])
    else:
        w.emit("Reshape", [w.operand(0), w.vector(shape, "shape")], allowzero=1)


@writes(Transpose)
def _transpose(w: NodeWriter) -> None:
    w.emit("Transpose", w.operands, perm=list(w.op.perm))


@writes(Concat)
def _concat(w: NodeWriter) -> None:
    w.emit("Concat", w.operands, axis=w.op.axis)


@writes(Split)
def _split(w: NodeWriter) -> None:
    w.emit("Split", [w.operand(0), w.vector(w.op.sizes, "sizes")], axis=w.op.axis)


@writes(Slice)
def _slice(w: NodeWriter) -> None:
    """A walk to the front that ends before element 0 has the least number as its end."""
    op = w.op
    stops = [-(1 << 62) if step < 0 and stop == -1 else stop for stop, step in zip(op.stops, op.steps, strict=True)]
    w.emit("Slice", [w.operand(0), w.vector(op.starts, "starts"), w.vector(stops, "ends"), w.ints(op.axes, "axes"), w.ints(op.steps, "steps")])


@writes(Pad)
def _pad(w: NodeWriter) -> None:
    op = w.op
    value = w.const(np.asarray(op.value).astype(w.value(0).dtype.numpy), "value") if op.mode == "constant" else ""
    w.emit("Pad", [w.operand(0), w.ints(op.pads, "pads"), value], mode=op.mode)


@writes(Expand)
def _expand(w: NodeWriter) -> None:
    w.emit("Expand", [w.operand(0), w.vector(w.op.shape, "shape")])


@writes(Tile)
def _tile(w: NodeWriter) -> None:
    w.emit("Tile", [w.operand(0), w.vector(w.op.repeats, "repeats")])


@writes(Resize)
def _resize(w: NodeWriter) -> None:
    """By sizes where the factors are their ratios, else by factors."""
    op, x = w.op, w.value(0)
    roi = w.const(np.asarray(op.roi, np.float32), "roi") if op.roi else ""
    pairs = list(zip(x.shape, op.sizes, op.scales, strict=True))
    spans = [end - start for start, end in zip(op.roi[: len(pairs)], op.roi[len(pairs) :], strict=True)] or [1.0] * len(pairs)
    by_sizes = all(isinstance(d, int) and isinstance(size, int) and abs(s * d - size) < 1e-3 for d, size, s in pairs) and not op.roi
    by_scales = all(_scaled(d, s * span) == size for (d, size, s), span in zip(pairs, spans, strict=True))
    if not (by_sizes or by_scales):
        raise w.refused("factors that do not lead to the sizes cannot be written", got=f"{x.type} by {op.scales} to {sh.show(op.sizes)}")
    attributes = {
        "mode": op.mode, "coordinate_transformation_mode": op.coordinates, "nearest_mode": op.nearest, "cubic_coeff_a": op.cubic_a,
        "exclude_outside": int(op.exclude_outside), "extrapolation_value": op.extrapolation, "antialias": int(op.antialias),
    }  # fmt: skip
    if by_sizes:
        w.emit("Resize", [w.operand(0), roi, "", w.vector(op.sizes, "sizes")], **attributes)
    else:
        w.emit("Resize", [w.operand(0), roi, w.const(np.asarray(op.scales, np.float32), "scales")], **attributes)


def _scaled(size: Dim, factor: float) -> Dim | None:
    """floor(size * factor); of a free size only where the factor is a whole number or one over one."""
    if isinstance(size, int):
        return int(np.floor(np.float32(size) * np.float32(factor)))
    if factor >= 1:
        return sh.mul(size, round(factor)) if factor == round(factor) else None
    return sh.floordiv(size, round(1 / factor)) if abs(1 / factor - round(1 / factor)) < 1e-9 else None


# ---- by index


@writes(Gather, GatherElements)
def _gather(w: NodeWriter) -> None:
    w.emit("Gather" if isinstance(w.op, Gather) else "GatherElements", w.operands, axis=w.op.axis)


@writes(GatherND)
def _gather_nd(w: NodeWriter) -> None:
    indices = w.operand(1)
    if w.value(1).dtype is not dt.i64:
        indices = w.emit("Cast", [indices], [w.temporary()], to=element_number(dt.i64))
    w.emit("GatherND", [w.operand(0), indices], batch_dims=w.op.batch_dims)


@writes(OneHot)
def _one_hot(w: NodeWriter) -> None:
    w.emit("OneHot", [w.operand(0), w.vector((w.op.depth,), "depth"), w.operand(1)], axis=w.op.axis)


@writes(TopK)
def _top_k(w: NodeWriter) -> None:
    w.emit("TopK", [w.operand(0), w.vector((w.op.k,), "k")], axis=w.op.axis, largest=int(w.op.largest))


@writes(Trilu)
def _trilu(w: NodeWriter) -> None:
    w.emit("Trilu", [w.operand(0), w.const(np.asarray(w.op.k, np.int64), "k")], upper=int(w.op.upper))


@writes(CumSum)
def _cumsum(w: NodeWriter) -> None:
    axis = w.const(np.asarray(w.op.axis, np.int64), "axis")
    w.emit("CumSum", [w.operand(0), axis], exclusive=int(w.op.exclusive), reverse=int(w.op.reverse))


@writes(ScatterND, ScatterElements)
def _scatter(w: NodeWriter) -> None:
    op, (x, indices, updates) = w.op, w.operands
    if isinstance(op, ScatterElements):
        w.emit("ScatterElements", [x, indices, updates], axis=op.axis, reduction=op.reduction)
        return
    if w.value(1).dtype is not dt.i64:
        indices = w.emit("Cast", [indices], [w.temporary()], to=element_number(dt.i64))
    w.emit("ScatterND", [x, indices, updates], reduction=op.reduction)


def _count(w: NodeWriter, name: str, axis: int) -> None:
    """The last result: how many were found."""
    w.writing.sizes[w.op.count.name] = lambda: w.emit("Shape", [name], [w.temporary("count")], start=axis, end=axis + 1)
    if w.node.outputs[-1].uses or w.writing.graph.is_output(w.node.outputs[-1]):
        w.emit("Squeeze", [w.writing.size(w.op.count)], [w.results[-1]])


@writes(NonZero)
def _non_zero(w: NodeWriter) -> None:
    _count(w, w.emit("NonZero", w.operands, w.results[:1]), 1)


@writes(Unique)
def _unique(w: NodeWriter) -> None:
    _count(w, w.emit("Unique", w.operands, w.results[:4], axis=0, sorted=int(w.op.ordered)), 0)


@writes(NonMaxSuppression)
def _non_max_suppression(w: NodeWriter) -> None:
    _count(w, w.emit("NonMaxSuppression", w.operands, w.results[:1], center_point_box=int(w.op.center)), 0)


@writes(Sizes)
def _sizes(w: NodeWriter) -> None:
    if w.op.scalar:
        w.emit("Squeeze", [w.writing.size(w.op.dims[0])])
    else:
        w.emit("Identity", [w.vector(w.op.dims, "sizes")])


@writes(ReadSizes)
def _read_sizes(w: NodeWriter) -> None:
    given = w.operand(0)
    if w.value(0).dtype is not dt.i64:
        given = w.emit("Cast", [given], [w.temporary()], to=element_number(dt.i64))
    flat = w.emit("Reshape", [given, w.ints([-1], "flat")], [w.temporary()])
    for k, (dim, result) in enumerate(zip(w.op.sizes, w.results, strict=True)):
        one = w.emit("Gather", [flat, w.ints([k], "at")], [w.temporary()], axis=0)
        w.writing.made[dim] = one
        w.emit("Squeeze", [one], [result])


@writes(Iota)
def _iota(w: NodeWriter) -> None:
    zero, step = (w.const(np.asarray(n, np.int64), "number") for n in (0, 1))
    count = w.emit("Squeeze", [w.writing.size(w.op.count)], [w.temporary()])
    if w.op.dtype is dt.i64:
        w.emit("Range", [zero, count, step])
    else:
        w.emit("Cast", [w.emit("Range", [zero, count, step], [w.temporary()])], to=element_number(w.op.dtype))


# ---- integers that stand for real numbers


@writes(Quantize, Dequantize)
def _linear(w: NodeWriter) -> None:
    """Scales along one axis are a vector there."""
    op, x = w.op, w.value(0)
    quantizes = isinstance(op, Quantize)
    if quantizes and op.to is dt.i32:
        raise w.refused("ONNX quantizes to 8 and 16 bits only", got=op.to)
    if op.block:
        w.emit("QuantizeLinear" if quantizes else "DequantizeLinear", w.operands, axis=op.axis, block_size=op.block)
        return
    scale = w.value(1)
    wide = (1,) * (x.type.rank - scale.type.rank) + tuple(scale.shape)
    axes = [k for k, d in enumerate(wide) if d != 1]
    if len(axes) > 1:
        raise w.refused("scales along several axes are not supported", got=scale.type)
    shape = [wide[axes[0]]] if axes else []
    given = [w.operand(0), *(_reshaped(w, k, shape) for k in range(1, len(w.node.inputs)))]
    if quantizes and len(given) < 3:
        given.append(w.const(np.zeros(sh.static(tuple(shape)), op.to.numpy), "zero"))
    w.emit("QuantizeLinear" if quantizes else "DequantizeLinear", given, axis=axes[0] if axes else None)


def _reshaped(w: NodeWriter, index: int, shape: Sequence[object]) -> str:
    value = w.value(index)
    if list(value.shape) == list(shape):
        return w.operand(index)
    if value.const is not None:
        return w.const(value.const.reshape([-1] if shape else []), "param")
    return w.emit("Reshape", [w.operand(index), w.ints([-1] if shape else [], "shape")], [w.temporary()])


# ---- recurrent layers, regions, sampling

_FUNCTIONS = {
    "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "affine": "Affine", "leaky_relu": "LeakyRelu", "thresholded_relu": "ThresholdedRelu",
    "scaled_tanh": "ScaledTanh", "hard_sigmoid": "HardSigmoid", "elu": "Elu", "softsign": "Softsign", "softplus": "Softplus",
}  # fmt: skip


@writes(LSTM, GRU, RNN)
def _recurrent(w: NodeWriter) -> None:
    op = w.op
    clips_cell = isinstance(op, LSTM) and np.isfinite(op.cell_clip)
    if op.projected or clips_cell or any(name not in _FUNCTIONS for name, _, _ in op.activations):
        raise w.refused("this form has no counterpart in ONNX", got=op)
    used = [(n, a, b) for n, a, b in op.activations]
    parameters = [p for n, a, b in used for p in ((a, b) if n in ("affine", "scaled_tanh", "hard_sigmoid") else (a,) if n in ("leaky_relu", "thresholded_relu", "elu") else ())]
    if parameters and len({n for n, _, _ in used}) > 1:
        raise w.refused("several activations of which some have parameters are not supported", got=[n for n, _, _ in used])
    alphas = [a for n, a, _ in used] if parameters else None
    betas = [b for n, _, b in used] if parameters and used[0][0] in ("affine", "scaled_tanh", "hard_sigmoid") else None
    w.emit(
        op.name.upper(), [o if w.node.has(k) and w.value(k).shape != (0,) else "" for k, o in enumerate(w.operands)],
        hidden_size=int(sh.static(w.value(2).shape)[2]), direction=op.direction, activations=[_FUNCTIONS[n] for n, _, _ in used] or None,
        activation_alpha=alphas, activation_beta=betas, clip=None if np.isinf(op.clip) else op.clip,
        linear_before_reset=int(op.linear_before_reset) if isinstance(op, GRU) else None, input_forget=int(op.input_forget) if isinstance(op, LSTM) else None,
    )  # fmt: skip


@writes(RoiAlign)
def _roi_align(w: NodeWriter) -> None:
    op = w.op
    images = w.operand(2)
    if w.value(2).dtype is not dt.i64:
        images = w.emit("Cast", [images], [w.temporary()], to=element_number(dt.i64))
    w.emit(
        "RoiAlign", [*w.operands[:2], images], mode=op.mode, output_height=op.size[0], output_width=op.size[1], spatial_scale=op.scale,
        sampling_ratio=op.ratio, coordinate_transformation_mode="half_pixel" if op.half_pixel else "output_half_pixel",
    )  # fmt: skip


@writes(MaxRoiPool)
def _max_roi_pool(w: NodeWriter) -> None:
    w.emit("MaxRoiPool", w.operands, pooled_shape=list(w.op.size), spatial_scale=w.op.scale)


@writes(GridSample)
def _grid_sample(w: NodeWriter) -> None:
    op = w.op
    w.emit("GridSample", w.operands, mode=op.mode, padding_mode=op.padding, align_corners=int(op.align_corners))
