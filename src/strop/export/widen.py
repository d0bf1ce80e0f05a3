"""16-bit floats as f32, where a format computes in nothing smaller.

Before: y = relu(conv(x, w)), all f16.
After: y = cast(relu(conv(cast(x), w in f32)), f16).
Inputs and outputs keep their types. Results are those of the 16-bit graph without its roundings.
"""

from __future__ import annotations

import numpy as np

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Value
from strop.ir.op import Op
from strop.ops.elementwise import BitCast, Cast

NARROW = (dt.f16, dt.bf16)


def is_narrow(graph: Graph) -> bool:
    """Whether an op of the graph computes in 16-bit floats: not one that only turns them into others. Not where their bits are looked at,
    either, which would be others in f32."""
    narrow = [node for node in graph.nodes if any(v.dtype in NARROW for v in (*node.operands, *node.outputs))]
    return any(not isinstance(n.op, Cast) for n in narrow) and not any(isinstance(n.op, BitCast) for n in narrow)


def widen(graph: Graph) -> Graph:
    """The graph with f32 in place of 16-bit floats."""
    result = Graph(graph.name)
    mapped: dict[Value, Value] = {}
    for value in graph.inputs:
        given = result.add_input(value.name, value.type)
        mapped[value] = result.add(Cast(dt.f32), [given], name=f"{value.name}.wide").output if value.dtype in NARROW else given
    for value in graph.constants():
        assert value.const is not None
        mapped[value] = result.add_const(value.const.astype(np.float32) if value.dtype in NARROW else value.const, value.name)
    for node in graph.nodes:
        operands = [None if v is None else mapped[v] for v in node.inputs]
        made = result.add(_wide(node.op), operands, name=node.name, source=node.source, outputs=[v.name for v in node.outputs])
        mapped.update(zip(node.outputs, made.outputs, strict=True))
    outputs = []
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        found = mapped[value]
        if value.dtype in NARROW:
            found = result.add(Cast(value.dtype), [found], name=f"{name}.narrow", source=value.producer.source if value.producer else ()).output
        outputs.append(found)
    result.set_outputs(outputs, graph.output_names)
    return result


def _wide(op: Op) -> Op:
    """The op with f32 where an attribute says 16-bit floats."""
    changed = {name: dt.f32 for name, value in op.attributes().items() if isinstance(value, DType) and value in NARROW}
    return op.replace(**changed) if changed else op
