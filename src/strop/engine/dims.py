"""Numbers of a plan that a shape decides: symbols with their ranges, and a table of instructions that the runtime works off once
whenever a context takes another shape.

Entry ``k`` of the table is computed from symbols and earlier entries. Wherever a plan has a number that may depend on the shape, a
number below zero, ``-1 - k``, names entry ``k``. ``runtime/src/strop_format.h`` is the C twin of the records.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

MAX_SYMS = 256
MAX_DIMS = 1 << 20
MAX_STEP_DIMS = 1 << 22
MAX_SYM = 1 << 31
_FAR = 1 << 63
_MEANING: dict[str, Callable[[int, int], int]] = {
    "add": operator.add, "mul": operator.mul, "floordiv": operator.floordiv, "mod": operator.mod, "min": min, "max": max,
}  # fmt: skip
#: By number, as in strop_format.h. ``const`` is the value; ``sym`` symbol ``a``; the others combine entries ``a`` and ``b``.
OPS = ("const", "sym", "add", "mul", "floordiv", "mod", "min", "max")

SYM = np.dtype([("name", "<u4"), ("set_by", "<u4"), ("min", "<i8"), ("opt", "<i8"), ("max", "<i8")])
DIM = np.dtype([("op", "<u4"), ("a", "<u4"), ("b", "<u4"), ("zero", "<u4"), ("value", "<i8")])
STEP_DIM = np.dtype([("dim", "<u4")])


@dataclass(frozen=True)
class Instruction:
    """An entry of the table: ``op`` is one of OPS."""

    op: str
    a: int = 0
    b: int = 0
    value: int = 0

    def problem(self, index: int, n_syms: int) -> str | None:
        """What is wrong with entry ``index`` of a table over ``n_syms`` symbols, or None."""
        if self.op == "const":
            return None if not self.a and not self.b else "a constant has no operands"
        if self.value:
            return "only a constant has a value"
        if self.op == "sym":
            return None if self.a < n_syms and not self.b else f"symbol {self.a} of {n_syms}"
        return None if max(self.a, self.b) < index else f"operands {self.a} and {self.b} of entry {index}"


def reference(index: int) -> int:
    """The number that names an entry."""
    return -1 - index


def input_dim(number: int, table: Sequence[Instruction]) -> tuple[int, int] | None:
    """(symbol, factor) of an input's dim, from which a shape tells the symbol; None when the entry is no such product."""
    entry = table[-1 - number]
    if entry.op == "sym":
        return entry.a, 1
    if entry.op != "mul" or table[entry.a].op != "sym" or table[entry.b].op != "const":
        return None
    factor = table[entry.b].value
    return (table[entry.a].a, factor) if 1 <= factor <= MAX_SYM else None


def evaluate(table: Sequence[Instruction], values: Sequence[int]) -> list[int]:
    """Every entry's number; ArithmeticError where one divides by less than 1 or leaves 64 bits."""
    found: list[int] = []
    for entry in table:
        if entry.op == "const":
            found.append(entry.value)
        elif entry.op == "sym":
            found.append(values[entry.a])
        else:
            a, b = found[entry.a], found[entry.b]
            if entry.op in ("floordiv", "mod") and b < 1:
                raise ZeroDivisionError(f"entry {len(found)} divides by {b}")
            found.append(_MEANING[entry.op](a, b))
        if not -_FAR <= found[-1] < _FAR:
            raise OverflowError(f"entry {len(found) - 1} is {found[-1]}")
    return found
