"""Dimensions and shapes. A Dim is an int or a symbolic integer expression over bounded symbols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
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
    """A symbolic integer ``op(args)``; op is one of add, mul, floordiv, mod, min, max. Built by the functions below."""

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


def _make(op: str, a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return _apply(op, a, b)
    if op in ("add", "mul") and isinstance(a, int):
        a, b = b, a
    if (op == "add" and b == 0) or (op in ("mul", "floordiv") and b == 1):
        return a
    if op == "mul" and b == 0:
        return 0
    if op in ("add", "mul") and isinstance(a, DimExpr) and a.op == op and isinstance(b, int):
        tail = a.args[-1]
        if isinstance(tail, int):  # (x + 1) + 2 is x + 3
            return _make(op, a.args[0], _apply(op, tail, b))
    if op in ("min", "max") and a == b:
        return a
    return DimExpr(op, (a, b))


def add(a: Dim, b: Dim) -> Dim:
    """a + b"""
    return _make("add", a, b)


def sub(a: Dim, b: Dim) -> Dim:
    """a - b"""
    return 0 if a == b else add(a, mul(b, -1))


def mul(a: Dim, b: Dim) -> Dim:
    """a * b"""
    return _make("mul", a, b)


def floordiv(a: Dim, b: Dim) -> Dim:
    """a // b, rounding towards minus infinity"""
    if isinstance(a, DimExpr) and a.op == "mul" and a.args[1] == b:
        return a.args[0]
    return _make("floordiv", a, b)


def ceildiv(a: Dim, b: Dim) -> Dim:
    """a / b rounded up"""
    return floordiv(add(a, sub(b, 1)), b)


def maximum(a: Dim, b: Dim) -> Dim:
    """max(a, b)"""
    return _make("max", a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """min(a, b)"""
    return _make("min", a, b)


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
