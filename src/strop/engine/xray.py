"""Where a network loses accuracy when its precision is reduced, layer by layer.

Two measurements. The quantized engine and the float engine run side by side, and every layer's result is compared: its SQNR, the
channels that are worst, how many values saturate. And each layer is isolated: the network with only this layer reduced, and
with every layer but this one, in numpy on a few batches. The noise that a layer by itself brings to the outputs is its blame.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from strop.engine.engine import Engine
from strop.engine.evaluate import decibels
from strop.engine.replay import Replay
from strop.engine.rewrite import Calibrated, rewrite
from strop.engine.shifted import Shifted, is_worth_it
from strop.engine.watch import Compile, Taps, portions, tap_name, tapped
from strop.engine.xray_sums import Stored, Sums, channel_axis, limits
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array
from strop.ops.elementwise import Elementwise
from strop.quantize.data import Samples
from strop.quantize.precision import Decisions, layer_name, layers
from strop.trace import Trace

#: Batches on which layers are isolated, and elements of all values of a network above which it is one batch: numpy takes minutes for each of them.
ISOLATED_BATCHES = 4
_LARGE = 1 << 25


@dataclass(frozen=True)
class LayerReport:
    """One layer.

    Attributes:
        name: the model's node.
        op: what it computes.
        precision: what it computes in.
        value: the name of its result, behind the elementwise ops that follow.
        sqnr: of the result as it is stored against the float network, in dB, with the noise of all layers before it.
        alone: SQNR of the outputs with only this layer reduced.
        without: SQNR of the outputs with all layers but this one reduced.
        blame: its share of the noise that the layers alone bring to the outputs, from 0 to 1.
        saturated: values of the float network's result beyond the range of its integers.
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
    compile: Compile | None, batches: int = ISOLATED_BATCHES, without: bool = True, nodes: Collection[str] | None = None,
) -> Isolation:  # fmt: skip
    """Runs the network with single layers reduced, and with single layers left alone.

    A layer alone runs in numpy up to where the rest is the float network, and of large networks that rest runs in an engine.

    Args:
        graph: portable, f32.
        decisions: the precision of every layer.
        compile: makes engines for this machine; None where there are none.
        batches: at most; one of a large network that numpy runs.
        without: False to leave the second half out.
        nodes: names of nodes that are isolated in place of the layers.
    """
    candidates = layers(graph) if nodes is None else [n for n in graph.nodes if n.name in nodes]
    reduced = [n for n in candidates if decisions.of(n) != "fp32"]
    quiet = Trace()
    single = {n.name: rewrite(graph, only(decisions, reduced, n), calibrated, quiet) for n in reduced}
    others = {n.name: rewrite(graph, decisions.lifted({n.name: ""}), calibrated, quiet) for n in reduced} if without else {}
    found = Isolation(alone=dict.fromkeys(single, 0.0), without=dict.fromkeys(others, 0.0))
    ends = [] if compile is None else list(dict.fromkeys(chain_end(graph, node) for node in reduced))
    shifted = Shifted(graph, ends, compile) if compile is not None and is_worth_it(graph, len(single), ends) else None
    for batch in samples:
        if found.batches == batches:
            break
        found.batches += 1
        replay = Replay(graph, batch.inputs)
        found.signal += sum(float(np.sum(a.astype(np.float64) ** 2)) for a in replay.outputs.values())
        still = {} if shifted is None else shifted.run(batch.inputs, {})
        for number, (name, variant) in enumerate(single.items()):
            shifts = None if shifted is None else replay.cut(variant, shifted.points)
            if shifted is None or shifts is None:
                found.alone[name] += _noise(replay.outputs, replay.run(variant))
            else:
                found.alone[name] += _noise(still, shifted.run(batch.inputs, shifts))
            trace.report("quantize", (found.batches - 1) * len(single) + number + 1, batches * len(single))
        for name, variant in others.items():
            found.without[name] += _noise(replay.outputs, replay.run(variant))
        if shifted is None and sum(array.size for array in replay.values.values()) > _LARGE:
            break
    if shifted is not None:
        shifted.close()
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
    sums = {v.name: Sums(channel_axis(v), limits(reduced, v)) for v in values}
    output, count, exact = _compare(graph, reduced, values, sums, samples, compile, trace)
    isolation = isolate(graph, decisions, calibrated, samples, trace, compile, batches)
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
    graph: Graph, reduced: Graph, values: Sequence[Value], sums: Mapping[str, Sums], samples: Samples, compile: Compile, trace: Trace
) -> tuple[float, int, bool]:
    """Adds up differences of values between both networks; SQNR of the outputs, batches, and whether watching changed them.

    Values are read between the engines' steps. Those that one of them has only inside a kernel become further outputs of other engines.
    """
    plain = compile(reduced)
    left, right = Taps(graph, values, compile(graph)), Stored(reduced, values, plain)
    rest = [v for v in values if v in left.missing or v in right.missing]
    signal = noise = 0.0
    count = 0
    with closing(left.engine.context(threads=1)) as one, closing(plain.context(threads=1)) as other:
        for batch in samples:
            wanted: dict[Value, Array] = {}
            outputs = left.run(one, batch.inputs, wanted.__setitem__)
            got = right.run(other, batch.inputs, lambda value, array: sums[value.name].add(wanted[value], array) if value in wanted else None)  # noqa: B023
            signal += sum(float(np.sum(a.astype(np.float64) ** 2)) for a in outputs.values())
            noise += _noise(outputs, got)
            count += 1
            trace.report("quantize", count, 0)
    return decibels(signal, noise), count, _compare_inside(graph, reduced, rest, sums, samples, compile, plain)


def _compare_inside(
    graph: Graph, reduced: Graph, values: Sequence[Value], sums: Mapping[str, Sums], samples: Samples, compile: Compile, plain: Engine
) -> bool:
    """As ``_compare`` for values that one kernel computes and uses; False when watching them changed the outputs."""
    exact = True
    for part in portions(graph, [v for v in values if v.name in reduced.values], False):
        engines = [compile(tapped(graph, part)), compile(tapped(reduced, [reduced.values[v.name] for v in part]))]
        with closing(engines[0].context()) as left, closing(engines[1].context()) as right:
            for batch in samples:
                wanted, got, bare = left.run(batch.inputs), right.run(batch.inputs), plain.run(batch.inputs)
                for value in part:
                    sums[value.name].add(wanted[tap_name(graph, value)], got[tap_name(reduced, reduced.values[value.name])])
                exact &= all(np.array_equal(bare[n], got[n], equal_nan=bare[n].dtype.kind == "f") for n in graph.output_names)
    return exact


def chain_end(graph: Graph, node: Node) -> Value:
    """The value behind the elementwise ops that follow a layer and that nobody else reads: what its kernel stores."""
    value = node.output
    while len(value.users) == 1 and not graph.is_output(value):
        reader = value.users[0]
        if not isinstance(reader.op, Elementwise) or reader.output.shape != value.shape:
            break
        value = reader.output
    return value
