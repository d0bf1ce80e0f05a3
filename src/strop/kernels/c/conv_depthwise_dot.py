"""Depthwise convolution of 8-bit integers by dot products: a tile of neighbouring positions by one vector of channels.

The taps of a column are cut into quads of neighbouring rows, whose bytes are interleaved as they are loaded; one instruction then adds four taps to each
channel's i32 sum. A column is interleaved once for all positions that it is a tap of. Rows that a last quad lacks have weights of zero. Zero points and
the epilogue are those of ``conv_int8``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir.op import Array
from strop.kernels.base import Emitted, Kernel, Region, accepted, memory_seconds
from strop.kernels.c import conv_direct, conv_int8
from strop.kernels.c.dot_emitter import native
from strop.kernels.c.positions import Geometry, columns_met, depthwise_geometry
from strop.kernels.c.tile import Ahead, IntegerTile, Tile
from strop.kernels.c.writer import Writer
from strop.target.base import Target
from strop.target.isa.table import ISAS

_MR = (1, 2, 4, 6, 7, 8, 10, 12, 14, 16)
#: Bytes of a quad.
_QUAD = 4
#: Registers beside accumulators and weights: a column, and what interleaves it.
_SPARE = 4


@dataclass(frozen=True)
class Params:
    """mr: positions per tile."""

    mr: int
    nv: ClassVar[int] = 1


class ConvDepthwiseDot(Kernel[Params]):
    """See the module's text."""

    name = "conv_depthwise_dot"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not all(native(instruction, target) for instruction in ("vdot4", "vquads")):
            return "no instructions for products of bytes of several rows"
        reason = conv_int8.why_not(region)
        if reason is not None:
            return reason
        found = depthwise_geometry(region)
        if isinstance(found, str):
            return found
        return "too many columns of taps" if found.kw > ISAS[target.isa].registers // 2 else None

    def space(self, region: Region, target: Target) -> list[Params]:
        g = _geometry(region)
        room = ISAS[target.isa].registers - g.kw - _SPARE
        found = [Params(mr) for mr in _MR if mr <= min(room, max(1, g.row_extent))]
        return sorted(found, key=lambda p: self.cost(region, p, target))[:6]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = _geometry(region)
        lanes = ISAS[target.isa].lanes
        per = lanes / target.fma_lanes
        rows, last = divmod(g.row_extent, params.mr)
        cycles = 0.0
        for tiles, mr in ((rows, params.mr), (1 if last else 0, last)):
            if tiles:
                columns = min((mr - 1) * g.sw + (g.kw - 1) * g.dw + 1, mr * g.kw)
                cycles += tiles * (_quads(g) * max(4.0, per * (mr * g.kw + 2.0 * columns) + g.kw) + 4.0 * mr + 16.0)
        cycles *= -(-g.o // lanes) * g.n * (g.h if g.row_extent == g.w else 1)
        if g.copies:
            cycles += 0.1 * g.n * g.c * g.padded_h * g.padded_w
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, conv_direct.Params(params.mr, 1), target).emitted()


def _geometry(region: Region) -> Geometry:
    return accepted(depthwise_geometry(region))


def _quads(g: Geometry) -> int:
    """Quads of a column of taps."""
    return -(-g.kh // _QUAD)


class _Emitter(conv_int8.Emitter):
    """``conv_int8``'s walk with another tile."""

    @staticmethod
    def geometry(region: Region) -> Geometry:
        return _geometry(region)

    @property
    def depth(self) -> int:
        return _quads(self.g) * self.g.kw * _QUAD

    @property
    def _channel(self) -> str:  # type: ignore[override]
        return " + o" if self._moves_columns else ""

    def _fetch(self) -> Ahead | None:
        return None

    def _matrices(self) -> list[Array]:
        """[taps, channels]"""
        weight = self.region.operand(1).const
        assert weight is not None
        return [np.ascontiguousarray(weight.reshape(self.g.o, -1).T)]

    def _pack(self) -> Array:
        """[vectors of channels][quads of rows][columns][lanes][rows of a quad]"""
        g, (matrix,) = self.g, self._matrices()
        quads = _quads(g)
        whole = np.zeros((quads * _QUAD, g.kw, self.vectors * self.lanes), np.int8)
        whole[: g.kh, :, : g.o] = matrix.reshape(g.kh, g.kw, g.o)
        parts = whole.reshape(quads, _QUAD, g.kw, self.vectors, self.lanes)
        return np.ascontiguousarray(parts.transpose(3, 0, 2, 4, 1)).reshape(-1)

    def _tile(self, tile: Tile) -> tuple[str, list[str]]:
        g = self.g
        assert isinstance(tile, IntegerTile)
        w = Writer()
        self._start(w, tile)
        for quad in range(_quads(g)):
            with w.block(""):
                self._quad(w, tile, quad)
        self._results(w, tile)
        return self._defined("depthwise", tile, w.text(), self._parameters())

    def _quad(self, w: Writer, tile: IntegerTile, quad: int) -> None:
        """Up to four rows of taps: every column of activations once."""
        g = self.g
        for i in range(g.kw):
            w(f"const vi w{i} = vload_q(w + {(quad * g.kw + i) * _QUAD} * VL);")
        step, rows = g.dh * g.line, min(_QUAD, g.kh - quad * _QUAD)
        tail = f", {tile.tail}" if tile.tail else ""
        flip = " ^ (int32_t)0x80808080" if tile.flip else ""
        for column, taps in columns_met(g, tile.mr):
            offset = f"{quad * _QUAD} * {step} + {column * g.pixel}"
            with w.block(""):
                w(f"const vi a = vquads{'_n' if tail else ''}(x + {offset}, {step}, {rows}{tail}){flip};")
                for r, i in taps:
                    w(f"{tile.acc(r, 0)} = vdot4({tile.acc(r, 0)}, a, w{i});")


KERNEL = ConvDepthwiseDot()
