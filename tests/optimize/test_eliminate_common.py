"""Equal computations and equal constants are kept once."""

from __future__ import annotations

import numpy as np

from strop.optimize import eliminate_common
from tests.optimize.harness import Case, labels


def test_equal_nodes_become_one() -> None:
    b = Case(2, 3)
    y = b.fn("add", b.fn("relu", b.x), b.fn("relu", b.x))
    graph = b.after(eliminate_common, y, exact=True)
    assert labels(graph) == ["relu", "add"]
    assert graph.nodes[0].source == ("node_1", "node_2")


def test_chains_and_commuted_operands() -> None:
    b = Case(2, 3)
    a, c = b.fn("sin", b.x), b.fn("cos", b.x)
    y = b.fn("sub", b.fn("tanh", b.fn("mul", a, c)), b.fn("tanh", b.fn("mul", c, a)))
    assert labels(b.after(eliminate_common, y)) == ["sin", "cos", "mul", "tanh", "sub"]


def test_equal_constants() -> None:
    b = Case(2, 3)
    y = b.fn("add", b.fn("mul", b.x, 2.0), b.fn("mul", b.x, 2.0))
    graph = b.after(eliminate_common, y)
    assert labels(graph) == ["mul", "add"] and len(list(graph.constants())) == 1


def test_large_constants_by_memory() -> None:
    b = Case(2000)
    array = np.ones(2000, np.float32)
    y = b.fn("mul", b.fn("mul", b.x, b.const(array)), b.const(array))
    graph = b.after(eliminate_common, y)
    assert len(list(graph.constants())) == 1


def test_unless_they_differ() -> None:
    b = Case(2, 3)
    low, zero = b.fn("clip", b.x, lo=-0.0), b.fn("clip", b.x, lo=0.0)
    y = b.fn("add", b.fn("sub", low, zero), b.fn("sub", zero, low))
    assert labels(b.after(eliminate_common, y)) == labels(b.graph)
    other = Case(2, 3)
    signs = other.fn("add", other.fn("mul", other.x, 0.0), other.fn("mul", other.x, -0.0))
    assert labels(other.after(eliminate_common, signs)) == ["mul", "mul", "add"]


def test_unless_both_are_outputs() -> None:
    b = Case(2, 3)
    graph = b.after(eliminate_common, b.fn("relu", b.x), b.fn("relu", b.x))
    assert labels(graph) == ["relu", "relu"]
    again = Case(2, 3)
    first = again.fn("relu", again.x)
    graph = again.after(eliminate_common, first, again.fn("neg", again.fn("relu", again.x)))
    assert labels(graph) == ["relu", "neg"]
