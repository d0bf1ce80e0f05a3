"""What GPU kernels do with products of 8-bit integers: exact sums in i32, and what zero points add to them.

Tensor cores multiply signed bytes. Unsigned activations are multiplied less 128, so that with d = 128 for them and else 0

    sum (x - zero) * w = sum (x - d) * w - (zero - d) * sum w

Elements outside of x are loaded as 0, which tensor cores need no extra step for; they count as -d in the first sum though they should count as
zero - d. The second sum therefore depends on how much of the window lies outside: it is a table of rows, one per way in which windows leave x.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.op import Array
from strop.kernels.base import Region
from strop.kernels.triton.emit import Block, Writer
from strop.ops.integer import FACTORS, IntegerConv, IntegerMatMul

#: Products of 8-bit numbers that always fit one i32.
MOST = 1 << 16


def is_integer(dtype: DType) -> bool:
    """True for types whose products are exact in i32."""
    return dtype in FACTORS


def sums_of(dtype: DType) -> DType:
    """The type of sums of products of factors of a type."""
    return dt.i32 if is_integer(dtype) else dt.f32


def why_not(region: Region, terms: int, found_late: bool = False) -> str | None:
    """None for a product of 8-bit activations with known i8 weights and a known zero point, else what speaks against it.

    Args:
        terms: of a sum.
        found_late: whether the zero point may be one number that only a run knows.
    """
    assert isinstance(region.op, (IntegerConv, IntegerMatMul))
    if any(o is not None for o in region.operands[3 : region.anchors]):
        return "weights have a zero point"
    if region.operand(1).view.dtype is not dt.i8 or region.operand(1).const is None:
        return "weights are not known, or not signed"
    zero = region.operands[2] if region.anchors > 2 else None
    if zero is not None and ((zero.const is None and not found_late) or zero.view.count != 1):
        return "the zero point of x is not one known number"
    return None if terms <= MOST else "sums do not fit i32"


def is_found_late(region: Region) -> bool:
    """Whether only a run knows the zero point of x."""
    return region.anchors > 2 and region.operands[2] is not None and region.operands[2].const is None


def zero_of(region: Region) -> int:
    """The zero point of x, where it is known."""
    zero = region.operands[2] if region.anchors > 2 else None
    return 0 if zero is None or zero.const is None else int(zero.const.reshape(-1)[0])


def shift_of(dtype: DType) -> int:
    """What is taken off activations so that they are signed bytes."""
    return 128 if dtype is dt.u8 else 0


@dataclass(frozen=True)
class Side:
    """How windows leave x along one axis, over the places of the result.

    Attributes:
        places: of the result.
        first: of them, from the first on, whose windows begin outside.
        last: of them, up to the last, whose windows end outside.
    """

    places: int
    first: int
    last: int

    @staticmethod
    def of(extent: int, places: int, kernel: int, stride: int, pad: int, dilation: int) -> Side:
        """Of a window's geometry along an axis."""
        begins = [place * stride - pad for place in range(places)]
        return Side(places, sum(b < 0 for b in begins), sum(b + (kernel - 1) * dilation >= extent for b in begins))

    @property
    def ways(self) -> int:
        """Ways in which windows lie."""
        return self.places if self.first + self.last >= self.places else self.first + 1 + self.last

    def example(self, way: int) -> int:
        """A place of the result whose window lies so."""
        return way if self.ways == self.places or way <= self.first else self.places - self.ways + way

    def text(self, place: str) -> str:
        """Text of the way of a place, which may lie behind the last one."""
        inner = f"tl.minimum({place}, {self.places - 1})"
        if self.ways == self.places:
            return inner
        last = self.places - 1 - self.last
        return f"(tl.minimum({inner}, {self.first}) + tl.maximum({inner} - {last}, 0))"


def ways_of(region: Region) -> list[Side]:
    """How the windows of a convolution over N, C, ... lie, per spatial axis."""
    op, x, out = region.op, region.operand(0).view, region.out
    assert isinstance(op, IntegerConv)
    kernel = region.operand(1).view.shape[2:]
    return [
        Side.of(x.shape[2 + k], out.shape[2 + k], kernel[k], op.strides[k], op.pads[k], op.dilations[k]) for k in range(len(kernel))
    ]


def usual_way(sides: Sequence[Side]) -> int:
    """The table's row of windows that leave x nowhere, or of some others where all leave it."""
    row = 0
    for side in sides:
        row = row * side.ways + (0 if side.ways == side.places else side.first)
    return row


def way_of(w: Writer, sides: Sequence[Side], m: Block) -> str:
    """Text of the table's row per place of ``m``, whose axes behind the first are the spatial ones; empty when there is one row only."""
    text, rows = "", 1
    for k, side in reversed(list(enumerate(sides))):
        if side.ways > 1:
            term = side.text(m.axis(w, 1 + k)) + (f" * {rows}" if rows > 1 else "")
            text = f"{text} + {term}" if text else term
        rows *= side.ways
    return text


def inside(region: Region, sides: Sequence[Side]) -> Array:
    """bool[ways, taps]: which taps of a window lie inside of x."""
    op, x = region.op, region.operand(0).view
    assert isinstance(op, IntegerConv)
    kernel = region.operand(1).view.shape[2:]
    rows = []
    for ways in itertools.product(*(range(side.ways) for side in sides)):
        found = np.ones((), bool)
        for k, (side, way) in enumerate(zip(sides, ways, strict=True)):
            at = side.example(way) * op.strides[k] - op.pads[k] + np.arange(kernel[k]) * op.dilations[k]
            found = found[..., None] & ((at >= 0) & (at < x.shape[2 + k]))
        rows.append(found.reshape(-1))
    return np.stack(rows)


def corrections(weights: Array, zero: int, dtype: DType, within: Array | None = None) -> Array:
    """i32[ways, columns]: what is to be added to sums over loaded elements; see the module's text.

    Args:
        weights: [columns, taps] sums over channels.
        within: bool[ways, taps]; None where no window leaves x.
    """
    shift = shift_of(dtype)
    wide = weights.astype(np.int64)
    if within is None:
        return np.asarray((shift - zero) * wide.sum(axis=1), np.int32)[None]
    return np.asarray((shift - zero) * (within @ wide.T) + shift * (~within @ wide.T), np.int32)
