"""Element types: codes, sizes, numpy counterparts."""

from __future__ import annotations

import numpy as np
import pytest

from strop.errors import UnsupportedError
from strop.ir import dtype as dt


def test_tables_agree() -> None:
    assert len(dt.BY_NAME) == len(dt.BY_CODE) == len(dt.ALL)
    for kind in dt.ALL:
        assert dt.BY_NAME[str(kind)] is dt.BY_CODE[kind.code] is dt.from_numpy(kind.numpy) is kind
        assert np.dtype(kind.numpy).itemsize == kind.size


def test_codes_of_the_file_format_never_change() -> None:
    codes = {kind.name: kind.code for kind in dt.ALL}
    assert codes == {
        "f32": 1, "u8": 2, "i8": 3, "u16": 4, "i16": 5, "i32": 6, "i64": 7, "bool": 9, "f16": 10,
        "f64": 11, "u32": 12, "u64": 13, "bf16": 16, "f8e4m3": 17,
    }  # fmt: skip


def test_kinds() -> None:
    assert {d.name for d in dt.ALL if d.is_float} == {"f64", "f32", "f16", "bf16", "f8e4m3"}
    assert {d.name for d in dt.ALL if d.is_int} == {
        f"{sign}{bits}" for sign in "iu" for bits in (8, 16, 32, 64)
    }
    assert (
        dt.i8.is_signed and dt.bf16.is_signed and not dt.u8.is_signed and not dt.boolean.is_signed
    )


@pytest.mark.parametrize("kind", ["U3", "O", "complex64", "datetime64[s]"])
def test_others_are_refused(kind: str) -> None:
    with pytest.raises(UnsupportedError, match="no counterpart") as caught:
        dt.from_numpy(kind)
    assert caught.value.expected is not None and "f32" in caught.value.expected
