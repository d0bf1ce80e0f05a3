"""Strassen's algorithm in Winograd's form: which sums the seven products of quarters are made of, and what each adds to.

Source: Strassen, "Gaussian elimination is not optimal" (1969); Winograd's form with 15 additions as in Probert (1976).

With C = A B cut into quarters, A = [[a11, a12], [a21, a22]] and so on:

    s1 = a21 + a22   s2 = s1 - a11   s3 = a11 - a21   s4 = a12 - s2
    t1 = b12 - b11   t2 = b22 - t1   t3 = b22 - b12   t4 = t2 - b21
    c11 = a11 b11 + a12 b21          u  = a11 b11 + s2 t2        v = u + s3 t3
    c12 = u + s1 t1 + s4 b22         c21 = v - a22 t4            c22 = v + s1 t1

The order below keeps two partial results of a quarter's size: u and v.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strop.ir.op import Array

#: Quarters as (row half, k half) of A and (k half, column half) of B.
QUARTERS = ("11", "12", "21", "22")
#: Sums of quarters of A that are made before the products, in the order in which they are stored.
ROW_SUMS = ("s1", "s2", "s3", "s4")


@dataclass(frozen=True)
class Use:
    """What happens to a product: ``to = source + sign * product``.

    Attributes:
        to: ``u`` or ``v``, or a quarter of the result, ``c11`` to ``c22``.
        source: ``u``, ``v`` or empty.
        sign: 1 or -1.
    """

    to: str
    source: str = ""
    sign: int = 1


@dataclass(frozen=True)
class Product:
    """One of the seven: ``a`` is a quarter or a sum of A, ``b`` of B."""

    a: str
    b: str
    uses: tuple[Use, ...]


PRODUCTS: tuple[Product, ...] = (
    Product("a11", "b11", (Use("u"),)),
    Product("a12", "b21", (Use("c11", "u"),)),
    Product("s2", "t2", (Use("u", "u"),)),
    Product("s3", "t3", (Use("v", "u"),)),
    Product("s1", "t1", (Use("c22", "v"), Use("u", "u"))),
    Product("s4", "b22", (Use("c12", "u"),)),
    Product("a22", "t4", (Use("c21", "v", -1),)),
)


#: Sums of B as terms (sign, quarter).
WEIGHT_SUMS: dict[str, tuple[tuple[int, str], ...]] = {
    "t1": ((1, "b12"), (-1, "b11")),
    "t2": ((1, "b22"), (-1, "b12"), (1, "b11")),
    "t3": ((1, "b22"), (-1, "b12")),
    "t4": ((1, "b22"), (-1, "b12"), (1, "b11"), (-1, "b21")),
}


def weight_parts(matrix: Array, left: int, right: int, width: int) -> dict[str, Array]:
    """The quarters of two blocks of columns and their sums.

    Args:
        matrix: [k, n] with even k; columns from n on count as zero.
        left: first column of the left block.
        right: first column of the right block.
        width: columns of a block.

    Returns:
        f32 arrays [k / 2, width] by name, sums made in f64.
    """
    k = matrix.shape[0] // 2

    def quarter(row: int, start: int) -> Array:
        found = matrix[row * k : (row + 1) * k, start : start + width]
        return np.pad(found, ((0, 0), (0, width - found.shape[1])))

    parts = {f"b{i + 1}{j + 1}": quarter(i, start) for i in (0, 1) for j, start in enumerate((left, right))}
    for name, terms in WEIGHT_SUMS.items():
        total = sum(sign * parts[quarter_name].astype(np.float64) for sign, quarter_name in terms)
        parts[name] = np.asarray(total, np.float32)
    return parts


def multiply(a: Array, b: Array) -> Array:
    """``a @ b`` for [2m, 2k] by [2k, 2n] as the kernel computes it, every step in the arrays' own type."""
    (m, k), n = (s // 2 for s in a.shape), b.shape[1] // 2
    parts: dict[str, Array] = weight_parts(b, 0, n, n)
    parts = {name: part.astype(a.dtype) for name, part in parts.items()}
    parts.update({f"a{i + 1}{j + 1}": a[i * m : (i + 1) * m, j * k : (j + 1) * k] for i in (0, 1) for j in (0, 1)})
    parts["s1"] = parts["a21"] + parts["a22"]
    parts["s2"] = parts["s1"] - parts["a11"]
    parts["s3"] = parts["a11"] - parts["a21"]
    parts["s4"] = parts["a12"] - parts["s2"]
    for product in PRODUCTS:
        value = parts[product.a] @ parts[product.b]
        for use in product.uses:
            signed = value if use.sign > 0 else -value
            parts[use.to] = parts[use.source] + signed if use.source else signed
    return np.block([[parts["c11"], parts["c12"]], [parts["c21"], parts["c22"]]])
