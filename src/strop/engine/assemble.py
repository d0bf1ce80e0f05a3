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
from strop.codegen.triton import ALIGNED, GpuModule
from strop.codegen.triton import Kernel as Launches
from strop.engine.arena import MemoryPlan
from strop.engine.cubins import PREFIX, Code, GpuKernel
from strop.engine.cubins import encode as encode_cubins
from strop.engine.custom_section import CustomKind, CustomStep, CustomTensor, encode_custom
from strop.engine.dim_table import DimTable
from strop.engine.format import Section, SectionKind
from strop.engine.library_calls import call_of
from strop.engine.plan import KERNEL_BY_NAME, Arg, Plan, Space, Symbol, Tensor, encode_plan
from strop.engine.plan import Jump as PlanJump
from strop.engine.plan import Step as PlanStep
from strop.errors import UnsupportedError
from strop.ir.graph import Graph, Value
from strop.ir.op import Array
from strop.ir.shape import Dim
from strop.ir.text import show as show_graph
from strop.kernels.base import Emitted, Out, Packed, View
from strop.kernels.extent import SymbolicError, dim_of, greater, highest, lesser, lowest, typical
from strop.kernels.triton.emit import GpuEmitted
from strop.lower.pipeline import Lowered, Step
from strop.lower.placement import Placement
from strop.ops.custom import Layer
from strop.runtime.library import runtime_name
from strop.target.cuda import is_gpu
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
        self.module: Module | GpuModule = GpuModule(lowered.target) if is_gpu(lowered.target) else Module(lowered.target)
        self.steps: list[PlanStep] = []
        self.records: list[dict[str, Any]] = []
        self.custom: list[CustomStep] = []
        self.scratch = 0
        #: Per computed size: the step that finds it, and which of its operands holds it.
        self.setters: dict[str, tuple[int, int]] = {}
        self.jumps: list[PlanJump] = []
        self.dims = DimTable()
        for value in lowered.graph.inputs:
            for dim in value.shape:
                self.dims.number(dim)

    def emit(self) -> None:
        """Emits every step's kernel and packs its weights.

        Raises:
            UnsupportedError: a size of a step cannot be told from the symbols as the file needs it.
        """
        for index, step in enumerate(self.lowered.steps):
            try:
                self._emit(index, step)
            except SymbolicError as error:
                raise UnsupportedError(
                    "the step cannot be stored for symbolic dims", where=step.region.name, got=error,
                    hint="fix some dims with --shape, or make their range smaller",
                ) from error  # fmt: skip

    def _emit(self, index: int, step: Step) -> None:
        emitted = step.chosen.emit(step.region, self.lowered.target)
        args = tuple(self._arg(step, emitted, k) for k in range(len(emitted.pointers)))
        kernel = self._kernel(step, emitted, args)
        self.scratch = max(self.scratch, emitted.workspace if isinstance(emitted, GpuEmitted) else emitted.scratch)
        dims = tuple(self.dims.index(dim) for dim in emitted.dims)
        tasks = self.dims.number(dim_of(_tasks(step, emitted)))
        self._note_computed(index, step, emitted)
        self._note_jump(index, emitted)
        self.steps.append(PlanStep(step.region.name, kernel, args, tasks, dims=dims))
        self.records.append(self._record(step, emitted))

    def _kernel(self, step: Step, emitted: Emitted, args: tuple[Arg, ...]) -> int:
        """The number of the step's kernel; notes a step whose code is found by name."""
        if isinstance(self.module, GpuModule):
            assert isinstance(emitted, GpuEmitted)
            return self.module.add(emitted, [arg.offset % ALIGNED == 0 for arg in args], step.chosen.label, step.region.name)
        external = emitted.external
        if external is None:
            return self.module.add(emitted, step.chosen.label, step.region.name)
        outs = tuple(map(self._tensor_of, external.outs))
        operands = tuple(None if v is None else self._tensor_of(v) for v in external.operands)
        kind, attributes = CustomKind[external.kind.upper()], dict(external.attributes)
        self.custom.append(CustomStep(len(self.steps), kind, external.name, attributes, external.origin, outs, operands))
        return KERNEL_BY_NAME

    def _tensor_of(self, view: View) -> CustomTensor:
        shape, strides = (tuple(self.dims.number(dim_of(n)) for n in numbers) for numbers in (view.shape, view.strides))
        return CustomTensor(view.dtype.code, shape, strides)

    def _note_computed(self, index: int, step: Step, emitted: Emitted) -> None:
        """Which operand of a step holds each size that it finds."""
        op = step.region.op
        if op is None or not op.computed:
            return
        first = len(step.outputs) - len(op.computed)
        for number, symbol in enumerate(op.computed):
            operand = next(k for k, p in enumerate(emitted.pointers) if isinstance(p, Out) and p.index == first + number)
            self.setters[symbol.name] = (index, operand)
            self.dims.index(symbol)

    def _note_jump(self, index: int, emitted: Emitted) -> None:
        """Which operand of a step decides over a jump behind it."""
        for jump in (j for j in self.lowered.jumps if j.after == index):
            operand = next(k for k, p in enumerate(emitted.pointers) if isinstance(p, Out))
            self.jumps.append(PlanJump(index, operand, jump.when, jump.target))

    def _arg(self, step: Step, emitted: Emitted, index: int) -> Arg:
        pointer = emitted.pointers[index]
        if isinstance(pointer, Packed):
            array = np.ascontiguousarray(pointer.array)
            return Arg(Space.WEIGHTS, self.weights.add(array), array.nbytes)
        if isinstance(pointer, Out):
            op = step.region.op
            return self._place(step.outputs[pointer.index], finds=op is not None and bool(op.computed))
        place = step.inputs[pointer.index]
        if place is not None:
            return self._place(place)
        const = step.region.operand(pointer.index).const
        assert const is not None
        return Arg(Space.WEIGHTS, self.weights.add(const), const.nbytes)

    def _place(self, place: Placement, finds: bool = False) -> Arg:
        """The operand of a place; what a step writes that ``finds`` sizes is as long as it may become."""
        buffer, start = place.buffer, place.offset * place.view.dtype.size
        low, size = _reach(place.view)
        size = highest(size) if finds else size
        if buffer.kind == "arena":
            start += self.memory.offsets[buffer]
        elif buffer.array is not None:
            start += self.weights.add(buffer.array)
        offset, size = (self.dims.number(dim_of(value)) for value in (start + low, size))
        if buffer.kind == "arena":
            return Arg(Space.ARENA, offset, size)
        if buffer.kind == "weights":
            return Arg(Space.WEIGHTS, offset, size)
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
            "scratch": emitted.scratch,
            "copy": step.copy,
            "custom": _custom(step, emitted),
            "transpose": bool(step.copy) and step.swaps,
            "estimated_ns": round(step.chosen.cost(region, self.lowered.target) * 1e9),
            "measured_ns": None if step.seconds is None else round(step.seconds * 1e9),
            "candidates": len(step.candidates),
            "tried": [[t.label, round(t.estimated * 1e9), None if t.measured is None else round(t.measured * 1e9), t.verdict] for t in step.tried],
            "rounding": step.chosen.kernel.error(region, step.chosen.params),
        }

    def _libraries(self) -> dict[str, dict[str, str]]:
        """Versions of the libraries that steps are calls of, where there are such steps."""
        called = [k.library for k in self.module.kernels if k.library is not None] if isinstance(self.module, GpuModule) else []
        return {"libraries": {row["library"]: row["version"] for row in called}} if called else {}

    def units(self) -> list[str]:
        """The texts of all kernels."""
        return self.module.units()

    def sections(self, graph: Graph, extra: dict[str, Any], trace: Trace) -> list[Section]:
        """All sections; compiles the kernels."""
        done: Callable[[int, int], None] = lambda k, n: trace.report("codegen", k, n)  # noqa: E731
        kernels, name, runtime = self._code(done)
        plan = encode_plan(self._plan(graph), self.weights.size)
        manifest = json.dumps(self._manifest(graph, extra, len(kernels)), sort_keys=True, separators=(",", ":"))
        custom = [Section(SectionKind.CUSTOM, "custom", [encode_custom(self.custom)])] if self.custom else []
        return [
            Section(SectionKind.MANIFEST, "manifest", [manifest.encode()]),
            Section(SectionKind.GRAPH, "graph", [show_graph(graph).encode()]),
            Section(SectionKind.PLAN, "plan", [plan]),
            *custom,
            Section(SectionKind.KERNELS, name, [kernels]),
            *runtime,
            Section(SectionKind.WEIGHTS, "weights", list(self.weights.pieces)),
            *(Section(SectionKind.ATTACHMENT, name, [data]) for name, data in graph.carried.items()),
        ]

    def _code(self, done: Callable[[int, int], None]) -> tuple[bytes, str, list[Section]]:
        """The compiled kernels, the name of their section, and the runtime that the file carries: none for a GPU, whose driver is the runtime."""
        target, module = self.lowered.target, self.module
        if isinstance(module, GpuModule):
            codes = [Code(c.function, c.code, c.shared, c.warps) for c in module.compile(done)]
            table = [_gpu_kernel(k) for k in module.kernels]
            return encode_cubins(codes, table), f"{PREFIX}{target.cpu}", []
        kernels, runtime = _bytes(module.compile(done)), _bytes(toolchain.runtime_library(target))
        return kernels, module.used.section, [Section(SectionKind.RUNTIME, _system(target.triple, target.arch), [runtime])]

    def _plan(self, graph: Graph) -> Plan:
        inputs = tuple(self._tensor(v.name, v) for v in graph.inputs)
        outputs = tuple(self._tensor(n, v) for n, v in zip(graph.output_names, graph.outputs, strict=True))
        symbols = tuple(Symbol(s.name, s.min, s.opt, s.max, self.setters.get(s.name)) for s in self.dims.symbols)
        return Plan(
            inputs, outputs, tuple(self.steps), self.memory.size, self.scratch, self._kernels(), True,
            symbols, tuple(self.dims.instructions), tuple(self.jumps),
        )  # fmt: skip

    def _kernels(self) -> int:
        """How many kernels the steps name by number."""
        return len(self.module.kernels) if isinstance(self.module, GpuModule) else len(self.module.functions)

    def _tensor(self, name: str, value: Value) -> Tensor:
        return Tensor(name, value.dtype, tuple(map(self._dim, value.shape)))

    def _dim(self, dim: Dim) -> int:
        """A dim of an input or output as the plan says it."""
        return self.dims.number(dim)

    def _buffers(self) -> list[list[Any]]:
        """What lies in the arena: value, offset, bytes, first and last step that need it."""
        lives = sorted(self.memory.lives.items(), key=lambda item: (item[1], self.memory.offsets[item[0]]))
        return [[b.name, self.memory.offsets[b], highest(b.size), first, last] for b, (first, last) in lives]

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
            "buffers": self._buffers(),
            **self._libraries(),
            **extra,
        }


def _gpu_kernel(kernel: Launches) -> GpuKernel:
    calls = tuple((c.cubin, c.grid) for c in kernel.calls if min(c.grid) > 0)
    return GpuKernel(calls, kernel.workspace, kernel.locks, library=None if kernel.library is None else call_of(kernel.library))


def _custom(step: Step, emitted: Emitted) -> str:
    """Where the code of a custom layer is, for people; empty for another step."""
    if emitted.external is not None:
        kind = "Python callback" if emitted.external.kind == "callback" else f"native, {emitted.external.origin}"
        return f"{emitted.external.name}: {kind}"
    return f"{step.region.kind}: native, in the engine" if isinstance(step.region.op, Layer) else ""


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
    some = lesser(view.count, 1) if lowest(view.count) < 1 else 1  # a size that data decides may be 0
    return 0, some * (above + 1) * size


def _tasks(step: Step, emitted: Emitted) -> int:
    """How many tasks a step has: none when all its results may be empty, and are."""
    counts = [view.count for view in step.region.outs]
    if not counts or any(lowest(count) > 0 for count in counts):
        return emitted.tasks
    most = counts[0]
    for count in counts[1:]:
        most = greater(most, count)
    return lesser(most, 1) * emitted.tasks


def _system(triple: str, arch: str) -> str:
    return runtime_name() if runtime_name().endswith(arch) else f"{triple.split('-')[1]}-{arch}"


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


