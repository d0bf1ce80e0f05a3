"""Products of floats with weights of 8 or 4 bits, as ``conv_direct`` does those of floats: weights are widened in registers, so that a quarter or
an eighth of the bytes is read. It serves few rows, for which reading weights takes most of the time, and networks that are to be small.

Weights without scales are multiplied as they are. With a scale per group of k they become floats in registers, (w - zero) * scale as
w * scale + b, where b = -zero * scale; weights of 4 bits lie two in a byte, with 8 added, which b takes off.
"""

from __future__ import annotations

import numpy as np

from strop.ir import dtype as dt
from strop.ir.op import Array
from strop.kernels.base import Emitted, Kernel, Packed, Pointer, Region, accepted, memory_seconds
from strop.kernels.c import conv_direct
from strop.kernels.c.conv_direct import Params
from strop.kernels.c.positions import Geometry, mixed_geometry, weight_matrices
from strop.kernels.c.tile import MixedTile, Tile, pack_panels, product_cycles
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import Writer, address
from strop.ops.mixed import MixedConv, MixedMatMul
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
        if found.c_stride != 1 and found.c > 1:
            return "input channels are not consecutive"
        if not vectorizable(region.epilogue, [dt.f32, *(e.view.dtype for e in region.extras)]) or region.has_prologue:
            return "the epilogue has no vector form"
        if any(region.operand(i).const is None for i in range(2, region.anchors)):
            return "scales are not constant"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        g, isa = _geometry(region), ISAS[target.isa]
        width = -(-g.o // isa.lanes)
        held = 1 + _is_scaled(region) + _is_shifted(region)  # vectors beside accumulators, per column vector
        found = [
            Params(mr, nv)
            for nv in _NV
            for mr in _MR
            if nv <= width and mr <= g.row_extent and (mr * nv + held * nv + 2 <= isa.registers or mr == nv == 1)
        ]
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g, lanes = _geometry(region), ISAS[target.isa].lanes
        per_fma = lanes / target.fma_lanes
        widening = per_fma * (1 + _is_scaled(region))
        whole, rest = divmod(-(-g.o // lanes), params.nv)
        rows, last = divmod(g.row_extent, params.mr)
        cycles = 0.0
        for panels, nv in ((whole, params.nv), (1 if rest else 0, rest)):
            for tiles, mr in ((rows, params.mr), (1 if last else 0, last)):
                if panels and tiles:
                    product = product_cycles(g.k, mr, nv, 4 * g.row_step, lanes, per_fma, target)
                    cycles += panels * tiles * (product + g.k * nv * widening)
        cycles *= g.n * (g.h if g.row_extent == g.w else 1)
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _geometry(region: Region) -> Geometry:
    return accepted(mixed_geometry(region))


def _op(region: Region) -> MixedMatMul | MixedConv:
    assert isinstance(region.op, (MixedMatMul, MixedConv))
    return region.op


def _is_scaled(region: Region) -> bool:
    return _op(region).group > 0


def _is_shifted(region: Region) -> bool:
    """True when something is added to scaled weights."""
    return _is_scaled(region) and (_op(region).bits == 4 or region.anchors > 3)


class _Emitter(conv_direct.Emitter):
    """``conv_direct``'s with weights in bytes, in groups that are walked one after the other."""

    w_type = "int8_t"

    @staticmethod
    def geometry(region: Region) -> Geometry:
        return _geometry(region)

    @property
    def w_each(self) -> int:
        """Weights of a column in a byte."""
        return 8 // _op(self.region).bits

    @property
    def groups(self) -> tuple[int, int, int]:
        """How many whole groups there are, their length, and that of the rest."""
        size = min(_op(self.region).group or self.g.k, self.g.k)
        return self.g.k // size, size, self.g.k % size

    @property
    def depth(self) -> int:
        whole, size, rest = self.groups
        return whole * -(-size // self.w_each) + -(-rest // self.w_each)

    def _fetch(self) -> None:
        return None

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        return MixedTile(mr, nv, tail, bits=_op(self.region).bits, scaled=_is_scaled(self.region), shifted=_is_shifted(self.region))

    def _pack(self) -> Array:
        (matrix,) = weight_matrices(self.region, self.g)
        return pack_panels(self._bytes(matrix), self.lanes, self.params.nv, dt.i8)

    def _bytes(self, matrix: Array) -> Array:
        """The bytes [depth, columns] that hold weights [k, columns], each group from a byte of its own on."""
        if self.w_each == 1:
            return matrix
        size, columns = self.groups[1], matrix.shape[1]
        found = []
        for start in range(0, len(matrix), size):
            part = matrix[start : start + size].astype(np.int16) + 8
            part = np.concatenate([part, np.full((len(part) % 2, columns), 8, np.int16)])
            found.append(part[0::2] | part[1::2] << 4)
        return np.concatenate(found).astype(np.uint8).view(np.int8)

    def _declare(self, w: Writer, pointers: list[Pointer]) -> None:
        for name, array in self._params():
            w(f"const float *{name} = a->p[{len(pointers)}];")
            pointers.append(Packed(pack_panels(array, self.lanes, self.params.nv)))

    def _params(self) -> list[tuple[str, Array]]:
        """What weights are multiplied with, and what is added then: [groups, columns]."""
        if not _is_scaled(self.region):
            return []
        scale = self.region.operand(2).const
        assert scale is not None
        if self.region.anchors == 3:
            return [("scale", scale)]
        zero = self.region.operand(3).const
        assert zero is not None
        return [("scale", scale), ("shift", np.asarray(-(zero + (8 if self.w_each == 2 else 0)) * scale, np.float32))]

    def _more_arguments(self) -> list[str]:
        whole, _, rest = self.groups
        panel = [("panel", (whole + bool(rest)) * self.params.nv * self.lanes)] if self.panels > 1 else []
        return [address(name, *panel) for name, _ in self._params()]

    def _more_parameters(self) -> list[str]:
        return [f"const float *{name}" for name, _ in self._params()]

    def _walk_products(self, w: Writer, tile: Tile) -> None:
        if not _is_scaled(self.region):
            super()._walk_products(w, tile)
            return
        assert isinstance(tile, MixedTile)
        whole, size, rest = self.groups
        w(f"const {self.x_type} *xk = x;")
        with w.loop("group", whole) if whole > 1 else w.block(""):
            self._group(w, tile, size)
            w(f"xk += {size};", *(f"{name} += {tile.nv} * VL;" for name, _ in self._params()))
        if rest:
            with w.block(""):
                self._group(w, tile, rest)

    def _group(self, w: Writer, tile: MixedTile, size: int) -> None:
        """The products of one group, ``size`` of each column."""
        for short, (name, _) in zip("sb", self._params(), strict=False):
            for v in range(tile.nv):
                w(f"const vf {short}{v} = vload({name}{f' + {v} * VL' if v else ''});")
        if tile.shifted and len(self._params()) == 1:
            for v in range(tile.nv):
                w(f"const vf b{v} = s{v} * vset1(-8.0f);")
        each = self.w_each

        def elements(at: int) -> list[str]:
            return [f"xk[{' + '.join(['k', *([str(r * self.row_step + at)] if r * self.row_step + at else [])])}]" for r in range(tile.mr)]

        full = size // each * each
        if full:
            with w.block(f"for (int64_t k = 0; k < {full}; k += {each}, w += {tile.nv} * VL)"):
                tile.pair(w, "w", elements(0), elements(1) if each == 2 else [])
        if full < size:
            with w.block(""):
                w(f"const int64_t k = {full};")
                tile.pair(w, "w", elements(0), [])
                w(f"w += {tile.nv} * VL;")


KERNEL = MatMulMixed()
