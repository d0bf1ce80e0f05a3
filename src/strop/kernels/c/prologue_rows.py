"""Rows of a product run through a region's prologue into scratch, before they feed the register tiles."""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.kernels.base import Region
from strop.kernels.c.positions import Geometry
from strop.kernels.c.vector import VectorC, loaded, stored
from strop.kernels.c.writer import Writer, address


@dataclass(frozen=True)
class Rows:
    """Rows in scratch.

    Attributes:
        base: C name of the first one.
        step: elements between them; what is behind the channels of a row is filled with zeros.
        dtype: of the elements.
    """

    base: str
    step: int
    dtype: DType = dt.f32


def apply_prologue(w: Writer, region: Region, g: Geometry, lanes: int, x: str, to: Rows) -> None:
    """Writes the loop over the positions ``from`` to ``to`` of a flat region.

    Args:
        w: where to write; the names ``from``, ``to``, ``q0`` ... (the prologue's operands) and, with several images, ``n`` are known there.
        region: with a prologue.
        g: its geometry, flat.
        lanes: floats of a vector.
        x: C name of the first operand.
        to: where the rows go.
    """
    full = g.c // lanes * lanes
    inputs = [region.operand(0).view.dtype, *(o.view.dtype for o in region.prologue_operands)]

    def vector(tail: int) -> None:
        def load(index: int) -> str:
            pointer, column = ("from_row", 1) if index == 0 else (f"q{index - 1}_row", g.prologue[index - 1][3])
            where = pointer if column == 0 else f"{pointer} + c" if column == 1 else f"{pointer} + c * {column}"
            return loaded(inputs[index], where, column, tail)

        text = VectorC(inputs, load, w).print(region.prologue, to.dtype)
        w(stored(to.dtype, "to_row + c", text, 1, tail))

    with w.block("for (int64_t p = from; p < to; p++)"):
        w(f"const {inputs[0].c} *from_row = {x} + p * {g.x_step};", f"{to.dtype.c} *to_row = {to.base} + (p - from) * {to.step};")
        for k, strides in enumerate(g.prologue):
            image = [("n", strides[0])] if g.n > 1 else []
            w(f"const {inputs[1 + k].c} *q{k}_row = {address(f'q{k}', *image, ('p', strides[2]))};")
        if full:
            with w.loop("c", full, lanes):
                vector(0)
        if g.c > full:
            w(f"const int64_t c = {full};")
            vector(g.c - full)
        for c in range(g.c, to.step):
            w(f"to_row[{c}] = 0;")
