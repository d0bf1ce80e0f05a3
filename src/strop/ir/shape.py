"""Dimensions and shapes. A Dim is an int or a symbolic integer expression over bounded symbols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Union

from strop.errors import ShapeError


@dataclass(frozen=True)
class Sym:
    """A named bounded symbol, e.g. the batch: ``min <= value <= max``; ``opt`` is what tuning assumes."""

    name: str
    min: int = 1
    opt: int = 1
    max: int = 1 << 31

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class DimExpr:
    """A symbolic integer ``op(args)``; op is one of add, mul, floordiv, mod, min, max. Built by the functions below,
    which bring it into one normal form."""

    op: str
    args: tuple[Dim, ...]

    def __str__(self) -> str:
        sign = {"add": "+", "mul": "*", "floordiv": "//", "mod": "%"}.get(self.op)
        if sign is None:
            return f"{self.op}({','.join(map(str, self.args))})"
        return "(" + sign.join(map(str, self.args)) + ")"


Dim = Union[int, Sym, DimExpr]
Shape = tuple[Dim, ...]


def _apply(op: str, a: int, b: int) -> int:
    match op:
        case "add":
            return a + b
        case "mul":
            return a * b
        case "floordiv":
            return a // b
        case "mod":
            return a % b
        case "min":
            return min(a, b)
        case "max":
            return max(a, b)
    raise ValueError(op)


# ---- normal form
#
# A Dim is kept as a polynomial with integer coefficients over atoms: symbols, and quotients, remainders, minima and maxima of
# polynomials. Two Dims that are equal as polynomials are equal as objects, so that dims which meet on different ways compare.

_Monomial = tuple["Sym | DimExpr", ...]  # sorted by text; () is the constant's
_Polynomial = dict[_Monomial, int]


def _polynomial(dim: Dim) -> _Polynomial:
    if isinstance(dim, int):
        return {(): dim} if dim else {}
    if isinstance(dim, Sym) or dim.op not in ("add", "mul"):
        return {(dim,): 1}
    a, b = (_polynomial(arg) for arg in dim.args)
    return _sum(a, b) if dim.op == "add" else _product(a, b)


def _sum(a: _Polynomial, b: _Polynomial, factor: int = 1) -> _Polynomial:
    total = dict(a)
    for monomial, number in b.items():
        total[monomial] = total.get(monomial, 0) + factor * number
    return {m: n for m, n in total.items() if n}


def _product(a: _Polynomial, b: _Polynomial) -> _Polynomial:
    total: _Polynomial = {}
    for m, p in a.items():
        for n, q in b.items():
            both = tuple(sorted((*m, *n), key=str))
            total[both] = total.get(both, 0) + p * q
    return {m: n for m, n in total.items() if n}


def _rank(monomial: _Monomial) -> tuple[int, tuple[str, ...]]:
    """Order of the terms of a sum: the highest degree first, the constant last."""
    return -len(monomial), tuple(map(str, monomial))


def _dim(polynomial: _Polynomial) -> Dim:
    total: Dim = 0
    for monomial in sorted(polynomial, key=_rank):
        number = polynomial[monomial]
        term: Dim = number
        for k, atom in enumerate(monomial):
            term = atom if k == 0 else DimExpr("mul", (term, atom))
        if monomial and number != 1:
            term = DimExpr("mul", (term, number))
        total = term if total == 0 else DimExpr("add", (total, term))
    return total


def _without(monomial: _Monomial, part: _Monomial) -> _Monomial | None:
    """monomial / part, or None when a factor is missing."""
    left = list(monomial)
    for atom in part:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def _split(a: _Polynomial, b: Dim) -> tuple[_Polynomial, _Polynomial]:
    """(q, r) of a = q * b + r by the leading term of b; r keeps what no term of b divides."""
    divisor = _polynomial(b)
    quotient: _Polynomial = {}
    if not divisor:
        return quotient, a
    lead = min(divisor, key=_rank)
    for monomial in sorted(a, key=_rank):
        number = a.get(monomial, 0)
        left = _without(monomial, lead)
        if left is not None and number // divisor[lead]:
            part = {left: number // divisor[lead]}
            rest = _sum(a, _product(part, divisor), -1)
            if len(divisor) == 1 or len(rest) < len(a):
                quotient, a = _sum(quotient, part), rest
    return quotient, a


def add(a: Dim, b: Dim) -> Dim:
    """a + b"""
    return _dim(_sum(_polynomial(a), _polynomial(b)))


def sub(a: Dim, b: Dim) -> Dim:
    """a - b"""
    return _dim(_sum(_polynomial(a), _polynomial(b), -1))


def mul(a: Dim, b: Dim) -> Dim:
    """a * b"""
    return _dim(_product(_polynomial(a), _polynomial(b)))


def floordiv(a: Dim, b: Dim) -> Dim:
    """a // b, rounding towards minus infinity"""
    if isinstance(b, int) and b < 0:
        return floordiv(mul(a, -1), -b)
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    terms = _polynomial(a)
    if isinstance(b, int) and terms and terms[min(terms, key=_rank)] < 0:
        return mul(floordiv(sub(b - 1, a), b), -1)  # floor(-x / b) = -ceil(x / b)
    whole, rest = _split(terms, b)
    return add(_dim(whole), _quotient(_dim(rest), b))


def _quotient(a: Dim, b: Dim) -> Dim:
    """a // b of an ``a`` that holds no multiple of b."""
    if a == 0:
        return 0
    if isinstance(b, int):
        common = gcd(b, *(n for m, n in _polynomial(a).items() if m))
        if common > 1:  # floor((g*x + k) / (g*c)) = floor((x + floor(k / g)) / c)
            return floordiv(_dim({m: n // common for m, n in _polynomial(a).items() if n // common}), b // common)
        if isinstance(a, DimExpr) and a.op == "floordiv" and isinstance(a.args[1], int):
            return floordiv(a.args[0], mul(a.args[1], b))
    (low, high), (least, most) = bounds(a), bounds(b)
    if least > 0:
        ends = low // (least if low < 0 else most), high // (most if high < 0 else least)
        if ends[0] == ends[1]:
            return ends[0]
    return DimExpr("floordiv", (a, b))


def mod(a: Dim, b: Dim) -> Dim:
    """a - b * (a // b)"""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    _, rest = _split(_polynomial(a), b)
    left = _dim(rest)
    if isinstance(left, int) and isinstance(b, int):
        return left % b
    (low, high), (least, _) = bounds(left), bounds(b)
    return left if low >= 0 and high < least else DimExpr("mod", (left, b))


def ceildiv(a: Dim, b: Dim) -> Dim:
    """a / b rounded up"""
    return floordiv(add(a, sub(b, 1)), b)


def maximum(a: Dim, b: Dim) -> Dim:
    """max(a, b)"""
    if isinstance(a, int):
        a, b = b, a
    order = compare(a, b)
    return DimExpr("max", (a, b)) if order is None else a if order >= 0 else b


def minimum(a: Dim, b: Dim) -> Dim:
    """min(a, b)"""
    if isinstance(a, int):
        a, b = b, a
    order = compare(a, b)
    return DimExpr("min", (a, b)) if order is None else b if order >= 0 else a


# ---- ranges


def bounds(dim: Dim) -> tuple[int, int]:
    """Numbers that a Dim is never below and never above, for all values of its symbols; not always the tightest."""
    if not isinstance(dim, DimExpr) or dim.op not in ("add", "mul"):
        return _interval(dim)
    (low, high), (least, most) = _interval(dim), _from_lowest(dim)
    return max(low, least), min(high, most)


def _from_lowest(dim: DimExpr) -> tuple[int, int]:
    """Bounds of a polynomial over how far each atom is above its lowest value: (h - 1) * (w - 1), multiplied out, is never negative where h and w are not."""
    terms = _polynomial(dim)
    if max(map(len, terms), default=0) > 6:  # each monomial has two to the power of its atoms parts
        return _interval(dim)
    shifted: dict[_Monomial, int] = {}
    room: dict[Sym | DimExpr, int] = {}
    for monomial, factor in terms.items():
        parts: dict[_Monomial, int] = {(): factor}
        for atom in monomial:
            low, high = bounds(atom)
            room[atom] = high - low
            grown: dict[_Monomial, int] = {}
            for taken, count in parts.items():
                grown[taken] = grown.get(taken, 0) + count * low
                more = (*taken, atom)
                grown[more] = grown.get(more, 0) + count
            parts = grown
        for taken, count in parts.items():
            shifted[taken] = shifted.get(taken, 0) + count
    ends = [count * prod(room[atom] for atom in taken) for taken, count in shifted.items() if taken]
    start = shifted.get((), 0)
    return start + sum(min(e, 0) for e in ends), start + sum(max(e, 0) for e in ends)


def _interval(dim: Dim) -> tuple[int, int]:
    """Bounds by the bounds of the parts."""
    if isinstance(dim, int):
        return dim, dim
    if isinstance(dim, Sym):
        return dim.min, dim.max
    (low, high), (least, most) = (_interval(arg) if dim.op in ("add", "mul") else bounds(arg) for arg in dim.args)
    match dim.op:
        case "add":
            return low + least, high + most
        case "mul":
            ends = (low * least, low * most, high * least, high * most)
            return min(ends), max(ends)
        case "floordiv" if least > 0:
            return low // (least if low < 0 else most), high // (most if high < 0 else least)
        case "mod" if least > 0:
            return 0, most - 1
        case "min":
            return min(low, least), min(high, most)
        case "max":
            return max(low, least), max(high, most)
    far = max(abs(low), abs(high), abs(least), abs(most))
    return -far, far


def gap(a: Dim, b: Dim) -> tuple[int, int]:
    """``bounds`` of a - b, by way of common factors: x * y - x is (y - 1) times as large as x."""
    terms = _sum(_polynomial(a), _polynomial(b), -1)
    factor: Dim = 1
    for atom in min(terms, key=len, default=()):
        cut = {_without(m, (atom,)): n for m, n in terms.items()}
        if None not in cut:
            terms, factor = {m: n for m, n in cut.items() if m is not None}, mul(factor, atom)
    (low, high), (least, most) = bounds(_dim(terms)), bounds(factor)
    ends = (low * least, low * most, high * least, high * most)
    return min(ends), max(ends)


def compare(a: Dim, b: Dim) -> int | None:
    """1 when a >= b whatever the symbols are, -1 when a <= b, None when that depends on them."""
    low, high = gap(a, b)
    return 1 if low >= 0 else -1 if high <= 0 else None


def evaluate(dim: Dim, values: dict[str, int]) -> int:
    """The number a Dim stands for, given the symbols' values."""
    if isinstance(dim, int):
        return dim
    if isinstance(dim, Sym):
        return values[dim.name]
    a, b = (evaluate(arg, values) for arg in dim.args)
    return _apply(dim.op, a, b)


def symbols(dims: Iterable[Dim]) -> list[Sym]:
    """The symbols used, by first appearance."""
    found: list[Sym] = []
    for dim in dims:
        inner = [dim] if isinstance(dim, Sym) else symbols(dim.args) if isinstance(dim, DimExpr) else []
        found.extend(s for s in inner if s not in found)
    return found


def is_static(shape: Shape) -> bool:
    """True when every dim is an int."""
    return all(isinstance(dim, int) for dim in shape)


def static(shape: Shape, where: str = "") -> tuple[int, ...]:
    """The shape as ints; raises ShapeError when a dim is symbolic."""
    if not is_static(shape):
        raise ShapeError(
            "a static shape is needed",
            where=where or None,
            got=show(shape),
            hint="give the symbols values with --shape NAME=...",
        )
    return tuple(int(dim) for dim in shape)  # type: ignore[arg-type]


def volume(shape: Shape) -> Dim:
    """Number of elements."""
    total: Dim = 1
    for dim in shape:
        total = mul(total, dim)
    return total


def count(shape: Sequence[int]) -> int:
    """Number of elements of a static shape."""
    return prod(shape)


def show(shape: Iterable[Dim]) -> str:
    """Text such as ``1x3x224x224``; a scalar is ``scalar``."""
    return "x".join(map(str, shape)) or "scalar"


def broadcast(*shapes: Shape, where: str = "") -> Shape:
    """Multidirectional (numpy) broadcasting; raises ShapeError naming the shapes that do not fit."""
    rank = max((len(s) for s in shapes), default=0)
    out: list[Dim] = []
    for i in range(rank):
        dim: Dim = 1
        for shape in shapes:
            j = i - (rank - len(shape))
            if j < 0 or shape[j] == 1:
                continue
            if dim != 1 and dim != shape[j]:
                raise ShapeError(
                    "shapes cannot be broadcast together",
                    where=where or None,
                    got=" and ".join(show(s) for s in shapes),
                )
            dim = shape[j]
        out.append(dim)
    return tuple(out)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides: list[int] = []
    step = 1
    for dim in reversed(shape):
        strides.append(step)
        step *= dim
    return tuple(reversed(strides))


def normalize_axis(axis: int, rank: int, where: str = "") -> int:
    """A non-negative axis; raises ShapeError when out of range."""
    if not -rank <= axis < max(rank, 1):
        raise ShapeError("axis out of range", where=where or None, got=axis, expected=f"-{rank}..{rank - 1}")
    return axis % rank if rank else 0
