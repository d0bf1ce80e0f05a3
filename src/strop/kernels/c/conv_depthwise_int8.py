"""Depthwise convolution of 8-bit integers: a tile of neighbouring positions by one vector of channels.

Values are multiplied and added as f32, which holds every such sum exactly, and turned to i32 before the epilogue; a load of activations serves
all taps that meet it. Rows are walked, padded and cut into tasks as in ``conv_int8``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.op import Array
from strop.kernels.base import Emitted, Kernel, Region, accepted, memory_seconds
from strop.kernels.c import conv_direct, conv_int8
from strop.kernels.c.positions import Geometry, columns_met, depthwise_geometry
from strop.kernels.c.tile import Ahead, Tile
from strop.kernels.c.vector import loaded
from strop.kernels.c.writer import Writer
from strop.target.base import Target
from strop.target.isa.table import ISAS

_MR = (1, 2, 4, 6, 7, 8, 10, 14)
#: Most taps whose products, and what the zero point adds to them, stay below 2^24 in every partial sum.
_MOST = 256


@dataclass(frozen=True)
class Params:
    """mr: positions per tile."""

    mr: int
    nv: ClassVar[int] = 1


class ConvDepthwiseInt8(Kernel[Params]):
    """See the module's text."""

    name = "conv_depthwise_int8"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        reason = conv_int8.why_not(region)
        if reason is not None:
            return reason
        found = depthwise_geometry(region)
        if isinstance(found, str):
            return found
        return "too many taps" if found.kh * found.kw > _MOST else None

    def space(self, region: Region, target: Target) -> list[Params]:
        g = _geometry(region)
        registers = ISAS[target.isa].registers
        found = [Params(mr) for mr in _MR if mr <= max(1, g.row_extent) and mr + min(g.kw, 5) + 1 <= registers]
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:6]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = _geometry(region)
        lanes = ISAS[target.isa].lanes
        per = lanes / target.fma_lanes
        rows, last = divmod(g.row_extent, params.mr)
        cycles = 0.0
        for tiles, mr in ((rows, params.mr), (1 if last else 0, last)):
            if tiles:
                columns = (mr - 1) * g.sw + (g.kw - 1) * g.dw + 1
                loads = min(columns, mr * g.kw)
                cycles += tiles * (g.kh * max(4.0, per * (mr * g.kw + 1.5 * loads) + g.kw) + 7.0 * mr + 16.0)
        cycles *= -(-g.o // lanes) * g.n * (g.h if g.row_extent == g.w else 1)
        if g.copies:
            cycles += 0.1 * g.n * g.c * g.padded_h * g.padded_w
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, conv_direct.Params(params.mr, 1), target).emitted()


def _geometry(region: Region) -> Geometry:
    return accepted(depthwise_geometry(region))


@dataclass(frozen=True)
class _Exact(Tile):
    """A tile of f32 sums that are whole numbers; its epilogue sees i32."""

    accumulates: ClassVar[DType] = dt.i32

    def acc(self, r: int, v: int) -> str:
        return f"vcvt_i(c{r})"


class _Emitter(conv_int8.Emitter):
    """``conv_int8``'s walk with another tile."""

    w_type = "float"

    def __init__(self, region: Region, params: conv_direct.Params, target: Target) -> None:
        super().__init__(region, params, target)
        self.signed = False
        self.x_type = self.s_type = region.operand(0).view.dtype.c
        self.fill, self.changed = "x_zero" if conv_int8.zero_point(region) is not None else "0", ""

    @staticmethod
    def geometry(region: Region) -> Geometry:
        return _geometry(region)

    @staticmethod
    def _bias(region: Region) -> int | None:
        return None  # it might not be exact in f32

    @property
    def depth(self) -> int:
        return self.g.kh * self.g.kw

    @property
    def steps(self) -> int:
        return self.depth

    @property
    def _channel(self) -> str:  # type: ignore[override]
        return " + o" if self._moves_columns else ""

    def _fetch(self) -> Ahead | None:
        return None

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        return _Exact(mr, nv, tail)

    def _matrices(self) -> list[Array]:
        """[taps, channels]"""
        weight = self.region.operand(1).const
        assert weight is not None
        return [np.ascontiguousarray(weight.reshape(self.g.o, -1).T)]

    def _pack(self) -> Array:
        """[vectors of channels][taps][lanes], as f32."""
        (matrix,) = self._matrices()
        whole = np.zeros((self.depth, self.vectors * self.lanes), np.float32)
        whole[:, : self.g.o] = matrix
        return np.ascontiguousarray(whole.reshape(self.depth, self.vectors, self.lanes).transpose(1, 0, 2)).reshape(-1)

    def _tile(self, tile: Tile) -> tuple[str, list[str]]:
        g = self.g
        w = Writer()
        start = "vcvt_f(vload_i(sums) * vset1_i(-x_zero))" if self.shifted else "vzero()"
        w(f"const vf start = {start};")
        w("vf " + ", ".join(f"c{r} = start" for r in range(tile.mr)) + ";")
        with w.loop("kh", g.kh):
            w(f"const {self.x_type} *xk = x + kh * {g.dh * g.line};", f"const float *wk = w + kh * {g.kw} * VL;")
            for i in range(g.kw):
                w(f"const vf w{i} = vload(wk + {i} * VL);" if i else "const vf w0 = vload(wk);")
            self._taps(w, tile)
        self._results(w, tile)
        return self._defined("depthwise", tile, w.text(), self._parameters())

    def _taps(self, w: Writer, tile: Tile) -> None:
        """One row of taps: every column of activations once, for all positions that it is a tap of."""
        g = self.g
        for column, taps in columns_met(g, tile.mr):
            at = f"xk + {column * g.pixel}" if column else "xk"
            with w.block(""):
                w(f"const vf a = vcvt_f({loaded(self.region.operand(0).view.dtype, at, 1, tile.tail)});")
                for r, i in taps:
                    w(f"c{r} = vfma(a, w{i}, c{r});")


KERNEL = ConvDepthwiseInt8()
