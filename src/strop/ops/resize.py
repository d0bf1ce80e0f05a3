"""Resampling by nearest, linear or cubic interpolation (ONNX Resize)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
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

    def resized(self, x: Type) -> tuple[int, ...]:
        """Axes that are not left alone."""
        rank = x.rank
        return tuple(
            k
            for k in range(rank)
            if self.sizes[k] != x.shape[k]
            or self.scales[k] != 1.0
            or (self.roi and (self.roi[k], self.roi[rank + k]) != (0.0, 1.0))
        )

    def taps(self, k: int) -> tuple[int, int]:
        """First tap, relative to the element at or before the position, and number of taps."""
        if self.mode == "nearest":
            return 0, 1
        first = math.floor(-self._support / self._squeeze(k)) + 1
        return first, 2 - 2 * first

    @property
    def _support(self) -> int:
        return 1 if self.mode == "linear" else 2

    def _squeeze(self, k: int) -> float:
        """Factor on distances that widens the kernel when antialiasing shrinks axis k."""
        return min(self.scales[k], 1.0) if self.antialias else 1.0

    @property
    def _rescaled(self) -> bool:
        """Whether weights must be divided by their sum."""
        return self.mode != "nearest" and (self.antialias or self.exclude_outside)

    # ---- numpy

    def _positions(self, size: int, k: int) -> Array:
        """Positions in x of the result's indices along axis k, float64."""
        out = int(sh.evaluate(self.sizes[k], {}))
        y = np.arange(out, dtype=np.float64)
        scale = self.scales[k]
        whole = scale * size  # ONNX's output_width: may be fractional
        match self.coordinates:
            case "half_pixel":
                return (y + 0.5) / scale - 0.5
            case "half_pixel_symmetric":
                return size / 2 * (1 - out / whole) + (y + 0.5) / scale - 0.5
            case "pytorch_half_pixel":
                return (y + 0.5) / scale - 0.5 if out > 1 else np.zeros(out)
            case "asymmetric":
                return y / scale
            case "align_corners":
                return y * (size - 1) / (out - 1) if out > 1 else np.zeros(out)
        start, end = self.roi[k], self.roi[len(self.sizes) + k]
        if out == 1:
            return np.full(1, 0.5 * (start + end) * (size - 1))
        return start * (size - 1) + y * (end - start) * (size - 1) / (out - 1)

    def table(self, size: int, k: int) -> tuple[Array, Array]:
        """Indices into x and float64 weights along axis k, both [result size, taps]."""
        at = self._positions(size, k)
        if self.mode == "nearest":
            index = _ROUNDINGS[self.nearest](at)[:, None].astype(np.int64)
            return np.clip(index, 0, size - 1), np.ones(index.shape)
        first, count = self.taps(k)
        floor = np.floor(at)
        index = floor[:, None].astype(np.int64) + np.arange(first, first + count)
        distance = np.abs(index - at[:, None]) * self._squeeze(k)
        weight = self._kernel(distance)
        if self.exclude_outside:
            weight = np.where((index >= 0) & (index < size), weight, 0.0)
        if self._rescaled:
            total = weight.sum(axis=1, keepdims=True)
            weight = weight / np.where(total == 0, 1.0, total)
        return np.clip(index, 0, size - 1), weight

    def outside(self, size: int, k: int) -> Array:
        """bool[result size]: whether positions lie outside of x along axis k, where tf_crop_and_resize extrapolates."""
        at = self._positions(size, k)
        return np.asarray((at < 0) | (at > size - 1))

    def _kernel(self, d: Array) -> Array:
        """Weight at a distance: a triangle, or Keys' cubic."""
        if self.mode == "linear":
            return np.maximum(0.0, 1.0 - d)
        a = self.cubic_a
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        result = x if self.mode == "nearest" else base.wide(x)
        outside = np.zeros((1,) * x.ndim, np.bool_)
        for k in self.resized(Type(dt.from_numpy(x.dtype), x.shape)):
            index, weight = self.table(x.shape[k], k)
            shape = [1] * x.ndim
            shape[k] = len(index)
            parts = [np.take(result, index[:, t], axis=k) for t in range(index.shape[1])]
            if self.mode != "nearest":
                parts = [p * weight[:, t].reshape(shape) for t, p in enumerate(parts)]
            result = parts[0] if len(parts) == 1 else np.sum(parts, axis=0)
            if self.coordinates == "tf_crop_and_resize":
                outside = outside | self.outside(x.shape[k], k).reshape(shape)
        if outside.any():
            result = np.where(outside, np.asarray(self.extrapolation).astype(result.dtype), result)
        return (base.narrow(result, x),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        taps = sh.count([self.taps(k)[1] for k in self.resized(inputs[0])])
        flops = 0 if self.mode == "nearest" else 2 * taps * outputs[0].count
        return Cost(flops, base.moved((*inputs, *outputs)).bytes)

    # ---- loop program

    def _position(self, y: Expr, size: Dim, k: int) -> Expr:
        """``_positions`` as an f64 expression over the result's index."""
        index, extent = ex.Cast(dt.f64, y), ex.Cast(dt.f64, base.size(size))
        target = ex.Cast(dt.f64, base.size(self.sizes[k]))
        scale = ex.Const(self.scales[k], dt.f64)
        half = (index + 0.5) / scale - 0.5
        single = call("le", base.size(self.sizes[k]), base.integer(1))
        steps = call("max", target - 1.0, 1.0)
        zero = ex.Const(0.0, dt.f64)
        match self.coordinates:
            case "half_pixel":
                return half
            case "half_pixel_symmetric":
                return (
                    extent / 2.0 * (1.0 - target / (scale * extent)) + (index + 0.5) / scale - 0.5
                )
            case "pytorch_half_pixel":
                return base.select(single, zero, half)
            case "asymmetric":
                return index / scale
            case "align_corners":
                return base.select(single, zero, index * (extent - 1.0) / steps)
        start, end = self.roi[k], self.roi[len(self.sizes) + k]
        run = index * ex.Const(end - start, dt.f64) * (extent - 1.0) / steps
        middle = ex.Const(0.5 * (start + end), dt.f64) * (extent - 1.0)
        return base.select(single, middle, ex.Const(start, dt.f64) * (extent - 1.0) + run)

    def _weight(self, at: Expr, index: Expr, k: int) -> Expr:
        """``_kernel`` as an f64 expression: the weight of x's element ``index`` at a position."""
        d = call("abs", ex.Cast(dt.f64, index) - at) * ex.Const(self._squeeze(k), dt.f64)
        zero = ex.Const(0.0, dt.f64)
        if self.mode == "linear":
            return call("max", zero, 1.0 - d)
        a = self.cubic_a
        near = ((a + 2) * d - (a + 3)) * d * d + 1.0
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return base.select(d <= 1.0, near, base.select(d < 2.0, far, zero))

    def axis_stages(self, size: Dim, out: Loop, tap: Loop, k: int) -> list[Stage]:
        """Stages at, index, weight (and sum, outside) of axis k; k is part of their names."""
        stages = [Stage(f"at{k}", dt.f64, (out,), self._position(out.var, size, k))]
        at = ex.Load(f"at{k}", (out.var,))
        if self.coordinates == "tf_crop_and_resize":
            beyond = (at < 0.0) | (at > ex.Cast(dt.f64, base.size(sh.sub(size, 1))))
            stages.append(Stage(f"outside{k}", dt.boolean, (out,), beyond))
        if self.mode == "nearest":
            index = ex.Cast(dt.i64, _ROUNDING_EXPRS[self.nearest](at))
            stages.append(Stage(f"index{k}", dt.i64, (out, tap), base.clamp(index, size)))
            return stages
        first = self.taps(k)[0]
        raw = ex.Cast(dt.i64, call("floor", at)) + base.scale(tap.var, 1, first)
        stages.append(Stage(f"index{k}", dt.i64, (out, tap), base.clamp(raw, size)))
        weight = self._weight(at, raw, k)
        if self.exclude_outside:
            weight = base.select(base.inside(raw, size), weight, ex.Const(0.0, dt.f64))
        if self._rescaled:
            final = base.select(call("eq", ex.Acc(), 0.0), ex.Const(1.0, dt.f64), ex.Acc())
            total = Stage(f"sum{k}", dt.f64, (out,), weight, (tap,), "add", ex.Const(0.0), final)
            stages.append(total)
            weight = weight / ex.Load(f"sum{k}", (out.var,))
        stages.append(Stage(f"weight{k}", dt.f64, (out, tap), weight))
        return stages

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (x,), (out,) = inputs, outputs
        axes = loops(out.shape)
        index = base.variables(axes)
        stages: list[Stage] = []
        taps: list[Loop] = []
        kind = x.dtype if self.mode == "nearest" else base.compute_type(x.dtype)
        factor: Expr | None = None
        outside: Expr | None = None
        for k in self.resized(x):
            tap = Loop(f"k{k}", self.taps(k)[1])
            stages += self.axis_stages(x.shape[k], axes[k], tap, k)
            place = (axes[k].var, tap.var if self.mode != "nearest" else base.integer(0))
            index[k] = ex.Load(f"index{k}", place)
            if self.mode != "nearest":
                taps.append(tap)
                weight = base.load(f"weight{k}", dt.f64, place, kind)
                factor = weight if factor is None else factor * weight
            if self.coordinates == "tf_crop_and_resize":
                beyond = ex.Load(f"outside{k}", (axes[k].var,))
                outside = beyond if outside is None else outside | beyond
        body = base.load(0, x.dtype, index, kind)
        value: Expr = body if factor is None else ex.Acc()
        if outside is not None:
            value = base.select(outside, ex.Const(self.extrapolation, kind), value)
        value = base.cast(value, kind, out.dtype)
        if factor is None:
            return Program((*stages, Stage("out0", out.dtype, axes, value)))
        folded = tuple(taps)
        zero = ex.Const(0.0)
        last = Stage("out0", out.dtype, axes, body * factor, folded, "add", zero, value, kind)
        return Program((*stages, last))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for coordinates in COORDINATES:
            for shape, sizes in _SHAPES:
                for attributes in _CASES:
                    op = _sample_op(shape, sizes, coordinates, attributes)
                    yield Sample(op, (base.random_array(rng, shape),))
        for mode in MODES:
            for dtype in (dt.f64, dt.f16, dt.bf16):
                op = cls((1, 2, 7, 9), (1.0, 1.0, 1.4, 1.5), mode)
                yield Sample(op, (base.random_array(rng, (1, 2, 5, 6), dtype),))
        for dtype in (dt.u8, dt.i64, dt.boolean):
            op = cls((1, 2, 7, 9), (1.0, 1.0, 1.4, 1.5), "nearest")
            yield Sample(op, (base.random_array(rng, (1, 2, 5, 6), dtype, 0, 99),))


#: Rounding of a position to the nearest element, by nearest_mode.
_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": lambda at: np.floor(at),
    "ceil": lambda at: np.ceil(at),
}
_ROUNDING_EXPRS: dict[str, Callable[[Expr], Expr]] = {
    "round_prefer_floor": lambda at: call("ceil", at - 0.5),
    "round_prefer_ceil": lambda at: call("floor", at + 0.5),
    "floor": lambda at: call("floor", at),
    "ceil": lambda at: call("ceil", at),
}
_SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((1, 2, 4, 5), (1, 2, 8, 10)),
    ((1, 1, 7, 6), (1, 1, 3, 4)),
    ((2, 1, 3, 4), (2, 1, 5, 1)),
    ((1, 2, 9), (1, 2, 4)),
)
_CASES: tuple[dict[str, object], ...] = (
    {"mode": "nearest", "nearest": "round_prefer_floor"},
    {"mode": "nearest", "nearest": "round_prefer_ceil"},
    {"mode": "nearest", "nearest": "floor"},
    {"mode": "nearest", "nearest": "ceil"},
    {"mode": "linear"},
    {"mode": "linear", "antialias": True},
    {"mode": "cubic"},
    {"mode": "cubic", "cubic_a": -0.5, "exclude_outside": True},
    {"mode": "cubic", "antialias": True},
)


def _sample_op(
    shape: tuple[int, ...],
    sizes: tuple[int, ...],
    coordinates: str,
    attributes: dict[str, object],
) -> Resize:
    """A sample's op, with a region that partly leaves x for tf_crop_and_resize."""
    scales = tuple(b / a for a, b in zip(shape, sizes, strict=True))
    roi: tuple[float, ...] = ()
    extrapolation = 0.0
    if coordinates == "tf_crop_and_resize":
        still = len(shape) - 2
        roi = (0.0, 0.0, *[-0.25] * still, 1.0, 1.0, *[0.875] * still)
        extrapolation = 7.0
    return Resize(
        sizes,
        scales,
        coordinates=coordinates,
        roi=roi,
        extrapolation=extrapolation,
        **attributes,  # type: ignore[arg-type]
    )
