"""Sizes and strides that are known only when a network runs.

A kernel counts with the ints of its views. Where a Dim is symbolic, an Extent stands in the int's place: arithmetic on it gives Extents,
and printing it into C text gives the name of a run-time constant, ``dim0``, whose value the runtime computes when a context takes
another shape. Nothing else can be done with it: a kernel that needs the number itself, or asks something that the range of the
symbols does not decide, raises SymbolicError, and such a kernel does not serve the region.

``==`` means equal for all values of the symbols, and an Extent is true unless it is 0 for all of them: what a kernel does for the
special case (a size of 1, no rest) is left out unless it always holds, and the general case must be right for it too. An order is
taken for an equality where it is one: a size from 1 on is above 1 when it is not always 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn, cast

from strop.ir import shape as sh
from strop.ir.shape import Dim, DimExpr, Shape, Sym


class SymbolicError(Exception):
    """A kernel asked for a number that only a run has; the text says which."""


class Extent:
    """A symbolic Dim in the place of an int; see the module's text."""

    __slots__ = ("dim",)

    def __init__(self, dim: Sym | DimExpr) -> None:
        self.dim = dim

    def __add__(self, other: object) -> int:
        return extent(sh.add(self.dim, dim_of(other)))

    __radd__ = __add__

    def __sub__(self, other: object) -> int:
        return extent(sh.sub(self.dim, dim_of(other)))

    def __rsub__(self, other: object) -> int:
        return extent(sh.sub(dim_of(other), self.dim))

    def __mul__(self, other: object) -> int:
        return extent(sh.mul(self.dim, dim_of(other)))

    __rmul__ = __mul__

    def __floordiv__(self, other: object) -> int:
        return extent(sh.floordiv(self.dim, dim_of(other)))

    def __rfloordiv__(self, other: object) -> int:
        return extent(sh.floordiv(dim_of(other), self.dim))

    def __mod__(self, other: object) -> int:
        return extent(sh.mod(self.dim, dim_of(other)))

    def __rmod__(self, other: object) -> int:
        return extent(sh.mod(dim_of(other), self.dim))

    def __divmod__(self, other: object) -> tuple[int, int]:
        return self // other, self % other

    def __neg__(self) -> int:
        return extent(sh.mul(self.dim, -1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, Extent)) and dim_of(other) == self.dim

    def __hash__(self) -> int:
        return hash(self.dim)

    def __bool__(self) -> bool:
        return True

    def __lt__(self, other: object) -> bool:
        return not self >= other

    def __le__(self, other: object) -> bool:
        return not self > other

    def __gt__(self, other: object) -> bool:
        low, high = sh.gap(self.dim, dim_of(other))
        if low >= 0 or high <= 0:  # from low == 0 on it is above unless it is equal
            return low >= 0
        raise SymbolicError(f"it depends on whether {self.dim} is above {dim_of(other)}")

    def __ge__(self, other: object) -> bool:
        low, high = sh.gap(self.dim, dim_of(other))
        if low >= 0 or high <= 0:  # up to high == 0 it is below unless it is equal
            return low >= 0
        raise SymbolicError(f"it depends on whether {self.dim} is at least {dim_of(other)}")

    def __str__(self) -> str:
        names = _NAMES.get()
        return str(self.dim) if names is None else names.of(self.dim)

    __repr__ = __str__

    def _refuse(self, *_: object) -> NoReturn:
        raise SymbolicError(f"it needs the number that {self.dim} stands for")

    __index__ = __int__ = __float__ = __truediv__ = __rtruediv__ = __pow__ = _refuse
    __lshift__ = __rshift__ = __and__ = __or__ = __xor__ = __iter__ = __len__ = _refuse


def extent(dim: Dim) -> int:
    """The Dim as kernels count with it: an int, or an Extent, which is typed like one."""
    return dim if isinstance(dim, int) else cast(int, Extent(dim))


def extents(shape: Shape) -> tuple[int, ...]:
    """``extent`` of every dim."""
    return tuple(map(extent, shape))


def dim_of(value: object) -> Dim:
    """The Dim behind an int or an Extent."""
    if isinstance(value, Extent):
        return value.dim
    if isinstance(value, (int, Sym, DimExpr)):
        return value
    raise SymbolicError(f"it counts with {type(value).__name__} {value!r} and a symbolic size")


def dims_of(values: Iterable[int]) -> Shape:
    """``dim_of`` of every value."""
    return tuple(map(dim_of, values))


def is_symbolic(*values: int) -> bool:
    """True when one of the values is an Extent."""
    return any(isinstance(value, Extent) for value in values)


def highest(value: int) -> int:
    """A number that the value is never above."""
    return sh.bounds(dim_of(value))[1]


def lowest(value: int) -> int:
    """A number that the value is never below."""
    return sh.bounds(dim_of(value))[0]


def typical(value: int) -> int:
    """The number at the symbols' optimum: for choices that are right for every size, such as where to split work."""
    dim = dim_of(value)
    return dim if isinstance(dim, int) else sh.evaluate(dim, {s.name: s.opt for s in sh.symbols([dim])})


def at(value: int, known: Mapping[str, int]) -> int:
    """The number that the value is where the symbols have these values."""
    return sh.evaluate(dim_of(value), dict(known))


def greater(a: int, b: int) -> int:
    """max(a, b)"""
    return extent(sh.maximum(dim_of(a), dim_of(b)))


def lesser(a: int, b: int) -> int:
    """min(a, b)"""
    return extent(sh.minimum(dim_of(a), dim_of(b)))


def may_reach(value: int, bound: int) -> bool:
    """False only when the value is below the bound for all values of the symbols."""
    return sh.gap(dim_of(value), dim_of(bound))[1] >= 0


# ---- names in C

_USED = re.compile(r"\bdim\d+\b")


class Names:
    """The run-time constants of one emission, in the order in which they were printed first."""

    def __init__(self) -> None:
        self.dims: dict[Dim, str] = {}

    def of(self, dim: Dim) -> str:
        """The constant's name."""
        return self.dims.setdefault(dim, f"dim{len(self.dims)}")

    def declare(self, body: str) -> tuple[str, tuple[Dim, ...]]:
        """The body, headed by declarations of the constants it names; what the runtime computes for ``a->sym``, in order."""
        named = set(_USED.findall(body))
        found = [(dim, name) for dim, name in self.dims.items() if name in named]
        lines = [f"  const int64_t {name} = a->sym[{k}];\n" for k, (_, name) in enumerate(found)]
        return "".join(lines) + body, tuple(dim for dim, _ in found)


_NAMES: ContextVar[Names | None] = ContextVar("_NAMES", default=None)


@contextmanager
def naming() -> Iterator[Names]:
    """Within it Extents print as names of run-time constants."""
    names = Names()
    token = _NAMES.set(names)
    try:
        yield names
    finally:
        _NAMES.reset(token)


def constants_of(text: str) -> tuple[list[str], list[str]]:
    """(parameters, arguments) that hand the run-time constants which the text of a helper function names to it."""
    names = list(dict.fromkeys(_USED.findall(text)))
    return [f"int64_t {name}" for name in names], names
