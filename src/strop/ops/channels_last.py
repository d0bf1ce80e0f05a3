"""An op that speaks of channels first, over values that have them last: what formats are written from whose ops know no other order.

Only exporting makes it (``strop.export.arrange``); no build meets it, and it has no name in text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from strop.ir.op import Array, Cost, Op, Sample, Type


def last_perm(rank: int) -> tuple[int, ...]:
    """[N, C, spatial..] to [N, spatial.., C]."""
    return (0, *range(2, rank), 1)


def first_perm(rank: int) -> tuple[int, ...]:
    """[N, spatial.., C] to [N, C, spatial..]."""
    return (0, rank - 1, *range(1, rank - 1))


@dataclass(frozen=True)
class ChannelsLast(Op):
    """``inner`` with the axes of operand 0 and of its result as [N, spatial.., C]; other operands are as ``inner`` has them.

    Attributes:
        inner: the op, with one result.
    """

    inner: Op

    @property
    def label(self) -> str:
        """The inner op's with a mark, so that no pattern takes it for that."""
        return f"{self.inner.label}_last"

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        x = inputs[0]
        (found,) = self.inner.infer([_turned(x, first_perm(x.rank)), *inputs[1:]])
        return (_turned(found, last_perm(found.rank)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x = inputs[0]
        (found,) = self.inner.reference(np.ascontiguousarray(x.transpose(first_perm(x.ndim))), *inputs[1:])
        return (np.ascontiguousarray(found.transpose(last_perm(found.ndim))),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        first = [_turned(inputs[0], first_perm(inputs[0].rank)), *inputs[1:]]
        return self.inner.cost(first, [_turned(t, first_perm(t.rank)) for t in outputs])

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        return iter(())


def _turned(type: Type, perm: Sequence[int]) -> Type:
    return Type(type.dtype, tuple(type.shape[p] for p in perm))
