"""Graphs to TFLite records: a walk over the nodes, each written by the function that its op has beside the one that reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

import strop.frontend.tflite  # noqa: F401 (registers the functions)
from strop.errors import StropError, UnsupportedError
from strop.frontend.tflite import ops_math, ops_space
from strop.frontend.tflite.emission import NodeWriter, Writing, sizes
from strop.frontend.tflite.records import OutGraph, OutOperator, OutTensor
from strop.frontend.tflite.registry import WRITERS
from strop.frontend.tflite.serialize import serialize as to_bytes
from strop.frontend.tflite.write_loops import write_loop
from strop.frontend.verdicts import combined
from strop.ir import dtype as dt
from strop.ir.control import Loop, arranged, loops
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Op
from strop.ops.custom import Layer
from strop.ops.elementwise import Elementwise
from strop.ops.resize import Resize

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
    found = loops(graph)
    _walk(writing, arranged(graph, found), {id(loop.begin): loop for loop in found}, errors)
    if errors:
        raise combined(errors, len(graph.nodes))
    outputs: dict[str, OutTensor] = {}
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        tensor = writing.tensor(value)
        if value.producer is None or tensor in outputs.values():
            tensor = _copied(writing, value, name)
        writing.names.discard(tensor.name)
        tensor.name = name
        outputs[name] = tensor
    return OutGraph(graph.name, inputs, outputs, writing.operators)


def _walk(writing: Writing, nodes: Sequence[Node], begins: Mapping[int, Loop], errors: list[StropError]) -> None:
    """Writes nodes in order, a loop among them as a whole."""
    written: set[int] = set()

    def inside(body: Writing, members: Sequence[Node]) -> None:
        _walk(body, members, begins, errors)

    for node in nodes:
        loop = begins.get(id(node))
        try:
            if id(node) in written:
                continue
            if loop is not None:
                written.update(map(id, (*loop.body, loop.end)))
                write_loop(writing, loop, inside, _copied)
            else:
                _write(writing, node)
        except UnsupportedError as error:
            errors.append(error)


def direct(op: Op, operands: Sequence[Value]) -> bool:
    """Whether there is an operator for an elementwise function or a Resize; others are taken apart (``strop.export.expand``)."""
    if isinstance(op, Elementwise):
        return ops_math.direct(op, operands)
    return isinstance(op, Resize) and operands[0].dtype in (dt.f32, dt.i8) and ops_space.resized(op, operands[0].shape) is not None


def _copied(writing: Writing, value: Value, name: str) -> OutTensor:
    """A tensor of its own for an output that is an input, a constant or another output too."""
    shape, free = sizes(value.shape)
    if len(free) > 1:
        raise UnsupportedError(
            "an output that is an input or a constant cannot have two free sizes", where=f"output {name}", got=value.type,
            hint="give the inputs fixed shapes with --shape",
        )  # fmt: skip
    result = writing.made(name, value.dtype, shape, free, value=value.name)
    numbers = [-1 if k in free else d for k, d in enumerate(shape)]
    given = writing.made(f"{name}:shape", dt.i32, (len(shape),), (), np.asarray(numbers, np.int32))
    writing.operators.append(OutOperator("RESHAPE", [writing.tensor(value), given], [result], "ReshapeOptions", {"NewShape": numbers}, f"output {name}"))
    return result


def _write(writing: Writing, node: Node) -> None:
    writer = NodeWriter.of(writing, node)
    op = writer.op
    rule = WRITERS.get(op.fn if isinstance(op, Elementwise) else type(op)) or WRITERS.get(type(op))
    if rule is None:
        what = "a custom layer" if isinstance(op, Layer) else "this op"
        raise writer.refused(f"{what} has no counterpart in TensorFlow Lite", got=node)
    rule(writer)
