"""Constants are folded into the constants beside them, when they vary along the right axis alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from strop.ir.graph import Value
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.matmul import MatMul
from strop.optimize import fold_scale
from tests.optimize.harness import Case, constant, labels, only


def conv(b: Case, x: Value, pads: int = 0, groups: int = 1, bias: bool = False) -> Value:
    op = Conv((1, 1), (pads,) * 4, (1, 1), groups)
    channels = int(x.type.static_shape[1])
    return b.add(op, x, b.normal(6, channels // groups, 2, 2), b.normal(6) if bias else None)


def last(b: Case, x: Value) -> Value:
    return b.add(Conv((1, 1), (0,) * 4, (1, 1), 1, "NHWC"), x, b.normal(6, 5, 2, 2))


def turned(b: Case, x: Value, groups: int) -> Value:
    op = ConvTranspose((1, 1), (0,) * 4, (1, 1), groups, (0, 0))
    return b.add(op, x, b.normal(4, 6 // groups, 2, 2))


def product(b: Case, x: Value, turn: bool = False) -> Value:
    return b.add(MatMul(False, turn), x, b.normal(6, 5) if turn else b.normal(5, 6))


FOLDS: dict[str, tuple[Callable[[Case, Value], Value], list[str]]] = {
    "scale": (lambda b, x: b.fn("mul", conv(b, x), b.normal(6, 1, 1)), ["conv"]),
    "scale and bias": (
        lambda b, x: b.fn("mul", conv(b, x, bias=True), b.normal(1, 6, 1, 1)),
        ["conv"],
    ),
    "number": (lambda b, x: b.fn("mul", conv(b, x, bias=True), 3.0), ["conv"]),
    "scale of groups": (
        lambda b, x: b.fn("mul", conv(b, x, groups=2), b.normal(6, 1, 1)),
        ["conv"],
    ),
    "scale, channels last": (lambda b, x: b.fn("mul", last(b, x), b.normal(6)), ["conv"]),
    "shift": (lambda b, x: b.fn("add", conv(b, x), b.normal(6, 1, 1)), ["conv"]),
    "shift and bias": (
        lambda b, x: b.fn("add", b.normal(6, 1, 1), conv(b, x, bias=True)),
        ["conv"],
    ),
    "shift, channels last": (lambda b, x: b.fn("add", last(b, x), b.normal(6)), ["conv"]),
    "transposed": (
        lambda b, x: b.fn("mul", turned(b, x, 1), b.normal(6, 1, 1)),
        ["conv_transpose"],
    ),
    "transposed in groups": (
        lambda b, x: b.fn("add", b.fn("mul", turned(b, x, 2), b.normal(6, 1, 1)), 1.0),
        ["conv_transpose"],
    ),
    "columns": (lambda b, x: b.fn("mul", product(b, x), b.normal(6)), ["matmul"]),
    "columns, turned": (lambda b, x: b.fn("mul", product(b, x, True), b.normal(6)), ["matmul"]),
    "before": (lambda b, x: conv(b, b.fn("mul", x, b.normal(4, 1, 1)), pads=1), ["conv"]),
    "before groups": (
        lambda b, x: conv(b, b.fn("mul", x, b.normal(4, 1, 1)), groups=2, bias=True),
        ["conv"],
    ),
    "shift before": (
        lambda b, x: conv(b, b.fn("add", x, b.normal(4, 1, 1)), groups=2),
        ["conv"],
    ),
    "shift before, and bias": (
        lambda b, x: conv(b, b.fn("add", x, b.normal(4, 1, 1)), bias=True),
        ["conv"],
    ),
    "rows": (lambda b, x: product(b, b.fn("mul", x, b.normal(5))), ["matmul"]),
    "rows, turned": (lambda b, x: product(b, b.fn("mul", x, b.normal(5)), True), ["matmul"]),
    "scales": (lambda b, x: b.fn("mul", b.fn("mul", x, b.normal(5)), 2.0), ["mul"]),
    "shifts": (lambda b, x: b.fn("add", b.fn("add", x, b.normal(5)), 2.0), ["add"]),
    "past a bias": (
        lambda b, x: b.fn("mul", b.fn("add", product(b, x), b.normal(6)), b.normal(6)),
        ["matmul", "add"],
    ),
    "scale, shift, scale, shift": (
        lambda b, x: b.fn(
            "add",
            b.fn("mul", b.fn("add", b.fn("mul", conv(b, x), 2.0), 1.0), b.normal(6, 1, 1)),
            b.normal(6, 1, 1),
        ),
        ["conv"],
    ),
}

STAYS: dict[str, Callable[[Case, Value], Value]] = {
    "per column of an image": lambda b, x: b.fn("mul", conv(b, x), b.normal(4)),
    "per pixel": lambda b, x: b.fn("add", conv(b, x), b.normal(4, 4)),
    "a larger result": lambda b, x: b.fn("mul", conv(b, x), b.normal(2, 6, 1, 1)),
    "per row": lambda b, x: b.fn("mul", product(b, x), b.normal(5, 1)),
    "shift before padding": lambda b, x: conv(b, b.fn("add", x, b.normal(4, 1, 1)), pads=1),
    "scale before, per pixel": lambda b, x: conv(b, b.fn("mul", x, b.normal(5, 5))),
    "growing constants": lambda b, x: b.fn("mul", b.fn("mul", x, b.normal(5, 1)), b.normal(5)),
    "infinite weights": lambda b, x: b.fn("mul", b.fn("mul", conv(b, x), 3e38), 3e38),
}


@pytest.mark.parametrize("case", FOLDS)
def test_folds(case: str) -> None:
    build, wanted = FOLDS[case]
    b = Case(1, 4, 5, 5)
    assert labels(b.after(fold_scale, build(b, b.x))) == wanted


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    b = Case(1, 4, 5, 5)
    if case == "infinite weights":
        b.feed["x0"] *= 0
    y = STAYS[case](b, b.x)
    before = labels(b.graph)
    assert labels(b.after(fold_scale, y)) == before


def test_unless_the_inner_result_is_read_elsewhere() -> None:
    b = Case(1, 4, 5, 5)
    inner = conv(b, b.x)
    assert labels(b.after(fold_scale, b.fn("mul", inner, 2.0), inner)) == ["conv", "mul"]
    c = Case(1, 4, 5, 5)
    scaled = c.fn("mul", c.x, 2.0)
    assert labels(c.after(fold_scale, conv(c, scaled), c.fn("neg", scaled)))[0] == "mul"


def test_unless_the_values_are_integers() -> None:
    b = Case(4, dtype=np.int32)
    two = b.const(np.array(2, np.int32))
    y = b.fn("mul", b.fn("mul", b.x, two), two)
    assert labels(b.after(fold_scale, y)) == ["mul", "mul"]


def test_sources_and_names_are_merged() -> None:
    b = Case(1, 4, 5, 5)
    y = b.fn("add", b.fn("mul", conv(b, b.x), 2.0), b.normal(6, 1, 1))
    node = only(b.after(fold_scale, y), "conv")
    assert node.source == ("node_1", "node_2", "node_3") and node.name == "add"
    assert node.output.name == "add"


def test_constants_are_rounded_once() -> None:
    b = Case(1, 1, 1, 1)
    w = b.const(np.full((1, 1, 1, 1), 1 / 3, np.float32))
    y = b.fn("mul", b.add(Conv((1, 1), (0,) * 4, (1, 1)), b.x, w), 0.3)
    node = only(b.after(fold_scale, y), "conv")
    wanted = np.float64(np.float32(1 / 3)) * np.float64(np.float32(0.3))
    assert constant(node, 1).item() == np.float32(wanted)
