"""Slices that cut a value into consecutive parts become one split.

Before:
    a = slice(x, 0:n, axis); b = slice(x, n:2n, axis); ...   together all of x
After:
    a, b, ... = split(x)
Unless:
    a slice has a step or several axes, the slices overlap or leave a gap, or a bound is symbolic.
"""

from __future__ import annotations

from collections import deque

from strop.ir.graph import Graph, Node, Value
from strop.ir.match import Patch, apply
from strop.ops.data import Slice, Split
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "collect_splits"


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    queue = deque(graph.values.values())
    while queue:
        value = queue.popleft()
        for axis in range(len(value.shape)):
            nodes = _partition(value, axis)
            if nodes is None:
                continue
            if not trace.may_patch():
                return
            patch = Patch(graph)
            sizes = tuple(n.output.shape[axis] for n in nodes)
            parts = patch.add_several(Split(axis, sizes), value, name=f"{nodes[0].name}.parts")
            for node, part in zip(nodes, parts, strict=True):
                patch.replace(node.output, part)
            queue.extend(v for n in apply(graph, patch, trace, NAME, "collect") for v in n.outputs)


def _partition(value: Value, axis: int) -> list[Node] | None:
    """The slices of a value along an axis that tile it, in order; None when there are none."""
    slices: dict[int, tuple[int, Node]] = {}
    for node in value.users:
        op = node.op
        if not isinstance(op, Slice) or op.axes != (axis,) or op.steps != (1,):
            continue
        start, stop = op.starts[0], op.stops[0]
        if isinstance(start, int) and isinstance(stop, int) and start < stop:
            slices.setdefault(start, (stop, node))
    found: list[Node] = []
    at = 0
    while at in slices:
        at, node = slices[at]
        found.append(node)
    return found if len(found) >= 2 and at == value.shape[axis] else None
