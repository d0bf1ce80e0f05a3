"""Finds sigmoid, and the activations that multiply a value by a gate of itself.

Before -> After:
    1 / (1 + exp(-x))              -> sigmoid(x)
    x * sigmoid(x)                 -> silu(x)
    x * sigmoid(x * a)             -> swish(x, alpha=a)
    x * tanh(softplus(x))          -> mish(x)
    log(1 + exp(x))                -> softplus(x)
Unless:
    a is not one number, or the result type would differ.
"""

from __future__ import annotations

from strop.ir.graph import Graph
from strop.ir.match import Match, Patch, any_value, op, rewrite, rule, scalar, splat, uniform
from strop.ops.elementwise import make
from strop.optimize.base import Options, is_float
from strop.trace import Trace

NAME = "recognize_silu"

X = any_value("x", is_float)
ONE = scalar(1.0, 0.0)
ONE_PLUS_EXP = op("add", op("exp", op("neg", X)), ONE)


@rule(op("reciprocal", ONE_PLUS_EXP), op("div", ONE, ONE_PLUS_EXP))
def sigmoid(m: Match) -> Patch | None:
    """The logistic function spelled out."""
    return m.becomes(make("sigmoid"), m["x"])


@rule(op("mul", X, op("sigmoid", X)), op("div", X, ONE_PLUS_EXP))
def silu(m: Match) -> Patch | None:
    """x * sigmoid(x), also written as a quotient."""
    return m.becomes(make("silu"), m["x"])


@rule(op("mul", X, op("sigmoid", op("mul", X, splat("a")))))
def swish(m: Match) -> Patch | None:
    """silu with a slope, for example the sigmoid approximation of gelu (1.702)."""
    slope = uniform(m["a"])
    assert slope is not None
    return m.becomes(make("swish", alpha=slope), m["x"])


@rule(op("log", op("add", op("exp", X), ONE)), op("log1p", op("exp", X)))
def softplus(m: Match) -> Patch | None:
    """log(1 + exp(x)); the op does not overflow where the spelling does."""
    return m.becomes(make("softplus"), m["x"])


@rule(op("mul", X, op("tanh", op("softplus", X))))
def mish(m: Match) -> Patch | None:
    """x * tanh(softplus(x))"""
    return m.becomes(make("mish"), m["x"])


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rules = (silu, sigmoid, swish, mish)
    rewrite(graph, rules if options.strict_nans else (*rules, softplus), trace, NAME)
