"""What kernels of recurrent layers share, whatever the language: operands by name, and the products of a step."""

from __future__ import annotations

from dataclasses import dataclass

from strop.kernels.base import Operand, Region
from strop.ops.recurrent import GRU, Recurrent


@dataclass(frozen=True)
class Pass:
    """One product of a step.

    Attributes:
        gates: whose rows of the weights.
        source: which buffer is multiplied with them, ``state`` or ``reset``.
    """

    gates: tuple[int, ...]
    source: str


def passes_of(op: Recurrent) -> tuple[Pass, ...]:
    """The passes of a step, in order."""
    if isinstance(op, GRU) and not op.linear_before_reset:
        return (Pass((0, 1), "state"), Pass((2,), "reset"))
    return (Pass(tuple(range(op.gates)), "state"),)


def operands_of(region: Region) -> dict[str, tuple[int, Operand]]:
    """Number and operand of those that are present, by name."""
    assert isinstance(region.op, Recurrent)
    pairs = zip(region.op.operand_names, region.operands, strict=False)
    return {
        name: (number, operand)
        for number, (name, operand) in enumerate(pairs)
        if operand is not None and operand.view.shape != (0,)
    }
