"""Nodes that no import function reads, as custom layers: the domain and op type name the layer, attributes go to it by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx import AttributeProto

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Operand
from strop.frontend.onnx.registry import Rule
from strop.ops.custom import known, make


def layer_name(domain: str, op_type: str) -> str:
    """The custom layer that a node's domain and op type name."""
    return f"{domain or 'ai.onnx'}::{op_type}"


def rule_of(domain: str, op_type: str) -> Rule | None:
    """The rule for a node whose custom layer is declared, else None."""
    return Rule(op_type, domain, 1, None, _apply) if known(layer_name(domain, op_type)) else None


def _apply(node: NodeContext) -> tuple[Operand, ...]:
    attributes = {name: _value(node, name, proto.type) for name, proto in node.attributes.items()}
    op = make(layer_name(node.domain, node.op_type), attributes)
    operands = list(node.operands)
    while operands and operands[-1] is None:
        operands.pop()
    return node.steps(op, *operands)


_READERS: dict[int, Callable[[NodeContext, str], Any]] = {
    AttributeProto.INT: NodeContext.integer,
    AttributeProto.FLOAT: NodeContext.number,
    AttributeProto.STRING: NodeContext.text,
    AttributeProto.INTS: NodeContext.integers,
    AttributeProto.FLOATS: NodeContext.floats,
    AttributeProto.STRINGS: NodeContext.strings,
    AttributeProto.TENSOR: lambda node, name: _tuples(node.tensor(name).tolist()),
}


def _value(node: NodeContext, name: str, kind: int) -> Any:
    reader = _READERS.get(kind)
    if reader is None:
        raise node.unsupported(
            f"attribute {name} of a custom layer has an unsupported type",
            got=AttributeProto.AttributeType.Name(kind),
            expected="INT, FLOAT, STRING, INTS, FLOATS, STRINGS or TENSOR",
        )
    return reader(node, name)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
