"""Products of 8-bit integers as ``conv_int8`` does them, software pipelined: a tile's epilogue stands among the first products of the next tile.

A tile of few products spends a good part of its time in the epilogue, whose instructions wait for the last sums and for each other; a processor looks only so
far ahead for products of the next tile to do meanwhile. Here one function walks all tiles of a panel with two sets of accumulators, so that both lie side by
side in the code. It takes positions at even distances whose products are one run of k, registers for both sets, and an epilogue that is no longer than the
products beside it.
"""

from __future__ import annotations

from dataclasses import replace

from strop.ir.expr import Call, walk
from strop.kernels.base import Emitted, Kernel, Region
from strop.kernels.c import conv_int8, dot_emitter
from strop.kernels.c.conv_direct import Params
from strop.kernels.c.dot_emitter import native
from strop.kernels.c.positions import integer_geometry
from strop.kernels.c.tile import Part, Tile
from strop.kernels.c.writer import Writer
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Most products: with more, an epilogue takes too small a part of the time.
_LONGEST = 256
#: Primitives of one instruction or a few. An epilogue of others is long enough to keep a processor busy by itself, and needs the registers.
_SHORT = ("add", "sub", "mul", "fma", "max", "min", "neg", "abs", "round", "select", "shr", "lt", "le", "gt", "ge", "eq", "ne")
#: Vectors of the epilogue per step, and the step behind which it starts, so that the sums that it takes are there.
_PER_STEP, _FIRST = 2, 1
#: Fewest registers of a processor, and how many an epilogue needs for itself.
_REGISTERS, _SPARE = 32, 2
#: Cycles per vector of a tile that ``conv_int8`` loses beyond what it is estimated to take.
_SAVED = 0.5


class ConvInt8Pipelined(Kernel[Params]):
    """See the module's text."""

    name = "conv_int8_pipelined"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not native("vdot4", target) or ISAS[target.isa].registers < _REGISTERS:
            return "no instructions for quads of bytes, or too few registers for two sets of sums"
        reason = conv_int8.why_not(region) or conv_int8.awkward(region, integer_geometry(region))
        if reason:
            return reason
        g = conv_int8.geometry(region)
        if not g.flat or g.c_stride != 1:
            return "positions at different distances, or products in several runs"
        if g.k > _LONGEST:
            return "epilogues take a small part of the time"
        if any(isinstance(node, Call) and node.fn not in _SHORT for node in walk(region.epilogue)):
            return "the epilogue is long"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        registers = ISAS[target.isa].registers
        tiles = dot_emitter.register_tiles(conv_int8.geometry(region), target, 0)
        found = [p for p in tiles if 2 * p.mr * p.nv + p.nv + 1 + _SPARE <= registers]
        return sorted(found, key=lambda p: self.cost(region, p, target))[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = conv_int8.geometry(region)
        vectors = g.positions * -(-g.o // ISAS[target.isa].lanes)
        whole = conv_int8.KERNEL.cost(region, params, target)
        return max(0.5 * whole, whole - _SAVED * vectors / (target.ghz * 1e9))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


class _Emitter(conv_int8.Emitter):
    """``conv_int8``'s with one function for all whole tiles of a panel."""

    def _whole_tiles(self, w: Writer, tile: Tile, stop: str) -> None:
        name, sizes = self._all_tiles(tile)
        w(f"const int64_t tiles = ({stop} - p) / {tile.mr};")
        with w.block("if (tiles > 0)"):
            w(f"{name}({', '.join([*self._arguments('p'), 'tiles', *sizes])});", f"p += tiles * {tile.mr};")
            if self.fetch is not None:
                w(f"next += tiles * {self._fetched};")

    def _all_tiles(self, tile: Tile) -> tuple[str, list[str]]:
        """Defines the function that walks tiles and returns its name, and the run-time sizes that it takes."""
        w = Writer()
        before = replace(tile, sums="d")
        results = {"y": self.g.y[2], **{f"e{k}": strides[2] for k, strides in enumerate(self.g.extras)}}
        w(f"const {self.w_type} *const panel = w;")
        self._starts(w, tile)
        before.declare(w)
        with w.block(""):
            self._walk_products(w, before)
        parts = self._parts(w, before)
        with w.block("for (int64_t t = 1; t < tiles; t++)"):
            w(f"x += {tile.mr * self.row_step};", "w = panel;")
            tile.declare(w)
            self._among_products(w, tile, parts)
            w(*(f"{name} += {tile.mr} * {step};" for name, step in results.items() if step != 0))
            w(*(f"{before.acc(r, v)} = {tile.acc(r, v)};" for r in range(tile.mr) for v in range(tile.nv)))
        for part in parts:
            part.write()
        return self._defined("tiles", tile, w.text(), [*self._parameters(), "int64_t tiles"])

    def _among_products(self, w: Writer, tile: Tile, parts: list[Part]) -> None:
        """A tile's products, and among the first of them ``parts``, the epilogue of the one before."""
        steps, rows = self.steps, self._rows(tile)
        at: list[int] = []
        vectors = 0
        for part in parts:
            at.append(min(_FIRST + vectors // _PER_STEP, steps - 1))
            vectors += part.vectors
        first = at[-1] + 1
        lines = 0 if self.fetch is None else self.fetch.lines(steps)
        w(f"const {self.s_type} *xk = x;")
        for k in range(first):
            with w.block(""):
                for _ in range(lines * k // first, lines * (k + 1) // first):
                    tile.fetch_line(w)
                w(f"const int64_t k = {k};")
                tile.step(w, "w", rows)
                w(f"{tile.move('w')};")
            for part, step in zip(parts, at, strict=True):
                if step == k:
                    part.write()
        if first < steps:
            tile.walk(w, steps, "w", rows, start=first)


KERNEL = ConvInt8Pipelined()
