"""Elementwise ops of TensorFlow."""

from __future__ import annotations

from functools import partial

import numpy as np

from strop.frontend.saved_model import tensors
from strop.frontend.saved_model.context import NodeContext
from strop.frontend.saved_model.operands import Operand, Text
from strop.frontend.saved_model.registry import tf_op
from strop.frontend.tensorflow import arithmetic
from strop.ir.graph import Value

#: Ops of one operand: function and params.
UNARY: dict[str, tuple[str, dict[str, float]]] = {
    "Abs": ("abs", {}),
    "Acos": ("acos", {}),
    "Acosh": ("acosh", {}),
    "Asin": ("asin", {}),
    "Asinh": ("asinh", {}),
    "Atan": ("atan", {}),
    "Atanh": ("atanh", {}),
    "Ceil": ("ceil", {}),
    "Cos": ("cos", {}),
    "Cosh": ("cosh", {}),
    "Elu": ("elu", {}),
    "Erf": ("erf", {}),
    "Exp": ("exp", {}),
    "Expm1": ("expm1", {}),
    "Floor": ("floor", {}),
    "Inv": ("reciprocal", {}),
    "Invert": ("bitnot", {}),
    "IsInf": ("isinf", {}),
    "IsNan": ("isnan", {}),
    "Log": ("log", {}),
    "Log1p": ("log1p", {}),
    "LogicalNot": ("not", {}),
    "Neg": ("neg", {}),
    "Reciprocal": ("reciprocal", {}),
    "Relu": ("relu", {}),
    "Relu6": ("clip", {"lo": 0.0, "hi": 6.0}),
    "Rint": ("round", {}),
    "Round": ("round", {}),
    "Rsqrt": ("rsqrt", {}),
    "Selu": ("selu", {}),
    "Sigmoid": ("sigmoid", {}),
    "Sign": ("sign", {}),
    "Sin": ("sin", {}),
    "Sinh": ("sinh", {}),
    "Softplus": ("softplus", {}),
    "Softsign": ("softsign", {}),
    "Sqrt": ("sqrt", {}),
    "Square": ("square", {}),
    "Tan": ("tan", {}),
    "Tanh": ("tanh", {}),
}
#: Ops of two operands, which broadcast.
BINARY = {
    "Add": "add",
    "AddV2": "add",
    "Atan2": "atan2",
    "BitwiseAnd": "bitand",
    "BitwiseOr": "bitor",
    "BitwiseXor": "bitxor",
    "Div": "div",
    "Equal": "eq",
    "FloorMod": "mod",
    "Greater": "gt",
    "GreaterEqual": "ge",
    "LeftShift": "shl",
    "Less": "lt",
    "LessEqual": "le",
    "LogicalAnd": "and",
    "LogicalOr": "or",
    "Maximum": "max",
    "Minimum": "min",
    "Mod": "fmod",
    "Mul": "mul",
    "NotEqual": "ne",
    "Pow": "pow",
    "RealDiv": "div",
    "RightShift": "shr",
    "Sub": "sub",
    "TruncateDiv": "div",
    "TruncateMod": "fmod",
}


def _unary(node: NodeContext, fn: str, params: dict[str, float]) -> Value:
    x = node.stored(0)
    if fn in ("floor", "ceil", "round") and not x.dtype.is_float:
        return x
    return node.apply(fn, x, **params)


def _binary(node: NodeContext, fn: str) -> Value:
    return node.apply(fn, node.stored(0), node.stored(1))


for _name, (_fn, _params) in UNARY.items():
    tf_op(_name)(partial(_unary, fn=_fn, params=_params))
for _name, _fn in BINARY.items():
    tf_op(_name)(partial(_binary, fn=_fn))


@tf_op("SquaredDifference")
def squared_difference(node: NodeContext) -> Value:
    return arithmetic.squared_difference(node, node.stored(0), node.stored(1))


@tf_op("FloorDiv")
def floor_div(node: NodeContext) -> Value:
    return arithmetic.floor_div(node, node.stored(0), node.stored(1))


@tf_op("DivNoNan", "MulNoNan", "Xdivy", "Xlogy", "Xlog1py")
def no_nan(node: NodeContext) -> Value:
    """x / y, x * y or x f(y), but 0 where y is 0 (DivNoNan, MulNoNan) or x is 0 (the others)."""
    x, y = node.stored(0), node.stored(1)
    deciding = y if node.op in ("DivNoNan", "MulNoNan") else x
    inner = {"Xlogy": "log", "Xlog1py": "log1p"}.get(node.op)
    other = node.apply(inner, y) if inner else y
    found = node.apply("div" if node.op in ("DivNoNan", "Xdivy") else "mul", x, other)
    return node.apply("where", node.apply("eq", deciding, node.like(0, deciding)), node.like(0, found), found)


@tf_op("AddN")
def add_n(node: NodeContext) -> Value:
    total = node.stored(0)
    for value in node.values(1):
        total = node.apply("add", total, value)
    return total


@tf_op("LeakyRelu")
def leaky_relu(node: NodeContext) -> Value:
    return node.apply("leaky_relu", node.stored(0), alpha=float(node.attr("alpha", "f", 0.2)))


@tf_op("ClipByValue")
def clip_by_value(node: NodeContext) -> Value:
    return node.apply("min", node.apply("max", node.stored(0), node.stored(1)), node.stored(2))


@tf_op("IsFinite")
def is_finite(node: NodeContext) -> Value:
    x = node.stored(0)
    return node.apply("not", node.apply("or", node.apply("isnan", x), node.apply("isinf", x)))


@tf_op("Erfc")
def erfc(node: NodeContext) -> Value:
    x = node.stored(0)
    return node.apply("sub", node.like(1, x), node.apply("erf", x))


@tf_op("Select", "SelectV2")
def select(node: NodeContext) -> Value:
    """Of Select a condition of rank 1 chooses whole slices along axis 0."""
    condition, yes, no = node.values(0, 3)
    if node.op == "Select" and condition.type.rank == 1 < yes.type.rank:
        condition = node.reshape(condition, (*condition.shape, *(1,) * (yes.type.rank - 1)))
    return node.apply("where", condition, yes, no)


@tf_op("Cast")
def cast(node: NodeContext) -> Value:
    """From float towards zero."""
    return node.cast(node.stored(0), node.dtype("DstT"))


@tf_op("ZerosLike", "OnesLike")
def zeros_like(node: NodeContext) -> Value:
    x = node.stored(0)
    return node.filled(x.shape, 0 if node.op == "ZerosLike" else 1, x.dtype)


@tf_op("Const")
def const(node: NodeContext) -> Operand:
    proto = node.attr("value", "tensor")
    if proto.dtype == tensors.STRING:
        return Text("a constant of strings")
    array = tensors.array(proto, node.where)
    return node.const(array) if array.size <= 1 else node.constant(array)


# ---- fake quantization


@tf_op("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVarsPerChannel")
def fake_quant(node: NodeContext) -> Value:
    """Forces x onto 2^bits values between min and max, which are nudged such that 0 is one of them (TensorFlow's fake quantization)."""
    x, bits = node.floats(0), int(node.attr("num_bits", "i", 8))
    if node.op == "FakeQuantWithMinMaxArgs":
        low, high = (np.asarray(node.attr(name, "f", default), np.float32) for name, default in (("min", -6.0), ("max", 6.0)))
    else:
        low, high = (node.array(k, what).astype(np.float32) for k, what in ((1, "min"), (2, "max")))
    if not 2 <= bits <= 16 or (low > 0).any() or (high < 0).any() or (low >= high).any():
        raise node.malformed("the range does not fit", got=f"{low} to {high}, {bits} bits", expected="a range around 0")
    first, last = (1 if node.attr("narrow_range", "b", False) else 0), (1 << bits) - 1
    scale = (high - low) / np.float32(last - first)
    zero = np.clip(np.floor(first - low / scale + np.float32(0.5)), first, last)
    numbers = ((first - zero) * scale, (last - zero) * scale, scale, 1 / scale)
    bottom, top, step, inverse = (node.const(a.astype(x.dtype.numpy)) for a in numbers)
    shifted = node.apply("sub", node.apply("min", node.apply("max", x, bottom), top), bottom)
    whole = node.apply("floor", node.apply("add", node.apply("mul", shifted, inverse), node.like(0.5, x)))
    return node.apply("add", node.apply("mul", whole, step), bottom)


# ---- bitwise identity


@tf_op(
    "Identity", "Snapshot", "StopGradient", "PreventGradient", "CheckNumerics", "ReadVariableOp", "Enter", "NextIteration", "LoopCond",
    "EnsureShape",
)  # fmt: skip
def identity(node: NodeContext) -> Operand:
    """The operand; a variable where its elements are read. What it claims about them is not checked."""
    found = node.operand(0)
    return node.variable(node.handle(0)) if node.op == "ReadVariableOp" else found


@tf_op("IdentityN")
def identity_n(node: NodeContext) -> list[Operand]:
    return list(node.operands)


@tf_op("PlaceholderWithDefault")
def placeholder_with_default(node: NodeContext) -> Operand:
    """The default: the signature does not list it as an input."""
    return node.operand(0)


@tf_op("Placeholder")
def placeholder(node: NodeContext) -> Operand:
    raise node.unsupported("a placeholder is read that the signature does not list as an input", hint="freeze the graph, or list it when the model is saved")


@tf_op("Bucketize")
def bucketize(node: NodeContext) -> Value:
    """How many boundaries are not above x, i32."""
    return arithmetic.bucketized(node, node.stored(0), np.asarray(list(node.node.attributes["boundaries"].list.f), np.float32))
