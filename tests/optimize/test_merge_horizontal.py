"""Products of one tensor with equal windows and tails are computed at once."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir.graph import Value
from strop.ops.conv import Conv
from strop.ops.data import Split
from strop.ops.matmul import MatMul
from strop.optimize import merge_horizontal
from tests.optimize.harness import Case, constant, labels, only


def conv(
    b: Case, n: int, size: int = 1, bias: bool = True, x: Value | None = None, **how: int
) -> Value:
    x = x or b.x
    groups = how.get("groups", 1)
    channels = int(x.type.static_shape[1]) // groups
    op = Conv((how.get("stride", 1),) * 2, (size // 2,) * 4, (1, 1), groups)
    return b.add(op, x, b.normal(n, channels, size, size), b.normal(n) if bias else None)


def product(b: Case, n: int, bias: bool = True) -> Value:
    y = b.add(MatMul(), b.x, b.normal(int(b.x.type.static_shape[-1]), n))
    return b.fn("add", b.normal(n), y) if bias else y


def test_convolutions_with_activations() -> None:
    b = Case(1, 4, 3, 3)
    parts = [b.fn("relu", conv(b, n)) for n in (2, 3, 1)]
    graph = b.after(merge_horizontal, *parts)
    assert labels(graph) == ["conv", "relu", "split"]
    assert only(graph, "split").op == Split(1, (2, 3, 1))
    assert constant(graph.nodes[0], 1).shape == (6, 4, 1, 1)
    assert constant(graph.nodes[0], 2).shape == (6,)
    assert graph.nodes[0].source == tuple(f"node_{k}" for k in range(1, 7))
    assert [v.name for v in graph.outputs] == ["relu", "relu.1", "relu.2"]


def test_outputs_are_bit_equal() -> None:
    b = Case(1, 4, 3, 3)
    parts = [conv(b, n, 3) for n in (2, 5)]
    assert labels(b.after(merge_horizontal, *parts, exact=True)) == ["conv", "split"]


def test_without_biases_and_with_some() -> None:
    b = Case(1, 4, 3, 3)
    graph = b.after(merge_horizontal, conv(b, 2, bias=False), conv(b, 3, bias=False))
    assert labels(graph) == ["conv", "split"] and len(graph.nodes[0].inputs) == 2
    c = Case(1, 4, 3, 3)
    graph = c.after(merge_horizontal, conv(c, 2, bias=False), conv(c, 3))
    np.testing.assert_array_equal(constant(graph.nodes[0], 2)[:2], 0)


def test_products_with_shifts() -> None:
    b = Case(2, 5, 4)
    graph = b.after(merge_horizontal, *(product(b, n) for n in (3, 3, 2)))
    assert labels(graph) == ["matmul", "add", "split"]
    assert only(graph, "split").op == Split(2, (3, 3, 2))


def test_a_number_added_by_one_branch() -> None:
    b = Case(2, 4)
    one = b.fn("add", product(b, 3, False), 2.0)
    two = b.fn("add", product(b, 2, False), b.normal(2))
    assert labels(b.after(merge_horizontal, one, two)) == ["matmul", "add", "split"]


def test_the_common_tail_moves_and_the_rest_stays() -> None:
    b = Case(1, 4, 3, 3)
    one, two = b.fn("tanh", b.fn("relu", conv(b, 2))), b.fn("sin", b.fn("relu", conv(b, 3)))
    assert labels(b.after(merge_horizontal, one, two)) == ["conv", "relu", "split", "tanh", "sin"]


def test_each_group_by_itself() -> None:
    b = Case(1, 4, 4, 4)
    outputs = [b.fn("relu", conv(b, 2, size)) for size in (1, 3, 1, 3)]
    outputs += [b.fn("tanh", conv(b, 3, 1)), b.fn("tanh", conv(b, 3, 1))]
    graph = b.after(merge_horizontal, *outputs)
    assert labels(graph).count("conv") == 3 and labels(graph).count("split") == 3


def test_branches_in_a_row() -> None:
    b = Case(1, 4, 3, 3)
    first = [b.fn("relu", conv(b, 4)) for _ in range(2)]
    second = [b.fn("relu", conv(b, 2, x=first[0])) for _ in range(2)]
    graph = b.after(merge_horizontal, first[1], *second)
    assert labels(graph).count("conv") == 2


@pytest.mark.parametrize(
    "how", [{"size": 3}, {"stride": 2}, {"groups": 2}], ids=["window", "stride", "groups"]
)
def test_unless_they_differ(how: dict[str, int]) -> None:
    b = Case(1, 4, 4, 4)
    graph = b.after(merge_horizontal, conv(b, 2), conv(b, 2, **how))
    assert labels(graph) == ["conv", "conv"]


def test_unless_they_are_grouped() -> None:
    b = Case(1, 4, 4, 4)
    graph = b.after(merge_horizontal, conv(b, 4, groups=4), conv(b, 4, groups=4))
    assert labels(graph) == ["conv", "conv"]


def test_unless_only_one_has_an_activation() -> None:
    b = Case(1, 4, 3, 3)
    graph = b.after(merge_horizontal, b.fn("relu", conv(b, 2)), conv(b, 8))
    assert labels(graph) == ["conv", "relu", "conv"]
    c = Case(1, 4, 3, 3)
    gated = c.fn("mul", conv(c, 2), c.fn("sigmoid", conv(c, 2)))
    assert labels(c.after(merge_horizontal, gated)).count("conv") == 2


def test_unless_the_weights_vary() -> None:
    b = Case(3, 4)
    w = b.input(np.ones((4, 2), np.float32))
    graph = b.after(merge_horizontal, b.add(MatMul(), b.x, w), b.add(MatMul(), b.x, w))
    assert labels(graph) == ["matmul", "matmul"]


def test_unless_there_are_too_many_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_horizontal, "MAX_CHANNELS", 4)
    b = Case(1, 4, 3, 3)
    assert labels(b.after(merge_horizontal, conv(b, 2), conv(b, 3))) == ["conv", "conv"]
