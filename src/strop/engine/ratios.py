"""Statistics of interleaved measurements: ratios per round, their spread, and geometric means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from strop.errors import OptionError

#: Median absolute deviation to standard deviation of a normal distribution: 1 / (the 3/4 quantile of the standard normal).
_MAD_TO_SIGMA = 1.482602


@dataclass(frozen=True)
class Ratio:
    """How many times as long one takes as another.

    Attributes:
        median: of the ratios of the rounds.
        low: the least of them.
        high: the greatest.
        noise: relative spread of the rounds: 1.4826 x median absolute deviation / median, which is the standard
            deviation when they are normally distributed, and is not moved by a few disturbed rounds.
    """

    median: float
    low: float
    high: float
    noise: float


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
    """The ratio of two measurements that were taken in turn: round k of one is set against round k of the other.

    Raises:
        OptionError: no rounds, not as many on both sides, or a time that is not positive.
    """
    if not theirs or len(theirs) != len(ours) or min(*theirs, *ours) <= 0:
        raise OptionError("no ratio", got=f"{list(theirs)} by {list(ours)}", expected="as many positive times on both sides")
    rounds = [a / b for a, b in zip(theirs, ours)]
    middle = median(rounds)
    return Ratio(middle, min(rounds), max(rounds), _MAD_TO_SIGMA * median(abs(r - middle) for r in rounds) / middle)


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product.

    Raises:
        OptionError: no values, or one that is not positive.
    """
    if not values or min(values) <= 0:
        raise OptionError("no geometric mean", got=list(values), expected="positive numbers")
    return math.exp(math.fsum(map(math.log, values)) / len(values))
