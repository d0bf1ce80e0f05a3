"""Scaled dot-product attention (Vaswani et al. 2017, equation 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.ir import shape as sh
from strop.ir.op import Op, Type
from strop.ops import base


@dataclass(frozen=True)
class Attention(Op):
    """softmax(scale * q k^T + mask) v.

    Operands: q[.., S, D], k[.., T, D], v[.., T, E], optional mask that broadcasts to [.., S, T] and
    is added; one float dtype; leading axes are equal. Result: [.., S, E].

    Attributes:
        scale: factor of the scores, usually 1 / sqrt(D).
        causal: query i sees the keys 0..i only.
    """

    name: ClassVar[str] = "attention"

    scale: float
    causal: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 3, 4)
        dtype = base.floating(self, inputs)
        q, k, v = (t.shape for t in inputs[:3])
        if min(len(q), len(k), len(v)) < 2:
            raise self.fail(
                "an operand has rank below 2", inputs, "q[.., S, D], k[.., T, D], v[.., T, E]"
            )
        if not q[:-2] == k[:-2] == v[:-2]:
            raise self.fail("leading axes differ", inputs)
        if q[-1] != k[-1] or k[-2] != v[-2]:
            raise self.fail("sizes differ", inputs, "q[.., S, D], k[.., T, D], v[.., T, E]")
        scores = (*q[:-1], k[-2])
        if len(inputs) == 4 and sh.broadcast(scores, inputs[3].shape, where=self.name) != scores:
            raise self.fail("mask does not fit", inputs, f"broadcastable to {sh.show(scores)}")
        return (Type(dtype, (*q[:-1], v[-1])),)
