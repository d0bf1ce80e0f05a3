"""Free dims as users write them."""

from __future__ import annotations

import pytest

from strop.errors import OptionError
from strop.ir import shape as sh
from strop.ir.ranges import Free, parse_dim, parse_shape, split_dims
from strop.ir.shape import Sym


@pytest.mark.parametrize(
    ("text", "dim"),
    [
        ("7", 7), ("batch", Free("batch")), ("1..8", Free(None, 1, 8, 8)), ("1..8(4)", Free(None, 1, 4, 8)),
        ("32..960(320)%32", Free(None, 32, 320, 960, 32)), ("32..960%32(320)", Free(None, 32, 320, 960, 32)),
        ("seq:1..8(2)", Free("seq", 1, 2, 8)), ("x1:4..4", Free("x1", 4, 4, 4)),
    ],
)  # fmt: skip
def test_dims(text: str, dim: object) -> None:
    assert parse_dim(text, "x") == dim


@pytest.mark.parametrize("text", ["", "0", "-1", "1..", "..8", "1.5", "1..8(", "a b", "b:", "b:3", "1..8(2)(3)", "1..8(2)%2(4)", "²", "9999999999"])
def test_what_is_no_dim(text: str) -> None:
    with pytest.raises(OptionError, match="unusable dim") as caught:
        parse_dim(text, "shape of x")
    assert caught.value.where == "shape of x" and caught.value.got == text


@pytest.mark.parametrize(
    ("text", "message"),
    [("8..1", "out of order"), ("1..8(9)", "out of order"), ("2..8(1)", "out of order"), ("0..8", "out of order"),
     ("30..64%32", "does not fit its step"), ("32..64(40)%32", "does not fit its step"), ("32..64%0", "does not fit its step")],
)  # fmt: skip
def test_ranges_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_dim(text, "x")


def test_shapes() -> None:
    assert split_dims("1..8x3x224x224") == ["1..8", "3", "224", "224"]
    assert split_dims("1..8(1)x3x32..960(320)%32x640") == ["1..8(1)", "3", "32..960(320)%32", "640"]
    assert split_dims("batchx3x8") == ["batch", "3", "8"] and split_dims("") == []
    assert split_dims("batch,3,index,max") == ["batch", "3", "index", "max"]
    symbol = Sym("k", 1, 2, 3)
    assert parse_shape((1, "2..4", symbol), "x") == (1, Free(None, 2, 4, 4), symbol)


def test_symbols() -> None:
    assert Free(None, 32, 320, 960, 32).dim("h") == sh.mul(Sym("h", 1, 10, 30), 32)
    assert Free("n", 1, 2, 8).dim("n") == Sym("n", 1, 2, 8) and Free("b").dim("b") == Sym("b", 1, 1, 128)
    assert Free(None, 4, 4, 4).dim("x") == 4 and Free(None, 64, 64, 64, 32).dim("x") == 64
