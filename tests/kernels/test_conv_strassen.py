"""Strassen's algorithm: the form by exact arithmetic, kernels against the oracle on every instruction set the host has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.conv_strassen import KERNEL, Params
from strop.kernels.c.strassen_forms import multiply
from strop.ops.matmul import MatMul
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check, check_all
from tests.kernels.test_conv_direct import conv_region

HERE = [t for t in TARGETS.values() if runs_here(t)]

CASES = {
    "even": dict(n=1, c=64, h=8, w=8, o=128, k=1),
    "odd positions": dict(n=1, c=96, h=7, w=7, o=64, k=1),
    "odd vectors": dict(n=1, c=64, h=6, w=6, o=80, k=1),
    "partial vectors": dict(n=1, c=72, h=5, w=9, o=200, k=1),
    "partial odd vector": dict(n=1, c=64, h=4, w=10, o=133, k=1),
    "partial halves": dict(n=1, c=58, h=5, w=7, o=96, k=1),
    "batch": dict(n=3, c=64, h=5, w=5, o=64, k=1),
    "strided": dict(n=2, c=64, h=11, w=9, o=96, k=1, stride=2),
    "slices": dict(n=1, c=64, h=6, w=6, o=64, k=1, slices=16),
    "rows in one cache set": dict(n=1, c=1024, h=5, w=5, o=64, k=1),
}


def test_form_is_exact():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-9, 9, shape).astype(np.float64) for shape in ((6, 8), (8, 10)))
    np.testing.assert_array_equal(multiply(a, b), a @ b)


@pytest.mark.parametrize("target", HERE, ids=str)
def test_conv(target):
    cases = [conv_region(np.random.default_rng(3), **case) for case in CASES.values()]
    cases = [(dataclasses.replace(region, name=name), arrays) for name, (region, arrays) in zip(CASES, cases)]
    check_all(KERNEL, cases, target.with_cores(1))
    check_all(KERNEL, cases, target.with_cores(3), every=False)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("rows", [33, 16, 18])
def test_blocks_of_rows(stored, rows):
    region, arrays = conv_region(np.random.default_rng(4), n=1, c=64, h=3, w=11, o=144, k=1)

    class Fixed(type(KERNEL)):
        def space(self, region, target):
            return [Params(5, 2, rows, stored)]

    check(Fixed(), region, arrays, HERE[-1].with_cores(2))


@pytest.mark.parametrize("target", HERE, ids=str)
def test_prologue(target):
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((70, 64)).astype(np.float32)
    scale, shift = (rng.standard_normal(70).astype(np.float32) for _ in range(2))
    x = rng.standard_normal((2, 17, 70)).astype(np.float32)
    out = View.dense((2, 17, 64), dt.f32)
    spread = [Operand(View.dense((70,), dt.f32).broadcast(x.shape), v) for v in (scale, shift)]
    operands = (Operand(View.dense(x.shape, dt.f32)), Operand(View.dense(weight.shape, dt.f32), weight), *spread)
    prologue = call("max", Input(0) * Input(1) + Input(2), 0.0)
    region = Region("dense", MatMul(), operands, 2, Input(0), (out,), prologue=prologue, prologues=2)
    check(KERNEL, region, [x, None, None, None], target)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(k=3), "not a product"),
        (dict(c=65), "odd"),
        (dict(c=32), "fewer than 48"),
        (dict(o=16), "two vectors"),
        (dict(h=3, w=5), "fewer than 16 positions"),
        (dict(groups=2), "not a product"),
        (dict(n=2, stride=2, slices=7), None),
    ],
)
def test_refuses_what_it_cannot_do(change, reason):
    region, _ = conv_region(np.random.default_rng(0), **{**dict(n=1, c=64, h=12, w=12, o=64, k=1), **change})
    found = KERNEL.accepts(region, TARGETS["x86-64-v4"])
    assert found is None if reason is None else reason in found


def test_reports_its_rounding():
    region, _ = conv_region(np.random.default_rng(3), n=1, c=256, h=14, w=14, o=64, k=1)
    target = HERE[-1]
    errors = [KERNEL.error(region, p) for p in KERNEL.space(region, target)]
    assert errors and all(1e-8 < e < 5e-6 for e in errors), errors


def test_refuses_a_prologue_that_differs_between_images():
    region, _ = conv_region(np.random.default_rng(0), n=2, c=64, h=6, w=6, o=64, k=1)
    x = region.operand(0).view
    scale = Operand(View.dense((2, 64, 1, 1), dt.f32).broadcast(x.shape))
    scaled = dataclasses.replace(region, operands=(*region.operands, scale), prologue=Input(0) * Input(1), prologues=1)
    found = KERNEL.accepts(scaled, TARGETS["x86-64-v4"])
    assert found is not None and "over images" in found
