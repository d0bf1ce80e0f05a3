"""Each spelling becomes the canonical one; near misses stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from strop.ir.graph import Value
from strop.ops.data import Concat, Expand, Reshape, Slice, Transpose
from strop.ops.elementwise import Elementwise
from strop.ops.index import Gather
from strop.ops.matmul import MatMul
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce
from strop.ops.softmax import Softmax
from strop.optimize import canonicalize
from tests.optimize.harness import Case, constant, labels, only

WHOLE = ((4, 5), (1, 1), (0, 0, 0, 0), (1, 1))

BECOMES: dict[str, tuple[Callable[[Case, Value], Value], list[str]]] = {
    "minus constant": (lambda b, x: b.fn("sub", x, 2.5), ["add"]),
    "over constant": (lambda b, x: b.fn("div", x, 3.0), ["mul"]),
    "power of two": (lambda b, x: b.fn("pow", x, 2.0), ["square"]),
    "times itself": (lambda b, x: b.fn("mul", x, x), ["square"]),
    "twice": (lambda b, x: b.fn("add", x, x), ["mul"]),
    "root": (lambda b, x: b.fn("pow", b.fn("exp", x), 0.5), ["exp", "sqrt"]),
    "inverse root": (lambda b, x: b.fn("pow", b.fn("exp", x), -0.5), ["exp", "rsqrt"]),
    "one over root": (
        lambda b, x: b.fn("div", 1.0, b.fn("sqrt", b.fn("exp", x))),
        ["exp", "rsqrt"],
    ),
    "times reciprocal": (
        lambda b, x: b.fn("mul", x, b.fn("reciprocal", b.fn("exp", x))),
        ["exp", "div"],
    ),
    "relu6": (lambda b, x: b.fn("min", b.fn("relu", x), 6.0), ["clip"]),
    "bounds": (lambda b, x: b.fn("min", b.fn("max", x, -1.0), 1.0), ["clip"]),
    "max with zero": (lambda b, x: b.fn("max", 0.0, x), ["relu"]),
    "clip at zero": (lambda b, x: b.fn("clip", x, lo=0.0), ["relu"]),
    "relu of relu": (lambda b, x: b.fn("relu", b.fn("relu", x)), ["relu"]),
    "reshapes": (
        lambda b, x: b.add(Reshape((12, 5)), b.add(Reshape((60,)), x)),
        ["reshape"],
    ),
    "transposes": (
        lambda b, x: b.add(Transpose((0, 2, 3, 1)), b.add(Transpose((0, 2, 3, 1)), x)),
        ["transpose"],
    ),
    "moving ones to where they were": (
        lambda b, x: b.fn("tanh", b.add(Transpose((1, 0, 2, 3)), b.add(Reshape((1, 1, 60, 1)), x))),
        ["reshape", "tanh"],
    ),
    "reshape and back": (
        lambda b, x: b.fn("tanh", b.add(Reshape((1, 3, 4, 5)), b.add(Reshape((60,)), x))),
        ["tanh"],
    ),
    "moving ones": (lambda b, x: b.add(Transpose((1, 2, 0, 3)), x), ["reshape"]),
    "expand": (
        lambda b, x: b.fn("add", x, b.add(Expand((1, 3, 4, 5)), b.input(np.ones(5, np.float32)))),
        ["add"],
    ),
    "gather of one": (
        lambda b, x: b.add(Gather(1), x, b.const(np.array(-1))),
        ["slice", "reshape"],
    ),
    "gather of a range": (lambda b, x: b.add(Gather(2), x, b.const(np.array([3, 1]))), ["slice"]),
    "transposed right": (
        lambda b, x: b.add(MatMul(), x, b.add(Transpose((0, 1, 3, 2)), x)),
        ["matmul"],
    ),
    "transposed left": (
        lambda b, x: b.add(MatMul(), b.add(Transpose((0, 1, 3, 2)), x), x),
        ["matmul"],
    ),
    "global average": (lambda b, x: b.add(AveragePool(*WHOLE), x), ["reduce"]),
    "global average in padding": (
        lambda b, x: b.add(AveragePool((5, 7), (2, 2), (1, 1, 0, 1), (1, 1)), x),
        ["reduce"],
    ),
    "global maximum": (lambda b, x: b.add(MaxPool(*WHOLE), x), ["reduce"]),
}

STAYS: dict[str, Callable[[Case, Value], Value]] = {
    "constant minus": lambda b, x: b.fn("sub", 2.5, x),
    "over zero": lambda b, x: b.fn("div", x, b.const(np.array([1, 0, 2, 1, 1], np.float32))),
    "over infinity": lambda b, x: b.fn("div", x, float("inf")),
    "over a denormal": lambda b, x: b.fn("div", x, 1e-40),
    "over something huge": lambda b, x: b.fn("div", x, 3e38),
    "clip at minus zero": lambda b, x: b.fn("clip", x, lo=-0.0),
    "third power": lambda b, x: b.fn("pow", x, 3.0),
    "clip that would cross": lambda b, x: b.fn("clip", b.fn("clip", x, lo=3.0, hi=1.0), hi=5.0),
    "bounds per element": lambda b, x: b.fn("max", x, b.normal(5)),
    "real transposition": lambda b, x: b.add(Transpose((0, 2, 1, 3)), x),
    "uneven indices": lambda b, x: b.add(Gather(2), x, b.const(np.array([0, 1, 3]))),
    "repeated indices": lambda b, x: b.add(Gather(2), x, b.const(np.array([1, 1]))),
    "table of indices": lambda b, x: b.add(Gather(2), x, b.const(np.array([[0, 1]]))),
    "padded pool": lambda b, x: b.add(AveragePool((4, 5), (9, 9), (1, 1, 0, 0), (1, 1)), x),
    "counted padding": lambda b, x: b.add(
        AveragePool((5, 6), (9, 9), (1, 1, 0, 0), (1, 1), False, True), x
    ),
    "two windows": lambda b, x: b.add(MaxPool((4, 5), (1, 1), (0, 0, 0, 1), (1, 1)), x),
    "part of the image": lambda b, x: b.add(MaxPool((4, 4), (9, 9), (0, 0, 0, 0), (1, 1)), x),
}


@pytest.mark.parametrize("case", BECOMES)
def test_becomes(case: str) -> None:
    build, wanted = BECOMES[case]
    b = Case(1, 3, 4, 5)
    assert labels(b.after(canonicalize, build(b, b.x))) == wanted


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    b = Case(1, 3, 4, 5)
    y = STAYS[case](b, b.x)
    before = labels(b.graph)
    assert labels(b.after(canonicalize, y)) == before


def test_integers() -> None:
    b = Case(5, dtype=np.int32)
    b.feed["x0"] = np.array([-(2**31), -3, 0, 7, 2**31 - 1], np.int32)
    c = b.const(np.array([1, -(2**31), 5, 7, -1], np.int32))
    assert labels(b.after(canonicalize, b.fn("sub", b.x, c), exact=True)) == ["add"]
    d = Case(5, dtype=np.int32)
    y = d.fn("div", d.x, d.const(np.array(2, np.int32)))
    assert labels(d.after(canonicalize, y, exact=True)) == ["div"]


def test_subtraction_is_exact() -> None:
    b = Case(64)
    graph = b.after(canonicalize, b.fn("sub", b.x, b.normal(64)), exact=True)
    assert labels(graph) == ["add"]


@pytest.mark.parametrize(("number", "label"), [(4.0, "mul"), (-0.125, "mul"), (3.0, "div")])
def test_strict_division(number: float, label: str) -> None:
    b = Case(64)
    y = b.fn("div", b.x, number)
    assert labels(b.after(canonicalize, y, strict=True, exact=True)) == [label]


def test_strict_keeps_what_differs_for_special_numbers() -> None:
    b = Case(64)
    y = b.fn("pow", b.fn("mul", b.x, b.fn("reciprocal", b.fn("exp", b.x))), 0.5)
    b.feed["x0"] = np.abs(b.feed["x0"])
    assert labels(b.after(canonicalize, y, strict=True)) == ["exp", "reciprocal", "mul", "pow"]


def test_constants_stand_second() -> None:
    b = Case(2, 3)
    graph = b.after(canonicalize, b.fn("mul", 3.0, b.fn("add", b.normal(3), b.x)), exact=True)
    assert all(n.operand(1).const is not None for n in graph.nodes)


def test_bounds_are_combined() -> None:
    b = Case(50)
    y = b.fn("min", b.fn("clip", b.fn("relu", b.x), lo=-3.0, hi=0.9), 0.5)
    op = only(b.after(canonicalize, y, exact=True), "clip").op
    assert isinstance(op, Elementwise) and op.param == {"lo": 0.0, "hi": 0.5}


def test_nan_passes_through_bounds() -> None:
    b = Case(2)
    b.feed["x0"] = np.array([np.nan, 1.0], np.float32)
    assert labels(b.after(canonicalize, b.fn("min", b.fn("max", b.x, 0.0), 6.0))) == ["clip"]


def test_axes_count_from_the_front() -> None:
    b = Case(2, 3, 4)
    y = b.add(Softmax(-1), b.x)
    y = b.add(Concat(-2), y, y)
    y = b.add(Reduce("mean", (-1, 0), True), y)
    graph = b.after(canonicalize, y)
    assert only(graph, "softmax").op == Softmax(2)
    assert only(graph, "concat").op == Concat(1)
    assert only(graph, "reduce").op == Reduce("mean", (0, 2), True)


def test_a_transposed_constant_is_stored_plainly() -> None:
    b = Case(2, 3)
    graph = b.after(canonicalize, b.add(MatMul(False, True), b.x, b.normal(4, 3)))
    assert only(graph, "matmul").op == MatMul() and constant(graph.nodes[0], 1).shape == (3, 4)


def test_slices_of_gathers_have_steps() -> None:
    b = Case(1, 3, 4, 5)
    graph = b.after(canonicalize, b.add(Gather(3), b.x, b.const(np.array([4, 2, 0]))), exact=True)
    assert only(graph, "slice").op == Slice((4,), (-1,), (3,), (-2,))
