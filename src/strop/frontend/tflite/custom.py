"""Custom ops as custom layers: ``tflite::NAME`` is the layer, the entries of its FlexBuffer go to it as attributes. Some have rules of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flatbuffers import flexbuffers

from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.model import BROKEN, Operator
from strop.frontend.tflite.registry import CUSTOM_RULES, Handler
from strop.ir.graph import Value
from strop.ops.custom import known, make


def layer_name(name: str) -> str:
    """The custom layer that a custom op names."""
    return f"tflite::{name}"


def rule_of(operator: Operator) -> Handler | None:
    """The rule for a custom op whose layer is declared, or that is known by its name, else None."""
    return _apply if known(layer_name(operator.custom)) else CUSTOM_RULES.get(operator.custom)


def _apply(node: NodeContext) -> Sequence[Value]:
    op = make(layer_name(node.operator.custom), _attributes(node))
    operands = [node.real(i) if node.has(i) else None for i in range(len(node))]
    return node.steps(op, *operands)


def _attributes(node: NodeContext) -> dict[str, Any]:
    stored = node.operator.custom_options
    if not stored:
        return {}
    try:
        found = flexbuffers.Loads(stored)
    except (*BROKEN, RecursionError) as error:
        raise node.unsupported("the options of a custom op are no FlexBuffer", got=f"{len(stored)} bytes", expected="a FlexBuffer map") from error
    if not isinstance(found, dict):
        raise node.unsupported("the options of a custom op are no map", got=type(found).__name__, expected="a FlexBuffer map")
    return {str(name): tuple(value) if isinstance(value, list) else value for name, value in found.items()}
