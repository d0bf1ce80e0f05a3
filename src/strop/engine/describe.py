"""What an engine does, step by step, with totals: the manifest and the plan as dataclasses. Runs nothing by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from strop.engine.custom_section import decode_custom
from strop.engine.dims import evaluate, input_dim
from strop.engine.engine import Engine
from strop.engine.format import EngineFile, SectionKind
from strop.engine.placement import Fallback
from strop.engine.plan import Plan, Space, Tensor, decode_plan
from strop.errors import EngineFileError
from strop.runtime.context import StepTime

T = TypeVar("T")

#: Names that exporters give to any model.
_ANY_MODEL = frozenset({"", "none", "model", "graph", "main", "main_graph", "torch_jit", "torch-jit-export", "tf2onnx", "paddle2onnx", "model from paddlepaddle."})


@dataclass(frozen=True)
class StepReport:
    """One kernel call.

    Attributes:
        name: the layer it computes.
        kind: the op that anchors it, ``elementwise``, or ``copy (reason)``.
        kernel: algorithm and parameters.
        source: names of the model's nodes that it computes.
        inputs: dtype, shape and strides per operand; None for one left out.
        outputs: likewise.
        flops: operations; a multiply-add counts 2.
        bytes: read and written.
        tasks: pieces that threads share.
        fused: whether elementwise work is done on the anchor's result before it is stored.
        copy: why it only moves bytes (``layout``, ``concat``, ``output``, ``reshape``), else empty.
        transpose: whether it moves bytes into another order of axes.
        custom: of a custom layer its name and where its code is, else empty.
        side: of an engine for a GPU that shares it with a processor: the target that runs the step, else empty.
        reason: why the GPU does not, or empty.
        edge: whether it reads a graph input or writes a graph output itself.
        estimated_ns: what the cost model expects on one core.
        measured_ns: what tuning measured on one core, or None.
        rounding: error of the algorithm itself on random data, relative to the largest result; None for plain sums of products.
        time_ns: what a profile measured just now, or None.
    """

    name: str
    kind: str
    kernel: str
    source: tuple[str, ...]
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    flops: int
    bytes: int
    tasks: int
    fused: bool
    copy: str
    transpose: bool
    edge: bool
    estimated_ns: int
    measured_ns: int | None
    rounding: float | None
    time_ns: int | None = None
    custom: str = ""
    side: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Totals:
    """Sums over the steps.

    Attributes:
        steps: kernel calls.
        nodes: the model's nodes that they compute.
        fused_nodes: nodes that have no step of their own.
        copies: copy steps per reason.
        transposes_inside: steps that only bring bytes into another order of axes between two layers.
        transposes_at_edges: the same where the caller's row-major input or output is read or written.
        flops: operations of one run.
        bytes: bytes that all steps read and write.
        time_ns: sum of the steps' times, or None without a profile.
    """

    steps: int
    nodes: int
    fused_nodes: int
    copies: dict[str, int]
    transposes_inside: int
    transposes_at_edges: int
    flops: int
    bytes: int
    time_ns: int | None


@dataclass(frozen=True)
class Memory:
    """Bytes. ``live_peak`` is the largest sum of buffers alive at one step, which no ``arena`` can undercut."""

    weights: int
    arena: int
    live_peak: int
    scratch_per_thread: int
    code: int


@dataclass(frozen=True)
class Description:
    """An engine in words and numbers. ``libraries`` are the versions of those that steps are calls of."""

    model: str
    target: str
    isa: str
    threads: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    memory: Memory
    totals: Totals
    steps: tuple[StepReport, ...]
    notes: tuple[str, ...]
    placement: tuple[Fallback, ...]
    libraries: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return asdict(self)


def describe(engine: Engine, times: Sequence[StepTime] = ()) -> Description:
    """Tells what an engine does.

    Args:
        engine: built or loaded; code for another machine is described as well.
        times: of a profile, one per step; none to leave times out.

    Raises:
        EngineFileError: the manifest does not tell what it should, or does not fit the plan.
    """
    manifest = engine.manifest
    plan = _plan(engine)
    records = _get(engine, manifest, "steps", list)
    if len(records) != len(plan.steps) or (times and len(times) != len(records)):
        raise _bad(engine, f"{len(records)} steps", f"the plan's {len(plan.steps)}")
    steps = tuple(
        _step(engine, record, edge=_at_edge(plan, index), time=times[index].nanoseconds if times else None)
        for index, record in enumerate(records)
    )
    notes = _get(engine, manifest, "notes", list) if "notes" in manifest else []
    return Description(
        model=_get(engine, manifest, "model", str),
        target=_get(engine, manifest, "target", str),
        isa=_get(engine, manifest, "isa", str),
        threads=_get(engine, manifest, "threads", int),
        inputs=tuple(_tensor(t, plan) for t in plan.inputs),
        outputs=tuple(_tensor(t, plan) for t in plan.outputs),
        memory=memory_of(engine),
        totals=_totals(steps),
        steps=steps,
        notes=tuple(map(str, notes)),
        placement=engine.placement,
        libraries=_get(engine, manifest, "libraries", dict) if "libraries" in manifest else {},
    )


def precision_of(step: StepReport) -> str:
    """The dtype that a step computes in: that of its first operand, of a quantizing one that of its result."""
    views = [v for v in step.inputs if v is not None] or list(step.outputs)
    return views[0].partition("[")[0] if views else ""


def title(engine: Engine) -> str:
    """What people call the network: the model's name, or that of the engine file where exporters give every model the same."""
    name = str(engine.manifest.get("model"))
    return engine.path.stem if name.lower() in _ANY_MODEL and engine.path.stem != "engine" else name


def memory_of(engine: Engine) -> Memory:
    """What the build recorded about memory; EngineFileError when it did not."""
    found = _get(engine, engine.manifest, "memory", dict)
    return Memory(*(_get(engine, found, name, int) for name in Memory.__dataclass_fields__))


def _plan(engine: Engine) -> Plan:
    file = EngineFile(engine.path)
    plan, weights = file.find(SectionKind.PLAN), file.find(SectionKind.WEIGHTS)
    assert plan is not None and weights is not None, "EngineFile refuses a file without them"
    found = decode_plan(file.read(plan), weights.size)
    custom = file.find(SectionKind.CUSTOM)
    decode_custom(None if custom is None else file.read(custom), found)
    return found


def _tensor(tensor: Tensor, plan: Plan) -> str:
    """``x: f32[1..8, 3, 32..960%32]``"""
    least, most = (evaluate(plan.dims, [getattr(s, end) for s in plan.symbols]) for end in ("min", "max"))
    dims = []
    for number in tensor.shape:
        if number >= 0:
            dims.append(str(number))
            continue
        told = input_dim(number, plan.dims) if tensor in plan.inputs else None
        step = f"%{told[1]}" if told is not None and told[1] > 1 else ""
        dims.append(f"{least[-1 - number]}..{most[-1 - number]}{step}")
    return f"{tensor.name}: {tensor.dtype}[{', '.join(dims)}]"


def _step(engine: Engine, record: Any, edge: bool, time: int | None) -> StepReport:
    if not isinstance(record, dict):
        raise _bad(engine, type(record).__name__, "an object per step")
    measured, rounding = record.get("measured_ns"), record.get("rounding")
    return StepReport(
        name=_get(engine, record, "name", str),
        kind=_get(engine, record, "kind", str),
        kernel=_get(engine, record, "kernel", str),
        source=tuple(map(str, _get(engine, record, "source", list))),
        inputs=tuple(None if i is None else str(i) for i in _get(engine, record, "inputs", list)),
        outputs=tuple(map(str, _get(engine, record, "outputs", list))),
        flops=_get(engine, record, "flops", int),
        bytes=_get(engine, record, "bytes", int),
        tasks=_get(engine, record, "tasks", int),
        fused=_get(engine, record, "epilogue", bool),
        copy=_get(engine, record, "copy", str),
        transpose=_get(engine, record, "transpose", bool),
        edge=edge,
        estimated_ns=_get(engine, record, "estimated_ns", int),
        measured_ns=measured if isinstance(measured, int) else None,
        rounding=rounding if isinstance(rounding, float) else None,
        time_ns=time,
        **{name: _get(engine, record, name, str) if name in record else "" for name in ("custom", "side", "reason")},
    )


def _at_edge(plan: Plan, index: int) -> bool:
    return any(arg.space in (Space.INPUT, Space.OUTPUT) for arg in plan.steps[index].args)


def _totals(steps: Sequence[StepReport]) -> Totals:
    copies: dict[str, int] = {}
    for step in steps:
        if step.copy:
            copies[step.copy] = copies.get(step.copy, 0) + 1
    nodes = {name for step in steps for name in step.source}
    with_nodes = sum(bool(step.source) and not step.copy for step in steps)
    timed = [step.time_ns for step in steps if step.time_ns is not None]
    return Totals(
        steps=len(steps),
        nodes=len(nodes),
        fused_nodes=max(0, len(nodes) - with_nodes),
        copies=copies,
        transposes_inside=sum(s.transpose and not s.edge for s in steps),
        transposes_at_edges=sum(s.transpose and s.edge for s in steps),
        flops=sum(s.flops for s in steps),
        bytes=sum(s.bytes for s in steps),
        time_ns=sum(timed) if timed else None,
    )


def _get(engine: Engine, record: dict[str, Any], name: str, kind: type[T]) -> T:
    value = record.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _bad(engine, f"{name}: {value!r:.80}", f"{name} as {kind.__name__}")
    return value


def _bad(engine: Engine, got: str, expected: str) -> EngineFileError:
    return EngineFileError(
        "the manifest of the engine is malformed",
        where=str(engine.path),
        got=got,
        expected=expected,
        hint="build the engine again",
    )
