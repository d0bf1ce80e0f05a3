"""Layers and weights that no output needs go."""

from __future__ import annotations

from strop.ops.conv import Conv
from strop.optimize import eliminate_dead
from tests.optimize.harness import Case, labels


def test_orphan_convolutions_and_their_weights_go() -> None:
    b = Case(1, 2, 4, 4)
    y = b.fn("relu", b.x)
    for _ in range(5):
        y_dead = b.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), b.x, b.normal(3, 2, 1, 1))
        b.fn("relu", y_dead)
    graph = b.after(eliminate_dead, y)
    assert labels(graph) == ["relu"]
    assert not list(graph.constants())
    assert [name for name, _, _ in b.trace.patches] == ["eliminate_dead"]


def test_unless_an_output_needs_it() -> None:
    b = Case(2)
    y = b.fn("relu", b.x)
    z = b.fn("neg", y)
    assert labels(b.after(eliminate_dead, z, y)) == ["relu", "neg"]
    assert not b.trace.patches


def test_inputs_stay() -> None:
    b = Case(2)
    other = b.input(b.feed["x0"])
    graph = b.after(eliminate_dead, b.fn("neg", other))
    assert [v.name for v in graph.inputs] == ["x0", "x1"]
