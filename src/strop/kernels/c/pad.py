"""Padding of any mode and dtype: rows along one axis, whose inner part is copied whole and whose ends are filled.

A row runs along the innermost axis of the result that is padded or not evenly spaced; what lies inside of it, in order and without gaps in operand
and result, moves along as one *block*. Indices of the other padded axes are worked out once per row.
"""

from __future__ import annotations

from dataclasses import dataclass

from strop.kernels.base import Emitted, In, Kernel, Out, Region, View, accepted, memory_seconds
from strop.kernels.c.rows import address
from strop.kernels.c.units import Units
from strop.kernels.c.writer import Writer, held, literal, to_memory
from strop.kernels.extent import is_symbolic, lowest, typical
from strop.ops.data import Pad
from strop.target.base import Target

#: Cycles assumed per row, and per element that is copied alone.
_ROW, _ALONE = 12.0, 1.5


@dataclass(frozen=True)
class Side:
    """One axis: ``lead`` elements are added before the ``kept`` ones, which begin at element ``skipped`` of the operand; ``size`` results."""

    lead: int
    kept: int
    skipped: int
    size: int

    @property
    def moves(self) -> bool:
        """True when it is not the axis of the operand as it is."""
        return self.size != self.kept or self.lead != 0 or self.skipped != 0

    @property
    def grows(self) -> bool:
        """True when elements are added."""
        return self.size != self.kept


@dataclass(frozen=True)
class Plan:
    """How a region is walked: one block of ``block`` elements at a time along axis ``inner``, around it the axes ``outer``, outermost first."""

    sides: tuple[Side, ...]
    outer: tuple[int, ...]
    inner: int
    block: int


def plan_of(region: Region) -> Plan | str:
    """The plan, or why the region has none."""
    op = region.op
    if not isinstance(op, Pad):
        return "the anchor is not pad"
    if region.has_epilogue:
        return "no epilogue is applied here"
    x, y = region.operand(0).view, region.out
    rank = len(y.shape)
    if rank == 0 or y.count == 0:
        return "the result is empty or a scalar"
    sides = []
    for k in range(rank):
        before, after = op.pads[k], op.pads[rank + k]
        kept = x.shape[k] + min(before, 0) + min(after, 0)
        if lowest(kept) < 1:
            return "nothing is left of an axis"
        sides.append(Side(max(before, 0), kept, max(-before, 0), y.shape[k]))
    axes = [k for k in y.order() if y.shape[k] != 1 or sides[k].moves] or [rank - 1]
    block = 1
    while len(axes) > 1 and not sides[axes[-1]].moves and x.strides[axes[-1]] == y.strides[axes[-1]] == block:
        block *= y.shape[axes.pop()]
    return Plan(tuple(sides), tuple(axes[:-1]), axes[-1], block)


class PadKernel(Kernel[None]):
    """See the module's text."""

    name = "pad"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        plan = plan_of(region)
        return plan if isinstance(plan, str) else None

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        plan = _plan(region)
        rows = region.out.count // max(1, region.out.shape[plan.inner] * plan.block)
        alone = 0.0 if self._whole(region, plan) else _ALONE / plan.block
        cycles = _ROW * rows + alone * region.out.count
        return cycles / (target.ghz * 1e9) + memory_seconds(region, target) + 1e-8

    @staticmethod
    def _whole(region: Region, plan: Plan) -> bool:
        """Whether the kept part of a row lies without gaps in operand and result."""
        views = region.operand(0).view, region.out
        return all(v.strides[plan.inner] == plan.block or v.shape[plan.inner] == 1 for v in views)

    def emit(self, region: Region, params: None, target: Target) -> Emitted:
        op, plan = region.op, _plan(region)
        assert isinstance(op, Pad)
        x, y = region.operand(0).view, region.out
        w = Writer()
        w(f"{y.dtype.c} *y = a->p[0];", f"const {x.dtype.c} *x = a->p[1];")
        units = Units.of([y.shape[k] for k in plan.outer], typical(y.shape[plan.inner] * plan.block), target.cores)
        with units.loops(w) as names:
            sources, inside = [], []
            for k, name in zip(plan.outer, names, strict=True):
                side = plan.sides[k]
                source = name
                if side.moves:
                    source = f"s{k}"
                    w(f"const int64_t {source} = {_source(op.mode, side, name)};")
                    if op.mode == "constant" and side.grows:
                        w(f"const int in{k} = {name} >= {side.lead} && {name} < {side.lead + side.kept};")
                        inside.append(f"in{k}")
                sources.append(source)
            w(f"{y.dtype.c} *to = {address('y', [y.strides[k] for k in plan.outer], names)};")
            row = _Row(w, op, plan, x, y, self._whole(region, plan))
            if inside:
                with w.block(f"if (!({' && '.join(inside)}))"):
                    row.fill("0", str(y.shape[plan.inner]))
            with w.block("else" if inside else ""):
                steps = [x.strides[k] for k in (*plan.outer, plan.inner)]
                w(f"const {x.dtype.c} *from = {address('x', steps, [*sources, str(plan.sides[plan.inner].skipped)])};")
                row.copy()
        return Emitted(w.text(), (Out(0), In(0)), units.tasks)


def _plan(region: Region) -> Plan:
    return accepted(plan_of(region))


def _source(mode: str, side: Side, index: str) -> str:
    """C text of the operand's index for the result's; for mode constant it is only right inside."""
    at = f"({index} - {side.lead})" if side.lead else index
    last = side.kept - 1
    if not side.grows or mode == "constant":
        found = at
    elif mode == "edge":
        found = f"({at} < 0 ? 0 : {at} < {last} ? {at} : {last})"
    elif mode == "wrap":
        found = f"({at} % {side.kept} + {side.kept}) % {side.kept}"
    else:
        found = f"({at} < 0 ? -{at} : {at} > {last} ? {2 * last} - {at} : {at})"
        if is_symbolic(side.kept):  # an axis that is too short for its padding repeats its edges
            found = f"({found} < 0 ? 0 : {found} < {last} ? {found} : {last})"
    return f"{found} + {side.skipped}" if side.skipped else found


class _Row:
    """Writes one row; ``to`` and ``from`` point to its first result and its first kept element."""

    def __init__(self, w: Writer, op: Pad, plan: Plan, x: View, y: View, whole: bool) -> None:
        self.w, self.mode, self.side, self.block, self.whole = w, op.mode, plan.sides[plan.inner], plan.block, whole
        self.x_step, self.y_step = x.strides[plan.inner], y.strides[plan.inner]
        self.value = to_memory(literal(op.value, held(y.dtype)), y.dtype)
        self.type = y.dtype.c

    def copy(self) -> None:
        """The kept part and both ends."""
        w, side = self.w, self.side
        end = side.lead + side.kept
        if side.lead:
            self._end("0", str(side.lead))
        if self.whole:
            offset = side.lead * self.block
            w(f"memcpy(to + {offset}, from, {side.kept * self.block} * sizeof({self.type}));")
        else:
            with w.loop("i", side.kept):
                self._move("i + " + str(side.lead) if side.lead else "i", "i")
        if side.size != end:
            self._end(str(end), str(side.size))

    def _end(self, start: str, stop: str) -> None:
        """Results ``start`` to ``stop`` of the row, outside of the kept part."""
        if self.mode == "constant":
            self.fill(start, stop)
            return
        plain = Side(self.side.lead, self.side.kept, 0, self.side.size)
        with self.w.loop("i", stop, start=start):
            self.w(f"const int64_t j = {_source(self.mode, plain, 'i')};")
            self._move("i", "j")

    def fill(self, start: str, stop: str) -> None:
        """The same of the constant."""
        if self.block == 1:
            with self.w.loop("i", stop, start=start):
                self.w(f"to[i * {self.y_step}] = {self.value};")
            return
        with self.w.loop("i", stop, start=start), self.w.loop("k", self.block):
            self.w(f"to[i * {self.y_step} + k] = {self.value};")

    def _move(self, target: str, source: str) -> None:
        """One block."""
        if self.block == 1:
            self.w(f"to[({target}) * {self.y_step}] = from[{source} * {self.x_step}];")
        else:
            self.w(f"memcpy(to + ({target}) * {self.y_step}, from + {source} * {self.x_step}, {self.block} * sizeof({self.type}));")


KERNEL = PadKernel()
