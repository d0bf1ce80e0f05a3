"""Fits the coefficients of ``strop.target.isa.vecmath`` and prints them with the error each fit leaves.

Method. A function is written as ``known(x) + shape(x) * P(z)`` with an exactly known leading part, so that the relative error near zeros
of the function stays small. P is found by Lawson's algorithm: weighted least squares on Chebyshev points, where each weight is multiplied
by the size of the error at its point until the largest errors are level (the minimax solution). Coefficients are then rounded to the
working precision one by one from the lowest power on, and those left are fitted again, so that later ones make up for the rounding of
earlier ones. Function values come from mpmath with 40 digits.

Run: python tools/fit_vecmath.py   (needs numpy and mpmath)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

mpmath.mp.dps = 40
Array = np.ndarray[Any, Any]


def points(low: float, high: float, count: int = 600) -> Array:
    """Chebyshev points of an interval; 0 is avoided because the weights divide by the function."""
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(count) + 0.5) / count)
    return x[np.abs(x) > 1e-4]


def exact(function: Callable[[Any], Any], x: Array) -> Array:
    """Values from mpmath, rounded once."""
    return np.array([float(function(mpmath.mpf(float(v)))) for v in x])


def lawson(basis: Array, target: Array, weight: Array, rounds: int = 200) -> Array:
    """Coefficients c that make max |weight * (basis @ c - target)| smallest."""
    lawson_weight = np.ones(len(target))
    best, best_error = np.zeros(basis.shape[1]), np.inf
    for _ in range(rounds):
        scale = np.sqrt(lawson_weight) * weight
        c, *_ = np.linalg.lstsq(basis * scale[:, None], target * scale, rcond=None)
        error = np.abs(weight * (basis @ c - target))
        if error.max() < best_error:
            best, best_error = c, error.max()
        lawson_weight *= error / error.max() + 1e-3
        lawson_weight /= lawson_weight.mean()
    return best


def polynomial(
    name: str,
    degree: int,
    interval: tuple[float, float],
    wanted: Callable[[Any], Any],
    shape: Callable[[Array], Array],
    argument: Callable[[Array], Array],
    of: Callable[[Any], Any],
    precision: type = np.float32,
) -> list[float]:
    """Fits wanted(x) ~ P(argument(x)), with weight |shape(x) / of(x)|: the relative error of ``of``."""
    x = points(*interval)
    target = exact(wanted, x)
    weight = np.abs(shape(x) / exact(of, x))
    basis = np.vander(argument(x), degree + 1, increasing=True)
    fixed: list[float] = []
    for k in range(degree + 1):
        rest = target - basis[:, :k] @ np.array(fixed)
        c = lawson(basis[:, k:], rest, weight)
        fixed.append(float(precision(c[0])))
    error = np.abs(weight * (basis @ np.array(fixed) - target)).max()
    report(name, fixed, error, precision)
    return fixed


def pieces(name: str, degree: int, count: int, width: float, of: Callable[[Any], Any]) -> None:
    """Fits an odd function on ``count`` intervals about 0, width, 2 width ... (the first one half as long), with the smallest relative
    error, by polynomials in the distance from the middle. Prints one row per power, one column per interval. The function's limit, 1, stands for the last interval."""
    table = np.zeros((degree + 1, count))
    largest = 0.0
    table[0, -1] = 1.0
    for k in range(count - 1):
        x = points(max(0.0, k - 0.5) * width, (k + 0.5) * width, 80)
        target = exact(of, x)
        basis = np.vander(x - k * width, degree + 1, increasing=True)
        for j in range(1 if k == 0 else 0, degree + 1):
            rest = target - basis[:, :j] @ table[:j, k]
            table[j, k] = np.float32(lawson(basis[:, j:], rest, 1 / target)[0])
        largest = max(largest, float(np.abs(basis @ table[:, k] / target - 1).max()))
    for j, row in enumerate(table):
        report(f"{name} power {j}", list(row), largest, np.float32)


def report(name: str, coefficients: list[float], error: float, precision: type) -> None:
    """Prints coefficients from the lowest power on."""
    kind = np.float32 if precision is np.float32 else np.float64
    print(f"{name}: relative error {error:.2e} ({np.log2(error):.1f} bits)")
    print("    (" + ", ".join(str(kind(c)) for c in coefficients) + ")")


def main() -> None:
    """Prints every table of vecmath."""
    half_ln2 = float(mpmath.log(2) / 2) * 1.0001
    quarter_pi = float(mpmath.pi / 4) * 1.0001
    root = float(mpmath.sqrt(2))
    edge = (root - 1) / (root + 1) * 1.0001
    mp = mpmath

    def same(x: Array) -> Array:
        return x

    def square(x: Array) -> Array:
        return x * x

    def cube(x: Array) -> Array:
        return x**3

    def log2_of(s: Any) -> Any:
        return mp.log((1 + s) / (1 - s), 2)

    near = (-half_ln2, half_ln2)
    polynomial("EXP", 4, near, lambda r: (mp.expm1(r) - r) / r**2, square, same, mp.exp)
    polynomial("EXPM1", 5, near, lambda r: (mp.expm1(r) - r) / r**2, square, same, mp.expm1)
    rest = (-0.25, 0.5)
    polynomial("LOG", 7, rest, lambda f: (mp.log1p(f) - f + f**2 / 2) / f**3, cube, same, mp.log1p)

    def slope(x: Array) -> Array:  # of tanh(x + x P), by P
        return np.array([float(v * (1 - mp.erf(v) ** 2)) for v in map(mp.mpf, map(float, x))])

    polynomial("ERF", 8, (0, 3.95), lambda x: mp.atanh(mp.erf(x)) / x - 1, slope, square, mp.erf)
    pieces("ERF_PIECES", 4, 32, 0.125, mp.erf)
    turn = (-quarter_pi, quarter_pi)
    polynomial("SIN", 2, turn, lambda x: (mp.sin(x) - x) / x**3, cube, square, mp.sin)
    polynomial("COS", 2, turn, lambda x: (mp.cos(x) - 1 + x**2 / 2) / x**4, lambda x: x**4, square, mp.cos)
    polynomial("LOG2", 5, (-edge, edge), lambda s: log2_of(s) / s, same, square, log2_of, np.float64)
    polynomial("EXP2", 7, (-0.5001, 0.5001), lambda r: 2**r, np.ones_like, same, lambda r: 2**r, np.float64)


if __name__ == "__main__":
    main()
