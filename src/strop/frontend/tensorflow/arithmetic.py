"""Functions of numbers that TensorFlow has and the table of elementwise functions spells out."""

from __future__ import annotations

from strop.frontend.tensorflow.node import TensorFlowNode
from strop.ir.graph import Value


def squared_difference(node: TensorFlowNode, a: Value, b: Value) -> Value:
    """(a - b) squared."""
    return node.apply("square", node.apply("sub", a, b))


def floor_div(node: TensorFlowNode, a: Value, b: Value) -> Value:
    """Of integers exact: what is left of a after its rest is a multiple of b."""
    if a.dtype.is_float:
        return node.apply("floor", node.apply("div", a, b))
    return node.apply("div", node.apply("sub", a, node.apply("mod", a, b)), b)
