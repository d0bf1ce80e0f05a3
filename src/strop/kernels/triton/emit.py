"""What Triton kernels are made of: indented text, scalar expressions as Triton, and addresses of tiles.

A kernel is one ``@triton.jit`` function with every size and stride as a literal. f16, bf16 and f8e4m3 are computed in f32 and rounded where the
result is stored.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.errors import KernelError
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import (
    PRIMITIVES,
    Acc,
    Axis,
    Call,
    Cast,
    Const,
    Expr,
    Input,
    Load,
    Size,
    type_of,
    walk,
)
from strop.ir.op import Array
from strop.kernels.base import Emitted, View
from strop.kernels.lines import Lines
from strop.kernels.triton.pack import to_bytes

#: Largest offset in elements that 32-bit indices reach.
_INT32 = (1 << 31) - 1
#: Triton's names of element types in memory; bools are bytes.
POINTEE = {
    "f64": "fp64", "f32": "fp32", "f16": "fp16", "bf16": "bf16", "bool": "i8", "i8": "i8", "u8": "u8", "i16": "i16", "u16": "u16",
    "i32": "i32", "u32": "u32", "i64": "i64", "u64": "u64", "f8e4m3": "fp8e4nv",
}  # fmt: skip
#: Triton's names of element types in registers.
VALUE = {
    "f64": "tl.float64", "f32": "tl.float32", "f16": "tl.float16", "bf16": "tl.bfloat16", "bool": "tl.int1", "i8": "tl.int8",
    "u8": "tl.uint8", "i16": "tl.int16", "u16": "tl.uint16", "i32": "tl.int32", "u32": "tl.uint32", "i64": "tl.int64", "u64": "tl.uint64",
    "f8e4m3": "tl.float8e4nv",
}  # fmt: skip
#: Floats that are f32 in registers.
_SHORT_FLOATS = ("f16", "bf16", "f8e4m3")

#: f32 whose last bit is 1: adding it rounds to whole numbers, halves to even, and the sum's bits less these are the number. Exact up to 2^22; beyond
#: that sums stay beyond it.
_WHOLE = "12582912.0"
_WHOLE_BITS = 0x4B400000
_BYTES = (dt.i8, dt.u8)

#: log2(erfc(x)) / x for x of 0 and more as a polynomial: erfc is within 1e-6 (Lawson's iteration over [0, 4.5]; beyond that it falls to 0).
_ERFC = (-1.627889, -0.9185094, -0.1486656, 0.02959004, -0.002944158)

_NAN = "propagate_nan=tl.PropagateNan.ALL"
#: Text of primitives on floats; {0} {1} {2} are the arguments.
_FLOATS = {
    "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})", "div": "({0} / {1})",
    "floordiv": "tl.floor({0} / {1})", "floormod": "({0} - tl.floor({0} / {1}) * {1})", "fmod": "libdevice.fmod({0}, {1})",
    "min": f"tl.minimum({{0}}, {{1}}, {_NAN})", "max": f"tl.maximum({{0}}, {{1}}, {_NAN})",
    "pow": "libdevice.pow({0}, {1})", "atan2": "libdevice.atan2({0}, {1})", "fma": "({0} * {1} + {2})", "neg": "(-{0})", "abs": "tl.abs({0})",
    "sign": "tl.where({0} != {0}, {0}, tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, 0.0)))",
    "sqrt": "tl.sqrt({0})", "exp": "tl.exp({0})", "log": "tl.log({0})", "erf": "tl.erf({0})", "sin": "tl.sin({0})", "cos": "tl.cos({0})",
    "floor": "tl.floor({0})", "ceil": "tl.ceil({0})", "round": "libdevice.rint({0})", "trunc": "libdevice.trunc({0})",
    "ldexp": "({0} * tl.exp2({1}))",
    "isnan": "({0} != {0})", "isinf": '(tl.abs({0}) == float("inf"))',
}  # fmt: skip
_LIBDEVICE = (
    "expm1", "log1p", "tanh", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh",
)  # fmt: skip
#: Text of primitives on integers and bools where it differs. Triton divides integers as C does.
_INTEGERS = {
    "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})", "div": "({0} // {1})", "fma": "({0} * {1} + {2})", "neg": "(-{0})",
    "floordiv": "({0} // {1} - tl.where(({0} % {1} != 0) & (({0} < 0) != ({1} < 0)), 1, 0))",
    "floormod": "({0} % {1} + tl.where(({0} % {1} != 0) & (({0} < 0) != ({1} < 0)), {1}, 0))",
    "fmod": "({0} % {1})", "min": "tl.minimum({0}, {1})", "max": "tl.maximum({0}, {1})", "abs": "tl.abs({0})",
    "sign": "tl.where({0} > 0, 1, tl.where({0} < 0, -1, 0))",
    "bitand": "({0} & {1})", "bitor": "({0} | {1})", "bitxor": "({0} ^ {1})", "bitnot": "(~{0})", "shl": "({0} << {1})", "shr": "({0} >> {1})",
}  # fmt: skip
_EITHER = {
    "lt": "({0} < {1})", "le": "({0} <= {1})", "gt": "({0} > {1})", "ge": "({0} >= {1})", "eq": "({0} == {1})", "ne": "({0} != {1})",
    "and": "({0} & {1})", "or": "({0} | {1})", "xor": "({0} != {1})", "not": "({0} == 0)", "select": "tl.where({0}, {1}, {2})",
}  # fmt: skip


class Writer(Lines):
    """Collects lines of Python with four-space indentation."""

    indentation = "    "

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """``head:`` and what is written inside, one step further in."""
        self(f"{head}:")
        with self.inside():
            yield


@dataclass(frozen=True)
class Launch:
    """One GPU launch of a step.

    Attributes:
        body: of the function, whose parameters are those of GpuEmitted.
        grid: programs along three axes.
        warps: of 32 threads per program.
        stages: depth of software pipelining of its loops.
        registers: most of a thread, so that more programs fit; 0 for as many as the compiler likes.
        cooperative: whether its programs wait for each other, so that all must be resident at once.
    """

    body: str
    grid: tuple[int, int, int]
    warps: int = 4
    stages: int = 3
    registers: int = 0
    cooperative: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class GpuEmitted(Emitted):
    """Triton code of one step.

    Attributes:
        names: parameter per pointer.
        dtypes: element type per pointer.
        launches: in order; one after the other.
        workspace: bytes that the launches may use; the parameter ``work``, of f32. Not cleared.
        locks: i32 counters, the parameter ``locks``: zero before the step, and the step leaves them zero.
        library: a call of NVIDIA's libraries that is made in place of launches, as ``strop.engine.library_calls`` has it.
    """

    names: tuple[str, ...] = ()
    dtypes: tuple[DType, ...] = ()
    launches: tuple[Launch, ...] = ()
    workspace: int = 0
    locks: int = 0
    library: Mapping[str, Any] | None = None

    @property
    def cooperative(self) -> bool:
        """Whether a launch relies on all its programs being resident at once."""
        return any(launch.cooperative for launch in self.launches)

    def parameters(self) -> list[tuple[str, str]]:
        """(name, Triton type) of every parameter."""
        found = [(n, f"*{POINTEE[d.name]}") for n, d in zip(self.names, self.dtypes, strict=True)]
        found += [("work", "*fp32")] if self.workspace else []
        return found + ([("locks", "*i32")] if self.locks else [])


def held(dtype: DType) -> DType:
    """The type of a value in registers: f32 for f16, bf16 and f8e4m3."""
    return dt.f32 if dtype.name in _SHORT_FLOATS else dtype


def loaded(text: str, dtype: DType) -> str:
    """Text of a loaded element as a value."""
    if dtype is dt.boolean:
        return f"({text} != 0)"
    return f"{text}.to(tl.float32)" if dtype.name in _SHORT_FLOATS else text


def zero_text(dtype: DType) -> str:
    """Text of a zero that stands for what a load leaves out: integers do not become floats of 8 bits."""
    return "0.0" if dtype.size == 1 and dtype.is_float else "0"


def stored(text: str, dtype: DType) -> str:
    """Text of a value as it is stored."""
    if dtype is dt.boolean:
        return f"({text}).to(tl.int8)"
    return f"({text}).to({VALUE[dtype.name]})"


def literal(value: float | int | bool, dtype: DType) -> str:
    """A Python literal that Triton takes for the dtype."""
    if not dtype.is_float:
        return str(int(value))
    number = float(value)
    if math.isnan(number):
        return 'float("nan")'
    if math.isinf(number):
        return 'float("inf")' if number > 0 else 'float("-inf")'
    return f"({number!r})" if number < 0 else repr(number)


def cast(text: str, source: DType, to: DType) -> str:
    """Text of a conversion between values."""
    if held(source) == held(to):
        return text
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        return literal(float(text) if "." in text else int(text), to)
    if to is dt.boolean:
        return f"({text} != 0)"
    return f"({text}).to({VALUE[held(to).name]})"


class Printer:
    """Prints expressions as Triton; shared sub-expressions become variables when ``emit`` is given.

    Args:
        types: of the operands.
        load: value text of an operand's element: ``load(node, index texts)``.
        named: types of named stages and of ``acc``.
        emit: receives statements.
        prefix: of the variables made.
        known: contents per operand, None for those that are not known.
    """

    def __init__(
        self,
        types: Sequence[DType],
        load: Callable[[Expr, list[str]], str],
        emit: Callable[[str], None] | None = None,
        named: dict[str, DType] | None = None,
        prefix: str = "t",
        known: Sequence[Array | None] = (),
    ) -> None:
        self._known = known
        self._types, self._load, self._emit, self._named, self._prefix = types, load, emit, named or {}, prefix
        self._memo: dict[int, str] = {}
        self._kept: list[Expr] = []
        self._made = 0
        self._coarse = False

    def value(self, expr: Expr, wanted: DType) -> str:
        """Text of a value of type ``held(wanted)``."""
        self._kept.append(expr)
        kind = type_of(expr, self._types, self._named) or wanted
        self._coarse = wanted.name in _SHORT_FLOATS
        return cast(self._visit(expr, kind), kind, wanted)

    def _visit(self, expr: Expr, wanted: DType) -> str:
        known = self._memo.get(id(expr))
        if known is not None:
            return known
        text = self._text(expr, wanted)
        if self._emit is not None and isinstance(expr, (Call, Cast)):
            name = f"{self._prefix}{self._made}"
            self._made += 1
            self._emit(f"{name} = {text[1:-1] if _enclosed(text) else text}")
            self._memo[id(expr)] = text = name
        elif isinstance(expr, (Input, Load)):
            self._memo[id(expr)] = text
        return text

    def _text(self, expr: Expr, wanted: DType) -> str:
        if isinstance(expr, Const):
            return literal(expr.value, expr.dtype or (dt.boolean if isinstance(expr.value, bool) else wanted))
        if isinstance(expr, Axis):
            return expr.name
        if isinstance(expr, Size) and isinstance(expr.dim, int):
            return str(expr.dim)
        if isinstance(expr, Acc):
            return "acc"
        if isinstance(expr, Input):
            return self._load(expr, [])
        if isinstance(expr, Load):
            return self._load(expr, [self._visit(i, dt.i64) for i in expr.index])
        if isinstance(expr, Cast):
            quick = self._quick_cast(expr)
            if quick is not None:
                return quick
            source = type_of(expr.arg, self._types, self._named) or expr.to
            return cast(self._visit(expr.arg, source), source, expr.to)
        if isinstance(expr, Call):
            return self._call(expr, wanted)
        raise KernelError("an expression has no Triton text", got=expr)

    def _quick_cast(self, expr: Cast) -> str | None:
        """A conversion between f32 and bytes as ``pack`` does it: the plain conversions take several times as long. None for others."""
        kind = functools.partial(type_of, inputs=self._types, named=self._named)
        if expr.to is dt.f32 and _is_short(expr.arg, kind):
            return self._widened(expr.arg, kind)
        found = _rounded(expr, kind, self._known_of)
        if found is None:
            return None
        inner, shift, low, high = found
        if isinstance(inner, Call) and inner.fn == "div":  # by a scale, of which there is mostly one: as exact as the division, which is within 2 ulp
            text = f"{self._visit(inner.args[0], dt.f32)} * (1.0 / {self._visit(inner.args[1], dt.f32)})"
        else:
            text = self._visit(inner, dt.f32)
        if shift is not None:
            known, zero = self._known_of(shift), self._visit(shift, dt.f32)
            if known is None or np.any(known.astype(np.int64) % 2):  # an odd number added first would turn halves the other way
                text = f"(({text} + {_WHOLE}) - ({_WHOLE} - {zero}))"
            else:
                text = f"({text} + {zero})"
        least, most = (-128.0, 127.0) if expr.to is dt.i8 else (0.0, 255.0)
        text = f"tl.maximum({text}, {literal(low, dt.f32)})" if low > least else text
        text = f"tl.minimum({text}, {literal(high, dt.f32)})" if high < most else text
        return to_bytes(text, expr.to)

    def _widened(self, expr: Expr, kind: Kinds) -> str:
        """f32 of what ``_is_short`` takes, by an addition to the bits of an f32."""
        first, second = (a.arg if isinstance(a, Cast) else a for a in expr.args) if isinstance(expr, Call) else (expr, None)
        if isinstance(expr, Call) and expr.fn == "sub" and second is not None and self._known_of(second) is not None and not isinstance(first, Const):
            whole, less = cast(self._visit(first, dt.i8), dt.i8, dt.i32), f"({_WHOLE} + {self._visit(second, dt.i8)}.to(tl.float32))"
        else:
            whole, less = cast(self._visit(expr, dt.i32), kind(expr) or dt.i32, dt.i32), _WHOLE
        if re.fullmatch(r"-?[0-9]+", whole):
            return literal(int(whole), dt.f32)
        return f"(({whole} + {_WHOLE_BITS}).to(tl.float32, bitcast=True) - {less})"

    def _known_of(self, expr: Expr) -> Array | None:
        """Contents of an operand, or of one that is cast, if they are known."""
        inner = expr.arg if isinstance(expr, Cast) else expr
        return self._known[inner.index] if isinstance(inner, Input) and inner.index < len(self._known) else None

    def _call(self, expr: Call, wanted: DType) -> str:
        typed = expr.args[1:] if expr.fn == "select" else expr.args
        kind = next((t for a in typed if (t := type_of(a, self._types, self._named))), wanted)
        if self._coarse and held(kind) is dt.f32 and (inner := _one_plus_erf(expr)) is not None:
            return self._one_plus_erf(self._visit(inner, kind))
        args = [self._visit(a, dt.boolean if expr.fn == "select" and i == 0 else kind) for i, a in enumerate(expr.args)]
        template = _template(expr.fn, kind)
        if template is None:
            raise KernelError("a primitive has no Triton text", got=expr.fn)
        if "libdevice." in template:  # its functions are chosen by the arguments' types, which literals do not have
            args = [f"tl.full((), {t}, {VALUE[held(kind).name]})" if isinstance(a, Const) else t for a, t in zip(expr.args, args, strict=True)]
        if all(isinstance(a, Const) for a in expr.args) and PRIMITIVES[expr.fn].result == "same":
            args[0] = f"tl.full((), {args[0]}, {VALUE[held(kind).name]})"
        return template.format(*args)

    def _one_plus_erf(self, x: str) -> str:
        """Text of 1 + erf(x) within 1e-6: with e = erfc(abs(x)) as a power of two it is e below 0, and 2 - e above."""
        polynomial, far, rest = repr(_ERFC[-1]), f"tl.abs({x})", ""
        if self._emit is not None:
            far, rest = f"{self._prefix}{self._made}", f"{self._prefix}{self._made + 1}"
            self._made += 2
            self._emit(f"{far} = tl.abs({x})")
        for factor in reversed(_ERFC[:-1]):
            polynomial = f"({polynomial} * {far} + {factor!r})"
        power = f"tl.exp2({polynomial} * {far})"
        if self._emit is not None:
            self._emit(f"{rest} = {power}")
        return f"tl.where({x} < 0, {rest or power}, 2.0 - {rest or power})"


class Guarded(Printer):
    """Prints the branches of conditions with loads that the condition masks.

    Attributes:
        guards: conditions in force, as text and as what it was printed of.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guards: list[tuple[str, Expr]] = []

    def _visit(self, expr: Expr, wanted: DType) -> str:
        if not (isinstance(expr, Call) and expr.fn in ("select", "and", "or") and any(isinstance(n, Load) for a in expr.args[1:] for n in walk(a))):
            return super()._visit(expr, wanted)
        kind = dt.boolean if expr.fn != "select" else next((t for a in expr.args[1:] if (t := type_of(a, self._types, self._named))), wanted)
        condition = self._visit(expr.args[0], dt.boolean)
        texts = []
        for place, arg in enumerate(expr.args[1:]):
            negative = (expr.fn == "or") or (expr.fn == "select" and place == 1)
            outer, self._memo = self._memo, dict(self._memo)
            self.guards.append((f"({condition} == 0)" if negative else condition, expr.args[0]))
            texts.append(self._visit(arg, kind))
            self.guards.pop()
            self._memo = outer
        template = {"select": "tl.where({0}, {1}, {2})", "and": "({0} & {1})", "or": "({0} | {1})"}[expr.fn]
        return template.format(condition, *texts)


Kinds = Callable[[Expr], "DType | None"]


def _one_plus_erf(expr: Call) -> Expr | None:
    """The x of 1 + erf(x); None for others."""
    if expr.fn != "add":
        return None
    for one, other in (expr.args, expr.args[::-1]):
        if isinstance(one, Const) and one.value == 1 and isinstance(other, Call) and other.fn == "erf":
            return other.args[0]
    return None


def _is_short(expr: Expr, kind: Kinds) -> bool:
    """Whether an expression is a byte, or a sum or difference of two, in i32."""
    if isinstance(expr, Call) and expr.fn in ("add", "sub"):
        return kind(expr) is dt.i32 and all(isinstance(a, Cast) and kind(a.arg) in _BYTES for a in expr.args)
    if isinstance(expr, Cast) and expr.to is dt.i32:
        expr = expr.arg
    return not isinstance(expr, Const) and kind(expr) in _BYTES


def _rounded(expr: Cast, kind: Kinds, known: Callable[[Expr], Array | None]) -> tuple[Expr, Expr | None, float, float] | None:
    """(v, zero, low, high) of a byte min(max(round(v) + zero, low), high) of f32, as quantizing is written; zero, whole numbers, may be missing."""
    bounds = []
    inner = expr.arg
    for fn in ("min", "max"):
        if expr.to not in _BYTES or not isinstance(inner, Call) or inner.fn != fn or not isinstance(inner.args[1], Const):
            return None
        bounds.append(float(inner.args[1].value))
        inner = inner.args[0]
    shift = None
    if isinstance(inner, Call) and inner.fn == "add":
        inner, shift = inner.args
        numbers = known(shift)
        whole = numbers is not None and bool(np.all(np.abs(numbers) <= 255)) and bool(np.all(numbers == np.rint(numbers)))
        if not whole and not (isinstance(shift, Cast) and kind(shift.arg) in _BYTES):
            return None
    if not isinstance(inner, Call) or inner.fn != "round" or kind(inner.args[0]) is not dt.f32:
        return None
    least, most = (-128, 127) if expr.to is dt.i8 else (0, 255)
    if any(not b.is_integer() or not least <= b <= most for b in bounds):
        return None
    return inner.args[0], shift, bounds[1], bounds[0]


def _enclosed(text: str) -> bool:
    """Whether one pair of parentheses is around all of a text."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return place == len(text) - 1 and text[0] == "("
    return False


def _template(fn: str, kind: DType) -> str | None:
    if fn in _EITHER:
        return _EITHER[fn]
    if not kind.is_float:
        return _INTEGERS.get(fn)
    return f"libdevice.{fn}({{0}})" if fn in _LIBDEVICE else _FLOATS.get(fn)


def printable(expr: Expr, types: Sequence[DType]) -> str | None:
    """Why an expression cannot be printed; None when it can."""
    try:
        Printer(types, lambda node, index: "x").value(expr, dt.f32)
    except KernelError as error:
        return f"{error.what}: {error.got}"
    return None


@dataclass
class Block:
    """One axis of a tile: a vector of indices that number the places of some logical axes, the last one fastest.

    Attributes:
        name: variable that holds the indices.
        axes: logical axes, outermost first.
        extents: their sizes.
        size: elements per tile; 0 for a scalar index, which lies outside of the tile's shape.
        checked: whether an index may lie behind the last place.
    """

    name: str
    axes: tuple[int, ...]
    extents: tuple[int, ...]
    size: int
    checked: bool = True
    _made: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Places."""
        return math.prod(self.extents)

    def coordinate(self, w: Writer, inner: int, extent: int) -> str:
        """Variable that holds ``index // inner % extent``."""
        if inner == 1 and extent >= self.count:
            return self.name
        known = self._made.get((inner, extent))
        if known is None:
            known = f"{self.name}{len(self._made)}"
            text = self.name if inner == 1 else f"{self.name} // {inner}"
            whole = inner * extent >= self.count
            w(f"{known} = {text}" + ("" if whole else f" % {extent}"))
            self._made[inner, extent] = known
        return known

    def axis(self, w: Writer, number: int) -> str:
        """Variable of the index along one of the block's axes, by its number within the block."""
        return self.coordinate(w, math.prod(self.extents[number + 1 :]), self.extents[number])

    def offset(self, w: Writer, strides: Sequence[int], wide: bool = False) -> str:
        """Text of the sum of the indices along the axes times strides; empty when it is 0. Axes that are evenly spaced are not taken apart."""
        runs: list[tuple[int, int, int]] = []  # inner, extent, stride; innermost run first
        inner = 1
        for extent, stride in reversed(list(zip(self.extents, strides, strict=True))):
            if extent != 1 and runs and stride == runs[-1][2] * runs[-1][1] and runs[-1][0] * runs[-1][1] == inner:
                runs[-1] = (runs[-1][0], runs[-1][1] * extent, runs[-1][2])
            elif extent != 1:
                runs.append((inner, extent, stride))
            inner *= extent
        terms = []
        for start, extent, stride in reversed(runs):
            if stride:
                name = self.coordinate(w, start, extent)
                name = f"{name}.to(tl.int64)" if wide else name
                terms.append(name if stride == 1 else f"{name} * {stride}")
        return " + ".join(terms)


class Tile:
    """Addresses and masks of a tile whose axes are Blocks: loads that repeat along a block have length 1 there."""

    def __init__(self, w: Writer, blocks: Sequence[Block]) -> None:
        self.w = w
        self.blocks = blocks
        self._vectors = [b for b in blocks if b.size]
        self._masks: dict[tuple[str, ...], str] = {}

    def shaped(self, text: str, block: Block) -> str:
        """A vector along a block in the shape of the tile."""
        if not block.size or len(self._vectors) == 1:
            return text
        place = ", ".join(":" if other is block else "None" for other in self._vectors)
        whole = text.replace("_", "").isalnum()
        return f"{text}[{place}]" if whole else f"({text})[{place}]"

    def offset(self, strides: Sequence[int], wide: bool = False) -> tuple[str, list[Block]]:
        """(text of the offset, the blocks along which it varies) of a view with these strides per logical axis."""
        terms, along = [], []
        for block in self.blocks:
            text = block.offset(self.w, [strides[a] for a in block.axes], wide)
            if text:
                terms.append(self.shaped(text, block))
                along.append(block)
        return " + ".join(terms), along

    def mask(self, along: Sequence[Block]) -> str:
        """Variable of what lies inside along some blocks; empty when all does."""
        checked = [b for b in along if b.checked]
        if not checked:
            return ""
        key = tuple(b.name for b in checked)
        if key not in self._masks:
            text = " & ".join(f"({self.shaped(f'{b.name} < {b.count}', b)})" for b in checked)
            self._masks[key] = "inside_" + "_".join(key)
            self.w(f"{self._masks[key]} = {text}")
        return self._masks[key]

    def load(self, pointer: str, view: View, extra: str = "") -> str:
        """Text of a load of the view's elements, in the view's own type."""
        text, along = self.offset(view.strides, wide_of(view))
        mask = self.mask(along)
        where = f"{pointer} + {text}" if text else pointer
        return f"tl.load({where}{f', mask={mask}, other={zero_text(view.dtype)}' if mask else ''}{extra})"

    def store(self, pointer: str, view: View, value: str) -> None:
        """Stores a value of the tile's shape, in registers' type."""
        text, along = self.offset(view.strides, wide_of(view))
        still = [self.shaped(f"{b.name} * 0", b) for b in self._vectors if b not in along]
        text = " + ".join([*filter(None, [text]), *still])
        mask = self.mask(self.blocks)
        where = f"{pointer} + {text}" if text else pointer
        self.w(f"tl.store({where}, {stored(value, view.dtype)}{f', mask={mask}' if mask else ''})")


def masked(parts: Sequence[str], other: str = "0.0") -> str:
    """Arguments of a load that ``parts``, texts of conditions, mask; empty when there are none."""
    return f", mask={' & '.join(parts)}, other={other}" if parts else ""


def times(text: str, factor: int) -> str:
    """Text of an index times a constant."""
    if text.isdigit():
        return str(int(text) * factor)
    return text if factor == 1 else f"{text} * {factor}"


def wide_of(view: View) -> bool:
    """Whether offsets into the view need 64 bits."""
    return view.span > _INT32


def power_of_two(number: int) -> int:
    """The least power of two that is not below a number."""
    return 1 << max(0, (number - 1).bit_length())


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)
