"""Rows are picked from a constant table before it is computed on."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ops.elementwise import Cast
from strop.ops.index import Gather
from strop.optimize import hoist_gathers
from tests.optimize.harness import Case, labels, only


def _table(b: Case, scale: tuple[int, ...]) -> Value:
    stored = b.const(b.rng.integers(-128, 128, (9, 4)).astype(np.int8))
    return b.fn("mul", b.add(Cast(dt.f32), stored), b.normal(*scale))


def _index(b: Case, *shape: int) -> Value:
    return b.input(b.rng.integers(0, 9, shape).astype(np.int64))


@pytest.mark.parametrize("scale", [(9, 1), (1, 4), (4,), (9, 4), (1, 1)], ids=str)
@pytest.mark.parametrize("index", [(2, 3), (5,), ()], ids=str)
def test_rows_before_work(scale: tuple[int, ...], index: tuple[int, ...]) -> None:
    b = Case(1)
    graph = b.after(hoist_gathers, b.add(Gather(0), _table(b, scale), _index(b, *index)), exact=True)
    assert labels(graph)[-1] == "mul"
    assert only(graph, "cast").operand(0).producer is not None
    assert labels(graph).count("gather") == (2 if scale[0] == 9 else 1)


def test_a_negative_axis_is_the_first_of_a_vector() -> None:
    b = Case(1)
    table = b.fn("neg", b.normal(9))
    assert labels(b.after(hoist_gathers, b.add(Gather(-1), table, _index(b, 3)))) == ["gather", "neg"]


def test_unless_another_axis_is_picked_from() -> None:
    b = Case(1)
    index = b.input(np.array([0, 3], np.int64))
    assert labels(b.after(hoist_gathers, b.add(Gather(1), _table(b, (9, 1)), index)))[-1] == "gather"


def test_unless_the_table_depends_on_an_input() -> None:
    b = Case(9, 4)
    assert labels(b.after(hoist_gathers, b.add(Gather(0), b.fn("neg", b.x), _index(b, 3)))) == ["neg", "gather"]


def test_unless_more_rows_are_picked_than_there_are() -> None:
    b = Case(1)
    assert labels(b.after(hoist_gathers, b.add(Gather(0), _table(b, (9, 1)), _index(b, 10))))[-1] == "gather"


def test_unless_work_that_is_the_same_for_all_rows_has_their_axis() -> None:
    b = Case(1)
    table = b.fn("mul", b.normal(9, 4), b.fn("exp", b.normal(1, 4)))
    assert labels(b.after(hoist_gathers, b.add(Gather(0), table, _index(b, 3))))[-1] == "gather"
