"""Elementwise regions on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.elementwise import KERNEL
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check

HERE = [t for t in TARGETS.values() if runs_here(t)]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_chain_with_broadcast(target):
    rng = np.random.default_rng(0)
    shape = (2, 37, 5, 7)
    nhwc = View.dense(shape, dt.f32, (0, 2, 3, 1))
    bias = View.dense((1, 37, 1, 1), dt.f32).broadcast(shape)
    expr = call("max", Input(0) * 2.0 + Input(1), 0.0) * call("min", Input(2), 3.0)
    region = Region("chain", None, (Operand(nhwc), Operand(bias), Operand(nhwc)), 0, expr, (nhwc,))
    arrays = [rng.standard_normal(shape, np.float32), rng.standard_normal((1, 37, 1, 1)).astype(np.float32), rng.standard_normal(shape, np.float32)]
    assert check(KERNEL, region, arrays, target) >= 1
