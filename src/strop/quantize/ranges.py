"""Calibrators: from what an observer saw to the range that the integers shall cover. Values outside saturate.

A calibrator is named in text, with parameters after a colon: ``entropy2``, ``percentile:99.9``,
``legacy:quantile=0.999,regression=0.5``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from strop.errors import OptionError
from strop.ir.op import Array
from strop.quantize.grid import affine
from strop.quantize.observe import BINS, Observer

#: Clip thresholds are tried in steps of this many bins.
_STRIDE = 4
#: Integers that magnitudes are spread over: of a signed value, and of one that is never negative.
_LEVELS = {True: 128, False: 256}
#: Share of a bin that only values from beyond a threshold fall into, in the distribution that does not know them.
_MISSING = 1e-4


@dataclass(frozen=True)
class Calibrator:
    """An algorithm with its parameters.

    Attributes:
        text: how the user names it; stands in range tables.
        function: from an observer that saw something else than zeros to (low, high).
    """

    text: str
    function: Callable[[Observer], tuple[float, float]]

    def range_of(self, seen: Observer) -> tuple[float, float]:
        """The range (low, high), within what was seen; (0, 0) where nothing but zeros was."""
        if seen.count == 0 or seen.reach == 0.0:
            return 0.0, 0.0
        low, high = self.function(seen)
        return max(low, seen.low), min(high, seen.high)


def parse(text: str) -> Calibrator:
    """The calibrator that a text names.

    Raises:
        OptionError: unknown name or parameter, or a parameter that is out of bounds.
    """
    name, _, rest = text.partition(":")
    if name not in CALIBRATORS:
        raise OptionError("unknown calibrator", got=text, expected=", ".join((*CALIBRATORS, BEST)))
    function, known = CALIBRATORS[name]
    given: dict[str, float] = {}
    for index, part in enumerate(p for p in rest.split(",") if p):
        key, _, number = part.rpartition("=")
        key = key.strip() or (list(known)[index] if index < len(known) else "")
        try:
            value = float(number)
        except ValueError:
            value = np.nan
        if key not in known or not known[key][1] <= value <= known[key][2]:
            expected = ", ".join(f"{k} from {low:g} to {high:g}" for k, (_, low, high) in known.items())
            raise OptionError("unusable parameter of a calibrator", where=text, got=part, expected=expected or f"none for {name}")
        given[key] = value
    values = {key: given.get(key, default) for key, (default, _, _) in known.items()}
    return Calibrator(text, lambda seen: function(seen, **values))


def minmax(seen: Observer) -> tuple[float, float]:
    """All that was seen: nothing saturates."""
    return seen.low, seen.high


def percentile(seen: Observer, percent: float) -> tuple[float, float]:
    """The least interval of whole bins that leaves at most 100 - percent of the values outside at either end.

    Wu et al., 2020, "Integer Quantization for Deep Learning Inference", section 3.3, here for each side by itself.
    """
    counts = seen.counts.copy()
    counts[BINS] += seen.zeros
    allowed = (1.0 - percent / 100.0) * seen.count
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])
    first = int(np.searchsorted(below, allowed, side="right"))
    last = 2 * BINS - 1 - int(np.searchsorted(above, allowed, side="right"))
    return (first - BINS) * seen.width, (last + 1 - BINS) * seen.width


def mse(seen: Observer, power: float) -> tuple[float, float]:
    """The range whose 8-bit grid gives the least mean of |error| to a power, saturation included, over the histogram's bin centres.

    Above 2 errors of saturation, which are the large ones, weigh more against those of rounding.

    Sung, Shin and Hwang, 2015, "Resiliency of Deep Neural Networks under Quantization", with an exhaustive search over clip
    thresholds.
    """
    used = np.flatnonzero(seen.counts)
    centres, weights = seen.centres()[used], seen.counts[used].astype(np.float64)
    best, chosen = np.inf, (seen.low, seen.high)
    for bins in range(BINS, BINS // 64, -4 * _STRIDE):
        low, high = max(seen.low, -bins * seen.width), min(seen.high, bins * seen.width)
        grid = affine(low, high)
        error = float(np.dot(weights, np.abs(centres - grid.rounded(centres)) ** power))
        if error < best:
            best, chosen = error, (low, high)
    return chosen


def entropy(seen: Observer) -> tuple[float, float]:
    """The clip threshold on |x| that loses least information: least Kullback-Leibler divergence (``divergence``).

    S. Migacz, "8-bit Inference with TensorRT", GTC 2017. Zeros count as small values.
    """
    counts = seen.magnitudes()
    counts[0] += seen.zeros
    return _clipped(seen, _least_divergence(counts, _LEVELS[seen.low < 0.0]))


def entropy2(seen: Observer) -> tuple[float, float]:
    """As ``entropy``, over the values that are not zero: a zero is exact on every grid and says nothing about its step.

    Without them the spike that a ReLU makes does not outweigh all other values. (What NVIDIA's EntropyCalibrator2 does in this
    place is not published; its PyTorch quantization toolkit replaces the first bin by the second one for the same reason.)
    """
    return _clipped(seen, _least_divergence(seen.magnitudes(), _LEVELS[seen.low < 0.0]))


def _clipped(seen: Observer, bins: int) -> tuple[float, float]:
    return -bins * seen.width, bins * seen.width


def _least_divergence(counts: Array, levels: int) -> int:
    """How many bins of a histogram of magnitudes lie below the threshold of least divergence; the widest among equals."""
    used = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else levels
    best, chosen = np.inf, used
    for bins in range(max(used, levels), levels - 1, -_STRIDE):
        found = divergence(counts, bins, levels)
        if found < best:
            best, chosen = found, bins
    return chosen


def divergence(counts: Array, bins: int, levels: int) -> float:
    """KL(P || Q) in nats: P is the first ``bins`` counts with all later ones added to the last; Q is what ``levels`` equal groups of
    the first ``bins`` counts, without the later ones, can tell of them: each group's sum spread evenly over its bins that are not empty.

    Where Q is 0 and P is not, the last bin at most, Q gets the share _MISSING, and the rest of it as much less. Infinite when all of Q is 0.
    """
    part = counts[:bins].astype(np.float64)
    clipped = part.copy()
    clipped[-1] += float(counts[bins:].sum())
    starts = np.arange(levels) * bins // levels
    full = part > 0
    if not full.any():
        return float("inf")
    sums, members = np.add.reduceat(part, starts), np.add.reduceat(full.astype(np.float64), starts)
    even = np.divide(sums, members, out=np.zeros(levels), where=members > 0)
    spread = np.repeat(even, np.diff(np.append(starts, bins))) * full
    p, q = clipped / clipped.sum(), spread / spread.sum()
    if p[-1] > 0 and q[-1] == 0:
        q *= 1 - _MISSING
        q[-1] = _MISSING
    present = p > 0
    return float(np.sum(p[present] * np.log(p[present] / q[present])))


def legacy(seen: Observer, quantile: float, regression: float) -> tuple[float, float]:
    """The parameters of TensorRT's IInt8LegacyCalibrator: a quantile of |x|, then a tail cut off by regression.

    The threshold is the quantile of |x|. With a regression cutoff below 1 it is then lowered, but not below cutoff * threshold, to where the
    line of least squares through the logarithms of the counts between the two falls to one value per bin: beyond, single
    values are outliers of the tail that the line describes. (NVIDIA documents the parameters, not the formula.)
    """
    counts = seen.magnitudes()
    total = np.cumsum(counts) + seen.zeros
    bins = min(int(np.searchsorted(total, quantile * seen.count, side="left")) + 1, BINS)
    first = int(regression * bins)
    tail = np.arange(first, bins)
    tail = tail[counts[tail] > 0]
    if regression < 1.0 and tail.size >= 2:
        slope, level = np.polyfit(tail.astype(np.float64), np.log(counts[tail].astype(np.float64)), 1)
        if slope < 0.0:
            bins = int(np.clip(np.ceil(-level / slope), max(first, 1), bins))
    return _clipped(seen, bins)


#: Not a function of what was seen of a value: of TRIED the one whose ranges leave most signal at the network's outputs, see ``engine/precision.py``.
BEST = "best"
TRIED = ("mse", "mse:3")
#: Name: the function, and its parameters with default, least and greatest value.
CALIBRATORS: Mapping[str, tuple[Callable[..., tuple[float, float]], dict[str, tuple[float, float, float]]]] = {
    "minmax": (minmax, {}),
    "entropy": (entropy, {}),
    "entropy2": (entropy2, {}),
    "percentile": (percentile, {"percent": (99.99, 50.0, 100.0)}),
    "mse": (mse, {"power": (2.0, 1.0, 8.0)}),
    "legacy": (legacy, {"quantile": (0.9999, 0.5, 1.0), "regression": (1.0, 0.0, 1.0)}),
}
