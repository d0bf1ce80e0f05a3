"""Convolution and constant-weight matrix multiplication of bf16 with sums in f32, as ``conv_direct`` does them for f32.

Two products along k go into one lane at a time. Where a run of activations is odd, a weight of zero meets what lies behind it: rows are then
read from a copy behind which there are zeros. An infinity or a NaN may so reach the neighbours of the results that it belongs to.
"""

from __future__ import annotations

from strop.ir import dtype as dt
from strop.kernels.base import Emitted, Kernel, Region, accepted
from strop.kernels.c import conv_direct, dot_emitter
from strop.kernels.c.conv_direct import Params
from strop.kernels.c.positions import Geometry, pair_geometry
from strop.kernels.c.tile import PairTile, Tile
from strop.kernels.c.writer import Writer
from strop.target.base import Target
from strop.target.isa.table import ISAS


class ConvBf16(Kernel[Params]):
    """See the module's text."""

    name = "conv_bf16"
    in_place = True
    prologue = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        return conv_direct.awkward(region, pair_geometry(region))

    def space(self, region: Region, target: Target) -> list[Params]:
        found = dot_emitter.register_tiles(_geometry(region), target, 0 if dot_emitter.native("vdot2_bf16", target) else 3)
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        lanes = ISAS[target.isa].lanes
        per_dot = lanes / target.fma_lanes * (1.0 if dot_emitter.native("vdot2_bf16", target) else 2.5)
        return dot_emitter.seconds(region, _geometry(region), params, target, 2, 2, per_dot)

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _geometry(region: Region) -> Geometry:
    return accepted(pair_geometry(region))


class _Emitter(dot_emitter.Emitter):
    """``conv_direct``'s, on pairs of bf16."""

    group = 2
    w_type = s_type = "uint16_t"
    s_item = item = 2
    scratch_type = dt.bf16

    @staticmethod
    def geometry(region: Region) -> Geometry:
        return _geometry(region)

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        return PairTile(mr, nv, tail)

    def _behind_rows(self, w: Writer, end: str) -> None:
        if self.g.run % 2:
            w(f"*({end}) = 0;")


KERNEL = ConvBf16()
