"""Winograd convolutions: matrices by exact arithmetic, kernels against the oracle on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.kernels.c.conv_winograd import KERNEL
from strop.kernels.c.winograd_matrices import filtering
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check
from tests.kernels.test_conv_direct import conv_region

HERE = [t for t in TARGETS.values() if runs_here(t)]

CASES = {
    "even": dict(n=1, c=16, h=8, w=12, o=32, k=3, pad=1),
    "odd": dict(n=2, c=19, h=13, w=10, o=35, k=3, pad=1),
    "small": dict(n=1, c=24, h=7, w=7, o=64, k=3, pad=1),
    "valid": dict(n=1, c=32, h=9, w=9, o=20, k=3),
    "5x5": dict(n=1, c=16, h=9, w=11, o=24, k=5, pad=2),
    "1x3": dict(n=1, c=16, h=5, w=13, o=24, k=(1, 3), pad=(0, 1)),
    "3x1": dict(n=2, c=17, h=10, w=5, o=24, k=(3, 1), pad=(1, 0)),
    "1x7": dict(n=1, c=16, h=6, w=17, o=40, k=(1, 7), pad=(0, 3)),
    "7x1": dict(n=1, c=16, h=17, w=6, o=16, k=(7, 1), pad=(3, 0)),
    "slices": dict(n=1, c=8, h=6, w=14, o=16, k=3, pad=1, slices=5),
}


@pytest.mark.parametrize(("m", "r"), [(2, 3), (4, 3), (6, 3), (4, 5)])
def test_matrices_correlate_exactly(m, r):
    f = filtering(m, r)
    rng = np.random.default_rng(0)
    d = [int(v) for v in rng.integers(-9, 9, f.taps)]
    w = [int(v) for v in rng.integers(-9, 9, r)]
    u = [sum(a * b for a, b in zip(row, w)) for row in f.g]
    v = [sum(a * b for a, b in zip(row, d)) for row in f.bt]
    y = [sum(a * b * c for a, b, c in zip(row, u, v)) for row in f.at]
    assert y == [sum(d[i + k] * w[k] for k in range(r)) for i in range(m)]


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_conv(case, target):
    region, arrays = conv_region(np.random.default_rng(3), **CASES[case])
    for cores in (1, 3):
        check(KERNEL, region, arrays, target.with_cores(cores), every=cores == 1)


def test_refuses_what_it_cannot_do():
    rng = np.random.default_rng(0)
    for case in (dict(c=16, k=9), dict(c=16, k=3, stride=2), dict(c=16, k=3, dilation=2), dict(c=3, k=3)):
        region, _ = conv_region(rng, n=1, h=12, w=12, o=16, **case)
        assert KERNEL.accepts(region, HERE[0]) is not None


def test_reports_its_rounding():
    region, _ = conv_region(np.random.default_rng(3), n=1, c=256, h=14, w=14, o=64, k=3, pad=1)
    target = HERE[0]
    errors = {(p.mh, p.mw): KERNEL.error(region, p) for p in KERNEL.space(region, target)}
    assert errors
    assert all(1e-8 < e < 2e-5 for e in errors.values()), errors
