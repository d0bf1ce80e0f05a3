"""An engine that a GPU and the processor beside it share.

The processor's side is an engine like any other: its steps are those without a GPU kernel and, in between, calls of the *parts*, runs of steps
that the GPU does in one go. So loops, sizes that data decides and custom layers are the runtime's business as ever. Memory that both sides touch has
its home on the processor: a part first brings what changed there since the GPU had it, and fetches what it has written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from strop.engine.arena import MemoryPlan, plan_memory
from strop.engine.assemble import Assembler
from strop.engine.format import Section, SectionKind, write_engine
from strop.engine.parts import CALL, ENGINE, PARTS, Part, Shared, encode_parts
from strop.engine.plan import Arg, Space
from strop.engine.plan import Step as PlanStep
from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.ir.graph import Graph
from strop.ir.shape import Dim, bounds
from strop.kernels.base import (
    Candidate,
    Emitted,
    External,
    In,
    Kernel,
    Operand,
    Out,
    Pointer,
    Region,
    View,
)
from strop.lower.pipeline import Lowered, Step
from strop.lower.placement import Buffer, Jump, Placement
from strop.target.base import Target
from strop.trace import Trace


@dataclass(frozen=True)
class Run:
    """Steps ``first`` to ``end`` of the GPU, and the buffers that are brought before and fetched behind."""

    first: int
    end: int
    brought: tuple[Buffer, ...]
    fetched: tuple[Buffer, ...]


def runs(lowered: Lowered) -> list[Run]:
    """The longest runs of steps of the GPU that no jump enters or leaves. Of memory that both sides touch what a run reads, or writes in part, is
    brought unless the GPU still has it; where there are jumps nobody relies on what it had before one."""
    steps, jumps = lowered.steps, lowered.jumps
    shared = shared_buffers(lowered)
    breaks = {number for jump in jumps for number in (jump.target, jump.after + 1)}
    found: list[Run] = []
    valid: set[Buffer] = set()
    written: set[Buffer] = set(shared) if jumps else set()
    index = 0
    while index < len(steps):
        if index in breaks:
            valid = set()
        step = steps[index]
        if step.host is not None:
            changed = {place.buffer for place in step.outputs}
            valid, written, index = valid - changed, written | changed, index + 1
            continue
        end = index + 1
        while end < len(steps) and steps[end].host is None and end not in breaks:
            end += 1
        brought, made = _crossing(steps[index:end], shared, valid, written)
        fetched = (buffer for buffer in made if buffer.kind == "output" or jumps or _touched_later(buffer, steps[end:]))
        found.append(Run(index, end, brought, tuple(fetched)))
        valid, index = valid | {*brought, *made}, end
    return found


def shared_buffers(lowered: Lowered) -> set[Buffer]:
    """Memory that both sides touch."""
    own, hosts = (
        {place.buffer for step in lowered.steps if (step.host is not None) == side for place in _places(step) if place.buffer.kind in ("arena", "output")}
        for side in (False, True)
    )
    return own & hosts


def _places(step: Step) -> list[Placement]:
    return [place for place in (*step.inputs, *step.outputs) if place is not None]


def _crossing(steps: Iterable[Step], shared: set[Buffer], valid: set[Buffer], written: set[Buffer]) -> tuple[tuple[Buffer, ...], tuple[Buffer, ...]]:
    """What a run needs and has not, and what it writes, of shared memory."""
    brought: dict[Buffer, None] = {}
    made: dict[Buffer, None] = {}
    for step in steps:
        reads = [place.buffer for place in step.inputs if place is not None]
        parts = [place.buffer for place in step.outputs if not _whole(place)]
        for buffer in (*reads, *(b for b in parts if b in written)):
            if buffer in shared and buffer not in valid and buffer not in made:
                brought[buffer] = None
        for place in step.outputs:
            if place.buffer in shared:
                made[place.buffer] = None
    return tuple(brought), tuple(made)


def _whole(place: Placement) -> bool:
    return place.offset == 0 and place.view.count == place.view.span and place.view.nbytes == place.buffer.size


def _touched_later(buffer: Buffer, steps: Sequence[Step]) -> bool:
    return any(step.host is not None and any(place.buffer is buffer for place in _places(step)) for step in steps)


class _Call(Kernel[int]):
    """The processor's step that has the GPU do a part; its parameter is the part's number."""

    name = "gpu_part"
    symbolic = True
    measured = False

    def accepts(self, region: Region, target: Target) -> str | None:
        return None

    def space(self, region: Region, target: Target) -> list[int]:
        return []

    def cost(self, region: Region, params: int, target: Target) -> float:
        return 0.0

    def emit(self, region: Region, params: int, target: Target) -> Emitted:
        operands = tuple(operand.view for operand in region.operands if operand is not None)
        pointers: tuple[Pointer, ...] = (*map(Out, range(len(region.outs))), *map(In, range(len(operands))))
        return Emitted("", pointers, 1, external=External("callback", CALL, {"part": params}, "Strop", region.outs, operands))


@dataclass(frozen=True)
class _Numbered(Candidate):
    @property
    def label(self) -> str:
        return f"{self.kernel.name}({self.params})"


def _call(number: int, run: Run) -> Step:
    read, made = ([Placement(b, 0, View.dense((b.size,), dt.u8)) for b in buffers] for buffers in (run.brought, run.fetched))
    operands = tuple(Operand(place.view, None, place.buffer.name) for place in read)
    name = f"GPU: steps {run.first} to {run.end - 1}"
    candidate = _Numbered(_Call(), number)
    return Step(Region(name, None, operands, 0, Input(0), tuple(p.view for p in made)), list(read), made, [candidate], candidate)


def _host_side(lowered: Lowered, found: Sequence[Run]) -> Lowered:
    """The program of the processor: its own steps, and the calls."""
    calls = {run.first: _call(number, run) for number, run in enumerate(found)}
    steps: list[Step] = []
    numbers: list[int] = []
    for index, step in enumerate(lowered.steps):
        numbers.append(len(steps))
        if step.host is not None:
            steps.append(step)
        elif index in calls:
            steps.append(calls[index])
    numbers.append(len(steps))
    jumps = [Jump(numbers[jump.after], jump.when, numbers[jump.target]) for jump in lowered.jumps]
    machine = lowered.fallbacks[0].host
    assert machine is not None
    return replace(lowered, target=machine, steps=steps, jumps=jumps)


def _device_memory(lowered: Lowered, found: Sequence[Run]) -> MemoryPlan:
    """The GPU's arena; what is brought is there from a part's beginning on, what is fetched beyond its last step, which must not overwrite it."""
    steps = [step if step.host is None else replace(step, inputs=[], outputs=[]) for step in lowered.steps]
    kept = [(buffer, run.first) for run in found for buffer in run.brought] + [(buffer, run.end) for run in found for buffer in run.fetched]
    return plan_memory(replace(lowered, steps=steps), kept)


class SharedAssembler(Assembler):
    """Gathers the two sides of one engine. Steps and records are those of the whole program; a step of the processor does nothing in the GPU's plan."""

    def __init__(self, lowered: Lowered) -> None:
        self.runs = runs(lowered)
        super().__init__(lowered, _device_memory(lowered, self.runs))
        side = _host_side(lowered, self.runs)
        self.host = Assembler(side, plan_memory(side))

    def emit(self) -> None:
        """See Assembler."""
        self.host.emit()
        super().emit()
        own = {id(step): record for step, record in zip(self.host.lowered.steps, self.host.records, strict=True)}
        for index, step in enumerate(self.lowered.steps):
            record = self.records[index] if step.host is None else own[id(step)]
            self.records[index] = {**record, "side": (step.host or self.lowered.target).name, "reason": step.refusal}

    def _emit(self, index: int, step: Step) -> None:
        if step.host is None:
            super()._emit(index, step)
            return
        self.steps.append(PlanStep(step.region.name, 0, (), 0))
        self.records.append({})

    def _dim(self, dim: Dim) -> int:
        """What data decides is on the GPU as large as it may become."""
        return bounds(dim)[1]

    def units(self) -> list[str]:
        """The texts of both sides."""
        return [*super().units(), *self.host.units()]

    def sections(self, graph: Graph, extra: dict[str, Any], trace: Trace) -> list[Section]:
        """See Assembler."""
        inner = [s for s in self.host.sections(graph, {}, trace) if s.kind not in (SectionKind.ATTACHMENT, SectionKind.GRAPH)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "host.strop"
            write_engine(path, inner)
            engine = path.read_bytes()
        machine = self.host.lowered.target
        shared = {"host": machine.name, "host_threads": machine.cores, **extra}
        return [
            *super().sections(graph, shared, trace),
            Section(SectionKind.HOST, PARTS, [encode_parts(self._shared())]),
            Section(SectionKind.HOST, ENGINE, [engine]),
        ]

    def _shared(self) -> Shared:
        touched = {(p.buffer.kind, p.buffer.index) for step in self.lowered.fallbacks for p in _places(step)}
        inputs, outputs = (tuple(sorted(index for kind, index in touched if kind == side)) for side in ("input", "output"))
        parts = (Part(r.first, r.end, *(tuple(map(self._of_buffer, b)) for b in (r.brought, r.fetched))) for r in self.runs)
        return Shared(tuple(parts), inputs, outputs)

    def _of_buffer(self, buffer: Buffer) -> Arg:
        if buffer.kind == "arena":
            return Arg(Space.ARENA, self.memory.offsets[buffer], buffer.size)
        return Arg(Space.OUTPUT, 0, buffer.size, buffer.index)


def assembler_of(lowered: Lowered) -> Assembler:
    """What gathers the parts of an engine, on one machine or on two."""
    return SharedAssembler(lowered) if lowered.fallbacks else Assembler(lowered, plan_memory(lowered))
