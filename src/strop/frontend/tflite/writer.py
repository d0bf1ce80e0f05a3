"""Graphs to TFLite records: a walk over the nodes, each written by the function that its op has beside the one that reads it."""

from __future__ import annotations

import strop.frontend.tflite  # noqa: F401 (registers the functions)
from strop.errors import StropError, UnsupportedError
from strop.frontend.tflite.emission import NodeWriter, Writing
from strop.frontend.tflite.ops_math import direct
from strop.frontend.tflite.records import OutGraph
from strop.frontend.tflite.registry import WRITERS
from strop.frontend.tflite.serialize import serialize as to_bytes
from strop.frontend.verdicts import combined
from strop.ir.graph import Graph, Node
from strop.ops.custom import Layer
from strop.ops.elementwise import Elementwise

__all__ = ["direct", "to_bytes", "write"]


def write(graph: Graph) -> OutGraph:
    """A graph as a TFLite subgraph.

    Args:
        graph: its convolutions, pools and the like have their channels last (``strop.export.arrange``).

    Raises:
        UnsupportedError: nodes that TensorFlow Lite has no operators for; all of them are named, with what to try.
    """
    writing = Writing(graph)
    writing.names.update(graph.output_names)
    inputs = {value.name: writing.tensor(value) for value in graph.inputs}
    errors: list[StropError] = []
    for node in graph.nodes:
        try:
            _write(writing, node)
        except UnsupportedError as error:
            errors.append(error)
    if errors:
        raise combined(errors, len(graph.nodes))
    outputs = {}
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        tensor = writing.tensor(value)
        outputs[name] = tensor
        if value.producer is not None and list(graph.outputs).count(value) == 1:
            writing.names.discard(tensor.name)
            tensor.name = name
    return OutGraph(graph.name, inputs, outputs, writing.operators)


def _write(writing: Writing, node: Node) -> None:
    writer = NodeWriter.of(writing, node)
    op = writer.op
    rule = WRITERS.get(op.fn if isinstance(op, Elementwise) else type(op)) or WRITERS.get(type(op))
    if rule is None:
        what = "a custom layer" if isinstance(op, Layer) else "this op"
        raise writer.refused(f"{what} has no counterpart in TensorFlow Lite", got=node)
    rule(writer)
