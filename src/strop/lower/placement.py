"""Places in memory and the steps between them, before kernels are chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

from strop.ir.graph import Value
from strop.ir.op import Array
from strop.kernels.base import View
from strop.lower.regions import Group

#: Copy steps are named after why they exist.
LAYOUT, CONCAT, OUTPUT, RESHAPE, LOOP = "layout", "concat", "output", "reshape", "loop"


@dataclass(eq=False)
class Buffer:
    """A run of memory.

    Attributes:
        kind: ``arena``, ``input``, ``output`` or ``weights``.
        index: input or output number; buffer number in the arena.
        size: bytes; an Extent when only a run knows them.
        name: of the value it was made for.
        array: what a buffer of weights holds.
    """

    kind: str
    index: int
    size: int
    name: str
    array: Array | None = None


@dataclass(frozen=True, eq=False)
class Placement:
    """A value in memory: a view that starts ``offset`` elements into a buffer."""

    buffer: Buffer
    offset: int
    view: View

    def same(self, other: Placement) -> bool:
        """True when both name the same memory in the same order."""
        return self.buffer is other.buffer and self.offset == other.offset and self.view == other.view


@dataclass(eq=False)
class Launch:
    """One step before its kernel is chosen.

    Attributes:
        group: what it computes; None for a copy.
        inputs: placement per operand; None for one left out or constant.
        consts: the constant value per operand, or None.
        outputs: placement per result.
        reason: why a copy exists.
        source: names of the model's nodes.
    """

    name: str
    group: Group | None
    inputs: list[Placement | None]
    consts: list[Value | None]
    outputs: list[Placement]
    reason: str = ""
    source: tuple[str, ...] = ()
    swaps: bool = field(default=False)


@dataclass(frozen=True)
class Jump:
    """After a launch: go on with another one where the bool that the launch has written is ``when``.

    Attributes:
        after: number of the launch; its only result is the bool.
        when: the bool's value.
        target: number of the launch to go on with.
    """

    after: int
    when: bool
    target: int
