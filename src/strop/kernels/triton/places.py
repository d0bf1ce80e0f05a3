"""Tiles over the places of a result in the order in which they lie: rows by a run of consecutive ones, or one after the other where runs are short."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from strop.kernels.base import Region, View
from strop.kernels.triton.emit import Block, Launch, Tile, Writer, ceil_div, power_of_two
from strop.kernels.triton.parts import LAUNCH
from strop.target.base import Target

#: Elements of the shortest run that tiles have an axis for, and of the longest piece of one that a tile has.
_SHORTEST, _LONGEST = 16, 512


@dataclass(frozen=True)
class Params:
    """Rows of a tile, elements of a run (1: places are not told apart in rows and runs), and warps."""

    rows: int
    run: int
    warps: int


@dataclass(frozen=True)
class Places:
    """Axes of a result that number the rows and the places of a run, outermost first; no run where it would be short.

    Attributes:
        scattered: whether neighbours of a run may lie apart in what is read.
    """

    rows: tuple[int, ...]
    run: tuple[int, ...]
    scattered: bool

    @staticmethod
    def of(out: View, apart: Collection[int]) -> Places:
        """A run has no axis of ``apart``, along which something is looked up, or that axis alone."""
        order = [a for a in out.order() if out.shape[a] != 1]
        run: list[int] = order[-1:]
        while run and run[0] not in apart and len(run) < len(order) and order[-1 - len(run)] not in apart:
            run.insert(0, order[-1 - len(run)])
        if math.prod(out.shape[a] for a in run) < _SHORTEST:
            run = []
        return Places(tuple(order[: len(order) - len(run)]), tuple(run), bool(order) and order[-1] in apart)

    def counts(self, out: View) -> tuple[int, int]:
        """(rows, places of a run)."""
        return math.prod(out.shape[a] for a in self.rows), math.prod(out.shape[a] for a in self.run)

    def space(self, out: View) -> list[Params]:
        """Parameter sets worth trying."""
        rows, length = self.counts(out)
        longest = power_of_two(length)
        runs = [n for n in (16, 32, 64, 128, 256, 512) if n == min(longest, _LONGEST) or (64 <= n < longest)] if self.run else [1]
        found = [
            Params(count, run, warps)
            for run in runs
            for count in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
            for warps in (1, 2, 4, 8)
            if count <= max(1, power_of_two(rows)) and count * run // (32 * warps) in (1, 2, 4, 8, 16) and count * run % (32 * warps) == 0
        ]
        return found or [Params(power_of_two(rows), min(longest, _LONGEST) if self.run else 1, 1)]

    def cost(self, out: View, p: Params, bytes: float, each: float, target: Target) -> float:
        """Estimated seconds.

        Args:
            bytes: read and written.
            each: instructions per element.
        """
        rows, length = self.counts(out)
        programs = ceil_div(rows, p.rows) * ceil_div(length, p.run)
        waste = programs * p.rows * p.run / max(1, rows * length)
        elements = max(1.0, p.rows * p.run / (32 * p.warps))
        resident = max(1, min(32, 64 // p.warps))
        cycles = ceil_div(programs, target.cores * resident) * 1100 + programs / target.cores * p.warps * (60 + elements * (each + 4)) / 3.0
        rate = target.bandwidth * (2.0 if bytes < target.l2 else 0.85)
        wide = 2 if self.scattered else min(8, 16 // out.dtype.size)  # lanes beside each other should read elements beside each other
        far = math.log2(elements / wide)
        slow = (1.0 + 0.02 * abs(far)) * (1.0 + 0.2 * max(0.0, far) * self.scattered) * (1.1 if p.warps == 1 else 1.0)
        return max(bytes / rate * (1.0 + 0.1 * (waste - 1)), cycles / (target.ghz * 1e9)) * slow + LAUNCH

    def begin(self, w: Writer, out: View, p: Params) -> tuple[Tile, int]:
        """Writes the indices of rows (``m``) and of places of a run (``c``); returns the tile, and the programs."""
        rows, length = self.counts(out)
        m = Block("m", self.rows, tuple(out.shape[a] for a in self.rows), p.rows, rows % p.rows != 0)
        if not self.run:
            w(f"m = tl.program_id(0) * {p.rows} + tl.arange(0, {p.rows})")
            return Tile(w, (m,)), ceil_div(rows, p.rows)
        pieces = ceil_div(length, p.run)
        w("program = tl.program_id(0)")
        w(f"m = {'program' if pieces == 1 else f'program // {pieces}'} * {p.rows} + tl.arange(0, {p.rows})")
        w(f"c = {'' if pieces == 1 else f'(program % {pieces}) * {p.run} + '}tl.arange(0, {p.run})")
        c = Block("c", self.run, tuple(out.shape[a] for a in self.run), p.run, length % p.run != 0)
        return Tile(w, (m, c)), ceil_div(rows, p.rows) * pieces


def launch(w: Writer, programs: int, p: Params) -> Launch:
    """The launch of all programs."""
    return Launch(w.text(), (programs, 1, 1), p.warps, 1)


def moved_bytes(region: Region, most: int = 1) -> int:
    """Bytes that are read and written where every element of the result reads at most ``most`` of each of the anchor's operands."""
    count = region.out.count
    size = sum(min(o.view.span, o.view.count, count * most) * o.view.dtype.size for o in region.operands[: region.anchors] if o is not None)
    size += sum(min(o.view.span, count) * o.view.dtype.size for o in region.extras)
    return size + count * region.out.dtype.size
