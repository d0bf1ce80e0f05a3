"""Softmax and its logarithm.

Along a contiguous axis a row is three passes over the first cache level (maximum, exponentials and
their sum, scaling), or none at all when the row fits the registers. Across a strided axis the
vector lies along another, contiguous axis. Exponentials are computed once and kept in the result
until they are scaled; lanes behind a row's end count as minus infinity.
"""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.ir.shape import count
from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, View, memory_seconds
from strop.kernels.c.axes import Axes
from strop.kernels.c.rows import (
    Finish,
    Tail,
    Track,
    address,
    indices,
    keep,
    merged,
    outer_axes,
    row_loop,
    rows_per_task,
    tree,
    vectors,
)
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import Writer
from strop.ops.softmax import LogSoftmax, Softmax
from strop.target.base import Target
from strop.target.isa.base import Isa
from strop.target.isa.table import ISAS

#: Estimated cycles of one vector of exponentials.
_EXP_CYCLES = 13.0


@dataclass(frozen=True)
class Plan:
    """How the axes are walked.

    Attributes:
        length: elements of the softmax axis.
        step: elements between neighbours of the softmax axis, per view (result, x, extras); all 1
            or 0 means along it.
        outer: loops around, without the vector axis; strides per view in the same order.
        width: elements of the vector axis; 1 when the softmax axis itself is the vector axis.
        column: elements between neighbours of the vector axis, per view.
    """

    length: int
    step: tuple[int, ...]
    outer: Axes
    width: int
    column: tuple[int, ...]

    @property
    def along(self) -> bool:
        """True when vectors lie along the softmax axis."""
        return self.width == 1

    @property
    def rows(self) -> int:
        """Iterations of the outer loops."""
        return count(self.outer.extents)


def plan_of(region: Region) -> Plan | str:
    """The plan, or why the region is not done here."""
    if not isinstance(region.op, (Softmax, LogSoftmax)):
        return "the anchor is not softmax"
    views: list[View] = [region.out, region.operand(0).view, *(e.view for e in region.extras)]
    if not region.all_floats() or not vectorizable(region.epilogue, [v.dtype for v in views[1:]]):
        return "not f32 or 16-bit floats, or the epilogue has no vector form"
    if region.out.count == 0:
        return "the result is empty"
    rank = len(region.out.shape)
    axis = region.op.axis % rank
    others = [a for a in range(rank) if a != axis]
    step = tuple(v.strides[axis] for v in views)
    length = region.out.shape[axis]
    if step[:2] == (1, 1) or length == 1:
        step = tuple(1 if length == 1 and k < 2 else s for k, s in enumerate(step))
        return Plan(length, step, outer_axes(views, others), 1, (0,) * len(views))
    loops = merged(views, others)
    inner = [s[-1] for s in loops.strides]
    if inner[:2] != [1, 1] or loops.extents[-1] == 1:
        return "neither the axis nor another one is contiguous in both operand and result"
    outer = Axes(loops.extents[:-1], tuple(s[:-1] for s in loops.strides))
    return Plan(length, step, outer, loops.extents[-1], tuple(inner))


@dataclass(frozen=True)
class Params:
    """vectors: per loop iteration along the axis, or side by side across it; 0: the whole row stays
    in registers."""

    vectors: int


class SoftmaxKernel(Kernel[Params]):
    """See the module's text."""

    name = "softmax"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        plan = plan_of(region)
        return plan if isinstance(plan, str) else None

    def space(self, region: Region, target: Target) -> list[Params]:
        plan = _plan(region)
        isa = ISAS[target.isa]
        if not plan.along:
            width = -(-plan.width // isa.lanes)
            return [Params(n) for n in (1, 2, 4) if n <= width]
        whole = -(-plan.length // isa.lanes)
        found = [Params(0)] if whole <= _held(isa) else []
        return found + [Params(n) for n in (4, 2, 1) if n <= whole]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        plan = _plan(region)
        lanes = ISAS[target.isa].lanes
        if plan.along:
            passes = 2.0 if params.vectors == 0 else 5.0 + 2.0 / params.vectors
            cycles = plan.rows * (-(-plan.length // lanes) * (_EXP_CYCLES + passes) + 30.0)
        else:
            blocks = -(-plan.width // lanes)
            cycles = (
                plan.rows
                * blocks
                * (plan.length * (_EXP_CYCLES + 6.0 + 4.0 / params.vectors) + 40.0)
            )
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _plan(region: Region) -> Plan:
    plan = plan_of(region)
    assert isinstance(plan, Plan), plan
    return plan


def _held(isa: Isa) -> int:
    """Vectors of a row that may stay in registers beside what the exponential needs."""
    return isa.registers // 2


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region = region
        self.params = params
        self.target = target
        self.plan = _plan(region)
        self.lanes = ISAS[target.isa].lanes
        self.log = isinstance(region.op, LogSoftmax)
        self.names = ["y", "x", *(f"e{k}" for k in range(len(region.extras)))]
        self.kinds = [v.dtype for v in (region.out, region.operand(0).view, *(e.view for e in region.extras))]
        #: Exponentials are stored in the result's place until they are scaled; a 16-bit one would round them twice.
        self.stores = not self.log and region.out.dtype is dt.f32

    def emitted(self) -> Emitted:
        plan = self.plan
        w = Writer()
        for k, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            w(f"{'' if k == 0 else 'const '}{kind.c} *{name} = a->p[{k}];")
        pointers: tuple[Pointer, ...] = (
            Out(0),
            In(0),
            *(In(self.region.anchors + k) for k in range(len(self.region.extras))),
        )
        blocks = 1 if plan.along else -(-plan.width // (self.params.vectors * self.lanes))
        rows = plan.rows * blocks
        length = plan.length if plan.along else plan.length * self.params.vectors * self.lanes
        per_task = rows_per_task(rows, length, self.target)
        with row_loop(w, rows, per_task) as row:
            if blocks > 1:
                w(
                    f"const int64_t line = row / {blocks}, column = row % {blocks} * {self.params.vectors * self.lanes};"
                )
                row = "line"
            names = indices(w, row, plan.outer.extents, "i")
            for name, kind, strides, column in zip(
                self.names, self.kinds, plan.outer.strides, plan.column, strict=True
            ):
                const = "" if name == "y" else "const "
                start = (
                    address(name, (*strides, column), (*names, "column"))
                    if blocks > 1
                    else address(name, strides, names)
                )
                w(f"{const}{kind.c} *{name}_row = {start};")
            if not plan.along:
                self._across(w, blocks)
            elif self.params.vectors == 0:
                self._registers(w)
            else:
                self._passes(w)
        return Emitted(w.text(), pointers, -(-rows // per_task))

    def _tracks(self, steps: tuple[int, ...]) -> list[Track]:
        return [Track(f"{name}_row", step, kind) for name, step, kind in zip(self.names, steps, self.kinds, strict=True)]

    def _scale(self, w: Writer, total: str, suffix: str = "") -> None:
        """Declares what the exponentials are multiplied with, or what is subtracted from x - max.
        Along the axis ``total`` is one number, across it a vector."""
        if self.plan.along:
            value = f"vlog(vset1({total}))" if self.log else f"vset1(1.0f / {total})"
        else:
            value = f"vlog({total})" if self.log else f"vset1(1.0f) / {total}"
        w(f"const vf scale{suffix} = {value};")

    def _result(self, value: str, suffix: str = "") -> str:
        return f"({value} - scale{suffix})" if self.log else f"({value} * scale{suffix})"

    def _again(self, x: Track, y: Track, at: str, tail: Tail, most: str) -> str:
        """C text of what the result is made of, in the last pass over a row."""
        if self.stores:
            return y.load(at, tail)
        difference = f"{x.load(at, tail)} - {most}"
        return difference if self.log else f"vexp({difference})"

    # ---- along the axis

    def _registers(self, w: Writer) -> None:
        y, x, *extras = self._tracks(self.plan.step)
        whole = list(vectors(w, self.plan.length, self.lanes, 10**9))
        for k, (at, tail, _) in enumerate(whole):
            w(f"vf v{k} = {keep(x.load(at, tail), 'vset1(-INFINITY)', tail)};")
        values = [f"v{k}" for k in range(len(whole))]
        w(f"const vf most = vset1(vhmax({tree('vmax_c', values)}));")
        for v in values:
            w(f"{v} = {v} - most;" if self.log else f"{v} = vexp({v} - most);")
        total = tree("+", [f"vexp({v})" if self.log else v for v in values])
        self._scale(w, f"vhadd({total})")
        finish = Finish(w, self.region.epilogue, y, extras)
        for value, (at, tail, _) in zip(values, whole, strict=True):
            with w.block(""):
                finish.store(at, self._result(value), tail)

    def _passes(self, w: Writer) -> None:
        y, x, *extras = self._tracks(self.plan.step)
        length, unroll = self.plan.length, self.params.vectors
        w("vf " + ", ".join(f"m{u} = vset1(-INFINITY)" for u in range(unroll)) + ";")
        for at, tail, u in vectors(w, length, self.lanes, unroll):
            w(f"m{u} = vmax_c({keep(x.load(at, tail), 'vset1(-INFINITY)', tail)}, m{u});")
        w(f"const vf most = vset1(vhmax({tree('vmax_c', [f'm{u}' for u in range(unroll)])}));")
        w("vf " + ", ".join(f"s{u} = vzero()" for u in range(unroll)) + ";")
        for at, tail, u in vectors(w, length, self.lanes, unroll):
            with w.block(""):
                w(f"const vf v = vexp({keep(x.load(at, tail), 'vset1(-INFINITY)', tail)} - most);")
                w(f"s{u} = s{u} + v;")
                if self.stores:
                    w(y.store(at, "v", tail))
        self._scale(w, f"vhadd({tree('+', [f's{u}' for u in range(unroll)])})")
        finish = Finish(w, self.region.epilogue, y, extras)
        for at, tail, _ in vectors(w, length, self.lanes, unroll):
            with w.block(""):
                w(f"const vf v = {self._again(x, y, at, tail, 'most')};")
                finish.store(at, self._result("v"), tail)

    # ---- across the axis

    def _across(self, w: Writer, blocks: int) -> None:
        """A block of columns; the last block may be narrower."""
        wide = self.params.vectors * self.lanes
        rest = self.plan.width - (blocks - 1) * wide
        if blocks == 1 or rest == wide:
            self._columns(w, rest)
            return
        with w.block(f"if (column < {self.plan.width - rest})"):
            self._columns(w, wide)
            w("continue;")
        self._columns(w, rest)

    def _columns(self, w: Writer, width: int) -> None:
        plan = self.plan
        found = list(vectors(w, width, self.lanes, 10**9))

        def tracks() -> list[Track]:
            return [
                Track(f"{address(f'{name}_row', (step,), ('t',))}", column, kind)
                for name, step, column, kind in zip(self.names, plan.step, plan.column, self.kinds, strict=True)
            ]

        y, x, *extras = tracks()
        count = range(len(found))
        w("vf " + ", ".join(f"m{v} = vset1(-INFINITY), s{v} = vzero()" for v in count) + ";")
        with w.loop("t", plan.length):
            for v, (at, tail, _) in enumerate(found):
                w(f"m{v} = vmax_c({x.load(at, tail)}, m{v});")
        with w.loop("t", plan.length):
            for v, (at, tail, _) in enumerate(found):
                with w.block(""):
                    w(f"const vf v = vexp({x.load(at, tail)} - m{v});", f"s{v} = s{v} + v;")
                    if self.stores:
                        w(y.store(at, "v", tail))
        for v in count:
            self._scale(w, f"s{v}", str(v))
        with w.loop("t", plan.length):
            finish = Finish(w, self.region.epilogue, y, extras)
            for v, (at, tail, _) in enumerate(found):
                with w.block(""):
                    w(f"const vf v = {self._again(x, y, at, tail, f'm{v}')};")
                    finish.store(at, self._result("v", str(v)), tail)


KERNEL = SoftmaxKernel()
