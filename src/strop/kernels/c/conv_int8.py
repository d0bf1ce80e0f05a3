"""Convolution and constant-weight matrix multiplication of 8-bit integers in i32, as ``conv_direct`` does them for floats.

Four products along k go into one lane at a time, so that k is cut into quads of consecutive activations; where a run of them is no multiple
of four, weights of zero meet what lies behind it. Activations count as unsigned, signed ones after adding 128. What that and the zero point
of x add to a sum is -(zero point) times the sum of a channel's weights: accumulators start there. Padding is filled with the zero point in
scratch. The epilogue dequantizes, applies activations and quantizes again in registers.
"""

from __future__ import annotations

from dataclasses import replace

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
)
from strop.kernels.c import dot_emitter
from strop.kernels.c.conv_direct import Params
from strop.kernels.c.dot_emitter import native
from strop.kernels.c.positions import Geometry, integer_geometry
from strop.kernels.c.tile import IntegerTile, Tile
from strop.kernels.c.vector import loaded, mixed
from strop.kernels.c.writer import Writer, address
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Products of u8 with i8 that always fit one i32.
_MOST = 1 << 16


class ConvInt8(Kernel[Params]):
    """See the module's text."""

    name = "conv_int8"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        return why_not(region) or awkward(region, integer_geometry(region))

    def space(self, region: Region, target: Target) -> list[Params]:
        found = dot_emitter.register_tiles(geometry(region), target, _spare(target))
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return dot_emitter.seconds(region, geometry(region), params, target, 4, 1, _dot_cycles(target))

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


def awkward(region: Region, found: Geometry | str) -> str | None:
    """Why a product of bytes with this geometry is not walked here; None when it is."""
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
    return lanes / target.fma_lanes * (1.0 if native("vdot4", target) else 3.0 if target.isa.startswith("avx") else 16.0)


def _spare(target: Target) -> int:
    """Registers that a ``vdot4`` needs for itself."""
    return 0 if native("vdot4", target) else 4


class Emitter(dot_emitter.Emitter):
    """``conv_direct``'s, on bytes."""

    group = 4
    s_type, w_type = "uint8_t", "int8_t"
    s_item = item = 1

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
        if self.signed and self.g.copies:  # rows in scratch are unsigned, and tiles read them as they are
            self.fill, self.changed = "x_zero", " ^ 0x80"

    @staticmethod
    def _bias(region: Region) -> int | None:
        """Which epilogue operand accumulators start with."""
        return _bias(region)

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        return IntegerTile(mr, nv, tail, flip=self.signed and not self.g.copies)

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
        self._starts(w, tile)
        tile.declare(w)

    def _starts(self, w: Writer, tile: Tile) -> None:
        """Declares what accumulators start at."""
        for v in range(tile.nv):
            at = f" + {v} * VL" if v else ""
            terms = [f"vload_i(sums{at}) * vset1_i(-x_zero)"] if self.shifted else []
            if self.bias is not None:
                terms.append(loaded(dt.i32, f"e{self.bias}{at}", 1, tile.tail if v == tile.nv - 1 else 0))
            w(f"const vi start{v} = {' + '.join(terms) or 'vset1_i(0)'};")


KERNEL = ConvInt8()
