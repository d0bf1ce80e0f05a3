"""Vector instructions as data: C text, preconditions and a numpy meaning per instruction.

Kernels are written once over the names below; an Isa says what a name is in C. ``vf`` is a vector of ``lanes`` f32, ``vi`` the vector
of i32 of the same width (also used as a mask: all bits set is true); ``vd`` and ``vl`` are ``lanes`` f64 and i64. Arithmetic,
comparisons and bit operations use C operators, which clang defines on vectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Instr:
    """One vector operation.

    Attributes:
        name: what kernels call.
        result: C result type.
        params: C parameter list.
        body: C statements of its definition; may call other instructions.
        meaning: what it computes, on numpy arrays of ``lanes`` elements. A pointer is the array of all elements from there to the
            last one it may touch; an instruction that stores answers that array's new content. An answer longer than a vector is cut.
        needs: preconditions in words, None when there are none.
        expect: mnemonic that the compiled code must contain on this instruction set, None when it does not matter.
    """

    name: str
    result: str
    params: str
    body: str
    meaning: Callable[..., Any] | None = None
    needs: str | None = None
    expect: str | None = None

    @property
    def c(self) -> str:
        """Its C definition."""
        head = f"static inline {self.result} {self.name}({self.params}) {{"
        if "\n" not in self.body:
            return f"{head} {self.body} }}"
        return "\n".join([head, *(f"  {line}" for line in self.body.splitlines()), "}"])


@dataclass(frozen=True)
class Isa:
    """A vector instruction set.

    Attributes:
        name: key in the table, also stored in engine files.
        lanes: f32 per vector.
        registers: architectural vector registers.
        header: C text before any definition (includes, vector types).
        table: instructions by name.
        variants: instructions that take the place of those in the table where the processor has a further feature, by its name.
    """

    name: str
    lanes: int
    registers: int
    header: str
    table: dict[str, Instr]
    variants: dict[str, dict[str, Instr]] = field(default_factory=dict)

    def used(self, text: str, features: Sequence[str]) -> tuple[str, ...]:
        """Those of the features that make a difference to what ``text`` calls."""
        called = set(_called(text, self.table))
        return tuple(f for f in features if called & self.variants.get(f, {}).keys())

    def using(self, features: Sequence[str]) -> Isa:
        """The instruction set of a processor that has these features too."""
        table = dict(self.table)
        for feature in features:
            table.update(self.variants.get(feature, {}))
        return replace(self, table=table)

    def prologue(self, text: str) -> str:
        """Definitions of the instructions that ``text`` calls, dependencies first; nothing unused."""
        order: list[str] = []

        def visit(name: str) -> None:
            if name in order:
                return
            for called in _called(self.table[name].body, self.table):
                visit(called)
            order.append(name)

        for name in _called(text, self.table):
            visit(name)
        return self.header + "\n" + "\n".join(self.table[name].c for name in order) + "\n"

    def extend(
        self, name: str, lanes: int, registers: int, header: str, instrs: list[Instr], variants: Mapping[str, list[Instr]] | None = None
    ) -> Isa:
        """A further instruction set that redefines some instructions of this one."""
        table = {**self.table, **{i.name: _meant(i, self.table) for i in instrs}}
        further = {f: {i.name: _meant(i, table) for i in found} for f, found in (variants or {}).items()}
        return Isa(name, lanes, registers, header, table, further)


def _meant(instr: Instr, table: Mapping[str, Instr]) -> Instr:
    """The instruction with the meaning of the one it takes the place of, when it states none."""
    old = table.get(instr.name)
    return replace(instr, meaning=old.meaning) if old is not None and instr.meaning is None else instr


_WORD = re.compile(r"\b(v[a-z0-9_]+)\s*\(")


def _called(text: str, table: dict[str, Instr]) -> list[str]:
    return sorted({m for m in _WORD.findall(text) if m in table})

