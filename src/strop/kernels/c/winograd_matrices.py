"""Winograd's minimal filtering along one axis: exact matrices by Cook-Toom, any stride, tiles of several sizes with common filters.

Strides are taken apart into phases: output i of stride s is the sum over p < s of the plain correlation of the samples p, p + s, ...
with the taps p, p + s, ... A phase of one tap needs a multiplication per output and no transform. A phase of t taps becomes
F(m, t): the filter's polynomial is evaluated at the first m + t - 2 of the points 0, 1, -1, 2, -2, 1/2, -1/2, 3/4, -3/4, 4/3, -4/3 and
at infinity.

A filter's value at a point depends on the point alone, but for a scale: Cook-Toom's 1/N = 1 / prod(p - q) over the other points q of the
tile. Filters carry the scale of the largest tile; smaller ones, which use a subset of its points, make up for it in ``at``.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from strop.ir.op import Array

_POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-2", "1/2", "-1/2", "3/4", "-3/4", "4/3", "-4/3")))

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class Form:
    """One tile: y = at [u[filters] * (bt d)], ``m`` results from ``inputs`` samples.

    Attributes:
        m: results.
        inputs: samples, stride * (m - 1) + taps.
        filters: per point the number of the transformed filter that it multiplies with.
        at: [m][points].
        bt: [points][inputs].
    """

    m: int
    inputs: int
    filters: tuple[int, ...]
    at: Matrix
    bt: Matrix

    @property
    def points(self) -> int:
        """Products per tile."""
        return len(self.filters)


@dataclass(frozen=True)
class Filtering:
    """Tiles of one axis that share their transformed filters u = g w.

    Attributes:
        g: [filters][taps].
        forms: one per tile size, in the order asked for.
    """

    g: Matrix
    forms: tuple[Form, ...]


def phases(taps: int, stride: int) -> list[int]:
    """Taps of each phase that has any."""
    return [-(-(taps - p) // stride) for p in range(min(stride, taps))]


def points_of(m: int, taps: int, stride: int) -> int:
    """Products of a tile of ``m`` results."""
    return sum(m + t - 1 for t in phases(taps, stride))


@lru_cache(maxsize=256)
def filtering(sizes: tuple[int, ...], taps: int, stride: int = 1) -> Filtering:
    """The matrices for tiles of the given sizes, all different."""
    largest = max(sizes)
    g: list[Sequence[Fraction]] = []
    parts: list[list[_Part]] = [[] for _ in sizes]
    for first, t in enumerate(phases(taps, stride)):
        base = len(g)
        for values in _filter_values(largest, t):
            row = [Fraction(0)] * taps
            row[first::stride] = values
            g.append(row)
        for k, m in enumerate(sizes):
            inputs = stride * (m - 1) + taps
            at, bt, numbers = _phase(m, t, largest)
            spread = []
            for line in bt:
                row = [Fraction(0)] * inputs
                row[first : first + stride * len(line) : stride] = line
                spread.append(row)
            parts[k].append(_Part(at, spread, [base + n for n in numbers]))
    return Filtering(_matrix(g), tuple(_joined(m, stride * (m - 1) + taps, p) for m, p in zip(sizes, parts, strict=True)))


@dataclass(frozen=True)
class _Part:
    """A phase's share of a Form."""

    at: list[list[Fraction]]
    bt: list[list[Fraction]]
    filters: list[int]


def _joined(m: int, inputs: int, parts: Sequence[_Part]) -> Form:
    at = [[v for part in parts for v in part.at[i]] for i in range(m)]
    bt = [row for part in parts for row in part.bt]
    return Form(m, inputs, tuple(f for part in parts for f in part.filters), _matrix(at), _matrix(bt))


def _matrix(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)


def _points(m: int, t: int) -> tuple[Fraction, ...]:
    """The finite points of F(m, t)."""
    assert m + t - 2 <= len(_POINTS), f"F({m}, {t}) has too many points"
    return _POINTS[: m + t - 2]


def _scales(points: Sequence[Fraction]) -> list[Fraction]:
    """Cook-Toom's N of each point."""
    return [_product([p - q for q in points if q != p]) for p in points]


def _filter_values(m: int, t: int) -> list[list[Fraction]]:
    """[points][t]: what maps the taps of a phase to their values, for tiles of up to ``m`` results."""
    if t == 1:
        return [[Fraction(1)]]
    points = _points(m, t)
    rows = [[p**j / s for j in range(t)] for p, s in zip(points, _scales(points), strict=True)]
    return [*rows, [Fraction(int(j == t - 1)) for j in range(t)]]


def _phase(m: int, t: int, largest: int) -> tuple[list[list[Fraction]], list[list[Fraction]], list[int]]:
    """at [m][points], bt [points][m + t - 1] and the filter number of each point, for filters made for ``largest``."""
    if t == 1:
        identity = [[Fraction(int(i == j)) for j in range(m)] for i in range(m)]
        return identity, identity, [0] * m
    points, all_points = _points(m, t), _points(largest, t)
    scales = _scales(points)
    ratios = [n / s for n, s in zip(_scales(all_points), scales, strict=False)]
    at = [[ratio * p**i for p, ratio in zip(points, ratios, strict=True)] + [Fraction(int(i == m - 1))] for i in range(m)]
    bt = [[*_coefficients([q for q in points if q != p]), Fraction(0)] for p in points]
    bt.append(_coefficients(points))
    return at, bt, [*range(len(points)), len(all_points)]


def _product(values: Sequence[Fraction]) -> Fraction:
    total = Fraction(1)
    for value in values:
        total *= value
    return total


def _coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the monic polynomial with these roots, constant term first."""
    poly = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *poly]
        poly = [a - root * b for a, b in zip(shifted, [*poly, Fraction(0)], strict=True)]
    return poly


def floats(matrix: Matrix) -> Array:
    """The matrix in f64."""
    return np.array(matrix, dtype=np.float64)
