"""Computes equal things once (common subexpressions), and keeps equal constants once.

Before:
    a = relu(x); b = relu(x); y = add(a, b)
After:
    a = relu(x); y = add(a, a)
    The kept node stands for the sources of both.
Unless:
    both results are graph outputs: each output keeps a result of its own; or the op is not pure.
"""

from __future__ import annotations

from strop.ir.graph import Graph, Node, Value
from strop.ir.match import Patch, apply
from strop.ir.text import show_attributes
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "eliminate_common"

SMALL = 4096  # bytes up to which constants are compared by content; larger ones by their memory


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    if not trace.may_patch():
        return
    _share_constants(graph)
    seen: dict[tuple[object, ...], Node] = {}
    for node in list(graph.nodes):
        if not node.op.pure:
            continue
        operands = [None if v is None else id(v) for v in node.inputs]
        if node.op.commutative and len(operands) >= 2:
            operands[:2] = sorted(operands[:2], key=lambda key: key or 0)
        # attributes as text: there 0.0 and -0.0 differ
        key = (node.op.label, show_attributes(node.op), *operands)
        kept = seen.setdefault(key, node)
        if kept is node or _both_outputs(graph, kept, node):
            continue
        if not trace.may_patch():
            return
        patch = Patch(graph)
        for old, new in zip(node.outputs, kept.outputs, strict=True):
            patch.replace(old, new)
        kept.source = tuple(dict.fromkeys((*kept.source, *node.source)))
        apply(graph, patch, trace, NAME, "common")


def _share_constants(graph: Graph) -> None:
    """Makes readers of a constant read the first one with the same content."""
    first: dict[tuple[object, ...], Value] = {}
    for value in list(graph.constants()):
        array = value.const
        assert array is not None
        content: object
        if array.nbytes <= SMALL:
            content = array.tobytes()
        else:
            content = (array.__array_interface__["data"], array.strides)
        kept = first.setdefault((str(value.type), content), value)
        if kept is not value and not graph.is_output(value):
            graph.replace_uses(value, kept)
            del graph.values[value.name]


def _both_outputs(graph: Graph, kept: Node, node: Node) -> bool:
    return any(graph.is_output(v) for v in kept.outputs) and any(
        graph.is_output(v) for v in node.outputs
    )
