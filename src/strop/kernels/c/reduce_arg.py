"""Index of the largest or smallest f32 along an axis of any layout; NaN wins, as in numpy.

Every lane remembers its best element and where it was. Vectors lie along an axis that stays (``across``) or along the searched one
(``along``), where the lanes are compared at the end.
"""

from __future__ import annotations

from strop.ir.expr import Input
from strop.kernels.base import Emitted, Kernel, Region
from strop.kernels.c.reduce import (
    Params,
    block_widths,
    names_of,
    plan_of,
    plans_of,
    pointers_of,
    promising,
    seconds,
    tasks_of,
    walked,
    widths,
)
from strop.kernels.c.rows import Track, vectors
from strop.kernels.c.writer import Writer
from strop.ops.reduce import ArgReduce
from strop.target.base import Target
from strop.target.isa.table import ISAS


class ReduceArg(Kernel[Params]):
    """See the module's text."""

    name = "reduce_arg"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, ArgReduce):
            return "the anchor is not arg_reduce"
        if region.operand(0).view.dtype.name != "f32":
            return "not f32"
        if region.epilogue != Input(0) or region.out.dtype.name != "i64":
            return "indices pass no epilogue here"
        if region.out.count == 0 or region.operand(0).view.shape[region.op.axis] >= 1 << 31:
            return "nothing to search, or more than an i32 counts"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        found = [Params(way, n) for way, plan in plans_of(region).items() for n in widths(way, plan, target) if n <= 4]
        return promising(found, lambda p: self.cost(region, p, target))

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return seconds(plans_of(region)[params.way], params, 3.0, region, target)

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        assert isinstance(region.op, ArgReduce)
        self.region = region
        self.params = params
        self.target = target
        self.op = region.op
        self.plan = plan_of(region, params)
        self.lanes = ISAS[target.isa].lanes
        self.w = Writer()

    def emitted(self) -> Emitted:
        w, plan = self.w, self.plan
        kinds = ["int64_t", *["float"] * (len(names_of(self.region)) - 1)]
        with walked(w, self.region, plan, self.params, self.target, kinds) as blocks:
            if self.params.way == "along":
                self._along()
            else:
                whole, last = block_widths(plan, self.params, blocks, self.lanes)
                if last != whole:
                    with w.block(f"if (column < {plan.width - last})"):
                        self._across(whole)
                        w("continue;")
                self._across(last)
        tasks = tasks_of(plan, self.params, self.target)
        return Emitted(w.text(), pointers_of(self.region), tasks)

    def _better(self, x: str, best: str, also: str = "|", both: str = "&") -> str:
        """C text of whether element ``x``, later than ``best``, replaces it: masks of lanes, or one truth value."""
        sign = ">" if self.op.kind == "max" else "<"
        if self.op.last:
            return f"({x} {sign}= {best}) {also} ({x} != {x})"
        return f"({x} {sign} {best}) {also} (({x} != {x}) {both} ({best} == {best}))"

    # ---- across

    def _across(self, width: int) -> None:
        plan, w = self.plan, self.w
        loads = [(at, tail) for at, tail, _ in vectors(w, width, self.lanes, 10**9)]
        first = Track("x_row", plan.step[1])
        for v, (at, tail) in enumerate(loads):
            w(f"vf best{v} = {first.load(at, tail)};", f"vi where{v} = {{0}};")
        with w.loop("r", plan.count, start=1):
            track = Track(f"x_row + r * {plan.folded.strides[0][0]}", plan.step[1])
            w("const vi here = (vi){0} + (int32_t)r;")
            for v, (at, tail) in enumerate(loads):
                with w.block(""):
                    w(f"const vf x = {track.load(at, tail)};", f"const vi better = {self._better('x', f'best{v}')};")
                    w(f"best{v} = vselect(better, x, best{v});", f"where{v} = vselect_i(better, here, where{v});")
        for v, (at, tail) in enumerate(loads):
            step = plan.step[0]
            place = at if step == 1 else f"({at}) * {step}"
            lane = "k" if step == 1 else f"k * {step}"
            with w.loop("k", tail or "VL"):
                w(f"y_row[{place} + {lane}] = where{v}[k];")

    # ---- along

    def _along(self) -> None:
        plan, w = self.plan, self.w
        stride = plan.folded.strides[0][0]
        track = Track("x_row", stride)
        most = plan.count // self.lanes
        sets = min(self.params.vectors, most)
        w("float best = x_row[0];", "int64_t where = 0;")
        if sets:
            for u in range(sets):
                at = str(u * self.lanes)
                w(f"vf best{u} = {track.load(at)};", f"vi where{u} = viota() + {at};")
            start = sets * self.lanes
            looped = most // sets * sets * self.lanes
            if looped > start:
                with w.loop("j", looped, sets * self.lanes, start=start):
                    for u in range(sets):
                        self._round(track, f"j + {u * self.lanes}" if u else "j", u)
            for v in range(looped // self.lanes, most):
                self._round(track, str(v * self.lanes), v % sets)
            self._lanes(sets)
        if most * self.lanes < plan.count:
            with w.loop("j", plan.count, start=max(most * self.lanes, 1)):
                w(f"const float x = x_row[{'j' if stride == 1 else f'j * {stride}'}];")
                with w.block(f"if ({self._better('x', 'best', '||', '&&')})"):
                    w("best = x;", "where = j;")
        w("*y_row = where;")

    def _round(self, track: Track, at: str, u: int) -> None:
        """Compares the vector at ``at`` with the best of set ``u``."""
        w = self.w
        with w.block(""):
            w(f"const vf x = {track.load(at)};", f"const vi better = {self._better('x', f'best{u}')};")
            w(f"best{u} = vselect(better, x, best{u});", f"where{u} = vselect_i(better, viota() + (int32_t)({at}), where{u});")

    def _lanes(self, sets: int) -> None:
        """Finds the best among all lanes of all sets; of equal ones the first or the last by index."""
        w = self.w
        nearer, sign = ">" if self.op.last else "<", ">" if self.op.kind == "max" else "<"
        w("best = best0[0];", "where = where0[0];")
        for u in range(sets):
            with w.loop("k", "VL", start=0 if u else 1):
                w(f"const float x = best{u}[k];", f"const int64_t at = where{u}[k];")
                w(f"const bool same = x == best || (x != x && best != best), nearer = at {nearer} where;")
                with w.block(f"if (same ? nearer : (x {sign} best || x != x))"):
                    w("best = x;", "where = at;")


KERNEL = ReduceArg()
