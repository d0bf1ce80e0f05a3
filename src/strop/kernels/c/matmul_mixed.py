"""Products of floats with 8-bit weights, as ``conv_direct`` does those of floats: weights are widened in registers, so that a quarter of the bytes
is read. It serves few rows, for which reading weights takes most of the time."""

from __future__ import annotations

import numpy as np

from strop.ir import dtype as dt
from strop.ir.op import Array
from strop.kernels.base import Emitted, Kernel, Region, accepted, memory_seconds
from strop.kernels.c import conv_direct
from strop.kernels.c.conv_direct import Params
from strop.kernels.c.positions import Geometry, mixed_geometry, weight_matrices
from strop.kernels.c.tile import MixedTile, Tile, pack_panels, product_cycles
from strop.kernels.c.vector import vectorizable
from strop.target.base import Target
from strop.target.isa.table import ISAS

_MR = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)
_NV = (1, 2, 3, 4, 6)


class MatMulMixed(Kernel[Params]):
    """See the module's text."""

    name = "matmul_mixed"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        found = mixed_geometry(region)
        if isinstance(found, str):
            return found
        if not vectorizable(region.epilogue, [dt.f32, *(e.view.dtype for e in region.extras)]) or region.has_prologue:
            return "the epilogue has no vector form"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        g, isa = _geometry(region), ISAS[target.isa]
        width = -(-g.o // isa.lanes)
        found = [
            Params(mr, nv) for nv in _NV for mr in _MR if nv <= width and mr <= g.row_extent and mr * nv + nv + 2 <= isa.registers
        ]
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g, lanes = _geometry(region), ISAS[target.isa].lanes
        per_fma = lanes / target.fma_lanes
        whole, rest = divmod(-(-g.o // lanes), params.nv)
        rows, last = divmod(g.row_extent, params.mr)
        cycles = 0.0
        for panels, nv in ((whole, params.nv), (1 if rest else 0, rest)):
            for tiles, mr in ((rows, params.mr), (1 if last else 0, last)):
                if panels and tiles:
                    product = product_cycles(g.k, mr, nv, 4 * g.row_step, lanes, per_fma, target)
                    cycles += panels * tiles * (product + g.k * nv * per_fma)
        cycles *= g.n * (g.h if g.row_extent == g.w else 1)
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _geometry(region: Region) -> Geometry:
    return accepted(mixed_geometry(region))


class _Emitter(conv_direct.Emitter):
    """``conv_direct``'s with weights in bytes."""

    w_type = "int8_t"

    @staticmethod
    def geometry(region: Region) -> Geometry:
        return _geometry(region)

    def _fetch(self) -> None:
        return None

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        return MixedTile(mr, nv, tail)

    def _pack(self) -> Array:
        return np.concatenate([pack_panels(m, self.lanes, self.params.nv, dt.i8) for m in weight_matrices(self.region, self.g)])


KERNEL = MatMulMixed()
