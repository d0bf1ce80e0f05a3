"""What a build would make of every node of a model, found without compiling anything.

    report = check("net.onnx")
    report.counts, report.of("unsupported"), report.totals

Sizes that are free are taken at their typical values. Of a model with unsupported nodes everything that does not depend on them is
judged all the same; what comes behind one is judged where the model declares the types of its results.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from strop.engine.arena import MemoryPlan
from strop.engine.assemble import Assembler
from strop.engine.partition import assembler_of
from strop.engine.plan import Space
from strop.errors import UnsupportedError
from strop.frontend.table import judge
from strop.frontend.verdicts import Verdict
from strop.ir import shape as sh
from strop.ir.graph import Graph
from strop.ir.text import show_type
from strop.ir.verify import verify
from strop.kernels.extent import typical
from strop.kernels.table import refusals
from strop.lower.pipeline import Lowered, Refusal, Step, lower, typical_flops
from strop.lower.regions import VIEW_OPS
from strop.ops.custom import Layer
from strop.optimize.pipeline import optimize
from strop.target.base import Target
from strop.target.detect import parse as parse_target
from strop.trace import Trace

#: What may become of a node, best first.
#: ``folded`` is computed at build time or not needed; ``view`` moves no bytes; ``fused`` shares the step of another node;
#: ``kernel`` has a step of its own; ``custom`` is a custom layer's step; ``copy`` only moves bytes; ``naive`` runs a kernel that is
#: right but slow; ``processor`` runs beside a GPU that has no kernel for it; ``unsupported`` stops a build; ``unknown`` cannot be judged because of an unsupported node before it.
FATES = ("folded", "view", "fused", "kernel", "custom", "copy", "naive", "processor", "unsupported", "unknown")


@dataclass(frozen=True)
class Figures:
    """Estimates for one run, at typical sizes.

    Attributes:
        flops: operations; a multiply-add counts 2.
        bytes: read and written by its steps; 0 for a node that is fused into another's.
        weights: bytes of constants as its steps read them.
        results: bytes of values that its steps write.
        workspace: bytes of scratch, per thread, of the step that needs most.
        estimated_ns: what the cost models expect of its steps on one core.
        share: of the estimated time of all steps, 0 to 1.
    """

    flops: int = 0
    bytes: int = 0
    weights: int = 0
    results: int = 0
    workspace: int = 0
    estimated_ns: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class NodeFate:
    """What becomes of one node of the model.

    Attributes:
        name: the node's; of one inside a branch, body or function ``outer/then/inner``.
        op: its op type.
        fate: one of ``FATES``.
        kernel: the algorithm of its step, else empty.
        step: the node into whose step it is fused, else empty.
        reason: why it is unsupported, naive, on the processor, a copy or unknown, or where a custom layer's code is; else empty.
        hint: what to try, or None.
        figures: estimates.
        refusals: of a naive node: why each other kernel does not take it.
    """

    name: str
    op: str
    fate: str
    kernel: str = ""
    step: str = ""
    reason: str = ""
    hint: str | None = None
    figures: Figures = Figures()
    refusals: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Totals:
    """Sums over what could be judged, at typical sizes; memory is that of an engine for the whole range of shapes.

    Attributes:
        nodes: of the model.
        steps: kernel calls of one run, copies among them.
        copies: copy steps per reason.
        flops: operations of one run.
        bytes: bytes that all steps read and write.
        weights: bytes of packed weights in the engine.
        arena: bytes of intermediate values, per context.
        live_peak: largest sum of values alive at one step, which no arena undercuts.
        workspace: bytes of scratch, per thread.
        estimated_ns: what the cost models expect of all steps on one core.
    """

    nodes: int = 0
    steps: int = 0
    copies: Mapping[str, int] = field(default_factory=dict)
    flops: int = 0
    bytes: int = 0
    weights: int = 0
    arena: int = 0
    live_peak: int = 0
    workspace: int = 0
    estimated_ns: int = 0


@dataclass(frozen=True)
class CheckReport:
    """The fate of every node, in the order of execution.

    Attributes:
        model: its name.
        target: that of the code.
        nodes: their fates.
        inputs: name, dtype and shape of each.
        sizes: the value that each free size is taken at.
        totals: sums.
    """

    model: str
    target: str
    nodes: tuple[NodeFate, ...]
    inputs: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    totals: Totals = Totals()

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes meet each fate that occurs."""
        found = Counter(node.fate for node in self.nodes)
        return {fate: found[fate] for fate in FATES if found[fate]}

    def of(self, fate: str) -> tuple[NodeFate, ...]:
        """The nodes that meet a fate."""
        return tuple(node for node in self.nodes if node.fate == fate)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        return {**asdict(self), "counts": self.counts}


def check(
    model: Any,
    *,
    target: str | Target = "host",
    shapes: Mapping[str, str | Sequence[int | str]] | None = None,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    signature: str | None = None,
) -> CheckReport:
    """Judges every node of a model.

    Args:
        model: as for ``build``.
        target: as for ``build``.
        shapes, example_inputs, dynamic_shapes, signature: as for ``build``.

    Raises:
        ModelError: the file is no model whose nodes could be judged.
        UnsupportedError: the size of an input is free and nothing says in which range, or the file is a model of another kind.
    """
    machine = parse_target(target) if isinstance(target, str) else target
    name = Path(model).stem if isinstance(model, (str, Path)) else "model"
    verdicts, graph = judge(model, shapes, example_inputs=example_inputs, dynamic_shapes=dynamic_shapes, signature=signature)
    given = tuple(f"{v.name}: {show_type(v.type)}" for v in graph.inputs)
    sizes = {s.name: s.opt for v in graph.inputs for s in sh.symbols(v.shape)}
    empty = CheckReport(name, machine.name, tuple(_unread(v, "") for v in verdicts), given, sizes, Totals(len(verdicts)))
    if not graph.outputs:
        return empty
    try:
        return replace(empty, **_judged(verdicts, graph, machine))
    except UnsupportedError as error:  # of the network as a whole
        if all(v.supported for v in verdicts):
            raise
        return replace(empty, nodes=tuple(_unread(v, error.what) for v in verdicts))


def _judged(verdicts: Sequence[Verdict], graph: Graph, machine: Target) -> dict[str, Any]:
    """The nodes and totals of what could be read."""
    trace = Trace()
    verify(graph, "imported")
    refused: list[Refusal] = []
    lowered = lower(optimize(graph, trace), machine, trace, refused)
    parts = assembler_of(lowered)
    parts.emit()
    figures = _figures({v.name for v in verdicts}, lowered, parts)
    judge_one = _Judge(lowered, refused, parts)
    nodes = tuple(replace(judge_one(v), figures=figures.get(v.name, Figures())) for v in verdicts)
    return {"nodes": nodes, "totals": _totals(len(verdicts), lowered, parts.memory, parts)}


def _unread(verdict: Verdict, reason: str) -> NodeFate:
    fate = "unknown" if verdict.supported else "unsupported"
    return NodeFate(verdict.name, verdict.op_type, fate, reason=verdict.reason or reason, hint=verdict.hint)


class _Judge:
    """Finds the fate of nodes in a lowered program."""

    def __init__(self, lowered: Lowered, refused: Sequence[Refusal], parts: Assembler) -> None:
        self._target = lowered.target
        self._steps: dict[str, Step] = {}
        self._copies: dict[str, Step] = {}
        for step in lowered.steps:
            for source in step.region.source:
                (self._copies if step.copy else self._steps).setdefault(source, step)
        self._where = {id(step): record["custom"] for step, record in zip(lowered.steps, parts.records, strict=True)}
        self._views = {s for node in lowered.graph.nodes if isinstance(node.op, VIEW_OPS) for s in node.source}
        self._refused = {source: refusal for refusal in refused for source in (refusal[0].name, *refusal[0].source)}

    def __call__(self, verdict: Verdict) -> NodeFate:
        name, op = verdict.name, verdict.op_type
        if not verdict.supported:
            return _unread(verdict, "")
        if not verdict.checked:
            return _unread(verdict, "an operand comes from an unsupported node")
        if name in self._refused:
            return self._refusal(name, op)
        step, copy = self._steps.get(name), self._copies.get(name)
        if step is not None:
            return self._step(name, op, step)
        if name in self._views and copy is not None:
            return NodeFate(name, op, "copy", copy.chosen.kernel.name, reason=copy.copy)
        return NodeFate(name, op, "view" if name in self._views else "folded")

    def _refusal(self, name: str, op: str) -> NodeFate:
        launch, error = self._refused[name]
        if launch.name != name:
            return NodeFate(name, op, "unknown", reason=f"it goes with {launch.name}, which is unsupported")
        reason = f"{error.what}; {error.expected}" if error.expected else error.what
        return NodeFate(name, op, "unsupported", reason=reason, hint=error.hint)

    def _step(self, name: str, op: str, step: Step) -> NodeFate:
        kernel, owner = step.chosen.kernel.name, step.region.name
        elsewhere = "" if owner == name else owner
        if step.host is not None:
            return NodeFate(name, op, "processor", kernel, elsewhere, f"on {step.host}: {step.refusal}")
        if isinstance(step.region.op, Layer) and not elsewhere:
            return NodeFate(name, op, "custom", kernel, reason=self._where[id(step)].partition(": ")[2])
        if kernel.startswith("naive"):
            why = {k: v for k, v in refusals(step.region, self._target).items() if k != kernel}
            return NodeFate(name, op, "naive", kernel, elsewhere, "no faster kernel accepts it", refusals=why)
        return NodeFate(name, op, "fused" if elsewhere else "kernel", kernel, elsewhere)


def _figures(names: set[str], lowered: Lowered, parts: Assembler) -> dict[str, Figures]:
    """Estimates by node. What a step moves and takes counts at the node that it is named after, or else the first of its nodes;
    operations count at the first of the model's nodes that a node stands for."""
    total = max(1, sum(record["estimated_ns"] for record in parts.records))
    found: dict[str, Figures] = defaultdict(Figures)
    for node in lowered.graph.nodes:
        owner = next((s for s in node.source if s in names), None)
        if owner is not None:
            found[owner] = replace(found[owner], flops=found[owner].flops + typical_flops(node))
    for step, record, planned in zip(lowered.steps, parts.records, parts.steps, strict=True):
        owner = next((s for s in (step.region.name, *step.region.source) if s in names), None)
        if owner is None:
            continue
        old = found[owner]
        time = old.estimated_ns + record["estimated_ns"]
        found[owner] = replace(
            old,
            bytes=old.bytes + record["bytes"],
            weights=old.weights + sum(arg.size for arg in planned.args if arg.space == Space.WEIGHTS),
            results=old.results + sum(typical(view.nbytes) for view in step.region.outs),
            workspace=max(old.workspace, record["scratch"]),
            estimated_ns=time,
            share=time / total,
        )
    return found


def _totals(nodes: int, lowered: Lowered, memory: MemoryPlan, parts: Assembler) -> Totals:
    copies = Counter(step.copy for step in lowered.steps if step.copy)
    return Totals(
        nodes=nodes,
        steps=len(lowered.steps),
        copies=dict(sorted(copies.items())),
        flops=sum(map(typical_flops, lowered.graph.nodes)),
        bytes=sum(record["bytes"] for record in parts.records),
        weights=parts.weights.size,
        arena=memory.size,
        live_peak=memory.live_peak,
        workspace=parts.scratch,
        estimated_ns=sum(record["estimated_ns"] for record in parts.records),
    )
