"""Depthwise convolution on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.ir.op import Type
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.conv_depthwise import KERNEL, Window, runs
from strop.ops.conv import Conv
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check_all, compiled, run

HERE = [t for t in TARGETS.values() if runs_here(t)]


def depthwise(
    rng,
    n,
    c,
    size,
    kernel,
    stride=1,
    pad=None,
    dilation=1,
    multiplier=1,
    slices=0,
    nhwc=False,
    residual="full",
):
    """A region with bias, residual and relu; ``slices`` channels more than used lie between pixels."""
    spatial = len(size)
    kernel, stride, dilation = (
        (v,) * spatial if isinstance(v, int) else v for v in (kernel, stride, dilation)
    )
    pads = (
        pad
        if isinstance(pad, tuple)
        else tuple((k - 1) * d // 2 if pad is None else pad for k, d in zip(kernel, dilation)) * 2
    )
    op = Conv(stride, pads, dilation, c, "NHWC" if nhwc else "NCHW")
    weight = rng.standard_normal((c * multiplier, 1, *kernel)).astype(np.float32)
    channel = spatial + 1 if nhwc else 1
    last = tuple(range(spatial + 2)) if nhwc else (0, *range(2, spatial + 2), 1)

    def shape(channels, extents):
        return (n, *extents, channels) if nhwc else (n, channels, *extents)

    def view(of):
        wide = list(of)
        wide[channel] += slices
        return View(of, View.dense(wide, dt.f32, last).strides, dt.f32)

    x_shape = shape(c, size)
    out = op.infer([Type(dt.f32, x_shape), Type(dt.f32, weight.shape)])[0].static_shape
    bias_shape = tuple(s if a == channel else 1 for a, s in enumerate(out))
    bias = rng.standard_normal(bias_shape).astype(np.float32)
    arrays = [rng.standard_normal(x_shape).astype(np.float32), None, None]
    operands = [
        Operand(view(x_shape)),
        Operand(View.dense(weight.shape, dt.f32), weight),
        Operand(View.dense(bias_shape, dt.f32).broadcast(out), bias),
    ]
    expr = Input(0) + Input(1)
    if residual == "full":
        operands.append(Operand(view(out)))
        arrays.append(rng.standard_normal(out).astype(np.float32))
        expr = call("max", expr + Input(2), 0.0)
    elif residual == "planar":  # another layout than the result's, and one value per pixel
        operands.append(Operand(View.dense(out, dt.f32)))
        arrays.append(rng.standard_normal(out).astype(np.float32))
        gate = tuple(1 if a == channel else s for a, s in enumerate(out))
        operands.append(Operand(View.dense(gate, dt.f32).broadcast(out)))
        arrays.append(rng.standard_normal(gate).astype(np.float32))
        expr = (expr + Input(2)) * Input(3)
    name = f"{n}x{c}x{size} k{kernel} s{stride} p{pads} d{dilation} m{multiplier}"
    return Region(name, op, tuple(operands), 2, expr, (view(out),)), arrays


CASES = {
    "mobilenet": dict(n=1, c=48, size=(14, 14), kernel=3),
    "stride 2": dict(n=2, c=19, size=(9, 11), kernel=3, stride=2),
    "5x5": dict(n=1, c=37, size=(12, 13), kernel=5, slices=3),
    "5x5 stride 2 uneven pad": dict(
        n=1, c=16, size=(15, 16), kernel=5, stride=2, pad=(1, 2, 2, 1), residual="planar"
    ),
    "7x7": dict(n=1, c=24, size=(7, 7), kernel=7),
    "7x7 wide": dict(n=1, c=8, size=(10, 31), kernel=7),
    "valid": dict(n=1, c=20, size=(8, 10), kernel=3, pad=0, residual=None),
    "dilated": dict(n=1, c=8, size=(14, 14), kernel=3, dilation=2, slices=5),
    "far dilation": dict(n=1, c=8, size=(4, 12), kernel=(3, 3), dilation=(3, 5)),
    "padding only": dict(n=1, c=6, size=(1, 1), kernel=3, pad=3),
    "multiplier": dict(n=2, c=5, size=(8, 8), kernel=3, multiplier=3),
    "multiplier of vectors": dict(
        n=1, c=18, size=(6, 17), kernel=3, multiplier=2, residual="planar"
    ),
    "1-D": dict(n=2, c=21, size=(33,), kernel=5, stride=2),
    "1-D causal": dict(n=1, c=16, size=(40,), kernel=3, dilation=4, pad=(8, 0)),
    "one column": dict(n=1, c=33, size=(9, 1), kernel=(3, 1)),
    "channels at the end": dict(n=2, c=17, size=(6, 9), kernel=3, nhwc=True, slices=2),
    "two channels": dict(n=1, c=2, size=(5, 6), kernel=3),
}


@pytest.mark.parametrize("target", HERE, ids=str)
def test_cases(target):
    rng = np.random.default_rng(3)
    assert check_all(
        KERNEL, [depthwise(rng, **case) for case in CASES.values()], target, every=False
    ) == len(CASES)


@pytest.mark.parametrize("target", HERE, ids=str)
def test_every_parameter_set(target):
    rng = np.random.default_rng(8)
    cases = [depthwise(rng, **CASES[name]) for name in ("5x5 stride 2 uneven pad", "dilated")]
    assert check_all(KERNEL, cases, target) >= 12


@pytest.mark.parametrize("target", HERE, ids=str)
def test_work_is_split_over_rows_and_channels(target):
    rng = np.random.default_rng(4)
    small = depthwise(rng, n=1, c=150, size=(30, 28), kernel=5)
    flat = depthwise(rng, n=1, c=700, size=(2, 40), kernel=7)
    for cores in (2, 7):
        wide = target.with_cores(cores)
        for region, _ in (small, flat):
            assert KERNEL.emit(region, KERNEL.space(region, wide)[0], wide).tasks > cores
        check_all(KERNEL, [small, flat], wide, every=False)


@pytest.mark.parametrize("target", HERE, ids=str)
def test_random(target):
    rng = np.random.default_rng(5)
    cases = []
    while len(cases) < 8:
        kernel, dilation = (
            tuple(rng.integers(1, 6, 2).tolist()),
            tuple(rng.integers(1, 4, 2).tolist()),
        )
        size, pad = tuple(rng.integers(4, 20, 2).tolist()), tuple(rng.integers(0, 4, 4).tolist())
        if any(
            s + p + q < (k - 1) * d + 1
            for s, p, q, k, d in zip(size, pad, pad[2:], kernel, dilation)
        ):
            continue
        region, arrays = depthwise(
            rng, int(rng.integers(1, 3)), int(rng.integers(2, 40)), size, kernel, tuple(rng.integers(1, 4, 2).tolist()), pad,
            dilation, slices=int(rng.integers(0, 4)), residual=str(rng.choice(["full", "planar", "none"])),
        )  # fmt: skip
        cases.append((region, arrays))
    check_all(KERNEL, cases, target, every=False)


def test_result_may_overwrite_the_residual():
    """``in_place``: the kernel is handed the residual's buffer as its result."""
    target = HERE[0]
    rng = np.random.default_rng(6)
    region, arrays = depthwise(rng, n=1, c=40, size=(9, 9), kernel=3)
    assert KERNEL.in_place
    emitted = KERNEL.emit(region, KERNEL.space(region, target)[0], target)
    function = compiled([emitted], target)[0]
    apart = run(function, emitted, region, arrays)[0]
    together = run(function, emitted, region, arrays, overwrite=3)[0]
    np.testing.assert_array_equal(apart, together)


def test_runs_join_equal_tiles():
    row = runs(Window(size=112, out=112, kernel=3, stride=1, pad=1, dilation=1), 8)
    assert [(r.start, r.tiles) for r in row] == [(0, 1), (8, 12), (104, 1)]
    assert [len(r.taps) for r in row] == [23, 24, 23]
    causal = runs(Window(size=256, out=256, kernel=3, stride=1, pad=64, dilation=32), 8)
    assert [(r.start, r.tiles, len(r.taps)) for r in causal] == [
        (0, 4, 8),
        (32, 4, 16),
        (64, 24, 24),
    ]


def test_refusals():
    rng = np.random.default_rng(7)
    target = HERE[0]
    region, _ = depthwise(rng, n=1, c=4, size=(5, 5), kernel=3)
    assert KERNEL.accepts(region, target) is None

    def changed(**fields):
        return KERNEL.accepts(Region(**{**region.__dict__, **fields}), target)

    planar = Operand(View.dense((1, 4, 5, 5), dt.f32))
    assert changed(operands=(planar, *region.operands[1:])) == "channels are not consecutive"
    assert changed(outs=(View.dense(region.out.shape, dt.f32),)) == "channels are not consecutive"
    assert "constant" in changed(
        operands=(region.operands[0], Operand(region.operand(1).view), *region.operands[2:])
    )
    assert "constant" in changed(anchors=3)
    assert changed(op=None) == "the anchor is not conv"
    assert "f32" in changed(epilogue=call("bitand", Input(0), Input(1)))
    grouped, _ = depthwise(rng, n=1, c=1, size=(5, 5), kernel=3)
    assert KERNEL.accepts(grouped, target) == "not depthwise"
