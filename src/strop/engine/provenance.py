"""Where the time goes, by the model's own layers: every microsecond, byte and joule of a run, attributed to the nodes of the model.

    found = profile(engine)
    for layer in found.layers: print(layer.name, layer.ns, layer.bytes)

The fastest of many runs is the one that is divided, as everything else that a machine does only makes runs longer.

A step computes one node, or several that are fused. Its time is divided among them by their operations: a node fused into another's
loop costs what it adds to the arithmetic. Its bytes are divided by what each node reads from outside of the step and writes to
outside of it: what stays in registers moves nothing. Energy follows time, as no meter is fast enough for a step. Nodes that have no step
(views, what was folded away) get nothing. Sums over the layers are the sums over the steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from strop.engine.bench import Latency, time_calls
from strop.engine.describe import StepReport, describe, precision_of, title
from strop.engine.energy import Energy, Gauge
from strop.engine.engine import Engine
from strop.engine.notebook import pairs_html, table_html
from strop.engine.roofline import Peaks
from strop.engine.sources import Source, read_sources

#: What becomes of a node.
KERNEL, FUSED, COPY, FREE = "kernel", "fused", "copy", "free"
#: Name of the row that has what no node of the model asks for.
OWN = "(arranging data)"


#: Layers in a notebook's table.
SHOWN = 25


@dataclass(frozen=True)
class LayerProfile:
    """A node of the model.

    Attributes:
        name, op, result: the model's.
        fate: ``kernel`` (a step is named after it), ``fused`` into the step of another, ``copy`` (it only moves bytes), or
            ``free``: a view, or computed when the engine was built.
        steps: numbers of the steps that compute it.
        kernel: of the one of these with most operations.
        precision: dtype that it computes in; empty without a step.
        ns: of one run.
        share: of the time of all steps.
        bytes: read and written.
        flops: operations.
        joules: of one run, or None.
        intensity: operations per byte of the kernels that compute it: what is fused shares their traffic.
        flops_per_s: operations per second.
        of_roof: what these kernels reach of what the roofline allows them, or None without peaks.
    """

    name: str
    op: str
    result: str
    fate: str
    steps: tuple[int, ...]
    kernel: str
    precision: str
    ns: float = 0.0
    share: float = 0.0
    bytes: float = 0.0
    flops: float = 0.0
    joules: float | None = None
    intensity: float = 0.0
    flops_per_s: float = 0.0
    of_roof: float | None = None


@dataclass(frozen=True)
class Profile:
    """One engine's profile.

    Attributes:
        model, target, threads: what ran where.
        layers: the model's nodes in their order; a last one, ``OWN``, where steps arrange data that belong to no node.
        steps: with their times.
        parts: per step (layer number, share of the step's time).
        latency: of whole runs, measured beside the steps.
        energy: while whole runs were measured.
        joules: of one run, or None.
        peaks: of the cores, or None.
    """

    model: str
    target: str
    threads: int
    layers: tuple[LayerProfile, ...]
    steps: tuple[StepReport, ...]
    parts: tuple[tuple[tuple[int, float], ...], ...]
    latency: Latency
    energy: Energy
    joules: float | None
    peaks: Peaks | None

    @property
    def ns(self) -> int:
        """Nanoseconds of all steps in the fastest run that was looked into."""
        return sum(step.time_ns or 0 for step in self.steps)

    @property
    def calling_ns(self) -> float:
        """What the fastest whole run took beyond its steps: the call from Python, and what stands between the steps."""
        return max(0.0, self.latency.min * 1e6 - self.ns)

    @property
    def covered(self) -> float:
        """What the layers and ``calling_ns`` account for, by the fastest whole run."""
        return (sum(layer.ns for layer in self.layers) + self.calling_ns) / (self.latency.min * 1e6)

    def _repr_html_(self) -> str:
        slowest = sorted((x for x in self.layers if x.steps), key=lambda x: -x.ns)[:SHOWN]
        rows = [(x.name, x.op, f"{x.ns / 1e3:.1f}", x.share, f"{x.bytes / 1024:.0f}", x.precision, x.kernel) for x in slowest]
        columns = ("layer", "op", "us", "share", "KiB", "precision", "kernel")
        head = pairs_html(f"{self.model} for {self.target}, {self.threads} threads", [("all steps", f"{self.ns / 1e3:.1f} us")])
        return head + table_html(columns, rows, right=("us", "KiB"))

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and numbers."""
        found = {k: v for k, v in asdict(self).items() if k != "latency"}
        return {**found, "energy": self.energy.to_json(), "latency_ms": asdict(self.latency), "ns": self.ns, "calling_ns": self.calling_ns, "covered": self.covered}


def profile(
    engine: Engine, inputs: Mapping[str, ArrayLike] | None = None, *, threads: int | None = None, runs: int = 100,
    seconds: float = 1.0, peaks: Peaks | None = None,
) -> Profile:  # fmt: skip
    """Profiles an engine.

    Args:
        inputs: by name; random when None.
        threads: of the context; None for the engine's own.
        runs: at most, whole ones and again step by step.
        seconds: that each of the two may take.
        peaks: for the roofline, see ``strop.engine.roofline.measure``.

    Raises:
        InputError: an input does not fit.
        EngineFileError: the manifest is malformed.
    """
    arrays = {k: np.ascontiguousarray(v) for k, v in (engine.random_inputs() if inputs is None else inputs).items()}
    context = engine.context(threads=threads)
    try:
        call = context.bind(arrays, context.new_outputs())
        call()
        once = time_calls(call, runs=2)
        count = max(3, min(runs, int(seconds * 1e9 / max(1, min(once)))))
        with Gauge.of(engine.manifest.get("target")) as gauge:
            rehearsal = time_calls(call, runs=count)
        whole, single = [], []
        for _ in range(count):  # in turns, so that both meet the same machine
            whole += time_calls(call, runs=1)
            single.append(context.profile(arrays, runs=1))
    finally:
        context.close()
    times = min(single, key=lambda steps: sum(step.nanoseconds for step in steps))
    found = describe(engine, times)
    joules = gauge.found.per(len(rehearsal))
    layers, parts = attribute(read_sources(engine), found.steps, joules, peaks)
    return Profile(
        title(engine), found.target, context.threads, layers, found.steps, parts, Latency.of(whole), gauge.found, joules, peaks
    )


def attribute(
    sources: Sequence[Source], steps: Sequence[StepReport], joules: float | None = None, peaks: Peaks | None = None
) -> tuple[tuple[LayerProfile, ...], tuple[tuple[tuple[int, float], ...], ...]]:
    """Divides steps among the nodes of the model: the layers, and per step (layer number, share of its time).

    Times are the steps' measured ones, or what their cost models expect where nothing was measured."""
    index = {source.name: k for k, source in enumerate(sources)}
    groups = [[index[name] for name in step.source if name in index] for step in steps]
    time = [float(step.estimated_ns if step.time_ns is None else step.time_ns) for step in steps]
    layers = [LayerProfile(s.name, s.op, s.result, FREE, (), "", "") for s in sources]
    if not all(groups):
        layers.append(LayerProfile(OWN, "", "", FREE, (), "", ""))
    parts = []
    users = _users(sources)
    chief = [-1] * len(layers)  # the most operations of a step of each layer, which is the one that it is known by
    for number, (step, group) in enumerate(zip(steps, groups)):
        members = group or [len(layers) - 1]
        shares = _shares([float(sources[k].flops) for k in members] if group else [1.0])
        moved = _shares([_outside(sources, users, k, group) for k in members] if group else [1.0])
        for k, share, bytes_ in zip(members, shares, moved):
            old = layers[k]
            kernel, precision = (step.kernel, precision_of(step)) if step.flops > chief[k] else (old.kernel, old.precision)
            chief[k] = max(chief[k], step.flops)
            layers[k] = replace(
                old, steps=(*old.steps, number), kernel=kernel, precision=precision,
                fate=_fate(old, step), ns=old.ns + share * time[number], bytes=old.bytes + bytes_ * step.bytes, flops=old.flops + share * step.flops,
            )  # fmt: skip
        parts.append(tuple(zip(members, shares)))
    return tuple(_finished(layer, steps, time, joules, peaks) for layer in layers), tuple(parts)


def _fate(layer: LayerProfile, step: StepReport) -> str:
    if step.copy:
        return layer.fate if layer.fate != FREE else COPY
    return KERNEL if layer.fate == KERNEL or step.name == layer.name or len(step.source) == 1 else FUSED


def _finished(
    layer: LayerProfile, steps: Sequence[StepReport], time: Sequence[float], joules: float | None, peaks: Peaks | None
) -> LayerProfile:
    """The layer with what follows from its sums. On the roofline it stands where its kernels stand."""
    share = layer.ns / max(1e-9, sum(time))
    flops, moved, ns = (float(sum(column)) for column in zip(*((steps[k].flops, steps[k].bytes, time[k]) for k in layer.steps))) if layer.steps else (0.0,) * 3
    of_roof = None
    if peaks is not None and ns > 0:
        roof = peaks.attainable(flops, moved) if flops >= 1 else peaks.best_bandwidth
        of_roof = (flops if flops >= 1 else moved) / ns * 1e9 / roof
    return replace(
        layer, share=share, joules=None if joules is None else joules * share, intensity=flops / moved if moved > 0 else 0.0,
        flops_per_s=layer.flops / layer.ns * 1e9 if layer.ns > 0 else 0.0, of_roof=of_roof,
    )  # fmt: skip


def _shares(weights: Sequence[float]) -> list[float]:
    """Weights brought to a sum of 1; equal ones where there are none."""
    total = math.fsum(weights)
    return [w / total for w in weights] if total > 0 else [1.0 / len(weights)] * len(weights)


def _users(sources: Sequence[Source]) -> list[set[int]]:
    """Per node those that read its results."""
    users: list[set[int]] = [set() for _ in sources]
    for k, source in enumerate(sources):
        for producer, _ in source.operands:
            if producer >= 0:
                users[producer].add(k)
    return users


def _outside(sources: Sequence[Source], users: Sequence[set[int]], node: int, group: Sequence[int]) -> float:
    """Bytes that a node of a step reads from outside of the step and writes to outside of it."""
    source, inside = sources[node], set(group)
    read = sum(size for producer, size in source.operands if producer not in inside)
    return float(read + (source.written if not users[node] or users[node] - inside else 0))


def chrome_trace(found: Profile) -> dict[str, Any]:
    """The profile as a trace of one run for chrome://tracing or Perfetto (Trace Event Format, complete events): steps, and below each of
    them the layers that it computes."""
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": 0, "name": "process_name", "args": {"name": f"{found.model} for {found.target}"}},
        {"ph": "M", "pid": 1, "tid": 1, "name": "thread_name", "args": {"name": "kernels"}},
        {"ph": "M", "pid": 1, "tid": 2, "name": "thread_name", "args": {"name": "layers of the model"}},
    ]
    at = 0.0
    for step, parts in zip(found.steps, found.parts):
        length = (step.time_ns or 0) / 1e3
        facts = {"kernel": step.kernel, "flops": step.flops, "bytes": step.bytes, "output": ", ".join(step.outputs)}
        events.append({"ph": "X", "pid": 1, "tid": 1, "cat": "step", "name": step.name, "ts": at, "dur": length, "args": facts})
        inner = at
        for number, share in parts:
            layer = found.layers[number]
            events.append(
                {"ph": "X", "pid": 1, "tid": 2, "cat": "layer", "name": layer.name, "ts": inner, "dur": share * length,
                 "args": {"op": layer.op, "result": layer.result, "share of the step": share}}
            )  # fmt: skip
            inner += share * length
        at += length
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"model": found.model, "target": found.target, "threads": found.threads}}
