"""Resampling of f32 along one or two axes by tables of taps, vectors along another axis (channels, where they lie last), epilogue fused.

Indices and weights of every position are computed when the kernel is emitted and stored with the weights; those of an axis whose size
only a run knows are computed by the kernel, of the last axis once per call, of the outer one row by row. ``direct`` sums all taps at
every result; ``rows`` sums along the outer resized axis first, a whole input row into scratch, and then along the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, Load
from strop.ir.loops import Loop
from strop.kernels.base import (
    Emitted,
    In,
    Kernel,
    Out,
    Packed,
    Pointer,
    Region,
    View,
    memory_seconds,
)
from strop.kernels.c.rows import (
    Finish,
    Tail,
    Track,
    address,
    indices,
    row_loop,
    rows_per_task,
    vectors,
)
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import ScalarC, Writer
from strop.kernels.extent import dims_of, highest, is_symbolic, typical
from strop.ops.resize import Resize
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Most taps along an axis that are unrolled.
_UNROLL = 4


@dataclass(frozen=True)
class Params:
    """way: ``direct`` or ``rows``; vectors: side by side along the vector's axis."""

    way: str
    vectors: int


@dataclass(frozen=True)
class _Plan:
    """How the axes are walked.

    Attributes:
        lane: the vector's axis.
        resized: the one or two resized axes, the outer one first.
        around: the others.
        taps: taps along each resized axis.
    """

    lane: int
    resized: tuple[int, ...]
    around: tuple[int, ...]
    taps: tuple[int, ...]


def _plan(region: Region) -> _Plan | str:
    if not isinstance(region.op, Resize):
        return "the anchor is not resize"
    op, x, y = region.op, region.operand(0).view, region.out
    if not region.all_floats() or not vectorizable(region.epilogue, [dt.f32, *(e.view.dtype for e in region.extras)]):
        return "not f32 or 16-bit floats, or the epilogue has no vector form"
    if op.coordinates == "tf_crop_and_resize":
        return "positions outside the operand get another value"
    if y.count == 0 or x.count == 0:
        return "nothing to resize"
    axes = op.resized(x.type)
    if not 1 <= len(axes) <= 2:
        return f"{len(axes)} axes are resized, not 1 or 2"
    free = [a for a in range(len(x.shape)) if a not in axes]
    if not free:
        return "no axis is left alone"
    lane = max(free, key=lambda a: (x.strides[a] == 1 and x.shape[a] > 1, not is_symbolic(x.shape[a]), typical(x.shape[a])))
    if is_symbolic(x.shape[lane]):
        return "the length of the axis that vectors lie along is not fixed"
    resized = tuple(sorted(axes, key=lambda a: (-highest(y.strides[a]), a)))
    around = tuple(a for a in free if a != lane)
    return _Plan(lane, resized, around, tuple(op.taps(a)[1] for a in resized))


class ResizeKernel(Kernel[Params]):
    """See the module's text."""

    name = "resize"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        plan = _plan(region)
        return plan if isinstance(plan, str) else None

    def space(self, region: Region, target: Target) -> list[Params]:
        plan = _plan(region)
        assert isinstance(plan, _Plan)
        width = -(-region.out.shape[plan.lane] // ISAS[target.isa].lanes)
        ways = ("direct", "rows") if len(plan.taps) == 2 and min(plan.taps) > 1 else ("direct",)
        found = [Params(way, n) for way in ways for n in (1, 2, 4) if n <= width]
        return sorted(found, key=lambda p: self.cost(region, p, target))

    def cost(self, region: Region, params: Params, target: Target) -> float:
        plan = _plan(region)
        assert isinstance(plan, _Plan)
        x, y = region.operand(0).view, region.out
        lanes = ISAS[target.isa].lanes
        load = 1.0 if x.strides[plan.lane] == 1 else 1.5 * lanes
        vectors = -(-y.shape[plan.lane] // lanes)
        rows = y.count // (y.shape[plan.lane] * y.shape[plan.resized[-1]])
        last = plan.resized[-1]
        if params.way == "direct":
            cycles = rows * y.shape[last] * vectors * (sh.count(plan.taps) * load + 5.0 + 3.0 / params.vectors)
        else:
            down = x.shape[last] * (plan.taps[0] * load + 2.0)
            cycles = rows * vectors * (down + y.shape[last] * (plan.taps[1] + 5.0 + 3.0 / params.vectors))
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target)) + 1e-8

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


class _Emitter:
    """Holds what the pieces of one emission share. Views are numbered result, x, extras."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        plan = _plan(region)
        assert isinstance(plan, _Plan) and isinstance(region.op, Resize)
        self.region, self.params, self.target, self.plan, self.op = region, params, target, plan, region.op
        self.lanes = ISAS[target.isa].lanes
        self.views: list[View] = [region.out, region.operand(0).view, *(e.view for e in region.extras)]
        self.names = ["y", "x", *(f"e{k}" for k in range(len(region.extras)))]
        self.pointers: list[Pointer] = [Out(0), In(0), *(In(region.anchors + k) for k in range(len(region.extras)))]
        self.width = region.out.shape[plan.lane]
        self.wide = params.vectors * self.lanes
        self.weighted = region.op.mode != "nearest"
        self.w = Writer()

    def emitted(self) -> Emitted:
        w, plan, shape = self.w, self.plan, self.region.out.shape
        for k, name in enumerate(self.names):
            w(f"{'' if k == 0 else 'const '}{self.views[k].dtype.c} *{name} = a->p[{k}];")
        for name, axis in zip(("row", "column")[-len(plan.resized) :], plan.resized, strict=True):
            if self._moves(axis):
                continue
            index, weight = self.op.table(self.views[1].shape[axis], axis)
            w(f"const int32_t *{name}s = a->p[{len(self.pointers)}];")
            self.pointers.append(Packed(index.astype(np.int32)))
            if self.weighted:
                w(f"const float *{name}_weights = a->p[{len(self.pointers)}];")
                self.pointers.append(Packed(weight.astype(np.float32)))
        scratch = 0
        if self.params.way == "rows":
            scratch = self.views[1].shape[plan.resized[-1]] * self.wide * 4
            w("float *folded = a->scratch;")
        if self._moves(plan.resized[-1]):
            scratch = self._column_table(scratch)
        axes = [*plan.around, *plan.resized[:-1]]
        extents = [shape[a] for a in axes]
        rows = sh.count(extents)
        per_task = rows_per_task(rows, shape[plan.resized[-1]] * self.width * sh.count(plan.taps), self.target)
        with row_loop(w, rows, per_task) as row:
            places = indices(w, row, extents, "o") if extents else []
            for k, (name, view) in enumerate(zip(self.names, self.views, strict=True)):
                moving = plan.around if k == 1 else axes
                start = address(name, [view.strides[a] for a in moving], places[: len(moving)])
                w(f"{'' if k == 0 else 'const '}{view.dtype.c} *{name}_row = {start};")
            if len(plan.resized) == 2 and self._moves(plan.resized[0]):
                w(f"int32_t r[{plan.taps[0]}];", *([f"float r_weight[{plan.taps[0]}];"] if self.weighted else []))
                self._position(plan.resized[0], plan.taps[0], places[-1], "r", "r_weight")
            elif len(plan.resized) == 2:
                self._taps("row", "r", places[-1], plan.taps[0])
            (self._direct if self.params.way == "direct" else self._folded)()
        return Emitted(w.text(), tuple(self.pointers), -(-rows // per_task), scratch)

    def _moves(self, axis: int) -> bool:
        """Whether only a run knows the sizes of a resized axis."""
        return is_symbolic(self.views[0].shape[axis], self.views[1].shape[axis])

    def _column_table(self, scratch: int) -> int:
        """Computes indices and weights along the last axis into scratch, from byte ``scratch`` on; returns where they end."""
        w, axis, taps = self.w, self.plan.resized[-1], self.plan.taps[-1]
        size = -(-self.region.out.shape[axis] * taps * 4 // 64) * 64
        w(f"int32_t *columns = (int32_t *)((char *)a->scratch + {scratch});")
        if self.weighted:
            w(f"float *column_weights = (float *)((char *)a->scratch + {scratch + size});")
        with w.loop("o", self.region.out.shape[axis]):
            at = f" + o * {taps}" if taps > 1 else " + o"
            self._position(axis, taps, "o", f"(columns{at})", f"(column_weights{at})")
        return scratch + size * (2 if self.weighted else 1)

    def _position(self, axis: int, taps: int, position: str, index: str, weight: str) -> None:
        """Computes the taps of one position into the arrays ``index`` and ``weight``, by the op's own loop program."""
        w = self.w
        sizes = dims_of((self.region.out.shape[axis], self.views[1].shape[axis]))
        stages = {s.name: s for s in self.op.axis_stages(sizes[1], Loop("position", sizes[0]), Loop("tap", taps), axis)}
        named = {name: stage.dtype for name, stage in stages.items()}

        def load(node: Expr, _: list[str]) -> str:
            assert isinstance(node, Load) and isinstance(node.source, str)
            return node.source

        def text(expr: Expr, kind: DType) -> str:
            return ScalarC([], load, {**named, "acc": dt.f64}).value(expr, kind)

        with w.block(""):
            w(f"const int64_t position = {position};")
            w(f"const double at{axis} = {text(stages[f'at{axis}'].body, dt.f64)};")
            total = stages.get(f"sum{axis}")
            if total is not None:
                w("double acc = 0;")
                with w.loop("tap", taps):
                    w(f"acc += {text(total.body, dt.f64)};")
                w(f"const double sum{axis} = {text(total.final, dt.f64)};")
            with w.loop("tap", taps):
                w(f"{index}[tap] = (int32_t){text(stages[f'index{axis}'].body, dt.i64)};")
                if self.weighted:
                    w(f"{weight}[tap] = (float){text(stages[f'weight{axis}'].body, dt.f64)};")

    def _taps(self, name: str, short: str, position: str, taps: int) -> None:
        """Declares pointers ``short`` and ``short``_weight to the taps of a position."""
        at = f" + {position} * {taps}" if taps > 1 else f" + {position}"
        self.w(f"const int32_t *{short} = {name}s{at};")
        if self.weighted:
            self.w(f"const float *{short}_weight = {name}_weights{at};")

    def _blocks(self) -> list[tuple[str, int]]:
        """Heads and widths of the loops over the vector's axis; the last block may be narrower."""
        whole, rest = divmod(self.width, self.wide)
        found = [(f"for (int64_t c = 0; c < {whole * self.wide}; c += {self.wide})", self.wide)] if whole else []
        return found + ([("", rest)] if rest else [])

    def _enter(self, scope: ExitStack, head: str, width: int) -> list[tuple[str, Tail]]:
        """Opens a block; returns the places and tails of its vectors."""
        scope.enter_context(self.w.block(head))
        if not head:
            self.w(f"const int64_t c = {self.width - width};")
        return [(at, tail) for at, tail, _ in vectors(self.w, width, self.lanes, 10**9)]

    def _sum(self, loads: Sequence[tuple[str, Tail]], taps: int, short: str, place: Track, outer: str = "") -> None:
        """Adds the taps of an axis, each times its weight; the pointer of ``place`` holds {tap}, ``outer`` is a further factor."""
        w = self.w

        def one(k: str) -> None:
            track = replace(place, pointer=place.pointer.format(tap=f"{short}[{k}]"))
            if not self.weighted:
                w(*(f"s{v} = {track.load(at, tail)};" for v, (at, tail) in enumerate(loads)))
                return
            with w.block(""):
                factor = f"{short}_weight[{k}]"
                w(f"const vf f = vset1({f'{outer} * {factor}' if outer else factor});")
                w(*(f"s{v} = vfma(f, {track.load(at, tail)}, s{v});" for v, (at, tail) in enumerate(loads)))

        if taps > _UNROLL:
            with w.loop(f"k_{short}", taps):
                one(f"k_{short}")
            return
        for k in range(taps):
            one(str(k))

    def _declare(self, count: int) -> None:
        self.w("vf " + ", ".join(f"s{v} = vzero()" for v in range(count)) + ";")

    def _store(self, loads: Sequence[tuple[str, Tail]]) -> None:
        """Applies the epilogue and stores the block at position ``o`` of the last resized axis."""
        last, lane = self.plan.resized[-1], self.plan.lane
        tracks = [
            Track(address(f"{name}_row", (view.strides[last], view.strides[lane]), ("o", "c")), view.strides[lane], view.dtype)
            for name, view in zip(self.names, self.views, strict=True)
        ]
        finish = Finish(self.w, self.region.epilogue, tracks[0], tracks[2:], "once")
        for v, (at, tail) in enumerate(loads):
            with self.w.block(""):
                finish.store(at, f"s{v}", tail)

    def _direct(self) -> None:
        w, plan, x = self.w, self.plan, self.views[1]
        last, step = plan.resized[-1], x.strides[plan.lane]
        c = address("x_row", (step,), ("c",))
        with w.loop("o", self.region.out.shape[last]):
            self._taps("column", "q", "o", plan.taps[-1])
            for head, width in self._blocks():
                with ExitStack() as scope:
                    loads = self._enter(scope, head, width)
                    self._declare(len(loads))
                    self._rows_of_taps(loads, Track(f"{c} + (int64_t){{tap}} * {x.strides[last]}", step, x.dtype))
                    self._store(loads)

    def _rows_of_taps(self, loads: Sequence[tuple[str, Tail]], place: Track) -> None:
        """All taps of both axes."""
        w, plan, x = self.w, self.plan, self.views[1]
        if len(plan.resized) == 1:
            self._sum(loads, plan.taps[0], "q", place)
            return
        with w.loop("t", plan.taps[0]):
            w(f"const int64_t line = (int64_t)r[t] * {x.strides[plan.resized[0]]};")
            self._sum(loads, plan.taps[1], "q", replace(place, pointer=f"{place.pointer} + line"), "r_weight[t]")

    def _folded(self) -> None:
        w, plan, x = self.w, self.plan, self.views[1]
        first, last = plan.resized
        step = x.strides[plan.lane]
        for head, width in self._blocks():
            with ExitStack() as scope:
                loads = self._enter(scope, head, width)
                with w.loop("i", x.shape[last]):
                    self._declare(len(loads))
                    place = address("x_row", (step, x.strides[last]), ("c", "i"))
                    self._sum(loads, plan.taps[0], "r", Track(f"{place} + (int64_t){{tap}} * {x.strides[first]}", step, x.dtype))
                    w(*(f"vstore(folded + i * {self.wide} + {at}, s{v});" for v, (at, _) in enumerate(loads)))
                with w.loop("o", self.region.out.shape[last]):
                    self._taps("column", "q", "o", plan.taps[-1])
                    self._declare(len(loads))
                    self._sum([(at, 0) for at, _ in loads], plan.taps[1], "q", Track(f"folded + {{tap}} * {self.wide}", 1))
                    self._store(loads)


KERNEL = ResizeKernel()
