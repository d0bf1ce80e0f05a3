"""Scaling and shifting what a convolution or matrix product gives by changing its constants."""

from __future__ import annotations

import numpy as np

from strop.ir.graph import Node
from strop.ir.match import Match, Patch
from strop.ir.op import Array
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.matmul import MatMul
from strop.optimize.base import narrow, wide


def scaled_conv(m: Match, node: Node, s: Array | float, t: Array | float) -> Patch | None:
    """Replaces the root's result by ``node``, a Conv or ConvTranspose, with its result times s plus t.

    Args:
        m: the match; its root reads ``node``.
        node: its weights, and its bias if it has one, are constants.
        s, t: float64, per output channel or one for all.

    Returns:
        None when a weight or bias would not be finite.
    """
    w, dtype = wide(_const(node, 1)), node.output.dtype
    if isinstance(node.op, ConvTranspose):
        channels = w.shape[1] * node.op.groups
        s = np.broadcast_to(s, (channels,))
        grouped = w.reshape(node.op.groups, -1, *w.shape[1:])
        factor = s.reshape(node.op.groups, 1, w.shape[1], *[1] * (w.ndim - 2))
        weights = narrow((grouped * factor).reshape(w.shape), dtype)
    else:
        assert isinstance(node.op, Conv)
        channels = w.shape[0]
        s = np.broadcast_to(s, (channels,))
        weights = narrow(w * s.reshape(-1, *[1] * (w.ndim - 1)), dtype)
    old = wide(_const(node, 2)) if node.has(2) else np.zeros(channels)
    bias = narrow(old * s + t, dtype)
    if weights is None or bias is None:
        return None
    patch = Patch(m.graph)
    operands = [patch.const(weights, node.operand(1).name)]
    if node.has(2) or np.any(np.asarray(t) != 0):
        name = node.operand(2).name if node.has(2) else f"{node.name}.bias"
        operands.append(patch.const(bias, name))
    result = patch.add(node.op, node.operand(0), *operands)
    return patch.replace_if_same(m.root.output, result)


def scaled_matmul(m: Match, node: Node, s: Array | float) -> Patch | None:
    """Replaces the root's result by ``node``, a MatMul with a constant second operand, times s.

    Args:
        m: the match; its root reads ``node``.
        node: the product.
        s: float64, per column of the result or one for all.

    Returns:
        None when a weight would not be finite.
    """
    assert isinstance(node.op, MatMul)
    w = wide(_const(node, 1))
    factor = np.asarray(s)
    if node.op.transpose_b and factor.ndim:
        factor = factor[:, None]
    weights = narrow(w * factor, node.output.dtype)
    if weights is None or weights.shape != w.shape:
        return None
    patch = Patch(m.graph)
    result = patch.add(node.op, node.operand(0), patch.const(weights, node.operand(1).name))
    return patch.replace_if_same(m.root.output, result)


def _const(node: Node, index: int) -> Array:
    array = node.operand(index).const
    assert array is not None, f"operand {index} of {node.name} is no constant"
    return array
