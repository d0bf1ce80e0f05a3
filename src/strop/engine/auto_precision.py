"""Which layers run in lower precision: none that would get slower by it, and no more than accuracy allows.

Time decides first: the network is lowered and tuned in f32, in int8 and in bf16, and a layer whose kernels are not faster stays in f32. Then
accuracy, see ``accuracy_budget.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from strop.engine import race
from strop.engine.rewrite import Calibrated, rewrite
from strop.engine.watch import Compile
from strop.ir.graph import Graph
from strop.ir.op import Array
from strop.lower.pipeline import Lowered, Step, lower
from strop.quantize.narrow import NARROW
from strop.quantize.place import passes
from strop.quantize.precision import (
    INTEGERS,
    Decisions,
    is_layer,
    layer_name,
    layers,
)
from strop.target.base import Target
from strop.trace import Trace
from strop.tune.search import tune

#: A layer is lifted when lower precision does not save this share of its time: less is noise.
_WORTH = 0.02
#: Layers that are tried in low precision again at the end, when a lift of others may have been enough.
_RETRIES = 4
#: Bytes of the f32 network's outputs that are kept between trials.
_ANSWERS = 256 << 20


@dataclass(frozen=True)
class Timing:
    """Time of a network on one core, in seconds.

    Attributes:
        total: of all steps.
        layers: per node name of a layer that of the steps that serve it.
        naive: node names of layers that a kernel serves which is right but slow.
        measured: False where any of the steps is only estimated.
        estimated: as ``layers``, by the cost model alone.
        unmeasured: node names of layers whose time is in part an estimate.
    """

    total: float
    layers: Mapping[str, float] = field(default_factory=dict)
    naive: frozenset[str] = frozenset()
    measured: bool = False
    estimated: Mapping[str, float] = field(default_factory=dict)
    unmeasured: frozenset[str] = frozenset()


#: Times a portable graph; the names are those of its layers, by source node.
Timer = Callable[[Graph, Mapping[str, str]], Timing]


def timer(target: Target, level: int, budget: float | None, trace: Trace) -> Timer:
    """Times by lowering and tuning for a target, as the build itself will. The first graph, which others are compared with, is tuned once."""
    known: dict[int, tuple[Graph, Lowered]] = {}

    def time(graph: Graph, names: Mapping[str, str]) -> Timing:
        if id(graph) in known:
            return of_steps(known[id(graph)][1], names)
        quiet = Trace(progress=trace.progress)
        lowered = lower(graph, target, quiet)
        if naive := _naive(lowered, names):
            return Timing(sum(_seconds(s, s.host or target) for s in lowered.steps), naive=naive)
        tune(lowered, level, budget, quiet, every=True)
        if not known:
            known[id(graph)] = graph, lowered
        return of_steps(lowered, names)

    return time


def of_steps(lowered: Lowered, names: Mapping[str, str]) -> Timing:
    """Adds up the steps of a lowered network.

    Args:
        names: a layer's source node to its node name.
    """
    found: dict[str, float] = {}
    estimated: dict[str, float] = {}
    unmeasured = set()
    for step in lowered.steps:
        if (owner := _owner(step, names)) is not None:
            found[owner] = found.get(owner, 0.0) + _seconds(step, step.host or lowered.target)
            estimated[owner] = estimated.get(owner, 0.0) + step.chosen.cost(step.region, step.host or lowered.target)
            if step.seconds is None and not step.copy:
                unmeasured.add(owner)
    total = sum(_seconds(step, step.host or lowered.target) for step in lowered.steps)
    return Timing(total, found, _naive(lowered, names), all(s.seconds is not None or s.copy for s in lowered.steps),
                  estimated, frozenset(unmeasured))  # fmt: skip


def _owner(step: Step, names: Mapping[str, str]) -> str | None:
    return next((names[s] for s in step.region.source if s in names), None)


def _seconds(step: Step, target: Target) -> float:
    return step.seconds if step.seconds is not None else step.chosen.cost(step.region, target)


def _naive(lowered: Lowered, names: Mapping[str, str]) -> frozenset[str]:
    """Layers served by the naive kernel."""
    return frozenset(
        owner
        for step in lowered.steps
        if step.chosen.kernel.name.startswith("naive") and (owner := _owner(step, names)) is not None
    )


@dataclass(frozen=True)
class Network:
    """What a choice is made for: the portable f32 graph, its ranges, and who compiles it for this machine."""

    graph: Graph
    calibrated: Calibrated
    compile: Compile
    trace: Trace

    def names(self) -> dict[str, str]:
        """Source node of every layer to its node name; of an op that passes integers on, to that of the layer that reads them.

        Such an op, a pool say, computes on integers when that layer does.
        """
        owners: dict[str, str] = {}
        for node in reversed(self.graph.nodes):
            users = [owners[u.name] for v in node.outputs for u in v.users if u.name in owners]
            if is_layer(node):
                owners[node.name] = node.name
            elif passes(node) and users:
                owners[node.name] = users[0]
        return {layer_name(node): owners[node.name] for node in self.graph.nodes if node.name in owners}

    def owners(self) -> dict[str, str]:
        """The model's nodes to the name of the first node that stands for them."""
        return {source: node.name for node in reversed(self.graph.nodes) for source in node.source}

    def reduced(self, decisions: Decisions) -> Graph:
        """The graph with these decisions, without notes."""
        return rewrite(self.graph, decisions, self.calibrated, Trace())


@dataclass(frozen=True)
class Choice:
    """Decisions and the time that the network takes with them, in seconds on one core."""

    decisions: Decisions
    seconds: float


def by_time(network: Network, decisions: Decisions, time: Timer, asked: str = "auto") -> Choice:
    """Lifts layers that lower precision does not make faster; all nodes when the whole network is not faster.

    16-bit floats are the type of all nodes, so that a lifted one has casts around it: such lifts are kept only where they make the whole
    faster. Nodes whose precision was asked for by name keep it then.

    Args:
        decisions: with int8, bf16 or fp16 as their default.
        asked: what notes begin with.
    """
    kind, trace = decisions.default, network.trace
    narrow = kind in NARROW
    names = network.owners() if narrow else network.names()
    movable = [n for n in network.graph.nodes if decisions.of(n) == kind and not (narrow and decisions.named(n))]
    shown = {node.name: layer_name(node) for node in layers(network.graph)}
    slow = time(network.graph, names)
    fast = time(network.reduced(decisions), names)
    for _ in range(len(movable)):
        lift: dict[str, str] = {}
        for node in movable:
            if decisions.of(node) == "fp32":
                continue
            if node.name in fast.naive:
                lift[node.name] = f"no fast {kind} kernel accepts it"
                continue
            guessed = node.name in (fast.unmeasured | slow.unmeasured)  # times are compared with times, estimates with estimates
            low, high = ((t.estimated if guessed else t.layers).get(node.name, 0.0) for t in (fast, slow))
            if is_layer(node) and fast.layers and low > (1 - _WORTH) * high:
                lift[node.name] = f"{kind} takes {1e6 * low:.1f} us, fp32 {1e6 * high:.1f} us{' (estimated)' if guessed and fast.measured else ''}"
        if not lift:
            break
        lifted = decisions.lifted(lift)
        then = time(network.reduced(lifted), names)
        if narrow and not fast.naive and then.total >= fast.total:
            break
        decisions, fast = lifted, then
    reduced = [n.name for n in movable if decisions.of(n) == kind]
    if reduced and fast.total > (1 - _WORTH) * slow.total:
        why = f"the whole network takes {1e6 * fast.total:.1f} us with {kind}, {1e6 * slow.total:.1f} us in fp32"
        decisions, reduced = decisions.lifted(dict.fromkeys(reduced, why)), []
    measured = "measured" if fast.measured and slow.measured else "estimated"
    count = sum(name in shown for name in reduced)
    if reduced:
        trace.note(f"{asked}: {count} of {len(shown)} layers in {kind}: {1e6 * fast.total:.1f} us instead of {1e6 * slow.total:.1f} us ({measured}, one core)")
    elif movable:
        trace.note(f"{asked}: all {len(shown)} layers stay in fp32, {kind} makes none faster ({measured})")
    for name, why in decisions.why.items():
        if name in shown:
            trace.note(f"{asked}: {shown[name]} stays in fp32: {why}")
    return Choice(decisions, fast.total if reduced else slow.total)


def automatic(network: Network, start: Decisions, time: Timer, limited: Callable[[Decisions], Decisions]) -> Decisions:
    """The faster of int8 and bf16, each where it makes layers faster, once accuracy has had its say; layers that it lifts out of int8 are in bf16 where that is
    faster than fp32.

    Args:
        start: with int8 as the default.
        limited: lifts what accuracy asks for.
    """
    named = {n.name: start.of(n) for n in network.graph.nodes if start.named(n)}
    choices = sorted((by_time(network, d, time) for d in (start, Decisions("bf16", named))), key=lambda c: c.seconds)
    best, other = choices
    decisions = limited(best.decisions)
    if decisions == best.decisions:
        return decisions
    names = network.names()

    def seconds(tried: Decisions) -> float:
        return time(network.reduced(tried), names).total

    left = seconds(decisions)
    mixed = _between(network.graph, best.decisions, decisions, other.decisions)
    if mixed != decisions and seconds(mixed) < (1 - _WORTH) * left:
        mixed = limited(mixed)
        found = seconds(mixed)
        if found < left:
            count = sum(mixed.of(n) == other.decisions.default for n in layers(network.graph))
            network.trace.note(f"auto: {count} of the lifted layers in {other.decisions.default}: {1e6 * found:.1f} us instead of {1e6 * left:.1f} us")
            decisions, left = mixed, found
    if other.seconds >= left:
        return decisions
    second = limited(other.decisions)
    return second if seconds(second) < left else decisions


def _between(graph: Graph, integers: Decisions, lifted: Decisions, floats: Decisions) -> Decisions:
    """What accuracy lifted out of integers in 16-bit floats instead, where these are faster than fp32, which only time has looked at; the same where there is
    no such layer."""
    kind = floats.default
    chosen = [n.name for n in layers(graph) if integers.of(n) in INTEGERS and lifted.of(n) == "fp32" and floats.of(n) == kind in NARROW]
    return lifted.lifted({name: lifted.why[name] for name in chosen}, kind)


def by_race(network: Network, decisions: Decisions, plain: Graph, tuned: Compile, inputs: Mapping[str, Array] | None) -> Decisions:
    """Lifts all layers unless the whole network, built as it will be, is faster than in fp32 when both run in turns on this machine.

    Args:
        plain: the graph as it is built where all is in fp32.
        tuned: makes the engines that a build would.
        inputs: arrays by name; None for random ones.
    """
    reduced = [node.name for node in layers(network.graph) if decisions.of(node) != "fp32"]
    network.trace.log(1, "auto: both networks are built and run in turns")
    original = tuned(plain)
    share = race.ratio(tuned(network.reduced(decisions)), original, inputs)
    if share <= 1 - _WORTH:
        network.trace.note(f"auto: the whole network takes {100 * share:.1f} % of its time in fp32 (both in turns, one core)")
        return decisions
    why = f"the whole network takes {100 * share:.1f} % of its time in fp32 (both in turns, one core)"
    network.trace.note(f"auto: all {len(layers(network.graph))} layers stay in fp32: {why}")
    return decisions.lifted(dict.fromkeys(reduced, why))
