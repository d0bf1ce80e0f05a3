"""Convolution with few output channels, as dot products, on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.kernels.base import Operand, Region, View
from strop.kernels.c import conv_direct
from strop.kernels.c.conv_dot import KERNEL
from strop.ops.matmul import MatMul
from strop.target.detect import TARGETS, runs_here
from tests import golden
from tests.kernels.harness import check
from tests.kernels.test_conv_direct import conv_region

HERE = [t for t in TARGETS.values() if runs_here(t)]
CASES = {
    "one output, 3x3 same": dict(n=1, c=33, h=9, w=19, o=1, k=3, pad=1),
    "one output, 1 channel": dict(n=2, c=1, h=1, w=300, o=1, k=(1, 64), stride=2, planar=True),
    "one output, valid": dict(n=2, c=16, h=8, w=9, o=1, k=(3, 2)),
    "two outputs, stride 2": dict(n=1, c=24, h=11, w=13, o=2, k=3, stride=2, pad=1),
    "three outputs, slices": dict(n=1, c=20, h=6, w=7, o=3, k=3, pad=1, slices=3),
    "three outputs, slices read in place": dict(n=1, c=20, h=6, w=7, o=3, k=2, slices=3),
    "four outputs, dilated": dict(n=1, c=16, h=13, w=15, o=4, k=3, dilation=2, pad=2),
    "long rows": dict(n=1, c=8, h=5, w=45, o=8, k=(3, 39), pad=(1, 19)),
    "1x1": dict(n=3, c=40, h=5, w=7, o=2, k=1),
    "grouped": dict(n=1, c=48, h=7, w=9, o=6, k=3, pad=1, groups=3),
}


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_conv(case, target):
    region, arrays = conv_region(np.random.default_rng(1), **CASES[case])
    if KERNEL.accepts(region, target) is not None:
        assert "output channels" in KERNEL.accepts(region, target) and CASES[case]["o"] > 2
        return
    for cores in (1, 3):
        check(KERNEL, region, arrays, target.with_cores(cores), every=cores == 1)


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize(("shape", "n"), [((37, 50), 1), ((2, 7, 33), 2), ((1, 256), 1)])
def test_matmul(shape, n, target):
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((shape[-1], n)).astype(np.float32)
    out = View.dense((*shape[:-1], n), dt.f32)
    bias = rng.standard_normal(n).astype(np.float32)
    operands = (
        Operand(View.dense(shape, dt.f32)),
        Operand(View.dense(weight.shape, dt.f32), weight),
        Operand(View.dense((n,), dt.f32).broadcast(out.shape), bias),
    )
    region = Region("fc", MatMul(), operands, 2, Input(0) + Input(1), (out,))
    check(KERNEL, region, [rng.standard_normal(shape).astype(np.float32), None, None], target, every=False)


def test_what_lies_behind_a_run_does_not_count():
    """A partial vector reads no further than its run: an infinity behind it leaves the results alone."""
    region, (x, _, _, last) = conv_region(np.random.default_rng(3), n=1, c=18, h=3, w=5, o=1, k=1)
    x[0, 0, 1, 3] = np.inf
    for target in HERE:
        check(KERNEL, region, [x, None, None, last], target, every=False)


def test_refusals():
    target = TARGETS["x86-64-v4"]
    region = lambda **given: conv_region(np.random.default_rng(4), **given)[0]  # noqa: E731
    assert "output channels" in KERNEL.accepts(region(n=1, c=16, h=5, w=5, o=9, k=1), target)
    assert "consecutive" in KERNEL.accepts(region(n=1, c=16, h=5, w=5, o=1, k=3, planar=True), target)
    assert "side by side" in KERNEL.accepts(region(n=1, c=2, h=5, w=5, o=1, k=3), target)


def test_it_is_preferred_where_channels_are_few():
    """By the estimates: eight outputs fill half a vector of ``conv_direct``, one fills a sixteenth. Three inputs give short runs."""
    target = TARGETS["x86-64-v4"]
    for outputs, inputs, kernel, wanted in ((1, 8, (3, 39), True), (8, 8, (3, 39), True), (8, 3, (3, 3), False)):
        region, _ = conv_region(np.random.default_rng(5), n=1, c=inputs, h=40, w=64, o=outputs, k=kernel)
        best = [min(k.cost(region, p, target) for p in k.space(region, target)) for k in (KERNEL, conv_direct.KERNEL)]
        assert (best[0] < best[1]) == wanted


def test_c_text(request):
    target = TARGETS["x86-64"].with_cores(1)
    region, _ = conv_region(np.random.default_rng(6), n=1, c=5, h=6, w=9, o=2, k=3, pad=1)
    emitted = KERNEL.emit(region, KERNEL.space(region, target)[0], target)
    golden.check("c/conv_dot.c", "\n".join([*emitted.helpers, emitted.body]) + "\n", request.config)
