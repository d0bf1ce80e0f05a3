"""Indented C text, and scalar expressions as C."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from strop.errors import KernelError
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import (
    PRIMITIVES,
    Acc,
    Axis,
    Bits,
    Call,
    Cast,
    Const,
    Expr,
    Input,
    Load,
    Size,
    children,
    type_of,
    walk,
)
from strop.kernels.extent import extent, is_symbolic
from strop.kernels.lines import Lines


class Writer(Lines):
    """Collects lines of C with two-space indentation."""

    indentation = "  "

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """``head { ... }``"""
        self(f"{head} {{" if head else "{")
        with self.inside():
            yield
        self("}")

    def loop(self, var: str, extent: int | str, step: int = 1, start: int | str = 0) -> AbstractContextManager[None]:
        """``for (int64_t var = start; var < extent; var += step) { ... }``"""
        advance = f"{var}++" if step == 1 else f"{var} += {step}"
        return self.block(f"for (int64_t {var} = {start}; {var} < {extent}; {advance})")


def address(base: str, *terms: tuple[str, int]) -> str:
    """C text of ``base`` (may be empty) plus names times constants; zero factors and names that are ``0`` are left out."""
    parts = [name if factor == 1 else f"{name} * {factor}" for name, factor in terms if factor and name != "0"]
    return " + ".join([base, *parts] if base else parts) or "0"


def define(helpers: list[str], stem: str, text: str, result: str = "void") -> str:
    """Adds a static function to ``helpers`` once; returns its name: ``stem`` and a digest of ``text``, its parameters and body."""
    name = f"{stem}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    helper = f"static {result} {name}{text}\n"
    if helper not in helpers:
        helpers.append(helper)
    return name


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


def reciprocal(count: int) -> str:
    """C text of 1 / count in f32."""
    return f"(1.0f / (float){count})" if is_symbolic(count) else literal(1.0 / count, dt.f32)


def _shortest_f32(number: float) -> str:
    number32 = dt.f32.numpy.type(number)
    text = str(number32)
    if "e" not in text and "." not in text and "inf" not in text:
        text += ".0"
    return text


#: Helpers that scalar C text of the primitives may call. What C leaves undefined is given numpy's result: a quotient by zero is 0, a
#: shift by the width or more empties the number. strop_odd narrows so that rounding its result again is like rounding once (Boldo and
#: Melquiond 2008).
SCALAR_HELPERS = r"""
#define strop_min(a, b) ({ __auto_type a_ = (a); __auto_type b_ = (b); a_ != a_ ? a_ : b_ != b_ ? b_ : b_ < a_ ? b_ : a_; })
#define strop_max(a, b) ({ __auto_type a_ = (a); __auto_type b_ = (b); a_ != a_ ? a_ : b_ != b_ ? b_ : b_ > a_ ? b_ : a_; })
#define strop_sign(a) ({ __auto_type a_ = (a); (__typeof__(a_))(a_ != a_ ? a_ : (a_ > 0) - (a_ < 0)); })
#define strop_iabs(a) ({ __auto_type a_ = (a); (__typeof__(a_))(a_ < 0 ? -a_ : a_); })
#define strop_unsafe(a, b) (b == 0 || ((__typeof__(a))-1 < 0 && b == (__typeof__(b))-1))
#define strop_idiv(a, b) ({ __auto_type a_ = (a); __auto_type b_ = (b); (__typeof__(a_))(strop_unsafe(a_, b_) ? (b_ == 0 ? 0 : 0 - (uint64_t)a_) : a_ / b_); })
#define strop_irem(a, b) ({ __auto_type a_ = (a); __auto_type b_ = (b); (__typeof__(a_))(strop_unsafe(a_, b_) ? 0 : a_ % b_); })
#define strop_floordiv(a, b) ({ __auto_type c_ = (a); __auto_type d_ = (b); (__typeof__(c_))(strop_idiv(c_, d_) - (strop_irem(c_, d_) != 0 && ((c_ < 0) != (d_ < 0)))); })
#define strop_floormodi(a, b) ({ __auto_type c_ = (a); __auto_type d_ = (b); __auto_type r_ = strop_irem(c_, d_); (__typeof__(c_))(r_ != 0 && ((r_ < 0) != (d_ < 0)) ? r_ + d_ : r_); })
#define strop_floormodf(a, b) ({ float a_ = (a), b_ = (b), r_ = fmodf(a_, b_); r_ != 0 && ((r_ < 0) != (b_ < 0)) ? r_ + b_ : r_; })
#define strop_floormod(a, b) ({ double a_ = (a), b_ = (b), r_ = fmod(a_, b_); r_ != 0 && ((r_ < 0) != (b_ < 0)) ? r_ + b_ : r_; })
#define strop_ipow(a, b) ({ __auto_type x_ = (a); __typeof__(x_) r_ = 1; for (int64_t n_ = (b); n_ > 0; n_ >>= 1) { if (n_ & 1) r_ *= x_; x_ *= x_; } r_; })
#define strop_shl(a, b) ({ __auto_type a_ = (a); uint64_t n_ = (b); (__typeof__(a_))(n_ < 8 * sizeof a_ ? (uint64_t)a_ << n_ : 0); })
#define strop_shr(a, b) ({ __auto_type a_ = (a); uint64_t n_ = (b); (__typeof__(a_))(n_ < 8 * sizeof a_ ? a_ >> n_ : a_ < 0 ? -1 : 0); })
#define strop_bits(to, a) ({ __auto_type a_ = (a); to b_; memcpy(&b_, &a_, sizeof b_); b_; })
static inline float strop_odd(double x) {
  const float y = (float)x;
  uint32_t w;
  memcpy(&w, &y, 4);
  if (x != x || (double)y == x || (w & 1)) return y;
  w += fabsf(y) > fabs(x) ? -1 : 1;
  float z;
  memcpy(&z, &w, 4);
  return z;
}
static inline float strop_from_bf16(uint16_t x) { uint32_t w = (uint32_t)x << 16; float y; memcpy(&y, &w, 4); return y; }
static inline uint16_t strop_to_bf16(float x) {
  uint32_t w;
  memcpy(&w, &x, 4);
  return x != x ? (uint16_t)(w >> 16 | 64) : (uint16_t)((w + 0x7fff + (w >> 16 & 1)) >> 16);
}
static inline float strop_from_f16(_Float16 x) {
#if defined(__F16C__) || defined(__ARM_FP16_FORMAT_IEEE)
  return x;
#else
  uint16_t h;
  memcpy(&h, &x, 2);
  const uint32_t rest = h & 0x7fff;
  uint32_t w = rest >= 0x7c00 ? rest << 13 | 0x7f800000 : (rest << 13) + (112u << 23);
  float y;
  memcpy(&y, &w, 4);
  if (rest < 0x400) y = (float)rest * 0x1p-24f;
  return h & 0x8000 ? -y : y;
#endif
}
static inline _Float16 strop_to_f16(float x) {
#if defined(__F16C__) || defined(__ARM_FP16_FORMAT_IEEE)
  return (_Float16)x;
#else
  uint32_t w;
  memcpy(&w, &x, 4);
  const uint32_t sign = w >> 16 & 0x8000, size = w & 0x7fffffff;
  uint32_t h;
  if (size > 0x7f800000) h = 0x7e00;
  else if (size >= 0x477ff000) h = 0x7c00;
  else if (size >= 0x38800000) h = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
  else h = (uint32_t)rintf(fabsf(x) * 0x1p24f);
  const uint16_t bits = (uint16_t)(sign | h);
  _Float16 y;
  memcpy(&y, &bits, 2);
  return y;
#endif
}
"""


def scalar_helpers(text: str) -> str:
    """Those of SCALAR_HELPERS that C text uses, directly or through each other, each ended by a newline."""
    pieces = re.split(r"\n(?=#define |static )", SCALAR_HELPERS.strip())
    needed = text
    kept: list[str] = []
    for piece in reversed(pieces):  # a helper uses earlier ones only
        found = re.search(r"\b(strop_\w+)\(", piece)
        assert found is not None
        if re.search(rf"\b{found[1]}\(", needed):
            kept.insert(0, piece + "\n")
            needed += piece
    return "".join(kept)


def held(dtype: DType) -> DType:
    """The type a value of ``dtype`` has in C variables: f32 for f16 and bf16, which exist only in memory."""
    return dt.f32 if dtype.name in ("f16", "bf16") else dtype


def from_memory(text: str, dtype: DType) -> str:
    """C text of a stored element as a value."""
    if dtype.name == "f16":
        return f"strop_from_f16({text})"
    return f"strop_from_bf16({text})" if dtype.name == "bf16" else text


def to_memory(text: str, dtype: DType) -> str:
    """C text of a value as it is stored."""
    if dtype.name == "f16":
        return f"strop_to_f16({text})"
    return f"strop_to_bf16({text})" if dtype.name == "bf16" else text


def _children_of(expr: Expr) -> tuple[tuple[Expr, ...], tuple[Expr, ...]]:
    """Direct sub-expressions: those always evaluated, and those that a condition guards."""
    if isinstance(expr, Call) and expr.fn in ("select", "and", "or"):
        return expr.args[:1], expr.args[1:]
    return children(expr), ()


def _shared(expr: Expr) -> set[int]:
    """ids of calls and casts that occur more than once and are evaluated whatever the conditions are."""
    uses: dict[int, int] = {}
    always: set[int] = set()
    for node in walk(expr):
        for child in children(node):
            uses[id(child)] = uses.get(id(child), 0) + 1
    stack = [expr]
    while stack:
        node = stack.pop()
        if id(node) not in always:
            always.add(id(node))
            stack.extend(_children_of(node)[0])
    return {key for key in always if uses.get(key, 0) > 1}


class ScalarC:
    """Prints expressions as scalar C. f16 and bf16 are computed in f32 and rounded where the expression casts and where it is stored.

    With ``emit``, sub-expressions that are used more than once become variables first, unless a condition guards them.

    Args:
        inputs: operand types.
        load: C text of an operand's stored element: load(Input or Load, index texts).
        named: types of named stages and of ``acc``.
        emit: receives statements.
        prefix: of the variables made.
    """

    def __init__(
        self,
        inputs: Sequence[DType],
        load: Callable[[Expr, list[str]], str],
        named: dict[str, DType] | None = None,
        emit: Callable[[str], None] | None = None,
        prefix: str = "t",
    ) -> None:
        self._inputs = inputs
        self._load = load
        self._named = named or {}
        self._emit = emit
        self._prefix = prefix
        self._shared: set[int] = set()
        self._memo: dict[int, str] = {}
        self._kept: list[Expr] = []  # ids in the memo stay taken
        self._made = 0

    def print(self, expr: Expr, wanted: DType) -> str:
        """C text of a value of type ``wanted`` as it is stored."""
        return to_memory(self.value(expr, wanted), wanted)

    def value(self, expr: Expr, wanted: DType) -> str:
        """C text of a value of type ``wanted``; f32 for f16 and bf16."""
        kind = self._type(expr) or wanted
        if self._emit is not None:
            self._shared |= _shared(expr)
            self._kept.append(expr)
        text = self._visit(expr, kind)
        return text if held(kind) == held(wanted) else f"({held(wanted).c}){text}"

    def _type(self, expr: Expr) -> DType | None:
        return type_of(expr, self._inputs, self._named)

    def _visit(self, expr: Expr, wanted: DType) -> str:
        known = self._memo.get(id(expr))
        if known is not None:
            return known
        text = self._text(expr, wanted)
        if self._emit is not None and id(expr) in self._shared and isinstance(expr, (Call, Cast, Load, Input)):
            kind = held(self._type(expr) or wanted)
            name = f"{self._prefix}{self._made}"
            self._made += 1
            self._emit(f"const {kind.c} {name} = {text};")
            self._memo[id(expr)] = text = name
        return text

    def _text(self, expr: Expr, wanted: DType) -> str:
        if isinstance(expr, Const):
            return literal(expr.value, expr.dtype or (dt.boolean if isinstance(expr.value, bool) else wanted))
        if isinstance(expr, Axis):
            return expr.name
        if isinstance(expr, Size):
            return literal(expr.dim, dt.i64) if isinstance(expr.dim, int) else str(extent(expr.dim))
        if isinstance(expr, Acc):
            return "acc"
        if isinstance(expr, Input):
            return from_memory(self._load(expr, []), self._inputs[expr.index])
        if isinstance(expr, Load):
            text = self._load(expr, [self._visit(i, dt.i64) for i in expr.index])
            return from_memory(text, self._type(expr) or wanted)
        if isinstance(expr, Cast):
            source = self._type(expr.arg) or expr.to
            return _cast(self._visit(expr.arg, source), source, expr.to)
        if isinstance(expr, Bits):
            stored = self._load(expr.arg, [self._visit(i, dt.i64) for i in expr.arg.index])
            if expr.to is dt.boolean:
                return f"({stored} != 0)"
            return from_memory(f"strop_bits({expr.to.c}, {stored})", expr.to)
        if isinstance(expr, Call):
            return self._call(expr, wanted)
        raise KernelError("an expression has no scalar C", got=expr)

    def _call(self, expr: Call, wanted: DType) -> str:
        primitive = PRIMITIVES[expr.fn]
        typed = expr.args[1:] if expr.fn == "select" else expr.args
        kind = next((t for a in typed if (t := self._type(a))), wanted)
        args = [self._visit(a, dt.boolean if expr.fn == "select" and i == 0 else kind) for i, a in enumerate(expr.args)]
        template = primitive.c
        if not kind.is_float and primitive.c_int is not None:
            template = primitive.c_int
        suffix = "" if kind.name == "f64" else "f"
        text = template.format(*args, f=suffix)
        if primitive.result == "same" and kind.is_int and kind.size < 4:
            text = f"({kind.c}){text}"  # C promotes; the value must wrap as the type does
        return text


def _cast(text: str, source: DType, to: DType) -> str:
    if to.name == "bool":
        return f"({text} != 0)"
    if to.name in ("f16", "bf16"):
        if source == to:
            return text
        once = f"strop_odd({text})" if source.name == "f64" or (source.is_int and source.size > 2) else text
        return from_memory(to_memory(once, to), to)  # rounded once
    if source.is_float and to.is_int:
        return f"({to.c})(int64_t){text}" if to.name != "u64" else f"(uint64_t){text}"
    return f"({to.c}){text}"
