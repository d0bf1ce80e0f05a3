"""Splits stand where a kernel's result is cut, not behind views of it."""

from __future__ import annotations

from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ir.shape import Sym
from strop.ops.data import Reshape, Split, Transpose
from strop.ops.elementwise import make
from strop.optimize import hoist_splits
from strop.optimize.base import Options
from strop.trace import Trace
from tests.optimize.harness import Case, labels, only


def test_past_reshapes_and_free_transpositions() -> None:
    b = Case(7, 1, 12)
    y = b.add(Reshape((1, 7, 1, 3, 4)), b.fn("tanh", b.x))
    y = b.add(Reshape((3, 7, 1, 4)), b.add(Transpose((3, 1, 2, 0, 4)), y))
    graph = b.after(hoist_splits, *b.add_several(Split(0, (1, 1, 1)), y), exact=True)
    assert labels(graph) == ["tanh", "split", "reshape", "reshape", "reshape"]
    assert only(graph, "split").op == Split(2, (4, 4, 4))


def test_uneven_parts_and_inner_axes() -> None:
    b = Case(2, 20, 3)
    y = b.add(Reshape((2, 5, 4, 3)), b.fn("tanh", b.x))
    graph = b.after(hoist_splits, *b.add_several(Split(1, (2, 3)), y), exact=True)
    assert only(graph, "split").op == Split(1, (8, 12))


def test_a_part_that_needs_no_reshape() -> None:
    b = Case(6, 2)
    y = b.add(Reshape((6, 1, 2)), b.fn("tanh", b.x))
    graph = b.after(hoist_splits, *b.add_several(Split(0, (2, 4)), y))
    assert labels(graph) == ["tanh", "split", "reshape", "reshape"]


def test_symbolic_batch() -> None:
    graph = Graph()
    n = Sym("n", 1, 2, 8)
    x = graph.add_input("x", Type(dt.f32, (n, 6)))
    y = graph.add(Reshape((n, 3, 2)), graph.add(make("tanh"), [x]).outputs).output
    parts = graph.add(Split(1, (1, 1, 1)), [y]).outputs
    graph.set_outputs(parts)
    hoist_splits.run(graph, Trace(), Options())
    assert only(graph, "split").op == Split(1, (2, 2, 2))


def stays(b: Case, *outputs: object) -> bool:
    before = labels(b.graph)
    return labels(b.after(hoist_splits, *outputs)) == before  # type: ignore[arg-type]


def test_unless_parts_would_not_be_contiguous() -> None:
    b = Case(4, 6)
    y = b.add(Reshape((8, 3)), b.fn("tanh", b.x))
    assert stays(b, *b.add_several(Split(0, (1, 7)), y))


def test_unless_a_transposition_moves_larger_axes() -> None:
    b = Case(2, 3, 4)
    y = b.add(Transpose((1, 0, 2)), b.fn("tanh", b.x))
    assert stays(b, *b.add_several(Split(0, (1, 2)), y))
    c = Case(1, 2, 4, 3)  # a channel shuffle: above the reshape there is a real transposition
    y = c.add(Reshape((1, 8, 3)), c.add(Transpose((0, 2, 1, 3)), c.fn("tanh", c.x)))
    assert stays(c, *c.add_several(Split(1, (4, 4)), y))


def test_unless_the_view_is_read_elsewhere() -> None:
    b = Case(2, 6)
    y = b.add(Reshape((2, 3, 2)), b.fn("tanh", b.x))
    parts = b.add_several(Split(1, (1, 2)), y)
    assert stays(b, *parts, y)
    assert stays(b, *parts, b.fn("neg", y))


def test_unless_a_part_is_empty() -> None:
    b = Case(2, 6)
    y = b.add(Reshape((2, 3, 2)), b.fn("tanh", b.x))
    assert stays(b, *b.add_several(Split(1, (0, 3)), y))
