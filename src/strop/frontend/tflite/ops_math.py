"""Elementwise operators of TFLite."""

from __future__ import annotations

from functools import partial

import numpy as np

from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.registry import tflite_op
from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ops.elementwise import Cast

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
    found = node.apply(fn, node.real(0), node.real(1))
    return node.activated(found) if node.operator.code in _FUSED else found


for _name, (_fn, _params) in UNARY.items():
    tflite_op(_name)(partial(_unary, fn=_fn, params=_params))
for _name, _fn in BINARY.items():
    tflite_op(_name)(partial(_binary, fn=_fn))


@tflite_op("SQUARED_DIFFERENCE")
def squared_difference(node: NodeContext) -> Value:
    return node.apply("square", node.apply("sub", node.real(0), node.real(1)))


@tflite_op("FLOOR_DIV")
def floor_div(node: NodeContext) -> Value:
    """Of integers exact: what is left of a after its rest is a multiple of b."""
    a, b = node.real(0), node.real(1)
    if a.dtype.is_float:
        return node.apply("floor", node.apply("div", a, b))
    return node.apply("div", node.apply("sub", a, node.apply("mod", a, b)), b)


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
    return node.apply("leaky_relu", node.real(0), alpha=float(node.option("Alpha")))


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


@tflite_op("ZEROS_LIKE")
def zeros_like(node: NodeContext) -> Value:
    x = node.stored(0)
    return node.filled(x.shape, 0, x.dtype)


# ---- grids


@tflite_op("QUANTIZE", "DEQUANTIZE")
def requantize(node: NodeContext) -> Value:
    """Real numbers in the type and grid of the result; f16 weights become f32."""
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
