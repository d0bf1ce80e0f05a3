"""Activations as signed bytes, on GPUs, whose tensor cores multiply bytes of one kind.

Before: Dequantize(MaxPool(Quantize(x, scale, zero: u8)), scale, zero).
After: the same with i8 and zero - 128; the numbers that integers stand for stay the same.
Unless: a zero point is not known, or the integers are an input, an output, or meet anything but Quantize, Dequantize and ops that move or pick them.
"""

from __future__ import annotations

import numpy as np

from strop.ir import dtype as dt
from strop.ir.graph import Graph, Node, Value
from strop.lower.quantized import MOVING
from strop.ops.data import Concat, Split
from strop.ops.quantize import Dequantize, Quantize

_SHIFT = 128
_MOVING = (*MOVING, Concat, Split)


def signed(graph: Graph) -> Graph:
    """A copy of the graph in which activations are signed."""
    graph = graph.clone()
    seen: set[Value] = set()
    made: dict[Value, Value] = {}
    for node in graph.nodes:
        if isinstance(node.op, Quantize) and node.output.dtype is dt.u8 and node.output not in seen:
            together = _together(node.output)
            seen |= together
            if all(_turns(graph, value) for value in together):
                made.update(dict.fromkeys(together, node.output))
    for node in list(graph.nodes):
        if any(v in made for v in (*node.operands, *node.outputs)):
            _turn(graph, node, made)
    graph.prune()
    return graph


def _together(value: Value) -> set[Value]:
    """The value and all that share its integers, through ops that move them."""
    found, todo = {value}, [value]
    while todo:
        one = todo.pop()
        around = [n for n in (one.producer, *one.users) if n is not None and isinstance(n.op, _MOVING)]
        for other in (v for n in around for v in (*n.operands, *n.outputs)):
            if other not in found:
                found.add(other)
                todo.append(other)
    return found


def _turns(graph: Graph, value: Value) -> bool:
    maker = value.producer
    if maker is None or value.dtype is not dt.u8 or graph.is_output(value):
        return False
    made = isinstance(maker.op, _MOVING) or (isinstance(maker.op, Quantize) and _known(maker))
    return made and all(isinstance(r.op, _MOVING) or (isinstance(r.op, Dequantize) and r.operand(0) is value and _known(r)) for r in value.users)


def _turn(graph: Graph, node: Node, made: dict[Value, Value]) -> None:
    """Makes the node anew over signed values; ``made`` then says what stands for its results."""
    op, operands = node.op, [made.get(v, v) for v in node.operands]
    if isinstance(op, (Quantize, Dequantize)):
        zero = node.operand(2).const if node.has(2) else np.zeros(node.operand(1).type.static_shape, np.uint8)
        assert zero is not None
        operands[2:] = [graph.add_const((zero.astype(np.int16) - _SHIFT).astype(np.int8), f"{node.name}.zero")]
    if isinstance(op, Quantize):
        op = op.replace(to=dt.i8)
    new = graph.add(op, operands, name=node.name, source=node.source, before=node)
    for old, value in zip(node.outputs, new.outputs, strict=True):
        if old in made:
            made[old] = value
        else:
            graph.replace_uses(old, value)


def _known(node: Node) -> bool:
    return node.operand(1).const is not None and (not node.has(2) or node.operand(2).const is not None)
