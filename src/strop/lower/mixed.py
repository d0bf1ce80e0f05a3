"""Products of floats with weights that are stored as integers.

Before:
    MatMul(x, Dequantize(w)), Conv(x, Dequantize(w), bias) with a kernel of one tap
After:
    MixedMatMul(x, w) * scale, with one scale per column of 8-bit weights, or MixedMatMul(x, w, scale, zero), with a scale per group of a
    column. Weights whose integers fit 4 bits are stored in 4 bits.
Unless:
    something is not known that must be, or weights are scaled otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array, Op
from strop.ops.conv import Conv
from strop.ops.data import Reshape
from strop.ops.elementwise import make
from strop.ops.integer import FACTORS
from strop.ops.matmul import MatMul
from strop.ops.mixed import LIMITS, MixedConv, MixedMatMul
from strop.ops.quantize import Dequantize


@dataclass(frozen=True)
class Weights:
    """What a Dequantize of known integers stands for: (integers - zero) * scale.

    Attributes:
        integers: i8, in the order of the weights.
        bits: that each of them fits.
        group: along k, with a scale each.
        scale, zero: f32[groups, columns]; no zero where it is 0 everywhere.
    """

    integers: Array
    bits: int
    group: int
    scale: Array
    zero: Array | None


def mix(graph: Graph, node: Node) -> None:
    """Rewrites one product in place, if it is one of floats with stored integers."""
    op, x = node.op, node.operand(0)
    assert isinstance(op, (Conv, MatMul))
    if x.dtype is not dt.f32 or (isinstance(op, MatMul) and (op.transpose_a or x.type.rank < 2 or node.operand(1).type.rank != 2)):
        return
    k, n = (1, 0) if isinstance(op, Conv) or op.transpose_b else (0, 1)
    found = weights_of(node.operand(1), k, n)
    if found is None:
        return
    alone = found.bits == 8 and found.zero is None and len(found.scale) == 1  # scaled behind the sum
    group = 0 if alone else found.group
    if isinstance(op, MatMul):
        mixed: Op | None = MixedMatMul(found.bits, group, op.transpose_b)
    else:
        mixed = MixedConv.of(op, node.operand(1).type.static_shape, found.bits, group)
    if mixed is None:
        return
    name = node.operand(1).name
    operands = [x, graph.add_const(found.integers, name)]
    if not alone:
        operands += [graph.add_const(np.ascontiguousarray(p), f"{name}.{part}") for p, part in ((found.scale, "scale"), (found.zero, "zero")) if p is not None]
    spatial = (1,) * (x.type.rank - 2) if isinstance(op, Conv) and op.layout == "NCHW" else ()
    result = _add(graph, node, mixed, *operands)
    if alone:
        factor = found.scale.reshape(-1, *spatial)
        result = _add(graph, node, make("mul"), result, graph.add_const(factor if found.scale.size > 1 else factor.reshape(()), f"{node.name}.scale"))
    if node.has(2):
        bias = _add(graph, node, Reshape((*node.operand(2).shape, *spatial)), node.operand(2))
        result = _add(graph, node, make("add"), result, bias)
    graph.replace_uses(node.output, result)
    graph.remove(node)


def _add(graph: Graph, node: Node, op: Op, *operands: Value) -> Value:
    return graph.add(op, list(operands), name=node.name, source=node.source, before=node).output


def weights_of(value: Value, k: int, n: int) -> Weights | None:
    """What a value is a Dequantize of; None when it is none of known 8-bit integers with a scale per column, or per group along k.

    Args:
        value: the weights as floats.
        k, n: axes of the weights that are summed over, and that count columns; all others have length 1.
    """
    node = value.producer
    if node is None or not isinstance(node.op, Dequantize) or any(v.const is None for v in node.operands) or value.dtype is not dt.f32:
        return None
    stored = node.operand(0)
    shape = stored.type.static_shape
    if stored.dtype not in FACTORS or 0 in shape or any(d != 1 for axis, d in enumerate(shape) if axis not in (k, n)):
        return None
    spread = [_per_group(node.op, p.const, shape, k, n) for p in node.operands[1:] if p.const is not None]
    if any(p is None for p in spread):
        return None
    scale, *zeros = (np.asarray(p) for p in spread)
    group = node.op.block if node.op.block and node.op.axis % len(shape) == k else shape[k]
    assert stored.const is not None
    return _fitted(stored.const, group, scale.astype(np.float32), zeros[0].astype(np.int16) if zeros and np.any(zeros[0]) else None, k, n)


def _per_group(op: Dequantize, param: Array, shape: tuple[int, ...], k: int, n: int) -> Array | None:
    """A scale or zero point as [groups, columns]; None when it varies along k otherwise."""
    whole = param.reshape((1,) * (len(shape) - param.ndim) + param.shape)
    axis = op.axis % len(shape)
    if op.block == 0 or axis == n:
        if whole.shape[k] != 1:
            return None
        if op.block and whole.shape[n] > 1:
            whole = np.repeat(whole, op.block, n).take(np.arange(shape[n]), n)
    elif axis != k:
        return None
    matrix = whole.transpose(k, n, *(a for a in range(len(shape)) if a not in (k, n))).reshape(whole.shape[k], whole.shape[n])
    groups = matrix.shape[0] if op.block == 0 or axis == n else -(-shape[k] // op.block)
    return np.asarray(np.broadcast_to(matrix, (groups, shape[n])))


def _fitted(stored: Array, group: int, scale: Array, zero: Array | None, k: int, n: int) -> Weights:
    """The integers in as few bits as they fit, less their zero points where that fits too."""
    raw = stored.astype(np.int16)
    centred = raw
    if zero is not None:
        shape = [1] * stored.ndim
        shape[k], shape[n] = stored.shape[k], stored.shape[n]
        full = np.repeat(zero, group, 0)[: stored.shape[k]]
        centred = raw - (full if k < n else full.T).reshape(shape)
    signed = stored.dtype == np.int8
    for bits, middle in ((4, 0 if signed else 8), (8, 0 if signed else 128)):
        low, high = LIMITS[bits]
        if centred.min() >= low and centred.max() <= high:
            return Weights(centred.astype(np.int8), bits, group, scale, None)
        moved = raw - middle
        if moved.min() >= low and moved.max() <= high:
            rest = np.broadcast_to(np.float32(0 if zero is None else zero) - np.float32(middle), scale.shape)
            return Weights(moved.astype(np.int8), bits, group, scale, rest)
    raise AssertionError("8-bit integers fit 8 bits")
