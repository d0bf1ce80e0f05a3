"""Layer and RMS normalization spelled out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from strop.ir.graph import Value
from strop.ops.norm import LayerNorm, RMSNorm
from strop.ops.reduce import Reduce
from strop.optimize import canonicalize, recognize_layernorm
from tests.optimize.harness import Case, constant, labels, only

SQUARES = ("pow", "mul", "square")
ROOTS = ("div", "mul reciprocal", "mul rsqrt", "pow")


def core(b: Case, d: Value, square: str, root: str, axes: tuple[int, ...] = (-1,)) -> Value:
    operands: dict[str, tuple[Value | float, ...]] = {
        "pow": (d, 2.0),
        "mul": (d, d),
        "square": (d,),
    }
    squares = b.fn(square, *operands[square])
    shifted = b.fn("add", b.add(Reduce("mean", axes, True), squares), 0.01)
    if root == "div":
        return b.fn("div", d, b.fn("sqrt", shifted))
    if root == "mul rsqrt":
        return b.fn("mul", b.fn("rsqrt", shifted), d)
    if root == "pow":
        return b.fn("div", d, b.fn("pow", shifted, 0.5))
    return b.fn("mul", d, b.fn("reciprocal", b.fn("sqrt", shifted)))


def centered(b: Case, axes: tuple[int, ...] = (-1,)) -> Value:
    return b.fn("sub", b.x, b.add(Reduce("mean", axes, True), b.x))


@pytest.mark.parametrize(("square", "root"), list(itertools.product(SQUARES, ROOTS)))
@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_every_spelling(kind: str, square: str, root: str) -> None:
    b = Case(2, 3, 8)
    d = centered(b) if kind == "layer_norm" else b.x
    y = b.fn("mul", core(b, d, square, root), b.normal(8))
    y = b.fn("add", b.normal(8), y) if kind == "layer_norm" else y
    b.graph = b.after(canonicalize, y)
    graph = b.after(recognize_layernorm, *b.graph.outputs)
    assert labels(graph) == [kind]
    assert len(graph.nodes[0].inputs) == (3 if kind == "layer_norm" else 2)
    assert len(graph.nodes[0].source) >= 6


def test_without_scale_and_bias() -> None:
    b = Case(2, 3, 8)
    graph = b.after(recognize_layernorm, core(b, centered(b), "pow", "div"))
    node = only(graph, "layer_norm")
    assert node.op == LayerNorm(2, float(np.float32(0.01)))
    np.testing.assert_array_equal(constant(node, 1), np.ones(8))


def test_several_axes() -> None:
    b = Case(2, 3, 8)
    axes = (1, 2)
    y = b.fn("add", core(b, centered(b, axes), "mul", "div", axes), b.normal(3, 1))
    node = only(b.after(recognize_layernorm, y), "layer_norm")
    assert node.op.attributes()["axis"] == 1
    assert constant(node, 1).shape == constant(node, 2).shape == (3, 8)


def test_numbers_become_full_scales() -> None:
    b = Case(2, 3, 8)
    y = b.fn("mul", core(b, b.x, "pow", "div"), 2.0)
    node = only(b.after(recognize_layernorm, y), "rms_norm")
    assert node.op == RMSNorm(2, float(np.float32(0.01)))
    np.testing.assert_array_equal(constant(node, 1), np.full(8, 2))


def test_unless_the_mean_is_over_other_axes() -> None:
    b = Case(2, 3, 8)
    y = core(b, centered(b, (1,)), "pow", "div", (1,))
    assert "reduce" in labels(b.after(recognize_layernorm, y))


def test_unless_the_centered_value_is_read_elsewhere() -> None:
    b = Case(2, 3, 8)
    d = centered(b)
    y = core(b, d, "pow", "div")
    assert "reduce" in labels(b.after(recognize_layernorm, y, d))
    c = Case(2, 3, 8)
    d = centered(c)
    y = core(c, d, "pow", "div")
    assert "reduce" in labels(c.after(recognize_layernorm, y, c.fn("neg", d)))


def test_unless_the_scale_varies_along_other_axes() -> None:
    b = Case(2, 3, 8)
    y = b.fn("mul", core(b, centered(b), "pow", "div"), b.normal(3, 1))
    assert labels(b.after(recognize_layernorm, y)) == ["layer_norm", "mul"]


def test_unless_the_scale_makes_the_result_larger() -> None:
    b = Case(2, 3, 1)
    y = b.fn("mul", core(b, centered(b), "pow", "div"), b.normal(4))
    assert "mul" in labels(b.after(recognize_layernorm, y))


def test_unless_epsilon_is_not_positive() -> None:
    b = Case(2, 3, 8)
    d = centered(b)
    squares = b.add(Reduce("mean", (-1,), True), b.fn("square", d))
    y = b.fn("div", d, b.fn("sqrt", b.fn("add", squares, 0.0)))
    assert "reduce" in labels(b.after(recognize_layernorm, y))
