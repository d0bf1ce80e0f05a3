"""Finds gelu where an exporter spells it out.

Before:
    x * 0.5 * (1 + erf(x / sqrt(2)))                              in any order of the factors
    0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))  likewise
After:
    gelu(x); gelu_tanh(x)
    Source: Hendrycks and Gimpel, Gaussian Error Linear Units, 2016, section 2.
Unless:
    a constant differs by more than 1e-3 of its value (exporters round sqrt(2)).
"""

from __future__ import annotations

import math

from strop.ir.graph import Graph
from strop.ir.match import Match, Patch, Pattern, any_value, either, op, rewrite, rule, scalar
from strop.ops.elementwise import make
from strop.optimize.base import Options, is_float
from strop.trace import Trace

NAME = "recognize_gelu"

X = any_value("x", is_float)
HALF = scalar(0.5)
ONE = scalar(1.0)


def _number(value: float) -> Pattern:
    return scalar(value, 1e-3)


def _gated(gate: Pattern) -> tuple[Pattern, ...]:
    """0.5 * x * (1 + gate) in every association."""
    plus_one = op("add", gate, ONE)
    return (
        op("mul", op("mul", X, plus_one), HALF),
        op("mul", op("mul", X, HALF), plus_one),
        op("mul", X, op("mul", plus_one, HALF)),
        op("mul", X, op("add", op("mul", gate, HALF), HALF)),
    )


SCALED = either(
    op("mul", X, _number(math.sqrt(0.5))),
    op("div", X, _number(math.sqrt(2.0))),
)


@rule(*_gated(op("erf", SCALED)))
def gelu(m: Match) -> Patch | None:
    """The exact form, by the error function."""
    return m.becomes(make("gelu"), m["x"])


CUBE = either(
    op("pow", X, scalar(3.0)),
    op("mul", op("square", X), X),
    op("mul", op("mul", X, X), X),
)
COEFFICIENT = _number(0.044715)
SLOPE = _number(math.sqrt(2.0 / math.pi))
SQUARE = either(op("square", X), op("mul", X, X), op("pow", X, scalar(2.0)))
INNER = either(
    op("mul", op("add", X, op("mul", CUBE, COEFFICIENT)), SLOPE),
    # x * (1 + c * x^2), as some exporters factor it
    op("mul", op("mul", X, op("add", op("mul", SQUARE, COEFFICIENT), ONE)), SLOPE),
    op("mul", op("mul", X, SLOPE), op("add", op("mul", SQUARE, COEFFICIENT), ONE)),
)


@rule(*_gated(op("tanh", INNER)))
def gelu_tanh(m: Match) -> Patch | None:
    """The approximation by tanh."""
    return m.becomes(make("gelu_tanh"), m["x"])


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (gelu, gelu_tanh), trace, NAME)
