"""Scales and zero points, and the rounding that they promise: saturating, halves to even, -127..127 for weights."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ops.quantize import Dequantize, Quantize
from strop.quantize.grid import Grid, affine, quantized_weights, symmetric, weight_scales


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 0), (-3, 5), (2, 7), (-9, -2), (0, 0), (-1e-30, 1e-30), (-3e38, 3e38)])
@pytest.mark.parametrize("dtype", [dt.u8, dt.i8])
def test_zero_is_exact_and_the_range_is_covered(low: float, high: float, dtype: dt.DType) -> None:
    grid = affine(low, high, dtype)
    assert grid.rounded(np.zeros(1, np.float32))[0] == 0.0
    assert np.isfinite(grid.scale) and grid.scale > 0
    assert grid.low <= min(low, 0) + grid.scale and grid.high >= max(high, 0) - grid.scale


def test_it_is_the_arithmetic_of_the_ops() -> None:
    x = np.random.default_rng(0).normal(0, 2, 1000).astype(np.float32)
    for grid in (affine(-3, 5), affine(0, 4, dt.i8), symmetric(2.5)):
        scale, zero = np.asarray(grid.scale, np.float32), np.asarray(grid.zero, grid.dtype.numpy)
        (stored,) = Quantize(grid.dtype).reference(x, scale, zero)
        np.testing.assert_array_equal(grid.quantized(x), stored)
        np.testing.assert_array_equal(grid.rounded(x), Dequantize().reference(stored, scale, zero)[0])


def test_halves_go_to_even_and_extremes_saturate() -> None:
    grid = Grid(dt.i8, 1.0, 0)
    given = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 1e30, -128.5, -1e30], np.float32)
    assert grid.quantized(given).tolist() == [0, 2, 2, 0, -2, 127, 127, -128, -128]


def test_weights_have_a_scale_per_channel_and_never_minus_128() -> None:
    rng = np.random.default_rng(1)
    weights = (rng.standard_normal((5, 3, 2, 2)) * np.array([1, 0, 1e-3, 50, -1]).reshape(5, 1, 1, 1)).astype(np.float32)
    scales = weight_scales(weights, 0)
    integers = quantized_weights(weights, scales, 0)
    assert integers.min() >= -127 and (np.abs(integers[[0, 2, 3, 4]]).max(axis=(1, 2, 3)) == 127).all()
    assert not integers[1].any() and scales[1] > 0
    error = np.abs(integers * scales.reshape(5, 1, 1, 1) - weights)
    assert (error <= 0.5001 * scales.reshape(5, 1, 1, 1)).all()
