"""hard_sigmoid and hard_swish spelled out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from strop.ir.graph import Value
from strop.optimize import canonicalize, recognize_hardswish
from tests.optimize.harness import Case, labels


def ramp(b: Case, x: Value, shift: float = 3.0, top: float = 6.0) -> Value:
    return b.fn("clip", b.fn("add", x, shift), lo=0.0, hi=top)


FOUND: dict[str, tuple[Callable[[Case, Value], Value], str]] = {
    "divided last": (lambda b, x: b.fn("div", b.fn("mul", x, ramp(b, x)), 6.0), "hard_swish"),
    "divided gate": (lambda b, x: b.fn("mul", b.fn("div", ramp(b, x), 6.0), x), "hard_swish"),
    "divided x": (lambda b, x: b.fn("mul", b.fn("div", x, 6.0), ramp(b, x)), "hard_swish"),
    "relu6": (
        lambda b, x: b.fn(
            "div", b.fn("mul", x, b.fn("min", b.fn("relu", b.fn("add", x, 3.0)), 6.0)), 6.0
        ),
        "hard_swish",
    ),
    "gate op": (
        lambda b, x: b.fn("mul", x, b.fn("hard_sigmoid", x, alpha=0.16666667, beta=0.5)),
        "hard_swish",
    ),
    "gate alone": (lambda b, x: b.fn("div", ramp(b, x), 6.0), "hard_sigmoid"),
}


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("case", FOUND)
def test_is_found(case: str, canonical: bool) -> None:
    build, wanted = FOUND[case]
    b = Case(2, 40)
    b.feed["x0"] *= 4
    outputs = [build(b, b.x)]
    if canonical or case == "relu6":
        b.graph = b.after(canonicalize, *outputs)
        outputs = b.graph.outputs
    assert labels(b.after(recognize_hardswish, *outputs)) == [wanted]


@pytest.mark.parametrize(
    ("shift", "top", "divisor"), [(2.0, 6.0, 6.0), (3.0, 5.0, 6.0), (3.0, 6.0, 5.0)]
)
def test_unless_a_constant_differs(shift: float, top: float, divisor: float) -> None:
    b = Case(2, 9)
    y = b.fn("div", b.fn("mul", b.x, ramp(b, b.x, shift, top)), divisor)
    assert labels(b.after(recognize_hardswish, y)) == ["add", "clip", "mul", "div"]


def test_unless_the_gate_has_another_slope() -> None:
    b = Case(2, 9)
    y = b.fn("mul", b.x, b.fn("hard_sigmoid", b.x))
    assert labels(b.after(recognize_hardswish, y)) == ["hard_sigmoid", "mul"]
