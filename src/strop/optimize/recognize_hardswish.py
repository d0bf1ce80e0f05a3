"""Finds hard_sigmoid and hard_swish where an exporter spells them out.

Before -> After:
    clip(x + 3, 0, 6) / 6                          -> hard_sigmoid(x, alpha=1/6, beta=0.5)
    x * clip(x + 3, 0, 6) / 6, any association     -> hard_swish(x)
    x * hard_sigmoid(x, alpha=1/6, beta=0.5)       -> hard_swish(x)
    Source: Howard et al., Searching for MobileNetV3, 2019, section 5.2.
Unless:
    a constant differs by more than 1e-4 of its value.
"""

from __future__ import annotations

import math

from strop.ir.graph import Graph, Node
from strop.ir.match import Match, Patch, any_value, either, op, rewrite, rule, scalar
from strop.ops.elementwise import Elementwise, make
from strop.optimize.base import Options, is_float
from strop.trace import Trace

NAME = "recognize_hardswish"

X = any_value("x", is_float)


def _clips_to_six(node: Node) -> bool:
    assert isinstance(node.op, Elementwise)
    return node.op.param == {"lo": 0.0, "hi": 6.0}


def _is_sixth(node: Node) -> bool:
    assert isinstance(node.op, Elementwise)
    param = node.op.param
    return math.isclose(param["alpha"], 1 / 6, rel_tol=1e-4) and param["beta"] == 0.5


RAMP = op("clip", op("add", X, scalar(3.0)), where=_clips_to_six)
SIXTH, SIX = scalar(1 / 6, 1e-4), scalar(6.0)
HARD_SIGMOID = op("hard_sigmoid", X, where=_is_sixth)


@rule(
    op("mul", X, HARD_SIGMOID),
    op("mul", op("mul", X, RAMP), SIXTH),
    op("mul", op("mul", X, SIXTH), RAMP),
    op("mul", op("div", X, SIX), RAMP),
    op("div", op("mul", X, RAMP), SIX),
    op("mul", X, either(op("mul", RAMP, SIXTH), op("div", RAMP, SIX))),
)
def hard_swish(m: Match) -> Patch | None:
    """x times the piecewise linear gate."""
    return m.becomes(make("hard_swish"), m["x"])


@rule(op("mul", RAMP, SIXTH), op("div", RAMP, SIX))
def hard_sigmoid(m: Match) -> Patch | None:
    """The piecewise linear gate by itself."""
    return m.becomes(make("hard_sigmoid", alpha=1 / 6, beta=0.5), m["x"])


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (hard_swish, hard_sigmoid), trace, NAME)
