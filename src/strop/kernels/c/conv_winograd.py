"""Convolution with fewer multiplications: F(mh x mw, kh x kw) after Lavin and Gray (2015), for square kernels and for kernels of one row or
column, of any stride: strided ones are taken apart into phases, see winograd_matrices. Tiles of several sizes share transformed filters,
see winograd_cuts.

A task takes a share of the tiles. Their inputs are transformed once into scratch, ``V[filter][row][channel]``; then, panel of output channels by
panel, one matrix product per filter gives ``M[filter][row][column]``, which is transformed back, run through the epilogue and stored while it is
still in the second cache level. Padding is read from a vector of zeros. Filters are transformed when they are packed; where they come from far,
those of the next product are fetched during the present one.

Rounding grows with the number of transform points: below 1e-6 of the largest result for 4 points per axis, up to 1e-5 for 8 on both axes
or 12 on a single one. Tiles whose simulated error on the layer's own filters exceeds 5e-5 of the largest result are not offered. A NaN
or infinity in the input reaches all outputs of its tile. Inputs and results may be 16-bit floats; all between them is f32.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from strop.ir.op import Array
from strop.kernels.base import Emitted, Kernel, Region, accepted, memory_seconds
from strop.kernels.c.positions import Geometry, float_geometry
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.winograd_cuts import Cuts, Segment, TileType, cut, cuts_of, largest_tiles
from strop.kernels.c.winograd_emit import Emitter, Params, Sizes, even_axes, pieces_of, sizes_of
from strop.kernels.c.winograd_matrices import floats
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Largest error of a tile, relative to the largest result, with which it is offered.
ERROR_LIMIT = 5e-5
#: Most bytes of scratch per task that are tried.
_SCRATCH = 8 << 20
#: Register tiles worth trying: rows, vectors.
_REGISTER_TILES = ((6, 4), (8, 3), (9, 3), (12, 2), (14, 2), (4, 4), (5, 4), (4, 2), (6, 2), (4, 1), (8, 1))
#: Parameter sets offered per tile size, of different panel widths.
_OFFERED = 2
#: Cycles until a multiply-add's result can be used again.
_LATENCY = 4.0

_errors: WeakKeyDictionary[Region, dict[tuple[int, int], float]] = WeakKeyDictionary()


class ConvWinograd(Kernel[Params]):
    """See the module's text."""

    name = "conv_winograd"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        g = float_geometry(region)
        if isinstance(g, str):
            return g
        if not vectorizable(region.epilogue, [e.view.dtype for e in (region.operand(0), *region.extras)]):
            return "the epilogue has no vector form"
        if (g.dh, g.dw) != (1, 1):
            return "dilated"
        if not largest_tiles(g):
            return f"no transform for {g.kh}x{g.kw} of stride {g.sh}x{g.sw}"
        if g.groups != 1 or g.c_stride != 1 or g.c < 8:
            return "grouped, planar or with few channels"
        if not self._families(region):
            return f"rounding above {ERROR_LIMIT:g} of the largest result"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        g = _geometry(region)
        isa = ISAS[target.isa]
        vectors = -(-g.o // isa.lanes)
        found: list[Params] = []
        for mh, mw in self._families(region):
            cuts = cuts_of(g, mh, mw, even_axes(region))
            family = []
            for mr, nv in _REGISTER_TILES:
                if nv <= vectors and mr * nv + nv + 1 <= isa.registers:
                    family += [Params(mh, mw, mr, nv, b) for b in _blocks(g, cuts, nv, target)]
            family = family or [Params(mh, mw, 1, 1, b) for b in _blocks(g, cuts, 1, target)]
            best: dict[int, Params] = {}
            for p in sorted(family, key=lambda p: self.cost(region, p, target)):
                best.setdefault(p.nv, p)
            found += list(best.values())[:_OFFERED]
        return sorted(found, key=lambda p: self.cost(region, p, target))

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = _geometry(region)
        cycles = _cycles(g, params, sizes_of(g, params, target, even_axes(region)), target)
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return Emitter(region, params, target).emitted()

    def error(self, region: Region, params: Params) -> float | None:
        """Largest difference from exact arithmetic over tiles of standard normal input and the layer's own filters."""
        return self._error(region, params.mh, params.mw)

    def _families(self, region: Region) -> list[tuple[int, int]]:
        """Largest tiles that are accurate enough, those that make different cuts."""
        g = _geometry(region)
        even = even_axes(region)
        kept: dict[tuple[Segment, ...], tuple[int, int]] = {}
        for mh, mw in largest_tiles(g):
            if not self._error(region, mh, mw) > ERROR_LIMIT:
                kept.setdefault((*cut(g.h, mh, g.kh, g.sh, even[0]), *cut(g.w, mw, g.kw, g.sw, even[1])), (mh, mw))
        return list(kept.values())

    def _error(self, region: Region, mh: int, mw: int) -> float:
        known = _errors.setdefault(region.origin or region, {})
        if (mh, mw) not in known:
            g = _geometry(region)
            weight = region.operand(1).const
            assert weight is not None
            taps = weight.reshape(g.o, g.c, g.kh, g.kw)[: min(g.o, 16)].transpose(2, 3, 1, 0).astype(np.float64)
            known[mh, mw] = _simulated_error(cuts_of(g, mh, mw, even_axes(region)), taps)
        return known[mh, mw]


def _simulated_error(cuts: Cuts, taps: Array) -> float:
    """The error over a few tiles of each type, taps [rows, columns, c, o]; filters are transformed in f64 and rounded, as they are packed."""
    filters = np.stack(cuts.transformed(taps))
    worst = scale = 0.0
    for tile in cuts.types:
        shape = (tile.fh.inputs, tile.fw.inputs, 4, taps.shape[2])
        inputs = np.random.default_rng(0).standard_normal(shape)
        narrow, wide = (_simulate(tile, inputs, filters, kind) for kind in (np.float32, np.float64))
        scale = max(scale, float(np.abs(wide).max()))
        worst = max(worst, float(np.abs(narrow - wide).max()))
    return worst / max(scale, 1e-30)


def _simulate(tile: TileType, inputs: Array, filters: Array, kind: type[np.floating[Any]]) -> Array:
    """Results [mh, mw, tile, o] of the algorithm in one float type, from inputs [rows, columns, tile, c] and filters [filter, c, o]."""
    (ah, bh), (aw, bw) = ([floats(m).astype(kind) for m in (f.at, f.bt)] for f in (tile.fh, tile.fw))
    v = np.einsum("ir,js,rstc->ijtc", bh, bw, inputs.astype(kind), optimize=["einsum_path", (0, 2), (0, 1)])
    u = filters[list(tile.filters)].astype(kind)
    products = (v.reshape(len(u), *v.shape[2:]) @ u).reshape(len(bh), len(bw), v.shape[2], -1)
    return np.asarray(np.einsum("mi,nj,ijto->mnto", ah, aw, products, optimize=["einsum_path", (0, 2), (0, 1)]))


def _geometry(region: Region) -> Geometry:
    return accepted(float_geometry(region))


def _blocks(g: Geometry, cuts: Cuts, nv: int, target: Target) -> list[int]:
    """Shares worth trying: V and M of a task in about half, all or thrice the second cache level, and as few as the scratch allows."""
    lanes = ISAS[target.isa].lanes
    size = 4 * cuts.products * (g.c + 16 + nv * lanes)
    found = []
    for budget in (target.l2 // 2, target.l2 * 9 // 10, 3 * target.l2, _SCRATCH):
        blocks = -(-size // budget)
        if blocks > 1:
            blocks = -(-blocks // target.cores) * target.cores
        found.append(max(1, min(blocks, cuts.tiles)))
    return list(dict.fromkeys(found))


def _cycles(g: Geometry, p: Params, s: Sizes, target: Target) -> float:
    """Estimated cycles on one core."""
    filters = 4 * s.lanes * s.cuts.filters * g.c * s.vectors
    far = target.bandwidth / (target.ghz * 1e9)  # the first share reads the filters from memory
    near = 32.0 if filters < target.l2 // 3 else 14.0 if filters < target.l3 // 2 else far
    gemm = _products(g, p, s, s.cuts.counts(0, p.blocks), far, target)
    gemm += (p.blocks - 1) * _products(g, p, s, s.cuts.counts(p.blocks - 1, p.blocks), near, target)
    held = 4 * (s.v_size + s.m_size)
    reach = 1.0 if held < target.l2 * 6 // 10 else 1.5 if held < 2 * target.l2 else 2.0
    moved = 0.0
    for tile in s.cuts.types:
        moved += g.n * tile.count * (-(-g.c // s.lanes) * _way_in(tile) + s.vectors * _way_out(tile))
    return gemm + moved * reach * s.lanes / target.fma_lanes


def _products(g: Geometry, p: Params, s: Sizes, share: tuple[int, ...], rate: float, target: Target) -> float:
    """Cycles of a share's products, its filters read at ``rate`` bytes per cycle."""
    per_fma, vector = s.lanes / target.fma_lanes, 4 * s.lanes
    stream = g.c * p.nv * vector / rate
    cycles = 0.0
    for rows, filters in Counter(s.cuts.filter_rows(share).values()).items():
        tiles = 0.0
        for height, count in pieces_of(rows, p.mr).items() if rows else ():
            step = max(height * p.nv * per_fma, _LATENCY, 0.5 * height + p.nv * vector / 32.0)
            tiles += count * (g.c * step + 12.0 + 2.0 * height * p.nv)
        if rows:
            cycles += filters * (max(tiles, stream) + 0.15 * min(tiles, stream))
    return cycles * s.vectors / p.nv


def _way_in(tile: TileType) -> float:
    """Cycles of the data transform of one tile and vector."""
    return 0.6 * tile.work_in + 2.0 * tile.fh.points * (tile.fw.points + tile.fw.inputs)


def _way_out(tile: TileType) -> float:
    """Cycles of the output transform of one tile and vector."""
    fh, fw = tile.fh, tile.fw
    return 0.6 * tile.work_out + 2.0 * fh.m * (fw.points + fw.m) + fh.points * fw.points


KERNEL = ConvWinograd()
