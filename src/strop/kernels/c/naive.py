"""Any op that has a loop program, as plain scalar loops: slow, and right for every layout and dtype.

The loops are those of ``op.loops``. Leading loops that all stages share and along which no stage looks at another element are tasks.
Stages that are not results live in scratch. The result's element passes through the epilogue before it is stored.
A prologue is applied wherever the first operand is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from strop.errors import KernelError, ShapeError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Axis, Expr, Input, Load, walk
from strop.ir.loops import Loop, Nest, Program, Stage
from strop.ir.op import Type
from strop.kernels.base import Emitted, In, Kernel, Out, Region, View, memory_seconds
from strop.kernels.c.writer import ScalarC, Writer, literal, to_memory
from strop.kernels.extent import SymbolicError, extents, greater, typical
from strop.target.base import Target

#: Cycles assumed per evaluation of a loop body.
_CYCLES = 40.0
#: Tasks per core wanted before further loops are split.
_TASKS_PER_CORE = 8

_FOLD = {
    "add": "acc += {v};",
    "mul": "acc *= {v};",
    "max": "acc = strop_max(acc, {v});",
    "min": "acc = strop_min(acc, {v});",
    "or": "acc = acc || {v};",
    "and": "acc = acc && {v};",
}
#: Whether the new value replaces the best one; NaN is better than any number, as in numpy.
_BETTER = {
    "argmax": "{v} > best || ({v} != {v} && best == best)",
    "argmin": "{v} < best || ({v} != {v} && best == best)",
    "argmax_last": "{v} >= best || {v} != {v}",
    "argmin_last": "{v} <= best || {v} != {v}",
}


@dataclass(frozen=True)
class _Array:
    """Where a stage's or an operand's elements are: C text of the first one, and strides per axis."""

    pointer: str
    strides: tuple[int, ...]

    def at(self, index: Sequence[str]) -> str:
        terms = [f"{i} * {s}" if s != 1 else i for i, s in zip(index, self.strides, strict=True) if s]
        return f"{self.pointer}[{' + '.join(terms) or '0'}]"


class Naive(Kernel[None]):
    """See the module's text."""

    name = "naive"
    in_place = True
    symbolic = True
    empty = True
    prologue = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if region.op is None:
            return "it has no anchor op"
        program = _program(region)
        if program is None:
            return f"{region.kind} has no loop program"
        if len(region.outs) != len(_results(program)):
            return "it has not one view per result"
        return None

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        program = _program(region)
        assert program is not None
        rounds = sum(sh.count(_extents((*s.axes, *s.reduce))) for s in program.stages)
        return _CYCLES * rounds / (target.ghz * 1e9) + 10 * memory_seconds(region, target) + 1e-7

    def emit(self, region: Region, params: None, target: Target) -> Emitted:
        return _Emitter(region, target).emit()


def _program(region: Region) -> Program | None:
    assert region.op is not None
    anchors = list(region.operands[: region.anchors])
    while anchors and anchors[-1] is None:
        anchors.pop()
    inputs = [Type(dt.f32, (0,)) if o is None else o.view.type for o in anchors]  # as Graph.add infers what is left out
    try:
        return region.op.loops(inputs, region.op.infer(inputs))
    except ShapeError as error:
        if not region.symbols:
            raise
        raise SymbolicError(f"{region.kind} has no loop program for symbolic dims: {error.what}") from None


def _results(program: Program) -> list[Stage]:
    return [s for s in program.stages if _is_result(s)]


def _is_result(stage: Stage) -> bool:
    return re.fullmatch(r"out\d+", stage.name) is not None


def _extents(axes: Sequence[Loop]) -> tuple[int, ...]:
    return extents(tuple(loop.extent for loop in axes))


def _loads(stage: Stage) -> list[Load]:
    return [node for e in (stage.body, stage.init, stage.final) for node in walk(e) if isinstance(node, Load)]


def _common_depth(stages: Sequence[Stage]) -> int:
    """How many leading loops all stages share, such that a stage loads others only at its own place along them."""
    depth = min(len(s.axes) for s in stages)
    for stage in stages:
        own, first = _extents(stage.axes), _extents(stages[0].axes)
        depth = next((k for k in range(depth) if own[k] != first[k]), depth)
        for load in _loads(stage):
            if isinstance(load.source, str):
                here = [Axis(loop.name) for loop in stage.axes]
                depth = next((k for k in range(depth) if load.index[k] != here[k]), depth)
    return depth


class _Emitter:
    """Writes one region."""

    def __init__(self, region: Region, target: Target) -> None:
        program = _program(region)
        assert program is not None
        self.region = region
        self.w = Writer()
        self.parts = program.parts
        self.stages = program.stages
        self.named = {s.name: s.dtype for s in self.stages}
        self.types = [o.view.dtype if o is not None else dt.f32 for o in region.operands]
        self.read = {load.source for s in self.stages for load in _loads(s) if isinstance(load.source, str)}
        shared = _extents(self.stages[0].axes[: _common_depth(self.stages)])
        #: Extents of the loops that all parts share; the outer ``depth`` of them number the tasks.
        self.shared = shared
        self.depth = 0
        self.tasks = 1
        while self.depth < len(shared) and typical(self.tasks) < _TASKS_PER_CORE * target.cores:
            self.tasks *= shared[self.depth]
            self.depth += 1
        self.arrays: dict[int | str, _Array] = {}
        self.scratch = 0

    def emit(self) -> Emitted:
        region, w = self.region, self.w
        for k, view in enumerate(region.outs):
            w(f"{view.dtype.c} *y{k} = a->p[{k}];")
        pointers: list[In | Out] = [Out(k) for k in range(len(region.outs))]
        for k, operand in enumerate(region.operands):
            if operand is not None:
                w(f"const {operand.view.dtype.c} *x{k} = a->p[{len(pointers)}];")
                self.arrays[k] = _Array(f"x{k}", operand.view.strides)
                pointers.append(In(k))
        for stage in self.stages:
            self._place(stage)
        if self.tasks:
            with w.block("for (int64_t task = begin; task < end; task++)"):
                for part in self.parts:
                    if isinstance(part, Nest):
                        self._nest(part)
                    else:
                        self._stage(part)
        return Emitted(w.text(), tuple(pointers), greater(1, self.tasks), self.scratch)

    def _temporary(self, stage: Stage) -> bool:
        """Whether the stage's own values are kept in scratch: it is no result, or one that is read again but stored changed."""
        return not _is_result(stage) or (stage.name in self.read and self.region.has_epilogue)

    def _place(self, stage: Stage) -> None:
        """Says where a stage's elements are."""
        if not self._temporary(stage):
            self.arrays[stage.name] = self._result(stage)
            return
        view = View.dense(_extents(stage.axes)[self.depth :], stage.dtype)
        self.w(f"{stage.dtype.c} *s_{stage.name} = (void *)((char *)a->scratch + {self.scratch});")
        self.arrays[stage.name] = _Array(f"s_{stage.name}", (0,) * self.depth + view.strides)
        self.scratch += -(-view.count * stage.dtype.size // 64) * 64

    def _result(self, stage: Stage) -> _Array:
        number = int(stage.name[3:])
        return _Array(f"y{number}", self.region.outs[number].strides)

    def _nest(self, nest: Nest) -> None:
        """Its loops around its stages."""
        with ExitStack() as scope:
            scope.enter_context(self.w.block(f"/* {', '.join(s.name for s in nest.stages)} in turns */"))
            self._open(scope, nest.axes, 0)
            for stage in nest.stages:
                self._stage(stage, len(nest.axes))

    def _stage(self, stage: Stage, opened: int = 0) -> None:
        """Fills the stage's array; its first ``opened`` loops are around it already."""
        with ExitStack() as scope:
            scope.enter_context(self.w.block(f"/* {stage.name} */"))
            self._open(scope, stage.axes, opened)
            self._element(stage)

    def _open(self, scope: ExitStack, axes: Sequence[Loop], opened: int) -> None:
        """The loops of ``axes`` from number ``opened`` on; the leading ones are part of the task's number."""
        w = self.w
        sizes = _extents(axes)
        inner = 1
        for k in reversed(range(self.depth)):
            if opened <= k < len(axes):
                text = f"task / {inner}" if inner != 1 else "task"
                w(f"const int64_t {axes[k].name} = {text}{f' % {sizes[k]}' if k else ''};")
            inner *= self.shared[k]
        for k in range(max(self.depth, opened), len(sizes)):
            scope.enter_context(w.loop(axes[k].name, sizes[k]))

    def _prologue(self, index: list[str]) -> str:
        """C text of the first operand's element, as it would be stored, with the prologue applied."""
        first = len(self.types) - self.region.prologues

        def load(node: Expr, _: list[str]) -> str:
            assert isinstance(node, Input)
            return self.arrays[0 if node.index == 0 else first + node.index - 1].at(index)

        types = [self.types[0], *self.types[first:]]
        return f"({ScalarC(types, load).print(self.region.prologue, self.types[0])})"

    def _scalar(self, named: dict[str, DType]) -> ScalarC:
        def load(node: Expr, index: list[str]) -> str:
            if not isinstance(node, Load):
                raise KernelError("an element is not addressed", where=self.region.name, got=node)
            place = [f"({i})" for i in index]
            if node.source == 0 and self.region.has_prologue:
                return self._prologue(place)
            return self.arrays[node.source].at(place)

        return ScalarC(self.types, load, named, self.w)

    def _element(self, stage: Stage) -> None:
        """Computes and stores the element at the current place."""
        w = self.w
        if stage.combine is None:
            self._store(stage, self._scalar(self.named).value(stage.body, stage.dtype))
            return
        kind = stage.acc_dtype or stage.dtype
        held = dt.f32 if kind.name in ("f16", "bf16") else kind
        arg = stage.combine.startswith("arg")
        if arg:
            w("int64_t acc = 0;", f"{held.c} best = {literal(0, held)};")
        else:
            w(f"{held.c} acc = {self._scalar(self.named).value(stage.init, kind)};")
        with ExitStack() as scope:
            for loop, extent in zip(stage.reduce, _extents(stage.reduce), strict=True):
                scope.enter_context(w.loop(loop.name, extent))
            value = self._scalar(self.named).value(stage.body, kind)
            w(f"const {held.c} v = {value};")
            if arg:
                var = stage.reduce[0].name
                with w.block(f"if ({var} == 0 || {_BETTER[stage.combine].format(v='v')})"):
                    w("best = v;", f"acc = {var};")
            else:
                w(_FOLD[stage.combine].format(v="v"))
        acc = dt.i64 if arg else kind
        self._store(stage, self._scalar({**self.named, "acc": acc}).value(stage.final, stage.dtype))

    def _store(self, stage: Stage, value: str) -> None:
        region, w = self.region, self.w
        place = [loop.name for loop in stage.axes]
        if self._temporary(stage):
            w(f"{self.arrays[stage.name].at(place)} = {to_memory(value, stage.dtype)};")
            if not _is_result(stage):
                return
        target = self._result(stage)
        if not region.has_epilogue:
            w(f"{target.at(place)} = {to_memory(value, stage.dtype)};")
            return
        w(f"const {stage.dtype.c} y = {to_memory(value, stage.dtype)};")

        def load(node: Expr, index: list[str]) -> str:
            assert isinstance(node, Input)
            return "y" if node.index == 0 else self.arrays[region.anchors + node.index - 1].at(place)

        types = [stage.dtype, *(o.view.dtype for o in region.extras)]
        w(f"{target.at(place)} = {ScalarC(types, load, None, w, 'e').print(region.epilogue, region.out.dtype)};")


KERNEL = Naive()
