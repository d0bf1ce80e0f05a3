"""Direct convolution and constant-weight matrix products on every instruction set the host has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.ir.op import Type
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.conv_direct import KERNEL
from strop.ops.conv import Conv
from strop.ops.matmul import MatMul
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check

HERE = [t for t in TARGETS.values() if runs_here(t)]
NHWC = (0, 2, 3, 1)


def conv_region(rng, n, c, h, w, o, k, stride=1, pad=0, dilation=1, groups=1, planar=False, slices=0, epilogue=True):
    kernel = k if isinstance(k, tuple) else (k, k)
    pads = pad if isinstance(pad, tuple) else (pad, pad)
    op = Conv((stride, stride), pads * 2, (dilation, dilation), groups)
    weight = rng.standard_normal((o, c // groups, *kernel)).astype(np.float32)
    out_type = op.infer([Type(dt.f32, (n, c, h, w)), Type(dt.f32, weight.shape)])[0]
    out_shape = out_type.shape
    order = None if planar else NHWC

    def sliced(shape):
        wide = View.dense((shape[0], shape[1] + slices, *shape[2:]), dt.f32, NHWC)
        return View(tuple(shape), wide.strides, dt.f32)

    x_view = sliced((n, c, h, w)) if slices else View.dense((n, c, h, w), dt.f32, order)
    y_view = sliced(out_shape) if slices else View.dense(out_shape, dt.f32, NHWC)
    operands = [Operand(x_view), Operand(View.dense(weight.shape, dt.f32), weight)]
    arrays = [rng.standard_normal((n, c, h, w)).astype(np.float32), None]
    expr = Input(0)
    if epilogue:
        bias = rng.standard_normal((1, o, 1, 1)).astype(np.float32)
        operands.append(Operand(View.dense(bias.shape, dt.f32).broadcast(out_shape), bias))
        operands.append(Operand(y_view))
        arrays += [None, rng.standard_normal(out_shape).astype(np.float32)]
        expr = call("max", Input(0) + Input(1) + Input(2), 0.0)
    return Region("conv", op, tuple(operands), 2, expr, (y_view,)), arrays


CASES = {
    "1x1": dict(n=1, c=24, h=9, w=11, o=40, k=1),
    "1x1 batch": dict(n=3, c=16, h=5, w=5, o=17, k=1),
    "1x1 stride 2": dict(n=2, c=16, h=9, w=9, o=32, k=1, stride=2),
    "1x1 slices": dict(n=1, c=20, h=6, w=6, o=33, k=1, slices=7),
    "3x3 same": dict(n=2, c=19, h=13, w=14, o=35, k=3, pad=1),
    "3x3 same slices": dict(n=1, c=8, h=7, w=7, o=16, k=3, pad=1, slices=5),
    "3x3 valid": dict(n=1, c=20, h=12, w=12, o=50, k=3),
    "3x3 stride 2": dict(n=1, c=16, h=15, w=17, o=24, k=3, stride=2, pad=1),
    "3x3 dilated": dict(n=1, c=8, h=17, w=15, o=16, k=3, dilation=2, pad=2),
    "5x5 one channel": dict(n=2, c=1, h=28, w=28, o=20, k=5),
    "7x7 stride 2 planar": dict(n=1, c=3, h=31, w=29, o=64, k=7, stride=2, pad=3, planar=True),
    "3x3 planar valid": dict(n=2, c=3, h=14, w=15, o=16, k=3, planar=True),
    "16x16 patches planar": dict(n=1, c=3, h=32, w=48, o=48, k=16, stride=16, planar=True),
    "grouped": dict(n=1, c=24, h=9, w=9, o=36, k=3, pad=1, groups=3),
    "1 output": dict(n=1, c=7, h=5, w=6, o=1, k=3, pad=1),
}


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_conv(case, target):
    rng = np.random.default_rng(1)
    region, arrays = conv_region(rng, **CASES[case])
    for cores in (1, 3):
        check(KERNEL, region, arrays, target.with_cores(cores), every=cores == 1)


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize("shape", [(1, 37), (5, 64), (197, 48), (2, 7, 33), (2, 3, 4, 20)])
@pytest.mark.parametrize("transpose", [False, True])
def test_matmul(shape, transpose, target):
    rng = np.random.default_rng(2)
    n = 43
    weight = rng.standard_normal((n, shape[-1]) if transpose else (shape[-1], n)).astype(np.float32)
    out = View.dense((*shape[:-1], n), dt.f32)
    bias = rng.standard_normal(n).astype(np.float32)
    operands = (
        Operand(View.dense(shape, dt.f32)),
        Operand(View.dense(weight.shape, dt.f32), weight),
        Operand(View.dense((n,), dt.f32).broadcast(out.shape), bias),
    )
    region = Region("fc", MatMul(transpose_b=transpose), operands, 2, Input(0) + Input(1), (out,))
    check(KERNEL, region, [rng.standard_normal(shape).astype(np.float32), None, None], target, every=False)


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize(("n", "c", "slices"), [(1, 32, 0), (1, 19, 6), (2, 16, 0)])
def test_prologue(n, c, slices, target):
    """A batch norm and ReLU before a 1x1 convolution are applied to the rows that feed it."""
    rng = np.random.default_rng(4)
    region, arrays = conv_region(rng, n=n, c=c, h=5, w=7, o=24, k=1, slices=slices)
    shape = region.operand(0).view.shape
    scale = View.dense((1, c, 1, 1), dt.f32).broadcast(shape)
    shift = View.dense((n, c, 1, 1), dt.f32).broadcast(shape)  # made at run time, one per image
    values = [rng.standard_normal((m, c, 1, 1)).astype(np.float32) for m in (1, n)]
    region = dataclasses.replace(
        region,
        operands=(*region.operands, Operand(scale, values[0]), Operand(shift)),
        prologue=call("max", Input(0) * Input(1) + Input(2), 0.0),
        prologues=2,
    )
    check(KERNEL, region, [*arrays, None, values[1]], target.with_cores(2), every=False)
