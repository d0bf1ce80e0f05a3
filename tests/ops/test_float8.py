"""f8e4m3: what casts to it round to, what quantizing to it means, and exact sums of its products."""

from __future__ import annotations

import numpy as np
import pytest

from strop.errors import ShapeError
from strop.ir import dtype as dt
from strop.ir.expr import cast_array
from strop.ir.op import Array, Op, Type
from strop.ops.elementwise import Cast
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.wide import WideConv, WideMatMul
from tests.kernels.gpu.float8 import F8, everything, random
from tests.ops.loop_interpreter import run

CODES = np.arange(256, dtype=np.uint8)
NUMBERS = CODES.view(F8).astype(np.float64)


def _nearest(x: Array) -> Array:
    """Codes of the nearest numbers, of two as near the one whose last bit is 0; beyond the greatest one that one."""
    finite = CODES[:0x7F]  # 0 and all positive ones, in order
    with np.errstate(invalid="ignore"):
        size = np.abs(x.astype(np.float64))
    above = np.searchsorted(NUMBERS[finite], size).clip(0, 0x7E)
    below = np.maximum(above - 1, 0)
    up, down = NUMBERS[above] - size, size - NUMBERS[below]
    code = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    code = np.where(size >= NUMBERS[0x7E], 0x7E, np.where(np.isnan(x), 0x7F, code))
    return (code | np.where(np.signbit(x), 0x80, 0)).astype(np.uint8)


def test_numbers_are_those_of_the_specification() -> None:
    assert NUMBERS[0x7E] == 448 == dt.F8_MAX and NUMBERS[0x01] == 2.0**-9 and NUMBERS[0x08] == 2.0**-6 and NUMBERS[0x38] == 1
    assert np.isnan(NUMBERS[[0x7F, 0xFF]]).all() and np.isfinite(np.delete(NUMBERS, [0x7F, 0xFF])).all()


def test_casts_take_the_nearest_number_and_saturate() -> None:
    x = everything()
    found = cast_array(x, dt.f8e4m3)
    same = (found.view(np.uint8) == _nearest(x)) | (np.isnan(x) & np.isnan(found.astype(np.float32)))
    assert same.all(), x[~same][:8]
    np.testing.assert_array_equal(Cast(dt.f8e4m3).reference(x)[0].view(np.uint8), found.view(np.uint8))
    wide = cast_array(np.array([17.0, 19.0, 464.0, 1e300, -np.inf]), dt.f8e4m3)  # ties, and what would be NaN
    assert wide.astype(np.float64).tolist() == [16, 20, 448, 448, -448]


def test_quantizing_divides_rounds_and_saturates() -> None:
    x, scale = np.array([-1000, -900, 0, 2.0**-8, 3, 34, 1e9, np.nan], np.float32), np.float32(2)
    (stored,) = Quantize(dt.f8e4m3).reference(x, scale)
    (back,) = Dequantize().reference(stored, scale)
    np.testing.assert_array_equal(back, np.array([-896, -896, 0, 2.0**-8, 3, 32, 896, np.nan], np.float32))
    with pytest.raises(ShapeError, match="floats have no zero point"):
        Quantize(dt.f8e4m3).infer([Type(dt.f32, (3,)), Type(dt.f32, ()), Type(dt.f8e4m3, ())])


_RNG = np.random.default_rng(3)
CASES: list[tuple[Op, tuple[Array, ...]]] = [
    (Quantize(dt.f8e4m3), (_RNG.standard_normal((2, 5, 3)).astype(np.float32) * 300, np.full((5, 1), 0.7, np.float32))),
    (Dequantize(), (random(_RNG, (2, 5, 3)), np.full((5, 1), 0.7, np.float32))),
    (WideMatMul(), (random(_RNG, (3, 21)), random(_RNG, (21, 4)))),
    (WideMatMul(transpose_b=True), (random(_RNG, (2, 3, 8)), random(_RNG, (4, 8)))),
    (WideConv((2, 1), (1, 0, 1, 2), (1, 1)), (random(_RNG, (1, 5, 6, 6)), random(_RNG, (4, 5, 3, 3)))),
    (WideConv((1, 1), (1,) * 4, (1, 1), 2), (random(_RNG, (2, 4, 4, 3)), random(_RNG, (6, 2, 3, 3)))),
]


@pytest.mark.parametrize(("op", "arrays"), CASES, ids=lambda case: str(case)[:40] if isinstance(case, Op) else "")
def test_loops_mean_the_same(op: Op, arrays: tuple[Array, ...]) -> None:
    types = [Type(dt.from_numpy(a.dtype), a.shape) for a in arrays]
    outs = op.infer(types)
    program = op.loops(types, outs)
    assert program is not None
    found, (wanted,) = run(program, list(arrays))["out0"], op.reference(*arrays)
    assert found.dtype == wanted.dtype == outs[0].dtype.numpy
    np.testing.assert_array_equal(found.astype(np.float64), wanted.astype(np.float64))


def test_sums_are_exact_before_they_are_rounded() -> None:
    tiny, large = 2.0**-9, 448.0
    x = cast_array(np.array([[large, tiny, -large]]), dt.f8e4m3)
    w = cast_array(np.array([[large], [tiny], [large]]), dt.f8e4m3)
    assert WideMatMul().reference(x, w)[0].item() == tiny * tiny
