"""Batch normalization goes into the convolution before it, or becomes a scale and a shift."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir.graph import Value
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.norm import BatchNorm
from strop.optimize import fold_batchnorm
from tests.optimize.harness import Case, constant, labels, only

PLAIN = ((1, 1), (1, 1, 1, 1), (1, 1))


def norm(b: Case, x: Value, channels: int) -> Value:
    var = b.const((b.rng.random(channels) + 0.1).astype(np.float32))
    params = [b.normal(channels) for _ in range(3)]
    return b.add(BatchNorm(1e-3), x, *params, var)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_into_convolution(bias: bool, groups: int) -> None:
    b = Case(1, 4, 5, 5)
    w, bias_value = b.normal(6, 4 // groups, 3, 3), b.normal(6) if bias else None
    y = norm(b, b.add(Conv(*PLAIN, groups), b.x, w, bias_value), 6)
    graph = b.after(fold_batchnorm, y)
    assert labels(graph) == ["conv"]
    assert graph.nodes[0].source == ("node_1", "node_2") and graph.nodes[0].name == "batch_norm"
    assert constant(graph.nodes[0], 1).dtype == np.float32


@pytest.mark.parametrize("groups", [1, 2])
def test_into_transposed_convolution(groups: int) -> None:
    b = Case(1, 4, 3, 3)
    op = ConvTranspose((2, 2), (0, 0, 0, 0), (1, 1), groups, (0, 0))
    y = norm(b, b.add(op, b.x, b.normal(4, 3, 2, 2)), 3 * groups)
    assert labels(b.after(fold_batchnorm, y)) == ["conv_transpose"]


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_without_a_convolution(shape: tuple[int, ...]) -> None:
    b = Case(*shape)
    graph = b.after(fold_batchnorm, norm(b, b.x, 3))
    assert labels(graph) == ["mul", "add"]
    assert constant(only(graph, "mul"), 1).shape == (3, *[1] * (len(shape) - 2))


def test_unless_the_convolution_is_read_elsewhere() -> None:
    b = Case(1, 4, 5, 5)
    inner = b.add(Conv(*PLAIN), b.x, b.normal(6, 4, 3, 3))
    assert labels(b.after(fold_batchnorm, norm(b, inner, 6), inner)) == ["conv", "mul", "add"]


def test_unless_the_convolution_is_channels_last() -> None:
    b = Case(1, 4, 6, 3)
    inner = b.add(Conv(*PLAIN, 1, "NHWC"), b.x, b.normal(6, 3, 3, 3))
    assert labels(b.after(fold_batchnorm, norm(b, inner, 4))) == ["conv", "mul", "add"]


def test_unless_an_operand_varies() -> None:
    b = Case(1, 3, 2, 2)
    mean = b.input(np.ones(3, np.float32))
    y = b.add(BatchNorm(1e-3), b.x, b.normal(3), b.normal(3), mean, b.const(np.ones(3, np.float32)))
    assert labels(b.after(fold_batchnorm, y)) == ["batch_norm"]


def test_unless_a_number_would_be_infinite() -> None:
    b = Case(1, 1, 2, 2)
    scale, var = b.const(np.array([3e38], np.float32)), b.const(np.array([1e-4], np.float32))
    zero = b.const(np.zeros(1, np.float32))
    y = b.add(BatchNorm(0.0), b.fn("mul", b.x, 0.0), scale, zero, zero, var)
    assert labels(b.after(fold_batchnorm, y)) == ["mul", "batch_norm"]
