"""What a build would make of every node of a model, found without compiling anything.

    report = check("net.onnx")
    report.counts, report.of("unsupported")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from strop.errors import UnsupportedError
from strop.frontend.table import read, survey
from strop.frontend.verdicts import Verdict
from strop.ir.verify import verify
from strop.lower.pipeline import Lowered, Step, lower
from strop.lower.regions import VIEW_OPS
from strop.optimize.pipeline import optimize
from strop.target.base import Target
from strop.target.detect import parse as parse_target
from strop.trace import Trace

#: What may become of a node, best first.
#: ``folded`` is computed at build time or not needed; ``view`` moves no bytes; ``fused`` shares the step of another node;
#: ``kernel`` has a step of its own; ``copy`` only moves bytes; ``naive`` runs a kernel that is right but slow;
#: ``unknown`` cannot be judged because of an unsupported node before it.
FATES = ("folded", "view", "fused", "kernel", "copy", "naive", "unsupported", "unknown")


@dataclass(frozen=True)
class NodeFate:
    """What becomes of one node of the model.

    Attributes:
        name: the node's.
        op: its op type.
        fate: one of ``FATES``.
        kernel: the algorithm of its step, else empty.
        step: name of its step, which is that of another node, else empty.
        reason: why it is unsupported or naive, else empty.
        hint: what to try, or None.
    """

    name: str
    op: str
    fate: str
    kernel: str = ""
    step: str = ""
    reason: str = ""
    hint: str | None = None


@dataclass(frozen=True)
class CheckReport:
    """The fate of every node, in the order of execution."""

    model: str
    target: str
    nodes: tuple[NodeFate, ...]

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
) -> CheckReport:
    """Judges every node of a model.

    Args:
        model: as for ``build``.
        target: as for ``build``.
        shapes, example_inputs, dynamic_shapes: as for ``build``.

    Raises:
        ModelError: the file is no model whose nodes could be judged.
        UnsupportedError: an input's shape is not fixed, or the file is a model of another kind.
    """
    machine = parse_target(target) if isinstance(target, str) else target
    name = Path(model).stem if isinstance(model, (str, Path)) else "model"
    options = {"example_inputs": example_inputs, "dynamic_shapes": dynamic_shapes}
    verdicts = survey(model, shapes, **options)
    if not all(v.supported for v in verdicts):
        return CheckReport(name, machine.name, tuple(_unread(v) for v in verdicts))
    trace = Trace()
    graph = read(model, shapes, **options)
    verify(graph, "imported")
    graph = optimize(graph, trace)
    try:
        lowered = lower(graph, machine, trace)
    except UnsupportedError as error:
        return CheckReport(name, machine.name, _unlowered(verdicts, error))
    return CheckReport(name, machine.name, _fates(verdicts, lowered))


def _unread(verdict: Verdict) -> NodeFate:
    fate = "unknown" if verdict.supported else "unsupported"
    return NodeFate(verdict.name, verdict.op_type, fate, reason=verdict.reason, hint=verdict.hint)


def _unlowered(verdicts: Sequence[Verdict], error: UnsupportedError) -> tuple[NodeFate, ...]:
    """The node that no kernel can do; raises the error again when it is about none."""
    if error.where not in {v.name for v in verdicts}:
        raise error
    reason = f"{error.what}; {error.expected}" if error.expected else error.what
    return tuple(
        NodeFate(v.name, v.op_type, "unsupported", reason=reason, hint=error.hint)
        if v.name == error.where
        else NodeFate(v.name, v.op_type, "unknown")
        for v in verdicts
    )


def _fates(verdicts: Sequence[Verdict], lowered: Lowered) -> tuple[NodeFate, ...]:
    steps: dict[str, Step] = {}
    copies: dict[str, Step] = {}
    for step in lowered.steps:
        for source in step.region.source:
            (copies if step.copy else steps).setdefault(source, step)
    views = {s for node in lowered.graph.nodes if isinstance(node.op, VIEW_OPS) for s in node.source}
    return tuple(_fate(v, steps.get(v.name), copies.get(v.name), v.name in views) for v in verdicts)


def _fate(verdict: Verdict, step: Step | None, copy: Step | None, is_view: bool) -> NodeFate:
    name, op = verdict.name, verdict.op_type
    if step is None:
        if is_view and copy is not None:
            return NodeFate(name, op, "copy", copy.chosen.kernel.name, reason=copy.copy)
        return NodeFate(name, op, "view" if is_view else "folded")
    kernel, owner = step.chosen.kernel.name, step.region.name
    elsewhere = "" if owner == name else owner
    if kernel.startswith("naive"):
        return NodeFate(name, op, "naive", kernel, elsewhere, "no faster kernel accepts it")
    return NodeFate(name, op, "fused" if elsewhere else "kernel", kernel, elsewhere)
