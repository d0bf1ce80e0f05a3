"""Calibrators against formulas written independently, on raw values instead of histograms where that is possible."""

from __future__ import annotations

import math

import numpy as np
import pytest

from strop.errors import OptionError
from strop.quantize.observe import BINS, Observer
from strop.quantize.ranges import CALIBRATORS, divergence, parse

RNG = np.random.default_rng(0)
SHAPES = {
    "normal": RNG.standard_normal(20000),
    "relu": np.maximum(RNG.standard_normal(20000), 0.0),
    "heavy tail": RNG.standard_t(2, 20000),
    "one-sided": -np.abs(RNG.standard_normal(20000)),
    "outlier": np.append(RNG.standard_normal(20000), 300.0),
    "uniform": RNG.uniform(-1, 3, 20000),
}


def observer(values: np.ndarray) -> Observer:
    found = Observer()
    found.see(values.astype(np.float32))
    return found


@pytest.fixture(params=SHAPES)
def values(request: pytest.FixtureRequest) -> np.ndarray:
    return SHAPES[request.param].astype(np.float32)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_ranges_lie_within_what_was_seen(name: str, values: np.ndarray) -> None:
    low, high = parse(name).range_of(observer(values))
    assert values.min() <= low <= high <= values.max() and high - low > 0


@pytest.mark.parametrize("name", CALIBRATORS)
def test_zeros_alone_have_an_empty_range(name: str) -> None:
    assert parse(name).range_of(observer(np.zeros(5))) == (0.0, 0.0)
    assert parse(name).range_of(Observer()) == (0.0, 0.0)


def test_minmax_is_exact(values: np.ndarray) -> None:
    assert parse("minmax").range_of(observer(values)) == (values.min(), values.max())


@pytest.mark.parametrize("percent", [99.9, 99.0, 90.0])
def test_percentiles_are_those_of_the_values(percent: float, values: np.ndarray) -> None:
    seen = observer(values)
    low, high = parse(f"percentile:{percent}").range_of(seen)
    outside = (100 - percent) / 100 * values.size
    assert (values < low).sum() <= outside and (values > high).sum() <= outside
    assert abs(low - np.quantile(values, 1 - percent / 100, method="lower")) <= seen.width * 1.01
    assert abs(high - np.quantile(values, percent / 100, method="higher")) <= seen.width * 1.01


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    """Of rounding to 256 levels over [low, high] with an exact zero, in float64."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255
    zero = round(-low / step)
    levels = np.clip(np.round(values.astype(np.float64) / step) + zero, 0, 255)
    return float(np.mean((values - (levels - zero) * step) ** 2))


def test_mse_is_as_good_as_the_best_clip_of_the_values(values: np.ndarray) -> None:
    most = np.abs(values).max()
    tried = [squared_error(values, max(values.min(), -c), min(values.max(), c)) for c in np.linspace(most / 50, most, 400)]
    assert squared_error(values, *parse("mse").range_of(observer(values))) <= 1.03 * min(tried)


def test_a_higher_power_saturates_less() -> None:
    seen = observer(SHAPES["heavy tail"].astype(np.float32))
    highs = [parse(f"mse:{power}").range_of(seen)[1] for power in (1, 2, 3, 8)]
    assert highs == sorted(highs) and highs[0] < highs[2] <= seen.high and parse("mse:2").range_of(seen) == parse("mse").range_of(seen)


def plain_divergence(counts: list[int], bins: int, levels: int) -> float:
    """The formula of the GTC talk in loops."""
    p = [float(c) for c in counts[:bins]]
    p[-1] += sum(counts[bins:])
    q = [0.0] * bins
    for level in range(levels):
        members = range(level * bins // levels, (level + 1) * bins // levels)
        full = [k for k in members if counts[k] > 0]
        for k in full:
            q[k] = sum(counts[m] for m in members) / len(full)
    if not any(q):
        return math.inf
    p, q = [a / sum(p) for a in p], [b / sum(q) for b in q]
    if p[-1] > 0 and q[-1] == 0:
        q = [0.9999 * b for b in q[:-1]] + [0.0001]
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("seed", range(4))
def test_divergence_is_the_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(3 * np.exp(-np.arange(64) / 12)).astype(np.int64)
    for bins in range(8, 65, 3):
        assert divergence(counts, bins, 8) == pytest.approx(plain_divergence(list(counts), bins, 8), rel=1e-9)


@pytest.mark.parametrize("name", ["entropy", "entropy2"])
def test_entropy_takes_the_threshold_of_least_divergence(name: str) -> None:
    values = SHAPES["heavy tail"].astype(np.float32)
    seen = observer(values)
    counts = seen.magnitudes()
    used = int(np.flatnonzero(counts)[-1]) + 1
    found = [(divergence(counts, bins, 128), -bins) for bins in range(used, 127, -4)]
    assert parse(name).function(seen)[1] == -min(found)[1] * seen.width


def test_entropy2_is_not_moved_by_zeros() -> None:
    plain = np.abs(RNG.standard_normal(30000)).astype(np.float32) + np.float32(1e-3)
    padded = np.concatenate([plain, np.zeros(300000, np.float32)])
    assert parse("entropy2").range_of(observer(plain))[1] == parse("entropy2").range_of(observer(padded))[1]
    assert parse("entropy").range_of(observer(plain))[1] != parse("entropy").range_of(observer(padded))[1]


def test_robust_calibrators_leave_an_outlier_out() -> None:
    seen = observer(SHAPES["outlier"])
    for name in ("entropy", "entropy2", "percentile", "legacy"):
        assert parse(name).range_of(seen)[1] < 150, name


def test_legacy_quantile_and_regression() -> None:
    values = RNG.exponential(1.0, 200_000).astype(np.float32)
    seen = observer(values)
    _, high = parse("legacy:quantile=0.999").range_of(seen)
    assert abs(high - np.quantile(values, 0.999)) <= 2 * seen.width
    # the tail of an exponential falls to one value per bin at log(n * width)
    _, cut = parse("legacy:quantile=1,regression=0.1").range_of(seen)
    assert abs(cut - math.log(values.size * seen.width)) < 1.0
    assert 0.5 * values.max() <= parse("legacy:quantile=1,regression=0.5").range_of(seen)[1] <= values.max()


def test_the_histogram_is_fine_enough_for_entropy() -> None:
    assert BINS >= 16 * 256


@pytest.mark.parametrize("text", ["median", "percentile:101", "percentile:x", "mse:9", "minmax:3", "best:2", "legacy:cutoff=1", "percentile:99,98"])
def test_what_is_refused(text: str) -> None:
    with pytest.raises(OptionError) as error:
        parse(text)
    assert error.value.expected
