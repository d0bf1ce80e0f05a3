"""Products of bytes of which a run knows the weights or a zero point: sums of rows and columns are taken while the factors are multiplied.

With d = 128 for unsigned bytes and else 0, of each factor, and over K terms

    sum (x - p) * (w - q) = sum (x - d) * (w - d) + (d - p) * sum (w - d) + (d - q) * sum (x - d) + K * (d - p) * (d - q)

Elements behind the last term are made 0, so that they add nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from strop.ir import dtype as dt
from strop.kernels.base import In, Region
from strop.kernels.triton.emit import Tile, Writer
from strop.kernels.triton.integers import MOST, shift_of
from strop.kernels.triton.parts import Pointers
from strop.ops.integer import IntegerMatMul


def why_not(region: Region, terms: int) -> str | None:
    """None for a matrix product of bytes whose zero points are one number each, else what speaks against it."""
    zeros = [o for o in region.operands[2 : region.anchors] if o is not None]
    if not isinstance(region.op, IntegerMatMul) or any(o.view.count > 1 for o in zeros):
        return "a factor has several zero points"
    return None if terms <= MOST else "sums do not fit i32"


def is_open(region: Region) -> bool:
    """Whether a product of bytes is one of these: its second factor is not known as i8, or has a zero point."""
    if not isinstance(region.op, IntegerMatMul):
        return False
    w, zero = region.operand(1), region.operands[3] if region.anchors > 3 else None
    return w.const is None or w.view.dtype is not dt.i8 or (zero is not None and zero.view.count == 1)


class Sums:
    """Writes the sums of rows and columns of a tile, and what they add.

    Args:
        size: rows and columns of a tile.
    """

    def __init__(self, w: Writer, region: Region, pointers: Pointers, size: tuple[int, int]) -> None:
        self.w, self.size = w, size
        self.shifts = [shift_of(region.operand(k).view.dtype) for k in range(2)]
        self.zeros = [self._zero(region, pointers, k) for k in range(2)]

    def _zero(self, region: Region, pointers: Pointers, factor: int) -> str:
        """Text of what is taken off too much of a factor's elements; empty for nothing."""
        operand = region.operands[2 + factor] if region.anchors > 2 + factor else None
        if operand is None or not operand.view.count:
            return str(self.shifts[factor]) if self.shifts[factor] else ""
        pointers.add(f"zero{factor}", operand.view.dtype, In(2 + factor))
        return f"({self.shifts[factor]} - tl.load(zero{factor}).to(tl.int32))"

    def begin(self) -> None:
        """Before the loop."""
        for name, size, zero in zip(("of_rows", "of_columns"), self.size, reversed(self.zeros), strict=True):
            if zero:
                self.w(f"{name} = tl.zeros(({size},), tl.int32)")

    def add(self, names: tuple[str, str], inside: str) -> None:
        """In a round: makes its factors signed bytes and counts them.

        Args:
            inside: which of its terms are there, as text; empty where all are.
        """
        for name, shift, zero, total, axis in zip(names, self.shifts, reversed(self.zeros), ("of_rows", "of_columns"), (1, 0), strict=True):
            if shift:
                self.w(f"{name} = ({name} ^ 128).to(tl.int8, bitcast=True)")
            if shift and inside:
                self.w(f"{name} = tl.where({inside}[{'None, :' if axis else ':, None'}], {name}, 0)")
            if zero:
                self.w(f"{total} += tl.sum({name}.to(tl.int32), {axis})")

    def end(self) -> None:
        """Behind the loop: adds what a program's rounds contribute."""
        if self.zeros[0]:
            self.w(f"acc += {self.zeros[0]} * of_columns[None, :]")
        if self.zeros[1]:
            self.w(f"acc += {self.zeros[1]} * of_rows[:, None]")

    def once(self, terms: int) -> Callable[[Tile], str] | None:
        """What is added once to a whole sum; None for nothing."""
        return (lambda tile: f"{terms} * {self.zeros[0]} * {self.zeros[1]}") if all(self.zeros) else None
