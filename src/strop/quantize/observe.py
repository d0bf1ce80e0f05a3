"""Statistics of a value, gathered sample by sample in memory that does not grow with the number of samples."""

from __future__ import annotations

import math

import numpy as np

from strop.ir.op import Array

#: Histogram bins on each side of zero.
BINS = 4096
#: Elements that are looked at together; bounds the memory of one observation.
_CHUNK = 1 << 16
#: Keeps the number of bins per unit finite in f32.
_LEAST_REACH = 2.0**-100


class Observer:
    """Least and greatest value, and a histogram over [-reach, reach] of 2 * BINS equal bins.

    The reach is a power of two. When a larger value comes it doubles and neighbouring bins are added up, so the histogram
    is the same whatever the order in which the values came, and two observers of one value can be merged.

    Attributes:
        low, high: least and greatest finite value; inf and -inf before the first.
        count: finite values seen, zeros among them.
        zeros: values that were exactly 0; the histogram leaves them out.
        odd: infinities and NaNs; they are left out of everything else.
        reach: the histogram's bound, 0 while nothing but zeros was seen.
        counts: int64[2 * BINS]; bin k holds values in [(k - BINS) * reach / BINS, (k + 1 - BINS) * reach / BINS), the last
            one its upper bound too.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.count = self.zeros = self.odd = 0
        self.reach = 0.0
        self.counts = np.zeros(2 * BINS, np.int64)

    def see(self, array: Array) -> None:
        """Takes in an array of any shape and numeric dtype."""
        flat = np.asarray(array).reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            self._see(flat[start : start + _CHUNK])

    def _see(self, chunk: Array) -> None:
        chunk = np.asarray(chunk, np.float64 if chunk.dtype == np.float64 else np.float32)
        low, high = float(chunk.min()), float(chunk.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = chunk[np.isfinite(chunk)]
            self.odd += chunk.size - finite.size
            if finite.size == 0:
                return
            chunk, low, high = finite, float(finite.min()), float(finite.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.count += chunk.size
        zeros = chunk.size - int(np.count_nonzero(chunk))
        self.zeros += zeros
        most = max(-low, high)
        if most == 0.0:
            return
        self._grow(_power_above(most))
        places = np.floor(chunk * (BINS / self.reach)).astype(np.int64)  # exact: a product with a power of two
        np.clip(places, -BINS, BINS - 1, out=places)
        self.counts += np.bincount(places + BINS, minlength=2 * BINS)
        self.counts[BINS] -= zeros

    def _grow(self, reach: float) -> None:
        if self.reach == 0.0:
            self.reach = reach
        while self.reach < reach:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(2 * BINS, np.int64)
            self.counts[BINS // 2 : BINS + BINS // 2] = pairs
            self.reach *= 2

    def merge(self, other: Observer) -> None:
        """Takes in all that another observer saw."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.count += other.count
        self.zeros += other.zeros
        self.odd += other.odd
        if other.reach == 0.0:
            return
        wider = Observer()
        wider.counts, wider.reach = other.counts.copy(), other.reach
        wider._grow(max(self.reach, other.reach))
        self._grow(wider.reach)
        self.counts += wider.counts

    @property
    def width(self) -> float:
        """Width of a bin."""
        return self.reach / BINS

    def magnitudes(self) -> Array:
        """Counts of |x| without zeros: int64[BINS] over [0, reach)."""
        return np.asarray(self.counts[BINS:] + self.counts[BINS - 1 :: -1])

    def centres(self) -> Array:
        """The middle of every bin, float64[2 * BINS]."""
        return np.asarray((np.arange(2 * BINS) - BINS + 0.5) * self.width)


def _power_above(value: float) -> float:
    """The least power of two that is not less than a positive number, and from _LEAST_REACH on."""
    mantissa, exponent = math.frexp(value)
    return max(_LEAST_REACH, math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent))
