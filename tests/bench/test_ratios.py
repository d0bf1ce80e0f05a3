"""Statistics of rounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.engine.ratios import geometric_mean, ratio
from strop.errors import OptionError

times = st.floats(1e-3, 1e3)


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was three times as slow in the second round; neither side gains by it.
    found = ratio([2.0, 6.0, 2.2], [1.0, 3.0, 1.0])
    assert (found.median, found.low, found.high) == (2.0, 2.0, 2.2)
    assert found.noise == 0.0


def test_noise_is_the_standard_deviation_of_normal_rounds() -> None:
    rng = np.random.default_rng(0)
    ours = np.full(20_000, 2.0)
    found = ratio((ours * (1 + 0.02 * rng.standard_normal(ours.size))).tolist(), ours.tolist())
    assert found.noise == pytest.approx(0.02, rel=0.05)


def test_a_few_disturbed_rounds_do_not_move_the_noise() -> None:
    quiet = [1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0]
    assert ratio([*quiet, 9.0, 9.0], [1.0] * 9).noise < 0.02


@given(st.lists(st.tuples(times, times), min_size=1, max_size=20))
def test_the_median_lies_between_least_and_greatest(rounds: list[tuple[float, float]]) -> None:
    found = ratio([a for a, _ in rounds], [b for _, b in rounds])
    assert 0 < found.low <= found.median <= found.high
    assert found.noise >= 0


@pytest.mark.parametrize(("theirs", "ours"), [([], []), ([1.0], []), ([1.0, 2.0], [1.0]), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_no_ratio(theirs: list[float], ours: list[float]) -> None:
    with pytest.raises(OptionError, match="no ratio"):
        ratio(theirs, ours)


@given(st.lists(times, min_size=1, max_size=20))
def test_geometric_mean(values: list[float]) -> None:
    assert geometric_mean(values) == pytest.approx(np.exp(np.mean(np.log(values))), rel=1e-9)
    assert geometric_mean([1 / v for v in values]) == pytest.approx(1 / geometric_mean(values), rel=1e-9)


@pytest.mark.parametrize("values", [[], [0.0], [1.0, -2.0]])
def test_no_geometric_mean(values: list[float]) -> None:
    with pytest.raises(OptionError, match="no geometric mean"):
        geometric_mean(values)
