"""Few input channels, on GPUs: a power of two of them, so that a window's row is one run of aligned elements.

Before: Conv(Cast(x[N, 3, H, W]), w[O, 3, kh, kw]).
After: Conv(Cast(Pad(x, to 4 channels)), w with a channel of zeros); the cast becomes the padding's epilogue. Likewise an IntegerConv of a Quantize
with one scale.
Unless: the channels are a power of two or 8 and more, the window has at most 32 elements, or the weights are not known.
"""

from __future__ import annotations

import numpy as np

from strop.ir.graph import Graph, Node, Value
from strop.ops.conv import Conv
from strop.ops.data import Pad
from strop.ops.elementwise import Cast
from strop.ops.integer import IntegerConv
from strop.ops.quantize import Quantize

_MOST = 8
#: Elements of a window that are multiplied in one round anyway.
_SMALL = 32


def widen(graph: Graph) -> None:
    """Widens every convolution of few channels in place."""
    for node in list(graph.nodes):
        if isinstance(node.op, (Conv, IntegerConv)) and _suits(node, node.op):
            _widen(graph, node)


def _suits(node: Node, op: Conv | IntegerConv) -> bool:
    weight = node.operand(1)
    if weight.const is None or op.groups != 1 or op.layout != "NCHW" or weight.const.size == 0:
        return False
    channels, *kernel = weight.type.static_shape[1:]
    return channels < _MOST and channels & (channels - 1) != 0 and channels * int(np.prod(kernel)) > _SMALL


def _passes(node: Node) -> bool:
    """Whether the op does the same to every element, also to a channel more."""
    return isinstance(node.op, Cast) or (isinstance(node.op, Quantize) and node.op.block == 0 and node.operand(1).type.rank == 0)


def _widen(graph: Graph, node: Node) -> None:
    weight, x = node.operand(1), node.operand(0)
    assert weight.const is not None
    channels = weight.const.shape[1]
    more = (1 << (channels - 1).bit_length()) - channels
    rank = len(x.shape)
    pads = (*[0] * rank, 0, more, *[0] * (rank - 2))
    cast = x.producer
    source: Value = x
    if cast is not None and len(x.uses) == 1 and not graph.is_output(x) and _passes(cast):
        source = cast.operand(0)
    padded = graph.add(Pad(pads, "constant", 0.0), [source], name=f"{node.name}.widened", source=node.source, before=node).output
    if source is not x:
        assert cast is not None
        padded = graph.add(cast.op, [padded, *cast.operands[1:]], name=f"{node.name}.cast", source=node.source, before=node).output
    array = np.concatenate([weight.const, np.zeros((weight.const.shape[0], more, *weight.const.shape[2:]), weight.const.dtype)], 1)
    wide = graph.add(node.op, [padded, graph.add_const(array, weight.name), *node.operands[2:]], name=node.name, source=node.source, before=node)
    graph.replace_uses(node.output, wide.output)
    graph.remove(node)
    graph.rename_node(wide, node.name)
