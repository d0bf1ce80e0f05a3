"""Resampling by nearest, linear or cubic interpolation (ONNX Resize)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.ir.op import Op, Type
from strop.ir.shape import Dim
from strop.ops import base

MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "asymmetric",
    "align_corners",
    "tf_crop_and_resize",
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class Resize(Op):
    """Every result element interpolates x around the position its index maps to.

    Operand: x, any dtype for nearest, else float. Result: shape ``sizes``, same dtype. Axes with
    size unchanged and scale 1 are left alone. Coordinates are computed in f64.

    Attributes:
        sizes: result shape, all axes.
        scales: factor per axis (result / x) used in the coordinate formulas; may differ from the
            ratio of the sizes.
        mode: nearest, linear or cubic.
        coordinates: coordinate_transformation_mode of ONNX Resize.
        nearest: nearest_mode of ONNX Resize.
        cubic_a: coefficient of the cubic kernel (Keys 1981).
        exclude_outside: cubic weights outside x are zero and the rest is rescaled; otherwise edges
            repeat.
        extrapolation: result for positions outside x with tf_crop_and_resize.
        roi: start of every axis then end of every axis, in 0..1, for tf_crop_and_resize; else
            empty.
        antialias: linear and cubic kernels widen when shrinking.
    """

    name: ClassVar[str] = "resize"

    sizes: tuple[Dim, ...]
    scales: tuple[float, ...]
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    extrapolation: float = 0.0
    roi: tuple[float, ...] = ()
    antialias: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.choice(self, "mode", self.mode, MODES)
        base.choice(self, "coordinates", self.coordinates, COORDINATES)
        base.choice(self, "nearest", self.nearest, NEAREST)
        x = inputs[0]
        if self.mode != "nearest":
            base.floating(self, inputs)
        if not len(self.sizes) == len(self.scales) == x.rank:
            raise self.fail(
                "sizes and scales do not fit the rank", inputs, f"{x.rank} numbers each"
            )
        if any(s <= 0 for s in self.scales):
            raise self.fail("a scale is not positive", inputs)
        cropped = self.coordinates == "tf_crop_and_resize"
        if len(self.roi) != (2 * x.rank if cropped else 0):
            raise self.fail(
                "roi does not fit", inputs, "2 * rank numbers with tf_crop_and_resize, else none"
            )
        return (Type(x.dtype, self.sizes),)
