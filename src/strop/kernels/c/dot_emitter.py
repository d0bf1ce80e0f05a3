"""What kernels share whose instruction adds several products along k to each lane: ``conv_direct``'s emission with k cut into groups of consecutive
activations. Where a run of them is no multiple of a group, weights of zero meet what lies behind it."""

from __future__ import annotations

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Call, Cast, walk
from strop.ir.op import Array
from strop.kernels.base import Region, memory_seconds
from strop.kernels.c import conv_direct
from strop.kernels.c.positions import Geometry, weight_matrices
from strop.kernels.c.tile import Tile, aliasing, pack_groups
from strop.target.base import Target
from strop.target.isa.table import ISAS

_MR = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)
_NV = (1, 2, 3, 4)
#: Instructions per primitive of an epilogue, how many of them, in all vectors of a tile, a processor does beside the next tile's products, and the most
#: multiply-adds that are lost per vector where there are more.
_MADE, _AHEAD, _MOST_LOST = 0.6, 100, 4.0
#: Instructions that store a vector as bytes, by what tiles have beyond whole fours of them.
_BYTE_STORES = (1.25, 3.0, 2.0, 2.3)
#: Accumulators below which a processor that does two of these instructions in a cycle waits for sums, and what each that is missing adds to the products' time.
_ENOUGH, _MISSING = 12, 0.02
#: Estimated cycles per byte that is copied into a padded scratch.
_COPY_CYCLES = 0.1


def native(instruction: str, target: Target) -> bool:
    """True when one of the target's optional features has the instruction."""
    return bool(ISAS[target.isa].used(f"{instruction}()", target.extras))


def register_tiles(g: Geometry, target: Target, spare: int) -> list[conv_direct.Params]:
    """Tiles that fit the registers beside ``spare`` others."""
    isa = ISAS[target.isa]
    width = -(-g.o // isa.lanes)
    return [
        conv_direct.Params(mr, nv)
        for nv in _NV
        for mr in _MR
        if nv <= width and mr <= max(1, g.row_extent) and mr * nv + nv + 1 + spare <= isa.registers
    ]


def seconds(region: Region, g: Geometry, params: conv_direct.Params, target: Target, group: int, item: int, per_dot: float) -> float:
    """Estimated time on one core.

    Args:
        group, item: products per lane and step, bytes of a factor.
        per_dot: cycles of one instruction.
    """
    lanes = ISAS[target.isa].lanes
    vectors = -(-g.o // lanes)
    steps = g.k // g.run * -(-g.run // group)
    whole, rest = divmod(vectors, params.nv)
    rows, last = divmod(g.row_extent, params.mr)
    cycles = 0.0
    for panels, nv in ((whole, params.nv), (1 if rest else 0, rest)):
        for tiles, mr in ((rows, params.mr), (1 if last else 0, last)):
            if panels and tiles:
                walked = group * item * steps * nv * lanes
                rate = 64.0 if walked <= target.l1 // 2 else 32.0 if walked <= target.l2 // 2 else 10.0
                dots = mr * nv * per_dot * (1.0 + _MISSING * max(0, _ENOUGH - mr * nv))
                step = max(dots, 4.0, nv * lanes * 4 / rate + 0.5 * mr + mr * aliasing(item * g.row_step, mr))
                cycles += panels * tiles * (steps * step + _epilogue_cycles(region, mr, nv) * lanes / target.fma_lanes + 8.0)
    cycles *= g.groups * g.n * (g.h if g.row_extent == g.w else 1)
    if g.copies:
        cycles += _COPY_CYCLES * item * g.n * g.groups * g.c * g.padded_h * g.padded_w
    return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))


def _epilogue_cycles(region: Region, mr: int, nv: int) -> float:
    """Estimated multiply-adds of a vector that a tile's epilogue takes the time of. It is done beside products of the next tile as long as a processor looks
    that far ahead."""
    stores = _BYTE_STORES[nv % 4] if region.out.dtype in (dt.u8, dt.i8) else 1.0
    made = mr * nv * (_MADE * sum(isinstance(node, (Call, Cast)) for node in walk(region.epilogue)) + stores)
    return made / 2 + mr * nv * min(max(0.0, made - _AHEAD) / 30, _MOST_LOST)


class Emitter(conv_direct.Emitter):
    """``conv_direct``'s, ``group`` products per lane and step."""

    @property
    def inner(self) -> int:
        return -(-self.g.run // self.group)

    @property
    def steps(self) -> int:
        return self.g.k // self.g.run * self.inner

    @property
    def depth(self) -> int:
        return self.group * self.steps

    def _rows(self, tile: Tile) -> list[str]:
        return [f"xk + k * {self.group}{f' + {r * self.row_step}' if r else ''}" for r in range(tile.mr)]

    def _matrices(self) -> list[Array]:
        return weight_matrices(self.region, self.g)

    def _pack(self) -> Array:
        """Weights of all groups, each run of k filled up to whole groups, in panels."""
        parts = []
        for matrix in self._matrices():
            runs = matrix.reshape(-1, self.g.run, matrix.shape[1])
            filled = np.zeros((len(runs), self.group * self.inner, matrix.shape[1]), matrix.dtype)
            filled[:, : self.g.run] = runs
            parts.append(pack_groups(filled.reshape(-1, matrix.shape[1]), self.lanes, self.params.nv, self.group))
        return np.concatenate(parts)
