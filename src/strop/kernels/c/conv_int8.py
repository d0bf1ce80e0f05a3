"""Convolution and constant-weight matrix multiplication of 8-bit integers in i32, as ``conv_direct`` does them for floats.

Four products along k go into one lane at a time, so that k is cut into quads of consecutive activations; where a run of them is no multiple
of four, weights of zero meet what lies behind it. Activations count as unsigned, signed ones after adding 128. What that and the zero point
of x add to a sum is -(zero point) times the sum of a channel's weights: accumulators start there. Padding is filled with the zero point in
scratch. The epilogue dequantizes, applies activations and quantizes again in registers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Call, Expr, Input, children, substitute, walk
from strop.ir.op import Array
from strop.kernels.base import (
    Emitted,
    In,
    Kernel,
    Packed,
    Pointer,
    Region,
    accepted,
    memory_seconds,
)
from strop.kernels.c import conv_direct
from strop.kernels.c.positions import Geometry, integer_geometry, weight_matrices
from strop.kernels.c.tile import IntegerTile, Tile, pack_together
from strop.kernels.c.vector import loaded, mixed
from strop.kernels.c.writer import Writer, address
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.target.base import Target
from strop.target.isa.table import ISAS

_MR = (1, 2, 4, 6, 8, 10, 12, 14)
_NV = (1, 2, 3, 4)
#: Products of u8 with i8 that always fit one i32.
_MOST = 1 << 16


@dataclass(frozen=True)
class Params(conv_direct.Params):
    """As of ``conv_direct``."""


class ConvInt8(Kernel[Params]):
    """See the module's text."""

    name = "conv_int8"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        return why_not(region) or _awkward(region)

    def space(self, region: Region, target: Target) -> list[Params]:
        g = geometry(region)
        isa = ISAS[target.isa]
        width = -(-g.o // isa.lanes)
        found = [
            Params(mr, nv)
            for nv in _NV
            for mr in _MR
            if nv <= width and mr <= max(1, g.row_extent) and mr * nv + nv + 1 + _spare(target) <= isa.registers
        ]
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = geometry(region)
        lanes = ISAS[target.isa].lanes
        per_dot = _dot_cycles(target)
        vectors = -(-g.o // lanes)
        steps = -(-g.k // 4)
        whole, rest = divmod(vectors, params.nv)
        rows, last = divmod(g.row_extent, params.mr)
        cycles = 0.0
        for panels, nv in ((whole, params.nv), (1 if rest else 0, rest)):
            for tiles, mr in ((rows, params.mr), (1 if last else 0, last)):
                if panels and tiles:
                    walked = 4 * steps * nv * lanes
                    rate = 64.0 if walked <= target.l1 // 2 else 28.0 if walked <= target.l2 // 2 else 10.0
                    step = max(mr * nv * per_dot, 4.0, nv * lanes * 4 / rate + 0.5 * mr)
                    cycles += panels * tiles * (steps * step + 6.0 * mr * nv + 16.0)
        cycles *= g.groups * g.n * (g.h if g.row_extent == g.w else 1)
        if g.copies:
            cycles += 0.1 * g.n * g.groups * g.c * g.padded_h * g.padded_w
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return Emitter(region, params, target).emitted()


def why_not(region: Region) -> str | None:
    """None for a product of 8-bit activations with known weights whose epilogue has a vector form, else what speaks against it."""
    op = region.op
    if not isinstance(op, (IntegerConv, IntegerMatMul)):
        return "the anchor is no product of 8-bit integers"
    if any(o is not None for o in region.operands[3 : region.anchors]):
        return "weights have a zero point"
    if region.operand(1).view.dtype is not dt.i8:
        return "weights are not signed"
    zero = region.operands[2] if region.anchors > 2 else None
    if zero is not None and zero.view.count != 1:
        return "x has several zero points"
    found = integer_geometry(region)
    if isinstance(found, str) and found != "depthwise":
        return found
    extras = [e.view for e in region.extras]
    if not mixed(region.epilogue, [dt.i32, *(v.dtype for v in extras)]) or region.has_prologue:
        return "the epilogue has no vector form"
    channel = 1 if isinstance(op, IntegerConv) else -1
    if any(v.dtype is not dt.f32 and v.shape[channel] > 1 and v.strides[channel] not in (0, 1) for v in extras):
        return "an integer operand of the epilogue is not consecutive"
    return None


def _awkward(region: Region) -> str | None:
    found = integer_geometry(region)
    if isinstance(found, str):
        return found
    if found.k > _MOST:
        return "sums do not fit i32"
    if found.c_stride != 1 and (found.c > 8 or found.dw * found.pixel != 1):
        return "input channels are not consecutive"
    return None


def geometry(region: Region) -> Geometry:
    """The region's geometry."""
    return accepted(integer_geometry(region))


def offset(region: Region) -> int:
    """What is added to activations so that they are unsigned."""
    return 128 if region.operand(0).view.dtype is dt.i8 else 0


def zero_point(region: Region) -> int | None:
    """Which operand is the zero point of x; None when it is 0."""
    return 2 if region.anchors > 2 and region.operands[2] is not None else None


def _bias(region: Region) -> int | None:
    """The epilogue operand, one number per output channel, that is added to every sum before anything else; accumulators start there."""
    channel = 1 if isinstance(region.op, IntegerConv) else len(region.out.shape) - 1
    nodes = walk(region.epilogue)
    reading = [n for n in nodes if Input(0) in children(n)]
    if len(reading) != 1 or not isinstance(reading[0], Call) or reading[0].fn != "add" or not isinstance(reading[0].args[1], Input):
        return None
    index = reading[0].args[1].index - 1
    view = region.extras[index].view if index >= 0 else None
    if view is None or view.dtype is not dt.i32 or [k for k, s in enumerate(view.strides) if s and view.shape[k] != 1] != [channel]:
        return None
    return index if view.strides[channel] == 1 else None


def _without_bias(epilogue: Expr, index: int) -> Expr:
    added = Call("add", (Input(0), Input(1 + index)))
    return substitute(epilogue, lambda e: Input(0) if e == added else None)


def _dot_cycles(target: Target) -> float:
    """Cycles per ``vdot4`` of a vector."""
    lanes = ISAS[target.isa].lanes
    return lanes / target.fma_lanes * (1.0 if target.extras else 3.0 if target.isa.startswith("avx") else 16.0)


def _spare(target: Target) -> int:
    """Registers that a ``vdot4`` needs for itself."""
    return 0 if target.extras else 4


class Emitter(conv_direct.Emitter):
    """``conv_direct``'s, on bytes."""

    x_type, w_type = "uint8_t", "int8_t"
    item = 1

    @staticmethod
    def geometry(region: Region) -> Geometry:
        return geometry(region)

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        zero = zero_point(region)
        self.signed = offset(region) > 0
        self.bias = self._bias(region)
        if self.bias is not None:
            region = replace(region, epilogue=_without_bias(region.epilogue, self.bias))
        self.fill = f"x_zero{' - 128' if self.signed else ''}" if zero is not None else "0"
        super().__init__(region, params, target)

    @staticmethod
    def _bias(region: Region) -> int | None:
        """Which epilogue operand accumulators start with."""
        return _bias(region)

    @property
    def inner(self) -> int:
        return -(-self.g.run // 4)

    @property
    def steps(self) -> int:
        return self.g.k // self.g.run * self.inner

    @property
    def depth(self) -> int:
        return 4 * self.steps

    def _rows(self, tile: Tile) -> list[str]:
        return [f"xk + k * 4{f' + {r * self.row_step}' if r else ''}" for r in range(tile.mr)]

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        return IntegerTile(mr, nv, tail, flip=self.signed)

    def _matrices(self) -> list[Array]:
        return weight_matrices(self.region, self.g)

    def _pack(self) -> Array:
        """Weights of all groups, each run of k filled up to whole quads, in panels."""
        parts = []
        for matrix in self._matrices():
            runs = matrix.reshape(-1, self.g.run, matrix.shape[1])
            filled = np.zeros((len(runs), 4 * self.inner, matrix.shape[1]), np.int8)
            filled[:, : self.g.run] = runs
            parts.append(pack_together(filled.reshape(-1, matrix.shape[1]), 4, self.lanes, self.params.nv))
        return np.concatenate(parts)

    def _sums(self) -> Array:
        """The sum of each output channel's weights, [groups, whole vectors]."""
        width = self.vectors * self.lanes
        sums = np.zeros((self.g.groups, width), np.int32)
        for group, matrix in enumerate(self._matrices()):
            sums[group, : matrix.shape[1]] = matrix.sum(0, dtype=np.int64)
        return sums.reshape(-1)

    @property
    def shifted(self) -> bool:
        """True when accumulators do not start at 0."""
        return self.signed or zero_point(self.region) is not None

    def _declare(self, w: Writer, pointers: list[Pointer]) -> None:
        zero = zero_point(self.region)
        if not self.shifted:
            return
        w(f"const int32_t *sums = a->p[{len(pointers)}];")
        pointers.append(Packed(self._sums()))
        if zero is not None:
            kind = self.region.operand(zero).view.dtype
            w(f"const int32_t x_zero = *(const {kind.c} *)a->p[{len(pointers)}]{' + 128' if self.signed else ''};")
            pointers.append(In(zero))
        else:
            w("const int32_t x_zero = 128;")

    def _more_arguments(self) -> list[str]:
        if not self.shifted:
            return []
        width = self.vectors * self.lanes
        panel = [("panel", self.params.nv * self.lanes)] if self.panels > 1 else []
        group = [("group", width)] if self.g.groups > 1 else []
        return [address("sums", *group, *panel), "x_zero"]

    def _more_parameters(self) -> list[str]:
        return ["const int32_t *sums", "int32_t x_zero"] if self.shifted else []

    def _start(self, w: Writer, tile: Tile) -> None:
        for v in range(tile.nv):
            at = f" + {v} * VL" if v else ""
            terms = [f"vload_i(sums{at}) * vset1_i(-x_zero)"] if self.shifted else []
            if self.bias is not None:
                terms.append(loaded(dt.i32, f"e{self.bias}{at}", 1, tile.tail if v == tile.nv - 1 else 0))
            w(f"const vi start{v} = {' + '.join(terms) or 'vset1_i(0)'};")
        tile.declare(w)


KERNEL = ConvInt8()
