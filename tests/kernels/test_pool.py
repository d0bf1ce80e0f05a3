"""Pools over channels-last images on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.pool import KERNEL
from strop.ops.pool import AveragePool, MaxPool
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check

HERE = [t for t in TARGETS.values() if runs_here(t)]
NHWC = (0, 2, 3, 1)

SHAPES = {
    "3x3 s2 p1": dict(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), dilations=(1, 1)),
    "2x2 s2": dict(kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), dilations=(1, 1)),
    "3x3 s1 p1": dict(kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1)),
    "3x2 s2 ceil": dict(kernel=(3, 2), strides=(2, 2), pads=(0, 0, 0, 1), dilations=(1, 1), ceil_mode=True),
    "dilated": dict(kernel=(2, 3), strides=(1, 2), pads=(1, 2, 0, 2), dilations=(3, 2)),
    "whole image": dict(kernel=(9, 10), strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)),
}


def pool_region(op, n, c, h, w, slices=0):
    rank_shape = (n, c, h, w)
    rng = np.random.default_rng(5)
    x = rng.standard_normal(rank_shape).astype(np.float32)
    out = op.reference(x)[0].shape

    def view(shape):
        wide = View.dense((shape[0], shape[1] + slices, *shape[2:]), dt.f32, NHWC)
        return View(tuple(shape), wide.strides, dt.f32)

    bias = rng.standard_normal((1, c, 1, 1)).astype(np.float32)
    operands = (Operand(view(rank_shape)), Operand(View.dense(bias.shape, dt.f32).broadcast(out), bias))
    region = Region("pool", op, operands, 1, call("max", Input(0) + Input(1), 0.0), (view(out),))
    return region, [x, None]


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["max", "average", "average of padding"])
def test_pool(kind, shape, target):
    attributes = SHAPES[shape]
    op = MaxPool(**attributes) if kind == "max" else AveragePool(**attributes, count_include_pad=kind != "average")
    region, arrays = pool_region(op, 2, 37, 9, 10, slices=3)
    check(KERNEL, region, arrays, target.with_cores(2))


@pytest.mark.parametrize("target", HERE, ids=str)
def test_max_keeps_nan(target):
    op = MaxPool(**SHAPES["3x3 s1 p1"])
    region, (x, _) = pool_region(op, 1, 16, 5, 5)
    x[0, 3, 2, 2] = np.nan
    region = Region("pool", op, region.operands[:1], 1, Input(0), region.outs)
    check(KERNEL, region, [x], target)
