"""Ops that read x at computed real positions: grid sampling and the columns of a deformable convolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim
from strop.ops import base

#: mode: taps per axis.
TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
PADDINGS = ("zeros", "border", "reflection")
#: Coefficient of the cubic kernel (Keys 1981).
CUBIC_A = -0.75


def _weight(distance: Array, taps: int) -> Array:
    """Weight of an element at a distance of 0 or more from the position."""
    d = distance
    if taps == 1:
        return np.ones_like(d)
    if taps == 2:
        return 1 - d
    near = ((CUBIC_A + 2) * d - (CUBIC_A + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d * CUBIC_A - 4 * CUBIC_A
    return np.where(d <= 1, near, far)


def _weight_expr(distance: Expr, taps: int, kind: DType) -> Expr:
    """``_weight`` as an expression."""
    d = distance
    if taps == 1:
        return base.literal(1, kind)
    if taps == 2:
        return base.literal(1, kind) - d
    near = ((CUBIC_A + 2) * d - (CUBIC_A + 3)) * d * d + 1.0
    far = ((d - 5.0) * d + 8.0) * d * CUBIC_A - 4 * CUBIC_A
    return base.select(d <= base.literal(1, kind), near, far)


@dataclass(frozen=True)
class GridSample(Op):
    """x interpolated at the positions that a grid names (ONNX GridSample).

    Operands: x[N, C, *spatial] of a float dtype with 1 to 3 spatial axes, grid[N, *out, r] of a float dtype: positions in -1..1,
    the innermost axis first.
    Result: [N, C, *out], dtype of x. Positions are computed in the compute type of the grid.

    Attributes:
        mode: nearest (halves to even), linear or cubic.
        padding: what lies outside x: zeros, the border's elements, or x reflected. Cubic weights come from the position before it
            is moved to the border, as in PyTorch.
        align_corners: -1 and 1 are the centres of the outermost elements; otherwise their outer edges.
    """

    name: ClassVar[str] = "grid_sample"

    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        base.choice(self, "mode", self.mode, tuple(TAPS))
        base.choice(self, "padding", self.padding, PADDINGS)
        x, grid = inputs
        r = x.rank - 2
        if not 1 <= r <= 3 or grid.rank != x.rank or grid.shape[-1] != r or grid.shape[0] != x.shape[0]:
            raise self.fail("ranks do not fit", inputs, "x[N, C, 1 to 3 axes], grid[N, .., axes]")
        if not (x.dtype.is_float and grid.dtype.is_float):
            raise self.fail("operands are not floating point", inputs)
        if any(d == 0 for d in x.shape[2:]):
            raise self.fail("x is empty", inputs)
        return (Type(x.dtype, (*x.shape[:2], *grid.shape[1:-1])),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, grid = inputs
        taps, r = TAPS[self.mode], x.ndim - 2
        kind = base.compute_type(dt.from_numpy(grid.dtype)).numpy
        choices = []
        for k in range(r):
            size = x.shape[2 + k]
            at = self._position(grid[..., r - 1 - k].astype(kind), size)
            choices.append([self._tap(at, t, taps, size) for t in range(taps)])
        total = np.zeros((x.shape[0], *grid.shape[1:-1], x.shape[1]))
        batch = np.arange(x.shape[0]).reshape(-1, *[1] * r)
        moved = np.moveaxis(base.wide(x), 1, -1)
        for chosen in product(*choices):
            weight = prod((w for _, w in chosen), start=np.ones(grid.shape[:-1]))
            element = moved[(batch, *(index for index, _ in chosen))]
            total += np.where(weight[..., None] != 0, element * weight[..., None], 0.0)
        return (base.narrow(np.ascontiguousarray(np.moveaxis(total, -1, 1)), x),)

    def _position(self, g: Array, size: int) -> Array:
        """The position in elements, moved into x by the padding."""
        one, two = g.dtype.type(1), g.dtype.type(2)
        if self.align_corners:
            at = (g + one) / two * g.dtype.type(size - 1)
            low, high = 0.0, size - 1.0
        else:
            at = ((g + one) * g.dtype.type(size) - one) / two
            low, high = -0.5, size - 0.5
        at = np.rint(at) if self.mode == "nearest" else at
        if self.padding == "reflection" and high > low:
            turned = np.mod(at - g.dtype.type(low), g.dtype.type(2 * (high - low)))
            turned = np.minimum(turned, g.dtype.type(2 * (high - low)) - turned)
            at = np.where((at < low) | (at > high), turned + g.dtype.type(low), at)
        return np.asarray(np.clip(at, -4, size + 4), g.dtype)

    def _tap(self, at: Array, t: int, taps: int, size: int) -> tuple[Array, Array]:
        """Index and weight of a tap; the weight is 0 for one that does not count."""
        first = np.floor(at) - (taps // 2 - 1 if taps > 1 else 0)
        index = first.astype(np.int64) + t
        weight = _weight(np.abs(at - index.astype(at.dtype)), taps).astype(np.float64)
        if self.padding == "zeros":
            weight = np.where((index >= 0) & (index < size), weight, 0.0)
        elif self.padding == "reflection" and self.align_corners and size > 1:
            index = np.mod(index, 2 * (size - 1))
            index = np.minimum(index, 2 * (size - 1) - index)
        elif self.padding == "reflection" and not self.align_corners:
            index = np.mod(index, 2 * size)
            index = np.minimum(index, 2 * size - 1 - index)
        return np.clip(index, 0, size - 1), weight

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        taps = TAPS[self.mode] ** (inputs[0].rank - 2)
        flops = 4 * taps * outputs[0].count
        return Cost(flops, base.moved((inputs[1], *outputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x, grid = inputs
        (out,) = outputs
        r, taps = x.rank - 2, TAPS[self.mode]
        axes = loops(out.shape)
        walk = tuple(Loop(f"k{k}", taps) for k in range(r))
        position = base.variables(axes)
        kind, wide = base.compute_type(grid.dtype), base.compute_type(x.dtype)
        index: list[Expr] = position[:2]
        guards: list[Expr] = []
        body: Expr | None = None
        for k in range(r):
            size = x.shape[2 + k]
            there = [position[0], *position[2:], base.integer(r - 1 - k)]
            at = self._position_expr(base.load(1, grid.dtype, there), size, kind)
            first = ex.Cast(dt.i64, call("floor", at))
            number = base.scale(first, 1, 0 if taps == 1 else 1 - taps // 2) + walk[k].var
            distance = call("abs", at - ex.Cast(kind, number))
            weight = base.cast(_weight_expr(distance, taps, kind), kind, wide)
            body = weight if body is None else body * weight
            index.append(self._index_expr(number, size, guards))
        element = base.padded_load(0, x, index, guards, 0.0)
        assert body is not None
        final = base.cast(ex.Acc(), wide, out.dtype)
        stage = Stage(
            "out0", out.dtype, axes, body * element, walk, "add", ex.Const(0.0), final, wide
        )
        return Program((stage,))

    def _position_expr(self, g: Expr, size: Dim, kind: DType) -> Expr:
        """``_position`` as an expression."""
        extent = ex.Cast(kind, base.size(size))
        if self.align_corners:
            at = (g + 1.0) / 2.0 * (extent - 1.0)
            low, high = base.literal(0, kind), extent - 1.0
        else:
            at = ((g + 1.0) * extent - 1.0) / 2.0
            low, high = base.literal(-0.5, kind), extent - 0.5
        at = call("round", at) if self.mode == "nearest" else at
        if self.padding == "reflection" and not (self.align_corners and size == 1):
            period = (high - low) * 2.0
            turned = (at - low) % period
            outside = (at < low) | (at > high)
            at = base.select(outside, call("min", turned, period - turned) + low, at)
        return call("max", call("min", at, extent + 4.0), -4.0)

    def _index_expr(self, index: Expr, size: Dim, guards: list[Expr]) -> Expr:
        """The index of ``_tap`` as an expression; whether it counts is appended to guards."""
        if self.padding == "zeros":
            return base.guarded(index, size, guards)
        if self.padding == "reflection" and not (self.align_corners and size == 1):
            last = sh.sub(sh.mul(size, 2), 2 if self.align_corners else 1)
            period = last if self.align_corners else sh.mul(size, 2)
            turned = base.floor_mod(index, period)
            index = call("min", turned, base.size(last) - turned)
        return base.clamp(index, size)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for mode, padding, align in product(TAPS, PADDINGS, (False, True)):
            for shape, grid in (((1, 2, 4, 5), (1, 3, 2, 2)), ((2, 1, 6), (2, 4, 1))):
                x = base.random_array(rng, shape)
                yield Sample(cls(mode, padding, align), (x, base.random_array(rng, grid)))
        x, grid_array = base.random_array(rng, (1, 2, 3, 2, 4)), base.random_array(rng, (1, 2, 3, 2, 3))
        yield Sample(cls("linear"), (x, grid_array))
        for dtype in (dt.f16, dt.f64):
            x, grid_array = (base.random_array(rng, s, dtype) for s in ((1, 2, 4, 3), (1, 5, 2, 2)))
            yield Sample(cls("linear", "border"), (x, grid_array))


@dataclass(frozen=True)
class DeformColumns(Op):
    """What the taps of a deformable convolution read (Dai et al. 2017, Zhu et al. 2019; ONNX DeformConv).

    Operands: x[N, C, H, W], offset[N, G * K * 2, OH, OW], optional mask[N, G * K, OH, OW]; one float dtype; K is the number of
    taps, and each of the G offset groups has C / G channels. A tap reads x bilinearly at its place plus the offset (row, column),
    zero outside, times the mask.
    Result: [N, C, K, OH, OW].

    Attributes:
        kernel, strides, dilations: per spatial axis.
        pads: before every spatial axis, then after every spatial axis.
        offset_groups: G.
    """

    name: ClassVar[str] = "deform_columns"

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    offset_groups: int = 1

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2, 3)
        dtype = base.floating(self, inputs)
        x, offset = inputs[0], inputs[1]
        base.check_window(
            self, 2, kernel=self.kernel, strides=self.strides, pads=self.pads, dilations=self.dilations
        )
        taps, groups = prod(self.kernel), self.offset_groups
        if x.rank != 4 or any(d == 0 for d in x.shape[2:]):
            raise self.fail("x does not fit", inputs, "x[N, C, H, W]")
        channels = x.shape[1]
        if groups < 1 or (isinstance(channels, int) and channels % groups):
            raise self.fail("offset_groups do not divide the channels", inputs)
        out = tuple(
            base.window_extent(
                x.shape[2 + k], self.kernel[k], self.strides[k], self.pads[k], self.pads[2 + k], self.dilations[k]
            )
            for k in range(2)
        )
        if offset.shape != (x.shape[0], groups * taps * 2, *out):
            raise self.fail("offset does not fit", inputs, f"[N, {groups * taps * 2}, {sh.show(out)}]")
        if len(inputs) == 3 and inputs[2].shape != (x.shape[0], groups * taps, *out):
            raise self.fail("mask does not fit", inputs, f"[N, {groups * taps}, {sh.show(out)}]")
        return (Type(dtype, (*x.shape[:2], taps, *out)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, offset = base.wide(inputs[0]), base.wide(inputs[1])
        batch, channels, *size = x.shape
        out, groups, taps = offset.shape[2:], self.offset_groups, prod(self.kernel)
        shifts = offset.reshape(batch, groups, *self.kernel, 2, *out)
        masks = np.ones((batch, groups, *self.kernel, *out))
        if len(inputs) == 3:
            masks = base.wide(inputs[2]).reshape(masks.shape)
        result = np.zeros((batch, channels, *self.kernel, *out))
        for n, c, i, j, y, z in np.ndindex(*result.shape):
            group = c // (channels // groups)
            at = [
                p * self.strides[k] - self.pads[k] + t * self.dilations[k] + shifts[n, group, i, j, k, y, z]
                for k, (p, t) in enumerate(((y, i), (z, j)))
            ]
            total = 0.0
            for row, column in product(*(range(int(np.floor(a)), int(np.floor(a)) + 2) for a in at)):
                if 0 <= row < size[0] and 0 <= column < size[1]:
                    total += x[n, c, row, column] * (1 - abs(at[0] - row)) * (1 - abs(at[1] - column))
            result[n, c, i, j, y, z] = total * masks[n, group, i, j, y, z]
        return (base.narrow(result.reshape(batch, channels, taps, *out), inputs[0]),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return Cost(12 * outputs[0].count, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x, offset = inputs[0], inputs[1]
        (out,) = outputs
        axes, walk = loops(out.shape), (Loop("k0", 2), Loop("k1", 2))
        n, c, tap, *place = base.variables(axes)
        kind = base.compute_type(x.dtype)
        (channels,) = sh.static(x.shape[1:2], self.name)
        group = base.floor_div(c, channels // self.offset_groups)
        number = base.scale(group, prod(self.kernel)) + tap
        taps = (base.floor_div(tap, self.kernel[1]), base.floor_mod(tap, self.kernel[1]))
        index: list[Expr] = [n, c]
        guards: list[Expr] = []
        body: Expr | None = None
        for k in range(2):
            corner = base.window_index(place[k], taps[k], self.strides[k], self.dilations[k], self.pads[k])
            there = [n, base.scale(number, 2, k), *place]
            at = ex.Cast(kind, corner) + base.load(1, offset.dtype, there)
            extent = ex.Cast(kind, base.size(x.shape[2 + k]))
            at = call("max", call("min", at, extent + 4.0), -4.0)
            element = ex.Cast(dt.i64, call("floor", at)) + walk[k].var
            weight = base.literal(1, kind) - call("abs", at - ex.Cast(kind, element))
            body = weight if body is None else body * weight
            index.append(base.guarded(element, x.shape[2 + k], guards))
        assert body is not None
        body = body * base.padded_load(0, x, index, guards, 0.0)
        final: Expr = ex.Acc()
        if len(inputs) == 3:
            final = final * base.load(2, inputs[2].dtype, [n, number, *place])
        final = base.cast(final, kind, out.dtype)
        stage = Stage("out0", out.dtype, axes, body, walk, "add", ex.Const(0.0), final, kind)
        return Program((stage,))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for op, x, out, masked in (
            (cls((2, 2), (1, 1), (0, 0, 0, 0), (1, 1)), (1, 2, 4, 3), (3, 2), False),
            (cls((3, 2), (2, 1), (1, 0, 1, 1), (1, 2), 2), (2, 4, 5, 4), (3, 3), True),
        ):
            taps = prod(op.kernel) * op.offset_groups
            shapes = [x, (x[0], taps * 2, *out)] + ([(x[0], taps, *out)] if masked else [])
            yield Sample(op, tuple(base.random_array(rng, s) for s in shapes))
            yield Sample(op, tuple(base.random_array(rng, s, dt.bf16) for s in shapes))
