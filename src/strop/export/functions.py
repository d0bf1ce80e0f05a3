"""Elementwise functions that TensorFlow Lite has no operator for, by those that it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from strop.export.apart import Apart
from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir.dtype import DType
from strop.ir.expr import cast_array
from strop.ir.graph import Value
from strop.ir.op import Op
from strop.ops.base import highest, lowest
from strop.ops.data import Expand
from strop.ops.elementwise import Cast, Elementwise, make
from strop.ops.quantize import Dequantize, Quantize

#: Whether the format has an operator for an elementwise function, or for resizing, over these operands.
Direct = Callable[[Op, Sequence[Value]], bool]

#: Names of the elementwise functions that are one primitive, where they differ.
_NAMES = {"floormod": "mod", "select": "where"}


def function(a: Apart, direct: Direct) -> Value | None:
    """A function's expression as one op per primitive; None for a function that is ``direct``."""
    op = a.node.op
    assert isinstance(op, Elementwise)
    if op.fn in _FIXED:
        return _FIXED[op.fn](a, op.param)
    types = [v.dtype for v in a.node.operands]
    if direct(op, a.node.operands):
        return None
    special = _SPECIAL.get(op.fn) if types[0] is dt.f32 and not (op.fn == "atan2" and len({v.shape for v in a.node.operands}) == 1) else None
    if special is not None:
        return special(a)
    if op.fn not in _COMPOSED and op.fn in (*ex.PRIMITIVES, *_NAMES.values()):
        return None  # nothing is known for it, and the writer refuses it by name
    found = _Expression(a, direct).value(op.expr())
    return found if isinstance(found, Value) else None


class _Expression:
    """The expression of an elementwise function."""

    def __init__(self, a: Apart, direct: Direct) -> None:
        self._a = a
        self._direct = direct
        self._known: dict[ex.Expr, Value | float] = {}

    def value(self, expr: ex.Expr) -> Value | float:
        """An expression's value; a number where it has no operand."""
        if expr not in self._known:
            self._known[expr] = self._made(expr)
        return self._known[expr]

    def _made(self, expr: ex.Expr) -> Value | float:
        if isinstance(expr, ex.Input):
            return self._a.node.operand(expr.index)
        if isinstance(expr, ex.Const):
            return float(expr.value)
        if isinstance(expr, ex.Cast):
            inner = self.value(expr.arg)
            return inner if isinstance(inner, float) else self._a.step(Cast(expr.to), inner)
        assert isinstance(expr, ex.Call), "an elementwise expression is made of operands, numbers, casts and calls"
        args = [self.value(arg) for arg in expr.args]
        if all(isinstance(arg, float) for arg in args):
            return float(ex.PRIMITIVES[expr.fn].numpy(*args))
        return self._call(expr.fn, args)

    def _call(self, fn: str, args: Sequence[Value | float]) -> Value:
        composed = _COMPOSED.get(fn)
        typed = args[1:] if fn == "select" else args
        dtype = next((a.dtype for a in typed if isinstance(a, Value)), self._a.node.outputs[0].dtype)
        values = [a if isinstance(a, Value) else self._a.const(cast_array(np.asarray(a), dtype)) for a in args]
        op = None if fn == "fma" else make(_NAMES.get(fn, fn))
        if composed is not None and dtype in composed[0] and (op is None or not self._direct(op, values)):
            return self._over(composed[1](*(ex.Input(k) for k in range(len(args)))), args)
        assert op is not None, "fma is composed"
        return self._a.step(op, *values)

    def _over(self, expr: ex.Expr, args: Sequence[Value | float]) -> Value:
        def value(part: ex.Expr) -> Value | float:
            if isinstance(part, ex.Input):
                return args[part.index]
            if isinstance(part, ex.Const):
                return float(part.value)
            assert isinstance(part, ex.Call)
            return self._call(part.fn, [value(arg) for arg in part.args])

        found = value(expr)
        assert isinstance(found, Value)
        return found


def _erf(x: ex.Expr) -> ex.Expr:
    """Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: within 1.5e-7."""
    t = 1.0 / (1.0 + 0.3275911 * ex.call("abs", x))
    series: ex.Expr = ex.Const(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + factor
    return ex.call("sign", x) * (1.0 - series * t * ex.call("exp", -(x * x)))


_FLOAT, _INTEGER = (dt.f32, dt.f64, dt.f16, dt.bf16), (dt.i8, dt.u8, dt.i16, dt.u16, dt.i32, dt.u32)
#: Primitives without an operator, for the types that are given, by those that have one.
_COMPOSED: dict[str, tuple[Sequence[DType], Callable[..., ex.Expr]]] = {
    "expm1": (_FLOAT, lambda x: ex.call("exp", x) - 1.0),
    "log1p": (_FLOAT, lambda x: ex.call("log", x + 1.0)),
    "erf": (_FLOAT, _erf),
    "tan": (_FLOAT, lambda x: ex.call("sin", x) / ex.call("cos", x)),
    "asin": (_FLOAT, lambda x: ex.call("atan2", x, ex.call("sqrt", 1.0 - x * x))),
    "acos": (_FLOAT, lambda x: ex.call("atan2", ex.call("sqrt", 1.0 - x * x), x)),
    "atan": (_FLOAT, lambda x: ex.call("atan2", x, x * 0.0 + 1.0)),
    "sinh": (_FLOAT, lambda x: 0.5 * (ex.call("exp", x) - ex.call("exp", -x))),
    "cosh": (_FLOAT, lambda x: 0.5 * (ex.call("exp", x) + ex.call("exp", -x))),
    "asinh": (_FLOAT, lambda x: ex.call("sign", x) * ex.call("log", ex.call("abs", x) + ex.call("sqrt", x * x + 1.0))),
    "acosh": (_FLOAT, lambda x: ex.call("log", x + ex.call("sqrt", x * x - 1.0))),
    "atanh": (_FLOAT, lambda x: 0.5 * ex.call("log", (1.0 + x) / (1.0 - x))),
    "trunc": (_FLOAT, lambda x: ex.call("sign", x) * ex.call("floor", ex.call("abs", x))),
    "fmod": (_FLOAT, lambda x, y: x - y * (ex.call("sign", x / y) * ex.call("floor", ex.call("abs", x / y)))),
    "isnan": (_FLOAT, lambda x: ex.call("ne", x, x)),
    "isinf": (_FLOAT, lambda x: ex.call("eq", ex.call("abs", x), math.inf)),
    "xor": ((dt.boolean,), lambda x, y: ex.call("ne", x, y)),
    "fma": (_FLOAT, lambda x, y, z: x * y + z),
    "bitnot": (_INTEGER, lambda x: ex.call("bitxor", x, -1)),
}


# ---- of floats, by fewer operators than their expressions have


def _silu(a: Apart) -> Value:
    x = a.node.operand(0)
    return a.apply("mul", x, a.apply("sigmoid", x))


def _hard_sigmoid(a: Apart) -> Value:
    """min(max(6 alpha x + 6 beta, 0), 6) / 6, whose limits an addition takes in."""
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Elementwise)
    alpha, beta = op.param["alpha"], op.param["beta"]
    x = x if math.isclose(6 * alpha, 1.0, rel_tol=1e-6) else a.apply("mul", x, 6 * alpha)
    return a.apply("mul", a.apply("clip", a.apply("add", x, 6 * beta), lo=0.0, hi=6.0), 1 / 6)


def _affine(a: Apart) -> Value:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Elementwise)
    alpha, beta = op.param["alpha"], op.param["beta"]
    x = x if alpha == 1.0 and beta != 0.0 else a.apply("mul", x, alpha)
    return x if beta == 0.0 else a.apply("add", x, beta)


def _prelu(a: Apart) -> Value:
    """max(x, 0) + slope * min(x, 0)."""
    x, slope = a.node.operand(0), a.node.operand(1)
    return a.apply("add", a.apply("relu", x), a.apply("mul", slope, a.apply("min", x, 0.0)))


def _atan2(a: Apart) -> Value:
    """Of operands of one shape."""
    shape = a.node.output.shape
    return a.apply("atan2", *(v if v.shape == shape else a.step(Expand(shape), v) for v in a.node.operands))


def _real(a: Apart, index: int, scale: float, zero: float) -> Value:
    """An operand behind a Dequantize."""
    operand = a.node.operand(index)
    return a.step(Dequantize(), operand, a.number(scale, dt.f32), a.number(zero, operand.dtype))


def _fixed_sum(a: Apart, param: Mapping[str, float]) -> Value:
    """Between Dequantize and Quantize; a result is at most one step from the sum in fixed point."""
    reals = [_real(a, k, abs(param[f"scale_{end}"]), param[f"zero_{end}"]) for k, end in enumerate("ab")]
    total = a.apply("sub" if param["scale_b"] < 0 else "add", *reals)
    to = a.node.output.dtype
    for fn, end, edge in (("max", "lo", lowest(to)), ("min", "hi", highest(to))):
        if param[end] != edge:
            total = a.apply(fn, total, (param[end] - param["zero"]) * param["scale"])
    return a.step(Quantize(to), total, a.number(param["scale"], dt.f32), a.number(param["zero"], to))


def _fixed_leaky_relu(a: Apart, param: Mapping[str, float]) -> Value:
    """Between Dequantize and Quantize, as a sum is."""
    real, to = _real(a, 0, param["scale_x"], param["zero_x"]), a.node.output.dtype
    found = real if param["alpha"] == 1 else a.apply("leaky_relu", real, alpha=param["alpha"])
    return a.step(Quantize(to), found, a.number(param["scale"], dt.f32), a.number(param["zero"], to))


_FIXED: dict[str, Callable[[Apart, Mapping[str, float]], Value]] = {"fixed_sum": _fixed_sum, "fixed_leaky_relu": _fixed_leaky_relu}


_SPECIAL: dict[str, Callable[[Apart], Value]] = {"silu": _silu, "hard_sigmoid": _hard_sigmoid, "affine": _affine, "prelu": _prelu, "atan2": _atan2}
