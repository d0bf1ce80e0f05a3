"""Which layers a budget of accuracy lifts to a better precision: the fewest, those that bring most noise to the outputs first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import count

from strop.engine.auto_precision import Network
from strop.engine.evaluate import (
    Plugin,
    Remembered,
    Run,
    Score,
    evaluate,
    usual_metric,
)
from strop.engine.xray import Isolation, isolate
from strop.errors import OptionError
from strop.ir.graph import Graph
from strop.ir.interp import run as interpret
from strop.ir.op import Array
from strop.quantize.data import Samples
from strop.quantize.narrow import EXACT, takes
from strop.quantize.precision import Decisions, layer_name

#: Layers that are tried in low precision again at the end, when a lift of others may have been enough.
_RETRIES = 4


class _Judge:
    """Scores of a network with different decisions against its f32 form, on the same samples.

    Attributes:
        base: the score of the f32 network itself.

    Args:
        interpreted: the graph interpreter runs the networks.
    """

    def __init__(self, network: Network, samples: Samples, metric: str | Plugin | None, max_drop: float, interpreted: bool) -> None:
        self._network, self._samples, self._interpreted = network, samples, interpreted
        self._max_drop = max_drop
        self._original = Remembered(self._runs(network.graph))
        self._metric = metric if metric is not None else usual_metric(samples, self._original.run)
        self._scores: dict[frozenset[tuple[str, str]], Score] = {}
        self.base = self._evaluate(self._original.run)

    def score(self, tried: Decisions) -> Score:
        """The score with some decisions."""
        key = frozenset((n.name, tried.of(n)) for n in self._network.graph.nodes if tried.of(n) != tried.default)
        if key not in self._scores:
            self._scores[key] = self._evaluate(self._runs(self._network.reduced(tried)))
            self._network.trace.log(1, f"accuracy: with {len(key)} nodes in another precision: {self._scores[key]}")
        return self._scores[key]

    def _runs(self, graph: Graph) -> Run:
        return (lambda inputs: interpret(graph, inputs)) if self._interpreted else self._network.compile(graph).run

    def _evaluate(self, run: Run) -> Score:
        numbers, answer = count(), self._original.walk()

        def reference(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            self._network.trace.report("quantize", next(numbers), 0)
            return answer(inputs)

        return evaluate(run, self._samples, [self._metric], reference)[0]

    def over(self, tried: Decisions) -> bool:
        """Whether the score with some decisions has dropped by more than the budget."""
        return not self.base.drop(self.score(tried)) <= self._max_drop


def by_accuracy(
    network: Network, decisions: Decisions, samples: Samples, metric: str | Plugin | None, max_drop: float, gpu: bool = False
) -> Decisions:
    """Lifts the fewest layers, in the order of their blame, such that a metric drops by at most ``max_drop``.

    Args:
        samples: that can be walked more than once.
        metric: None for the usual one (``usual_metric``).
        max_drop: percentage points of a metric that counts, else its unit.
        gpu: for a GPU, layers of fp8 are lifted to fp16 and those of fp16 to fp16x2; where that of all layers is not enough, nodes of any kind are lifted
            to fp32, too. The graph interpreter runs the networks.

    Raises:
        OptionError: the samples can be walked only once, or the metric is infinite for the f32 network itself.
    """
    if samples.once:
        raise OptionError("samples that can be walked only once cannot measure accuracy", where="max_drop", expected="an array, a path or a callable")
    trace, graph = network.trace, network.graph
    next_better = {"fp8": "fp16", "fp16": EXACT}.get(decisions.default) if gpu else None
    interpreted = next_better is not None
    judge = _Judge(network, samples, metric, max_drop, interpreted)
    if not math.isfinite(judge.base.value):
        raise OptionError(
            "a drop of this metric cannot be told", where="metric", got=f"{judge.base.metric}: the f32 network compared with itself gives {judge.base.value}",
            expected="top1, top5, agreement, mse, error, or a function of your own",
        )  # fmt: skip
    first = judge.score(decisions)
    if not judge.over(decisions):
        trace.note(f"accuracy: {first.metric} {first}; fp32: {judge.base}")
        return decisions
    compile = None if interpreted else network.compile
    layers = isolate(graph, decisions, network.calibrated, samples, trace, compile, without=False)
    result = _fewest(judge, decisions, layers, next_better or "fp32")
    if interpreted and judge.over(result):
        nodes = isolate(graph, result, network.calibrated, samples, trace, None, without=False, nodes=_movable(graph, result))
        result = _fewest(judge, result, nodes, "fp32")
    best = judge.score(result)
    trace.note(f"accuracy: {best.metric} {best}; fp32: {judge.base}; all in low precision: {first}")
    if judge.over(result):
        trace.note(f"accuracy: the budget of {max_drop:g} is not met with all lifted")
    for node in graph.nodes:
        if node.name in result.why and result.why[node.name] != decisions.why.get(node.name):
            trace.note(f"accuracy: {layer_name(node)} is lifted to {result.of(node)}: it brings {result.why[node.name]}")
    return result


def _movable(graph: Graph, decisions: Decisions) -> set[str]:
    """Names of the nodes that compute in 16-bit floats and could in f32."""
    return {node.name for node in graph.nodes if takes(node, decisions.of(node))}


def _fewest(judge: _Judge, decisions: Decisions, isolation: Isolation, to: str) -> Decisions:
    """Decisions with the fewest nodes lifted, in the order of their blame, that stay in the budget; with all, where these do not."""
    order, shares = isolation.ranked(), isolation.blame()

    def lifted(names: Sequence[str]) -> Decisions:
        return decisions.lifted({n: f"{100 * shares[n]:.0f} % of the noise at the outputs" for n in names}, to)

    def over(names: Sequence[str]) -> bool:
        return judge.over(lifted(names))

    low, high = 0, 1
    while high < len(order) and over(order[:high]):
        low, high = high, 2 * high
    high = min(high, len(order))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if over(order[:middle]) else (low, middle)
    names = order[:high]
    for name in names[:-1][-_RETRIES:]:
        fewer = [n for n in names if n != name]
        if not over(fewer):
            names = fewer
    return lifted(names)
