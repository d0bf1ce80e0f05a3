"""16-bit floats: a layer's operands and result in bf16 or f16, each element rounded where it is stored; sums are f32.

Before: relu(conv(x, w)), all f32.
After: cast(relu(conv(cast(x), w in bf16)), f32), with no casts left between neighbours of one precision.
Unless: the op's operands or results are no f32, or it takes no 16-bit floats.

In fp16x2 values are stored as in fp16, weights of layers keep their f32, and what is small is f32 altogether: relu(conv(cast(x, f32), w)), with the cast
a part of the kernel, which multiplies with each weight as the sum of two f16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from strop.errors import StropError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array, Type
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.recurrent import Recurrent
from strop.quantize.precision import Decisions, is_layer, layer_name

#: The dtype of each 16-bit precision.
NARROW: dict[str, DType] = {"bf16": dt.bf16, "fp16": dt.f16, "fp16x2": dt.f16}
#: That in which weights are not rounded.
EXACT = "fp16x2"
#: A value with this share of the elements of the largest one costs no time in f32.
_SMALL = 1 / 256
#: Greatest finite f16 (IEEE 754 binary16).
F16_MAX = 65504.0


@dataclass
class Narrowed:
    """The graph and what was lost on the way.

    Attributes:
        overflows: layer name to how many of its weights are beyond the range of f16; these saturate.
    """

    graph: Graph
    overflows: dict[str, int] = field(default_factory=dict)


def narrow(graph: Graph, decisions: Decisions) -> Narrowed:
    """The graph with the nodes that are decided to be bf16 or fp16 in that type; the given graph is not changed."""
    found = Narrowed(Graph(graph.name))
    made: dict[tuple[Value, DType], Value] = {}
    stored: dict[Value, Value] = {}  # as its maker gives it
    result = found.graph
    result.carried = dict(graph.carried)
    for value in graph.inputs:
        made[value, value.dtype] = stored[value] = result.add_input(value.name, value.type)
    for value in graph.values.values():
        if value.const is not None:
            made[value, value.dtype] = stored[value] = result.add_const(value.const, value.name)

    def fetch(value: Value, to: DType, reader: Node) -> Value:
        """The value in a dtype, converted at most once."""
        known = made.get((value, to))
        if known is not None:
            return known
        if value.const is not None:
            array, lost = rounded(value.const, to)
            if lost:
                name = layer_name(reader)
                found.overflows[name] = found.overflows.get(name, 0) + lost
            new = result.add_const(array, f"{value.name}.{to}")
        else:
            source = value.producer.source if value.producer is not None else reader.source
            new = result.add(Cast(to), [stored[value]], name=f"{value.name}.{to}", source=source).output
        made[value, to] = new
        return new

    exact = any(decisions.of(node) == EXACT for node in graph.nodes)
    small = _small(graph) if exact else set()
    for node in graph.nodes:
        asked = decisions.of(node)
        kind = NARROW.get(asked)
        to = kind if kind is not None and takes(node, asked) else None
        if to is not None and exact and (asked == EXACT or not is_layer(node)) and small.issuperset(node.outputs):
            to = None
        if to is not None and asked == EXACT and is_layer(node):
            x, *others = node.operands
            read = result.add(Cast(dt.f32), [fetch(x, to, node)], name=f"{node.name}.wide", source=node.source).output
            new = result.add(node.op, [read, *(fetch(v, v.dtype, node) for v in others)], name=node.name, source=node.source)
            ended = result.add(Cast(to), [new.output], name=node.output.name, source=node.source, outputs=[node.output.name])
            made[node.output, to] = stored[node.output] = ended.output
            continue
        operands = [None if v is None else fetch(v, to if to is not None and v.dtype is dt.f32 else v.dtype, node) for v in node.inputs]
        new = result.add(node.op, operands, name=node.name, source=node.source, outputs=[v.name for v in node.outputs])
        for old, value in zip(node.outputs, new.outputs, strict=True):
            made[old, value.dtype] = stored[old] = value
    last = graph.nodes[-1] if graph.nodes else None
    outputs = [fetch(v, v.dtype, v.producer or last) for v in graph.outputs]  # type: ignore[arg-type]
    result.set_outputs(outputs, graph.output_names)
    result.prune()
    return found


def _small(graph: Graph) -> set[Value]:
    """The values that cost no time in f32, those of fixed size."""
    counts = {v: math.prod(v.type.static_shape) for v in graph.values.values() if v.const is None and sh.is_static(v.shape)}
    most = max(counts.values(), default=0)
    return {value for value, count in counts.items() if count <= most * _SMALL}


def takes(node: Node, precision: str) -> bool:
    """True when the op computes with 16-bit floats of a precision where it has f32; False in other precisions."""
    kind = NARROW.get(precision)
    if kind is None or isinstance(node.op, (Quantize, Dequantize, Cast)) or not any(v.dtype is dt.f32 for v in node.operands):
        return False
    if not isinstance(node.op, Elementwise) and any(_reads_bytes(v) for v in node.operands):
        return False  # lowering makes a kernel on bytes of it
    if isinstance(node.op, Recurrent) and node.op.projected:
        return False  # split for a processor, whose kernels recur in f32
    if None in node.inputs and not isinstance(node.op, Recurrent):
        return False
    types = [Type(kind, (0,)) if v is None else v.type if v.dtype is not dt.f32 else Type(kind, v.shape) for v in node.inputs]
    try:
        results = node.op.infer(types)
    except StropError:
        return False
    return all(r.dtype is (kind if v.dtype is dt.f32 else v.dtype) for r, v in zip(results, node.outputs, strict=True))


def _reads_bytes(value: Value) -> bool:
    """True for what is read back from floats of 8 bits."""
    node = value.producer
    return node is not None and isinstance(node.op, Dequantize) and node.operand(0).dtype is dt.f8e4m3


def rounded(array: Array, to: DType) -> tuple[Array, int]:
    """An f32 array in a 16-bit type, and how many finite elements are beyond its range; these become its greatest number.

    Halves are rounded to even, infinities and NaNs kept.
    """
    finite = np.isfinite(array)
    limit = F16_MAX if to is dt.f16 else float(np.finfo(np.float32).max)
    lost = int(np.count_nonzero(finite & (np.abs(array) > limit)))
    kept = np.where(finite, np.clip(array, -limit, limit), array) if lost else array
    with np.errstate(all="ignore"):
        return kept.astype(to.numpy), lost
