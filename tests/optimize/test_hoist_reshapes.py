"""Reshapes meet the next reshape above row-wise work."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from strop.ir.graph import Value
from strop.ops.data import Reshape
from strop.ops.matmul import MatMul
from strop.ops.norm import LayerNorm
from strop.ops.reduce import Reduce
from strop.ops.softmax import Softmax
from strop.optimize import hoist_reshapes
from tests.optimize.harness import Case, labels

ROWS: dict[str, Callable[[Case, Value], Value]] = {
    "product": lambda b, x: b.add(MatMul(), x, b.normal(4, 5)),
    "function": lambda b, x: b.fn("tanh", x),
    "shift": lambda b, x: b.fn("add", x, b.normal(1, 4)),
    "number on the left": lambda b, x: b.fn("sub", 1.0, x),
    "softmax": lambda b, x: b.add(Softmax(-1), x),
    "norm": lambda b, x: b.add(LayerNorm(1, 1e-3), x, b.normal(4), b.normal(4)),
    "several": lambda b, x: b.fn(
        "relu", b.fn("add", b.add(MatMul(), x, b.normal(4, 4)), b.normal(4))
    ),
}
OTHER: dict[str, Callable[[Case, Value], Value]] = {
    "shift per row": lambda b, x: b.fn("add", x, b.normal(6, 1)),
    "softmax over rows": lambda b, x: b.add(Softmax(0), x),
    "reduction": lambda b, x: b.add(Reduce("max", (0,), True), x),
    "two values": lambda b, x: b.fn("add", x, x),
}


@pytest.mark.parametrize("case", ROWS)
def test_past_row_wise_work(case: str) -> None:
    b = Case(2, 3, 2, 2)
    y = ROWS[case](b, b.add(Reshape((6, 4)), b.x))
    width = y.type.static_shape[-1]
    graph = b.after(hoist_reshapes, b.add(Reshape((2, 3, width)), y))
    assert labels(graph)[:2] == ["reshape", "reshape"]
    assert labels(graph).count("reshape") == 2
    assert graph.nodes[-1].op.label != "reshape"
    assert graph.nodes[-1].source[-1] == f"node_{b.count}"


@pytest.mark.parametrize("case", OTHER)
def test_unless_rows_depend_on_each_other(case: str) -> None:
    b = Case(2, 3, 2, 2)
    y = OTHER[case](b, b.add(Reshape((6, 4)), b.x))
    graph = b.after(hoist_reshapes, b.add(Reshape((1, *y.type.static_shape)), y))
    assert graph.nodes[-1].op.label == "reshape"


ELEMENTS: dict[str, Callable[[Case, Value], Value]] = {
    "function": lambda b, x: b.fn("tanh", x),
    "several": lambda b, x: b.fn("relu", b.fn("sub", 1.0, b.fn("tanh", x))),
    "a number with axes": lambda b, x: b.fn("mul", x, b.normal(1, 1)),
}


@pytest.mark.parametrize("case", ELEMENTS)
def test_past_work_on_single_elements_whatever_the_axes_are(case: str) -> None:
    b = Case(2, 3, 2, 2)
    y = ELEMENTS[case](b, b.add(Reshape((6, 4)), b.x))
    graph = b.after(hoist_reshapes, b.add(Reshape((2, 2, 6)), y))
    assert labels(graph)[:2] == ["reshape", "reshape"] and labels(graph).count("reshape") == 2
    assert graph.nodes[-1].source[-1] == f"node_{b.count}"


def test_unless_the_last_axis_changes() -> None:
    b = Case(2, 3, 2, 2)
    y = b.fn("add", b.add(Reshape((6, 4)), b.x), b.normal(4))
    assert labels(b.after(hoist_reshapes, b.add(Reshape((2, 12)), y)))[-1] == "reshape"


def test_unless_there_is_no_reshape_above() -> None:
    b = Case(6, 4)
    assert labels(b.after(hoist_reshapes, b.add(Reshape((2, 3, 4)), b.fn("tanh", b.x)))) == [
        "tanh",
        "reshape",
    ]


def test_unless_a_value_is_read_elsewhere() -> None:
    b = Case(2, 3, 2, 2)
    y = b.fn("tanh", b.add(Reshape((6, 4)), b.x))
    assert labels(b.after(hoist_reshapes, b.add(Reshape((2, 3, 4)), y), y))[-1] == "reshape"
