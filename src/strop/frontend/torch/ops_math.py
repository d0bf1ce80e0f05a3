"""ATen elementwise ops: arithmetic, functions, activations, comparisons, logic, bits, selection, casts."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.promote import result_type, values
from strop.frontend.torch.registry import torch_op
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.graph import Value

# ---- one row per function of one operand

#: (op, function in strop.ops.elementwise): computed in the dtype of the result, into which integers are cast.
UNARY: tuple[tuple[str, str], ...] = (
    ("abs", "abs"),
    ("acos", "acos"),
    ("acosh", "acosh"),
    ("asin", "asin"),
    ("asinh", "asinh"),
    ("atan", "atan"),
    ("atanh", "atanh"),
    ("cos", "cos"),
    ("cosh", "cosh"),
    ("erf", "erf"),
    ("exp", "exp"),
    ("expm1", "expm1"),
    ("log", "log"),
    ("log1p", "log1p"),
    ("log_sigmoid", "log_sigmoid"),
    ("mish", "mish"),
    ("neg", "neg"),
    ("reciprocal", "reciprocal"),
    ("relu", "relu"),
    ("rsqrt", "rsqrt"),
    ("selu", "selu"),
    ("sigmoid", "sigmoid"),
    ("silu", "silu"),
    ("sin", "sin"),
    ("sinh", "sinh"),
    ("special_expit", "sigmoid"),
    ("sqrt", "sqrt"),
    ("square", "square"),
    ("tan", "tan"),
    ("tanh", "tanh"),
)

#: As UNARY, of an activation with params: (op, function, (argument, param)...).
PARAMS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("celu", "celu", (("alpha", "alpha"),)),
    ("leaky_relu", "leaky_relu", (("negative_slope", "alpha"),)),
    ("hardtanh", "clip", (("min_val", "lo"), ("max_val", "hi"))),
)


def _unary(node: NodeContext, fn: str, params: tuple[tuple[str, str], ...] = ()) -> Value:
    x = node.cast(node.tensor(), node.result.dtype)
    return node.apply(fn, x, **{param: node.number(name) for name, param in params})


for _op, _fn, _params in (*((*row, ()) for row in UNARY), *PARAMS):
    torch_op(f"aten.{_op}.default")(partial(_unary, fn=_fn, params=_params))

#: Rounding leaves integers as they are.
for _op in ("ceil", "floor", "round", "trunc"):

    @torch_op(f"aten.{_op}.default")
    def _rounding(node: NodeContext, fn: str = _op) -> Value:
        x = node.tensor()
        return node.apply(fn, x) if x.dtype.is_float else x


@torch_op("aten.round.decimals")
def round_decimals(node: NodeContext) -> Value:
    x, factor = node.tensor(), 10.0 ** node.integer("decimals")
    if not x.dtype.is_float:
        return x
    scaled = node.apply("round", node.apply("mul", x, node.like(factor, x)))
    return node.apply("div", scaled, node.like(factor, x))


# ---- functions written over others


@torch_op("aten.sign.default", "aten.sgn.default")
def sign(node: NodeContext) -> Value:
    """0 for NaN."""
    x = node.tensor()
    if not x.dtype.is_float:
        return x if x.dtype is dt.boolean else node.apply("sign", x)
    above, below = (node.cast(node.apply(fn, x, node.like(0, x)), x.dtype) for fn in ("gt", "lt"))
    return node.apply("sub", above, below)


@torch_op("aten.rrelu_with_noise_functional.default")
def rrelu(node: NodeContext) -> tuple[Value, ...]:
    """The middle of the slopes, which are random in training; the noise stays as it is."""
    if node.flag("training"):
        raise node.unsupported("random slopes are for training only", got="training mode", hint="call module.eval() before the export")
    return node.apply("leaky_relu", node.tensor(), alpha=(node.number("lower") + node.number("upper")) / 2), node.tensor("noise")


def _float(node: NodeContext, name: str = "self") -> Value:
    return node.cast(node.tensor(name), node.result.dtype)


@torch_op("aten.erfc.default")
def erfc(node: NodeContext) -> Value:
    x = _float(node)
    return node.apply("sub", node.like(1, x), node.apply("erf", x))


@torch_op("aten.exp2.default")
def exp2(node: NodeContext) -> Value:
    x = _float(node)
    return node.apply("pow", node.like(2, x), x)


@torch_op("aten.log2.default", "aten.log10.default")
def log_base(node: NodeContext) -> Value:
    x, base = _float(node), 2.0 if ".log2." in node.op else 10.0
    return node.apply("mul", node.apply("log", x), node.like(1 / math.log(base), x))


@torch_op("aten.gelu.default")
def gelu(node: NodeContext) -> Value:
    return node.apply("gelu_tanh" if node.arg("approximate") == "tanh" else "gelu", node.tensor())


@torch_op("aten.elu.default")
def elu(node: NodeContext) -> Value:
    """scale * x where positive, else scale * alpha * (exp(input_scale * x) - 1)."""
    x, alpha, scale, inner = node.tensor(), node.number("alpha"), node.number("scale"), node.number("input_scale")
    if scale == inner == 1.0:
        return node.apply("elu", x, alpha=alpha)
    below = node.apply("expm1", node.apply("mul", node.apply("min", x, node.like(0, x)), node.like(inner, x)))
    low, high = node.apply("mul", below, node.like(scale * alpha, x)), node.apply("mul", x, node.like(scale, x))
    return node.apply("where", node.apply("gt", x, node.like(0, x)), high, low)


@torch_op("aten.hardsigmoid.default")
def hardsigmoid(node: NodeContext) -> Value:
    return node.apply("hard_sigmoid", node.tensor(), alpha=1 / 6, beta=0.5)


@torch_op("aten.hardswish.default")
def hardswish(node: NodeContext) -> Value:
    return node.apply("hard_swish", node.tensor())


@torch_op("aten.relu6.default")
def relu6(node: NodeContext) -> Value:
    return node.apply("clip", node.tensor(), lo=0.0, hi=6.0)


@torch_op("aten.softplus.default")
def softplus(node: NodeContext) -> Value:
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x is above the threshold."""
    x, beta, threshold = node.tensor(), node.number("beta"), node.number("threshold")
    scaled = x if beta == 1.0 else node.apply("mul", x, node.like(beta, x))
    soft = node.apply("softplus", scaled)
    soft = soft if beta == 1.0 else node.apply("div", soft, node.like(beta, x))
    if beta == 1.0 and threshold >= 20.0 and x.dtype is dt.f32:
        return soft  # equal in f32: exp(-20) is below half a unit in the last place
    return node.apply("where", node.apply("gt", scaled, node.like(threshold, x)), x, soft)


@torch_op("aten.threshold.default")
def threshold(node: NodeContext) -> Value:
    x = node.tensor()
    above = node.apply("gt", x, node.like(node.number("threshold"), x))
    return node.apply("where", above, x, node.like(node.number("value"), x))


@torch_op("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(node: NodeContext) -> Value:
    """One slope, or one per channel (axis 1)."""
    x, slope = node.tensor(), node.tensor("weight")
    if slope.type.rank == 1 and x.type.rank > 1:
        slope = node.reshape(slope, (slope.shape[0], *(1,) * (x.type.rank - 2)))
    return node.apply("prelu", x, slope)


# ---- arithmetic


def _logic(fn: str, dtype: DType) -> str:
    """Arithmetic of bools is logic."""
    return {"add": "or", "mul": "and", "max": "or", "min": "and"}.get(fn, fn) if dtype is dt.boolean else fn


def _binary(node: NodeContext, fn: str, a: Any, b: Any) -> Value:
    """A function of two operands in the dtype of the result."""
    dtype = node.result.dtype
    return node.apply(_logic(fn, dtype), *values(node, [a, b], dtype))


@torch_op("aten.add.Tensor", "aten.add.Scalar", "aten.sub.Tensor", "aten.sub.Scalar", "aten.rsub.Tensor", "aten.rsub.Scalar")
def add(node: NodeContext) -> Value:
    """a + alpha * b, a - alpha * b, and b - alpha * a."""
    fn = "add" if ".add." in node.op else "sub"
    a, b = node.arg("self"), node.arg("other")
    a, b = (b, a) if ".rsub." in node.op else (a, b)
    alpha = node.arg("alpha", 1)
    if alpha != 1:
        (b,) = values(node, [b], node.result.dtype)
        b = node.apply("mul", b, node.like(alpha, b))
    return _binary(node, fn, a, b)


@torch_op("aten.mul.Tensor", "aten.mul.Scalar")
def mul(node: NodeContext) -> Value:
    return _binary(node, "mul", node.arg("self"), node.arg("other"))


@torch_op("aten.div.Tensor", "aten.div.Scalar")
def div(node: NodeContext) -> Value:
    return _binary(node, "div", node.arg("self"), node.arg("other"))


@torch_op("aten.div.Tensor_mode", "aten.div.Scalar_mode", "aten.floor_divide.default")
def div_mode(node: NodeContext) -> Value:
    """rounding_mode None, trunc or floor."""
    mode = "floor" if "floor_divide" in node.op else node.arg("rounding_mode")
    a, b = values(node, [node.arg("self"), node.arg("other")], node.result.dtype)
    if mode is None or (mode == "trunc" and a.dtype.is_int):
        return node.apply("div", a, b)
    if mode == "floor" and a.dtype.is_int:
        return node.apply("div", node.apply("sub", a, node.apply("mod", a, b)), b)
    return node.apply("floor" if mode == "floor" else "trunc", node.apply("div", a, b))


@torch_op("aten.remainder.Tensor", "aten.remainder.Scalar")
def remainder(node: NodeContext) -> Value:
    return _binary(node, "mod", node.arg("self"), node.arg("other"))


@torch_op("aten.fmod.Tensor", "aten.fmod.Scalar")
def fmod(node: NodeContext) -> Value:
    return _binary(node, "fmod", node.arg("self"), node.arg("other"))


@torch_op("aten.pow.Tensor_Tensor", "aten.pow.Tensor_Scalar", "aten.pow.Scalar")
def power(node: NodeContext) -> Value:
    exponent = node.arg("exponent")
    if isinstance(exponent, (int, float)) and node.tensor().dtype == node.result.dtype and node.result.dtype.is_float:
        simple = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}.get(float(exponent))
        if simple is not None:
            return node.apply(simple, node.tensor())
    return _binary(node, "pow", node.arg("self"), exponent)


@torch_op("aten.maximum.default", "aten.minimum.default")
def maximum(node: NodeContext) -> Value:
    return _binary(node, "max" if "maximum" in node.op else "min", node.arg("self"), node.arg("other"))


@torch_op("aten.fmax.default", "aten.fmin.default")
def fmax(node: NodeContext) -> Value:
    """As maximum, but a NaN gives way to a number."""
    a, b = values(node, [node.arg("self"), node.arg("other")], node.result.dtype)
    result = node.apply("max" if "fmax" in node.op else "min", a, b)
    if not a.dtype.is_float:
        return result
    result = node.apply("where", node.apply("isnan", b), a, result)
    return node.apply("where", node.apply("isnan", a), b, result)


@torch_op("aten.atan2.default")
def atan2(node: NodeContext) -> Value:
    return _binary(node, "atan2", node.arg("self"), node.arg("other"))


@torch_op("aten.hypot.default")
def hypot(node: NodeContext) -> Value:
    a, b = (node.apply("square", v) for v in values(node, [node.arg("self"), node.arg("other")], node.result.dtype))
    return node.apply("sqrt", node.apply("add", a, b))


@torch_op("aten.copysign.Tensor", "aten.copysign.Scalar")
def copysign(node: NodeContext) -> Value:
    """Of zeros only the sign of what they are the reciprocal of tells which one it is."""
    a, b = values(node, [node.arg("self"), node.arg("other")], node.result.dtype)
    zero, size = node.like(0, a), node.apply("abs", a)
    at_zero = node.apply("lt", node.apply("div", node.like(1, b), b), zero)
    negative = node.apply("where", node.apply("eq", b, zero), at_zero, node.apply("lt", b, zero))
    return node.apply("where", negative, node.apply("neg", size), size)


@torch_op("aten.addcmul.default", "aten.addcdiv.default")
def addcmul(node: NodeContext) -> Value:
    """self + value * (tensor1 * tensor2), or with their quotient."""
    dtype = node.result.dtype
    x, a, b = values(node, [node.arg("self"), node.arg("tensor1"), node.arg("tensor2")], dtype)
    inner = node.apply("mul" if "addcmul" in node.op else "div", a, b)
    factor = node.arg("value", 1)
    inner = inner if factor == 1 else node.apply("mul", inner, node.like(factor, inner))
    return node.apply("add", x, inner)


@torch_op("aten.lerp.Tensor", "aten.lerp.Scalar")
def lerp(node: NodeContext) -> Value:
    start, end, weight = values(node, [node.arg("self"), node.arg("end"), node.arg("weight")], node.result.dtype)
    return node.apply("add", start, node.apply("mul", weight, node.apply("sub", end, start)))


@torch_op("aten.logaddexp.default")
def logaddexp(node: NodeContext) -> Value:
    """max + log(1 + exp(-|a - b|)): no exponential overflows."""
    a, b = values(node, [node.arg("self"), node.arg("other")], node.result.dtype)
    distance = node.apply("neg", node.apply("abs", node.apply("sub", a, b)))
    return node.apply("add", node.apply("max", a, b), node.apply("log1p", node.apply("exp", distance)))


# ---- bounds


@torch_op("aten.clamp.default", "aten.clamp_min.default", "aten.clamp_max.default")
def clamp(node: NodeContext) -> Value:
    """A bound left out is none."""
    x, low, high = node.cast(node.tensor(), node.result.dtype), node.arg("min"), node.arg("max")
    if not x.dtype.is_float:
        return _clamped(node, x, low, high)
    bounds = {"lo": node.number("min")} if low is not None else {}
    bounds |= {"hi": node.number("max")} if high is not None else {}
    return node.apply("clip", x, **bounds)


@torch_op("aten.clamp.Tensor", "aten.clamp_min.Tensor", "aten.clamp_max.Tensor")
def clamp_tensor(node: NodeContext) -> Value:
    return _clamped(node, node.cast(node.tensor(), node.result.dtype), node.arg("min"), node.arg("max"))


def _clamped(node: NodeContext, x: Value, low: Any, high: Any) -> Value:
    for fn, bound in (("max", low), ("min", high)):
        if bound is not None:
            x = node.apply(fn, x, *values(node, [bound], x.dtype))
    return x


@torch_op("aten.nan_to_num.default")
def nan_to_num(node: NodeContext) -> Value:
    """Infinities become the largest finite numbers unless others are given."""
    x = node.tensor()
    if not x.dtype.is_float:
        return x
    largest = {"f32": 3.4028234663852886e38, "f64": 1.7976931348623157e308, "f16": 65504.0, "bf16": 3.3895313892515355e38}[x.dtype.name]
    defaults = {"nan": 0.0, "posinf": largest, "neginf": -largest}
    given = {name: default if node.arg(name) is None else node.number(name) for name, default in defaults.items()}
    result = node.apply("where", node.apply("isnan", x), node.like(given["nan"], x), x)
    result = node.apply("where", node.apply("eq", x, node.like(math.inf, x)), node.like(given["posinf"], x), result)
    return node.apply("where", node.apply("eq", x, node.like(-math.inf, x)), node.like(given["neginf"], x), result)


# ---- comparisons and logic


def _compare(node: NodeContext, fn: str) -> Value:
    operands = [node.arg("self"), node.arg("other")]
    dtype = result_type(operands)
    if dtype is dt.boolean and fn not in ("eq", "ne"):
        dtype = dt.u8
    return node.apply(fn, *values(node, operands, dtype))


for _op in ("eq", "ne", "lt", "le", "gt", "ge"):
    torch_op(f"aten.{_op}.Tensor", f"aten.{_op}.Scalar")(partial(_compare, fn=_op))


@torch_op("aten.isnan.default", "aten.isinf.default", "aten.isfinite.default", "aten.isposinf.default", "aten.isneginf.default")
def is_special(node: NodeContext) -> Value:
    """Integers are always finite."""
    x, kind = node.tensor(), node.op.split(".")[1]
    if not x.dtype.is_float:
        return node.filled(x.shape, kind == "isfinite", dt.boolean)
    if kind in ("isnan", "isinf"):
        return node.apply(kind, x)
    if kind == "isfinite":
        return node.apply("not", node.apply("or", node.apply("isnan", x), node.apply("isinf", x)))
    return node.apply("eq", x, node.like(math.inf if kind == "isposinf" else -math.inf, x))


@torch_op("aten.logical_and.default", "aten.logical_or.default", "aten.logical_xor.default")
def logical(node: NodeContext) -> Value:
    return node.apply(node.op.split(".")[1].removeprefix("logical_"), *values(node, [node.arg("self"), node.arg("other")], dt.boolean))


@torch_op("aten.logical_not.default")
def logical_not(node: NodeContext) -> Value:
    return node.apply("not", node.cast(node.tensor(), dt.boolean))


def _bits(node: NodeContext, fn: str) -> Value:
    """Of bools: logic."""
    operands, dtype = [node.arg("self"), node.arg("other")], node.result.dtype
    return node.apply(fn if dtype is dt.boolean else f"bit{fn}", *values(node, operands, dtype))


for _op in ("and", "or", "xor"):
    _names = [f"aten.bitwise_{_op}.{kind}" for kind in ("Tensor", "Scalar", "Scalar_Tensor")]
    torch_op(*_names)(partial(_bits, fn=_op))


@torch_op("aten.bitwise_not.default")
def bitwise_not(node: NodeContext) -> Value:
    x = node.tensor()
    return node.apply("not" if x.dtype is dt.boolean else "bitnot", x)


@torch_op(
    *(f"aten.bitwise_{side}_shift.{kind}" for side in ("left", "right") for kind in ("Tensor", "Tensor_Scalar", "Scalar_Tensor")),
    *(f"aten.__{side}shift__.{kind}" for side in "lr" for kind in ("Tensor", "Scalar")),
)
def shift(node: NodeContext) -> Value:
    """Amounts lie within the number of bits."""
    fn = "shl" if "left" in node.op or "__l" in node.op else "shr"
    return node.apply(fn, *values(node, [node.arg("self"), node.arg("other")], node.result.dtype))


# ---- selection and casts


@torch_op("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar")
def where(node: NodeContext) -> Value:
    condition = node.cast(node.tensor("condition"), dt.boolean)
    return node.apply("where", condition, *values(node, [node.arg("self"), node.arg("other")], node.result.dtype))


@torch_op("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(node: NodeContext) -> Value:
    x = node.tensor()
    (value,) = values(node, [node.arg("value")], x.dtype)
    return node.apply("where", node.cast(node.tensor("mask"), dt.boolean), value, x)


@torch_op("aten._to_copy.default")
def to_dtype(node: NodeContext) -> Value:
    return node.cast(node.tensor(), node.result.dtype)


@torch_op("aten.clone.default", "aten.alias.default", "aten.detach.default")
def same(node: NodeContext) -> Value:
    """The operand itself: values never change here, and where they lie is no part of the program."""
    return node.tensor()

