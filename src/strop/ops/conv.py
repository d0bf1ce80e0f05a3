"""Convolution and transposed convolution in 1 to 3 spatial dims (ONNX Conv and ConvTranspose)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.ir import shape as sh
from strop.ir.op import Op, Type
from strop.ir.shape import Dim, Shape
from strop.ops import base

LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class Conv(Op):
    """Cross-correlation of x with w, plus b per output channel.

    Operands: x[N, C, *spatial], w[O, C/groups, *kernel], optional b[O]; one float dtype.
    Result: [N, O, *out] with out = (in + pads - dilation * (kernel - 1) - 1) // stride + 1.

    Attributes:
        strides: per spatial axis.
        pads: zeros before every spatial axis, then after every spatial axis.
        dilations: per spatial axis.
        groups: channel groups; divides C and O.
        layout: ``NCHW`` (channels at axis 1, any number of spatial axes) or ``NHWC`` (channels last, x and result).
    """

    name: ClassVar[str] = "conv"

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    layout: str = "NCHW"

    def channel_axis(self, rank: int) -> int:
        """Axis of the channels in x and the result."""
        return 1 if self.layout == "NCHW" else rank - 1

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Axes of x and the result that the window moves along."""
        return tuple(range(2, rank)) if self.layout == "NCHW" else tuple(range(1, rank - 1))

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2, 3)
        dtype = base.floating(self, inputs)
        base.choice(self, "layout", self.layout, LAYOUTS)
        x, w = inputs[0].shape, inputs[1].shape
        if not 3 <= len(x) <= 5 or len(w) != len(x):
            raise self.fail("ranks do not fit", inputs, "x and w of equal rank 3 to 5")
        rank = len(x) - 2
        base.check_window(
            self, rank, strides=self.strides, pads=self.pads, dilations=self.dilations
        )
        channels = x[self.channel_axis(len(x))]
        if self.groups < 1 or channels != sh.mul(w[1], self.groups):
            raise self.fail("channels of x and w do not fit", inputs, f"C = groups * w[1], groups {self.groups}")
        if isinstance(w[0], int) and w[0] % self.groups:
            raise self.fail("groups do not divide the output channels", inputs)
        if len(inputs) == 3 and inputs[2].shape != (w[0],):
            raise self.fail("bias does not fit", inputs, f"[{w[0]}]")
        kernel = sh.static(w[2:], self.name)
        out = tuple(
            base.window_extent(
                x[axis], kernel[k], self.strides[k], self.pads[k], self.pads[rank + k], self.dilations[k]
            )
            for k, axis in enumerate(self.spatial_axes(len(x)))
        )
        shape: Shape = (x[0], w[0], *out) if self.layout == "NCHW" else (x[0], *out, w[0])
        return (Type(dtype, shape),)


@dataclass(frozen=True)
class ConvTranspose(Op):
    """Transposed convolution: the gradient of Conv with respect to its input, plus b.

    Operands: x[N, C, *spatial], w[C, O/groups, *kernel], optional b[O]; one float dtype.
    Result: [N, O, *out] with out = (in - 1) * stride + output_padding + dilation * (kernel - 1) + 1 - pads.

    Attributes:
        strides: per spatial axis.
        pads: cut off before every spatial axis, then after every spatial axis.
        dilations: per spatial axis.
        groups: channel groups.
        output_padding: extra size after each spatial axis.
    """

    name: ClassVar[str] = "conv_transpose"

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    output_padding: tuple[int, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2, 3)
        dtype = base.floating(self, inputs)
        x, w = inputs[0].shape, inputs[1].shape
        if not 3 <= len(x) <= 5 or len(w) != len(x):
            raise self.fail("ranks do not fit", inputs, "x and w of equal rank 3 to 5")
        rank = len(x) - 2
        base.check_window(
            self,
            rank,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
            output_padding=self.output_padding,
        )
        if x[1] != w[0]:
            raise self.fail("channels of x and w do not fit", inputs, "C = w[0]")
        if self.groups < 1 or (isinstance(w[0], int) and w[0] % self.groups):
            raise self.fail(f"groups {self.groups} do not divide the channels", inputs)
        channels = sh.mul(w[1], self.groups)
        if len(inputs) == 3 and inputs[2].shape != (channels,):
            raise self.fail("bias does not fit", inputs, f"[{channels}]")
        kernel = sh.static(w[2:], self.name)
        out: list[Dim] = []
        for k in range(rank):
            grown = sh.mul(sh.sub(x[2 + k], 1), self.strides[k])
            extra = self.output_padding[k] + self.dilations[k] * (kernel[k] - 1) + 1
            out.append(sh.add(grown, extra - self.pads[k] - self.pads[rank + k]))
        if any(isinstance(d, int) and d < 0 for d in out):
            raise self.fail("pads cut off more than there is", inputs)
        return (Type(dtype, (x[0], channels, *out)),)
