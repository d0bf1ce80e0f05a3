"""Normalizations: BatchNorm (inference), LayerNorm, RMSNorm, GroupNorm, InstanceNorm, LRN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.ir import shape as sh
from strop.ir.op import Op, Type
from strop.ir.shape import Shape
from strop.ops import base


def _per_channel(op: Op, inputs: Sequence[Type]) -> None:
    """ShapeError unless x has a channel axis 1 and every other operand is [C]."""
    if inputs[0].rank < 2:
        raise op.fail("x has no channel axis", inputs, "x[N, C, ...]")
    channels = inputs[0].shape[1]
    if any(t.shape != (channels,) for t in inputs[1:]):
        raise op.fail("per-channel operands do not fit", inputs, f"[{channels}]")


def _trailing(op: Op, axis: int, inputs: Sequence[Type]) -> Shape:
    """The normalized shape; ShapeError unless the other operands broadcast to it."""
    axis = base.axis_of(op, axis, inputs[0].rank)
    inner = inputs[0].shape[axis:]
    for type in inputs[1:]:
        if sh.broadcast(inner, type.shape, where=op.label) != inner:
            raise op.fail(
                "scale or bias does not fit", inputs, f"broadcastable to {sh.show(inner)}"
            )
    return inner


@dataclass(frozen=True)
class BatchNorm(Op):
    """(x - mean) / sqrt(var + epsilon) * scale + bias per channel (ONNX BatchNormalization).

    Operands: x[N, C, ...], scale[C], bias[C], mean[C], var[C]; one float dtype. Result: as x.

    Attributes:
        epsilon: added to the variance.
    """

    name: ClassVar[str] = "batch_norm"

    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 5)
        base.floating(self, inputs)
        _per_channel(self, inputs)
        return (inputs[0],)


@dataclass(frozen=True)
class LayerNorm(Op):
    """Zero mean and unit variance over the last axes, scale and bias (ONNX LayerNormalization).

    Operands: x, scale and optional bias that broadcast to x.shape[axis:]; one float dtype. Result:
    as x.

    Attributes:
        axis: first normalized axis; negative counts from the end.
        epsilon: added to the variance.
    """

    name: ClassVar[str] = "layer_norm"

    axis: int = -1
    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2, 3)
        base.floating(self, inputs)
        _trailing(self, self.axis, inputs)
        return (inputs[0],)


@dataclass(frozen=True)
class RMSNorm(Op):
    """x / sqrt(mean(x * x) + epsilon) * scale over axes ``axis..end`` (ONNX RMSNormalization).

    Operands: x, scale that broadcasts to x.shape[axis:]; one float dtype. Result: as x.

    Attributes:
        axis: first normalized axis; negative counts from the end.
        epsilon: added to the mean square.
    """

    name: ClassVar[str] = "rms_norm"

    axis: int = -1
    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        base.floating(self, inputs)
        _trailing(self, self.axis, inputs)
        return (inputs[0],)


@dataclass(frozen=True)
class GroupNorm(Op):
    """Zero mean and unit variance per sample and group of channels, then scale and bias.

    Operands: x[N, C, ...], scale[C], bias[C]; one float dtype (ONNX GroupNormalization 21). Result:
    as x.

    Attributes:
        groups: divides C.
        epsilon: added to the variance.
    """

    name: ClassVar[str] = "group_norm"

    groups: int
    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 3)
        base.floating(self, inputs)
        _per_channel(self, inputs)
        (channels,) = sh.static(inputs[0].shape[1:2], self.name)
        if self.groups < 1 or channels % self.groups:
            raise self.fail(f"{self.groups} groups do not divide {channels} channels", inputs)
        return (inputs[0],)


@dataclass(frozen=True)
class InstanceNorm(Op):
    """Zero mean and unit variance per sample and channel (ONNX InstanceNormalization).

    Operands: x[N, C, ...], scale[C], bias[C]; one float dtype. Result: as x.

    Attributes:
        epsilon: added to the variance.
    """

    name: ClassVar[str] = "instance_norm"

    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 3)
        base.floating(self, inputs)
        _per_channel(self, inputs)
        return (inputs[0],)


@dataclass(frozen=True)
class LRN(Op):
    """x / (bias + alpha / size * s) ** beta, s the sum of squares over near channels (ONNX LRN).

    Operand: x[N, C, ...] of a float dtype. Result: as x. Near c are the channels
    c - (size - 1) // 2 to c + size // 2.

    Attributes:
        size: channels summed.
        alpha, beta, bias: see the formula.
    """

    name: ClassVar[str] = "lrn"

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.floating(self, inputs)
        _per_channel(self, inputs)
        if self.size < 1:
            raise self.fail(f"size {self.size} is not positive", inputs)
        return (inputs[0],)
