"""Scalar expressions: bodies of elementwise ops, epilogues, loop programs and index math.

An Expr is an immutable DAG over ``Input`` (an operand's element), ``Const``, ``Axis`` (a loop variable), ``Size`` (a symbolic dim), ``Load``
(an operand's element at computed indices), ``Acc`` (a reduction's accumulator), ``Cast``, ``Bits`` and ``Call`` of a primitive.
``PRIMITIVES`` gives each primitive's arity, result kind, numpy meaning and scalar C text. Vector code per ISA comes from
``strop.target.isa``. Composite functions (sigmoid, gelu, ...) are written as Exprs in ``strop.ops.elementwise``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.shape import Dim


class Expr:
    """Base of scalar expressions; Python operators build Calls."""

    __slots__ = ()

    def __add__(self, other: Operand) -> Expr:
        return call("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return call("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return call("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return call("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return call("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return call("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return call("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return call("div", other, self)

    def __floordiv__(self, other: Operand) -> Expr:
        return call("floordiv", self, other)

    def __mod__(self, other: Operand) -> Expr:
        return call("floormod", self, other)

    def __neg__(self) -> Expr:
        return call("neg", self)

    def __lt__(self, other: Operand) -> Expr:
        return call("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return call("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return call("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        return call("ge", self, other)

    def __and__(self, other: Operand) -> Expr:
        return call("and", self, other)

    def __or__(self, other: Operand) -> Expr:
        return call("or", self, other)


@dataclass(frozen=True)
class Input(Expr):
    """Element of operand ``index`` at the current (broadcast) position."""

    index: int


@dataclass(frozen=True)
class Const(Expr):
    """A literal. ``dtype`` None takes the type of the operand it meets."""

    value: float | int | bool
    dtype: DType | None = None

    def __eq__(self, other: object) -> bool:  # 0.0 and -0.0 differ, NaN equals itself
        return isinstance(other, Const) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True)
class Axis(Expr):
    """A loop variable of a loop program (int64)."""

    name: str


@dataclass(frozen=True)
class Size(Expr):
    """The run-time value of a symbolic dim (int64); only in loop programs. ``strop.ops.base.size`` makes it."""

    dim: Dim


@dataclass(frozen=True)
class Load(Expr):
    """Element of operand (or earlier stage, by name) at logical indices, one int64 Expr per axis."""

    source: int | str
    index: tuple[Expr, ...]


@dataclass(frozen=True)
class Acc(Expr):
    """The value a reduction has gathered; only in a stage's ``final``."""


@dataclass(frozen=True)
class Cast(Expr):
    """Conversion as ``cast_array``: float to int truncates, f8e4m3 saturates."""

    to: DType
    arg: Expr


@dataclass(frozen=True)
class Bits(Expr):
    """The bytes of an element as an element of another dtype of the same size; only in loop programs."""

    to: DType
    arg: Load


@dataclass(frozen=True)
class Call(Expr):
    """A primitive applied to arguments."""

    fn: str
    args: tuple[Expr, ...]


Operand = Union[Expr, float, int, bool]


@dataclass(frozen=True)
class Primitive:
    """A scalar primitive.

    Attributes:
        arity: number of arguments.
        result: ``same`` (type of the arguments), ``bool``, or ``select`` (type of the last two).
        numpy: its meaning.
        c: scalar C text with {0} {1} {2}; {f} is the libm suffix ('f' for float, '' for double).
        c_int: C text for integer arguments where it differs.
    """

    arity: int
    result: str
    numpy: Callable[..., Any]
    c: str
    c_int: str | None = None


def _div(a: Any, b: Any) -> Any:
    if np.issubdtype(np.result_type(a, b), np.integer):  # ONNX: integer division truncates
        quotient = np.floor_divide(a, b)
        return quotient + ((np.remainder(a, b) != 0) & (quotient < 0)).astype(quotient.dtype)
    return np.divide(a, b)


def _fmod(a: Any, b: Any) -> Any:
    return np.fmod(a, b)


_erf_scalar = np.frompyfunc(math.erf, 1, 1)


def _erf(a: Any) -> Any:
    array = np.asarray(a)
    return np.asarray(_erf_scalar(array.astype(np.float64)), dtype=np.float64).astype(array.dtype)


def _ldexp(a: Any, n: Any) -> Any:
    return np.ldexp(a, np.asarray(n).astype(np.int32)).astype(np.asarray(a).dtype)


def _shift_left(a: Any, b: Any) -> Any:
    return np.left_shift(a, b)


PRIMITIVES: dict[str, Primitive] = {
    "add": Primitive(2, "same", np.add, "({0} + {1})"),
    "sub": Primitive(2, "same", np.subtract, "({0} - {1})"),
    "mul": Primitive(2, "same", np.multiply, "({0} * {1})"),
    "div": Primitive(2, "same", _div, "({0} / {1})", "strop_idiv({0}, {1})"),
    "floordiv": Primitive(2, "same", np.floor_divide, "floor{f}({0} / {1})", "strop_floordiv({0}, {1})"),
    "floormod": Primitive(2, "same", np.mod, "strop_floormod{f}({0}, {1})", "strop_floormodi({0}, {1})"),
    "fmod": Primitive(2, "same", _fmod, "fmod{f}({0}, {1})", "strop_irem({0}, {1})"),
    "min": Primitive(2, "same", np.minimum, "strop_min({0}, {1})"),
    "max": Primitive(2, "same", np.maximum, "strop_max({0}, {1})"),
    "pow": Primitive(2, "same", np.power, "pow{f}({0}, {1})", "strop_ipow({0}, {1})"),
    "atan2": Primitive(2, "same", np.arctan2, "atan2{f}({0}, {1})"),
    "fma": Primitive(3, "same", lambda a, b, c: a * b + c, "({0} * {1} + {2})"),
    "neg": Primitive(1, "same", np.negative, "(-{0})"),
    "abs": Primitive(1, "same", np.abs, "fabs{f}({0})", "strop_iabs({0})"),
    "sign": Primitive(1, "same", np.sign, "strop_sign({0})"),
    "sqrt": Primitive(1, "same", np.sqrt, "sqrt{f}({0})"),
    "exp": Primitive(1, "same", np.exp, "exp{f}({0})"),
    "expm1": Primitive(1, "same", np.expm1, "expm1{f}({0})"),
    "log": Primitive(1, "same", np.log, "log{f}({0})"),
    "log1p": Primitive(1, "same", np.log1p, "log1p{f}({0})"),
    "tanh": Primitive(1, "same", np.tanh, "tanh{f}({0})"),
    "erf": Primitive(1, "same", _erf, "erf{f}({0})"),
    "sin": Primitive(1, "same", np.sin, "sin{f}({0})"),
    "cos": Primitive(1, "same", np.cos, "cos{f}({0})"),
    "tan": Primitive(1, "same", np.tan, "tan{f}({0})"),
    "asin": Primitive(1, "same", np.arcsin, "asin{f}({0})"),
    "acos": Primitive(1, "same", np.arccos, "acos{f}({0})"),
    "atan": Primitive(1, "same", np.arctan, "atan{f}({0})"),
    "sinh": Primitive(1, "same", np.sinh, "sinh{f}({0})"),
    "cosh": Primitive(1, "same", np.cosh, "cosh{f}({0})"),
    "asinh": Primitive(1, "same", np.arcsinh, "asinh{f}({0})"),
    "acosh": Primitive(1, "same", np.arccosh, "acosh{f}({0})"),
    "atanh": Primitive(1, "same", np.arctanh, "atanh{f}({0})"),
    "floor": Primitive(1, "same", np.floor, "floor{f}({0})"),
    "ceil": Primitive(1, "same", np.ceil, "ceil{f}({0})"),
    "trunc": Primitive(1, "same", np.trunc, "trunc{f}({0})"),
    "round": Primitive(1, "same", np.rint, "rint{f}({0})"),  # half to even
    "ldexp": Primitive(2, "same", _ldexp, "ldexp{f}({0}, (int){1})"),
    "lt": Primitive(2, "bool", np.less, "({0} < {1})"),
    "le": Primitive(2, "bool", np.less_equal, "({0} <= {1})"),
    "gt": Primitive(2, "bool", np.greater, "({0} > {1})"),
    "ge": Primitive(2, "bool", np.greater_equal, "({0} >= {1})"),
    "eq": Primitive(2, "bool", np.equal, "({0} == {1})"),
    "ne": Primitive(2, "bool", np.not_equal, "({0} != {1})"),
    "isnan": Primitive(1, "bool", np.isnan, "({0} != {0})"),
    "isinf": Primitive(1, "bool", np.isinf, "(fabs{f}({0}) == INFINITY)"),
    "and": Primitive(2, "bool", np.logical_and, "({0} && {1})"),
    "or": Primitive(2, "bool", np.logical_or, "({0} || {1})"),
    "xor": Primitive(2, "bool", np.logical_xor, "(!{0} != !{1})"),
    "not": Primitive(1, "bool", np.logical_not, "(!{0})"),
    "bitand": Primitive(2, "same", np.bitwise_and, "({0} & {1})"),
    "bitor": Primitive(2, "same", np.bitwise_or, "({0} | {1})"),
    "bitxor": Primitive(2, "same", np.bitwise_xor, "({0} ^ {1})"),
    "bitnot": Primitive(1, "same", np.bitwise_not, "(~{0})"),
    "shl": Primitive(2, "same", _shift_left, "strop_shl({0}, {1})"),
    "shr": Primitive(2, "same", np.right_shift, "strop_shr({0}, {1})"),
    "select": Primitive(3, "select", np.where, "({0} ? {1} : {2})"),
}


def wrap(value: Operand) -> Expr:
    """A Python number as a Const; an Expr as it is."""
    return value if isinstance(value, Expr) else Const(value)


def call(fn: str, *args: Operand) -> Expr:
    """A primitive call; checks name and arity."""
    primitive = PRIMITIVES[fn]
    if len(args) != primitive.arity:
        raise ValueError(f"{fn} takes {primitive.arity} arguments, got {len(args)}")
    return Call(fn, tuple(wrap(a) for a in args))


def children(expr: Expr) -> tuple[Expr, ...]:
    """Direct sub-expressions."""
    if isinstance(expr, Call):
        return expr.args
    if isinstance(expr, (Cast, Bits)):
        return (expr.arg,)
    if isinstance(expr, Load):
        return expr.index
    return ()


def rebuild(expr: Expr, args: Sequence[Expr]) -> Expr:
    """The same node over other sub-expressions."""
    if isinstance(expr, Call):
        return Call(expr.fn, tuple(args))
    if isinstance(expr, Cast):
        return Cast(expr.to, args[0])
    if isinstance(expr, Bits):
        assert isinstance(args[0], Load)
        return Bits(expr.to, args[0])
    if isinstance(expr, Load):
        return Load(expr.source, tuple(args))
    return expr


def substitute(expr: Expr, leaf: Callable[[Expr], Expr | None]) -> Expr:
    """Replaces every node for which ``leaf`` returns an Expr, from the top; keeps sharing."""
    memo: dict[int, Expr] = {}

    def visit(node: Expr) -> Expr:
        done = memo.get(id(node))
        if done is not None:
            return done
        new = leaf(node)
        if new is None:
            args = [visit(child) for child in children(node)]
            new = rebuild(node, args) if args else node
        memo[id(node)] = new
        return new

    return visit(expr)


def walk(expr: Expr) -> list[Expr]:
    """Every distinct node once, children before parents."""
    seen: set[int] = set()
    order: list[Expr] = []

    def visit(node: Expr) -> None:
        if id(node) in seen:
            return
        seen.add(id(node))
        for child in children(node):
            visit(child)
        order.append(node)

    visit(expr)
    return order


def inputs_of(expr: Expr) -> list[int]:
    """Sorted operand numbers that ``Input`` nodes name."""
    return sorted({node.index for node in walk(expr) if isinstance(node, Input)})


def type_of(expr: Expr, inputs: Sequence[DType], named: Mapping[str, DType] | None = None) -> DType | None:
    """Result type; None for a literal that has not met a typed operand.

    Args:
        expr: the expression.
        inputs: types of the operands that Input and Load name by number (and Acc as ``named["acc"]``).
        named: types of stages that Load names.
    """
    named = named or {}
    if isinstance(expr, Input):
        return inputs[expr.index]
    if isinstance(expr, Const):
        return dt.boolean if isinstance(expr.value, bool) else expr.dtype
    if isinstance(expr, (Axis, Size)):
        return dt.i64
    if isinstance(expr, Load):
        return inputs[expr.source] if isinstance(expr.source, int) else named[expr.source]
    if isinstance(expr, Acc):
        return named["acc"]
    if isinstance(expr, (Cast, Bits)):
        return expr.to
    assert isinstance(expr, Call)
    if PRIMITIVES[expr.fn].result == "bool":
        return dt.boolean
    for arg in expr.args[1 if expr.fn == "select" else 0 :]:
        found = type_of(arg, inputs, named)
        if found is not None:
            return found
    return None


def evaluate(expr: Expr, arrays: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Meaning in numpy: Input(i) is arrays[i] (broadcast as numpy does). The result keeps the type of ``type_of``."""
    types = [dt.from_numpy(a.dtype) for a in arrays]
    memo: dict[int, Any] = {}

    def visit(node: Expr, wanted: DType | None) -> Any:
        if isinstance(node, Const):
            kind = node.dtype or wanted
            return np.asarray(node.value, dtype=None if kind is None else kind.numpy)
        if id(node) in memo:
            return memo[id(node)]
        if isinstance(node, Input):
            result: Any = arrays[node.index]
        elif isinstance(node, Cast):
            result = cast_array(visit(node.arg, None), node.to)
        elif isinstance(node, Call):
            meaning = PRIMITIVES[node.fn].numpy
            kind = next((t for t in (type_of(a, types) for a in _typed(node)) if t), wanted)
            values = [visit(a, dt.boolean if node.fn == "select" and i == 0 else kind) for i, a in enumerate(node.args)]
            with np.errstate(all="ignore"):
                result = np.asarray(meaning(*values))
            if PRIMITIVES[node.fn].result != "bool" and kind is not None and result.dtype != kind.numpy:
                result = result.astype(kind.numpy)
        else:
            raise ValueError(f"{type(node).__name__} has no elementwise meaning")
        memo[id(node)] = result
        return result

    kind = type_of(expr, types)
    return np.asarray(visit(expr, kind if kind is not None else (types[0] if types else dt.f32)))


def cast_array(array: np.ndarray[Any, Any], to: DType) -> np.ndarray[Any, Any]:
    """numpy ``astype`` without warnings about values that do not fit.

    To f8e4m3 halves are rounded to even, and what is beyond its range, infinities too, becomes its greatest number of that sign (PTX ISA,
    ``cvt.rn.satfinite.e4m3x2.f32``; ONNX Cast with saturate).
    """
    with np.errstate(all="ignore"):
        if to is dt.f8e4m3:
            array = np.clip(array.astype(np.float64), -dt.F8_MAX, dt.F8_MAX)
        return array.astype(to.numpy)


def _typed(node: Call) -> tuple[Expr, ...]:
    return node.args[1:] if node.fn == "select" else node.args


def show(expr: Expr) -> str:
    """Readable text, e.g. ``max(add($0, $1), 0.0)``."""
    if isinstance(expr, Input):
        return f"${expr.index}"
    if isinstance(expr, Const):
        return repr(expr.value) + (f":{expr.dtype}" if expr.dtype else "")
    if isinstance(expr, Axis):
        return expr.name
    if isinstance(expr, Size):
        return str(expr.dim)
    if isinstance(expr, Load):
        return f"@{expr.source}[{', '.join(show(i) for i in expr.index)}]"
    if isinstance(expr, Acc):
        return "acc"
    if isinstance(expr, Cast):
        return f"cast<{expr.to}>({show(expr.arg)})"
    if isinstance(expr, Bits):
        return f"bits<{expr.to}>({show(expr.arg)})"
    assert isinstance(expr, Call)
    return f"{expr.fn}({', '.join(show(a) for a in expr.args)})"
