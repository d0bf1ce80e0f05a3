"""Softmax and its logarithm along one axis (ONNX 13 and later)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.ir.op import Op, Type
from strop.ops import base


@dataclass(frozen=True)
class Softmax(Op):
    """exp(x - max) / sum(exp(x - max)) along an axis.

    Operand: x of a float dtype. Result: as x.

    Attributes:
        axis: negative counts from the end.
    """

    name: ClassVar[str] = "softmax"

    axis: int = -1

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.floating(self, inputs)
        base.axis_of(self, self.axis, inputs[0].rank)
        return (inputs[0],)


@dataclass(frozen=True)
class LogSoftmax(Op):
    """x - max - log(sum(exp(x - max))) along an axis.

    Operand: x of a float dtype. Result: as x.

    Attributes:
        axis: negative counts from the end.
    """

    name: ClassVar[str] = "log_softmax"

    axis: int = -1

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.floating(self, inputs)
        base.axis_of(self, self.axis, inputs[0].rank)
        return (inputs[0],)
