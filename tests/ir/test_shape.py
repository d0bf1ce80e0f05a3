"""Dims and shapes: symbolic arithmetic agrees with arithmetic on numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import ShapeError
from strop.ir import shape as sh
from strop.ir.shape import Dim, DimExpr, Sym

N, H = Sym("n", 1, 2, 8), Sym("h", 4, 8, 64)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "sub", "mul", "floordiv", "ceildiv", "maximum", "minimum"]),
        st.one_of(st.integers(1, 9), st.sampled_from([N, H])),
    ),
    max_size=6,
)
NUMBERS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "ceildiv": lambda a, b: -(-a // b),
    "maximum": max,
    "minimum": min,
}


@settings(derandomize=True, deadline=None)
@given(st.sampled_from([N, H, 3]), STEPS, st.integers(1, 8), st.integers(4, 64))
def test_symbolic_arithmetic(start: Dim, steps: list[tuple[str, Dim]], n: int, h: int) -> None:
    known = {"n": n, "h": h}
    dim, number = start, sh.evaluate(start, known)
    for op, other in steps:
        dim = getattr(sh, op)(dim, other)
        number = NUMBERS[op](number, sh.evaluate(other, known))
    assert sh.evaluate(dim, known) == number


def test_simplification() -> None:
    assert sh.add(sh.add(N, 1), 2) == sh.add(N, 3)
    assert sh.add(N, 0) == N and sh.mul(N, 1) == N and sh.mul(N, 0) == 0 and sh.floordiv(N, 1) == N
    assert sh.mul(2, N) == sh.mul(N, 2) and sh.sub(N, N) == 0
    assert sh.floordiv(sh.mul(N, 6), 6) == N
    assert sh.maximum(N, N) == N and sh.minimum(N, N) == N
    assert sh.add(2, 3) == 5 and sh.ceildiv(7, 2) == 4
    assert sh.volume((2, N, 3)) == sh.mul(N, 6)


def test_text_and_symbols() -> None:
    dim = sh.floordiv(sh.add(H, -1), 2)
    assert str(dim) == "(((h+1)//2)+-1)"
    assert sh.show((1, N, dim)) == "1xnx(((h+1)//2)+-1)" and sh.show(()) == "scalar"
    assert sh.symbols([dim, sh.mul(N, H), 3]) == [H, N]
    assert str(DimExpr("max", (N, 3))) == "max(n,3)"


def test_static_shapes() -> None:
    assert sh.is_static((1, 2)) and not sh.is_static((1, N))
    assert sh.static((1, 2)) == (1, 2) and sh.count((2, 3)) == 6
    with pytest.raises(ShapeError, match="static shape") as caught:
        sh.static((1, N), "conv")
    assert caught.value.got == "1xn" and caught.value.where == "conv"


def test_broadcasting() -> None:
    assert sh.broadcast((2, 1, 4), (3, 1)) == (2, 3, 4)
    assert sh.broadcast((N, 1), (1, H)) == (N, H)
    assert sh.broadcast((), (0,)) == (0,) and sh.broadcast((1,), (0,)) == (0,)
    for shapes in (((2,), (3,)), ((N,), (H,)), ((N,), (2,))):
        with pytest.raises(ShapeError, match="broadcast"):
            sh.broadcast(*shapes)


def test_strides_and_axes() -> None:
    assert sh.contiguous_strides((2, 3, 4)) == (12, 4, 1) and sh.contiguous_strides(()) == ()
    assert sh.normalize_axis(-1, 3) == 2 and sh.normalize_axis(0, 0) == 0
    for axis, rank in ((3, 3), (-4, 3), (1, 0)):
        with pytest.raises(ShapeError, match="axis out of range"):
            sh.normalize_axis(axis, rank)


def test_one_form_for_equal_dims() -> None:
    width = Sym("w", 4, 8, 64)
    assert sh.mul(sh.mul(N, H), width) == sh.mul(width, sh.mul(H, N))
    assert sh.mul(sh.add(N, 1), H) == sh.add(H, sh.mul(H, N))
    halved = sh.add(sh.floordiv(sh.sub(sh.mul(H, 32), 1), 2), 1)  # a convolution of stride 2
    assert halved == sh.mul(H, 16)
    assert sh.floordiv(sh.floordiv(H, 2), 3) == sh.floordiv(H, 6)
    assert sh.mul(sh.floordiv(sh.mul(H, -1), 4), -1) == sh.ceildiv(H, 4)
    assert sh.mod(sh.mul(H, 6), 3) == 0 and sh.mod(sh.add(sh.mul(H, 4), 5), 4) == 1
    less = sh.sub(H, 1)
    assert sh.mod(sh.mul(less, 512), less) == 0
    assert sh.floordiv(H, 65) == 0 and sh.maximum(H, 4) == H and sh.minimum(H, 64) == H


@settings(derandomize=True, deadline=None)
@given(st.sampled_from([N, H, 3]), STEPS, st.integers(1, 8), st.integers(4, 64))
def test_bounds_hold(start: Dim, steps: list[tuple[str, Dim]], n: int, h: int) -> None:
    known = {"n": n, "h": h}
    dim = start
    for op, other in steps:
        before = dim
        dim = getattr(sh, op)(dim, other)
        low, high = sh.bounds(dim)
        assert low <= sh.evaluate(dim, known) <= high
        low, high = sh.gap(dim, before)
        assert low <= sh.evaluate(dim, known) - sh.evaluate(before, known) <= high


def test_a_product_of_what_is_not_negative_is_not_negative() -> None:
    n, h, w = Sym("n", 1, 2, 8), Sym("h", 5, 7, 28), Sym("w", 8, 8, 44)
    assert sh.bounds(sh.mul(sh.sub(h, 1), sh.sub(w, 1))) == (4 * 7, 27 * 43)
    volume = sh.mul(n, sh.mul(sh.sub(h, 4), sh.sub(w, 4)))
    assert sh.bounds(volume)[0] == 4 and sh.compare(volume, 1) == 1 and sh.compare(sh.mul(volume, -1), 0) == -1
    assert sh.bounds(sh.sub(sh.mul(h, w), sh.mul(3, w)))[0] == 2 * 8
