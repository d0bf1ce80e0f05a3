"""Reductions of f32 over any axes of any layout, epilogue fused.

``across``: vectors lie along an axis that stays, so that every lane folds numbers of its own. ``along``: vectors lie along an axis that
goes, and lanes are folded at the end of a row. Which of them reads consecutive memory depends on the layout. Long sums are made of shorter
ones, so that rounding errors stay small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.expr import Expr, Input
from strop.ir.op import Op
from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, memory_seconds
from strop.kernels.c.axes import Axes
from strop.kernels.c.rows import (
    Finish,
    Tail,
    Track,
    address,
    indices,
    keep,
    nest,
    part,
    row_loop,
    rows_per_task,
    tree,
    vectors,
)
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import ScalarC, Writer, literal
from strop.kernels.extent import SymbolicError, highest, is_symbolic, typical
from strop.ops.reduce import ArgReduce, Reduce
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Numbers that are summed before the sum is added to a total.
_CHUNK = 256


@dataclass(frozen=True)
class Fold:
    """How a kind folds. Texts name the accumulator ``{a}`` and the element ``{x}``.

    Attributes:
        start: accumulator at the beginning.
        step: the accumulator with one element more.
        join: infix operator or function that joins two accumulators.
        lanes: instruction that folds a vector's lanes.
        final: the result, as a vector and as a number; ``{n}`` is the count.
    """

    start: float
    step: str
    join: str
    lanes: str
    final: tuple[str, str] = ("{a}", "{a}")


FOLDS = {
    "sum": Fold(0.0, "{a} + {x}", "+", "vhadd"),
    "mean": Fold(0.0, "{a} + {x}", "+", "vhadd", ("({a} / vset1({n}))", "{a} / {n}")),
    "max": Fold(-float("inf"), "vmax({a}, {x})", "vmax", "vhmax"),
    "min": Fold(float("inf"), "vmin({a}, {x})", "vmin", "vhmin"),
    "prod": Fold(1.0, "{a} * {x}", "*", "vhmul"),
    "l1": Fold(0.0, "{a} + vabs({x})", "+", "vhadd"),
    "l2": Fold(0.0, "vfma({x}, {x}, {a})", "+", "vhadd", ("vsqrt({a})", "sqrtf({a})")),
    "sumsq": Fold(0.0, "vfma({x}, {x}, {a})", "+", "vhadd"),
    "logsum": Fold(0.0, "{a} + {x}", "+", "vhadd", ("vlog({a})", "logf({a})")),
    "logsumexp": Fold(0.0, "{a} + vexp({x} - {top})", "+", "vhadd", ("(vlog({a}) + {top})", "logf({a}) + {top}")),
}

#: Kinds for which the zeros that a partial load puts in the other lanes change nothing.
_ZERO_IS_NEUTRAL = ("sum", "mean", "l1", "l2", "sumsq", "logsum")


@dataclass(frozen=True)
class Plan:
    """How the axes are walked. Views are numbered result, x, extras.

    Attributes:
        outer: axes that stay, without the vector's; strides per view.
        width: elements of the vector's axis, when it stays; else 1.
        step: elements between neighbours along the vector's axis, per view.
        folded: axes that go, innermost last; strides of x.
    """

    outer: Axes
    width: int
    step: tuple[int, ...]
    folded: Axes

    @property
    def rows(self) -> int:
        """Iterations of the outer loops."""
        return sh.count(self.outer.extents)

    @property
    def count(self) -> int:
        """Elements folded to one."""
        return sh.count(self.folded.extents)


def axes_of(op: Op, rank: int) -> tuple[int, ...] | None:
    """The axes that go; None when the op is no reduction."""
    if isinstance(op, Reduce):
        return tuple(sorted(a % rank for a in op.axes)) if rank else ()
    return (op.axis % rank,) if isinstance(op, ArgReduce) else None


def plans_of(region: Region) -> dict[str, Plan]:
    """The plans that the layout allows: ``across`` and ``along``."""
    assert isinstance(region.op, (Reduce, ArgReduce))
    x = region.operand(0).view
    rank = len(x.shape)
    gone = axes_of(region.op, rank) or ()
    stay = [a for a in range(rank) if a not in gone]
    places = stay if region.op.keepdims else list(range(len(stay)))
    views = [part(v, places) for v in (region.out, *(e.view for e in region.extras))]
    views.insert(1, part(x, stay))
    outer = Axes.merged(views)
    inner = part(x, gone)
    folded = Axes.merged([inner]) if gone else Axes((1,), ((1,),))
    plans = {}
    if stay and sh.count(views[0].shape) > 1:
        steps = [s[1] for s in zip(*outer.strides, strict=True)]
        lengths = outer.extents
        best = max(range(len(lengths)), key=lambda k: (steps[k] == 1, not is_symbolic(lengths[k]), typical(lengths[k])))
        left = [k for k in range(len(lengths)) if k != best]
        others = Axes(tuple(lengths[k] for k in left), tuple(tuple(s[k] for k in left) for s in outer.strides))
        plans["across"] = Plan(others, lengths[best], tuple(s[best] for s in outer.strides), folded)
    if sh.count(folded.extents) > 1 or not plans:
        plans["along"] = Plan(outer, 1, (0,) * len(views), folded)
    return plans


def plan_of(region: Region, params: Params) -> Plan:
    """The plan of the way; SymbolicError when a region of run-time sizes does not have it at every size."""
    found = plans_of(region).get(params.way)
    if found is None:
        raise SymbolicError(f"vectors do not lie {params.way} the axis at every size")
    return found


@dataclass(frozen=True)
class Params:
    """way: ``across`` or ``along``; vectors: side by side across, accumulators along."""

    way: str
    vectors: int


class ReduceKernel(Kernel[Params]):
    """See the module's text."""

    name = "reduce"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, Reduce):
            return "the anchor is not reduce"
        types = [dt.f32, *(e.view.dtype for e in region.extras)]
        if not region.all_floats() or not vectorizable(region.epilogue, types):
            return "not f32 or 16-bit floats, or the epilogue has no vector form"
        if region.out.count == 0 or region.operand(0).view.count == 0:
            return "nothing to reduce"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        found = [Params(way, n) for way, plan in plans_of(region).items() for n in widths(way, plan, target)]
        return promising(found, lambda p: self.cost(region, p, target))

    def cost(self, region: Region, params: Params, target: Target) -> float:
        assert isinstance(region.op, Reduce)
        per_vector = 15.0 if region.op.kind == "logsumexp" else 1.0
        return seconds(plans_of(region)[params.way], params, per_vector, region, target)

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def widths(way: str, plan: Plan, target: Target) -> list[int]:
    """Numbers of vectors worth trying."""
    lanes = ISAS[target.isa].lanes
    most = plan.width if way == "across" else plan.folded.extents[-1]
    return [n for n in (1, 2, 4, 8) if n == 1 or n * lanes <= most + lanes - 1]


def promising(found: list[Params], cost: Callable[[Params], float]) -> list[Params]:
    """Cheapest first, without what looks hopeless."""
    found = sorted(found, key=cost)
    return [p for p in found if cost(p) <= 6.0 * cost(found[0])]


def seconds(plan: Plan, params: Params, per_vector: float, region: Region, target: Target) -> float:
    """Estimated time: loads of consecutive or scattered elements, and the end of each row."""
    lanes = ISAS[target.isa].lanes
    step = plan.step[1] if params.way == "across" else plan.folded.strides[0][-1]
    load = per_vector + (0.5 if step in (0, 1) else 1.5 * lanes) + 0.5 / params.vectors
    if params.way == "across":
        ends = 10.0 * plan.rows * -(-plan.width // lanes)
        cycles = plan.rows * plan.count * -(-plan.width // lanes) * load + ends
    else:
        runs = plan.count // plan.folded.extents[-1]
        cycles = plan.rows * (runs * -(-plan.folded.extents[-1] // lanes) * load + 25.0)
    return max(cycles / (target.ghz * 1e9), memory_seconds(region, target)) + 1e-8


@contextmanager
def walked(w: Writer, region: Region, plan: Plan, params: Params, target: Target, kinds: Sequence[str]) -> Iterator[int]:
    """Declares pointers and loops over the rows of a task; yields 0, or the number of blocks a row is cut into along the vector's
    axis (then ``column`` is the first element). Pointers of the row are ``y_row``, ``x_row``, ``e0_row``...

    The number of tasks is what ``tasks_of`` answers.
    """
    names = names_of(region)
    for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        w(f"{'' if k == 0 else 'const '}{kind} *{name} = a->p[{k}];")
    blocks, rows, per_task = _division(plan, params, target)
    with row_loop(w, rows, per_task) as row:
        if blocks > 1:
            wide = params.vectors * ISAS[target.isa].lanes
            w(f"const int64_t line = row / {blocks}, column = row % {blocks} * {wide};")
            row = "line"
        places = indices(w, row, plan.outer.extents, "i") if plan.outer.extents else []
        for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
            strides, terms = plan.outer.strides[k], list(places)
            if blocks > 1:
                strides, terms = (*strides, plan.step[k]), [*terms, "column"]
            w(f"{'' if k == 0 else 'const '}{kind} *{name}_row = {address(name, strides, terms)};")
        yield blocks


def names_of(region: Region) -> list[str]:
    """Names of the pointers: result, x, extras."""
    return ["y", "x", *(f"e{k}" for k in range(len(region.extras)))]


def pointers_of(region: Region) -> tuple[Pointer, ...]:
    """What the pointers are."""
    return (Out(0), In(0), *(In(region.anchors + k) for k in range(len(region.extras))))


def _division(plan: Plan, params: Params, target: Target) -> tuple[int, int, int]:
    """Blocks of a row, rows times blocks, and those per task."""
    lanes = ISAS[target.isa].lanes
    wide = params.vectors * lanes
    blocks = -(-plan.width // wide) if params.way == "across" else 1
    rows = plan.rows * blocks
    length = plan.count * (min(typical(plan.width), wide) if params.way == "across" else 1)
    return blocks, rows, rows_per_task(rows, length, target)


def tasks_of(plan: Plan, params: Params, target: Target) -> int:
    """Number of tasks that ``walked`` loops over."""
    _, rows, per_task = _division(plan, params, target)
    return -(-rows // per_task)


def block_widths(plan: Plan, params: Params, blocks: int, lanes: int) -> tuple[int, int]:
    """Elements along the vector's axis of a block, and of the last block."""
    wide = params.vectors * lanes
    return (wide, plan.width - (blocks - 1) * wide) if blocks > 1 else (plan.width, plan.width)


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        assert isinstance(region.op, Reduce)
        self.region = region
        self.params = params
        self.target = target
        self.kind = region.op.kind
        self.kinds = [v.dtype for v in (region.out, region.operand(0).view, *(e.view for e in region.extras))]
        self.plan = plan_of(region, params)
        self.lanes = ISAS[target.isa].lanes
        self.w = Writer()

    def emitted(self) -> Emitted:
        w, plan = self.w, self.plan
        with walked(w, self.region, plan, self.params, self.target, [kind.c for kind in self.kinds]) as blocks:
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

    @property
    def _count(self) -> str:
        count = self.plan.count
        return f"(float){count}" if is_symbolic(count) else literal(float(count), dt.f32)

    # ---- across

    def _across(self, width: int) -> None:
        w = self.w
        loads = [(at, tail) for at, tail, _ in vectors(w, width, self.lanes, 10**9)]
        tops = [""] * len(loads)
        if self.kind == "logsumexp":
            most = self._fold_across(FOLDS["max"], loads, "m", tops)
            tops = [f"top{v}" for v in range(len(loads))]
            for top, name in zip(tops, most, strict=True):
                w(f"const vf {top} = vselect(vabs({name}) < vset1(INFINITY), {name}, vzero());")
        fold = FOLDS[self.kind]
        totals = self._fold_across(fold, loads, "s", tops)
        tracks = [Track(f"{n}_row", step, kind) for n, step, kind in zip(names_of(self.region), self.plan.step, self.kinds, strict=True)]
        finish = Finish(w, self.region.epilogue, tracks[0], tracks[2:])
        for (at, tail), total, top in zip(loads, totals, tops, strict=True):
            with w.block(""):
                w(f"const vf v = {fold.final[0].format(a=total, n=self._count, top=top)};")
                finish.store(at, "v", tail)

    def _fold_across(self, fold: Fold, loads: list[tuple[str, Tail]], name: str, tops: list[str]) -> list[str]:
        """Folds every vector of the block; returns the C texts of the results."""
        plan, w = self.plan, self.w
        inner = plan.folded.extents[-1]
        unroll = max(1, min(8 // len(loads), typical(inner)))
        sets = [[f"{name}{v}_{u}" for v in range(len(loads))] for u in range(unroll)]
        results = [tree(fold.join, [a[v] for a in sets]) for v in range(len(loads))]
        if fold.join != "+" or highest(plan.count) <= 2 * _CHUNK:
            self._declare(sets, fold)
            with nest(w, plan.folded.extents[:-1], "r") as outer:
                self._run(fold, loads, sets, outer, (0, inner), tops)
            return results
        totals = [f"{name}{v}" for v in range(len(loads))]
        self._declare([totals], fold)
        with nest(w, plan.folded.extents[:-1], "r") as outer, self._chunks(inner) as bounds:
            self._declare(sets, fold)
            self._run(fold, loads, sets, outer, bounds, tops)
            w(*(f"{total} = {total} + {result};" for total, result in zip(totals, results, strict=True)))
        return totals

    @contextmanager
    def _chunks(self, inner: int) -> Iterator[tuple[int | str, int | str]]:
        """Loops over parts of the innermost folded axis; yields where a part starts and stops."""
        if highest(inner) <= 2 * _CHUNK:
            yield 0, inner
            return
        with self.w.loop("chunk", inner, _CHUNK):
            self.w(f"const int64_t stop = chunk + {_CHUNK} < {inner} ? chunk + {_CHUNK} : {inner};")
            yield "chunk", "stop"

    def _declare(self, sets: list[list[str]], fold: Fold) -> None:
        start = "vzero()" if fold.start == 0.0 else f"vset1({literal(fold.start, dt.f32)})"
        self.w("vf " + ", ".join(f"{n} = {start}" for names in sets for n in names) + ";")

    def _run(
        self,
        fold: Fold,
        loads: list[tuple[str, Tail]],
        sets: list[list[str]],
        outer: list[str],
        bounds: tuple[int | str, int | str],
        tops: list[str],
    ) -> None:
        """Folds a part of the innermost folded axis; every round adds one element to each set of accumulators."""
        w = self.w
        *strides, stride = self.plan.folded.strides[0]
        base = address("x_row", strides, outer)
        start, stop = bounds
        unroll = len(sets)

        def element(u: int) -> None:
            place = f"(r + {u}) * {stride}" if u else f"r * {stride}"
            track = Track(f"{base} + {place}", self.plan.step[1], self.kinds[1])
            for v, (at, tail) in enumerate(loads):
                a, x = sets[u][v], track.load(at, tail)
                if fold.step.count("{x}") == 1:
                    w(f"{a} = {fold.step.format(a=a, x=x, top=tops[v])};")
                    continue
                with w.block(""):
                    w(f"const vf x = {x};", f"{a} = {fold.step.format(a=a, x='x', top=tops[v])};")

        if isinstance(stop, int) and stop % unroll == 0:
            with w.loop("r", stop, unroll):
                for u in range(unroll):
                    element(u)
            return
        with w.block(""):
            w(f"int64_t r = {start};")
            with w.block(f"for (; r + {unroll} <= {stop}; r += {unroll})"):
                for u in range(unroll):
                    element(u)
            with w.block(f"for (; r < {stop}; r++)"):
                element(0)

    # ---- along

    def _along(self) -> None:
        w, fold = self.w, FOLDS[self.kind]
        top = ""
        if self.kind == "logsumexp":
            most = self._fold_along(FOLDS["max"], "m", "")
            w(f"const float most = {most};", "const float peak = fabsf(most) < INFINITY ? most : 0.0f;", "const vf top = vset1(peak);")
            top = "top"
        total = self._fold_along(fold, "s", top)
        w(f"const float total = {total};")
        final = fold.final[1].format(a="total", n=self._count, top="peak")
        w(f"const float value = {final};")

        def load(node: Expr, index: list[str]) -> str:
            assert isinstance(node, Input)
            return "value" if node.index == 0 else f"*e{node.index - 1}_row"

        types = [dt.f32, *self.kinds[2:]]
        w(f"*y_row = {ScalarC(types, load, emit=w).print(self.region.epilogue, self.kinds[0])};")

    def _fold_along(self, fold: Fold, name: str, top: str) -> str:
        """Folds a row; returns the C text of the number."""
        plan, w = self.plan, self.w
        names = [f"{name}{u}" for u in range(self.params.vectors)]
        self._declare([names], fold)
        *strides, stride = plan.folded.strides[0]
        with nest(w, plan.folded.extents[:-1], "r") as outer:
            track = Track(address("x_row", strides, outer), stride, self.kinds[1])
            for at, tail, u in vectors(w, plan.folded.extents[-1], self.lanes, self.params.vectors):
                with w.block(""):
                    w(f"const vf x = {track.load(at, tail)};")
                    value = fold.step.format(a=names[u], x="x", top=top)
                    w(f"{names[u]} = {keep(value, names[u], 0 if self.kind in _ZERO_IS_NEUTRAL and not top else tail)};")
        return f"{fold.lanes}({tree(fold.join, names)})"


KERNEL = ReduceKernel()
