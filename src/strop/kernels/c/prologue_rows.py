"""Rows of a product run through a region's prologue into scratch, before they feed the register tiles."""

from __future__ import annotations

from strop.ir import dtype as dt
from strop.kernels.base import Region
from strop.kernels.c.positions import Geometry
from strop.kernels.c.vector import VectorC
from strop.kernels.c.writer import Writer, address


def apply_prologue(w: Writer, region: Region, g: Geometry, lanes: int, x: str, scratch: str, row: int) -> None:
    """Writes the loop over the positions ``from`` to ``to`` of a flat region.

    Args:
        w: where to write; the names ``from``, ``to``, ``q0`` ... (the prologue's operands) and, with several images, ``n`` are known there.
        region: with a prologue.
        g: its geometry, flat.
        lanes: floats of a vector.
        x: C name of the first operand.
        scratch: C name of where the rows go.
        row: elements between rows in scratch.
    """
    full = g.c // lanes * lanes
    inputs = [dt.f32] * (1 + len(g.prologue))

    def vector(tail: int) -> None:
        def load(index: int) -> str:
            pointer, column = ("from_row", 1) if index == 0 else (f"q{index - 1}_row", g.prologue[index - 1][3])
            if column == 0:
                return f"vset1(*{pointer})"
            where = f"{pointer} + c" if column == 1 else f"{pointer} + c * {column}"
            if column == 1:
                return f"vload_n({where}, {tail})" if tail else f"vload({where})"
            return f"vgather_n({where}, {column}, {tail})" if tail else f"vgather({where}, {column})"

        text = VectorC(inputs, load, w).print(region.prologue)
        w(f"vstore_n(to_row + c, {text}, {tail});" if tail else f"vstore(to_row + c, {text});")

    with w.block("for (int64_t p = from; p < to; p++)"):
        w(f"const float *from_row = {x} + p * {g.x_step};", f"float *to_row = {scratch} + (p - from) * {row};")
        for k, strides in enumerate(g.prologue):
            image = [("n", strides[0])] if g.n > 1 else []
            w(f"const float *q{k}_row = {address(f'q{k}', *image, ('p', strides[2]))};")
        if full:
            with w.loop("c", full, lanes):
                vector(0)
        if g.c > full:
            w(f"const int64_t c = {full};")
            vector(g.c - full)
