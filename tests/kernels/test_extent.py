"""Extents: what a kernel may do with a size that only a run knows, and what it may not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.shape import Sym
from strop.kernels.base import View
from strop.kernels.extent import (
    SymbolicError,
    at,
    constants_of,
    extent,
    extents,
    greater,
    highest,
    is_symbolic,
    lesser,
    lowest,
    may_reach,
    naming,
    typical,
)

N, H = Sym("n", 1, 2, 8), Sym("h", 4, 16, 64)
n, h = extents((N, H))


def test_arithmetic_is_that_of_numbers() -> None:
    value = 3 + (h * 4 - 2) // 2 + 5 * n - (7 - n) % 4 + divmod(h, 3)[1] + -n
    for known in ({"n": 1, "h": 4}, {"n": 8, "h": 63}):
        a, b = known["n"], known["h"]
        assert at(value, known) == 3 + (b * 4 - 2) // 2 + 5 * a - (7 - a) % 4 + b % 3 - a
    assert math.prod((n, h, 4)) == 4 * h * n and sum([h, n, 1]) == n + 1 + h
    assert (h * n * 6) // (n * 2) == 3 * h and h * n % h == 0 and not h - h
    assert (lowest(h * n), typical(h * n), highest(h * n)) == (4, 32, 512)
    assert is_symbolic(1, h) and not is_symbolic(1, 2)


def test_equality_holds_only_when_it_always_does() -> None:
    assert extent(H) == h and h != n and n != 1 and h != 16 and hash(extent(H)) == hash(h)
    assert n and h - 4 and 0 not in (n, h)


def test_order_is_decided_by_the_range() -> None:
    assert h >= 4 and h > 3 and h < 65 and h <= 64 and h > 3 and h * n >= n
    assert not h < 4 and not h > 64
    assert n > 1 and n < 8, "a size from 1 on is above 1 when it is not always 1"
    assert not n <= 1 and not n >= 8
    assert max(1, n) == n and min(h, 100) == h and greater(1, n) == n and lesser(h, 64) == h
    for ask in (lambda: h > 10, lambda: h <= 10, lambda: h >= n, lambda: min(h, 10)):
        with pytest.raises(SymbolicError, match="depends on whether h is"):
            ask()
    assert at(lesser(h, 10), {"h": 7}) == 7 and at(greater(10, h), {"h": 7}) == 10
    assert may_reach(h, 64) and not may_reach(h, 65) and may_reach(3, 3) and not may_reach(2, 3)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: int(h), lambda: range(h), lambda: [0] * h, lambda: 1.0 / h, lambda: h / 2, lambda: float(h), lambda: np.zeros(h),
        lambda: h << 1, lambda: 2**h, lambda: h**2, lambda: "abc"[h], lambda: h + 0.5,
    ],
)  # fmt: skip
def test_the_number_itself_is_refused(ask) -> None:
    with pytest.raises((SymbolicError, TypeError)):
        ask()


def test_printing_names_constants() -> None:
    assert f"{h} {h * 4}" == "h (h*4)"
    with naming() as names:
        text = f"f({h * n}, {h}, {n * h}, {4 * h // 4});"
    assert text == "f(dim0, dim1, dim0, dim1);"
    with naming() as names:
        unused, used = str(n), f"y[{h}] = 0;"
    body, dims = names.declare(used)
    assert unused == "dim0" and dims == (H,)
    assert body == "  const int64_t dim1 = a->sym[0];\ny[dim1] = 0;"
    assert constants_of("a[dim3] + dim1 * dim3 + xdim2") == (["int64_t dim3", "int64_t dim1"], ["dim3", "dim1"])


def test_views() -> None:
    view = View.dense(extents((N, 3, H, 8)), dt.f32, (0, 2, 3, 1))
    assert str(view) == "f32[n,3,h,8]:((h*24),1,24,3)" and view.symbolic
    assert view.order() == (0, 2, 3, 1) and view.is_dense((0, 2, 3, 1)) and not view.is_dense()
    assert view.at({"n": 2, "h": 5}) == View.dense((2, 3, 5, 8), dt.f32, (0, 2, 3, 1))
    assert view.span == view.count and view.broadcast((7, *view.shape)).strides[0] == 0
