"""Loops that data ends. A loop is two nodes, ``loop_begin`` and ``loop_end``; what lies between them, as operands tell, is its body.

The body is every node that needs a result of ``loop_begin`` and is needed by ``loop_end``. It runs once per round; everything else
runs once. ``strop.ir.control`` puts nodes in such an order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim, Sym
from strop.ops import base


@dataclass(frozen=True)
class LoopBegin(Op):
    """Before the first round, or no round at all.

    Operands: go, a bool scalar: whether there is a first round; then what the carried values are in it.
    Results: the number of the round, an i64 scalar from 0 on; then the carried values.

    Attributes:
        loop: what it shares with its ``loop_end``, and with no other node.
    """

    name: ClassVar[str] = "loop_begin"
    lasting: ClassVar[bool] = True

    loop: str

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1, 1 << 16)
        _check_flag(self, inputs, 0)
        return Type(dt.i64, ()), *inputs[1:]

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """In the first round."""
        return np.asarray(0, np.int64), *inputs[1:]

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return base.moved((*inputs, *outputs))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape in ((3, 4), (), (2,)):
            yield Sample(cls("a"), (np.asarray(True), base.random_array(rng, shape), base.random_array(rng, (5,), dt.i64)))


@dataclass(frozen=True)
class LoopEnd(Op):
    """After a round.

    Operands: the number of the round, of the ``loop_begin``; go, a bool scalar: whether there is another round; what the carried values
    are then; then ``scans`` values of which every round gives one.
    Results: the carried values after the last round; the values of all rounds, [rounds, ...] each; how many rounds there were, i64.

    Attributes:
        loop: see ``LoopBegin``.
        scans: how many operands are collected.
        rounds: how many rounds there were.
        finds: ``rounds`` is a symbol that the loop finds; otherwise it is known before.
    """

    name: ClassVar[str] = "loop_end"
    lasting: ClassVar[bool] = True

    loop: str
    scans: int
    rounds: Dim
    finds: bool = True

    @property
    def computed(self) -> tuple[Sym, ...]:
        return (self.rounds,) if self.finds and isinstance(self.rounds, Sym) else ()

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2 + self.scans, 1 << 16)
        if inputs[0] != Type(dt.i64, ()):
            raise self.fail("operand 0 is no number of a round", inputs)
        _check_flag(self, inputs, 1)
        last = len(inputs) - self.scans
        collected = (Type(t.dtype, (self.rounds, *t.shape)) for t in inputs[last:])
        return *inputs[2:last], *collected, Type(dt.i64, ())

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Of one round."""
        last = len(inputs) - self.scans
        return *inputs[2:last], *(a[None] for a in inputs[last:]), np.asarray(1, np.int64)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return base.moved((*inputs, *outputs))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for scans in (0, 1, 2):
            values = [base.random_array(rng, shape) for shape in ((2, 3), (4,), ())]
            yield Sample(cls("a", scans, Sym("rounds", 0, 1, 9)), (np.asarray(0), np.asarray(False), *values))


def _check_flag(op: Op, inputs: Sequence[Type], index: int) -> None:
    if inputs[index] != Type(dt.boolean, ()):
        raise op.fail(f"operand {index} is no bool scalar", inputs)
