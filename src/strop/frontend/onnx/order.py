"""Soundness of a model's names: they are text, defined once, and defined before they are read."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, NodeProto

from strop.errors import ModelError
from strop.frontend.onnx.tensors import HALF_BYTES


def check_text(message: Message, where: str) -> None:
    """ModelError when a string anywhere in a message is not UTF-8: protobuf hands such a one out as bytes."""
    for field, value in message.ListFields():
        values = [value] if isinstance(value, (str, bytes, Message)) else value
        if field.type == FieldDescriptor.TYPE_STRING:
            bad = next((v for v in values if not isinstance(v, str)), None)
            if bad is not None:
                raise ModelError(
                    f"a {field.name} is not UTF-8 text",
                    where=where,
                    got=repr(bad[:40]),
                    expected="text",
                )
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in values:
                check_text(inner, where)


def check_unique(graph: GraphProto) -> None:
    """ModelError when two inputs, outputs or initializers have the same name or none at all."""
    for kind, names in (
        ("inputs", [i.name for i in graph.input]),
        ("outputs", [o.name for o in graph.output]),
        (
            "initializers",
            [t.name for t in graph.initializer] + [s.values.name for s in graph.sparse_initializer],
        ),
    ):
        seen: set[str] = set()
        for name in names:
            if not name or name in seen:
                raise ModelError(
                    f"two {kind} have the same name" if name else f"one of the {kind} has no name",
                    where=f"graph {graph.name}",
                    got=repr(name),
                    expected="each name once",
                )
            seen.add(name)


def sorted_nodes(
    nodes: Sequence[NodeProto], defined: set[str], where: str
) -> list[tuple[int, NodeProto]]:
    """Nodes with their positions, such that operands come before readers; stable.

    Args:
        nodes: in the model's order, which need not be topological.
        defined: names defined outside of the nodes.
        where: for messages.

    Raises:
        ModelError: a name is defined twice or nowhere, or nodes read each other in a cycle.
    """
    producers = _producers(nodes, defined, where)
    known = set(defined)
    order: list[tuple[int, NodeProto]] = []
    waiting: dict[str, list[int]] = {}
    missing: dict[int, int] = {}

    def emit(first: int) -> None:
        ready = [first]
        for index in ready:
            order.append((index, nodes[index]))
            for output in nodes[index].output:
                known.add(output)
                for reader in waiting.pop(output, []):
                    missing[reader] -= 1
                    if missing[reader] == 0:
                        del missing[reader]
                        ready.append(reader)

    for index, node in enumerate(nodes):
        ahead = {name for name in node.input if name and name not in known}
        free = captured(node)
        ahead |= {name for name in free if name in producers and name not in known}
        for name in ahead:
            if name not in producers:
                raise ModelError(
                    "a value is read that nothing defines",
                    where=f"{where}, {_label(node, index)}",
                    got=name,
                    expected="an input, an initializer or a node's output",
                )
            waiting.setdefault(name, []).append(index)
        if ahead:
            missing[index] = len(ahead)
        else:
            emit(index)
    if missing:
        stuck = sorted(missing)
        raise ModelError(
            "nodes read each other in a cycle",
            where=where,
            got=", ".join(_label(nodes[i], i) for i in stuck[:8])
            + (", ..." if len(stuck) > 8 else ""),
        )
    return order


def captured(node: NodeProto) -> set[str]:
    """Names that the subgraphs among a node's attributes read and do not define."""
    found: set[str] = set()
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found |= _free(attribute.g)
    return found


def half_bytes(graph: GraphProto) -> set[str]:
    """Initializers of 4-bit integers that are only dequantized, so that the number of their bits does not matter to any node."""
    found = {t.name for t in graph.initializer if t.data_type in HALF_BYTES}
    for node in graph.node if found else ():
        found -= captured(node) | (set(node.input) if node.op_type != "DequantizeLinear" else set())
    return found - {o.name for o in graph.output}


def _free(graph: GraphProto) -> set[str]:
    """Names that a subgraph reads from around it."""
    defined = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    defined |= {t.values.name for t in graph.sparse_initializer}
    read: set[str] = {o.name for o in graph.output}
    for node in graph.node:
        read.update(node.input)
        read |= captured(node)
        defined.update(node.output)
    return {name for name in read - defined if name}


def _label(node: NodeProto, index: int) -> str:
    return f"node {node.name or f'{node.op_type}_{index}'} ({node.op_type})"


def _producers(nodes: Sequence[NodeProto], defined: set[str], where: str) -> set[str]:
    """Names of all results; ModelError when one is defined twice."""
    found: set[str] = set()
    for index, node in enumerate(nodes):
        for name in node.output:
            if name and (name in found or name in defined):
                raise ModelError(
                    "a value is defined twice",
                    where=f"{where}, {_label(node, index)}",
                    got=name,
                    expected="one definition",
                )
            found.add(name)
    return found
