"""Chosen kernels to the sections of an engine file: code, packed weights, plan, manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from strop.codegen import toolchain
from strop.codegen.c import Module
from strop.engine.arena import MemoryPlan
from strop.engine.dim_table import DimTable
from strop.engine.format import Section, SectionKind
from strop.engine.plan import Arg, Plan, Space, Symbol, Tensor, encode_plan
from strop.engine.plan import Step as PlanStep
from strop.errors import UnsupportedError
from strop.ir.graph import Graph, Value
from strop.ir.op import Array
from strop.ir.text import show as show_graph
from strop.kernels.base import Emitted, Out, Packed, View
from strop.kernels.extent import SymbolicError, dim_of, typical
from strop.lower.layout import Placement
from strop.lower.pipeline import Lowered, Step
from strop.runtime.library import runtime_name
from strop.trace import Trace

_ALIGNMENT = 64
MANIFEST_VERSION = 1


@dataclass
class Weights:
    """Arrays of an engine, each stored once, 64-byte aligned."""

    pieces: list[Array] = field(default_factory=list)
    size: int = 0
    _known: dict[bytes, int] = field(default_factory=dict)

    def add(self, array: Array) -> int:
        """Byte offset of the array's dense row-major copy."""
        array = np.ascontiguousarray(array)
        key = hashlib.sha256(array.dtype.str.encode() + array.reshape(-1).view(np.uint8).data).digest()
        offset = self._known.get(key)
        if offset is None:
            offset = self.size
            self._known[key] = offset
            self.pieces.append(array)
            self.size += array.nbytes
            padding = -self.size % _ALIGNMENT
            if padding:
                self.pieces.append(np.zeros(padding, np.uint8))
                self.size += padding
        return offset


class Assembler:
    """Gathers the parts of one engine."""

    def __init__(self, lowered: Lowered, memory: MemoryPlan) -> None:
        self.lowered = lowered
        self.memory = memory
        self.weights = Weights()
        self.module = Module(lowered.target)
        self.steps: list[PlanStep] = []
        self.records: list[dict[str, Any]] = []
        self.scratch = 0
        self.dims = DimTable()
        for value in lowered.graph.inputs:
            for dim in value.shape:
                self.dims.number(dim)

    def emit(self) -> None:
        """Emits every step's kernel and packs its weights.

        Raises:
            UnsupportedError: a size of a step cannot be told from the symbols as the file needs it.
        """
        for step in self.lowered.steps:
            try:
                self._emit(step)
            except SymbolicError as error:
                raise UnsupportedError(
                    "the step cannot be stored for symbolic dims", where=step.region.name, got=error,
                    hint="fix some dims with --shape, or make their range smaller",
                ) from error  # fmt: skip

    def _emit(self, step: Step) -> None:
        emitted = step.chosen.emit(step.region, self.lowered.target)
        kernel = self.module.add(emitted, step.chosen.label, step.region.name)
        args = tuple(self._arg(step, emitted, k) for k in range(len(emitted.pointers)))
        self.scratch = max(self.scratch, emitted.scratch)
        dims = tuple(self.dims.index(dim) for dim in emitted.dims)
        tasks = self.dims.number(dim_of(emitted.tasks))
        self.steps.append(PlanStep(step.region.name, kernel, args, tasks, dims=dims))
        self.records.append(self._record(step, emitted))

    def _arg(self, step: Step, emitted: Emitted, index: int) -> Arg:
        pointer = emitted.pointers[index]
        if isinstance(pointer, Packed):
            array = np.ascontiguousarray(pointer.array)
            return Arg(Space.WEIGHTS, self.weights.add(array), array.nbytes)
        if isinstance(pointer, Out):
            return self._place(step.outputs[pointer.index])
        place = step.inputs[pointer.index]
        if place is not None:
            return self._place(place)
        const = step.region.operand(pointer.index).const
        assert const is not None
        return Arg(Space.WEIGHTS, self.weights.add(const), const.nbytes)

    def _place(self, place: Placement) -> Arg:
        buffer, start = place.buffer, place.offset * place.view.dtype.size
        low, size = _reach(place.view)
        if buffer.kind == "arena":
            start += self.memory.offsets[buffer]
        offset, size = (self.dims.number(dim_of(value)) for value in (start + low, size))
        if buffer.kind == "arena":
            return Arg(Space.ARENA, offset, size)
        space = Space.INPUT if buffer.kind == "input" else Space.OUTPUT
        return Arg(space, offset, size, buffer.index)

    def _record(self, step: Step, emitted: Emitted) -> dict[str, Any]:
        """What ``strop inspect`` tells about a step."""
        region = step.region
        return {
            "name": region.name,
            "kind": (step.copy and f"copy ({step.copy})") or region.kind,
            "kernel": step.chosen.label,
            "source": list(region.source),
            "inputs": [None if o is None else str(o.view) for o in region.operands],
            "outputs": [str(v) for v in region.outs],
            "values": [[n, node, _argument(emitted, k), str(step.outputs[k].view)] for k, (n, node) in enumerate(step.values)],
            "epilogue": region.has_epilogue,
            "flops": region.work.flops,
            "bytes": region.work.bytes,
            "tasks": typical(emitted.tasks),
            "copy": step.copy,
            "transpose": bool(step.copy) and step.swaps,
            "estimated_ns": round(step.chosen.cost(region, self.lowered.target) * 1e9),
            "measured_ns": None if step.seconds is None else round(step.seconds * 1e9),
            "candidates": len(step.candidates),
            "rounding": step.chosen.kernel.error(region, step.chosen.params),
        }

    def sections(self, graph: Graph, extra: dict[str, Any], trace: Trace) -> list[Section]:
        """All sections; compiles the kernels."""
        target = self.lowered.target
        done: Callable[[int, int], None] = lambda k, n: trace.report("codegen", k, n)  # noqa: E731
        kernels = _bytes(self.module.compile(done))
        runtime = _bytes(toolchain.runtime_library(target))
        plan = encode_plan(self._plan(graph), self.weights.size)
        manifest = json.dumps(self._manifest(graph, extra, len(kernels)), sort_keys=True, separators=(",", ":"))
        return [
            Section(SectionKind.MANIFEST, "manifest", [manifest.encode()]),
            Section(SectionKind.GRAPH, "graph", [show_graph(graph).encode()]),
            Section(SectionKind.PLAN, "plan", [plan]),
            Section(SectionKind.KERNELS, self.module.used.section, [kernels]),
            Section(SectionKind.RUNTIME, _system(target.triple, target.arch), [runtime]),
            Section(SectionKind.WEIGHTS, "weights", list(self.weights.pieces)),
        ]

    def _plan(self, graph: Graph) -> Plan:
        inputs = tuple(self._tensor(v.name, v) for v in graph.inputs)
        outputs = tuple(self._tensor(n, v) for n, v in zip(graph.output_names, graph.outputs, strict=True))
        symbols = tuple(Symbol(s.name, s.min, s.opt, s.max) for s in self.dims.symbols)
        return Plan(
            inputs, outputs, tuple(self.steps), self.memory.size, self.scratch, len(self.module.functions), True,
            symbols, tuple(self.dims.instructions),
        )  # fmt: skip

    def _tensor(self, name: str, value: Value) -> Tensor:
        return Tensor(name, value.dtype, tuple(map(self.dims.number, value.shape)))

    def _manifest(self, graph: Graph, extra: dict[str, Any], code_bytes: int) -> dict[str, Any]:
        target = self.lowered.target
        return {
            "manifest": MANIFEST_VERSION,
            "model": graph.name,
            "target": target.name,
            "isa": target.isa,
            "threads": target.cores,
            "memory": {
                "weights": self.weights.size,
                "arena": self.memory.size,
                "live_peak": self.memory.live_peak,
                "scratch_per_thread": self.scratch,
                "code": code_bytes,
            },
            "steps": self.records,
            **extra,
        }


def _argument(emitted: Emitted, result: int) -> int | None:
    """The number of a result among what the kernel is handed; None when it does not write it."""
    return next((k for k, p in enumerate(emitted.pointers) if isinstance(p, Out) and p.index == result), None)


def _reach(view: View) -> tuple[int, int]:
    """(bytes from the pointer to the lowest element, bytes from there to the end of the highest)."""
    size = view.dtype.size
    if view.count == 0:
        return 0, 0
    below = sum((d - 1) * s for d, s in zip(view.shape, view.strides, strict=True) if s < 0)
    above = sum((d - 1) * s for d, s in zip(view.shape, view.strides, strict=True) if s > 0)
    assert below == 0, "kernels take pointers to the lowest element"
    return 0, (above + 1) * size


def _system(triple: str, arch: str) -> str:
    return runtime_name() if runtime_name().endswith(arch) else f"{triple.split('-')[1]}-{arch}"


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


