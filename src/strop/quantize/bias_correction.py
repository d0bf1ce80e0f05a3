"""Takes out of each layer's bias what the rounding of its weights adds to the mean of its result.

Nagel et al., 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, with the means of
the layer's input channels from calibration: E[y] changes by the sum over inputs of (w_q - w) * E[x]. Padding is not
counted: at the border of an image the correction is too large.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.elementwise import Elementwise, make
from strop.ops.matmul import MatMul
from strop.ops.quantize import Dequantize
from strop.quantize.precision import is_layer


def correct(original: Graph, quantized: Graph, means: Mapping[str, Array]) -> int:
    """Corrects the biases of a quantized graph in place; answers how many.

    Args:
        original: the float graph.
        quantized: its quantized form, with nodes of the same names.
        means: name of a layer's input to the mean of each of its channels.
    """
    nodes = {node.name: node for node in quantized.nodes}
    count = 0
    for node in original.nodes:
        if not is_layer(node) or node.operand(0).name not in means:
            continue
        other = nodes.get(node.name)
        if other is None or other.operand(1).producer is None or not isinstance(other.operand(1).producer.op, Dequantize):  # type: ignore[union-attr]
            continue
        weight = node.operand(1).const
        assert weight is not None
        rounded = other.operand(1).producer.op.reference(*(v.const for v in other.operand(1).producer.operands if v.const is not None))[0]  # type: ignore[union-attr]
        shift = mean_change(node, rounded.astype(np.float64) - weight, means[node.operand(0).name])
        if _subtract(quantized, other, shift):
            count += 1
    if count:
        quantized.toposort()
        quantized.prune()
    return count


def mean_change(node: Node, error: Array, mean: Array) -> Array:
    """Change of the mean of each output channel, float64[O].

    Args:
        node: the layer.
        error: change of its weights.
        mean: of each input channel.
    """
    op = node.op
    if isinstance(op, MatMul):
        return np.asarray(error @ mean if op.transpose_b else mean @ error)
    per_tap = error.sum(axis=tuple(range(2, error.ndim)))
    if isinstance(op, ConvTranspose):
        return np.asarray(mean @ per_tap) / np.prod(op.strides)
    assert isinstance(op, Conv)
    width = error.shape[0] // op.groups
    grouped = mean.reshape(op.groups, -1)
    return np.concatenate([per_tap[g * width : (g + 1) * width] @ grouped[g] for g in range(op.groups)])


def _subtract(graph: Graph, node: Node, shift: Array) -> bool:
    """Lowers the bias of a layer: a convolution's own, or the constant that is added to a product."""
    if isinstance(node.op, (Conv, ConvTranspose)):
        old = node.operand(2) if node.has(2) else None
        if old is not None and old.const is None:
            return False
        bias = (old.const.astype(np.float64) if old is not None and old.const is not None else 0.0) - shift
        new = graph.add_const(bias.astype(np.float32), f"{node.name}.bias")
        if old is not None:
            graph.set_operand(node, 2, new)
        else:
            node.inputs.append(new)
            new.uses.append((node, 2))
        return True
    add = _addition(graph, node)
    if add is None:
        product = node.output
        readers = list(product.uses)
        total = graph.add(make("add"), [product, graph.add_const((-shift).astype(np.float32))], name=f"{node.name}.bias", source=node.source)
        for reader, index in readers:
            graph.set_operand(reader, index, total.output)
        graph.outputs = [total.output if v is product else v for v in graph.outputs]
        return True
    reader, index = add
    old = reader.operand(index)
    assert old.const is not None
    graph.set_operand(reader, index, _like(graph, old, old.const.astype(np.float64) - shift))
    return True


def _addition(graph: Graph, node: Node) -> tuple[Node, int] | None:
    """The node and operand number by which a constant of one number per channel is added to a product."""
    value = node.output
    if len(value.uses) != 1 or graph.is_output(value):
        return None
    reader, place = value.uses[0]
    if not isinstance(reader.op, Elementwise) or reader.op.fn != "add":
        return None
    other = reader.operand(1 - place)
    fits = other.const is not None and other.const.size == value.shape[-1] and other.const.shape[-1:] == (value.shape[-1],)
    return (reader, 1 - place) if fits else None


def _like(graph: Graph, old: Value, array: Array) -> Value:
    return graph.add_const(array.reshape(old.type.static_shape).astype(np.float32), f"{old.name}.corrected")
