"""Sizes that a step finds while an engine runs: when each number of the table of dims is known, and how large it may become.

A plan's symbol with a ``setter`` gets its value from a step. Entries of the table are computed in *stages*: stage 0 holds what shapes
tell; every step that finds sizes begins another one, which holds the entries that wait for these sizes and for none found later.
``runtime/src/computed.c`` is the C twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

from strop.engine.dims import Instruction

#: Bytes of a size that a step writes.
_SIZE = 8


class _Symbol(Protocol):
    @property
    def setter(self) -> tuple[int, int] | None: ...

    @property
    def min(self) -> int: ...

    @property
    def opt(self) -> int: ...

    @property
    def max(self) -> int: ...


class _Arg(Protocol):
    @property
    def space(self) -> IntEnum: ...

    @property
    def offset(self) -> int: ...

    @property
    def size(self) -> int: ...


class _Step(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def args(self) -> tuple[_Arg, ...]: ...

    @property
    def n_tasks(self) -> int: ...

    @property
    def dims(self) -> tuple[int, ...]: ...


def stages(symbols: Sequence[_Symbol], table: Sequence[Instruction]) -> list[int]:
    """Per entry 1 + the number of the last step that must have run before it is known; 0 where shapes tell it."""
    found: list[int] = []
    for entry in table:
        if entry.op == "const":
            found.append(0)
        elif entry.op == "sym":
            setter = symbols[entry.a].setter
            found.append(0 if setter is None else 1 + setter[0])
        else:
            found.append(max(found[entry.a], found[entry.b]))
    return found


def too_early(steps: Sequence[_Step], symbols: Sequence[_Symbol], known: Sequence[int]) -> str | None:
    """What a step reads before it is known, or where no size can be; None when there is nothing of the kind."""
    for index, step in enumerate(steps):
        numbers = [step.n_tasks, *(n for arg in step.args for n in (arg.offset, arg.size))]
        entries = [-1 - n for n in numbers if n < 0] + list(step.dims)
        late = next((entry for entry in entries if known[entry] > index), None)
        if late is not None:
            return f"step {index} '{step.name}' with dim {late}, which step {known[late] - 1} finds"
    for setter in (symbol.setter for symbol in symbols):
        if setter is None:
            continue
        step = steps[setter[0]]
        arg = step.args[setter[1]]
        if arg.space.name not in ("ARENA", "OUTPUT") or 0 <= arg.size < _SIZE:
            return f"a size in {arg.size} bytes of {arg.space.name.lower()} in step {setter[0]} '{step.name}'"
    return None


def highest(symbols: Sequence[_Symbol], table: Sequence[Instruction], end: str) -> list[int]:
    """Per entry a number that it is never above, where shapes are at one ``end`` (min, opt or max) and computed sizes anywhere in their
    ranges."""
    low: list[int] = []
    high: list[int] = []
    for entry in table:
        if entry.op == "const":
            ends = [entry.value]
        elif entry.op == "sym":
            symbol = symbols[entry.a]
            ends = [getattr(symbol, end)] if symbol.setter is None else [symbol.min, symbol.max]
        else:
            ends = _combined(entry.op, (low[entry.a], high[entry.a]), (low[entry.b], high[entry.b]))
        low.append(min(ends))
        high.append(max(ends))
    return high


def _combined(op: str, a: tuple[int, int], b: tuple[int, int]) -> list[int]:
    """Numbers between whose least and largest all of ``x op y`` lie, x in the range a and y in b; divisors count from 1."""
    if op == "add":
        return [a[0] + b[0], a[1] + b[1]]
    if op == "mul":
        return [x * y for x in a for y in b]
    if op == "floordiv":
        return [x // max(y, 1) for x in a for y in b]
    if op == "mod":
        return [0, max(b[1], 1) - 1]
    return [(min if op == "min" else max)(x, y) for x, y in zip(a, b, strict=True)]
