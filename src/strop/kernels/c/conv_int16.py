"""Products of 16-bit activations with 8-bit weights, as ``conv_int8`` does those of 8-bit ones: two products along k per lane.

Up to ``_EXACT`` products are added in i32, which they cannot leave; these sums are added in f32, always in the same order, so that every instruction
set gives the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.ir import dtype as dt
from strop.kernels.base import Emitted, Kernel, Region, accepted, memory_seconds
from strop.kernels.c import dot_emitter
from strop.kernels.c.conv_direct import Params
from strop.kernels.c.positions import Geometry, int16_geometry
from strop.kernels.c.tile import Ahead, Tile
from strop.kernels.c.vector import mixed
from strop.kernels.c.writer import Writer
from strop.kernels.extent import typical
from strop.ops.wide import WideConv, WideMatMul
from strop.target.base import Target
from strop.target.isa.table import ISAS

_MR = (1, 2, 4, 6, 8, 10)
_NV = (1, 2, 3)
#: Products of i16 with i8 whose sum always fits i32: 2**31 / (2**15 * 2**7), a pair less for the sign.
_EXACT = 510


@dataclass(frozen=True)
class WideTile(Tile):
    """A tile of f32 sums; ``walk`` adds pairs of products in i32 first."""

    step_items: ClassVar[int] = 2
    item: ClassVar[int] = 1

    def _whole(self, r: int, v: int) -> str:
        """Name of an accumulator of whole numbers."""
        return f"q{r}_{v}"

    def step(self, w: Writer, weights: str, rows: Sequence[str]) -> None:
        """As ``Tile.step``; ``rows`` are C addresses of each row's pair."""
        for v in range(self.nv):
            w(f"const vi w{v} = vload_p({weights}{f' + {v * 2} * VL' if v else ''});")
        for r, address in enumerate(rows):
            with w.block(""):
                w(f"const vi e = vpair({address});")
                for v in range(self.nv):
                    w(f"{self._whole(r, v)} = vdot2({self._whole(r, v)}, e, w{v});")

    def walk(self, w: Writer, steps: int, weights: str, rows: Sequence[str], fetch: Ahead | None = None, start: int = 0) -> None:
        for r in range(self.mr):
            w("vi " + ", ".join(f"{self._whole(r, v)} = vset1_i(0)" for v in range(self.nv)) + ";")
        super().walk(w, steps, weights, rows, fetch, start)
        for r in range(self.mr):
            for v in range(self.nv):
                w(f"{self.acc(r, v)} += vcvt_f({self._whole(r, v)});")


class ConvInt16(Kernel[Params]):
    """See the module's text."""

    name = "conv_int16"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, (WideConv, WideMatMul)):
            return "the anchor is no product of 16-bit with 8-bit integers"
        g = int16_geometry(region)
        if isinstance(g, str):
            return g
        if g.c_stride != 1 and (g.c > 8 or g.dw * g.pixel != 1):
            return "input channels are not consecutive"
        extras = [e.view for e in region.extras]
        if not mixed(region.epilogue, [dt.f32, *(v.dtype for v in extras)]) or region.has_prologue:
            return "the epilogue has no vector form"
        channel = 1 if isinstance(region.op, WideConv) else -1
        if any(v.dtype is not dt.f32 and v.shape[channel] > 1 and v.strides[channel] not in (0, 1) for v in extras):
            return "an integer operand of the epilogue is not consecutive"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        g, isa = _geometry(region), ISAS[target.isa]
        width = -(-g.o // isa.lanes)
        found = [
            Params(mr, nv)
            for nv in _NV
            for mr in _MR
            if nv <= width and mr <= max(1, g.row_extent) and (mr * nv + nv + 1 <= isa.registers or mr == nv == 1)
        ]
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g, lanes = _geometry(region), ISAS[target.isa].lanes
        per_dot = lanes / target.fma_lanes * (1.0 if dot_emitter.native("vdot2", target) else 2.0 if target.isa.startswith("avx") else 8.0)
        steps = -(-g.k // 2)
        tiles = -(-typical(g.row_extent) // params.mr) * -(-g.o // (params.nv * lanes))
        step = max(params.mr * params.nv * per_dot, 2.0 * params.nv + 0.5 * params.mr, 4.0)
        spilled = 2 * params.mr * params.nv > ISAS[target.isa].registers  # f32 sums lie in memory meanwhile
        cycles = tiles * (steps * step + (6.0 + 4.0 * spilled * -(-g.k // _EXACT)) * params.mr * params.nv + 16.0)
        cycles *= g.groups * g.n * (g.h if g.row_extent == g.w else 1)
        if g.copies:
            cycles += 0.2 * g.n * g.groups * g.c * g.padded_h * g.padded_w
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _geometry(region: Region) -> Geometry:
    return accepted(int16_geometry(region))


class _Emitter(dot_emitter.Emitter):
    """``conv_direct``'s on pairs of k."""

    s_type, w_type = "int16_t", "int8_t"
    s_item, item = 2, 1
    group = 2

    @staticmethod
    def geometry(region: Region) -> Geometry:
        return _geometry(region)

    def _fetch(self) -> None:
        return None

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        return WideTile(mr, nv, tail)

    def _run_of_k(self, w: Writer, tile: Tile) -> None:
        most = _EXACT // 2
        whole, rest = divmod(self.inner, most)
        if whole:
            with w.loop("part", whole) if whole > 1 else w.block(""):
                tile.walk(w, most, "w", self._rows(tile))
                w(f"xk += {2 * most};")
        if rest:
            with w.block(""):
                tile.walk(w, rest, "w", self._rows(tile))


KERNEL = ConvInt16()
