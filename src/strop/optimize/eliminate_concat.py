"""Arranges concatenations so that producers can write into their part of the result.

Before -> After:
    concat(concat(a, b), c)                             -> concat(a, b, c)
    p = concat(a, b); q = concat(a, b, c)               -> q = concat(p, c)
    concat(x1, x2, ...) of all parts of a split of x    -> x;  of some neighbouring parts -> slice(x)
    concat of neighbouring slices of x                  -> slice(x)
    A kernel that produces an operand of a concat writes into a view of the concat's memory; a concat
    that begins another one is itself such a view. Nesting makes every value part of one chain.
Unless:
    axes differ; for the first line, the inner concat is read elsewhere or is a graph output.
"""

from __future__ import annotations

from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.match import Match, Patch, op, rewrite, rule
from strop.ir.match import apply as apply_patch
from strop.ir.shape import Dim
from strop.ops.data import Concat, Slice, Split
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "eliminate_concat"


def _axis(node: Node) -> int:
    assert isinstance(node.op, Concat)
    rank = len(node.output.shape)
    return node.op.axis % rank


@rule(op("concat", ...))
def concat_of_concat(m: Match) -> Patch | None:
    """An inner concat that only this one reads gives its operands."""
    axis, flat, found = _axis(m.root), [], False
    for value in m.root.operands:
        inner = value.producer
        joined = inner is not None and inner.op.label == "concat" and _axis(inner) == axis
        if inner is not None and joined and len(value.uses) == 1 and not m.graph.is_output(value):
            flat += inner.operands
            found = True
        else:
            flat.append(value)
    return m.becomes(Concat(axis), *flat) if found else None


#: A part of a value: the value, where the part begins and where it ends along the axis.
_Part = tuple[Value, Dim, Dim]


def _part(value: Value, axis: int) -> _Part | None:
    """What a value is a part of along an axis, when a split or a plain slice made it."""
    node = value.producer
    if node is None:
        return None
    whole, op_ = node.operand(0) if node.inputs else value, node.op
    if isinstance(op_, Split) and op_.axis % len(value.shape) == axis:
        begin: Dim = 0
        for part, size in zip(node.outputs, op_.sizes, strict=True):
            if part is value:
                return whole, begin, sh.add(begin, size)
            begin = sh.add(begin, size)
    if isinstance(op_, Slice) and op_.axes == (axis,) and op_.steps == (1,):
        return whole, op_.starts[0], op_.stops[0]
    return None


@rule(op("concat", ...))
def concat_of_parts(m: Match) -> Patch | None:
    """Neighbouring parts of one value are a slice of it, or all of it."""
    axis = _axis(m.root)
    operands = m.root.operands
    for start in range(len(operands) - 1):
        first = _part(operands[start], axis)
        if first is None:
            continue
        source, begin, end = first
        stop = start + 1
        while stop < len(operands):
            following = _part(operands[stop], axis)
            if following is None or following[0] is not source or following[1] != end:
                break
            end, stop = following[2], stop + 1
        if stop - start < 2:
            continue
        patch = Patch(m.graph)
        joined = source if (begin, end) == (0, source.shape[axis]) else None
        piece = joined or patch.add(Slice((begin,), (end,), (axis,), (1,)), source)
        if stop - start == len(operands):
            return patch.replace_if_same(m.root.output, piece)
        rest = [*operands[:start], piece, *operands[stop:]]
        return patch.replace_if_same(m.root.output, patch.add(Concat(axis), *rest))
    return None


def _nest_prefixes(graph: Graph, trace: Trace) -> None:
    """Concats that begin alike share the beginning, the longest first."""
    known: dict[tuple[int, ...], Value] = {}
    graph.toposort()
    nodes = [n for n in graph.nodes if n.op.label == "concat" and len(n.inputs) >= 2]
    for node in sorted(nodes, key=lambda n: len(n.inputs)):
        axis = _axis(node)
        keys = [id(v) for v in node.operands]
        for length in range(len(keys) - 1, 1, -1):
            prefix = known.get((axis, *keys[:length]))
            if prefix is None:
                continue
            if not trace.may_patch():
                return
            patch = Patch(graph)
            joined = patch.add(Concat(axis), prefix, *node.operands[length:])
            patch.replace(node.output, joined)
            (node,) = apply_patch(graph, patch, trace, NAME, "shared_prefix")
            graph.toposort()
            break
        known[(axis, *keys)] = node.output


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (concat_of_concat, concat_of_parts), trace, NAME)
    _nest_prefixes(graph, trace)
