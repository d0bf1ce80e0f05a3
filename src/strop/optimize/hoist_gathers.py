"""Rows are picked from a constant table before it is computed on, not afterwards.

Before:
    y = gather(mul(cast(table i8[30522, 384]), scale [30522, 1]), i, axis 0)
    as a model whose embedding is stored in 8 bits reads it.
After:
    y = mul(cast(gather(table, i)), gather(scale, i))
    so that the table stays as small as it is stored, and only the rows that are read are computed.
Unless:
    the table depends on an input, rows depend on one another, another axis than the first is picked from, or more
    rows are picked than there are.
"""

from __future__ import annotations

from strop.ir import shape as sh
from strop.ir.graph import Graph, Value
from strop.ir.match import Match, New, Patch, any_value, op, rewrite, rule
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.index import Gather
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "hoist_gathers"


def _is_row_wise(value: Value) -> bool:
    """Whether a value is a constant, or made of constants by elementwise ops only."""
    if value.const is not None:
        return True
    node = value.producer
    if node is None or not isinstance(node.op, (Elementwise, Cast)):
        return False
    return all(_is_row_wise(v) for v in node.operands)


def _varies(value: Value, rank: int) -> bool:
    """Whether a value that meets one of ``rank`` axes by broadcasting differs from row to row."""
    return len(value.shape) == rank and value.shape[0] != 1


def _picked(patch: Patch, value: Value, rank: int, index: Value) -> Value | New:
    """The rows of a value that meets one of ``rank`` axes."""
    if not _varies(value, rank):
        if value.const is None or len(value.shape) < rank:
            return value
        return patch.const(value.const.reshape(value.type.static_shape[1:]), value.name)
    node = value.producer
    if node is None:
        return patch.add(Gather(0), value, index, name=value.name)
    operands = [None if v is None else _picked(patch, v, rank, index) for v in node.inputs]
    return patch.add(node.op, *operands, name=node.name, source=node.source)


@rule(op("gather", any_value("table"), any_value("index")))
def gather_of_table(m: Match) -> Patch | None:
    """The gather moves above the work on the table."""
    table, index, node = m["table"], m["index"], m.root
    assert isinstance(node.op, Gather)
    rank = len(table.shape)
    if table.const is not None or node.op.axis % rank or not _is_row_wise(table) or not sh.is_static(table.shape):
        return None
    rows = sh.bounds(sh.volume(index.shape))[1]
    if rows > table.type.static_shape[0] or not _all_whole(table, rank):
        return None
    patch = Patch(m.graph)
    return patch.replace_if_same(node.output, _picked(patch, table, rank, index))


def _all_whole(value: Value, rank: int) -> bool:
    """Whether every value on the way that is the same for all rows can be read as it is: it has fewer axes, or is a constant."""
    if value.const is not None or len(value.shape) < rank:
        return True
    node = value.producer
    return _varies(value, rank) and node is not None and all(_all_whole(v, rank) for v in node.operands)


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (gather_of_table,), trace, NAME)
