"""Scaling of stored integers spelled out, and rows picked from them."""

from __future__ import annotations

import numpy as np

from strop.ir import dtype as dt
from strop.ops.elementwise import Cast
from strop.ops.index import Gather
from strop.ops.matmul import MatMul
from strop.ops.quantize import Dequantize
from strop.optimize import recognize_dequantize
from tests.optimize.harness import Case, labels, only


def stored(b: Case, *shape: int) -> object:
    return b.const(b.rng.integers(-128, 128, shape).astype(np.int8))


def test_a_cast_times_a_scale() -> None:
    b = Case(2, 6)
    real = b.fn("mul", b.add(Cast(dt.f32), stored(b, 6, 4)), b.const(b.rng.uniform(0.1, 1, (1, 4)).astype(np.float32)))
    graph = b.after(recognize_dequantize, b.add(MatMul(), b.x, real), exact=True)
    assert labels(graph) == ["dequantize", "matmul"]


def test_unless_the_scale_enlarges_the_weights() -> None:
    b = Case(3)
    real = b.fn("mul", b.add(Cast(dt.f32), stored(b, 1, 4)), b.const(b.rng.uniform(0.1, 1, (3, 4)).astype(np.float32)))
    assert "dequantize" not in labels(b.after(recognize_dequantize, b.fn("add", real, 1.0)))


def test_rows_are_scaled_after_they_are_picked() -> None:
    b = Case(3)
    indices = b.const(np.array([[1, 7, 0], [7, 7, 2]], np.int64))
    table = b.add(Dequantize(), stored(b, 9, 5), b.const(b.rng.uniform(0.1, 1, (9, 1)).astype(np.float32)))
    graph = b.after(recognize_dequantize, b.fn("add", b.add(Gather(0), table, indices), 1.0), exact=True)
    assert labels(graph) == ["gather", "gather", "dequantize", "add"]
    assert only(graph, "dequantize").operand(0).dtype is dt.i8


def test_one_scale_is_not_picked() -> None:
    b = Case(3)
    table = b.add(Dequantize(), stored(b, 9, 5), b.const(np.asarray(0.25, np.float32)))
    graph = b.after(recognize_dequantize, b.add(Gather(0), table, b.const(np.array([1, 7], np.int64))), exact=True)
    assert labels(graph) == ["gather", "dequantize"]


def test_unless_the_scale_varies_along_another_axis() -> None:
    b = Case(3)
    table = b.add(Dequantize(), stored(b, 9, 5), b.const(b.rng.uniform(0.1, 1, (5,)).astype(np.float32)))
    graph = b.after(recognize_dequantize, b.add(Gather(0), table, b.const(np.array([1, 7], np.int64))))
    assert labels(graph) == ["dequantize", "gather"]
