"""LayerNorm, RMSNorm, GroupNorm, InstanceNorm and LRN on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c import norm, norm_channels, norm_lrn
from strop.ops.norm import LRN, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check_all, compiled, run

HERE = [t for t in TARGETS.values() if runs_here(t)]
LAST = (0, 2, 3, 1)


def region_of(rng, op, shape, weights=(), order=None, slices=0, constant=True, epilogue=True):
    """A region; ``weights`` are the shapes of scale and bias, ``slices`` elements more than used
    end the innermost axis."""
    order = tuple(range(len(shape))) if order is None else order
    wide = list(shape)
    wide[order[-1]] += slices
    view = View(shape, View.dense(wide, dt.f32, order).strides, dt.f32)
    operands, arrays = [Operand(view)], [(2.0 + rng.standard_normal(shape)).astype(np.float32)]
    for weight in weights:
        array = rng.standard_normal(weight).astype(np.float32)
        operands.append(Operand(View.dense(weight, dt.f32), array if constant else None))
        arrays.append(None if constant else array)
    expr = Input(0)
    if epilogue:
        channel = tuple(s if a == order[-1] else 1 for a, s in enumerate(shape))
        operands += [Operand(View.dense(channel, dt.f32).broadcast(shape)), Operand(view)]
        arrays += [
            rng.standard_normal(channel).astype(np.float32),
            rng.standard_normal(shape).astype(np.float32),
        ]
        expr = call("max", Input(0) * Input(1) + Input(2), 0.0)
    return Region(
        f"{op} {shape} {order} {slices}", op, tuple(operands), 1 + len(weights), expr, (view,)
    ), arrays


ROWS = [
    dict(op=LayerNorm(-1), shape=(2, 5, 96), weights=[(96,), (96,)]),
    dict(op=LayerNorm(-1, 1e-6), shape=(3, 773), weights=[(773,), (773,)], slices=3),
    dict(op=LayerNorm(1), shape=(4, 37), weights=[(37,)], constant=False, epilogue=False),
    dict(op=LayerNorm(-1), shape=(6, 50), weights=[(1,), (1,)], constant=False),
    dict(op=LayerNorm(-2), shape=(2, 3, 7, 20), weights=[(7, 20), (20,)], constant=False),
    dict(op=LayerNorm(1), shape=(2, 6, 5, 9), weights=[(6, 5, 9), (6, 1, 1)]),
    dict(op=LayerNorm(-1), shape=(3, 1), weights=[(1,), (1,)]),
    dict(op=RMSNorm(-1), shape=(2, 3, 200), weights=[(200,)]),
    dict(op=RMSNorm(-1, 1e-6), shape=(5, 24), weights=[(24,)], constant=False, slices=5),
    dict(op=InstanceNorm(1e-5), shape=(2, 5, 6, 9), weights=[(5,), (5,)]),
    dict(op=InstanceNorm(1e-5), shape=(2, 4, 300), weights=[(4,), (4,)], constant=False, slices=6),
    dict(op=GroupNorm(3), shape=(2, 12, 5, 7), weights=[(12,), (12,)]),
    dict(op=GroupNorm(2), shape=(2, 32, 3, 5), weights=[(32,), (32,)], order=LAST, slices=8),
]
CHANNELS = [
    dict(op=InstanceNorm(1e-5), shape=(2, 19, 5, 6), weights=[(19,), (19,)], order=LAST),
    dict(
        op=InstanceNorm(1e-3),
        shape=(1, 70, 9, 4),
        weights=[(70,), (70,)],
        order=LAST,
        slices=5,
        constant=False,
    ),
    dict(
        op=InstanceNorm(1e-5),
        shape=(2, 16, 33),
        weights=[(16,), (16,)],
        order=(0, 2, 1),
        epilogue=False,
    ),
    dict(op=GroupNorm(8), shape=(2, 40, 3, 5), weights=[(40,), (40,)], order=LAST),
    dict(op=GroupNorm(2), shape=(1, 74, 4, 4), weights=[(74,), (74,)], order=LAST, slices=2),
    dict(op=GroupNorm(13), shape=(3, 13, 2, 7), weights=[(13,), (13,)], order=LAST, constant=False),
    dict(op=GroupNorm(1), shape=(2, 33, 6, 2), weights=[(33,), (33,)], order=LAST),
]
NEIGHBOURS = [
    dict(op=LRN(5), shape=(2, 37, 4, 5), order=LAST),
    dict(op=LRN(4, 0.02, 0.75, 2.0), shape=(1, 24, 3, 3), order=LAST, slices=7),
    dict(op=LRN(3, 0.5, 0.5, 1.0), shape=(1, 5, 6, 2), order=LAST, epilogue=False),
    dict(op=LRN(7, 1.0, 1.0, 1.0), shape=(2, 16, 9), order=(0, 2, 1)),
    dict(op=LRN(9, 0.3, 0.6, 1.5), shape=(1, 50, 3, 3), order=LAST),
    dict(op=LRN(1, 0.3, 1.7, 1.5), shape=(1, 20, 2, 3), order=LAST),
]


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize(
    "kernel, cases",
    [(norm.KERNEL, ROWS), (norm_channels.KERNEL, CHANNELS), (norm_lrn.KERNEL, NEIGHBOURS)],
    ids=["rows", "channels", "lrn"],
)
def test_cases(kernel, cases, target):
    rng = np.random.default_rng(1)
    made = [region_of(rng, **case) for case in cases]
    assert check_all(kernel, made, target) >= len(made)
    check_all(kernel, made, target.with_cores(3), every=False)


def exact(region, x):
    """The normalized rows in f64."""
    x = x.astype(np.float64)
    axes = tuple(range(1, x.ndim)) if isinstance(region.op, LayerNorm) else tuple(range(2, x.ndim))
    d = x - x.mean(axes, keepdims=True)
    return d / np.sqrt((d * d).mean(axes, keepdims=True) + region.op.epsilon)


@pytest.mark.parametrize(
    "kernel, case",
    [
        (norm.KERNEL, dict(op=LayerNorm(1, 1e-6), shape=(4, 1500), weights=[(1500,), (1500,)])),
        (norm.KERNEL, dict(op=LayerNorm(1, 1e-6), shape=(4, 150), weights=[(150,), (150,)])),
        (
            norm_channels.KERNEL,
            dict(op=InstanceNorm(1e-6), shape=(1, 20, 40, 40), weights=[(20,), (20,)], order=LAST),
        ),
    ],
)
def test_a_large_mean_keeps_the_variance(kernel, case):
    target = HERE[0]
    region, _ = region_of(np.random.default_rng(2), **case, constant=False, epilogue=False)
    x = (1000.0 + np.random.default_rng(3).standard_normal(case["shape"])).astype(np.float32)
    arrays = [x, np.ones(case["weights"][0], np.float32), np.zeros(case["weights"][1], np.float32)]
    emitted = [kernel.emit(region, p, target) for p in kernel.space(region, target)]
    for code, function in zip(emitted, compiled(emitted, target)):
        np.testing.assert_allclose(
            run(function, code, region, arrays)[0], exact(region, x), atol=5e-4
        )


@pytest.mark.parametrize(
    "kernel, case, operand",
    [
        (norm.KERNEL, ROWS[0], 4),
        (norm_channels.KERNEL, CHANNELS[0], 4),
        (norm_lrn.KERNEL, NEIGHBOURS[0], 2),
    ],
)
def test_result_may_overwrite_the_residual(kernel, case, operand):
    target = HERE[0]
    region, arrays = region_of(np.random.default_rng(4), **case)
    assert kernel.in_place
    emitted = kernel.emit(region, kernel.space(region, target)[0], target)
    function = compiled([emitted], target)[0]
    together = run(function, emitted, region, arrays, overwrite=operand)[0]
    np.testing.assert_array_equal(run(function, emitted, region, arrays)[0], together)


def test_refusals():
    rng = np.random.default_rng(5)
    target = HERE[0]

    def answer(kernel, **case):
        return kernel.accepts(region_of(rng, **case)[0], target)

    planar = dict(op=InstanceNorm(1e-5), shape=(2, 5, 6, 9), weights=[(5,), (5,)])
    assert answer(norm.KERNEL, **planar) is None
    assert answer(norm_channels.KERNEL, **planar) == "channels are not consecutive"
    assert "contiguous" in answer(norm.KERNEL, **planar, order=LAST)
    assert "too short" in answer(
        norm.KERNEL, op=GroupNorm(4), shape=(2, 8, 4, 4), weights=[(8,), (8,)], order=LAST
    )
    assert "contiguous" in answer(
        norm.KERNEL, op=LayerNorm(1), shape=(4, 9), weights=[(9,)], order=(1, 0)
    )
    assert answer(norm_lrn.KERNEL, op=LRN(5), shape=(1, 8, 3, 3)) == "channels are not consecutive"
    assert "neighbours" in answer(norm_lrn.KERNEL, op=LRN(65), shape=(1, 80, 3, 3), order=LAST)
    assert answer(norm_lrn.KERNEL, **planar) == "the anchor is not LRN"
    assert "empty" in answer(norm.KERNEL, op=LayerNorm(1), shape=(0, 9), weights=[(9,)])
