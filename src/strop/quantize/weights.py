"""Weights alone as integers of 8 or 4 bits: products stay those of floats, and read fewer bytes.

Before: matmul(x, w).
After: matmul(x, dequantize(integers, scales)), a scale per group of a column's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from strop.ir.graph import Graph, Node
from strop.ir.op import Array
from strop.ops.mixed import LIMITS
from strop.ops.quantize import Dequantize
from strop.quantize.grid import LEAST, SYMMETRIC
from strop.quantize.precision import Decisions, layer_name, layers, weight_axis, weight_bits

#: What the largest 4-bit weight of a group is divided by, to find its scale: 7 keeps it, -8 turns the sign, more saturates it.
_DIVISORS = (-8.0, 7.0, -7.5, 7.5, -8.5, 8.0, -9.0, 8.5)


def grouped(columns: Array, bits: int, group: int) -> tuple[Array, Array]:
    """Integers and scales of weights.

    8 bits are symmetric, -127..127. For 4 bits the scale is the one of several that has the least squared error.

    Args:
        columns: f32[K, N].
        bits: 8 or 4.
        group: weights of a column that share a scale; 0: all.

    Returns:
        i8[K, N] and f32[ceil(K / group), N]; a weight stands for its integer times the scale of its group.
    """
    k, n = columns.shape
    group = min(group, k) or k
    groups = -(-k // group)
    padded = np.zeros((groups * group, n), np.float32)
    padded[:k] = columns
    blocks = padded.reshape(groups, group, n)
    at = np.abs(blocks).argmax(1)[:, None]
    most = np.take_along_axis(blocks, at, 1)  # of the largest magnitude, with its sign
    low, high = (-SYMMETRIC, SYMMETRIC) if bits == 8 else LIMITS[bits]
    chosen = least = None
    for divisor in (float(SYMMETRIC),) if bits == 8 else _DIVISORS:
        scale = (np.abs(most) if bits == 8 else most) / np.float32(divisor)
        scale = np.where(np.abs(scale) < LEAST, LEAST, scale).astype(np.float32)
        error = ((np.clip(np.rint(blocks / scale), low, high) * scale - blocks) ** 2).sum(1, keepdims=True)
        better = error < least if least is not None else np.ones(error.shape, bool)
        chosen = scale if chosen is None else np.where(better, scale, chosen)
        least = error if least is None else np.minimum(error, least)
    assert chosen is not None
    integers = np.clip(np.rint(blocks / chosen), low, high).astype(np.int8)
    return integers.reshape(-1, n)[:k], chosen.reshape(groups, n)


def store_weights(graph: Graph, decisions: Decisions) -> None:
    """Makes integers of the weights of the layers that are decided so, in place."""
    for node in layers(graph):
        found = weight_bits(decisions.of(node))
        if found is not None:
            _store(graph, node, *found)
    graph.prune()


def _store(graph: Graph, node: Node, bits: int, group: int) -> None:
    weight = node.operand(1)
    assert weight.const is not None
    columns = weight_axis(node)
    shape = weight.const.shape
    across = 1 - columns  # the axis that is summed over: convolutions have one tap
    matrix = weight.const.reshape(shape[:2])
    integers, scales = grouped(matrix.T if columns == 0 else matrix, bits, group)
    if columns == 0:
        integers, scales = integers.T, scales.T
    rest = (1,) * (len(shape) - 2)
    alone = scales.shape[across] == 1
    stored = graph.add_const(np.ascontiguousarray(integers).reshape(shape), f"{weight.name}.int{bits}")
    scale = graph.add_const(np.ascontiguousarray(scales).reshape(*scales.shape, *rest), f"{weight.name}.scale")
    op = Dequantize() if alone else Dequantize(across, min(group, shape[across]))
    read = graph.add(op, [stored, scale], name=f"{weight.name}.dequantized", source=node.source, before=node)
    graph.set_operand(node, 1, read.output)


@dataclass(frozen=True)
class StoredLayer:
    """One layer's weights: bytes as f32 and as stored, scales included, and their signal to noise ratio in dB."""

    name: str
    precision: str
    floats: int
    bytes: int
    sqnr: float


def stored_layers(graph: Graph, decisions: Decisions) -> Iterator[StoredLayer]:
    """What ``store_weights`` makes of each layer of a graph of floats."""
    for node in layers(graph):
        precision = decisions.of(node)
        found = weight_bits(precision)
        weight = node.operand(1).const
        if found is None or weight is None:
            continue
        matrix = weight.reshape(weight.shape[:2])
        columns = matrix.T if weight_axis(node) == 0 else matrix
        integers, scales = grouped(columns, *found)
        group = min(found[1], len(columns)) or len(columns)
        real = integers.astype(np.float32) * np.repeat(scales, group, 0)[: len(columns)]
        noise, signal = (float(np.sum(a.astype(np.float64) ** 2)) for a in (real - columns, columns))
        room = -(-group * found[0] // 8) * len(scales) * columns.shape[1] + 4 * scales.size
        yield StoredLayer(layer_name(node), precision, 4 * weight.size, room, 10 * float(np.log10(signal / noise)) if signal and noise else float("inf"))
