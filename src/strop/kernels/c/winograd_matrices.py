"""Winograd's minimal filtering F(m, r) by Cook-Toom: exact transform matrices, and their C with shared even and odd parts.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015); Toom-Cook interpolation at the points
0, 1, -1, 2, -2, 1/2, -1/2, ... and infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-2", "1/2", "-1/2")))

Matrix = list[list[Fraction]]


@dataclass(frozen=True)
class Filtering:
    """y = at [(g w) * (bt d)]: ``m`` results from ``m + r - 1`` inputs and ``r`` weights.

    Attributes:
        at: [m][m + r - 1].
        g: [m + r - 1][r].
        bt: [m + r - 1][m + r - 1].
    """

    m: int
    r: int
    at: Matrix
    g: Matrix
    bt: Matrix

    @property
    def taps(self) -> int:
        """Inputs per tile and axis."""
        return self.m + self.r - 1


def filtering(m: int, r: int) -> Filtering:
    """The matrices of F(m, r). The transpose of evaluating and interpolating a product of polynomials is a correlation."""
    n = m + r - 1
    points = _POINTS[: n - 1]
    at = [[p**i for p in points] + [Fraction(int(i == m - 1))] for i in range(m)]
    scale = [_product([p - q for q in points if q != p]) for p in points]
    g = [[p**j / s for j in range(r)] for p, s in zip(points, scale, strict=True)]
    g.append([Fraction(int(j == r - 1)) for j in range(r)])
    bt = [[*_coefficients([q for q in points if q != p]), Fraction(0)] for p in points]
    bt.append(_coefficients(list(points)))
    for k, s in enumerate(scale):  # keep the data transform's leading sign positive, the filter takes it
        if s < 0:
            bt[k] = [-v for v in bt[k]]
            g[k] = [-v for v in g[k]]
    return Filtering(m, r, at, g, bt)


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


def transform_c(matrix: Matrix, inputs: Sequence[str], outputs: Sequence[str], prefix: str) -> list[str]:
    """C statements ``outputs = matrix inputs`` on vectors; rows that differ by the sign of their odd or even part share both.

    Args:
        matrix: [len(outputs)][len(inputs)].
        inputs: C names of vectors.
        outputs: C lvalues.
        prefix: of the variables made.
    """
    lines: list[str] = []
    done: set[int] = set()
    for i, row in enumerate(matrix):
        if i in done:
            continue
        partner = next((j for j in range(i + 1, len(matrix)) if j not in done and _mirrored(row, matrix[j])), None)
        if partner is None:
            lines.append(f"{outputs[i]} = {_combine(row, inputs)};")
            continue
        same = [a if a == b else Fraction(0) for a, b in zip(row, matrix[partner], strict=True)]
        differ = [a if a != b else Fraction(0) for a, b in zip(row, matrix[partner], strict=True)]
        lines.append(f"const vf {prefix}e{i} = {_combine(same, inputs)};")
        lines.append(f"const vf {prefix}o{i} = {_combine(differ, inputs)};")
        lines.append(f"{outputs[i]} = {prefix}e{i} + {prefix}o{i};")
        lines.append(f"{outputs[partner]} = {prefix}e{i} - {prefix}o{i};")
        done.add(partner)
    return lines


def _mirrored(a: Sequence[Fraction], b: Sequence[Fraction]) -> bool:
    """True when the rows agree up to the sign of some entries, at least one agreeing and one differing."""
    if [abs(x) for x in a] != [abs(x) for x in b]:
        return False
    return any(x == y != 0 for x, y in zip(a, b, strict=True)) and any(x != y for x, y in zip(a, b, strict=True))


def _combine(row: Sequence[Fraction], inputs: Sequence[str]) -> str:
    """Sum of coefficient times input, units first, the rest as multiply-adds."""
    terms = [(c, x) for c, x in zip(row, inputs, strict=True) if c != 0]
    if not terms:
        return "vzero()"
    terms.sort(key=lambda t: (abs(t[0]) != 1, t[0] < 0))
    first, name = terms[0]
    text = name if first == 1 else f"(-{name})" if first == -1 else f"vset1({_number(first)}) * {name}"
    for factor, other in terms[1:]:
        if factor == 1:
            text = f"({text} + {other})"
        elif factor == -1:
            text = f"({text} - {other})"
        else:
            text = f"vfma(vset1({_number(factor)}), {other}, {text})"
    return text


def _number(value: Fraction) -> str:
    return f"{float(value)!r}f"
