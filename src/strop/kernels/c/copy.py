"""Copies between layouts: a region that is only ``Input(0)`` of one operand, for elements of 1, 2, 4 or 8 bytes.

Axes are ordered by the result's strides and merged where both sides allow it. Then one of three ways is taken. ``rows``: both sides are
consecutive along the innermost axis, runs of bytes are moved. ``tiles``: the operand is consecutive along another axis; the two axes are
transposed in squares of registers, or, where one of them is short, interleaved or separated by shuffles. ``elements``: one by one.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from strop.ir.expr import Input
from strop.kernels.base import Emitted, In, Kernel, Out, Region, memory_seconds
from strop.kernels.c import shuffles
from strop.kernels.c.axes import Axes
from strop.kernels.c.rows import address
from strop.kernels.c.units import GRAIN, Units, cut
from strop.kernels.c.writer import Writer
from strop.kernels.extent import highest, lowest, typical
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Rows of at most this many bytes are copied by moves in place of a call.
_INLINE = 512
#: Longest axis that is interleaved or separated by shuffles.
_NARROW = 8


@dataclass(frozen=True)
class Params:
    """along: tiles follow one another along the ``result``'s or the ``operand``'s consecutive axis; ``rows`` and ``elements`` have one
    way only, ``result``."""

    along: str = "result"


@dataclass(frozen=True)
class _Plan:
    """How the copy is walked.

    Attributes:
        way: ``rows``, ``tiles`` or ``elements``.
        size: bytes per element.
        outer: (extent, stride of the result, stride of the operand) per outer axis, outermost first.
        across: (extent, result, operand) of the axis along which the operand is consecutive; only of ``tiles``.
        inner: (extent, result, operand) of the innermost axis.
    """

    way: str
    size: int
    outer: tuple[tuple[int, int, int], ...]
    across: tuple[int, int, int]
    inner: tuple[int, int, int]

    @property
    def body(self) -> int:
        """Elements that the innermost one or two axes have."""
        return self.across[0] * self.inner[0]


def _plan(region: Region) -> _Plan:
    axes = Axes.merged([region.out, region.operand(0).view])
    every = list(zip(axes.extents, *axes.strides, strict=True))
    size = region.out.dtype.size
    inner = every.pop()
    none = (1, 0, 0)
    if inner[1] != 1:
        return _Plan("elements", size, tuple(every), none, inner)
    if inner[2] == 1:
        return _Plan("rows", size, tuple(every), none, inner)
    along = [k for k, axis in enumerate(every) if axis[2] == 1]
    if not along or inner[2] == 0:
        return _Plan("elements", size, tuple(every), none, inner)
    across = every.pop(along[-1])
    return _Plan("tiles", size, tuple(every), across, inner)


class Copy(Kernel[Params]):
    """See the module's text."""

    name = "copy"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if region.op is not None or len(region.operands) != 1 or region.epilogue != Input(0):
            return "more than a copy"
        if region.out.dtype != region.operand(0).view.dtype:
            return "the dtype changes"
        if region.out.count == 0:
            return "the result is empty"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        plan = _plan(region)
        square = plan.way == "tiles" and min(plan.across[0], plan.inner[0]) > _NARROW
        return [Params("result"), Params("operand")] if square else [Params()]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        plan = _plan(region)
        cycles = {"rows": 0.05, "tiles": 0.3, "elements": 1.0}[plan.way] * region.out.count
        later = 1.01 if params.along == "operand" else 1.0
        return later * max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(_plan(region), params, target).emit()


class _Emitter:
    """Writes one copy."""

    def __init__(self, plan: _Plan, params: Params, target: Target) -> None:
        self.plan = plan
        self.params = params
        self.lanes = ISAS[target.isa].lanes
        self.w = Writer()
        self.helpers: list[str] = []
        self.divided = plan.across if plan.way == "tiles" else plan.inner
        self.pieces, self.piece = cut(self.divided[0], GRAIN // typical(plan.body // self.divided[0]))
        self.axes = list(plan.outer)
        if self.pieces != 1:
            self.axes.append((self.pieces, self.piece * self.divided[1], self.piece * self.divided[2]))
        self.units = Units.of([e for e, _, _ in self.axes], typical(plan.body) // typical(self.pieces), target.cores)

    def emit(self) -> Emitted:
        w = self.w
        kind = f"uint{8 * self.plan.size}_t"
        w(f"{kind} *y = a->p[0];", f"const {kind} *x = a->p[1];")
        with self.units.loops(w) as names:
            w(f"{kind} *to = {address('y', [y for _, y, _ in self.axes], names)};")
            w(f"const {kind} *from = {address('x', [x for _, _, x in self.axes], names)};")
            {"rows": self._row, "tiles": self._tiles, "elements": self._elements}[self.plan.way](self._length(names))
        return Emitted(w.text(), (Out(0), In(0)), self.units.tasks, helpers=tuple(self.helpers))

    def _length(self, names: list[str]) -> str:
        """C text of how many elements of the divided axis are done here; the last piece takes what is left, too."""
        rest = self.divided[0] - (self.pieces - 1) * self.piece
        if rest == self.piece:
            return str(self.piece)
        self.w(f"const int64_t count = {names[-1]} < {self.pieces - 1} ? {self.piece} : {rest};")
        return "count"

    def _row(self, length: str) -> None:
        size = self.plan.size
        if length.isdigit() and int(length) * size <= _INLINE:
            self.w(f"__builtin_memcpy_inline(to, from, {int(length) * size});")
        else:
            self.w(f"memcpy(to, from, {length}{f' * {size}' if size > 1 else ''});")

    def _elements(self, length: str) -> None:
        _, y, x = self.plan.inner
        to, source = (f"{name}[j{f' * {step}' if step != 1 else ''}]" if step else f"{name}[0]" for name, step in (("to", y), ("from", x)))
        with self.w.loop("j", length):
            self.w(f"{to} = {source};")

    def _tiles(self, length: str) -> None:
        plan = self.plan
        (rows, y_step, _), (columns, _, x_step) = plan.across, plan.inner
        smallest = lowest(rows) if self.pieces == 1 else min(lowest(rows), self.piece)
        network: shuffles.Network
        if highest(columns) <= _NARROW and y_step == columns:
            network = shuffles.interleave(columns, shuffles.lanes(plan.size, self.lanes, smallest), plan.size)
        elif highest(rows) <= _NARROW and x_step == rows and self.pieces == 1:
            network = shuffles.separate(rows, shuffles.lanes(plan.size, self.lanes, lowest(columns)), plan.size)
        else:
            side = shuffles.lanes(plan.size, self.lanes, min(smallest, lowest(columns)))
            network = shuffles.square(side, plan.size)
        self.helpers.append(network.text)
        call = f"{network.name}(from + i + j * {x_step}, {x_step}, to + i * {y_step} + j, {y_step});"
        axes = [("i", length, network.rows, smallest), ("j", str(columns), network.columns, lowest(columns))]
        if self.params.along == "operand":
            axes.reverse()
        self._blocks(axes, call)

    def _blocks(self, axes: list[tuple[str, str, int, int]], call: str) -> None:
        """Loops over tiles; the last one along an axis starts earlier where a whole one would not fit, and does some elements again."""
        w = self.w
        with ExitStack() as scope:
            for var, length, step, smallest in axes:
                if smallest == step and length.isdigit():
                    w(f"const int64_t {var} = 0;")
                    continue
                whole = length.isdigit() and int(length) % step == 0
                if whole:
                    scope.enter_context(w.loop(var, length, step))
                    continue
                scope.enter_context(w.loop(f"{var}_next", length, step))
                w(f"const int64_t {var} = {var}_next + {step} <= {length} ? {var}_next : {length} - {step};")
            w(call)


KERNEL = Copy()
