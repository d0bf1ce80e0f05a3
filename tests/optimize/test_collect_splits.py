"""Slices that tile a value become a split."""

from __future__ import annotations

from strop.ir.graph import Value
from strop.ops.data import Slice, Split
from strop.optimize import collect_splits
from tests.optimize.harness import Case, labels, only


def cut(b: Case, start: int, stop: int, axis: int = 1, step: int = 1) -> Value:
    return b.add(Slice((start,), (stop,), (axis,), (step,)), b.x)


def test_slices_become_a_split() -> None:
    b = Case(2, 6, 3)
    graph = b.after(collect_splits, cut(b, 4, 6), cut(b, 0, 1), cut(b, 1, 4), exact=True)
    assert labels(graph) == ["split"]
    assert only(graph, "split").op == Split(1, (1, 3, 2))
    assert only(graph, "split").source == ("node_1", "node_2", "node_3")


def test_axes_are_independent() -> None:
    b = Case(2, 6)
    graph = b.after(collect_splits, cut(b, 0, 1, 0), cut(b, 1, 2, 0), cut(b, 0, 3), cut(b, 3, 6))
    assert labels(graph) == ["split", "split"]


def test_parts_of_parts() -> None:
    b = Case(2, 6)
    half = cut(b, 0, 3)
    inner = [b.add(Slice((s,), (e,), (1,), (1,)), half) for s, e in ((0, 1), (1, 3))]
    assert labels(b.after(collect_splits, *inner, cut(b, 3, 6))) == ["split", "split"]


def test_unless_they_do_not_tile() -> None:
    b = Case(2, 6)
    for outputs in (
        [cut(b, 0, 2), cut(b, 3, 6)],
        [cut(b, 0, 4), cut(b, 3, 6)],
        [cut(b, 0, 2), cut(b, 2, 5)],
        [cut(b, 0, 3, step=2), cut(b, 3, 6)],
        [cut(b, 0, 6)],
    ):
        assert "split" not in labels(b.after(collect_splits, *outputs))
