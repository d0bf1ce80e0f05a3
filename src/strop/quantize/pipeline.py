"""The quantize stage: a portable graph of floats to one in which integers, or floats of 8 bits, flow between Quantize and Dequantize.

Before: conv(x, w, b) -> relu.
After: relu(conv(dequantize(quantize(x)), dequantize(i8 w), b)), quantized again if an int8 layer reads it.
Biases stay floats: they meet the sum of products where it is scaled.
"""

from __future__ import annotations

import numpy as np

from strop.errors import OptionError
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Node, Value
from strop.ops.data import Reshape, Transpose
from strop.ops.elementwise import Elementwise
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.quantize import Dequantize, Quantize
from strop.quantize.grid import Grid, affine, quantized_weights, symmetric, weight_scales
from strop.quantize.place import place
from strop.quantize.precision import (
    INTEGERS,
    SMALL_WEIGHTS,
    Decisions,
    layer_name,
    layers,
    weight_axis,
)
from strop.quantize.table import Table

#: Elementwise functions whose results are 0 or more.
_NEVER_NEGATIVE = ("relu", "sigmoid", "hard_sigmoid", "abs", "square", "exp", "softplus")


def observed(graph: Graph, decisions: Decisions) -> list[Value]:
    """The values whose ranges an int8 form of the graph needs, in order."""
    return list(place(graph, decisions).readers)


def quantize(graph: Graph, decisions: Decisions, table: Table) -> Graph:
    """The graph with its layers of int8 or int16x8 on integers, or its layers of fp8 on f8e4m3.

    Args:
        graph: portable; it is not changed.
        decisions: the precision of every node.
        table: ranges by value name. Of values that share a grid it is enough to have one.

    Raises:
        OptionError: no range is known for a value that has to be quantized.
    """
    result = graph.clone()
    found = place(result, decisions)
    kind = next((INTEGERS[decisions.of(node)] for node in found.layers), dt.u8)
    for group in found.groups:
        grid = grid_of(group, table, kind)
        for value in group:
            _insert(result, value, found.readers[value], grid)
    for node in found.layers:
        _quantize_weights(result, node, dt.f8e4m3 if kind.is_float else dt.i8, SMALL_WEIGHTS.get(decisions.of(node)))
    result.toposort()
    result.prune()
    return result


def grid_of(group: list[Value], table: Table, dtype: DType = dt.u8) -> Grid:
    """The grid that values share, over the ranges of those that have one; OptionError when none has."""
    known = [table[v.name] for v in group if v.name in table]
    if not known:
        raise OptionError(
            "the range table has no range for a value that is quantized",
            where=group[0].name,
            expected=" or ".join(v.name for v in group[:4]),
            hint="calibrate again with strop calibrate, or keep the layers that read it in fp32 with layer_precision",
        )
    low = 0.0 if all(map(is_never_negative, group)) else min(e.low for e in known)
    high = max(e.high for e in known)
    return affine(low, high) if dtype is dt.u8 else symmetric(max(-low, high), dtype)


def is_never_negative(value: Value) -> bool:
    """True when a value's maker says so: half of the range of a symmetric table would be wasted on it."""
    node = value.producer
    while node is not None and isinstance(node.op, (MaxPool, AveragePool, Reshape, Transpose)):
        node = node.operand(0).producer
    if node is None or not isinstance(node.op, Elementwise):
        return False
    return node.op.fn in _NEVER_NEGATIVE or (node.op.fn == "clip" and node.op.param["lo"] >= 0.0)


def _insert(graph: Graph, value: Value, readers: list[tuple[Node, int]], grid: Grid) -> None:
    """Quantizes a value behind its producer and lets readers read it back."""
    if not readers:
        return
    source = value.producer.source if value.producer is not None else readers[0][0].source
    params = [graph.add_const(np.asarray(grid.scale, np.float32), f"{value.name}.scale")]
    if grid.zero:
        params.append(graph.add_const(np.asarray(grid.zero, grid.dtype.numpy), f"{value.name}.zero"))
    stored = graph.add(Quantize(grid.dtype), [value, *params], name=f"{value.name}.quantized", source=source)
    for reader in dict.fromkeys(node for node, _ in readers):  # each has a Dequantize of its own, which becomes part of its kernel
        read = graph.add(Dequantize(), [stored.output, *params], name=f"{value.name}.dequantized", source=source)
        for node, index in readers:
            if node is reader:
                graph.set_operand(node, index, read.output)


def _quantize_weights(graph: Graph, node: Node, dtype: DType, most: int | None = None) -> None:
    """Makes a layer's weights 8-bit integers, up to ``most`` where it is given, or floats with a scale per output channel."""
    weight, axis = node.operand(1), weight_axis(node)
    assert weight.const is not None
    scales = weight_scales(weight.const, axis, dtype, most)
    name = "fp8" if dtype.is_float else "int8"
    integers = graph.add_const(quantized_weights(weight.const, scales, axis, dtype), f"{weight.name}.{name}")
    shape = (-1, *(1,) * (weight.const.ndim - 1 - axis))
    scale = graph.add_const(scales.reshape(shape), f"{weight.name}.scale")
    read = graph.add(Dequantize(), [integers, scale], name=f"{weight.name}.dequantized", source=node.source)
    graph.set_operand(node, 1, read.output)


def describe(graph: Graph, decisions: Decisions) -> dict[str, list[str]]:
    """Names of layers by the precision that they compute in."""
    found: dict[str, list[str]] = {}
    for node in layers(graph):
        found.setdefault(decisions.of(node), []).append(layer_name(node))
    return found


