"""Elementwise operators of TFLite."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from strop.frontend.tensorflow import arithmetic
from strop.frontend.tflite import fixed_point
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.emission import NodeWriter
from strop.frontend.tflite.grid import Grid
from strop.frontend.tflite.registry import tflite_op, writes
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.graph import Value
from strop.ir.op import Array
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.quantize import Dequantize, Quantize

#: Operators of one operand: function and params.
UNARY: dict[str, tuple[str, dict[str, float]]] = {
    "EXP": ("exp", {}),
    "LOG": ("log", {}),
    "SQRT": ("sqrt", {}),
    "RSQRT": ("rsqrt", {}),
    "SQUARE": ("square", {}),
    "NEG": ("neg", {}),
    "ABS": ("abs", {}),
    "SIGN": ("sign", {}),
    "SIN": ("sin", {}),
    "COS": ("cos", {}),
    "FLOOR": ("floor", {}),
    "CEIL": ("ceil", {}),
    "ROUND": ("round", {}),
    "LOGISTIC": ("sigmoid", {}),
    "TANH": ("tanh", {}),
    "RELU": ("relu", {}),
    "RELU6": ("clip", {"lo": 0.0, "hi": 6.0}),
    "RELU_N1_TO_1": ("clip", {"lo": -1.0, "hi": 1.0}),
    "RELU_0_TO_1": ("clip", {"lo": 0.0, "hi": 1.0}),
    "ELU": ("elu", {}),
    "HARD_SWISH": ("hard_swish", {}),
    "LOGICAL_NOT": ("not", {}),
}
#: Operators of two operands, which broadcast; behind them a fused activation function, if the options have one.
BINARY = {
    "ADD": "add",
    "SUB": "sub",
    "MUL": "mul",
    "DIV": "div",
    "MAXIMUM": "max",
    "MINIMUM": "min",
    "POW": "pow",
    "FLOOR_MOD": "mod",
    "ATAN2": "atan2",
    "EQUAL": "eq",
    "NOT_EQUAL": "ne",
    "LESS": "lt",
    "LESS_EQUAL": "le",
    "GREATER": "gt",
    "GREATER_EQUAL": "ge",
    "LOGICAL_AND": "and",
    "LOGICAL_OR": "or",
    "BITWISE_XOR": "bitxor",
    "RIGHT_SHIFT": "shr",
}
_FUSED = ("ADD", "SUB", "MUL", "DIV")


def _unary(node: NodeContext, fn: str, params: dict[str, float]) -> Value:
    return node.apply(fn, node.real(0), **params)


def _binary(node: NodeContext, fn: str) -> Value:
    if fn in ("add", "sub") and (exact := fixed_point.total(node, subtracts=fn == "sub")) is not None:
        return exact
    found = node.apply(fn, node.real(0), node.real(1))
    return node.activated(found) if node.operator.code in _FUSED else found


for _name, (_fn, _params) in UNARY.items():
    tflite_op(_name)(partial(_unary, fn=_fn, params=_params))
for _name, _fn in BINARY.items():
    tflite_op(_name)(partial(_binary, fn=_fn))


@tflite_op("SQUARED_DIFFERENCE")
def squared_difference(node: NodeContext) -> Value:
    return arithmetic.squared_difference(node, node.real(0), node.real(1))


@tflite_op("FLOOR_DIV")
def floor_div(node: NodeContext) -> Value:
    return arithmetic.floor_div(node, node.real(0), node.real(1))


@tflite_op("ADD_N")
def add_n(node: NodeContext) -> Value:
    total = node.real(0)
    for index in range(1, len(node)):
        total = node.apply("add", total, node.real(index))
    return total


@tflite_op("GELU")
def gelu(node: NodeContext) -> Value:
    return node.apply("gelu_tanh" if node.option("Approximate", False) else "gelu", node.real(0))


@tflite_op("LEAKY_RELU")
def leaky_relu(node: NodeContext) -> Value:
    alpha = float(node.option("Alpha"))
    return fixed_point.scaled(node, alpha) or node.apply("leaky_relu", node.real(0), alpha=alpha)


@tflite_op("PRELU")
def prelu(node: NodeContext) -> Value:
    """The slope broadcasts to x, usually [1, 1, C]."""
    return node.apply("prelu", node.real(0), node.real(1))


@tflite_op("SELECT", "SELECT_V2")
def select(node: NodeContext) -> Value:
    """Of SELECT a condition of rank 1 chooses whole slices along axis 0."""
    condition, yes, no = node.stored(0), node.real(1), node.real(2)
    if node.operator.code == "SELECT" and condition.type.rank == 1 < yes.type.rank:
        condition = node.reshape(condition, (*condition.shape, *(1,) * (yes.type.rank - 1)))
    return node.apply("where", condition, yes, no)


@tflite_op("CAST")
def cast(node: NodeContext) -> Value:
    """Numbers as stored; from float towards zero."""
    to = node.result().dtype
    if to is None:
        raise node.unsupported("this result type is not supported", got=node.result().type)
    return node.cast(node.stored(0), to)


@tflite_op("BUCKETIZE")
def bucketize(node: NodeContext) -> Value:
    """How many boundaries are not above x."""
    count = node.option("BoundariesLength")
    bounds = np.asarray(node.option("BoundariesAsNumpy"), np.float32) if count else np.zeros(0, np.float32)
    return arithmetic.bucketized(node, node.real(0), bounds)


@tflite_op("ZEROS_LIKE")
def zeros_like(node: NodeContext) -> Value:
    x = node.stored(0)
    return node.filled(x.shape, 0, x.dtype)


# ---- grids


@tflite_op("QUANTIZE", "DEQUANTIZE")
def requantize(node: NodeContext) -> Value:
    """Real numbers in the type and grid of the result; f16 weights become f32."""
    moved = fixed_point.scaled(node, 1.0)
    if moved is not None:
        return moved
    value = node.real(0)
    if value.const is not None and value.dtype in (dt.f16, dt.bf16):
        return node.const(value.const.astype(np.float32))
    to = node.result()
    return node.step(Cast(to.dtype), value) if to.dtype is not None and to.dtype.is_float and value.dtype != to.dtype else value


@tflite_op("DENSIFY")
def densify(node: NodeContext) -> Value:
    """Sparse constants are made dense when they are read."""
    return node.stored(0)


@tflite_op("FAKE_QUANT")
def fake_quant(node: NodeContext) -> Value:
    """Forces x onto 2^bits values between min and max, which are nudged such that 0 is one of them (TensorFlow's fake quantization)."""
    low, high, bits = float(node.option("Min")), float(node.option("Max")), int(node.option("NumBits"))
    if not low <= 0 <= high or low == high or not 2 <= bits <= 16:
        raise node.malformed("the range does not fit", got=f"{low} to {high}, {bits} bits", expected="a range around 0")
    first, last = (1 if node.option("NarrowRange") else 0), (1 << bits) - 1
    scale = (high - low) / (last - first)
    zero = min(max(round(first - low / scale), first), last)
    bottom, top = (first - zero) * scale, (last - zero) * scale
    x = node.floats(0)
    shifted = node.apply("sub", node.apply("clip", x, lo=bottom, hi=top), node.like(bottom, x))
    whole = node.apply("floor", node.apply("affine", shifted, alpha=1.0 / scale, beta=0.5))
    return node.apply("affine", whole, alpha=scale, beta=bottom)


# ---- written


#: Operators by function and params, where they are of one or two operands and of floats.
_DIRECT = {(fn, tuple(params.values())): code for code, (fn, params) in UNARY.items()} | {(fn, ()): code for code, fn in BINARY.items()}
#: Options of those that have any.
_OPTIONS = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "POW": "PowOptions", "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions", "EXP": "ExpOptions", "COS": "CosOptions", "SQUARE": "SquareOptions", "NEG": "NegOptions", "ABS": "AbsOptions",
    "SIGN": "SignOptions", "HARD_SWISH": "HardSwishOptions", "EQUAL": "EqualOptions", "NOT_EQUAL": "NotEqualOptions", "LESS": "LessOptions",
    "LESS_EQUAL": "LessEqualOptions", "GREATER": "GreaterOptions", "GREATER_EQUAL": "GreaterEqualOptions", "LOGICAL_AND": "LogicalAndOptions",
    "LOGICAL_OR": "LogicalOrOptions", "LOGICAL_NOT": "LogicalNotOptions", "FLOOR_MOD": "FloorModOptions", "ATAN2": "ATan2Options",
    "BITWISE_XOR": "BitwiseXorOptions", "RIGHT_SHIFT": "RightShiftOptions",
}  # fmt: skip
#: Element types that kernels of operators compute in; others only f32.
_FLOAT, _NUMBER = (dt.f32,), (dt.f32, dt.i32, dt.i64)
_TYPES = {
    **dict.fromkeys(("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "NEG", "FLOOR_MOD"), _NUMBER),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL"), (*_NUMBER, dt.boolean)),
    **dict.fromkeys(("DIV", "POW", "ABS", "SIGN", "FLOOR_DIV"), (dt.f32, dt.i32)),
    **dict.fromkeys(("LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT"), (dt.boolean,)),
    **dict.fromkeys(("BITWISE_XOR", "RIGHT_SHIFT"), (dt.i8, dt.u8, dt.i16, dt.u16, dt.i32, dt.u32)),
    "SELECT_V2": (dt.f32, dt.i8, dt.u8, dt.i16, dt.i32, dt.i64, dt.boolean),
}


def _takes(code: str, types: Sequence[DType]) -> bool:
    return all(d in _TYPES.get(code, _FLOAT) for d in types)


def direct(op: Elementwise, operands: Sequence[Value]) -> bool:
    """Whether there is an operator for a function over these operands; others are taken apart (``strop.export.expand``)."""
    types = [v.dtype for v in operands]
    if op.fn == "prelu":
        return types[0] is dt.f32 and _slope(operands[1], operands[0].type.rank) is not None
    if op.fn in ("gelu", "gelu_tanh", "leaky_relu"):
        return types[0] is dt.f32
    if op.fn == "where":
        return _takes("SELECT_V2", types[1:])
    code = _DIRECT.get((op.fn, tuple(op.param.values())))
    if code == "ATAN2" and operands[0].shape != operands[1].shape:  # it does not broadcast
        return False
    return code is not None and _takes(code, types)


@writes(Elementwise)
def write_elementwise(w: NodeWriter) -> None:
    """An operator where there is one, a fused activation or bias at best."""
    op = w.op
    assert isinstance(op, Elementwise)
    params, types = tuple(op.param.values()), [v.dtype for v in w.node.operands]
    if w.fuses(op.fn, params) or (op.fn == "add" and _fuses_bias(w)):
        return
    if not direct(op, w.node.operands):
        raise w.refused("there is no operator for these types", got=", ".join(map(str, types)), hint="export the network in f32")
    code = _DIRECT[op.fn, params]
    w.emit(code, [w.operand(k) for k in range(len(types))], None, _OPTIONS.get(code, ""))


def _fuses_bias(w: NodeWriter) -> bool:
    """Makes a constant per channel the bias of the product before it."""
    for k in range(2):
        value, other = w.value(k), w.value(1 - k)
        maker = w.only_maker(value)
        channels = value.shape[-1] if value.shape else 0
        if maker is None or other.const is None or maker.code != "FULLY_CONNECTED" or len(maker.inputs) > 2 or other.const.size != channels:
            continue
        if other.shape[-1:] != (channels,) or maker.fields.get("FusedActivationFunction") or w.node.output.shape != value.shape:
            continue
        maker.inputs.append(w.operand(1 - k) if other.type.rank == 1 else w.const(other.const.reshape(-1), "bias"))
        w.takes_over(maker)
        return True
    return False


@writes("gelu", "gelu_tanh")
def write_gelu(w: NodeWriter) -> None:
    w.emit("GELU", [w.operand(0)], None, "GeluOptions", Approximate=w.op.label == "gelu_tanh")


@writes("leaky_relu")
def write_leaky_relu(w: NodeWriter) -> None:
    assert isinstance(w.op, Elementwise)
    w.emit("LEAKY_RELU", [w.operand(0)], None, "LeakyReluOptions", Alpha=w.op.param["alpha"])


def _slope(value: Value, rank: int) -> Array | None:
    """A slope without the batch's axis, as PRELU has it; None where it is computed or differs by sample."""
    slope = value.const
    if slope is None or rank < 2 or slope.ndim > rank or (slope.ndim == rank and slope.shape[0] != 1):
        return None
    return slope.reshape(((1,) * (rank - slope.ndim) + slope.shape)[1:])


@writes("prelu")
def write_prelu(w: NodeWriter) -> None:
    slope = _slope(w.value(1), w.value(0).type.rank)
    assert slope is not None, "other slopes are taken apart"
    w.emit("PRELU", [w.operand(0), w.const(slope, "slope")])


@writes("where")
def write_where(w: NodeWriter) -> None:
    w.emit("SELECT_V2", [w.operand(k) for k in range(3)], None, "SelectV2Options")


@writes(Cast)
def write_cast(w: NodeWriter) -> None:
    w.emit("CAST", [w.operand(0)], None, "CastOptions")


@writes(Quantize, Dequantize)
def write_requantize(w: NodeWriter) -> None:
    """The grid is the stored tensor's."""
    op, stored = w.op, (w.result() if isinstance(w.op, Quantize) else w.operand(0))
    assert isinstance(op, (Quantize, Dequantize))
    scale = w.array(1, "the scale")
    zero = w.array(2, "the zero point") if w.node.has(2) else np.zeros(scale.shape, np.int64)
    rank = len(stored.shape)
    wide = (1,) * (rank - scale.ndim) + scale.shape
    axes = [k for k, d in enumerate(wide) if d != 1]
    known = stored.dtype in (dt.i8, dt.u8) or (stored.dtype is dt.i16 and not zero.any())
    if op.block or len(axes) > 1 or scale.dtype != np.float32 or not known:
        raise w.refused(
            "only grids of one scale, or of one per index of an axis, of 8 bits, or of 16 bits around 0 are supported",
            got=f"{stored.dtype}, scale {scale.dtype}{list(scale.shape)}",
        )  # fmt: skip
    grid = Grid(scale.reshape(-1), zero.reshape(-1).astype(np.int64), axes[0] if axes else 0)
    if stored.grid is not None and not grid.same(stored.grid):
        raise w.refused("a tensor stands for two kinds of real numbers", got=f"scales {grid.scale[0]:g} and {stored.grid.scale[0]:g}")
    stored.grid = grid
    w.emit("QUANTIZE" if isinstance(op, Quantize) else "DEQUANTIZE", [w.operand(0)])
