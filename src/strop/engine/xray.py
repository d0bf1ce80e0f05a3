"""Where a network loses accuracy when its precision is reduced, layer by layer.

Two measurements. The quantized engine and the float engine run side by side, and every layer's result is compared: its SQNR, the
channels that are worst, how many values saturate. And each layer is isolated: the network with only this layer reduced, and
with every layer but this one, in numpy on a few batches. The noise that a layer by itself brings to the outputs is its blame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from strop.engine.engine import Engine
from strop.engine.evaluate import decibels
from strop.engine.replay import Replay
from strop.engine.rewrite import Calibrated, rewrite
from strop.engine.watch import Compile, portions, tap_name, tapped
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array
from strop.ops.base import highest, lowest
from strop.ops.elementwise import Elementwise
from strop.ops.quantize import Quantize
from strop.quantize.data import Samples
from strop.quantize.narrow import F16_MAX
from strop.quantize.precision import Decisions, layer_name, layers
from strop.trace import Trace

#: Batches on which layers are isolated.
ISOLATED_BATCHES = 4
#: Channels that are named per layer.
_WORST = 3


@dataclass(frozen=True)
class LayerReport:
    """One layer.

    Attributes:
        name: the model's node.
        op: what it computes.
        precision: what it computes in.
        value: the name of its result, behind the elementwise ops that follow.
        sqnr: of the result against the float network, in dB, with the noise of all layers before it.
        alone: SQNR of the outputs with only this layer reduced.
        without: SQNR of the outputs with all layers but this one reduced.
        blame: its share of the noise that the layers alone bring to the outputs, from 0 to 1.
        saturated: values of the result beyond the range of its integers.
        overflows: values of the result beyond the range of f16.
        elements: values that were looked at.
        worst: channels of least SQNR, with it.
    """

    name: str
    op: str
    precision: str
    value: str
    sqnr: float
    alone: float
    without: float
    blame: float
    saturated: int
    overflows: int
    elements: int
    worst: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class AccuracyReport:
    """What reducing the precision costs.

    Attributes:
        sqnr: of all outputs, in dB.
        batches: that both engines ran.
        isolated: batches on which layers were isolated.
        exact: True when watching changed no bit of the outputs.
        layers: most to blame first.
        notes: what else should be known.
    """

    model: str
    sqnr: float
    batches: int
    isolated: int
    exact: bool
    layers: tuple[LayerReport, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; an infinite SQNR is null."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


@dataclass
class _Sums:
    """Powers of signal and noise per channel, and counts."""

    axis: int
    limits: tuple[float, float] | None
    signal: Array | None = None
    noise: Array | None = None
    saturated: int = 0
    overflows: int = 0
    elements: int = 0

    def add(self, wanted: Array, got: Array) -> None:
        wide, other = wanted.astype(np.float64), got.astype(np.float64)
        axes = tuple(k for k in range(wide.ndim) if k != self.axis)
        with np.errstate(all="ignore"):
            signal, noise = (wide * wide).sum(axis=axes), ((wide - other) ** 2).sum(axis=axes)
        self.signal = signal if self.signal is None else self.signal + signal
        self.noise = noise if self.noise is None else self.noise + noise
        self.overflows += int(np.count_nonzero(np.abs(wide) > F16_MAX))
        self.elements += wide.size
        if self.limits is not None:
            self.saturated += int(np.count_nonzero((other < self.limits[0]) | (other > self.limits[1])))

    def sqnr(self) -> float:
        if self.signal is None or self.noise is None:
            return math.inf
        return decibels(float(self.signal.sum()), float(self.noise.sum()))

    def worst(self) -> tuple[tuple[int, float], ...]:
        if self.signal is None or self.noise is None or self.signal.ndim == 0:
            return ()
        with np.errstate(all="ignore"):
            each = 10 * np.log10(self.signal / self.noise)
        each = np.where(self.noise == 0, np.inf, np.where(self.signal == 0, -np.inf, each))
        chosen = np.argsort(each, kind="stable")[:_WORST]
        return tuple((int(k), float(each[k])) for k in chosen if np.isfinite(each[k]) or self.noise[k] > 0)


@dataclass
class Isolation:
    """Powers of signal and of noise at the outputs, per layer name."""

    signal: float = 0.0
    alone: dict[str, float] = field(default_factory=dict)
    without: dict[str, float] = field(default_factory=dict)
    batches: int = 0

    def blame(self) -> dict[str, float]:
        """Each layer's share of the sum of noises; layers whose noise is infinite share all of it."""
        endless = [name for name, noise in self.alone.items() if math.isinf(noise)]
        if endless:
            return {name: (name in endless) / len(endless) for name in self.alone}
        whole = sum(self.alone.values()) or 1.0
        return {name: noise / whole for name, noise in self.alone.items()}

    def ranked(self) -> list[str]:
        """Node names, the one that alone brings most noise first."""
        return sorted(self.alone, key=lambda name: -self.alone[name])


def isolate(
    graph: Graph, decisions: Decisions, calibrated: Calibrated, samples: Samples, trace: Trace,
    batches: int = ISOLATED_BATCHES, without: bool = True,
) -> Isolation:  # fmt: skip
    """Runs the network with single layers reduced, and with single layers left alone.

    Args:
        graph: portable, f32.
        decisions: the precision of every layer.
        without: False to leave the second half out.
    """
    reduced = [n for n in layers(graph) if decisions.of(n) != "fp32"]
    quiet = Trace()
    single = {n.name: rewrite(graph, only(decisions, reduced, n), calibrated, quiet) for n in reduced}
    others = {n.name: rewrite(graph, decisions.lifted({n.name: ""}), calibrated, quiet) for n in reduced} if without else {}
    found = Isolation(alone=dict.fromkeys(single, 0.0), without=dict.fromkeys(others, 0.0))
    for batch in samples:
        if found.batches == batches:
            break
        found.batches += 1
        replay = Replay(graph, batch.inputs)
        found.signal += sum(float(np.sum(a.astype(np.float64) ** 2)) for a in replay.outputs.values())
        for into, variants in ((found.alone, single), (found.without, others)):
            for name, variant in variants.items():
                into[name] += _noise(replay.outputs, replay.run(variant))
        trace.report("quantize", found.batches, batches)
    return found


def only(decisions: Decisions, reduced: Sequence[Node], kept: Node) -> Decisions:
    """Decisions that leave one layer as it is and lift all others."""
    return decisions.lifted({n.name: "" for n in reduced if n is not kept})


def _noise(wanted: Mapping[str, Array], got: Mapping[str, Array]) -> float:
    """Sum of the squared differences of all outputs; infinite where one is no number."""
    with np.errstate(all="ignore"):
        total = sum(float(np.sum((got[n].astype(np.float64) - a.astype(np.float64)) ** 2)) for n, a in wanted.items())
    return total if math.isfinite(total) else math.inf


def accuracy_report(
    graph: Graph,
    reduced: Graph,
    decisions: Decisions,
    calibrated: Calibrated,
    samples: Samples,
    compile: Compile,
    trace: Trace,
    batches: int = ISOLATED_BATCHES,
) -> AccuracyReport:
    """Compares a network with its reduced form, layer by layer.

    Args:
        graph: portable, f32.
        reduced: what the quantize stage made of it by ``decisions`` and ``calibrated``.
        samples: that can be walked more than once.
        compile: makes engines for this machine.
        batches: on which layers are isolated; all are used for the comparison of the engines.
    """
    ends = {node.name: chain_end(graph, node) for node in layers(graph)}
    values = list(dict.fromkeys(ends.values()))
    sums = {v.name: _Sums(_channel_axis(v), _limits(reduced, v)) for v in values}
    output, count, exact = _compare(graph, reduced, values, sums, samples, compile, trace)
    isolation = isolate(graph, decisions, calibrated, samples, trace, batches)
    blame = isolation.blame()
    rows = []
    for node in layers(graph):
        precision, value = decisions.of(node), ends[node.name]
        seen, alone = sums[value.name], isolation.alone.get(node.name, 0.0)
        rows.append(
            LayerReport(
                layer_name(node), node.op.label, precision, value.name, seen.sqnr(), decibels(isolation.signal, alone),
                decibels(isolation.signal, isolation.without[node.name]) if node.name in isolation.without else output,
                blame.get(node.name, 0.0), seen.saturated, seen.overflows, seen.elements, seen.worst(),
            )
        )  # fmt: skip
    rows.sort(key=lambda row: -row.blame)
    return AccuracyReport(graph.name, output, count, isolation.batches, exact, tuple(rows), tuple(trace.notes))


def _compare(
    graph: Graph, reduced: Graph, values: Sequence[Value], sums: Mapping[str, _Sums], samples: Samples, compile: Compile, trace: Trace
) -> tuple[float, int, bool]:
    """Adds up differences of values between both networks; SQNR of the outputs, batches, and whether watching changed them."""
    signal = noise = 0.0
    count, exact = 0, True
    plain = compile(reduced)
    for number, part in enumerate(portions(graph, values, samples.once)):
        engines: list[Engine] = [compile(tapped(graph, part)), compile(tapped(reduced, [reduced.values[v.name] for v in part if v.name in reduced.values]))]
        with closing(engines[0].context()) as left, closing(engines[1].context()) as right:
            for index, batch in enumerate(samples):
                wanted, got = left.run(batch.inputs), right.run(batch.inputs)
                for value in part:
                    other = reduced.values.get(value.name)
                    if other is not None:
                        sums[value.name].add(wanted[tap_name(graph, value)], got[tap_name(reduced, other)])
                if number == 0:
                    count = index + 1
                    outputs = {n: wanted[n] for n in graph.output_names}
                    signal += sum(float(np.sum(a.astype(np.float64) ** 2)) for a in outputs.values())
                    noise += _noise(outputs, got)
                    if index == 0:
                        bare = plain.run(batch.inputs)
                        exact = all(np.array_equal(bare[n], got[n], equal_nan=bare[n].dtype.kind == "f") for n in graph.output_names)
                trace.report("quantize", index + 1, 0)
    return decibels(signal, noise), count, exact


def chain_end(graph: Graph, node: Node) -> Value:
    """The value behind the elementwise ops that follow a layer and that nobody else reads: what its kernel stores."""
    value = node.output
    while len(value.users) == 1 and not graph.is_output(value):
        reader = value.users[0]
        if not isinstance(reader.op, Elementwise) or reader.output.shape != value.shape:
            break
        value = reader.output
    return value


def _channel_axis(value: Value) -> int:
    return 1 if len(value.shape) > 2 else max(0, len(value.shape) - 1)


def _limits(reduced: Graph, value: Value) -> tuple[float, float] | None:
    """The range of the integers that a value is stored as; None when it stays a float."""
    other = reduced.values.get(value.name)
    found = next((n for n in other.users if isinstance(n.op, Quantize)), None) if other is not None else None
    if found is None:
        return None
    assert isinstance(found.op, Quantize)
    scale, least, most = found.operand(1).const, int(lowest(found.op.to)), int(highest(found.op.to))
    zero = found.operand(2).const if found.has(2) else np.zeros(())
    assert scale is not None and zero is not None
    step, shift = float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0])
    # half a step beyond the last integer still rounds to it
    return (least - shift - 0.5) * step, (most - shift + 0.5) * step
