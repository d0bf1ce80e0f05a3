"""Builds a plan's table of dims from symbolic Dims."""

from __future__ import annotations

from dataclasses import dataclass, field

from strop.engine.dims import Instruction, reference
from strop.ir.shape import Dim, Sym, bounds, maximum


@dataclass
class DimTable:
    """Builds a table; equal dims are computed once."""

    symbols: list[Sym] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    _known: dict[Instruction, int] = field(default_factory=dict)

    def number(self, dim: Dim) -> int:
        """The dim as a number of a plan: itself, or the name of its entry."""
        return dim if isinstance(dim, int) else reference(self.index(dim))

    def index(self, dim: Dim) -> int:
        """The dim's entry."""
        if isinstance(dim, int):
            return self._add(Instruction("const", value=dim))
        if isinstance(dim, Sym):
            if dim not in self.symbols:
                self.symbols.append(dim)
            return self._add(Instruction("sym", self.symbols.index(dim)))
        first, second = dim.args
        if dim.op in ("floordiv", "mod") and bounds(second)[0] < 1:
            second = maximum(second, 1)  # of nothing: a size that data decides may be 0
        return self._add(Instruction(dim.op, self.index(first), self.index(second)))

    def _add(self, instruction: Instruction) -> int:
        if instruction not in self._known:
            self._known[instruction] = len(self.instructions)
            self.instructions.append(instruction)
        return self._known[instruction]
