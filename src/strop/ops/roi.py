"""Pooling of regions of interest (ONNX RoiAlign, MaxRoiPool)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim
from strop.ops import base, indexing


@dataclass(frozen=True)
class RoiAlign(Op):
    """Mean or maximum of bilinear samples in every bin of a region (He et al. 2017, ONNX RoiAlign).

    Operands: x[N, C, H, W], regions[R, 4] (left, top, right, bottom; same float dtype), images[R] (i32 or i64).
    Result: [R, C, *size]. The maximum is taken over the four weighted corners of every sample, as ONNX Runtime does.

    Attributes:
        size: rows and columns of bins.
        scale: factor from the regions' coordinates to x's.
        ratio: samples per bin along each axis; 0: as many as a bin has rows and columns, rounded up.
        mode: avg or max.
        half_pixel: coordinates count from the edge of the first element, not from its centre; regions may be smaller than one
            element.
    """

    name: ClassVar[str] = "roi_align"

    size: tuple[int, int]
    scale: float = 1.0
    ratio: int = 0
    mode: str = "avg"
    half_pixel: bool = True

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 3)
        dtype = base.floating(self, inputs[:2])
        indexing.check_indices(self, inputs, 2)
        base.choice(self, "mode", self.mode, ("avg", "max"))
        x, regions, images = inputs
        if x.rank != 4 or regions.rank != 2 or regions.shape[1] != 4 or images.shape != regions.shape[:1]:
            raise self.fail("operands do not fit", inputs, "x[N, C, H, W], regions[R, 4], images[R]")
        if min(self.size) < 1 or self.ratio < 0 or any(d == 0 for d in x.shape):
            raise self.fail("size, ratio or x out of range", inputs)
        return (Type(dtype, (regions.shape[0], x.shape[1], *self.size)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, regions, images = inputs
        kind = base.compute_type(dt.from_numpy(x.dtype)).numpy
        out = np.zeros((len(regions), x.shape[1], *self.size))
        for r, region in enumerate(regions.astype(kind)):
            image = base.wide(x[indexing.resolved(self, images[r : r + 1], len(x))[0]])
            columns, rows = (self._samples(region, k, x.shape[3 - k], kind.type) for k in (0, 1))
            for place in np.ndindex(*self.size):
                ys, xs = rows[place[0]], columns[place[1]]
                found = [
                    np.stack([wy * wx * image[:, iy, ix] for iy, wy in y for ix, wx in z])
                    for y in ys
                    for z in xs
                ]
                if found and self.mode == "avg":
                    out[(r, slice(None), *place)] = sum(f.sum(0) for f in found) / len(found)
                elif found:
                    out[(r, slice(None), *place)] = np.max([f.max(0) for f in found], 0)
        return (base.narrow(out, x),)

    def _samples(
        self, region: Array, k: int, size: int, kind: Any
    ) -> list[list[list[tuple[int, float]]]]:
        """Per bin along an axis (k 0: columns), per sample: indices and weights of its two elements."""
        bins = self.size[1 - k]
        shift = kind(0.5 if self.half_pixel else 0.0)
        start = region[k] * kind(self.scale) - shift
        extent = region[2 + k] * kind(self.scale) - shift - start
        extent = extent if self.half_pixel else max(extent, kind(1))
        width = extent / kind(bins)
        count = self.ratio or max(ceil(width), 0)
        found = []
        for b in range(bins):
            taps = []
            for i in range(count):
                at = start + kind(b) * width + (kind(i) + kind(0.5)) * width / kind(count)
                if at < -1 or at > size:
                    taps.append([(0, 0.0), (0, 0.0)])
                    continue
                at = min(max(at, kind(0)), kind(size - 1))
                low = int(at)
                part = float(at - kind(low))
                taps.append([(low, 1.0 - part), (min(low + 1, size - 1), part)])
            found.append(taps)
        return found

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return Cost(16 * max(self.ratio, 1) ** 2 * outputs[0].count, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        """With ratio 0 a bin walks as many samples as can lie in x, from the first that does on."""
        x, regions, images = inputs
        (out,) = outputs
        axes = loops(out.shape)
        r, c, *place = base.variables(axes)
        kind = base.compute_type(x.dtype)
        image = base.wrap_negative(indexing.load_index(images, 2, [r]), x.shape[0])
        rows = _Axis(self, regions, r, 1, place[0], x.shape[2], kind)
        columns = _Axis(self, regions, r, 0, place[1], x.shape[3], kind)
        walk = tuple(
            Loop(name, self.ratio or sh.add(sh.mul(size, 2), 4))
            for name, size in (("k0", x.shape[2]), ("k1", x.shape[3]))
        )
        zero = base.literal(0, kind)
        counts = rows.counts(walk[0].var) & columns.counts(walk[1].var)
        parts = []
        for iy, wy in rows.taps(walk[0].var):
            for ix, wx in columns.taps(walk[1].var):
                parts.append(wy * wx * base.load(0, x.dtype, [image, c, iy, ix]))
        if self.mode == "avg":
            body = base.select(counts, parts[0] + parts[1] + parts[2] + parts[3], zero)
            number = call("max", rows.number * columns.number, base.literal(1, kind))
            final: Expr = ex.Acc() / number
            init = zero
        else:
            init = base.literal(-np.inf, kind)
            most = call("max", call("max", parts[0], parts[1]), call("max", parts[2], parts[3]))
            body = base.select(counts, most, init)
            outside = rows.outside | columns.outside
            final = base.select(outside, call("max", ex.Acc(), 0.0), ex.Acc())
            some = (rows.number > zero) & (columns.number > zero)
            final = base.select(some, final, zero)
        final = base.cast(final, kind, out.dtype)
        combine = "add" if self.mode == "avg" else "max"
        return Program((Stage("out0", out.dtype, axes, body, walk, combine, init, final, kind),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for dtype in (dt.f32, dt.bf16):
            for mode in ("avg", "max"):
                for ratio in (0, 2):
                    for half in (False, True):
                        x = base.random_array(rng, (2, 3, 6, 5), dtype)
                        corner = base.random_array(rng, (4, 2), dt.f32, -4, 5)
                        regions = np.concatenate(
                            [corner, corner + base.random_array(rng, (4, 2), dt.f32, 0.25, 9)], 1
                        )
                        images = rng.integers(0, 2, 4)
                        op = cls((2, 3), 0.75, ratio, mode, half)
                        yield Sample(op, (x, regions.astype(dtype.numpy), images))


class _Axis:
    """Where the samples of a bin lie along one axis, as expressions."""

    def __init__(
        self, op: RoiAlign, regions: Type, r: Expr, k: int, place: Expr, size: Dim, kind: DType
    ) -> None:
        self.op, self.size, self.kind = op, size, kind
        bins = float(op.size[1 - k])
        shift = base.literal(0.5 if op.half_pixel else 0.0, kind)
        low, high = (
            base.load(1, regions.dtype, [r, base.integer(i)]) * op.scale - shift for i in (k, 2 + k)
        )
        extent = high - low
        extent = extent if op.half_pixel else call("max", extent, 1.0)
        self.width = extent / bins
        self.start = low + ex.Cast(kind, place) * self.width
        #: Samples per bin, as a float.
        self.number: Expr = base.literal(op.ratio, kind)
        if not op.ratio:
            self.number = call("max", call("ceil", self.width), 0.0)
        #: Number of the first sample that is looked at: all before it lie outside x.
        self.first: Expr = base.literal(0, kind)
        if not op.ratio:
            spacing = self.width / call("max", self.number, 1.0)
            before = call("floor", (-1.0 - self.start) / spacing - 1.5)
            self.first = call("max", call("min", before, self.number), 0.0)

    def _number(self, tap: Expr) -> Expr:
        return self.first + ex.Cast(self.kind, tap)

    def _at(self, number: Expr) -> Expr:
        return self.start + (number + 0.5) * self.width / self.number

    def _inside(self, number: Expr) -> Expr:
        at = self._at(number)
        return (at >= base.literal(-1, self.kind)) & (at <= ex.Cast(self.kind, base.size(self.size)))

    def counts(self, tap: Expr) -> Expr:
        """Whether a tap is a sample that lies in x."""
        number = self._number(tap)
        return (number < self.number) & self._inside(number)

    @property
    def outside(self) -> Expr:
        """Whether a sample of the bin lies outside x: the first or the last does if any."""
        first, last = base.literal(0, self.kind), self.number - 1.0
        return call("not", self._inside(first)) | call("not", self._inside(last))

    def taps(self, tap: Expr) -> list[tuple[Expr, Expr]]:
        """Indices and weights of the two elements that a sample lies between."""
        last = ex.Cast(self.kind, base.size(sh.sub(self.size, 1)))
        at = call("min", call("max", self._at(self._number(tap)), 0.0), last)
        low = base.clamp(ex.Cast(dt.i64, call("floor", at)), self.size)
        part = at - ex.Cast(self.kind, low)
        return [(low, base.literal(1, self.kind) - part), (base.clamp(low + base.integer(1), self.size), part)]


@dataclass(frozen=True)
class MaxRoiPool(Op):
    """Maximum over every bin of a region, whose corners are rounded to elements (Girshick 2015, ONNX MaxRoiPool).

    Operands: x[N, C, H, W], regions[R, 5] (image, left, top, right, bottom); one float dtype.
    Result: [R, C, *size]; a bin outside x gives 0. Corners at halves are rounded away from zero.

    Attributes:
        size: rows and columns of bins.
        scale: factor from the regions' coordinates to x's.
    """

    name: ClassVar[str] = "max_roi_pool"

    size: tuple[int, int]
    scale: float = 1.0

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        dtype = base.floating(self, inputs)
        x, regions = inputs
        if x.rank != 4 or regions.rank != 2 or regions.shape[1] != 5 or any(d == 0 for d in x.shape):
            raise self.fail("operands do not fit", inputs, "x[N, C, H, W], regions[R, 5]")
        if min(self.size) < 1:
            raise self.fail("size out of range", inputs)
        return (Type(dtype, (regions.shape[0], x.shape[1], *self.size)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, regions = inputs
        kind: Any = base.compute_type(dt.from_numpy(x.dtype)).numpy
        out = np.zeros((len(regions), x.shape[1], *self.size))
        axes = [np.arange(extent, dtype=kind) for extent in x.shape[2:]]
        with np.errstate(all="ignore"):  # corners that are no numbers hold nothing
            for r, region in enumerate(regions.astype(kind)):
                scaled = region[1:] * kind.type(self.scale)
                corner = np.sign(scaled) * np.floor(np.abs(scaled) + kind.type(0.5))
                image = x[min(max(int(region[0].astype(np.int64)), 0), len(x) - 1)]
                for place in np.ndindex(*self.size):
                    inside = []
                    for k, b in enumerate(place):
                        low, high = corner[1 - k], corner[3 - k]
                        width = np.maximum(high - low + kind.type(1), kind.type(1)) / kind.type(self.size[k])
                        first, last = np.floor(kind.type(b) * width) + low, np.ceil(kind.type(b + 1) * width) + low
                        inside.append((axes[k] >= first) & (axes[k] < last))
                    part = image[:, inside[0]][:, :, inside[1]]
                    if part.shape[1] and part.shape[2]:
                        out[(r, slice(None), *place)] = part.max((1, 2))
        return (base.narrow(out, x),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x, regions = inputs
        (out,) = outputs
        axes, walk = loops(out.shape), loops(x.shape[2:], "k")
        r, c, *place = base.variables(axes)
        kind = base.compute_type(x.dtype)
        number = ex.Cast(dt.i64, base.load(1, regions.dtype, [r, base.integer(0)]))
        inside: Expr | None = None
        for k in range(2):
            corners = [
                base.load(1, regions.dtype, [r, base.integer(i)]) * self.scale for i in (2 - k, 4 - k)
            ]
            low, high = (
                call("sign", a) * call("floor", call("abs", a) + 0.5) for a in corners
            )
            width = call("max", high - low + 1.0, 1.0) / float(self.size[k])
            bin_ = ex.Cast(kind, place[k])
            first = call("floor", bin_ * width) + low
            last = call("ceil", (bin_ + 1.0) * width) + low
            at = ex.Cast(kind, walk[k].var)
            here = (at >= first) & (at < last)
            inside = here if inside is None else inside & here
        assert inside is not None
        least = base.literal(-np.inf, kind)
        element = base.load(0, x.dtype, [base.clamp(number, x.shape[0]), c, *base.variables(walk)])
        body = base.select(inside, element, least)
        final = base.select(call("eq", ex.Acc(), least), base.literal(0, kind), ex.Acc())
        final = base.cast(final, kind, out.dtype)
        return Program((Stage("out0", out.dtype, axes, body, walk, "max", least, final, kind),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for dtype, scale in ((dt.f32, 0.75), (dt.f32, 1.0), (dt.f16, 0.75), (dt.f64, 1.0)):
            x = base.random_array(rng, (2, 3, 6, 5), dtype)
            corner = base.random_array(rng, (4, 2), dt.f32, -1, 5)
            parts = [rng.integers(0, 2, (4, 1)), corner, corner + base.random_array(rng, (4, 2), dt.f32, 0, 6)]
            regions = np.concatenate([p.astype(dtype.numpy) for p in parts], 1)
            yield Sample(cls((2, 3), scale), (x, regions))
