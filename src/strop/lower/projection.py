"""The part of a recurrent layer that does not recur, as an ordinary product over all steps."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array, Op
from strop.ops.data import Reshape, Slice, Transpose
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.ops.recurrent import Recurrent

#: Samples first to steps first, and back.
_SWAP = Transpose((1, 0, 2))


def split_projections(graph: Graph, known: Container[str] | None = None) -> Graph:
    """A copy of the graph in which the products of recurrent layers with known weights are layers of their own, each with a precision of its own.

    Args:
        known: names of values that have a range; layers that read none of them stay whole. None: all are split.
    """
    result = graph.clone()
    for node in list(result.nodes):
        if isinstance(node.op, Recurrent) and not node.op.projected and node.operand(1).const is not None:
            x = node.operand(0)
            sources = (x, *(x.producer.operands if x.producer is not None and x.producer.op == _SWAP else ()))
            if known is None or any(value.name in known for value in sources):
                split_projection(result, node, False)
    return result


def split_projection(graph: Graph, node: Node, narrow: bool) -> None:
    """Multiplies the operands of all steps with their weights at once, and adds the biases that may be added there.

    Before: LSTM(x[S, B, I], w, r, b, ...).
    After: LSTM(x w^T + b, r, ...) with ``projected``; a bias that belongs to the recurrent product alone stays.
    Where x swaps the first two axes of another value, that value is multiplied and the product's axes are swapped.
    Unless: the layer is not f32 or, with ``narrow``, f16 or bf16; there is nothing to multiply, or the weights have free sizes.
    """
    op = node.op
    assert isinstance(op, Recurrent)
    x, w = node.operand(0), node.operand(1)
    kinds = (dt.f32, dt.f16, dt.bf16) if narrow else (dt.f32,)
    fixed = all(sh.is_static(v.shape) for v in node.operands[1:4])
    if not fixed or op.projected or x.dtype not in kinds or 0 in (*x.shape, *w.shape):
        return
    producer = x.producer
    swapped = producer is not None and producer.op == _SWAP
    if producer is not None and swapped:
        x = producer.operand(0)
    product = _product(graph, node, x, w)
    operands: list[Value | None] = [*node.inputs[2:]]
    if node.has(3):
        total, operands[1] = _biases(graph, node, node.operand(3))
        if total is not None:
            product = _add(graph, node, make("add"), product, total)
    if swapped:
        product = _add(graph, node, _SWAP, product)
    changed = op.replace(projected=True)
    layer = graph.add(
        changed, [product, *operands], name=node.name, source=node.source, before=node
    )
    for old, new in zip(node.outputs, layer.outputs, strict=True):
        graph.replace_uses(old, new)
    graph.remove(node)
    graph.rename_node(layer, node.name)
    for old, new in zip(node.outputs, layer.outputs, strict=True):
        graph.rename(new, old.name)


def _add(graph: Graph, node: Node, op: Op, *operands: Value) -> Value:
    """The result of a new op before the node."""
    return graph.add(op, operands, name=node.name, source=node.source, before=node).output


def _product(graph: Graph, node: Node, x: Value, w: Value) -> Value:
    """x w^T for all directions and gates: the last axis is D G H."""
    directions, rows, size = w.type.static_shape
    if w.const is not None:
        matrix = np.ascontiguousarray(w.const.reshape(-1, size).T)
        return _add(graph, node, MatMul(), x, graph.add_const(matrix, w.name))
    flat = _add(graph, node, Reshape((directions * rows, size)), w)
    return _add(graph, node, MatMul(transpose_b=True), x, flat)


def _biases(graph: Graph, node: Node, b: Value) -> tuple[Value | None, Value | None]:
    """What is added to the product, [D G H] or None, and what is left of the layer's operand."""
    op = node.op
    assert isinstance(op, Recurrent)
    directions, both = b.type.static_shape
    rows = both // 2
    summed = np.repeat([op.bias_in_sum(gate) for gate in range(op.gates)], rows // op.gates)
    if b.const is not None:
        own, recurrent = b.const[:, :rows], b.const[:, rows:]
        total = graph.add_const((own + recurrent * summed).reshape(-1), b.name)
        left: Array = np.concatenate([np.zeros_like(own), recurrent * ~summed], axis=1)
        return total, graph.add_const(left, b.name) if left.any() else None
    if not summed.all():
        return None, b
    halves = [
        _add(graph, node, Slice.of(b.shape, [start], [start + rows], [1]), b)
        for start in (0, rows)
    ]
    total = _add(graph, node, make("add"), *halves)
    return _add(graph, node, Reshape((directions * rows,)), total), None
