"""Any op that has a loop program: every stage a launch, every element a lane; slow, and right for every layout and dtype.

Stages that are not results live in the workspace. The result's element passes through the epilogue before it is stored. Loads that a condition
guards are masked by it.
"""

from __future__ import annotations

import math
import re
from contextlib import ExitStack
from dataclasses import dataclass, field

from strop.errors import KernelError, StropError
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import Const, Expr, Load, walk
from strop.ir.loops import Nest, Program, Stage
from strop.ir.op import Type
from strop.kernels.base import In, Out, Region, View
from strop.kernels.triton.emit import (
    VALUE,
    Block,
    GpuEmitted,
    Guarded,
    Launch,
    Tile,
    Writer,
    ceil_div,
    held,
    literal,
    loaded,
    masked,
    zero_text,
)
from strop.kernels.triton.parts import LAUNCH, GpuKernel, Pointers, finish
from strop.ops.conv import Conv
from strop.ops.matmul import MatMul
from strop.target.base import Target

_NAN = "propagate_nan=tl.PropagateNan.ALL"
_FOLD = {
    "add": "acc + {v}", "mul": "acc * {v}", "max": "tl.maximum(acc, {v}{nan})", "min": "tl.minimum(acc, {v}{nan})", "or": "acc | {v}", "and": "acc & {v}",
}  # fmt: skip
_BETTER = {
    "argmax": "({v} > best) | (({v} != {v}) & (best == best))", "argmin": "({v} < best) | (({v} != {v}) & (best == best))",
    "argmax_last": "({v} >= best) | ({v} != {v})", "argmin_last": "({v} <= best) | ({v} != {v})",
}  # fmt: skip
_LANES = 128


@dataclass(frozen=True)
class _Array:
    """Where elements are: text of the pointer, strides, stored type."""

    pointer: str
    strides: tuple[int, ...]
    dtype: DType


class Loops(GpuKernel[None]):
    """See the module's text."""

    name = "loops"

    def takes(self, region: Region, target: Target) -> str | None:
        if region.op is None:
            return "it has no anchor op"
        if region.op.computed:
            return "it finds sizes that decide over later launches"
        if isinstance(region.op, (Conv, MatMul)) and len({o.view.dtype for o in region.operands[: region.anchors] if o is not None}) > 1:
            return "its factors are of different types"
        program = program_of(region)
        if program is None:
            return f"{region.kind} has no loop program"
        if any(isinstance(part, Nest) for part in program.parts):
            return "its steps depend on each other"
        if sum(re.fullmatch(r"out\d+", s.name) is not None for s in program.stages) != len(region.outs):
            return "it has not one view per result"
        try:
            self.emit(region, None, target)
        except StropError as error:
            return f"{error.what}: {error.got}"
        return None

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        program = program_of(region)
        assert program is not None
        seconds = 0.0
        for stage in program.stages:
            lanes, rounds = (math.prod(int(str(loop.extent)) for loop in axes) for axes in (stage.axes, stage.reduce))
            waves = ceil_div(max(1, lanes), target.cores * 2048)
            seconds += waves * (2000 + 400 * rounds) / (target.ghz * 1e9) + LAUNCH
        return seconds

    def launches(self, region: Region, params: None, target: Target) -> GpuEmitted:
        program = program_of(region)
        assert program is not None
        return _Emitter(region, program).emitted()


def program_of(region: Region) -> Program | None:
    """The loop program of a region's op; None where it has none."""
    assert region.op is not None
    anchors = list(region.operands[: region.anchors])
    while anchors and anchors[-1] is None:
        anchors.pop()
    inputs = [Type(dt.f32, (0,)) if o is None else o.view.type for o in anchors]
    return region.op.loops(inputs, region.op.infer(inputs))


@dataclass
class _Emitter:
    region: Region
    program: Program
    arrays: dict[int | str, _Array] = field(default_factory=dict)
    size: int = 0

    def emitted(self) -> GpuEmitted:
        region = self.region
        pointers = Pointers.none()
        for k, operand in enumerate(region.operands):
            if operand is None:
                continue
            name = f"x{k}" if k < region.anchors else f"e{k - region.anchors}"
            pointers.add(name, operand.view.dtype, In(k))
            if k < region.anchors:
                self.arrays[k] = _Array(name, operand.view.strides, operand.view.dtype)
        for k, view in enumerate(region.outs):
            pointers.add("y" if k == 0 else f"y{k}", view.dtype, Out(k))
        read = {n.source for s in self.program.stages for e in (s.body, s.init, s.final) for n in walk(e) if isinstance(n, Load)}
        for stage in self.program.stages:
            result = re.fullmatch(r"out(\d+)", stage.name)
            if result is None or (stage.name in read and region.has_epilogue):
                shape = tuple(int(str(loop.extent)) for loop in stage.axes)
                kept = View.dense(shape, held(stage.dtype))
                pointer = f"(work + {self.size // 4}).to(tl.pointer_type(tl.{_pointer(kept.dtype)}))"
                self.arrays[stage.name] = _Array(pointer, kept.strides, kept.dtype)
                self.size += ceil_div(max(1, kept.count) * kept.dtype.size, 256) * 256
            else:
                number = int(result[1])
                self.arrays[stage.name] = _Array("y" if number == 0 else f"y{number}", region.outs[number].strides, region.outs[number].dtype)
        return pointers.emitted([self._stage(s) for s in self.program.stages], self.size)

    def _stage(self, stage: Stage) -> Launch:
        w = Writer()
        shape = tuple(int(str(loop.extent)) for loop in stage.axes)
        count = max(1, math.prod(shape))
        w(f"m = tl.program_id(0) * {_LANES} + tl.arange(0, {_LANES})")
        block = Block("m", tuple(range(len(shape))), shape, _LANES, count % _LANES != 0)
        tile = Tile(w, (block,))
        for number, loop in enumerate(stage.axes):
            w(f"{loop.name} = {block.axis(w, number)}" if shape[number] > 1 else f"{loop.name} = m * 0")
        named = {s.name: self.arrays[s.name].dtype if s.name in self.arrays else s.dtype for s in self.program.stages}
        value = self._value(w, tile, stage, named)
        result = re.fullmatch(r"out(\d+)", stage.name)
        if result is None:
            array = self.arrays[stage.name]
            tile.store(array.pointer, View(shape, array.strides, array.dtype), value)
        elif result[1] == "0":
            if self.arrays[stage.name].pointer != "y":
                array = self.arrays[stage.name]
                tile.store(array.pointer, View(shape, array.strides, array.dtype), value)
            finish(self.region, tile, value, stage.dtype)
        else:
            tile.store(f"y{result[1]}", self.region.outs[int(result[1])], value)
        return Launch(w.text(), (ceil_div(count, _LANES), 1, 1), 4, 1)

    def _printer(self, w: Writer, tile: Tile, named: dict[str, DType], prefix: str) -> Guarded:
        inside = [g for g in [tile.mask(tile.blocks)] if g]

        def load(node: Expr, index: list[str]) -> str:
            if not isinstance(node, Load):
                raise KernelError("an element is not addressed", got=node)
            array = self.arrays[node.source]
            terms = [f"({i}) * {s}" if s != 1 else f"({i})" for i, s in zip(index, array.strides, strict=True) if s and i != "0"]
            where = " + ".join([array.pointer, *terms])
            guards = [*inside, *(text for text, _ in printer.guards)]
            where = f"{where} + m * 0" if guards else where  # a mask has the lanes' shape
            return loaded(f"tl.load({where}{masked(guards, zero_text(array.dtype))})", array.dtype)

        types = [o.view.dtype if o is not None else dt.f32 for o in self.region.operands]
        printer = Guarded(types, load, w, named, prefix)
        return printer

    def _value(self, w: Writer, tile: Tile, stage: Stage, named: dict[str, DType]) -> str:
        """Text of the stage's element."""
        if stage.combine is None:
            return self._printer(w, tile, named, "t").value(stage.body, stage.dtype)
        kind = held(stage.acc_dtype or stage.dtype)
        arg = stage.combine.startswith("arg")
        if arg:
            w(f"acc = tl.zeros(({_LANES},), tl.int64)", f"best = tl.zeros(({_LANES},), {VALUE[kind.name]})")
        else:
            first = self._printer(w, tile, named, "s").value(stage.init, kind) if not isinstance(stage.init, Const) else literal(stage.init.value, kind)
            w(f"acc = tl.full(({_LANES},), {first}, {VALUE[kind.name]})" if isinstance(stage.init, Const) else f"acc = {first} + tl.zeros(({_LANES},), {VALUE[kind.name]})")
        tile.mask(tile.blocks)
        with ExitStack() as scope:
            for loop in stage.reduce:
                scope.enter_context(w.block(f"for {loop.name} in range({loop.extent})"))
            text = self._printer(w, tile, named, "r").value(stage.body, kind)
            w(f"v = {text}")
            if arg:
                name = stage.reduce[0].name
                w(f"better = ({name} == 0) | {_BETTER[stage.combine].format(v='v')}")
                w("best = tl.where(better, v, best)", f"acc = tl.where(better, {name}, acc)")
            else:
                nan = f", {_NAN}" if kind.is_float else ""
                w(f"acc = ({_FOLD[stage.combine].format(v='v', nan=nan)}).to({VALUE[kind.name]})")
        acc = dt.i64 if arg else (stage.acc_dtype or stage.dtype)
        return self._printer(w, tile, {**named, "acc": acc}, "f").value(stage.final, stage.dtype)


def _pointer(dtype: DType) -> str:
    return VALUE[dtype.name].removeprefix("tl.") if dtype is not dt.boolean else "int8"


KERNEL = Loops()
