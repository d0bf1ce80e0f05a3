"""Only the rows that are read are computed."""

from __future__ import annotations

import numpy as np

from strop.ir.graph import Value
from strop.ops.attention import Attention
from strop.ops.data import Reshape, Slice, Transpose
from strop.ops.matmul import MatMul
from strop.ops.norm import LayerNorm
from strop.ops.softmax import Softmax
from strop.optimize import hoist_slices
from tests.optimize.harness import Case, labels, only


def first(axis: int) -> Slice:
    return Slice((0,), (1,), (axis,), (1,))


def weights(b: Case, *shape: int) -> Value:
    return b.const(b.rng.standard_normal(shape).astype(np.float32))


def norm(b: Case, x: Value) -> Value:
    return b.add(LayerNorm(2, 1e-5), x, weights(b, 8), weights(b, 8))


def test_past_a_transformer_block() -> None:
    b = Case(1, 5, 8)
    h = b.fn("tanh", b.x)
    y = b.fn("relu", b.fn("add", b.add(MatMul(), norm(b, h), weights(b, 8, 12)), weights(b, 12)))
    y = norm(b, b.fn("add", h, b.add(MatMul(), y, weights(b, 12, 8))))
    graph = b.after(hoist_slices, b.add(first(1), y))
    assert only(graph, "slice").op == first(1)
    assert all(node.output.shape[1] == 1 for node in graph.nodes if node.op.label not in ("tanh",))


def test_past_attention_and_views() -> None:
    b = Case(7, 12)
    q, k, v = (b.add(Transpose((1, 0, 2)), b.add(Reshape((7, 3, 4)), b.fn("tanh", b.fn("mul", b.x, weights(b, 12))))) for _ in range(3))
    y = b.add(Reshape((7, 12)), b.add(Transpose((1, 0, 2)), b.add(Attention(0.5), q, k, v)))
    graph = b.after(hoist_slices, b.add(Slice((2,), (6,), (0,), (3,)), y))
    attention = only(graph, "attention")
    assert attention.operand(0).shape == (3, 2, 4) and attention.operand(1).shape == (3, 7, 4)


def test_equal_slices_of_one_value_stay_one() -> None:
    b = Case(5, 8)
    y = b.add(MatMul(), b.x, weights(b, 8, 8))
    graph = b.after(hoist_slices, b.fn("tanh", b.add(first(0), y)), b.fn("abs", b.add(first(0), y)))
    assert labels(graph).count("matmul") == 1 and only(graph, "matmul").output.shape == (1, 8)


def stays(b: Case, *outputs: Value) -> bool:
    before = labels(b.graph)
    return labels(b.after(hoist_slices, *outputs)) == before


def test_unless_all_rows_are_read_as_well() -> None:
    b = Case(5, 8)
    y = b.add(MatMul(), b.x, weights(b, 8, 8))
    assert stays(b, b.add(first(0), y), b.fn("tanh", y))


def test_unless_rows_depend_on_one_another() -> None:
    b = Case(5, 8)
    y = b.add(Softmax(0), b.add(MatMul(), b.x, weights(b, 8, 8)))
    assert stays(b, b.add(first(0), y))


def test_unless_columns_are_cut() -> None:
    b = Case(5, 8)
    assert stays(b, b.add(first(1), b.add(MatMul(), b.x, weights(b, 8, 8))))


def test_unless_no_product_gets_smaller() -> None:
    b = Case(5, 8)
    assert stays(b, b.add(first(0), b.fn("tanh", b.x)))


def test_unless_attention_is_causal_or_masked() -> None:
    b = Case(1, 5, 8)
    assert stays(b, b.add(first(1), b.add(Attention(0.5, True), b.x, b.x, b.x)))
    b = Case(1, 5, 8)
    assert stays(b, b.add(first(1), b.add(Attention(0.5), b.x, b.x, b.x, weights(b, 5, 5))))
