"""Stored weights become floats where a product of floats has many rows."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ops.conv import Conv
from strop.ops.data import Pad
from strop.ops.matmul import MatMul
from strop.ops.norm import BatchNorm
from strop.ops.quantize import Dequantize, Quantize
from strop.optimize import fold_dequantized
from tests.optimize.harness import Case, labels

CONV = Conv((1, 1), (0,) * 4, (1, 1))


def weights(b: Case, *shape: int) -> Value:
    stored = b.const(b.rng.integers(-128, 128, shape).astype(np.int8))
    return b.add(Dequantize(), stored, b.const(np.asarray(0.03, np.float32)))


@pytest.mark.parametrize(("rows", "folds"), [(fold_dequantized.FEW_ROWS, False), (fold_dequantized.FEW_ROWS + 1, True)])
def test_rows_of_a_matrix_product(rows: int, folds: bool) -> None:
    b = Case(rows, 6)
    graph = b.after(fold_dequantized, b.add(MatMul(), b.x, weights(b, 6, 4)), exact=True)
    assert labels(graph) == (["matmul"] if folds else ["dequantize", "matmul"])


def test_a_convolution_of_floats() -> None:
    b = Case(1, 4, 3, 3)
    assert labels(b.after(fold_dequantized, b.add(CONV, b.x, weights(b, 5, 4, 1, 1)), exact=True)) == ["conv"]


def test_unless_both_factors_are_dequantized() -> None:
    b = Case(1, 4, 3, 3)
    scale = b.const(np.asarray(0.05, np.float32))
    x = b.add(Dequantize(), b.add(Quantize(dt.u8), b.x, scale), scale)
    graph = b.after(fold_dequantized, b.add(CONV, x, weights(b, 5, 4, 1, 1)), exact=True)
    assert labels(graph) == ["quantize", "dequantize", "dequantize", "conv"]


def test_unless_what_is_dequantized_is_padded() -> None:
    b = Case(1, 4, 3, 3)
    scale = b.const(np.asarray(0.05, np.float32))
    x = b.add(Pad((0, 0, 1, 1, 0, 0, 0, 0)), b.add(Dequantize(), b.add(Quantize(dt.u8), b.x, scale), scale))
    graph = b.after(fold_dequantized, b.add(CONV, x, weights(b, 5, 4, 1, 1)), exact=True)
    assert labels(graph) == ["quantize", "dequantize", "pad", "dequantize", "conv"]


def test_unless_something_else_reads_them() -> None:
    b = Case(70, 4)
    w = weights(b, 4, 4)
    graph = b.after(fold_dequantized, b.add(MatMul(), b.x, w), b.fn("relu", w))
    assert "dequantize" in labels(graph)


def test_parameters_of_a_batch_norm() -> None:
    b = Case(2, 4, 3, 3)
    ones = b.const(np.ones(4, np.float32))
    y = b.add(BatchNorm(1e-5), b.x, weights(b, 4), ones, ones, ones)
    assert labels(b.after(fold_dequantized, y, exact=True)) == ["batch_norm"]
