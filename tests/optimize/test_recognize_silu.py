"""sigmoid, silu, swish, mish and softplus spelled out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from strop.ir.graph import Value
from strop.ops.elementwise import Elementwise
from strop.optimize import canonicalize, recognize_silu
from tests.optimize.harness import Case, labels, only


def spelled(b: Case, x: Value) -> Value:
    return b.fn("div", 1.0, b.fn("add", 1.0, b.fn("exp", b.fn("neg", x))))


FOUND: dict[str, tuple[Callable[[Case, Value], Value], str]] = {
    "silu": (lambda b, x: b.fn("mul", b.fn("sigmoid", x), x), "silu"),
    "sigmoid": (lambda b, x: spelled(b, x), "sigmoid"),
    "silu of the spelling": (lambda b, x: b.fn("mul", x, spelled(b, x)), "silu"),
    "quotient": (
        lambda b, x: b.fn("div", x, b.fn("add", b.fn("exp", b.fn("neg", x)), 1.0)),
        "silu",
    ),
    "swish": (lambda b, x: b.fn("mul", x, b.fn("sigmoid", b.fn("mul", 1.702, x))), "swish"),
    "softplus": (lambda b, x: b.fn("log", b.fn("add", b.fn("exp", x), 1.0)), "softplus"),
    "mish": (lambda b, x: b.fn("mul", x, b.fn("tanh", b.fn("softplus", x))), "mish"),
    "mish of the spelling": (
        lambda b, x: b.fn("mul", x, b.fn("tanh", b.fn("log1p", b.fn("exp", x)))),
        "mish",
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_is_found(case: str) -> None:
    build, wanted = FOUND[case]
    b = Case(2, 9)
    b.graph = b.after(canonicalize, build(b, b.x))
    assert labels(b.after(recognize_silu, *b.graph.outputs)) == [wanted]


def test_the_slope_is_kept() -> None:
    b = Case(2, 3)
    y = b.fn("mul", b.x, b.fn("sigmoid", b.fn("mul", b.x, 1.5)))
    op = only(b.after(recognize_silu, y), "swish").op
    assert isinstance(op, Elementwise) and op.param == {"alpha": 1.5}


def test_unless_the_gate_is_of_something_else() -> None:
    b = Case(2, 3)
    y = b.fn("mul", b.fn("sin", b.x), b.fn("sigmoid", b.x))
    assert labels(b.after(recognize_silu, y)) == ["sin", "sigmoid", "mul"]


def test_unless_there_are_several_slopes() -> None:
    b = Case(2, 3)
    y = b.fn("mul", b.x, b.fn("sigmoid", b.fn("mul", b.x, b.normal(3))))
    assert labels(b.after(recognize_silu, y)) == ["mul", "sigmoid", "mul"]


def test_strictly_softplus_stays_spelled() -> None:
    b = Case(2, 3)
    y = b.fn("log1p", b.fn("exp", b.x))
    assert labels(b.after(recognize_silu, y, strict=True)) == ["exp", "log1p"]
