"""Graphs of one op, out of its samples."""

from __future__ import annotations

from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Array, Op, Sample, Type
from strop.ops.elementwise import Elementwise
from tests.fuzz.generate import absent


def graph_of(op: Op, sample: Sample) -> tuple[Graph, dict[str, Array]]:
    """A graph whose first operand, and all of elementwise functions, are inputs, an empty one left out; and what these are fed."""
    graph = Graph("one")
    feed: dict[str, Array] = {}
    operands = []
    for k, array in enumerate(sample.inputs):
        if absent(array):
            operands.append(None)
        elif k == 0 or isinstance(op, Elementwise):
            operands.append(graph.add_input(f"x{k}", Type(dt.from_numpy(array.dtype), array.shape)))
            feed[f"x{k}"] = array
        else:
            operands.append(graph.add_const(array, f"c{k}"))
    node = graph.add(op, operands, name="layer", source=("layer",))
    graph.set_outputs(node.outputs, [f"y{k}" for k in range(len(node.outputs))])
    return graph, feed
