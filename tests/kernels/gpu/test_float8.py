"""Kernels on f8e4m3 in Triton's interpreter, whose own conversions to f8e4m3 neither round nor saturate: they are replaced by ml_dtypes' here."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import cast_array
from strop.kernels.table import candidates, refusal
from strop.kernels.triton import conv_gemm, gemm, loops, pointwise, pooling
from strop.kernels.triton.product import Params
from strop.target.detect import parse
from tests.kernels.gpu import float8
from tests.kernels.gpu.interpreter import check, run

interpreter = pytest.importorskip("triton.runtime.interpreter", reason="the package triton is not installed")
H100 = parse("cuda:sm_90")


@pytest.fixture(autouse=True)
def exact_conversions(monkeypatch):
    convert = interpreter._convert_float

    def converted(array, source, to, rounding):
        if str(to) == "fp8e4nv":
            assert str(source) == "fp32"
            return cast_array(np.asarray(array).view(np.float32), dt.f8e4m3).view(np.uint8).reshape(array.shape)
        if str(source) == "fp8e4nv":
            wide = np.asarray(array).view(np.uint8).view(float8.F8).astype(np.float32)
            return (wide.astype(np.float16).view(np.uint16) if str(to) == "fp16" else wide.view(np.uint32)).reshape(array.shape)
        return convert(array, source, to, rounding)

    monkeypatch.setattr(interpreter, "_convert_float", converted)


@pytest.mark.parametrize("case", float8.products(), ids=lambda case: case[0].name)
def test_products_are_those_of_the_oracle(case):
    region, arrays = case
    kernel = conv_gemm.KERNEL if region.kind.endswith("conv") else gemm.KERNEL
    check(kernel, region, arrays, target=H100)
    check(loops.KERNEL, region, arrays, target=H100)


@pytest.mark.parametrize("split", [2, 4])
def test_programs_that_share_a_tile_add_up(split):
    region, arrays = float8.product(float8.WideMatMul(), (20, 256), (256, 40), dt.f8e4m3)
    check(gemm.KERNEL, region, arrays, Params(16, 32, 64 if split == 2 else 32, 4, 2, split), H100)


def test_casts_round_halves_to_even_and_saturate():
    for region, arrays in float8.casts():
        emitted = pointwise.KERNEL.emit(region, pointwise.KERNEL.space(region, H100)[0], H100)
        (found,), (wanted,) = run(emitted, region, arrays), float8.wanted((region, arrays))
        np.testing.assert_array_equal(found.astype(np.float32), wanted.astype(np.float32), region.name)


def test_bytes_are_moved_and_picked():
    for (region, arrays), kernel in zip(float8.movers(), (pooling.KERNEL, pointwise.KERNEL), strict=True):
        check(kernel, region, arrays, target=H100)


def test_every_product_has_a_fast_kernel_and_no_processor_has_one():
    for region, _ in float8.products():
        first = candidates(region, H100)[0].kernel.name
        assert first in ("conv_gemm", "gemm"), region.name
    region, _ = float8.product(float8.WideMatMul(), (20, 256), (256, 40), dt.f8e4m3)
    assert "convolution" in (refusal(conv_gemm.KERNEL, region, H100) or "")
