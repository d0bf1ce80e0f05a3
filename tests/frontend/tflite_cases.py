"""Files of one operator each, and what they should give, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import erf
from typing import Any

import numpy as np

from tests.frontend.tflite_models import Array, single

RNG = np.random.default_rng(7)
F, I, B = "FLOAT32", "INT32", "BOOL"


def floats(*shape: int, low: float = -2.0, high: float = 2.0) -> Array:
    return RNG.uniform(low, high, shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A file, arrays for its inputs in order, and its results."""

    code: str
    file: bytes
    inputs: tuple[Array, ...]
    results: tuple[Array, ...]


CASES: dict[str, Case] = {}


def case(
    name: str, arguments: Sequence[Any], expected: Any, options: str = "", inputs: Sequence[int] | None = None, **values: Any
) -> None:
    """Adds one. Arguments are arrays; those whose numbers are in ``inputs`` (by default the first) are given when the net runs."""
    code = name.split(":")[0]
    given = [0] if inputs is None else list(inputs)
    results = [np.asarray(e) for e in (expected if isinstance(expected, tuple) else (expected,))]
    operands = [
        (a.shape, type_of(a)) if k in given else a for k, a in enumerate(None if a is None else np.asarray(a) for a in arguments)
    ]  # fmt: skip
    file = single(code, operands, [(r.shape, type_of(r)) for r in results], options, **values)
    CASES[name] = Case(code, file, tuple(np.asarray(arguments[k]) for k in given), tuple(results))


def type_of(array: Array) -> str:
    return {"f": "FLOAT32", "b": "BOOL"}.get(array.dtype.kind) or {1: "INT8", 2: "INT16", 4: "INT32", 8: "INT64"}[array.dtype.itemsize]


def i32(*numbers: int) -> Array:
    return np.array(numbers, np.int32)


# ---- elementwise

_UNARY: dict[str, Callable[[Array], Any]] = {
    "EXP": np.exp,
    "SQUARE": np.square,
    "NEG": np.negative,
    "ABS": np.abs,
    "SIGN": np.sign,
    "SIN": np.sin,
    "COS": np.cos,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "ROUND": np.rint,
    "TANH": np.tanh,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "RELU_0_TO_1": lambda x: np.clip(x, 0, 1),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(x)),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "ZEROS_LIKE": np.zeros_like,
    "QUANTIZE": lambda x: x,
}
for _code, _fn in _UNARY.items():
    _x = floats(2, 9, low=-8, high=8)
    case(_code, [_x], np.asarray(_fn(_x), np.float32))
for _code, _fn in {"LOG": np.log, "SQRT": np.sqrt, "RSQRT": lambda x: 1 / np.sqrt(x)}.items():
    _x = floats(2, 9, low=0.1, high=8)
    case(_code, [_x], _fn(_x))
_x = floats(2, 9)
case("GELU", [_x], (0.5 * _x * (1 + np.vectorize(erf)(_x / np.sqrt(2)))).astype(np.float32), "GeluOptions", Approximate=False)
case("GELU:tanh", [_x], np.float32(0.5) * _x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (_x + np.float32(0.044715) * _x**3))), "GeluOptions", Approximate=True)
case("LEAKY_RELU", [_x], np.where(_x < 0, np.float32(0.2) * _x, _x), "LeakyReluOptions", Alpha=0.2)
_x, _slope = floats(1, 3, 2, 4), floats(1, 1, 4)
case("PRELU", [_x, _slope], np.where(_x < 0, _slope * _x, _x))
_flags = np.array([[True, False, True], [False, False, True]])
case("LOGICAL_NOT", [_flags], ~_flags)

_a, _b = floats(2, 3, 4), floats(3, 1, low=0.5)
for _code, _fn in {
    "MAXIMUM": np.maximum, "MINIMUM": np.minimum, "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2, "ATAN2": np.arctan2,
    "EQUAL": np.equal, "NOT_EQUAL": np.not_equal, "LESS": np.less, "LESS_EQUAL": np.less_equal, "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal, "FLOOR_DIV": lambda a, b: np.floor(a / b), "FLOOR_MOD": np.mod,
}.items():  # fmt: skip
    case(_code, [_a, _b], np.asarray(_fn(_a, _b)), inputs=(0, 1))
for _code, _fn, _options in (("ADD", np.add, "AddOptions"), ("SUB", np.subtract, "SubOptions"), ("MUL", np.multiply, "MulOptions"), ("DIV", np.divide, "DivOptions")):
    case(_code, [_a, _b], _fn(_a, _b), _options, inputs=(0, 1))
    case(f"{_code}:relu6", [_a, _b], np.clip(_fn(_a, _b), 0, 6), _options, FusedActivationFunction=3)
case("ADD:constant first", [_b, _a], _a + _b, "AddOptions", inputs=(1,), FusedActivationFunction=0)
case("POW", [np.abs(_a), _b], np.abs(_a) ** _b, inputs=(0, 1))
case("ADD_N", [_a, _a * 2, _a - 1], _a + _a * 2 + (_a - 1), inputs=(0, 1, 2))
_p, _q = i32(7, -7, 7, -7), i32(2, 2, -2, -2)
case("FLOOR_DIV:int", [_p, _q], _p // _q, inputs=(0, 1))
case("FLOOR_MOD:int", [_p, _q], _p % _q, inputs=(0, 1))
case("BITWISE_XOR", [_p, _q], _p ^ _q, inputs=(0, 1))
case("RIGHT_SHIFT", [_p, i32(1, 2, 0, 1)], _p >> i32(1, 2, 0, 1), inputs=(0, 1))
case("LOGICAL_AND", [_flags, ~_flags[:1]], _flags & ~_flags[:1], inputs=(0, 1))
case("LOGICAL_OR", [_flags, ~_flags[:1]], _flags | ~_flags[:1], inputs=(0, 1))
_m, _n = floats(2, 3), floats(2, 3)
case("SELECT", [np.array([True, False]), _m, _n], np.where([[True], [False]], _m, _n), inputs=(0, 1, 2))
case("SELECT_V2", [_flags, _m, _n[:, :1]], np.where(_flags, _m, _n[:, :1]), inputs=(0, 1, 2))
_x = floats(5, low=-9, high=9)
case("CAST", [_x], np.trunc(_x).astype(np.int32), "CastOptions")
_x = np.linspace(-1.2, 3.2, 23, dtype=np.float32)
_s = 3.0 / 255
case("FAKE_QUANT", [_x], np.floor((np.clip(_x, -1 + 1e-9, 2) + 1) / _s + 0.5) * _s - 1, "FakeQuantOptions", Min=-1.0, Max=2.0, NumBits=8, NarrowRange=False)

_x = floats(3, 4, low=-5, high=5)
_bounds = np.array([-2.0, 0.5, 3.0], np.float32)
case("BUCKETIZE", [_x], np.searchsorted(_bounds, _x, "right").astype(np.int32), "BucketizeOptions", Boundaries=_bounds)

# ---- convolutions and products


def conv(x: Array, w: Array, stride: int, same: bool, dilation: int = 1, groups: int = 1, bias: Any = 0) -> Array:
    """As TensorFlow defines it: x [N, H, W, C], w [O, H, W, C / groups]; with SAME the odd element of padding comes last."""
    size, kernel = x.shape[1], (w.shape[1] - 1) * dilation + 1
    out = -(-size // stride) if same else (size - kernel) // stride + 1
    total = max((out - 1) * stride + kernel - size, 0) if same else 0
    x = np.pad(x, ((0, 0), (total // 2, total - total // 2), (total // 2, total - total // 2), (0, 0)))
    found = np.zeros((x.shape[0], out, out, w.shape[0]))
    per_x, per_o = x.shape[3] // groups, w.shape[0] // groups
    for i, j, o in np.ndindex(out, out, w.shape[0]):
        part = x[:, i * stride : i * stride + kernel : dilation, j * stride : j * stride + kernel : dilation]
        g = o // per_o
        found[:, i, j, o] = np.sum(part[..., g * per_x : (g + 1) * per_x] * w[o], axis=(1, 2, 3))
    return (found + bias).astype(np.float32)


_x, _w, _bias = floats(2, 6, 6, 4), floats(5, 3, 3, 4), floats(5)
_plain = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
case("CONV_2D", [_x, _w, _bias], conv(_x, _w, 1, True, bias=_bias), "Conv2DOptions", **_plain, Padding=0)
case("CONV_2D:stride", [_x, _w, _bias], np.maximum(conv(_x, _w, 2, True, bias=_bias), 0), "Conv2DOptions", **{**_plain, "StrideH": 2, "StrideW": 2}, FusedActivationFunction=1)
case("CONV_2D:valid", [_x, _w], conv(_x, _w, 2, False), "Conv2DOptions", **{**_plain, "StrideH": 2, "StrideW": 2}, Padding=1)
case("CONV_2D:dilated", [_x, _w, _bias], conv(_x, _w, 1, True, 2, bias=_bias), "Conv2DOptions", **{**_plain, "DilationHFactor": 2, "DilationWFactor": 2})
_w = floats(6, 3, 3, 2)
case("CONV_2D:groups", [_x, _w], conv(_x, _w, 1, True, groups=2), "Conv2DOptions", **_plain)
_w, _bias = floats(1, 3, 3, 8), floats(8)
_dense = _w[0].transpose(2, 0, 1)[..., None]
case("DEPTHWISE_CONV_2D", [_x, _w, _bias], conv(_x, _dense, 2, True, groups=4, bias=_bias), "DepthwiseConv2DOptions", **{**_plain, "StrideH": 2, "StrideW": 2}, DepthMultiplier=2)
_x3, _w3 = floats(1, 3, 4, 4, 2), floats(1, 2, 2, 2, 3)
_found = np.zeros((1, 3, 3, 3, 3))
for _i, _j, _k in np.ndindex(3, 3, 3):
    _found[0, _i, _j, _k] = np.einsum("dhwi,dhwio->o", _x3[0, _i : _i + 1, _j : _j + 2, _k : _k + 2], _w3)
case("CONV_3D", [_x3, _w3], _found.astype(np.float32), "Conv3DOptions", Padding=1, StrideD=1, StrideH=1, StrideW=1, DilationDFactor=1, DilationHFactor=1, DilationWFactor=1)


_w3, _wide = floats(2, 2, 2, 4, 2), np.zeros((1, 6, 7, 7, 4))
for _i, _j, _k in np.ndindex(3, 4, 4):
    _wide[0, 2 * _i : 2 * _i + 2, _j + _j // 4 : _j + _j // 4 + 2, _k : _k + 2] += np.einsum("i,dhwoi->dhwo", _x3[0, _i, _j, _k], _w3)
_three = {"StrideD": 2, "StrideH": 1, "StrideW": 1, "DilationDFactor": 1, "DilationHFactor": 1, "DilationWFactor": 1}
case("CONV_3D_TRANSPOSE", [i32(1, 6, 5, 5, 4), _w3, _x3], _wide[:, :, :5, :5].astype(np.float32), "Conv3DOptions", inputs=(2,), Padding=1, **_three)
case("CONV_3D_TRANSPOSE:same", [i32(1, 6, 4, 4, 4), _w3, _x3], _wide[:, :, :4, :4].astype(np.float32), "Conv3DOptions", inputs=(2,), Padding=0, **_three)


def transposed(x: Array, w: Array, stride: int, out: int, same: bool) -> Array:
    """Every element of x [N, H, W, I] spreads w [O, H, W, I] into the result, of which the padding of SAME is cut off."""
    size, kernel = x.shape[1], w.shape[1]
    whole = np.zeros((x.shape[0], out + 2 * kernel + size * stride, out + 2 * kernel + size * stride, w.shape[0]))
    for i, j in np.ndindex(size, size):
        whole[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel] += np.einsum("ni,ohwi->nhwo", x[:, i, j], w)
    cut = max((-(-out // stride) - 1) * stride + kernel - out, 0) // 2 if same else 0
    return whole[:, cut : cut + out, cut : cut + out].astype(np.float32)


_x, _w = floats(1, 3, 3, 2), floats(4, 3, 3, 2)
case("TRANSPOSE_CONV", [i32(1, 6, 6, 4), _w, _x], transposed(_x, _w, 2, 6, True), "TransposeConvOptions", inputs=(2,), StrideH=2, StrideW=2, Padding=0)
case("TRANSPOSE_CONV:valid", [i32(1, 8, 8, 4), _w, _x], transposed(_x, _w, 2, 8, False), "TransposeConvOptions", inputs=(2,), StrideH=2, StrideW=2, Padding=1)
_x, _w, _bias = floats(3, 4, 5), floats(6, 5), floats(6)
case("FULLY_CONNECTED", [_x, _w, _bias], _x.reshape(12, 5) @ _w.T + _bias, "FullyConnectedOptions")
case("FULLY_CONNECTED:kept", [_x, _w, None], np.maximum(_x @ _w.T, 0), "FullyConnectedOptions", KeepNumDims=True, FusedActivationFunction=1)
_a, _b = floats(2, 4, 3), floats(2, 5, 4)
case("BATCH_MATMUL", [_a, _b], np.swapaxes(_a, 1, 2) @ np.swapaxes(_b, 1, 2), "BatchMatMulOptions", inputs=(0, 1), AdjX=True, AdjY=True)


def pooled(x: Array, kernel: int, stride: int, fn: Callable[[Array], Any]) -> Array:
    """SAME windows; what lies outside x does not count."""
    size = x.shape[1]
    out = -(-size // stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    found = np.zeros((x.shape[0], out, out, x.shape[3]), np.float32)
    for i, j in np.ndindex(out, out):
        rows, columns = (slice(max(k * stride - before, 0), k * stride - before + kernel) for k in (i, j))
        found[:, i, j] = fn(x[:, rows, columns])
    return found


_x = floats(1, 5, 5, 3)
_pool = {"Padding": 0, "StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2}
case("MAX_POOL_2D", [_x], pooled(_x, 2, 2, lambda v: v.max((1, 2))), "Pool2DOptions", **_pool)
case("AVERAGE_POOL_2D", [_x], pooled(_x, 2, 2, lambda v: v.mean((1, 2))), "Pool2DOptions", **_pool)
case("L2_POOL_2D", [_x], pooled(_x, 2, 2, lambda v: np.sqrt((v * v).mean((1, 2)))), "Pool2DOptions", **_pool)
_x = floats(2, 3, 7)
_e = np.exp(0.5 * _x - 0.5 * _x.max(-1, keepdims=True))
case("SOFTMAX", [_x], _e / _e.sum(-1, keepdims=True), "SoftmaxOptions", Beta=0.5)
case("LOG_SOFTMAX", [_x], _x - np.log(np.exp(_x).sum(-1, keepdims=True)))
case("L2_NORMALIZATION", [_x], _x / np.sqrt((_x * _x).sum(-1, keepdims=True)), "L2NormOptions")
_x = floats(1, 2, 2, 6)
_near = np.stack([(_x[..., max(c - 1, 0) : c + 2] ** 2).sum(-1) for c in range(6)], -1)
case("LOCAL_RESPONSE_NORMALIZATION", [_x], _x / (1.5 + 0.3 * _near) ** 0.75, "LocalResponseNormalizationOptions", Radius=1, Bias=1.5, Alpha=0.3, Beta=0.75)

# ---- moving

_x = floats(2, 3, 4)
case("RESHAPE", [_x, i32(4, -1)], _x.reshape(4, 6))
case("RESHAPE:option", [_x], _x.reshape(6, 4), "ReshapeOptions", NewShape=[6, 4])
case("SQUEEZE", [_x.reshape(2, 1, 3, 1, 4)], _x.reshape(2, 3, 1, 4), "SqueezeOptions", SqueezeDims=[1])
case("SQUEEZE:all", [_x.reshape(2, 1, 3, 1, 4)], _x, "SqueezeOptions")
case("EXPAND_DIMS", [_x, i32(-2)], _x[:, :, None])
case("TRANSPOSE", [_x, i32(2, 0, 1)], _x.transpose(2, 0, 1))
case("CONCATENATION", [_x, _x[:, :1]], np.concatenate([_x, _x[:, :1]], 1), "ConcatenationOptions", inputs=(0, 1), Axis=-2)
case("PACK", [_x, _x + 1], np.stack([_x, _x + 1], 1), "PackOptions", inputs=(0, 1), Axis=1, ValuesCount=2)
case("UNPACK", [_x], tuple(_x[:, k] for k in range(3)), "UnpackOptions", Axis=1, Num=3)
case("SPLIT", [np.int32(2), _x], tuple(np.split(_x, 2, 2)), "SplitOptions", inputs=(1,), NumSplits=2)
case("SPLIT_V", [_x, i32(1, -1), np.int32(2)], (_x[..., :1], _x[..., 1:]), "SplitVOptions", NumSplits=2)
case("SLICE", [_x, i32(0, 1, 2), i32(-1, 2, 1)], _x[:, 1:3, 2:3])
_zero = {"BeginMask": 0, "EndMask": 0, "EllipsisMask": 0, "NewAxisMask": 0, "ShrinkAxisMask": 0}
for _name, _index, _parts, _masks in (
    ("", np.s_[0:2, 1:3:2, -3:-1], ((0, 1, -3), (2, 3, -1), (1, 2, 1)), {}),
    ("masks", np.s_[:, 2, ::-1], ((0, 2, 0), (0, 3, 0), (1, 1, -1)), {"BeginMask": 5, "EndMask": 5, "ShrinkAxisMask": 2}),
    ("ellipsis", np.s_[..., 1:2], ((0, 1), (0, 2), (1, 1)), {"EllipsisMask": 1}),
    ("new axis", np.s_[1, None, ..., -1], ((1, 0, 0, -1), (2, 0, 0, 0), (1, 1, 1, 1)), {"ShrinkAxisMask": 9, "NewAxisMask": 2, "EllipsisMask": 4}),
):  # fmt: skip
    case(f"STRIDED_SLICE:{_name}", [_x, *(i32(*p) for p in _parts)], _x[_index], "StridedSliceOptions", **{**_zero, **_masks})
case("REVERSE_V2", [_x, i32(1)], _x[:, ::-1])
case("PAD", [_x, np.array([[0, 1], [2, 0], [1, 1]], np.int32)], np.pad(_x, [[0, 1], [2, 0], [1, 1]]))
case("PADV2", [_x, np.array([[0, 1], [0, 0], [1, 1]], np.int64), np.float32(3)], np.pad(_x, [[0, 1], [0, 0], [1, 1]], constant_values=3))
for _mode, _numpy in enumerate(("reflect", "symmetric")):
    case(f"MIRROR_PAD:{_numpy}", [_x, np.array([[0, 1], [2, 0], [1, 1]], np.int32)], np.pad(_x, [[0, 1], [2, 0], [1, 1]], _numpy), "MirrorPadOptions", Mode=_mode)  # type: ignore[call-overload]
case("TILE", [_x, i32(1, 2, 3)], np.tile(_x, (1, 2, 3)))
case("BROADCAST_TO", [_x[:, :1], i32(5, 2, 3, 4)], np.broadcast_to(_x[:, :1], (5, 2, 3, 4)))
case("FILL", [i32(2, 3), np.float32(1.5)], np.full((2, 3), 1.5, np.float32), inputs=(1,))
case("SHAPE", [_x], i32(2, 3, 4), "ShapeOptions", OutType=2)
case("RANK", [_x], np.int32(3))
case("RANGE", [np.float32(1), np.float32(2), np.float32(0.25)], np.arange(1, 2, 0.25, np.float32), inputs=())

# ---- picking

case("GATHER", [_x, np.array([[2, 0], [1, 1]], np.int32)], _x[:, [[2, 0], [1, 1]]], "GatherOptions", inputs=(0, 1), Axis=1)
case("GATHER:batch", [_x, np.array([[2, 0], [1, 1]], np.int32)], np.stack([_x[0, [2, 0]], _x[1, [1, 1]]]), "GatherOptions", inputs=(0, 1), Axis=1, BatchDims=1)
case("GATHER_ND", [_x, np.array([[1, 2], [0, 1]], np.int32)], _x[[1, 0], [2, 1]], inputs=(0, 1))
_table = floats(3, 4)
case("EMBEDDING_LOOKUP", [i32(2, 0), _table], _table[[2, 0]])
_blank = np.zeros((4, 2), np.float32)
np.add.at(_blank, [1, 3, 1], np.array([[1, 2], [3, 4], [5, 6]], np.float32))
case("SCATTER_ND", [np.array([[1], [3], [1]], np.int32), np.array([[1, 2], [3, 4], [5, 6]], np.float32), i32(4, 2)], _blank, inputs=(0, 1))
case("ARG_MAX", [_x, np.int32(-1)], _x.argmax(-1).astype(np.int32), "ArgMaxOptions", OutputType=2)
case("ARG_MIN", [_x, np.int32(1)], _x.argmin(1), "ArgMinOptions", OutputType=4)
_order = np.argsort(-_x, -1, kind="stable")[..., :2]
case("TOPK_V2", [_x, np.int32(2)], (np.take_along_axis(_x, _order, -1), _order.astype(np.int32)))
_at = i32(0, 2, -1, 3)
_hot = np.where(_at[:, None] == np.arange(3), np.float32(5), np.float32(-1))
case("ONE_HOT", [_at, np.int32(3), np.float32(5), np.float32(-1)], _hot, "OneHotOptions", Axis=-1)
case("ONE_HOT:first", [_at, np.int32(3), np.float32(5), np.float32(-1)], _hot.T, "OneHotOptions", Axis=0)
case("WHERE", [_flags], np.argwhere(_flags))
for _exclusive, _reverse in ((False, False), (True, False), (False, True), (True, True)):
    _y = _x[:, ::-1] if _reverse else _x
    _y = np.cumsum(_y, 1) - (_y if _exclusive else 0)
    case(f"CUMSUM:{_exclusive}{_reverse}", [_x, np.int32(1)], _y[:, ::-1] if _reverse else _y, "CumsumOptions", Exclusive=_exclusive, Reverse=_reverse)
case("MATRIX_DIAG", [_table], np.stack([np.diag(row) for row in _table]))

# ---- reductions

for _code, _fn in {"MEAN": np.mean, "SUM": np.sum, "REDUCE_MAX": np.max, "REDUCE_MIN": np.min, "REDUCE_PROD": np.prod}.items():
    case(_code, [_x, i32(0, -1)], _fn(_x, (0, 2)), "ReducerOptions", KeepDims=False)
    case(f"{_code}:kept", [_x, np.int32(1)], _fn(_x, 1, keepdims=True), "ReducerOptions", KeepDims=True)
case("REDUCE_ANY", [_flags, i32(1)], _flags.any(1), "ReducerOptions")
case("REDUCE_ALL", [_flags, i32(0)], _flags.all(0), "ReducerOptions")

# ---- places and sequences

_x, _y = floats(2, 3, 4), floats(2, 3)
_diagonal = np.where(np.eye(3, 4, dtype=bool), _y[..., None], _x)
case("MATRIX_SET_DIAG", [_x, _y], _diagonal, inputs=(0, 1))
case("MATRIX_SET_DIAG:tall", [_x.transpose(0, 2, 1), _y], _diagonal.transpose(0, 2, 1), inputs=(0, 1))
case("BROADCAST_ARGS", [i32(2, 1, 4), i32(3, 1)], i32(2, 3, 4), inputs=())
_dense = np.full((3, 4), -1, np.float32)
_dense[[0, 2], [1, 3]] = 5, 6
case("SPARSE_TO_DENSE", [np.array([[0, 1], [2, 3]], np.int32), i32(3, 4), np.array([5, 6], np.float32), np.float32(-1)], _dense, inputs=(0, 2))
case("SPARSE_TO_DENSE:one value", [i32(4, 1), i32(6), np.int32(7), np.int32(0)], i32(0, 7, 0, 0, 7, 0), inputs=(0,))
case("SPARSE_TO_DENSE:one place", [np.int32(2), i32(3), np.int32(7), np.int32(1)], i32(1, 1, 7), inputs=(0,))
_x, _part = floats(3, 5, 2), floats(2, 2, 2)
for _name, _start, _at in (("", (1, 2, 0), (1, 2)), (":moved", (-4, 9, 3), (0, 3))):
    _y = _x.copy()
    _y[_at[0] : _at[0] + 2, _at[1] : _at[1] + 2] = _part
    case(f"DYNAMIC_UPDATE_SLICE{_name}", [_x, _part, i32(*_start)], _y, inputs=(0, 1, 2))
case("DYNAMIC_UPDATE_SLICE:whole", [_x, _x + 1, i32(0, 0, 0)], _x + 1, inputs=(0, 1))
_x, _at = floats(5, 3), i32(2, 0, -1, 2, 3)
for _code, _fn, _empty in (("SUM", np.sum, 0), ("PROD", np.prod, 1), ("MAX", np.max, np.finfo(np.float32).min), ("MIN", np.min, np.finfo(np.float32).max)):
    case(f"UNSORTED_SEGMENT_{_code}", [_x, _at, np.int32(5)], np.stack([_fn(_x[_at == k], 0) if (_at == k).any() else np.full(3, _empty, np.float32) for k in range(5)]), inputs=(0, 1))
case("UNSORTED_SEGMENT_MAX:int", [i32(3, -4, 5), i32(1, 1, 1), np.int32(2)], i32(-(2**31), 5), inputs=(0, 1))
case("SEGMENT_SUM", [_x, i32(0, 0, 1, 3, 3)], np.stack([_x[:2].sum(0), _x[2], np.zeros(3, np.float32), _x[3:].sum(0)]))
_x = i32(5, 2, 5, 9, 2)
case("UNIQUE", [_x], (i32(5, 2, 9), i32(0, 1, 0, 2, 1)), "UniqueOptions", IdxOutType=2)
_boxes = np.array([[0, 0, 1, 1], [0, 0.5, 1, 1], [3, 3, 4, 4], [0, 0, 1, 1.1], [6, 6, 7, 7], [8, 8, 9, 9]], np.float32)
_scores = np.array([0.9, 0.8, 0.95, 0.7, 0.1, 0.5], np.float32)
_limits = (np.int32(4), np.float32(0.5), np.float32(0.1))  # box 1 overlaps box 0 by just 0.5
case("NON_MAX_SUPPRESSION_V4", [_boxes, _scores, *_limits], (i32(2, 0, 5, 0), np.int32(3)), inputs=(0, 1))
case("NON_MAX_SUPPRESSION_V5", [_boxes, _scores, *_limits, np.float32(0)], (i32(2, 0, 5, 0), np.array([0.95, 0.9, 0.5, 0], np.float32), np.int32(3)), inputs=(0, 1))
_x, _lengths = floats(2, 4, 3), i32(3, 1)
case("REVERSE_SEQUENCE", [_x, _lengths], np.stack([_x[0, [2, 1, 0, 3]], _x[1]]), "ReverseSequenceOptions", inputs=(0, 1), SeqDim=1, BatchDim=0)
_turned = _x.transpose(1, 2, 0)
case("REVERSE_SEQUENCE:steps first", [_turned, _lengths], np.stack([_turned[[2, 1, 0, 3], :, 0], _turned[..., 1]], 2), "ReverseSequenceOptions", inputs=(0, 1), SeqDim=0, BatchDim=2)

# ---- space


def resized(x: Array, size: int, linear: bool, corners: bool, half: bool) -> Array:
    """tensorflow/lite/kernels/internal/reference/resize_bilinear.h and resize_nearest_neighbor.h"""
    have = x.shape[1]
    scale = (have - 1) / (size - 1) if corners else have / size
    at = (np.arange(size) + (0.5 if half else 0)) * scale
    for axis in (1, 2):
        if linear:
            place = at - (0.5 if half else 0)
            low, high = np.maximum(np.floor(place), 0).astype(int), np.minimum(np.ceil(place), have - 1).astype(int)
            part = (place - low).reshape((-1,) + (1,) * (3 - axis))
            x = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
        else:
            x = np.take(x, np.minimum(np.floor(at + 0.5) if corners else np.floor(at), have - 1).astype(int), axis)
    return x.astype(np.float32)


_x = floats(1, 4, 4, 2)
for _code, _options, _linear in (("RESIZE_BILINEAR", "ResizeBilinearOptions", True), ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", False)):
    for _corners, _half in ((False, False), (True, False), (False, True)):
        for _size in (7, 8, 3):
            case(
                f"{_code}:{_corners}{_half}{_size}", [_x, i32(_size, _size)], resized(_x, _size, _linear, _corners, _half), _options,
                AlignCorners=_corners, HalfPixelCenters=_half,
            )  # fmt: skip
_x = floats(2, 2, 3, 8)
_y = _x.reshape(2, 2, 3, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 6, 2)
case("DEPTH_TO_SPACE", [_x], _y, "DepthToSpaceOptions", BlockSize=2)
case("SPACE_TO_DEPTH", [_y], _x, "SpaceToDepthOptions", BlockSize=2)
_x = floats(1, 4, 6, 2)
_places = np.concatenate([_x[:, i::2, j::3] for i in range(2) for j in range(3)])
case("SPACE_TO_BATCH_ND", [_x[:, :3], i32(2, 3), np.array([[0, 1], [0, 0]], np.int32)], np.concatenate([np.pad(_x[:, :3], ((0, 0), (0, 1), (0, 0), (0, 0)))[:, i::2, j::3] for i in range(2) for j in range(3)]))
case("BATCH_TO_SPACE_ND", [_places, i32(2, 3), np.array([[1, 0], [0, 2]], np.int32)], _x[:, 1:, :-2])


def names() -> Iterator[str]:
    """Names of the operators that have a case."""
    yield from sorted({c.code for c in CASES.values()})
