"""Products of 8-bit integers as ``conv_int8`` does them, for processors whose instructions multiply no quads of bytes.

Weights are packed as i16. Activations become i16 on their way into scratch, where their zero point is subtracted, once for all output channels; a
multiply-add of pairs (``vpmaddwd``) then takes as few instructions as one of floats and does twice its work. Sums are those of ``conv_int8`` bit by bit.
"""

from __future__ import annotations

import numpy as np

from strop.ir.op import Array
from strop.kernels.base import Emitted, In, Kernel, Pointer, Region, accepted
from strop.kernels.c import conv_int8, dot_emitter
from strop.kernels.c.conv_direct import Params
from strop.kernels.c.positions import Geometry, widened_geometry
from strop.kernels.c.tile import IntegerPairTile, Tile
from strop.kernels.c.writer import Writer
from strop.target.base import Target
from strop.target.isa.table import ISAS, multiplies_pairs

#: Registers that a multiply-add needs for itself: its products, before they are added.
_SPARE = 1
#: Estimated cycles of a multiply-add, in such of floats, and of widening an activation.
_PER_DOT, _WIDENING = 1.4, 0.15


class ConvInt8Pairs(Kernel[Params]):
    """See the module's text."""

    name = "conv_int8_pairs"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not multiplies_pairs(target):
            return "no instructions for pairs of i16, or faster ones for quads of bytes"
        return conv_int8.why_not(region) or conv_int8.awkward(region, widened_geometry(region))

    def space(self, region: Region, target: Target) -> list[Params]:
        found = dot_emitter.register_tiles(_geometry(region), target, _SPARE)
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = _geometry(region)
        per_dot = _PER_DOT * ISAS[target.isa].lanes / target.fma_lanes
        widened = 0.0 if g.copies else _WIDENING * g.positions * g.c / (target.ghz * 1e9)
        return dot_emitter.seconds(region, g, params, target, 2, 2, per_dot) + widened

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _geometry(region: Region) -> Geometry:
    return accepted(widened_geometry(region))


class _Emitter(conv_int8.Emitter):
    """``conv_int8``'s, on pairs of i16."""

    group = 2
    s_type = w_type = "int16_t"
    s_item = item = 2
    shifted = False

    @staticmethod
    def geometry(region: Region) -> Geometry:
        return _geometry(region)

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        super().__init__(region, params, target)
        self.fill, self.changed = "0", ""
        self.minus = " - x_zero" if conv_int8.zero_point(region) is not None else ""

    def _memory_type(self) -> str:
        return self.region.operand(0).view.dtype.c

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        return IntegerPairTile(mr, nv, tail)

    def _matrices(self) -> list[Array]:
        return [m.astype(np.int16) for m in super()._matrices()]

    def _declare(self, w: Writer, pointers: list[Pointer]) -> None:
        zero = conv_int8.zero_point(self.region)
        if zero is not None:
            w(f"const int16_t x_zero = *(const {self.region.operand(zero).view.dtype.c} *)a->p[{len(pointers)}];")
            pointers.append(In(zero))

    def _fill_rows(self, w: Writer) -> None:
        g = self.g
        with w.block("for (int64_t p = from; p < to; p++)"):
            w(f"const {self.x_type} *from_row = xn + p * {g.x_step};", f"int16_t *to_row = xs + (p - from) * {self.group_room};")
            self._widen(w, "to_row", "from_row", g.c)
            if self.group_room > g.c:
                w(f"to_row[{g.c}] = 0;")

    def _convert(self, w: Writer, to: str, width: int) -> None:
        g = self.g
        if g.x_w == width:
            self._widen(w, f"({to})", "from_row", g.in_w_used * width)
            return
        with w.loop("i", g.in_w_used):
            self._widen(w, f"({to} + i * {width})", f"(from_row + i * {g.x_w})", width)

    def _widen(self, w: Writer, to: str, start: str, count: int) -> None:
        with w.loop("j", count):
            w(f"{to}[j] = (int16_t)({start}[j]{self.minus});")


KERNEL = ConvInt8Pairs()
