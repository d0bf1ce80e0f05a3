"""Removes layers whose results no output needs.

Before:
    y = relu(x); z = conv(x, w); output y
After:
    y = relu(x); output y
    The weights of removed layers go too.
Unless:
    the op is not pure. Graph inputs stay even when nothing reads them.
"""

from __future__ import annotations

from strop.ir.graph import Graph
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "eliminate_dead"


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    if not trace.may_patch():
        return
    count = graph.prune()
    if count:
        trace.patched(NAME, "prune", f"{count} nodes that no output needs")
