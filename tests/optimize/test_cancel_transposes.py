"""Fewer transpositions, never more."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir.graph import Graph, Value
from strop.ops.attention import Attention
from strop.ops.conv import Conv
from strop.ops.data import Concat, Expand, Pad, Slice, Split, Tile, Transpose
from strop.ops.matmul import MatMul
from strop.ops.norm import LayerNorm, RMSNorm
from strop.ops.pool import MaxPool
from strop.ops.reduce import Reduce
from strop.ops.resize import Resize
from strop.ops.softmax import Softmax
from strop.optimize import cancel_transposes
from tests.optimize.harness import Case, labels, only

LAST, FIRST = Transpose((0, 2, 3, 1)), Transpose((0, 3, 1, 2))


def turns(graph: Graph) -> int:
    return labels(graph).count("transpose")


def conv(b: Case, x: Value, groups: int = 1) -> Value:
    channels = int(x.type.static_shape[1])
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1), groups)
    return b.add(op, x, b.normal(channels, channels // groups, 3, 3), b.normal(channels))


def block(b: Case, x: Value) -> Value:
    """A ConvNeXt block: depthwise convolution, channels-last work, back, a residual."""
    c = int(x.type.static_shape[1])
    y = b.add(LAST, conv(b, x, c))
    y = b.add(LayerNorm(-1, 1e-3), y, b.normal(c), b.normal(c))
    y = b.fn("gelu", b.fn("add", b.add(MatMul(), y, b.normal(c, 2 * c)), b.normal(2 * c)))
    y = b.add(FIRST, b.add(MatMul(), y, b.normal(2 * c, c)))
    return b.fn("add", b.fn("mul", y, b.normal(c, 1, 1)), x)


def test_inverse_pairs_around_elementwise_work() -> None:
    b = Case(1, 3, 4, 5)
    y = b.fn("add", b.fn("relu", b.add(LAST, b.x)), b.normal(3))
    assert labels(b.after(cancel_transposes, b.add(FIRST, y))) == ["relu", "add"]


def test_a_tower_of_blocks_turns_once() -> None:
    b = Case(1, 4, 5, 6)
    y = conv(b, b.x)
    for _ in range(3):
        y = block(b, y)
    graph = b.after(cancel_transposes, b.add(Reduce("mean", (2, 3), False), y))
    assert turns(graph) == 1
    layouts = [n.op.attributes()["layout"] for n in graph.nodes if n.op.label == "conv"]
    assert layouts.count("NHWC") == 3 + (graph.nodes[0].op.label == "transpose")


def test_a_residual_outside_pays_only_where_it_saves() -> None:
    b = Case(1, 4, 5, 6)
    graph = b.after(cancel_transposes, block(b, b.x))
    assert turns(graph) == 2


def test_concat_pad_slice_split_softmax_reduce_tile_expand() -> None:
    b = Case(1, 3, 4, 5)
    y = b.add(LAST, b.x)
    y = b.add(Concat(3), y, b.fn("tanh", y))
    y = b.add(Pad((0, 1, 0, 0, 0, 0, 2, 1)), y)
    y = b.add(Slice((1,), (5,), (2,), (2,)), y)
    one, two = b.add_several(Split(3, (3, 4)), y)
    y = b.add(Concat(-1), two, b.add(Softmax(-1), one))
    y = b.fn("add", y, b.add(Reduce("max", (-2,), True), y))
    y = b.add(Tile((1, 2, 1, 1)), y)
    y = b.fn("add", y, b.add(Expand((1, 10, 2, 7)), b.add(Reduce("sum", (1, 2), True), y)))
    graph = b.after(cancel_transposes, b.add(FIRST, y))
    assert turns(graph) == 0
    assert only(graph, "softmax").op == Softmax(1)
    assert only(graph, "tile").op == Tile((1, 1, 2, 1))


def test_resize_norms_and_constants() -> None:
    b = Case(1, 3, 4, 5)
    y = b.add(LAST, b.x)
    y = b.add(Resize((1, 8, 5, 3), (1.0, 2.0, 1.0, 1.0), "linear"), y)
    y = b.fn("mul", y, b.normal(8, 1, 3))
    y = b.add(Concat(1), y, b.normal(1, 2, 5, 3))
    assert turns(b.after(cancel_transposes, b.add(FIRST, y))) == 0


def test_leading_axes_swap_around_row_wise_work() -> None:
    swap = Transpose((1, 0, 2))
    b = Case(4, 2, 6)
    y = b.add(RMSNorm(2, 1e-3), b.add(swap, b.x), b.normal(6))
    y = b.fn("add", b.add(MatMul(), y, b.normal(6, 6)), b.normal(6))
    y = b.add(LayerNorm(-1, 1e-3), y, b.normal(6))
    graph = b.after(cancel_transposes, b.fn("add", b.add(swap, y), b.x))
    assert turns(graph) == 0


def test_batched_products_and_attention() -> None:
    swap = Transpose((1, 0, 2, 3))
    b = Case(2, 3, 4, 5)
    q = b.add(swap, b.x)
    y = b.add(Attention(0.5), q, b.fn("sin", q), b.fn("cos", q))
    y = b.add(MatMul(False, True), y, q)
    assert turns(b.after(cancel_transposes, b.add(swap, y))) == 0


def test_a_reduction_that_drops_the_turned_axes() -> None:
    b = Case(2, 3, 4, 5)
    y = b.add(Reduce("mean", (1, 2), False), b.fn("tanh", b.add(LAST, b.x)))
    assert turns(b.after(cancel_transposes, y)) == 0
    c = Case(2, 3, 4, 5)  # what is left would be in another order
    y = c.add(Reduce("mean", (0, 1), False), c.fn("tanh", c.add(LAST, c.x)))
    assert turns(c.after(cancel_transposes, y)) == 1


def test_one_turned_result_for_two_turned_operands() -> None:
    b = Case(1, 3, 4, 5)
    other = b.add(LAST, b.input(np.ones((1, 3, 4, 5), np.float32)))
    y = b.fn("add", b.add(LAST, b.x), other)
    graph = b.after(cancel_transposes, y)
    assert turns(graph) == 1 and graph.nodes[-1].op.label == "transpose"


def test_the_smaller_value_is_turned() -> None:
    b = Case(1, 3, 4, 5)
    y = b.add(LAST, b.fn("tanh", b.x))
    small = b.add(Slice((0,), (1,), (2,), (1,)), y)
    graph = b.after(cancel_transposes, b.fn("neg", small))
    assert turns(graph) == 1


@pytest.mark.parametrize("case", ["pool between", "read in both orders", "alone"])
def test_unless_nothing_is_saved(case: str) -> None:
    b = Case(1, 3, 4, 5)
    y = b.add(LAST, b.x)
    outputs = [b.fn("relu", y)]
    if case == "pool between":
        pool = MaxPool((2, 2), (1, 1), (0, 0, 0, 0), (1, 1))
        outputs = [b.add(FIRST, b.fn("tanh", b.add(pool, b.fn("relu", y))))]
    elif case == "read in both orders":
        outputs = [b.fn("relu", y), b.fn("abs", b.x)]
    before = turns(b.graph)
    graph = b.after(cancel_transposes, *outputs)
    assert turns(graph) == before and not b.trace.patches


def test_unless_an_operand_cannot_be_turned() -> None:
    b = Case(1, 3, 4, 5)
    narrow = b.input(np.ones(3, np.float32))
    y = b.add(FIRST, b.fn("add", b.add(LAST, b.x), narrow))
    assert turns(b.after(cancel_transposes, y)) == 2


def test_sources_stay_with_their_nodes() -> None:
    b = Case(1, 3, 4, 5)
    y = b.fn("relu", b.add(LAST, b.x))
    z = b.fn("tanh", y)
    graph = b.after(cancel_transposes, b.add(FIRST, z))
    assert [n.source for n in graph.nodes] == [("node_2",), ("node_3",)]
    assert [n.name for n in graph.nodes] == ["relu", "transpose.1"]


def test_unless_nothing_reads_what_would_be_turned() -> None:
    b = Case(1, 3, 4, 5)
    b.add(FIRST, b.fn("tanh", b.add(LAST, b.x)))
    assert turns(b.after(cancel_transposes, b.fn("neg", b.x))) == 2


def test_contradicting_orders_are_left_alone() -> None:
    b = Case(3, 3, 3, 3)
    y = b.fn("tanh", b.add(LAST, b.x))
    y = b.fn("add", b.fn("sin", b.add(LAST, y)), b.x)
    graph = b.after(cancel_transposes, b.add(FIRST, b.add(FIRST, y)))
    assert turns(graph) <= 4
