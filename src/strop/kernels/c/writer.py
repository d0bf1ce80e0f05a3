"""Indented C text, and scalar expressions as C."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from strop.errors import KernelError
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import PRIMITIVES, Acc, Axis, Call, Cast, Const, Expr, Input, Load, type_of


class Writer:
    """Collects lines of C with two-space indentation."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 1

    def __call__(self, *lines: str) -> None:
        for line in lines:
            self._lines.append("  " * self._depth + line if line else "")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """``head { ... }``"""
        self(f"{head} {{" if head else "{")
        self._depth += 1
        yield
        self._depth -= 1
        self("}")

    def loop(self, var: str, extent: int | str, step: int = 1, start: int | str = 0) -> AbstractContextManager[None]:
        """``for (int64_t var = start; var < extent; var += step) { ... }``"""
        advance = f"{var}++" if step == 1 else f"{var} += {step}"
        return self.block(f"for (int64_t {var} = {start}; {var} < {extent}; {advance})")

    def text(self) -> str:
        """Everything written."""
        return "\n".join(self._lines)


def literal(value: float | int | bool, dtype: DType) -> str:
    """A C literal of the given type, exact for floats."""
    if dtype.name == "bool":
        return "true" if value else "false"
    if not dtype.is_float:
        whole = int(value)
        if dtype.name == "i64" and whole == -(1 << 63):
            return "INT64_MIN"
        suffix = {"i64": "LL", "u64": "ULL", "u32": "U"}.get(dtype.name, "")
        return f"{whole}{suffix}" if whole >= 0 else f"({whole}{suffix})"
    number = float(value)
    if math.isnan(number):
        return "NAN"
    if math.isinf(number):
        return "INFINITY" if number > 0 else "(-INFINITY)"
    if dtype.name == "f64":
        text = repr(number)
        return f"({text})" if number < 0 else text
    text = _shortest_f32(number)
    return f"({text}f)" if text.startswith("-") else f"{text}f"


def _shortest_f32(number: float) -> str:
    number32 = dt.f32.numpy.type(number)
    text = str(number32)
    if "e" not in text and "." not in text and "inf" not in text:
        text += ".0"
    return text


#: Helpers that scalar C text of the primitives may call.
SCALAR_HELPERS = r"""
#define strop_min(a, b) ({ __typeof__(a) a_ = (a); __typeof__(a) b_ = (b); a_ != a_ ? a_ : b_ != b_ ? b_ : b_ < a_ ? b_ : a_; })
#define strop_max(a, b) ({ __typeof__(a) a_ = (a); __typeof__(a) b_ = (b); a_ != a_ ? a_ : b_ != b_ ? b_ : b_ > a_ ? b_ : a_; })
#define strop_sign(a) ({ __typeof__(a) a_ = (a); (__typeof__(a))(a_ != a_ ? a_ : (a_ > 0) - (a_ < 0)); })
#define strop_iabs(a) ({ __typeof__(a) a_ = (a); (__typeof__(a))(a_ < 0 ? -a_ : a_); })
#define strop_floordiv(a, b) ({ __typeof__(a) a_ = (a), b_ = (b), q_ = a_ / b_; (__typeof__(a))(q_ - (a_ % b_ != 0 && ((a_ < 0) != (b_ < 0)))); })
#define strop_floormodi(a, b) ({ __typeof__(a) a_ = (a), b_ = (b), r_ = a_ % b_; (__typeof__(a))(r_ != 0 && ((r_ < 0) != (b_ < 0)) ? r_ + b_ : r_); })
#define strop_floormodf(a, b) ({ float a_ = (a), b_ = (b), r_ = fmodf(a_, b_); r_ != 0 && ((r_ < 0) != (b_ < 0)) ? r_ + b_ : r_; })
#define strop_floormod(a, b) ({ double a_ = (a), b_ = (b), r_ = fmod(a_, b_); r_ != 0 && ((r_ < 0) != (b_ < 0)) ? r_ + b_ : r_; })
#define strop_ipow(a, b) ({ __typeof__(a) x_ = (a), r_ = 1; for (int64_t n_ = (b); n_ > 0; n_ >>= 1) { if (n_ & 1) r_ *= x_; x_ *= x_; } r_; })
"""


class ScalarC:
    """Prints expressions as scalar C, one statement per shared node.

    Args:
        inputs: operand types.
        load: C text of an operand's element: load(Input or Load, index texts).
        named: types of named stages and of ``acc``.
    """

    def __init__(
        self,
        inputs: Sequence[DType],
        load: Callable[[Expr, list[str]], str],
        named: dict[str, DType] | None = None,
    ) -> None:
        self._inputs = inputs
        self._load = load
        self._named = named or {}

    def print(self, expr: Expr, wanted: DType) -> str:
        """C text of a value of type ``wanted``."""
        kind = type_of(expr, self._inputs, self._named) or wanted
        text = self._visit(expr, kind)
        return text if kind == wanted else f"({wanted.c}){text}"

    def _visit(self, expr: Expr, wanted: DType) -> str:
        if isinstance(expr, Const):
            return literal(expr.value, expr.dtype or (dt.boolean if isinstance(expr.value, bool) else wanted))
        if isinstance(expr, Axis):
            return expr.name
        if isinstance(expr, Acc):
            return "acc"
        if isinstance(expr, Input):
            return self._load(expr, [])
        if isinstance(expr, Load):
            return self._load(expr, [self._visit(i, dt.i64) for i in expr.index])
        if isinstance(expr, Cast):
            source = type_of(expr.arg, self._inputs, self._named) or expr.to
            return _cast(self._visit(expr.arg, source), source, expr.to)
        assert isinstance(expr, Call)
        return self._call(expr, wanted)

    def _call(self, expr: Call, wanted: DType) -> str:
        primitive = PRIMITIVES[expr.fn]
        typed = expr.args[1:] if expr.fn == "select" else expr.args
        kind = next((t for a in typed if (t := type_of(a, self._inputs, self._named))), wanted)
        args = [
            self._visit(a, dt.boolean if expr.fn == "select" and i == 0 else kind) for i, a in enumerate(expr.args)
        ]
        template = primitive.c
        if not kind.is_float and primitive.c_int is not None:
            template = primitive.c_int
        suffix = "" if kind.name == "f64" else "f"
        text = template.format(*args, f=suffix)
        if kind.name in ("f16", "bf16"):
            raise KernelError(f"scalar C of {expr.fn} on {kind} is not there", got=kind)
        if primitive.result == "same" and kind.is_int and kind.size < 4:
            text = f"({kind.c}){text}"  # C promotes; the value must wrap as the type does
        return text


def _cast(text: str, source: DType, to: DType) -> str:
    if to.name == "bool":
        return f"({text} != 0)"
    if source.is_float and to.is_int:
        return f"({to.c})(int64_t){text}" if to.name != "u64" else f"(uint64_t){text}"
    return f"({to.c}){text}"
