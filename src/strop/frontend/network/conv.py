"""Convolution, deconvolution, fully connected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from strop.errors import ShapeError
from strop.frontend.network.layer import Emitter, Layer, per_axis, weights
from strop.frontend.network.window import check_mode, pads
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.matmul import MatMul

Numbers = int | Sequence[int]


@dataclass(eq=False)
class _Convolution(Layer):
    """What convolution and deconvolution share.

    Attributes:
        maps: output channels K.
        window: size of the kernel per spatial axis (1 to 3 axes).
        kernel: weights; may be None when operand 1 gives them.
        bias: [K], or None.
        stride, dilation: per spatial axis, or one number.
        pre_padding, post_padding: elements added before and after every spatial axis.
        padding_mode: one of ``window.PADDING_MODES``; all but the explicit ones overrule the pads.
        groups: channels are split into so many groups that are convolved by themselves.

    Operands: x [N, C, spatial..], optionally kernel and bias as tensors.
    """

    arity: ClassVar[tuple[int, int | None]] = (1, 3)

    maps: int
    window: Sequence[int]
    kernel: Any = None
    bias: Any = None
    stride: Numbers = 1
    pre_padding: Numbers = 0
    post_padding: Numbers = 0
    padding_mode: str = "explicit_round_down"
    dilation: Numbers = 1
    groups: int = 1

    def check(self) -> None:
        check_mode(self.padding_mode, self.name)
        if self.maps < 1 or self.groups < 1 or self.maps % self.groups:
            raise ShapeError("maps do not fit the groups", where=self.name, got=f"{self.maps} maps, {self.groups} groups")
        if not 1 <= len(self.window) <= 3 or min(self.window) < 1:
            raise ShapeError("window does not fit", where=self.name, got=tuple(self.window), expected="1 to 3 positive sizes")
        weights(self.bias, self.maps, "bias", self.name)

    def _axes(self, value: Numbers, what: str) -> tuple[int, ...]:
        return per_axis(value, len(self.window), what, self.name)

    def _channels(self, e: Emitter, x: Value) -> int:
        rank = len(self.window) + 2
        if x.type.rank != rank:
            raise e.fail("input has the wrong rank", x.type, f"rank {rank}")
        channels = x.shape[1]
        if not isinstance(channels, int) or channels % self.groups:
            raise e.fail("channels do not fit the groups", f"{channels} channels, {self.groups} groups")
        return channels

    def _operands(self, e: Emitter, shape: tuple[int, ...], inputs: Sequence[Value | None], x: Value) -> list[Value]:
        """Kernel and bias, from operands or parameters."""
        given = [*inputs, None, None][:2]
        found = []
        kernel = given[0]
        if kernel is None:
            array = weights(self.kernel, prod(shape), "kernel", self.name)
            if array is None:
                raise e.fail("the kernel is missing", expected=shape)
            kernel = e.const(array.reshape(shape), x.dtype, "kernel")
        found.append(e.reshape(kernel, shape))
        if given[1] is not None:
            found.append(given[1])
        else:
            bias = weights(self.bias, self.maps, "bias", self.name)
            found += [] if bias is None else [e.const(bias.reshape(-1), x.dtype, "bias")]
        return found


@dataclass(eq=False)
class Convolution(_Convolution):
    """Cross-correlation of 1 to 3 spatial axes. ``kernel`` has the order [K, C / groups, window..]."""

    kind: ClassVar[str] = "Convolution"

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        x = inputs[0]
        window = self._axes(self.window, "window")
        shape = (self.maps, self._channels(e, x) // self.groups, *window)
        strides, dilations = self._axes(self.stride, "stride"), self._axes(self.dilation, "dilation")
        pre, post = self._axes(self.pre_padding, "pre_padding"), self._axes(self.post_padding, "post_padding")
        found = pads(e, x.shape[2:], window, strides, dilations, pre, post, self.padding_mode)
        return e(Conv(strides, found, dilations, self.groups), x, *self._operands(e, shape, inputs[1:], x))


@dataclass(eq=False)
class Deconvolution(_Convolution):
    """Transposed convolution: stride * (size - 1) + extent - pads elements per axis. ``kernel`` has the order [C, K / groups, window..].

    ``same_upper`` and ``same_lower`` give stride * size elements.
    """

    kind: ClassVar[str] = "Deconvolution"

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        x = inputs[0]
        window = self._axes(self.window, "window")
        shape = (self._channels(e, x), self.maps // self.groups, *window)
        strides, dilations = self._axes(self.stride, "stride"), self._axes(self.dilation, "dilation")
        pre, post = list(self._axes(self.pre_padding, "pre_padding")), list(self._axes(self.post_padding, "post_padding"))
        extra = [0] * len(window)
        if self.padding_mode.startswith("same"):
            for k, (size, stride, dilation) in enumerate(zip(window, strides, dilations, strict=True)):
                total = (size - 1) * dilation + 1 - stride
                extra[k] = max(-total, 0)
                small, large = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
                pre[k], post[k] = (small, large) if self.padding_mode == "same_upper" else (large, small)
        op = ConvTranspose(strides, (*pre, *post), dilations, self.groups, tuple(extra))
        return e(op, x, *self._operands(e, shape, inputs[1:], x))


@dataclass(eq=False)
class FullyConnected(Layer):
    """x W^T + b of the last three axes taken as one: [.., C, H, W] to [.., K, 1, 1].

    Attributes:
        maps: output channels K.
        kernel: [K, C H W].
        bias: [K], or None.
    """

    kind: ClassVar[str] = "FullyConnected"
    arity: ClassVar[tuple[int, int | None]] = (1, 1)

    maps: int
    kernel: Any
    bias: Any = None

    def check(self) -> None:
        if self.maps < 1:
            raise ShapeError("maps must be positive", where=self.name, got=self.maps)
        weights(self.bias, self.maps, "bias", self.name)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        if x.type.rank < 3 + e.lead:
            raise e.fail("input has the wrong rank", x.type, "three axes or more beside the batch")
        last = x.shape[-3:]
        if not all(isinstance(d, int) for d in last):
            raise e.unsupported("the last three axes must have fixed sizes", got=x.type)
        volume = prod(d for d in last if isinstance(d, int))
        kernel = weights(self.kernel, self.maps * volume, "kernel", self.name)
        if kernel is None:
            raise e.fail("the kernel is missing", expected=f"{self.maps} x {volume}")
        lead: tuple[Dim, ...] = x.shape[:-3]
        flat = e.reshape(x, (*lead, volume))
        y = e(MatMul(transpose_b=True), flat, e.const(kernel.reshape(self.maps, volume), x.dtype, "kernel"))
        bias = weights(self.bias, self.maps, "bias", self.name)
        if bias is not None:
            y = e.fn("add", y, e.const(bias.reshape(-1), x.dtype, "bias"))
        return e.reshape(y, (*lead, self.maps, 1, 1))
