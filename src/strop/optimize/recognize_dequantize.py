"""Finds weights that are stored as 8-bit integers where an exporter spells their scaling out, and picks rows before it scales them.

Before -> After:
    cast(w) * scale                              -> dequantize(w, scale)                           w and scale known
    gather(dequantize(w, scale), indices)        -> dequantize(gather(w, indices), gather(scale, indices))
Unless:
    the scale would enlarge the weights, or varies along the picked axis and another one.
"""

from __future__ import annotations

from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value
from strop.ir.match import Match, Patch, any_value, op, rewrite, rule
from strop.ops.elementwise import Cast
from strop.ops.index import Gather
from strop.ops.quantize import Dequantize
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "recognize_dequantize"


def _known(value: Value) -> bool:
    return value.const is not None


def _stored(value: Value) -> bool:
    return value.const is not None and value.dtype in (dt.u8, dt.i8)


WEIGHTS = any_value("w", _stored)
SCALE = any_value("s", _known)


@rule(op("mul", op(Cast, WEIGHTS), SCALE))
def spelled(m: Match) -> Patch | None:
    """cast(w) * scale"""
    w, scale = m["w"], m["s"]
    if m.root.output.shape != w.shape or scale.type.rank > w.type.rank:
        return None
    patch = Patch(m.graph)
    return patch.replace_if_same(m.root.output, patch.add(Dequantize(), w, scale))


@rule(op(Gather, op(Dequantize, WEIGHTS, SCALE, ...), any_value("i"), name="rows"))
def picked(m: Match) -> Patch | None:
    """Rows of a table are scaled after they are picked."""
    w, maker = m["w"], m["rows"].producer
    assert maker is not None and isinstance(maker.op, Gather)
    source = maker.operand(0).producer
    assert source is not None and isinstance(source.op, Dequantize)
    axis = maker.op.axis % w.type.rank
    if source.op.block:
        return None
    patch = Patch(m.graph)
    params: list[object] = []
    for param in source.operands[1:]:
        if param.type.rank == 0:
            params.append(param)
        elif param.type.rank == w.type.rank and all(d == 1 for k, d in enumerate(param.shape) if k != axis):
            params.append(patch.add(maker.op, param, m["i"]) if param.shape[axis] != 1 else None)
        else:
            return None
    if any(p is None for p in params):
        return None
    rows = patch.add(maker.op, w, m["i"])
    return patch.replace_if_same(m.root.output, patch.add(source.op, rows, *params))  # type: ignore[arg-type]


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (spelled, picked), trace, NAME)
