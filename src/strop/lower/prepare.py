"""Rewrites of the portable graph that suit kernels: values that lie channels-last, biases and projections apart."""

from __future__ import annotations

import numpy as np

from strop.ir import shape as sh
from strop.ir.graph import Graph, Node
from strop.lower.layout_rules import channel_axis, made_order
from strop.lower.projection import split_projection
from strop.lower.quantized import integrate, shorten
from strop.lower.regions import is_view
from strop.lower.views import channels_last
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.data import Reshape, Transpose
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.ops.recurrent import Recurrent


def prepare(graph: Graph, narrow: bool = False) -> Graph:
    """A copy of the graph, ready for regions; with ``narrow``, recurrent layers of 16-bit floats have kernels, too."""
    graph = graph.clone()
    integrate(graph)
    for node in list(graph.nodes):
        if is_view(node.op) and node.operands and all(v.const is not None for v in node.operands) and _is_static(node):
            evaluate(graph, node)
        elif isinstance(node.op, MatMul):
            flatten_channels_last(graph, node)
        elif isinstance(node.op, (Conv, ConvTranspose)) and node.has(2):
            split_bias(graph, node)
        elif isinstance(node.op, Recurrent):
            split_projection(graph, node, narrow)
    shorten(graph)
    graph.prune()
    return graph


def _is_static(node: Node) -> bool:
    """Whether the results have one size; a part of a constant whose size a run decides stays a view."""
    return all(sh.is_static(value.shape) for value in node.outputs)


def evaluate(graph: Graph, node: Node) -> None:
    """Replaces a view of constants by constants, so that no kernel has to make it."""
    arrays = node.op.reference(*(v.const for v in node.operands if v.const is not None))
    for value, array in zip(node.outputs, arrays, strict=True):
        graph.replace_uses(value, graph.add_const(np.ascontiguousarray(array), value.name))
    graph.remove(node)


def split_bias(graph: Graph, node: Node) -> None:
    """Makes a convolution's bias an elementwise operand, so that the epilogue takes it.

    Before: Conv(x, w, b[O]).
    After: Add(Conv(x, w), b[O, 1, 1]), or b[O] for channels last.
    """
    bias = node.operand(2)
    rank = len(node.output.shape)
    spatial = rank - 1 - channel_axis(node)
    shape = (*bias.shape, *([1] * spatial))
    if bias.const is not None:
        aligned = graph.add_const(bias.const.reshape(bias.type.static_shape + (1,) * spatial), bias.name)
    else:
        aligned = graph.add(Reshape(shape), [bias], name=bias.name, before=node).output
    bare = graph.add(node.op, [node.operand(0), node.operand(1)], name=node.name, source=node.source, before=node)
    total = graph.add(make("add"), [bare.output, aligned], name=node.name, source=node.source, before=node)
    graph.replace_uses(node.output, total.output)
    graph.remove(node)
    graph.rename_node(bare, node.name)
    graph.rename(total.output, node.output.name)


def flatten_channels_last(graph: Graph, node: Node) -> None:
    """Lets a fully connected layer read a flattened image as it lies.

    Before: MatMul(Reshape(x[N, C, H, W] -> [N, C*H*W]), constant w).
    After: MatMul(Reshape(Transpose(x, N H W C) -> [N, H*W*C]), w with its rows reordered).
    Unless: x is not made by a spatial op, H*W is 1, or the reshape is used elsewhere.
    """
    weight = node.operand(1)
    flat = node.operand(0)
    producer = flat.producer
    if weight.const is None or producer is None or not isinstance(producer.op, Reshape) or len(flat.uses) != 1:
        return
    image = producer.operand(0)
    op = node.op
    assert isinstance(op, MatMul)
    if len(image.shape) < 3 or len(flat.shape) != 2 or weight.const.ndim != 2 or op.transpose_a or made_order(image) != channels_last(len(image.shape)):
        return
    n, *rest = image.shape
    if not sh.is_static(tuple(rest)):
        return
    c, *spatial = sh.static(tuple(rest))
    size = sh.count(spatial)
    if size == 1 or c == 1 or flat.shape != (n, c * size) or graph.is_output(flat):
        return
    matrix = weight.const.T if op.transpose_b else weight.const
    reordered = matrix.reshape(c, size, -1).transpose(1, 0, 2).reshape(size * c, -1)
    turned = graph.add(Transpose(channels_last(len(image.shape))), [image], name=producer.name, source=producer.source, before=node)
    again = graph.add(Reshape((n, size * c)), [turned.output], name=producer.name, source=producer.source, before=node)
    new_weight = graph.add_const(np.ascontiguousarray(reordered), weight.name)
    product = graph.add(
        MatMul(), [again.output, new_weight], name=node.name, source=node.source, before=node
    )
    graph.replace_uses(node.output, product.output)
    graph.remove(node)
    graph.rename_node(product, node.name)
    graph.rename(product.output, node.output.name)
