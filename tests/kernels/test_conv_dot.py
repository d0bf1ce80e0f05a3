"""Convolutions with few output channels on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.conv_dot import KERNEL
from strop.kernels.table import candidates
from strop.ops.matmul import MatMul
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check, check_all
from tests.kernels.test_conv_direct import conv_region

HERE = [t for t in TARGETS.values() if runs_here(t)]

CASES = {
    "5x5 to 1": dict(n=1, c=8, h=9, w=39, o=1, k=5, pad=2),
    "7x3 to 1 in a slice": dict(n=2, c=20, h=8, w=21, o=1, k=(7, 3), pad=(3, 1), slices=3),
    "3x3 to 4": dict(n=1, c=19, h=6, w=17, o=4, k=3),
    "3x3 to 2 dilated": dict(n=1, c=17, h=9, w=18, o=2, k=3, dilation=2, pad=2),
    "stride 2": dict(n=1, c=9, h=11, w=45, o=3, k=3, stride=2, pad=1),
    "1x1": dict(n=2, c=24, h=5, w=7, o=1, k=1),
    "1x1 stride 2": dict(n=1, c=16, h=9, w=9, o=2, k=1, stride=2),
    "one channel": dict(n=1, c=1, h=6, w=90, o=1, k=(2, 40)),
    "planar": dict(n=1, c=3, h=7, w=50, o=1, k=(3, 18), pad=(1, 9), planar=True),
    "no epilogue": dict(n=1, c=33, h=5, w=6, o=1, k=3, pad=1, epilogue=False),
}


@pytest.mark.parametrize("target", HERE, ids=str)
def test_conv(target):
    rng = np.random.default_rng(1)
    cases = [conv_region(rng, **case) for case in CASES.values()]
    assert check_all(KERNEL, cases, target) >= 2 * len(cases)
    check_all(KERNEL, cases, target.with_cores(3), every=False)


def test_products_with_narrow_matrices():
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((37, 3)).astype(np.float32)
    operands = (Operand(View.dense((50, 37), dt.f32)), Operand(View.dense(weight.shape, dt.f32), weight))
    region = Region("fc", MatMul(), operands, 2, Input(0), (View.dense((50, 3), dt.f32),))
    check(KERNEL, region, [rng.standard_normal((50, 37)).astype(np.float32), None], HERE[0])


def test_it_is_expected_to_be_best_where_vectors_of_channels_would_be_empty():
    target = HERE[0]
    region, _ = conv_region(np.random.default_rng(3), n=1, c=8, h=64, w=64, o=1, k=5, pad=2)
    assert candidates(region, target)[0].kernel is KERNEL
    region, _ = conv_region(np.random.default_rng(3), n=1, c=8, h=64, w=64, o=16, k=5, pad=2)
    assert KERNEL.accepts(region, target) == "grouped, or more than 4 output channels"


def test_refusals():
    rng, target = np.random.default_rng(4), HERE[0]
    assert KERNEL.accepts(conv_region(rng, 1, 12, 9, 9, 2, 3, planar=True)[0], target) == "input channels are not consecutive"
    assert KERNEL.accepts(conv_region(rng, 1, 3, 9, 9, 2, 3, planar=True)[0], target) == "too few products lie side by side"
