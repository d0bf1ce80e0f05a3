"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.errors import OptionError, ShapeError
from strop.frontend.network.layer import Emitter, Layer, per_axis
from strop.frontend.network.window import check_mode, pads
from strop.ir.graph import Value
from strop.ops.pool import AveragePool, MaxPool

TYPES = ("max", "average", "max_average_blend")
Numbers = int | Sequence[int]


@dataclass(eq=False)
class Pooling(Layer):
    """Pooling over the last one to three axes of x [N, C, spatial..].

    Attributes:
        type: max, average, or max_average_blend: (1 - blend_factor) * max + blend_factor * average.
        window: per spatial axis.
        stride: per spatial axis; None for the window's sizes.
        pre_padding, post_padding, padding_mode: as for Convolution.
        blend_factor: see type.
        average_count_excludes_padding: averages divide by the number of elements of x in the window, not by the window's size.
    """

    kind: ClassVar[str] = "Pooling"

    type: str
    window: Sequence[int]
    stride: Numbers | None = None
    pre_padding: Numbers = 0
    post_padding: Numbers = 0
    padding_mode: str = "explicit_round_down"
    blend_factor: float = 0.0
    average_count_excludes_padding: bool = True

    def check(self) -> None:
        check_mode(self.padding_mode, self.name)
        if self.type not in TYPES:
            raise OptionError("unknown type of pooling", where=self.name, got=self.type, expected=", ".join(TYPES))
        if not 1 <= len(self.window) <= 3 or min(self.window) < 1:
            raise ShapeError("window does not fit", where=self.name, got=tuple(self.window), expected="1 to 3 positive sizes")

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        rank = len(self.window)
        if x.type.rank != rank + 2:
            raise e.fail("input has the wrong rank", x.type, f"rank {rank + 2}")
        window = tuple(self.window)
        strides = window if self.stride is None else per_axis(self.stride, rank, "stride", self.name)
        pre = per_axis(self.pre_padding, rank, "pre_padding", self.name)
        post = per_axis(self.post_padding, rank, "post_padding", self.name)
        ones = (1,) * rank
        found = pads(e, x.shape[2:], window, strides, ones, pre, post, self.padding_mode)
        most = MaxPool(window, strides, found, ones)
        mean = AveragePool(window, strides, found, ones, count_include_pad=not self.average_count_excludes_padding)
        if self.type == "max":
            return e(most, x)
        if self.type == "average":
            return e(mean, x)
        blend = float(self.blend_factor)
        left = e.fn("mul", e(most, x), e.const(1.0 - blend, x.dtype))
        return e.fn("add", left, e.fn("mul", e(mean, x), e.const(blend, x.dtype)))
