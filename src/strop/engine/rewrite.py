"""What calibration found, and the rewrite of a graph by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strop.ir.graph import Graph
from strop.ir.op import Array
from strop.quantize.bias_correction import correct
from strop.quantize.narrow import NARROW, narrow
from strop.quantize.pipeline import quantize
from strop.quantize.precision import Decisions
from strop.quantize.table import Table
from strop.quantize.weights import store_weights
from strop.trace import Trace


@dataclass(frozen=True)
class Calibrated:
    """Ranges, and where samples were run the mean of each input channel of the layers, by value name."""

    table: Table
    means: Mapping[str, Array] = field(default_factory=dict)


def rewrite(graph: Graph, decisions: Decisions, calibrated: Calibrated, trace: Trace) -> Graph:
    """The graph with every node in its precision; notes what saturates.

    Args:
        graph: portable, f32; it is not changed.
    """
    result = quantize(graph, decisions, calibrated.table)
    store_weights(result, decisions)
    if calibrated.means:
        correct(graph, result, calibrated.means)
    if any(decisions.of(node) in NARROW for node in graph.nodes):
        narrowed = narrow(result, decisions)
        result = narrowed.graph
        for name, count in narrowed.overflows.items():
            trace.note(f"fp16: {count} weights of {name} are beyond 65504 and saturate")
    return result
