"""Which physical order a value wants: channels-last around spatial ops, row-major elsewhere."""

from __future__ import annotations

from strop.ir import dtype as dt
from strop.ir.graph import Node, Value
from strop.ir.op import Op
from strop.kernels.base import View
from strop.lower.views import channels_last
from strop.ops.attention import Attention
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.custom import ANY, CHANNELS_LAST, Layer
from strop.ops.data import Concat, Identity, Pad, Slice, Split, Transpose
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.mixed import MixedConv, MixedMatMul
from strop.ops.norm import LRN, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.recurrent import Recurrent
from strop.ops.resize import Resize
from strop.ops.wide import WideConv, WideMatMul

#: Ops over N, C, spatial... that are fastest with channels innermost.
SPATIAL: tuple[type[Op], ...] = (
    Conv, ConvTranspose, IntegerConv, MixedConv, WideConv, MaxPool, AveragePool, LRN, InstanceNorm, GroupNorm, Resize,
)  # fmt: skip
#: Ops that keep the order of what they read.
_FOLLOWS: tuple[type[Op], ...] = (Elementwise, Cast, Quantize, Dequantize, Identity, Slice, Split, Concat, Pad)
#: Ops that store rows wherever they are wanted.
_ROWS: tuple[type[Op], ...] = (Attention, MatMul, IntegerMatMul, MixedMatMul, WideMatMul, Recurrent)
#: Input channels per group up to which a convolution reads any layout.
PLANAR_CHANNELS = 4


def channel_axis(node: Node) -> int:
    """Logical axis of the channels of a spatial node's data: of a resize the last axis, where that stays as long as it is and the second does not."""
    op = node.op.plain() if isinstance(node.op, (IntegerConv, MixedConv, WideConv)) else node.op
    if isinstance(op, Resize):
        axes, last = op.resized(node.operand(0).type), len(op.sizes) - 1
        return last if 1 in axes and last not in axes else 1
    return op.channel_axis(len(node.operand(0).shape)) if isinstance(op, Conv) else 1


def is_spatial(op: Op) -> bool:
    """True for an op that reads and makes values that lie channels-last."""
    return isinstance(op, SPATIAL) or (isinstance(op, Layer) and op.takes == CHANNELS_LAST)


def needs_dense(op: Op) -> bool:
    """True for a custom layer whose operands and results lie without gaps."""
    return isinstance(op, Layer) and op.takes != ANY


def _channels_innermost(node: Node, rank: int) -> tuple[int, ...]:
    return channels_last(rank) if channel_axis(node) == 1 else tuple(range(rank))


def made_order(value: Value) -> tuple[int, ...] | None:
    """The channels-innermost order of a value that a spatial op made, possibly through ops that keep the order; else None."""
    node, rank = value.producer, len(value.shape)
    if node is None or rank < 3:
        return None
    if is_spatial(node.op):
        return _channels_innermost(node, rank)
    if isinstance(node.op, _FOLLOWS):
        orders = (made_order(v) for v in node.operands if len(v.shape) == rank)
        return next((order for order in orders if order is not None), None)
    return None


def read_order(value: Value, depth: int = 8) -> tuple[int, ...] | None:
    """The channels-innermost order that a spatial op wants of a value it reads, possibly through ops that keep the order."""
    rank = len(value.shape)
    if rank < 3 or depth == 0:
        return None
    for node, index in value.uses:
        made = value.producer
        converted = made is None or (isinstance(made.op, Cast) and made.operand(0).producer is None)  # an input of the network
        narrow = (isinstance(node.op, (IntegerConv, WideConv)) and not _widened(value)) or (converted and value.dtype in (dt.bf16, dt.f16))
        few = isinstance(node.op, (Conv, IntegerConv, WideConv)) and node.op.groups == 1
        if narrow and few and value.shape[channel_axis(node)] in range(1, PLANAR_CHANNELS + 1):
            continue  # it reads any layout; turning what is converted for it would take longer than reading it
        if is_spatial(node.op) and (index == 0 or isinstance(node.op, Layer)):
            return _channels_innermost(node, rank)
        if isinstance(node.op, _FOLLOWS):
            for result in node.outputs:
                order = read_order(result, depth - 1) if len(result.shape) == rank else None
                if order is not None:
                    return order
    return None


def _widened(value: Value) -> bool:
    """True for a value that got channels of zeros, possibly quantized behind them."""
    made = value.producer
    made = made.operand(0).producer if made is not None and isinstance(made.op, Quantize) else made
    return made is not None and isinstance(made.op, Pad) and len(value.shape) > 2 and made.op.pads[len(value.shape) + 1] > 0


def spatial_order(value: Value) -> tuple[int, ...] | None:
    """The order that spatial ops around the value want, or None when there are none."""
    return made_order(value) or read_order(value)


def wanted_order(value: Value) -> tuple[int, ...]:
    """Axes from outermost to innermost in which a new buffer for the value should lie."""
    rank = len(value.shape)
    node = value.producer
    if node is not None and needs_dense(node.op):
        return _dense_order(node.op, rank)
    order = spatial_order(value)
    if order is not None:
        return order
    turned = _only_transpose(value)
    node = _anchor(node) if value.dtype is dt.f8e4m3 else node
    if turned is not None and node is not None and isinstance(node.op, _ROWS) and turned[-1] == rank - 1:
        return turned
    return tuple(range(rank))


def _anchor(node: Node | None) -> Node | None:
    """The node that is no cast and no elementwise op at the start of a chain of these, each read once, over first operands."""
    while node is not None and isinstance(node.op, (Elementwise, Cast)) and node.operand(0).shape == node.output.shape and len(node.operand(0).uses) == 1:
        node = node.operand(0).producer
    return node


def _dense_order(op: Op, rank: int) -> tuple[int, ...]:
    return channels_last(rank) if rank >= 3 and is_spatial(op) else tuple(range(rank))


def _only_transpose(value: Value) -> tuple[int, ...] | None:
    users = value.users
    if len(users) == 1 and isinstance(users[0].op, Transpose):
        return users[0].op.perm
    return None


def required_order(node: Node, index: int, view: View) -> tuple[int, ...] | None:
    """The order into which an anchor's operand must be copied before its kernels do well; None when it may stay."""
    op, rank = node.op, len(view.shape)
    if needs_dense(op):
        order = _dense_order(op, rank)
        return None if view.is_dense(order) else order
    if isinstance(op, SPATIAL) and index == 0 and rank >= 3:
        axis = channel_axis(node)
        few = isinstance(op, (Conv, IntegerConv, WideConv)) and view.shape[axis] <= PLANAR_CHANNELS and op.groups == 1
        return None if view.strides[axis] == 1 or view.shape[axis] == 1 or few else _channels_innermost(node, rank)
    innermost_matters = (
        (isinstance(op, (MatMul, IntegerMatMul, WideMatMul)) and index == 0 and not op.transpose_a)
        or (isinstance(op, MixedMatMul) and index == 0)
        or (isinstance(op, (LayerNorm, RMSNorm)) and index == 0)
        or (isinstance(op, Attention) and index < 3)
    )
    if innermost_matters and rank and view.shape[-1] != 1 and view.strides[-1] != 1:
        return tuple(range(rank))
    return None
