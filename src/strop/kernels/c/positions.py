"""Convolution and matrix multiplication seen alike: output positions (n, h, w), output channels, and k = taps times input channels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from strop.ir import dtype as dt
from strop.ir.op import Array
from strop.kernels.base import Region, View
from strop.kernels.extent import lesser
from strop.ops.conv import Conv
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.mixed import MixedConv, MixedMatMul
from strop.ops.wide import WideConv, WideMatMul

Strides = tuple[int, int, int, int]  # of n, h, w, channel


@dataclass(frozen=True)
class Geometry:
    """Extents and strides (in elements) of a convolution-like region.

    A *flat* geometry has no padding and unit kernel, and all its positions form one evenly spaced row (h is 1).
    """

    groups: int
    n: int
    h: int
    w: int
    o: int  # output channels per group
    c: int  # input channels per group
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    pad_top: int
    pad_left: int
    pads: bool
    in_h: int
    in_w: int
    x_n: int
    x_h: int
    x_w: int
    c_stride: int
    y: Strides
    extras: tuple[Strides, ...]
    flat: bool
    prologue: tuple[Strides, ...] = ()

    @property
    def positions(self) -> int:
        """Output positions of a group."""
        return self.n * self.h * self.w

    @property
    def copies(self) -> bool:
        """True when input rows are first copied into a padded scratch."""
        return self.pads

    @property
    def k(self) -> int:
        """Products per output element."""
        return self.c * self.kh * self.kw

    @property
    def run(self) -> int:
        """Consecutive activations that meet consecutive weights; its order is that of ``weight_matrices``."""
        if self.c_stride != 1:
            return self.kw
        return self.kw * self.c if self.kw == 1 or self.dw * self.pixel == self.c else self.c

    @property
    def halo(self) -> int:
        """Further input rows that one output row reads below its first."""
        return (self.kh - 1) * self.dh

    @property
    def padded_w(self) -> int:
        """Pixels per scratch row: what the output row's taps span."""
        return (self.w - 1) * self.sw + (self.kw - 1) * self.dw + 1

    @property
    def padded_h(self) -> int:
        """Input rows that all output rows span."""
        return (self.h - 1) * self.sh + self.halo + 1

    @property
    def in_w_used(self) -> int:
        """Input pixels of a row that are copied."""
        return lesser(self.in_w, self.padded_w - self.pad_left)

    @property
    def pixel(self) -> int:
        """Elements between neighbouring pixels where taps are read."""
        if not self.copies:
            return self.x_w
        return self.c if self.c_stride == 1 else 1

    @property
    def line(self) -> int:
        """Elements between neighbouring rows where taps are read."""
        return self.padded_w * self.pixel if self.copies else self.x_h

    @property
    def plane(self) -> int:
        """Elements between input channels where taps are read. Planar scratch planes hold all rows of a task."""
        return self.c_stride

    @property
    def x_step(self) -> int:
        """Elements between the inputs of neighbouring positions, read in place."""
        return self.sw * self.x_w

    @property
    def row_step(self) -> int:
        """Elements between the inputs of neighbouring positions of a tile."""
        return self.sw * self.pixel

    @property
    def row_extent(self) -> int:
        """Positions of one row."""
        return self.w


def geometry_of(region: Region) -> Geometry | str:
    """The geometry, or the reason why the region has none."""
    return float_geometry(region) if region.all_f32() else "not f32"


def wide_geometry(region: Region) -> Geometry | str:
    """As ``geometry_of`` for floats of up to 32 bits whose activations are read as f32: rows of 16-bit ones are first widened into scratch,
    as those of a prologue where the geometry is flat with consecutive channels, else as those that are padded."""
    whole = float_geometry(region)
    if isinstance(whole, str) or region.operand(0).view.dtype is dt.f32 or whole.copies or (whole.flat and whole.c_stride == 1):
        return whole
    return float_geometry(region, True)


def pair_geometry(region: Region) -> Geometry | str:
    """As ``geometry_of`` for a product of bf16; rows are copied where a pair along k would reach beyond them."""
    if any(o is None or o.view.dtype is not dt.bf16 for o in region.operands[:2]):
        return "not a product of bf16"
    whole = float_geometry(region)
    if isinstance(whole, str) or whole.copies or whole.run % 2 == 0 or (whole.flat and region.has_prologue):
        return whole
    return float_geometry(region, True)


def float_geometry(region: Region, copies: bool = False) -> Geometry | str:
    """As ``geometry_of`` for floats of up to 32 bits, whatever lies how; ``copies``: rows are to be copied in any case."""
    if not region.all_floats():
        return "not f32 or 16-bit floats"
    if any(o is not None for o in region.operands[2 : region.anchors]):
        return "the bias is not in the epilogue"
    if isinstance(region.op, Conv):
        return _conv(region, region.op, copies)
    if isinstance(region.op, MatMul):
        return _matmul(region, region.op, copies)
    return "the anchor is neither conv nor matmul"


def integer_geometry(region: Region) -> Geometry | str:
    """As ``geometry_of`` for a product of integers, whatever its dtypes; rows are copied where a quad of k would reach beyond them."""
    return _in_steps(region, 4)


def int16_geometry(region: Region) -> Geometry | str:
    """As ``integer_geometry`` for 16-bit activations, in pairs."""
    return _in_steps(region, 2)


def widened_geometry(region: Region) -> Geometry | str:
    """As ``integer_geometry`` where rows are widened into scratch: those of a flat geometry with consecutive channels as they are, others as those that are
    padded."""
    whole = _integer_geometry(region, False)
    if isinstance(whole, str) or whole.copies or (whole.flat and whole.c_stride == 1):
        return whole
    return _integer_geometry(region, True)


def _in_steps(region: Region, size: int) -> Geometry | str:
    whole = _integer_geometry(region, False)
    if isinstance(whole, str) or whole.copies or whole.run % size == 0:
        return whole
    return _integer_geometry(region, True)


def mixed_geometry(region: Region) -> Geometry | str:
    """As ``geometry_of`` for a product of floats with weights of 8 or 4 bits, whatever its dtypes."""
    if isinstance(region.op, MixedMatMul):
        return _matmul(region, region.op.plain())
    if isinstance(region.op, MixedConv):
        return _conv(region, region.op.plain())
    return "the anchor is no product of floats with 8-bit weights"


def depthwise_geometry(region: Region) -> Geometry | str:
    """A depthwise product of integers as one group: c and o are all channels, each output channel reads the input channel at its place."""
    op, weight = region.op, region.operand(1).view
    if not isinstance(op, IntegerConv) or op.groups == 1 or weight.shape[1] != 1:
        return "not a depthwise product of integers"
    if weight.shape[0] != op.groups:
        return "channels give several results"
    x = region.operand(0).view
    if x.strides[1] != 1:
        return "channels are not consecutive"
    found = _conv(region, op.plain().replace(groups=1))
    return found if isinstance(found, str) else replace(found, c=op.groups)


def columns_met(g: Geometry, count: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """Columns of activations that ``count`` neighbouring positions of a depthwise convolution meet, in order, each with the pairs of a position and of the
    column of taps that it meets there."""
    met: dict[int, list[tuple[int, int]]] = {}
    for r in range(count):
        for i in range(g.kw):
            met.setdefault(r * g.sw + i * g.dw, []).append((r, i))
    return sorted(met.items())


def _integer_geometry(region: Region, copies: bool) -> Geometry | str:
    if isinstance(region.op, (IntegerConv, WideConv)):
        return _conv(region, region.op.plain(), copies)
    if isinstance(region.op, (IntegerMatMul, WideMatMul)):
        return _matmul(region, region.op.plain(), copies)
    return "the anchor is no product of integers"


def _conv(region: Region, op: Conv, copies: bool = False) -> Geometry | str:
    x, weight = region.operand(0).view, region.operand(1)
    if weight.const is None:
        return "weights are not constant"
    if op.layout != "NCHW":
        return "layout is not NCHW"
    spatial = len(x.shape) - 2
    if spatial not in (1, 2):
        return f"{spatial} spatial axes"
    groups = op.groups
    o, c = weight.view.shape[0] // groups, weight.view.shape[1]
    if groups > 1 and c == 1:
        return "depthwise"
    kernel = (1,) * (2 - spatial) + weight.view.shape[2:]
    strides, dilations = ((1,) * (2 - spatial) + tuple(v) for v in (op.strides, op.dilations))
    pads = (0,) * (2 - spatial) + tuple(op.pads[:spatial]), (0,) * (2 - spatial) + tuple(op.pads[spatial:])
    xs, ys = _four(x), _four(region.out)
    if ys.strides[1] != 1 and region.out.shape[1] != 1:
        return "output channels are not consecutive"
    geometry = Geometry(
        groups=groups, n=x.shape[0], h=ys.shape[2], w=ys.shape[3], o=o, c=c, kh=kernel[0], kw=kernel[1],
        sh=strides[0], sw=strides[1], dh=dilations[0], dw=dilations[1], pad_top=pads[0][0], pad_left=pads[0][1],
        pads=copies or any(pads[0]) or any(pads[1]), in_h=xs.shape[2], in_w=xs.shape[3],
        x_n=xs.strides[0], x_h=xs.strides[2], x_w=xs.strides[3], c_stride=1 if c == 1 else xs.strides[1],
        y=_nhwc(ys), extras=tuple(_nhwc(_four(e.view)) for e in region.extras), flat=False,
        prologue=tuple(_nhwc(_four(e.view)) for e in region.prologue_operands),
    )  # fmt: skip
    if 0 in (geometry.n, geometry.h, geometry.w, o, c):
        return "empty"
    if min(*pads[0], *pads[1]) < 0:
        return "negative padding"
    return _flatten(geometry)


def _matmul(region: Region, op: MatMul, copies: bool = False) -> Geometry | str:
    x, weight = region.operand(0).view, region.operand(1)
    if weight.const is None or len(weight.view.shape) != 2:
        return "the second operand is not a constant matrix"
    if op.transpose_a or len(x.shape) < 1 or len(x.shape) > 4:
        return "transposed or too many axes"
    k, o = weight.view.shape[::-1] if op.transpose_b else weight.view.shape
    if x.strides and x.strides[-1] != 1 and k > 1:
        return "k is not consecutive"
    out = region.out
    if len(out.shape) != len(x.shape):
        return "rank changes"
    if out.strides[-1] != 1 and o > 1:
        return "output columns are not consecutive"
    lead = (1,) * (4 - len(x.shape)) + x.shape[:-1]
    if 0 in (*lead, k, o):
        return "empty"

    def strides(view: View) -> Strides:
        s = (0,) * (4 - len(view.shape)) + view.strides
        return s[0], s[1], s[2], s[3]

    xs = strides(x)
    return _flatten(
        Geometry(
            groups=1, n=lead[0], h=lead[1], w=lead[2], o=o, c=k, kh=1, kw=1, sh=1, sw=1, dh=1, dw=1, pad_top=0, pad_left=0,
            pads=copies, in_h=lead[1], in_w=lead[2], x_n=xs[0], x_h=xs[1], x_w=xs[2], c_stride=1,
            y=strides(out), extras=tuple(strides(e.view) for e in region.extras), flat=False,
            prologue=tuple(strides(e.view) for e in region.prologue_operands),
        )
    )  # fmt: skip


def _four(view: View) -> View:
    """A 1-D image (N, C, W) as (N, C, 1, W)."""
    if len(view.shape) == 4:
        return view
    n, c, w = view.shape
    sn, sc, sw = view.strides
    return View((n, c, 1, w), (sn, sc, 0, sw), view.dtype)


def _nhwc(view: View) -> Strides:
    s = [0 if d == 1 else s for d, s in zip(view.shape, view.strides, strict=True)]
    return s[0], s[2], s[3], s[1]


def evenly_spaced(strides: Strides, g: Geometry) -> int | None:
    """Elements between neighbouring positions, counted over n, h and w, of an operand; None when they are not all equal."""
    step = strides[2] if g.w > 1 else strides[1] if g.h > 1 else strides[0]
    if g.w > 1 and g.h > 1 and strides[1] != step * g.w:
        return None
    if g.n > 1 and g.h * g.w > 1 and strides[0] != step * g.h * g.w:
        return None
    return step


def _flatten(g: Geometry) -> Geometry:
    """Merges h (and n) into w where every operand is evenly spaced over them."""
    if g.kh != 1 or g.kw != 1 or g.pads:
        return g
    image = replace(g, n=1)
    sides: list[Strides] = [(g.x_n, g.sh * g.x_h, g.sw * g.x_w, 0), g.y, *g.extras, *g.prologue]
    if any(evenly_spaced(s, image) is None for s in sides):
        return g
    whole = all(evenly_spaced(s, g) is not None for s in sides)
    merged = g if whole else image
    n, positions = (1, g.positions) if whole else (g.n, g.h * g.w)
    steps = [evenly_spaced(s, merged) or 0 for s in sides]
    y, *rest = ((s[0], 0, step, s[3]) for s, step in zip(sides[1:], steps[1:], strict=True))
    count = len(g.extras)
    return replace(
        g, n=n, h=1, w=positions, sh=1, sw=1, in_h=1, in_w=positions, x_h=0, x_w=steps[0], y=y, extras=tuple(rest[:count]),
        prologue=tuple(rest[count:]), flat=True
    )  # fmt: skip


def weight_matrices(region: Region, g: Geometry) -> list[Array]:
    """One [k, o] matrix per group, k ordered as the tile walks it: (kh, kw, c) or, for planar inputs, (c, kh, kw)."""
    weight = region.operand(1).const
    assert weight is not None
    if isinstance(region.op, (MatMul, IntegerMatMul, MixedMatMul, WideMatMul)):
        return [np.ascontiguousarray(weight.T if region.op.transpose_b else weight)]
    grouped = weight.reshape(g.groups, g.o, g.c, g.kh, g.kw)
    order = (2, 3, 1, 0) if g.c_stride == 1 else (1, 2, 3, 0)
    return [np.ascontiguousarray(w.transpose(order)).reshape(g.k, g.o) for w in grouped]
