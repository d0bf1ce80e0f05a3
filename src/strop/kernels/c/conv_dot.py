"""Convolution with up to four output channels as dot products: vectors lie along the taps, where these and their channels are consecutive.

With so few output channels the vectors of ``conv_direct`` would be nearly empty. Here ``mr`` neighbouring positions share the weights, which are
packed as [taps that are not consecutive][output channel][consecutive products]; each accumulator is added up across its lanes at the end. The
results of a vector's worth of positions are gathered before the epilogue, which runs along them.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir.op import Array
from strop.kernels.base import Emitted, Kernel, Region, accepted, memory_seconds
from strop.kernels.c import conv_direct
from strop.kernels.c.positions import Geometry, Strides, geometry_of, weight_matrices
from strop.kernels.c.rows import Tail, Track
from strop.kernels.c.tile import shorter
from strop.kernels.c.vector import VectorC
from strop.kernels.c.writer import Writer, define
from strop.kernels.extent import constants_of
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Most output channels.
_CHANNELS = 4
#: Positions per tile worth trying.
_MR = (8, 6, 4, 2, 1)
#: Vectors of consecutive products that are written out instead of looped over.
_UNROLLED = 4
#: Estimated cycles: to add up a vector's lanes, around the results of one position, and of a load that crosses cache lines.
_ACROSS, _AROUND, _CROSSING = 10.0, 4.0, 1.5


@dataclass(frozen=True)
class Params:
    """mr: positions per tile."""

    mr: int


class ConvDot(Kernel[Params]):
    """See the module's text."""

    name = "conv_dot"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        g = geometry_of(region)
        if isinstance(g, str):
            return g
        if g.groups != 1 or g.o > _CHANNELS:
            return f"grouped, or more than {_CHANNELS} output channels"
        if g.c_stride != 1 and g.c > 8:
            return "input channels are not consecutive"
        walk = conv_direct.walk_of(g, 0)
        if walk.index != "k" or walk.inner < ISAS[target.isa].lanes // 2:
            return "too few products lie side by side"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        g = _geometry(region)
        room = ISAS[target.isa].registers - g.o - 2
        found = [Params(mr) for mr in _MR if mr * g.o <= room and mr <= g.row_extent]
        return sorted(found or [Params(1)], key=lambda p: self.cost(region, p, target))[:3]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g, isa = _geometry(region), ISAS[target.isa]
        inner = conv_direct.walk_of(g, 0).inner
        vectors = g.k // inner * -(-inner // isa.lanes)
        load = _CROSSING * isa.lanes / 16
        step = max(g.o * isa.lanes / target.fma_lanes, load + g.o * load / params.mr, 4.0 / params.mr)
        cycles = g.positions * (vectors * step + g.o * _ACROSS + _AROUND)
        if g.copies:
            cycles += conv_direct.COPY_CYCLES * g.n * g.c * g.padded_h * g.padded_w
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _geometry(region: Region) -> Geometry:
    return accepted(geometry_of(region))


class _Emitter(conv_direct.Emitter):
    """The tasks, rows and padded copies of conv_direct around dot products."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        super().__init__(region, conv_direct.Params(params.mr, 1), target)

    @property
    def run(self) -> int:
        """Vectors of consecutive products."""
        return -(-self._walk().inner // self.lanes)

    def _pack(self) -> Array:
        """[taps that are not consecutive][output channel][vectors of consecutive products], padded with zeros."""
        g, inner = self.g, self._walk().inner
        (matrix,) = weight_matrices(self.region, g)
        packed = np.zeros((g.k // inner, g.o, self.run * self.lanes), np.float32)
        packed[:, :, :inner] = matrix.reshape(-1, inner, g.o).transpose(0, 2, 1)
        return packed.reshape(-1)

    def _positions(self, w: Writer, nv: int, tail: int) -> None:
        g, mr = self.g, self.params.mr
        with ExitStack() as scope:
            start, stop = "from", "to"
            if not g.flat:
                scope.enter_context(w.block("for (int64_t h = from; h < to; h++)"))
                start, stop = "0", str(g.w)
            scope.enter_context(w.block(f"for (int64_t p = {start}; p < {stop}; p += VL)"))
            w(f"const int64_t count = {stop} - p < VL ? {stop} - p : VL;")
            w(f"float dots[{g.o * self.lanes}] __attribute__((aligned(64)));", "int64_t q = 0;")
            with w.block(f"for (; q + {mr} <= count; q += {mr})"):
                self._dots(w, mr)
            for height in shorter(mr):
                with w.block(f"if (q + {height} <= count)"):
                    self._dots(w, height)
                    w(f"q += {height};")
            with w.block("if (count == VL)"):
                self._finish(w, 0)
            with w.block("else"):
                self._finish(w, "(int32_t)count")

    def _finish(self, w: Writer, tail: Tail) -> None:
        """Applies the epilogue to the results of neighbouring positions and stores them."""
        g = self.g
        h = "" if g.flat else "h"

        def track(base: str, strides: Strides, channel: int) -> Track:
            offset = channel * strides[3]
            return Track(self._at(base, strides, h, "p") + (f" + {offset}" if offset != 0 else ""), strides[2])

        for channel in range(g.o):
            sides = [track(f"e{k}", s, channel) for k, s in enumerate(g.extras)]
            dots = Track("dots" + (f" + {channel} * VL" if channel else ""), 1)

            def load(index: int, sides: list[Track] = sides, dots: Track = dots) -> str:
                return (sides[index - 1] if index else dots).load("0", tail)

            with w.block(""):
                text = VectorC([dt.f32] * (1 + len(sides)), load, w).print(self.region.epilogue)
                w(track("y", g.y, channel).store("0", text, tail))

    def _dots(self, w: Writer, mr: int) -> None:
        """Calls the function for ``mr`` positions from p + q on."""
        body = Writer()
        self._products(body, mr)
        declared, sizes = constants_of(body.text())
        parameters = ", ".join(["const float *x", "const float *w", "float *dots", *declared])
        name = define(self.helpers, f"dots_{mr}x{self.g.o}", f"({parameters}) {{\n{body.text()}\n}}")
        w(f"{name}({', '.join([self._input('(p + q)'), 'wp', 'dots + q', *sizes])});")

    def _products(self, w: Writer, mr: int) -> None:
        g, lanes = self.g, self.lanes
        walk = self._walk()
        whole, rest = divmod(walk.inner, lanes)
        for r in range(mr):
            w("vf " + ", ".join(f"c{r}_{o} = vzero()" for o in range(g.o)) + ";")

        def vector(at: str, tail: int) -> None:
            for o in range(g.o):
                w(f"const vf w{o} = vload(w + {at} + {o * self.run * lanes});")
            for r in range(mr):
                where = f"xk + {at}" + (f" + {r * self.row_step}" if r else "")
                with w.block(""):
                    w(f"const vf e = {f'vload_n({where}, {tail})' if tail else f'vload({where})'};")
                    for o in range(g.o):
                        w(f"c{r}_{o} = vfma(e, w{o}, c{r}_{o});")

        with ExitStack() as nest:
            terms = ["x"]
            for name, extent, stride in walk.outer:
                if extent > 1:
                    nest.enter_context(w.loop(name, extent))
                    terms.append(f"{name} * {stride}")
            w(f"const float *xk = {' + '.join(terms)};")
            if whole > _UNROLLED:
                with w.loop("k", whole * lanes, lanes):
                    vector("k", 0)
            for k in range(whole if whole <= _UNROLLED else 0):
                with w.block(""):
                    vector(str(k * lanes), 0)
            if rest:
                with w.block(""):
                    vector(str(whole * lanes), rest)
            w(f"w += {g.o * self.run * lanes};")
        for r in range(mr):
            for o in range(g.o):
                w(f"dots[{r + o * lanes}] = vhadd(c{r}_{o});")


KERNEL = ConvDot()
