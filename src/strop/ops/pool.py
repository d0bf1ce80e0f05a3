"""Maximum and average over sliding windows (ONNX MaxPool, AveragePool)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.ir.op import Op, Type
from strop.ir.shape import Shape
from strop.ops import base


@dataclass(frozen=True)
class _Pool(Op):
    """Shared attributes of the pools."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    ceil_mode: bool = False

    def _shape(self, inputs: Sequence[Type]) -> Shape:
        x = inputs[0].shape
        rank = len(x) - 2
        if not 1 <= rank <= 3:
            raise self.fail("rank does not fit", inputs, "x[N, C, 1 to 3 spatial axes]")
        base.check_window(
            self,
            rank,
            kernel=self.kernel,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
        )
        out = tuple(
            base.window_extent(
                x[2 + k],
                self.kernel[k],
                self.strides[k],
                self.pads[k],
                self.pads[rank + k],
                self.dilations[k],
                self.ceil_mode,
            )
            for k in range(rank)
        )
        return (*x[:2], *out)


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The largest element of each window; padding never wins.

    Operand: x[N, C, *spatial] of a numeric dtype. Result: [N, C, *out], see
    ``strop.ops.base.window_extent``.

    Attributes:
        kernel, strides, dilations: per spatial axis.
        pads: before every spatial axis, then after every spatial axis.
        ceil_mode: a last partial window counts.
    """

    name: ClassVar[str] = "max_pool"

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        return (Type(base.numeric(self, inputs), self._shape(inputs)),)


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of each window.

    Operand: x[N, C, *spatial] of a float dtype. Result: [N, C, *out], see
    ``strop.ops.base.window_extent``.

    Attributes:
        kernel, strides, dilations: per spatial axis.
        pads: before every spatial axis, then after every spatial axis.
        ceil_mode: a last partial window counts.
        count_include_pad: padding counts as zeros that are averaged; what ceil_mode adds past it
            never counts.
    """

    name: ClassVar[str] = "average_pool"

    count_include_pad: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        return (Type(base.floating(self, inputs), self._shape(inputs)),)
