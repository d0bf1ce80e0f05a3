"""Products of 8-bit integers as ``conv_int8`` does them, for weights of which two products always fit i16, on processors whose instructions multiply no quads
of bytes.

There ``vpmaddubsw`` adds pairs of products of bytes in i16, where sums saturate: with activations up to 255 this is exact as long as no two neighbouring
weights of a channel add up to more than 128 or less than -128, as those of 7 bits (``int8x7``) never do.
"""

from __future__ import annotations

import numpy as np

from strop.kernels.base import Emitted, Kernel, Region
from strop.kernels.c import conv_int8, dot_emitter
from strop.kernels.c.conv_direct import Params
from strop.kernels.c.positions import integer_geometry, weight_matrices
from strop.kernels.c.tile import IntegerSmallTile, Tile
from strop.target.base import Target
from strop.target.isa.table import ISAS, multiplies_pairs

#: Largest magnitude of a sum of two weights: 255 times this fits i16.
_MOST = 128
#: Registers that a multiply-add needs for itself: products, before they are added.
_SPARE = 1
#: Estimated cycles of one, in multiply-adds of floats.
_PER_DOT = 2.1


class ConvInt8Small(Kernel[Params]):
    """See the module's text."""

    name = "conv_int8_small"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not multiplies_pairs(target):
            return "no instructions for pairs of bytes, or faster ones for quads"
        reason = conv_int8.why_not(region) or conv_int8.awkward(region, integer_geometry(region))
        return reason or (None if _fit(region) else "two products may not fit i16")

    def space(self, region: Region, target: Target) -> list[Params]:
        found = dot_emitter.register_tiles(conv_int8.geometry(region), target, _SPARE)
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        per_dot = _PER_DOT * ISAS[target.isa].lanes / target.fma_lanes
        return dot_emitter.seconds(region, conv_int8.geometry(region), params, target, 4, 1, per_dot)

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _fit(region: Region) -> bool:
    """True when no two weights that are multiplied side by side have a sum beyond ``_MOST``."""
    g = conv_int8.geometry(region)
    for matrix in weight_matrices(region, g):
        runs = matrix.reshape(-1, g.run, matrix.shape[1])
        for sign in (1, -1):
            parts = np.maximum(sign * runs.astype(np.int16), 0)
            if (parts[:, 0 : g.run - 1 : 2] + parts[:, 1::2] > _MOST).any():
                return False
    return True


class _Emitter(conv_int8.Emitter):
    """``conv_int8``'s with another tile."""

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        return IntegerSmallTile(mr, nv, tail, flip=self.signed and not self.g.copies)


KERNEL = ConvInt8Small()
