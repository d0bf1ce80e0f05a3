"""Functions of numbers that TensorFlow has and the table of elementwise functions spells out."""

from __future__ import annotations

import numpy as np

from strop.frontend.tensorflow.node import TensorFlowNode
from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ir.op import Array

#: Most boundaries of buckets.
MAX_BOUNDARIES = 1 << 12


def squared_difference(node: TensorFlowNode, a: Value, b: Value) -> Value:
    """(a - b) squared."""
    return node.apply("square", node.apply("sub", a, b))


def floor_div(node: TensorFlowNode, a: Value, b: Value) -> Value:
    """Of integers exact: what is left of a after its rest is a multiple of b."""
    if a.dtype.is_float:
        return node.apply("floor", node.apply("div", a, b))
    return node.apply("div", node.apply("sub", a, node.apply("mod", a, b)), b)


def bucketized(node: TensorFlowNode, x: Value, bounds: Array) -> Value:
    """How many of ascending boundaries [n] f32 are not above x, i32."""
    if bounds.size > MAX_BOUNDARIES or (np.diff(bounds) < 0).any():
        raise node.malformed("the boundaries do not ascend, or are too many", got=bounds.size)
    total = node.filled(x.shape, 0, dt.i32)
    for bound in bounds:
        total = node.apply("add", total, node.cast(node.apply("ge", node.cast(x, dt.f32), node.scalar(float(bound), dt.f32)), dt.i32))
    return total
