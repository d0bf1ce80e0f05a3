"""Which physical order a value wants: channels-last around spatial ops, row-major elsewhere."""

from __future__ import annotations

from strop.ir.graph import Node, Value
from strop.ir.op import Op
from strop.kernels.base import View
from strop.lower.views import channels_last
from strop.ops.attention import Attention
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.data import Concat, Identity, Pad, Slice, Split, Transpose
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.matmul import MatMul
from strop.ops.norm import LRN, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.resize import Resize

#: Ops over N, C, spatial... that are fastest with channels innermost.
SPATIAL: tuple[type[Op], ...] = (
    Conv, ConvTranspose, MaxPool, AveragePool, LRN, InstanceNorm, GroupNorm, Resize,
)  # fmt: skip
#: Ops that keep the order of what they read.
_FOLLOWS: tuple[type[Op], ...] = (Elementwise, Cast, Identity, Slice, Split, Concat, Pad)
#: Input channels per group up to which a convolution reads any layout.
PLANAR_CHANNELS = 4


def is_spatial(value: Value, seen: frozenset[Value] = frozenset()) -> bool:
    """True when a spatial op made the value, possibly through ops that keep the order."""
    node = value.producer
    if node is None or len(value.shape) < 3:
        return False
    if isinstance(node.op, SPATIAL):
        return True
    if isinstance(node.op, _FOLLOWS):
        return any(is_spatial(v) for v in node.operands if v.shape and len(v.shape) == len(value.shape))
    return False


def feeds_spatial(value: Value, depth: int = 8) -> bool:
    """True when a spatial op reads the value as its data, possibly through ops that keep the order."""
    if len(value.shape) < 3 or depth == 0:
        return False
    for node, index in value.uses:
        if isinstance(node.op, SPATIAL) and index == 0:
            return True
        if isinstance(node.op, _FOLLOWS) and any(
            len(v.shape) == len(value.shape) and feeds_spatial(v, depth - 1) for v in node.outputs
        ):
            return True
    return False


def wanted_order(value: Value) -> tuple[int, ...]:
    """Axes from outermost to innermost in which a new buffer for the value should lie."""
    rank = len(value.shape)
    node = value.producer
    if rank >= 3 and (is_spatial(value) or feeds_spatial(value)):
        return channels_last(rank)
    turned = _only_transpose(value)
    if turned is not None and node is not None and isinstance(node.op, (Attention, MatMul)) and turned[-1] == rank - 1:
        return turned
    return tuple(range(rank))


def _only_transpose(value: Value) -> tuple[int, ...] | None:
    users = value.users
    if len(users) == 1 and isinstance(users[0].op, Transpose):
        return users[0].op.perm
    return None


def required_order(node: Node, index: int, view: View) -> tuple[int, ...] | None:
    """The order into which an anchor's operand must be copied before its kernels do well; None when it may stay."""
    op, rank = node.op, len(view.shape)
    if isinstance(op, SPATIAL) and index == 0 and rank >= 3:
        few = isinstance(op, Conv) and view.shape[1] <= PLANAR_CHANNELS * op.groups and op.groups == 1
        return None if view.strides[1] == 1 or view.shape[1] == 1 or few else channels_last(rank)
    innermost_matters = (
        (isinstance(op, MatMul) and index == 0 and not op.transpose_a)
        or (isinstance(op, (LayerNorm, RMSNorm)) and index == 0)
        or (isinstance(op, Attention) and index < 3)
    )
    if innermost_matters and rank and view.shape[-1] != 1 and view.strides[-1] != 1:
        return tuple(range(rank))
    return None
