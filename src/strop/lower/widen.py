"""Few input channels, on GPUs: a power of two of them, so that a window's row is one run of aligned elements, and no window leaves x.

Before: Conv(Cast(x[N, 3, H, W]), w[O, 3, kh, kw]), zeros around.
After: Conv(Cast(Pad(x, to 4 channels, and around)), w with a channel of zeros, its rows as long as a power of two), nothing around; the cast
becomes the padding's epilogue. Likewise an IntegerConv, or a WideConv of f8e4m3, of a Quantize with one scale.
Unless: the channels are a power of two or 8 and more, the window has at most 32 elements, or the weights are not known. Windows still leave x where
they have three axes, their rows are dilated, or the padding is none of 0 before the op is the same to every element.
"""

from __future__ import annotations

import numpy as np

from strop.ir import dtype as dt
from strop.ir.graph import Graph, Node, Value
from strop.ops.conv import Conv
from strop.ops.data import Pad
from strop.ops.elementwise import Cast
from strop.ops.integer import IntegerConv
from strop.ops.quantize import Quantize
from strop.ops.wide import WideConv

_MOST = 8
#: Elements of a window that are multiplied in one round anyway.
_SMALL = 32


def widen(graph: Graph) -> None:
    """Widens every convolution of few channels in place."""
    for node in list(graph.nodes):
        if isinstance(node.op, (Conv, IntegerConv, WideConv)) and _suits(node, node.op):
            _widen(graph, node)


def _suits(node: Node, op: Conv | IntegerConv | WideConv) -> bool:
    weight = node.operand(1)
    if isinstance(op, WideConv) and weight.dtype is not dt.f8e4m3:
        return False
    if weight.const is None or op.groups != 1 or op.layout != "NCHW" or weight.const.size == 0:
        return False
    channels, *kernel = weight.type.static_shape[1:]
    return channels < _MOST and channels & (channels - 1) != 0 and channels * int(np.prod(kernel)) > _SMALL


def _passes(node: Node) -> bool:
    """Whether the op does the same to every element, also to a channel more."""
    return isinstance(node.op, Cast) or (isinstance(node.op, Quantize) and node.op.block == 0 and node.operand(1).type.rank == 0)


def _around(node: Node, op: Conv | IntegerConv | WideConv, cast: Node | None, channels: int) -> tuple[list[int], list[int], int]:
    """What x is padded with before and after every spatial axis so that no window leaves it, and taps of zeros behind a window's row."""
    rank = len(op.strides)
    none = [0] * rank, [0] * rank, 0
    same = cast is not None and isinstance(cast.op, Quantize) and isinstance(op, IntegerConv) and _equal(cast, node)
    zeros = isinstance(op, (Conv, WideConv)) or same
    if rank > 2 or op.dilations[-1] != 1 or not zeros:
        return none
    sizes, kernel, outs = node.operand(0).shape[2:], node.operand(1).type.static_shape[2:], node.output.shape[2:]
    row = kernel[-1] * channels
    more = ((1 << (row - 1).bit_length()) - row) // channels
    after = []
    for k in range(rank):
        size, out = sizes[k], outs[k]
        if not isinstance(size, int) or not isinstance(out, int):
            return none
        reach = (out - 1) * op.strides[k] + (kernel[k] - 1 + (more if k == rank - 1 else 0)) * op.dilations[k] + 1
        missing = reach - size - op.pads[k]
        if missing <= -op.strides[k]:
            return none  # places behind the last window would become windows
        after.append(max(0, missing))
    return list(op.pads[:rank]), after, more


def _equal(cast: Node, node: Node) -> bool:
    """Whether a Quantize and an IntegerConv have the same zero point."""
    first, second = (n.operand(2).const if n.has(2) else np.zeros((), np.int8) for n in (cast, node))
    return first is not None and second is not None and first.size == second.size == 1 and int(first.reshape(-1)[0]) == int(second.reshape(-1)[0])


def _widen(graph: Graph, node: Node) -> None:
    weight, x, op = node.operand(1), node.operand(0), node.op
    assert weight.const is not None and isinstance(op, (Conv, IntegerConv, WideConv))
    channels = weight.const.shape[1]
    whole = 1 << (channels - 1).bit_length()
    cast = x.producer
    source: Value = x
    if cast is not None and len(x.uses) == 1 and not graph.is_output(x) and _passes(cast):
        source = cast.operand(0)
    before, after, more = _around(node, op, cast if source is not x else None, whole)
    pads = (0, 0, *before, 0, whole - channels, *after)
    if any(before) or any(after) or more:
        op = op.replace(pads=(0,) * len(op.pads))
    padded = graph.add(Pad(pads, "constant", 0.0), [source], name=f"{node.name}.widened", source=node.source, before=node).output
    if source is not x:
        assert cast is not None
        padded = graph.add(cast.op, [padded, *cast.operands[1:]], name=f"{node.name}.cast", source=node.source, before=node).output
    array = np.pad(weight.const, ((0, 0), (0, whole - channels), *[(0, 0)] * (len(before) - 1), (0, more)))
    wide = graph.add(op, [padded, graph.add_const(array, weight.name), *node.operands[2:]], name=node.name, source=node.source, before=node)
    graph.replace_uses(node.output, wide.output)
    graph.remove(node)
    graph.rename_node(wide, node.name)
