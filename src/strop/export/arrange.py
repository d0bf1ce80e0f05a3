"""A graph whose convolutions, pools and the like have their channels last, with as few transpositions as possible.

Before: max_pool(relu(conv(x))), all [N, C, H, W].
After: max_pool(relu(conv(transpose(x)))) over [N, H, W, C], turned back where an output or another op wants it; weights and axes follow.

Every op that speaks of channels first is put between two transpositions and becomes ``ChannelsLast``; ``cancel_transposes`` then chooses the
axis order of everything between.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from strop.export.expand import expand, expand_softmax
from strop.export.functions import Direct
from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Op, Type
from strop.ops.channels_last import ChannelsLast, first_perm, last_perm
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.data import Reshape, Transpose
from strop.ops.matmul import MatMul
from strop.ops.norm import LRN
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.resize import Resize
from strop.optimize import (
    cancel_transposes,
    eliminate_common,
    eliminate_dead,
    eliminate_noops,
    fold_constants,
)
from strop.optimize.base import Options
from strop.trace import Trace

#: What a reshape costs, beside a transposition and turning a node.
_RESHAPE = 1 << 16
#: Ops that know channels first only.
_FIRST = (Conv, ConvTranspose, MaxPool, AveragePool, LRN)
_PASSES = (cancel_transposes, eliminate_noops, fold_constants, eliminate_common, eliminate_dead)


def arrange(graph: Graph, trace: Trace, direct: Direct, turn_ends: bool = False) -> Graph:
    """The graph with channels last inside.

    Args:
        graph: portable; it is not changed.
        direct: which elementwise functions and kinds of resizing the format has an operator for.
        turn_ends: inputs and outputs of rank 4 are [N, H, W, C] too.
    """
    result = expand(graph, direct)
    if turn_ends:
        result = _with_turned_ends(result)
    for node in list(result.nodes):
        if isinstance(node.op, MatMul):
            _flatten(result, node)
        elif isinstance(node.op, Reshape):
            _shuffle(result, node)
    for node in list(result.nodes):
        _wrap(result, node)
    result.toposort()
    options = Options(view_price=_RESHAPE)
    for module in _PASSES:
        module.run(result, trace, options)
    expand_softmax(result)
    return result


def plain(graph: Graph) -> tuple[Graph, Mapping[str, str]]:
    """An arranged graph over ordinary ops only, free sizes at their optimum, which can be compiled, and the names of its values by those of
    the arranged graph."""
    result = Graph(graph.name)
    mapped: dict[Value, Value] = {}
    known = {s.name: s.opt for value in graph.inputs for s in sh.symbols(value.shape)}
    for value in graph.inputs:
        mapped[value] = result.add_input(value.name, value.type.at(known))
    for value in graph.constants():
        assert value.const is not None
        mapped[value] = result.add_const(value.const, value.name)
    for node in graph.nodes:
        operands = [None if v is None else mapped[v] for v in node.inputs]
        names = [v.name for v in node.outputs]
        if isinstance(node.op, ChannelsLast):
            assert operands[0] is not None
            first = result.add(Transpose(first_perm(operands[0].type.rank)), [operands[0]], name=f"{node.name}.first", source=node.source)
            inner = result.add(node.op.inner.at(known), [first.output, *operands[1:]], name=f"{node.name}.inner", source=node.source)
            made = result.add(Transpose(last_perm(inner.output.type.rank)), [inner.output], name=node.name, source=node.source, outputs=names)
        else:
            made = result.add(node.op.at(known), operands, name=node.name, source=node.source, outputs=names)
        mapped.update(zip(node.outputs, made.outputs, strict=True))
    result.set_outputs([mapped[v] for v in graph.outputs], graph.output_names)
    return result, {old.name: new.name for old, new in mapped.items()}


def _wrap(graph: Graph, node: Node) -> None:
    """Puts an op that knows channels first between transpositions."""
    op = node.op
    x = node.operand(0) if node.has(0) else None
    if x is None:
        return
    if isinstance(op, Conv) and op.layout == "NHWC":
        made = graph.add(ChannelsLast(op.replace(layout="NCHW")), node.inputs, name=node.name, source=node.source, before=node)
        _take_place(graph, node, made.output)
        return
    if not isinstance(op, _FIRST) and not (isinstance(op, Resize) and _is_spatial(op, x)):
        return
    rank = x.type.rank
    last = graph.add(Transpose(last_perm(rank)), [x], name=f"{node.name}.last", source=node.source, before=node)
    made = graph.add(ChannelsLast(op), [last.output, *node.inputs[1:]], name=node.name, source=node.source, before=node)
    back = graph.add(Transpose(first_perm(rank)), [made.output], name=f"{node.name}.first", source=node.source, before=node)
    _take_place(graph, node, back.output)


def _take_place(graph: Graph, node: Node, value: Value) -> None:
    """Replaces a node's result and its name."""
    old = node.output
    graph.replace_uses(old, value)
    graph.remove(node)
    maker = value.producer
    assert maker is not None
    made = maker if isinstance(maker.op, ChannelsLast) else maker.operand(0).producer
    assert made is not None
    graph.rename_node(made, node.name)
    graph.rename(made.output, old.name)


def _is_spatial(op: Resize, x: Value) -> bool:
    return x.type.rank == 4 and op.sizes[:2] == x.shape[:2]


def _flatten(graph: Graph, node: Node) -> None:
    """Lets a product read a flattened image as it lies.

    Before: MatMul(Reshape(x[N, C, H, W] -> [N, C*H*W]), constant w).
    After: MatMul(Reshape(Transpose(x, N H W C) -> [N, H*W*C]), w with its rows reordered).
    Unless: nothing before it has channels, or the reshape is used elsewhere.
    """
    op, flat, weight = node.op, node.operand(0), node.operand(1)
    assert isinstance(op, MatMul)
    producer = flat.producer
    if weight.const is None or weight.const.ndim != 2 or op.transpose_a or producer is None or not isinstance(producer.op, Reshape):
        return
    image = producer.operand(0)
    rest = image.shape[1:]
    if image.type.rank not in (4, 5) or flat.type.rank != 2 or len(flat.uses) != 1 or graph.is_output(flat) or not sh.is_static(rest):
        return
    c, *spatial = sh.static(rest)
    size = sh.count(spatial)
    if flat.shape != (image.shape[0], c * size) or size == 1 or c == 1 or not _has_channels(image):
        return
    matrix = weight.const.T if op.transpose_b else weight.const
    reordered = matrix.reshape(c, size, -1).transpose(1, 0, 2).reshape(size * c, -1)
    turned = graph.add(Transpose(last_perm(image.type.rank)), [image], name=f"{producer.name}.last", source=producer.source, before=node)
    again = graph.add(Reshape((image.shape[0], size * c)), [turned.output], name=producer.name, source=producer.source, before=node)
    new = graph.add_const(np.ascontiguousarray(reordered.T if op.transpose_b else reordered), weight.name)
    product = graph.add(op, [again.output, new], name=node.name, source=node.source, before=node)
    old = node.output
    graph.replace_uses(old, product.output)
    graph.remove(node)
    graph.rename_node(product, node.name)
    graph.rename(product.output, old.name)


def _shuffle(graph: Graph, node: Node) -> None:
    """Lets a channel shuffle work where channels are last.

    Before: Reshape(Transpose(Reshape(x[N, C, H, W] -> [N, G, C/G, H, W]), 02134) -> [N, C, H, W]).
    After: the same over [N, H, W, C], between two transpositions that others cancel.
    Unless: something else reads what is between.
    """
    inner = node.operand(0).producer
    outer = inner.operand(0).producer if inner is not None and isinstance(inner.op, Transpose) else None
    if outer is None or inner is None or not isinstance(outer.op, Reshape) or not isinstance(inner.op, Transpose):
        return
    x, parts = outer.operand(0), outer.output
    rank = x.type.rank
    if rank < 3 or node.output.shape != x.shape or inner.op.perm != (0, 2, 1, *range(3, rank + 1)) or parts.shape != (x.shape[0], *parts.shape[1:3], *x.shape[2:]):
        return
    if any(len(v.uses) != 1 or graph.is_output(v) for v in (parts, inner.output)):
        return
    spatial = tuple(x.shape[2:])

    def step(op: Op, value: Value, by: Node) -> Value:
        return graph.add(op, [value], name=f"{by.name}.last", source=by.source, before=node).output

    found = step(Transpose(last_perm(rank)), x, outer)
    found = step(Reshape((x.shape[0], *spatial, *parts.shape[1:3])), found, outer)
    found = step(Transpose((*range(rank - 1), rank, rank - 1)), found, inner)
    found = step(Reshape((x.shape[0], *spatial, x.shape[1])), found, node)
    found = step(Transpose(first_perm(rank)), found, node)
    name = node.output.name
    graph.replace_uses(node.output, found)
    graph.remove(node)
    graph.rename(found, name)


def _has_channels(value: Value) -> bool:
    """Whether an op that knows channels made the value, or one behind which nothing but ops of one operand stands."""
    node = value.producer
    while node is not None:
        if isinstance(node.op, (*_FIRST, Resize)):
            return True
        known = [v for v in node.operands if v.const is None and v.shape == value.shape]
        node = known[0].producer if known else None
    return False


def _with_turned_ends(graph: Graph) -> Graph:
    """Inputs and outputs of rank 4 as [N, H, W, C], turned where the graph begins and ends."""
    result = Graph(graph.name)
    mapped: dict[Value, Value] = {}
    for value in graph.inputs:
        if value.type.rank == 4:
            last = last_perm(4)
            given = result.add_input(value.name, Type(value.dtype, tuple(value.shape[p] for p in last)))
            mapped[value] = result.add(Transpose(first_perm(4)), [given], name=f"{value.name}.first").output
        else:
            mapped[value] = result.add_input(value.name, value.type)
    for value in graph.constants():
        assert value.const is not None
        mapped[value] = result.add_const(value.const, value.name)
    for node in graph.nodes:
        operands = [None if v is None else mapped[v] for v in node.inputs]
        made = result.add(node.op, operands, name=node.name, source=node.source, outputs=[v.name for v in node.outputs])
        mapped.update(zip(node.outputs, made.outputs, strict=True))
    outputs = []
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        known = mapped[value]
        if known.type.rank == 4:
            known = result.add(Transpose(last_perm(4)), [known], name=f"{name}.last", source=value.producer.source if value.producer else ()).output
        outputs.append(known)
    result.set_outputs(outputs, graph.output_names)
    return result
