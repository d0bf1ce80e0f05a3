"""gelu in the orders in which exporters write it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from strop.ir.graph import Value
from strop.optimize import canonicalize, recognize_gelu
from tests.optimize.harness import Case, labels


def gate(b: Case, x: Value) -> Value:
    return b.fn("add", b.fn("erf", b.fn("div", x, math.sqrt(2))), 1.0)


def tanh_gate(b: Case, x: Value, cube: Callable[[Case, Value], Value]) -> Value:
    inner = b.fn("add", x, b.fn("mul", 0.044715, cube(b, x)))
    return b.fn("add", 1.0, b.fn("tanh", b.fn("mul", math.sqrt(2 / math.pi), inner)))


def power(b: Case, x: Value) -> Value:
    return b.fn("pow", x, 3.0)


def product(b: Case, x: Value) -> Value:
    return b.fn("mul", b.fn("mul", x, x), x)


ERF: dict[str, Callable[[Case, Value], Value]] = {
    "half last": lambda b, x: b.fn("mul", b.fn("mul", x, gate(b, x)), 0.5),
    "half first": lambda b, x: b.fn("mul", b.fn("mul", 0.5, x), gate(b, x)),
    "half inside": lambda b, x: b.fn("mul", x, b.fn("mul", 0.5, gate(b, x))),
    "half spread": lambda b, x: b.fn(
        "mul", x, b.fn("add", b.fn("mul", b.fn("erf", b.fn("mul", x, math.sqrt(0.5))), 0.5), 0.5)
    ),
}
TANH: dict[str, Callable[[Case, Value], Value]] = {
    "power": lambda b, x: b.fn("mul", b.fn("mul", 0.5, x), tanh_gate(b, x, power)),
    "product": lambda b, x: b.fn("mul", 0.5, b.fn("mul", x, tanh_gate(b, x, product))),
    "factored": lambda b, x: b.fn(
        "mul",
        b.fn("mul", x, 0.5),
        b.fn(
            "add",
            b.fn(
                "tanh",
                b.fn(
                    "mul",
                    b.fn("mul", x, math.sqrt(2 / math.pi)),
                    b.fn("add", b.fn("mul", b.fn("mul", x, x), 0.044715), 1.0),
                ),
            ),
            1.0,
        ),
    ),
}


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("case", [*ERF, *TANH])
def test_is_found(case: str, canonical: bool) -> None:
    b = Case(2, 30)
    graph = b.after(canonicalize, {**ERF, **TANH}[case](b, b.x))
    if canonical:
        b.graph = graph
        graph = b.after(recognize_gelu, *graph.outputs)
    else:
        graph = b.after(recognize_gelu, *b.graph.outputs)
    assert labels(graph) == ["gelu" if case in ERF else "gelu_tanh"]
    assert len(graph.nodes[0].source) >= 5


@pytest.mark.parametrize(
    ("factor", "one", "half"), [(1.5, 1.0, 0.5), (1.414214, 1.1, 0.5), (1.414214, 1.0, 0.4)]
)
def test_unless_a_constant_differs(factor: float, one: float, half: float) -> None:
    b = Case(2, 3)
    y = b.fn("add", b.fn("erf", b.fn("div", b.x, factor)), one)
    assert "erf" in labels(b.after(recognize_gelu, b.fn("mul", b.fn("mul", b.x, y), half)))


def test_unless_the_gate_is_of_something_else() -> None:
    b = Case(2, 3)
    y = b.fn("mul", b.fn("mul", b.fn("sin", b.x), gate(b, b.x)), 0.5)
    assert "erf" in labels(b.after(recognize_gelu, y))
