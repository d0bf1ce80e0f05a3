"""Kernels whose program holds whole rows in registers: softmax and norms over the last places of a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strop.ir.op import Op
from strop.kernels.base import Region
from strop.kernels.triton.emit import Block, Launch, Tile, Writer, ceil_div, power_of_two
from strop.kernels.triton.parts import GpuKernel, is_float, traffic
from strop.target.base import Target

#: Longest row.
LONGEST = 32768


@dataclass(frozen=True)
class Params:
    """Rows per program, and warps."""

    rows: int
    warps: int


class RowKernel(GpuKernel[Params]):
    """What these kernels have in common: rows of floats that fit into registers."""

    #: Ops that it computes, and what is said of others.
    ops: ClassVar[tuple[type[Op], ...]]
    no_such: ClassVar[str]

    def sizes(self, region: Region) -> tuple[int, int, int]:
        """(first axis of a row, elements of a row, rows)."""
        raise NotImplementedError(f"{self.name}.sizes")

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, self.ops):
            return self.no_such
        if not is_float(region.operand(0).view, region.out):
            return "it is not of floats"
        return None if 0 < self.sizes(region)[1] <= LONGEST else "its rows are too long"

    def space(self, region: Region, target: Target) -> list[Params]:
        return _space(*self.sizes(region)[1:])

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return _cost(region, *self.sizes(region)[1:], params, target)


def _space(length: int, count: int) -> list[Params]:
    """Parameter sets worth trying for ``count`` rows of a length."""
    size = power_of_two(length)
    found = [
        Params(rows, warps)
        for rows in (1, 2, 4, 8, 16, 32)
        for warps in (1, 2, 4, 8)
        if rows <= max(1, power_of_two(count)) and (32 * warps <= rows * size <= 64 * 32 * warps or size * rows <= 64)
    ]
    return found or [Params(1, 16)]


def _cost(region: Region, length: int, count: int, p: Params, target: Target) -> float:
    """Estimated seconds."""
    programs = ceil_div(count, p.rows)
    each = p.rows * power_of_two(length) / (32 * p.warps)
    waves = ceil_div(programs, target.cores * max(1, min(32, 64 // p.warps)))
    cycles = waves * (1800 + each * 12)
    return max(traffic(region, target), cycles / (target.ghz * 1e9) + 2e-6) * (1.0 + 0.01 * abs(each - 8))


def begin(w: Writer, shape: tuple[int, ...], axes: tuple[int, ...], p: Params) -> Tile:
    """Writes the indices of rows (``m``) and of places in them (``c``, along ``axes``)."""
    outer = tuple(a for a in range(len(shape)) if a not in axes)
    length, count = 1, 1
    for a in axes:
        length *= shape[a]
    for a in outer:
        count *= shape[a]
    size = power_of_two(length)
    w(f"m = tl.program_id(0) * {p.rows} + tl.arange(0, {p.rows})", f"c = tl.arange(0, {size})")
    m = Block("m", outer, tuple(shape[a] for a in outer), p.rows, count % p.rows != 0)
    return Tile(w, (m, Block("c", axes, tuple(shape[a] for a in axes), size, size != length)))


def launch(w: Writer, count: int, p: Params) -> Launch:
    """The launch over all rows."""
    return Launch(w.text(), (ceil_div(count, p.rows), 1, 1), p.warps, 1)
