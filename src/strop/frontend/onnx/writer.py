"""Graphs to ONNX models: a walk over the nodes, each written by its function in ``written``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from strop.errors import StropError, UnsupportedError
from strop.frontend.onnx.emission import OPSET, NodeWriter, Writing, element_number
from strop.frontend.onnx.written import WRITERS, direct
from strop.frontend.verdicts import combined
from strop.ir.graph import Graph, Value
from strop.ir.shape import Sym
from strop.ops.custom import Layer
from strop.version import __version__

__all__ = ["direct", "to_bytes", "write"]

#: Version of the format that knows the opset.
IR_VERSION = 10
#: Most bytes of a protobuf message.
MOST_BYTES = (1 << 31) - 1


@dataclass(frozen=True)
class Written:
    """A model, and what is in it.

    Attributes:
        model: the protobuf message.
        operators: op types of its nodes, in order.
        constant_bytes: of its initializers.
    """

    model: ModelProto
    operators: list[str]
    constant_bytes: int


def write(graph: Graph) -> Written:
    """A portable graph as an ONNX model.

    Raises:
        UnsupportedError: nodes that ONNX has no operators for; all of them are named, with what to try.
    """
    writing = Writing(graph)
    for value in graph.inputs:
        writing.name(value)
    _find_sizes(writing)
    _name_outputs(writing)
    errors: list[StropError] = []
    for node in graph.nodes:
        writer = NodeWriter(writing, node)
        rule = WRITERS.get(type(node.op))
        try:
            if rule is None:
                what = "a custom layer" if isinstance(node.op, Layer) else "this op"
                raise writer.refused(f"{what} has no counterpart in ONNX", got=node)
            rule(writer)
        except UnsupportedError as error:
            errors.append(error)
    if errors:
        raise combined(errors, len(graph.nodes))
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        if writing.name(value) != name:
            writing.emit("Identity", [writing.name(value)], [name])
    proto = helper.make_graph(
        writing.nodes, graph.name or "graph", [_described(v, v.name) for v in graph.inputs],
        [_described(v, name) for v, name in zip(graph.outputs, graph.output_names, strict=True)], list(writing.initializers.values()),
    )  # fmt: skip
    model = helper.make_model(
        proto, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="strop", producer_version=__version__
    )
    return Written(model, [n.op_type for n in writing.nodes], sum(_size(t) for t in writing.initializers.values()))


def to_bytes(written: Written) -> bytes:
    """The file.

    Raises:
        UnsupportedError: it is larger than a protobuf message can be.
    """
    if written.constant_bytes > MOST_BYTES - (1 << 20):
        raise UnsupportedError(
            "the model is larger than an ONNX file without external data can be", got=f"{written.constant_bytes} bytes of constants",
            expected=f"at most {MOST_BYTES}", hint="strop convert --to tflite has no such limit",
        )  # fmt: skip
    data: bytes = written.model.SerializeToString(deterministic=True)
    return data


def _size(tensor: TensorProto) -> int:
    return len(tensor.raw_data)


def _find_sizes(writing: Writing) -> None:
    """Where each free size can be read: at an input that has it."""
    for value in writing.graph.inputs:
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, Sym) and dim.name not in writing.sizes:
                writing.sizes[dim.name] = _reader(writing, value, axis)


def _reader(writing: Writing, value: Value, axis: int) -> Callable[[], str]:
    return lambda: writing.emit("Shape", [writing.name(value)], [writing.fresh(f"size_{value.name}_{axis}")], start=axis, end=axis + 1)


def _name_outputs(writing: Writing) -> None:
    """Results that are outputs have the outputs' names; what else is an output gets a node of its own later."""
    for value, name in zip(writing.graph.outputs, writing.graph.output_names, strict=True):
        if value.producer is not None and value not in writing.names and name not in writing.taken:
            writing.names[value] = name
            writing.types[name] = value.dtype
        writing.taken.add(name)


def _described(value: Value, name: str) -> ValueInfoProto:
    """Name, type and shape; a free size has its symbol's name, or none where it is computed."""
    shape = [d if isinstance(d, int) else d.name if isinstance(d, Sym) else None for d in value.shape]
    return helper.make_tensor_value_info(name, element_number(value.dtype), shape)
