"""Cross-layer equalization: channels between two layers get ranges that suit both, without changing what the network computes.

Nagel et al., 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.

Before: conv(relu(conv(x, w1, b1)), w2).
After: conv(relu(conv(x, w1 / s, b1 / s)), w2 * s), s = sqrt(r1 / r2) per channel between them, r1 and r2 the largest magnitudes of
    its weights in either layer: both become sqrt(r1 * r2).
Unless: the value between them has other readers or passes an op f without f(s * x) = s * f(x), or weights or biases are not known.
"""

from __future__ import annotations

import numpy as np

from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array
from strop.ops.conv import Conv
from strop.ops.elementwise import Elementwise
from strop.ops.pool import AveragePool, MaxPool
from strop.quantize.precision import is_layer

#: Elementwise functions f of one operand with f(s * x) = s * f(x) for s > 0.
_HOMOGENEOUS = ("relu", "leaky_relu", "abs")
#: Sweeps over the pairs: each changes the ranges that its neighbours see.
_SWEEPS = 20
#: A scale is not larger, and not smaller than its inverse.
_MOST = 1e6


def equalize(graph: Graph) -> tuple[Graph, int]:
    """A copy of the graph with its pairs of convolutions equalized, and how many pairs there are."""
    result = graph.clone()
    found = pairs(result)
    for _ in range(_SWEEPS):
        moved = [_balance(result, first, second) for first, second in found]
        if max(moved, default=0.0) < 1e-3:
            break
    result.prune()
    return result, len(found)


def pairs(graph: Graph) -> list[tuple[Node, Node]]:
    """Convolutions that follow each other with nothing between them that a scale cannot pass."""
    found = []
    for node in graph.nodes:
        if not _is_known(node):
            continue
        value = node.output
        while (reader := _only_reader(graph, value)) is not None and _passes(reader):
            value = reader.output
        if reader is not None and _is_known(reader) and reader.operand(0) is value and _input_axis(reader) is not None:
            found.append((node, reader))
    return found


def _is_known(node: Node) -> bool:
    """True for an f32 convolution of known weights and bias."""
    return isinstance(node.op, Conv) and is_layer(node) and (not node.has(2) or node.operand(2).const is not None)


def _only_reader(graph: Graph, value: Value) -> Node | None:
    return value.users[0] if len(value.uses) == 1 and not graph.is_output(value) else None


def _passes(node: Node) -> bool:
    if isinstance(node.op, (MaxPool, AveragePool)):
        return True
    return isinstance(node.op, Elementwise) and node.op.fn in _HOMOGENEOUS


def _input_axis(node: Node) -> int | None:
    """The axis of a convolution's weights along which its input channels lie: 1, or 0 when each channel is convolved by itself."""
    assert isinstance(node.op, Conv)
    weights = node.operand(1).type.static_shape
    if node.op.groups == 1:
        return 1
    return 0 if weights[1] == 1 and weights[0] == node.op.groups else None


def _balance(graph: Graph, first: Node, second: Node) -> float:
    """Scales the channels between two convolutions; answers the largest relative change of a scale."""
    axis = _input_axis(second)
    assert axis is not None
    w1, w2 = first.operand(1).const, second.operand(1).const
    assert w1 is not None and w2 is not None
    r1, r2 = _ranges(w1, 0), _ranges(w2, axis)
    usable = (r1 > 0) & (r2 > 0)
    s = np.where(usable, np.clip(np.sqrt(np.divide(r1, r2, out=np.ones_like(r1), where=usable)), 1 / _MOST, _MOST), 1.0)
    _scale(graph, first, 1, 1 / s, 0)
    if first.has(2):
        _scale(graph, first, 2, 1 / s, 0)
    _scale(graph, second, 1, s, axis)
    return float(np.abs(s - 1).max(initial=0.0))


def _ranges(weights: Array, axis: int) -> Array:
    """Largest magnitude per index of an axis, float64."""
    others = tuple(k for k in range(weights.ndim) if k != axis)
    return np.asarray(np.abs(weights.astype(np.float64)).max(axis=others))


def _scale(graph: Graph, node: Node, operand: int, s: Array, axis: int) -> None:
    old = node.operand(operand)
    assert old.const is not None
    shape = [1] * old.const.ndim
    shape[axis] = -1
    scaled = (old.const.astype(np.float64) * s.reshape(shape)).astype(np.float32)
    graph.set_operand(node, operand, graph.add_const(scaled, old.name))
