"""Convolution and constant-weight matrix products with few output channels, as dot products: vectors lie along the input.

A tile computes ``mr`` positions by all output channels, one vector accumulator each, as many as a vector has lanes at most. Its products run
along the taps of a kernel row and their channels, which lie side by side. At the end the accumulators are added up across their lanes
two by two, so that one vector holds all results. How tasks are cut, and the zero-padded copy of rows, are those of ``conv_direct``.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from math import prod

import numpy as np

from strop.ir.op import Array
from strop.kernels.base import Emitted, Kernel, Region, memory_seconds
from strop.kernels.c.conv_direct import DirectEmitter, Params
from strop.kernels.c.positions import Geometry, geometry_of, weight_matrices
from strop.kernels.c.rows import Finish, Track, vectors
from strop.kernels.c.tile import Tile
from strop.kernels.c.writer import Writer
from strop.kernels.extent import constants_of
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Estimated cycles: to add up one accumulator, and to finish one row of results.
_ACROSS, _FINISH = 3.0, 4.0


def _run(g: Geometry) -> int:
    """Elements of the input that lie side by side under the kernel; 0 when channels do not."""
    if g.c != 1 and g.c_stride != 1:
        return 0
    side_by_side = g.kw == 1 or g.dw * g.pixel == g.c
    return g.kw * g.c if side_by_side else g.c


class ConvDot(Kernel[Params]):
    """See the module's text."""

    name = "conv_dot"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        geometry = geometry_of(region)
        if isinstance(geometry, str):
            return geometry
        lanes = ISAS[target.isa].lanes
        if geometry.o > lanes // 2:
            return f"more than {lanes // 2} output channels"
        run = _run(geometry)
        if run == 0:
            return "input channels are not consecutive"
        return None if run >= lanes // 2 else "few elements lie side by side"

    def space(self, region: Region, target: Target) -> list[Params]:
        g = geometry_of(region)
        assert isinstance(g, Geometry)
        most = min(ISAS[target.isa].lanes // g.o, g.row_extent)
        found = [Params(mr, 1) for mr in dict.fromkeys((most, max(1, most // 2)))]
        return sorted(found, key=lambda p: self.cost(region, p, target))

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = geometry_of(region)
        assert isinstance(g, Geometry)
        lanes = ISAS[target.isa].lanes
        steps = g.k // _run(g) * -(-_run(g) // lanes)
        accumulators = params.mr * g.o
        step = max(accumulators * lanes / target.fma_lanes, (params.mr + g.o) * 0.6, 4.0)
        finishes = 1 if g.o == 1 else params.mr
        tile = steps * step + _ACROSS * lanes + _FINISH * finishes + 10.0
        cycles = -(-g.row_extent // params.mr) * tile * g.groups * g.n * (g.h if g.row_extent == g.w else 1)
        if g.copies:
            cycles += 0.3 * g.n * g.groups * g.c * g.padded_h * g.padded_w
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _DotEmitter(region, params, target).emitted()


class _DotEmitter(DirectEmitter):
    """Tiles of dot products in the loops of ``conv_direct``."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        super().__init__(region, params, target)
        self.run = _run(self.g)
        self.wide = -(-self.run // self.lanes) * self.lanes
        self.panel_size = self.group_size

    @property
    def group_size(self) -> int:
        """Floats of one group's packed weights."""
        return self.g.k // _run(self.g) * -(-_run(self.g) // self.lanes) * self.lanes * self.g.o

    def _pack(self) -> Array:
        """Weights [group][outer step][vector][output channel][lane], runs filled up with zeros."""
        return np.concatenate([self._packed(matrix) for matrix in weight_matrices(self.region, self.g)])

    def _packed(self, matrix: Array) -> Array:
        outer = self.g.k // self.run
        filled = np.zeros((outer, self.wide, self.g.o), np.float32)
        filled[:, : self.run] = matrix.reshape(outer, self.run, self.g.o)
        return np.ascontiguousarray(filled.reshape(outer, -1, self.lanes, self.g.o).transpose(0, 1, 3, 2)).reshape(-1)

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        return Tile(mr, nv, 0, False)

    def _outer(self) -> list[tuple[str, int, int]]:
        """Loops around a run: name, extent, elements of the input per step."""
        g = self.g
        rows = ("kh", g.kh, g.dh * g.line)
        taps = [("kw", g.kw, g.dw * g.pixel)] if self.run != g.kw * g.c else []
        return [axis for axis in (rows, *taps) if axis[1] > 1]

    def _tile(self, tile: Tile) -> tuple[str, list[str]]:
        """Defines the tile's function once and returns its name, and the run-time sizes that it takes behind its operands."""
        g, mr, w = self.g, tile.mr, Writer()
        sums = [f"c{r}_{o}" for r in range(mr) for o in range(g.o)]
        w(f"vf {', '.join(f'{name} = vzero()' for name in sums)};")
        axes = self._outer()
        assert prod(extent for _, extent, _ in axes) == g.k // self.run
        with ExitStack() as nest:
            for name, extent, _ in axes:
                nest.enter_context(w.loop(name, extent))
            w(f"const float *xk = {' + '.join(['x', *(f'{name} * {step}' for name, _, step in axes)])};")
            for at, tail, _ in vectors(w, self.run, self.lanes, var="k"):
                with w.block(""):
                    self._step(w, mr, at, tail)
        total = self._added_up(w, sums)
        self._finish(w, mr, total)
        parameters = ["const float *x", "const float *w", "float *y", *(f"const float *e{k}" for k in range(len(g.extras)))]
        declared, sizes = constants_of(w.text())
        text = f"({', '.join([*parameters, *declared])}) {{\n{w.text()}\n}}"
        name = f"dots_{mr}x{g.o}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        helper = f"/* {mr} positions by {g.o} output channels, {g.k} products each */\nstatic void {name}{text}\n"
        for part in (self._pairs(), helper):
            if part not in self.helpers:
                self.helpers.append(part)
        return name, sizes

    def _step(self, w: Writer, mr: int, at: str, tail: int | str) -> None:
        """The products of one vector of the input."""
        for r in range(mr):
            w(f"const vf v{r} = {Track(f'xk + {r * self.row_step}' if r else 'xk', 1).load(at, tail)};")
        for o in range(self.g.o):
            w(f"const vf w{o} = vload(w{f' + {o} * VL' if o else ''});")
            for r in range(mr):
                w(f"c{r}_{o} = vfma(v{r}, w{o}, c{r}_{o});")
        w(f"w += {self.g.o} * VL;")

    def _pairs(self) -> str:
        """A helper that adds neighbouring lanes of two vectors."""
        even, odd = (", ".join(str(k) for k in range(first, 2 * self.lanes, 2)) for first in (0, 1))
        return (
            "/* sums of neighbouring lanes: those of a, then those of b */\n"
            f"static inline vf pair_sums_{self.lanes}(vf a, vf b) {{\n"
            f"  return __builtin_shufflevector(a, b, {even}) + __builtin_shufflevector(a, b, {odd});\n}}\n"
        )

    def _added_up(self, w: Writer, names: list[str]) -> str:
        """The name of the vector whose lane k is the sum of accumulator k; lanes without an accumulator repeat others."""
        level, width = list(names), self.lanes
        number = 0
        while width > 1:
            following = []
            for k in range(0, len(level), 2):
                a, b = level[k], level[k + 1] if k + 1 < len(level) else level[k]
                following.append(f"s{number}")
                w(f"const vf s{number} = pair_sums_{self.lanes}({a}, {b});")
                number += 1
            level, width = following, width // 2
        return level[0]

    def _finish(self, w: Writer, mr: int, total: str) -> None:
        """Applies the epilogue and stores: along the positions where there is one channel, else position by position."""
        g = self.g
        if g.o == 1:
            sides = [Track(f"e{k}", s[2]) for k, s in enumerate(g.extras)]
            Finish(w, self.region.epilogue, Track("y", g.y[2]), sides).store("0", total, mr if mr < self.lanes else 0)
            return
        w("float dots[VL];", f"vstore(dots, {total});")
        for r in range(mr):
            with w.block(""):
                sides = [Track(_plus(f"e{k}", r * s[2]), s[3]) for k, s in enumerate(g.extras)]
                finish = Finish(w, self.region.epilogue, Track(_plus("y", r * g.y[2]), 1), sides)
                w(f"const vf dot = vload_n(dots + {r * g.o}, {g.o});")
                finish.store("0", "dot", g.o)


def _plus(base: str, offset: int) -> str:
    return f"{base} + {offset}" if offset else base


KERNEL = ConvDot()
