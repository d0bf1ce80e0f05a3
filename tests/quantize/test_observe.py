"""Streaming statistics against what numpy says of all values at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from strop.quantize.observe import BINS, Observer


def seen(*arrays: np.ndarray) -> Observer:
    found = Observer()
    for array in arrays:
        found.see(array)
    return found


def test_counts_are_those_of_numpys_histogram() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, s, 3000).astype(np.float32) for s in (0.1, 3.0, 0.5, 40.0)]
    whole = np.concatenate(parts)
    found = seen(*parts)
    assert (found.low, found.high, found.count) == (whole.min(), whole.max(), whole.size)
    assert found.reach / 2 < np.abs(whole).max() <= found.reach and np.log2(found.reach) % 1 == 0
    wanted, _ = np.histogram(whole.astype(np.float64), bins=2 * BINS, range=(-found.reach, found.reach))
    np.testing.assert_array_equal(found.counts, wanted)


def test_order_and_grouping_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    parts = [(rng.standard_normal(500) * 2.0**k).astype(np.float32) for k in (-9, 4, 0, 7)]
    one, other = seen(*parts), seen(*parts[::-1])
    merged = seen(*parts[:2])
    merged.merge(seen(*parts[2:]))
    for found in (other, merged):
        assert (found.reach, found.low, found.high, found.count) == (one.reach, one.low, one.high, one.count)
        np.testing.assert_array_equal(found.counts, one.counts)


def test_zeros_and_what_is_not_finite_are_counted_apart() -> None:
    found = seen(np.array([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, -2.0], np.float32), np.full(3, np.nan))
    assert (found.zeros, found.odd, found.count, found.low, found.high) == (2, 6, 4, -2.0, 1.0)
    assert found.counts.sum() == 2 and found.reach == 2.0


def test_only_zeros() -> None:
    found = seen(np.zeros(10, np.float32))
    assert (found.reach, found.low, found.high, found.zeros, found.counts.sum()) == (0.0, 0.0, 0.0, 10, 0)


@pytest.mark.parametrize("value", [1.0, 1.5, 3e38, 1e-25, 0.25])
def test_the_reach_is_the_next_power_of_two(value: float) -> None:
    found = seen(np.array([value, -value], np.float32))
    assert found.reach / 2 < float(np.float32(value)) <= found.reach and found.counts[0] + found.counts[-1] <= 2


def test_tiny_values_have_a_histogram() -> None:
    found = seen(np.array([1e-40, -1e-45, 0.0], np.float32))
    assert found.counts.sum() == 2 and found.counts[BINS - 1] == found.counts[BINS] == 1


def test_magnitudes_fold_the_histogram() -> None:
    found = seen(np.array([-0.50001, 0.50001, 0.25001, -0.9], np.float32))
    folded = found.magnitudes()
    assert folded.sum() == 4 and folded.size == BINS
    np.testing.assert_allclose(np.flatnonzero(folded) * found.width, [0.25, 0.5, 0.9], atol=found.width)


def test_memory_does_not_grow_with_samples() -> None:
    array = np.random.default_rng(2).standard_normal(200_000).astype(np.float32)
    found = seen(array)
    tracemalloc.start()
    for _ in range(50):
        found.see(array)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 200_000 and peak < 4_000_000
