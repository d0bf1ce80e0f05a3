"""Softmax and log-softmax on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.softmax import KERNEL
from strop.ops.softmax import LogSoftmax, Softmax
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check_all, compiled, run

HERE = [t for t in TARGETS.values() if runs_here(t)]


def softmax(rng, shape, axis=-1, log=False, order=None, slices=0, epilogue=True):
    """A region; ``slices`` elements more than used lie at the end of the innermost axis."""
    order = tuple(range(len(shape))) if order is None else order
    wide = list(shape)
    wide[order[-1]] += slices
    view = View(shape, View.dense(wide, dt.f32, order).strides, dt.f32)
    operands = [Operand(view)]
    arrays = [(3.0 * rng.standard_normal(shape)).astype(np.float32)]
    expr = Input(0)
    if epilogue:
        last = tuple(s if a == len(shape) - 1 else 1 for a, s in enumerate(shape))
        operands += [
            Operand(View.dense(last, dt.f32).broadcast(shape)),
            Operand(View.dense(shape, dt.f32)),
        ]
        arrays += [
            rng.standard_normal(last).astype(np.float32),
            rng.standard_normal(shape).astype(np.float32),
        ]
        expr = call("max", Input(0) * Input(1) + Input(2), -1.0)
    op = (LogSoftmax if log else Softmax)(axis)
    return Region(f"{op} {shape} {order} {slices}", op, tuple(operands), 1, expr, (view,)), arrays


CASES = [
    dict(shape=(3, 10)),
    dict(shape=(2, 5, 197), slices=4),
    dict(shape=(4, 1000), epilogue=False),
    dict(shape=(1, 16), epilogue=False),
    dict(shape=(7,)),
    dict(shape=(5, 1)),
    dict(shape=(2, 21, 6, 9), axis=1, order=(0, 2, 3, 1)),
    dict(shape=(2, 12, 45), axis=1),
    dict(shape=(3, 5, 4, 33), axis=-3, slices=2),
    dict(shape=(9, 70), axis=0, order=(0, 1), epilogue=False),
    dict(shape=(2, 3, 5, 31), axis=2, order=(2, 0, 1, 3)),
]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_cases(target):
    rng = np.random.default_rng(1)
    cases = [softmax(rng, **case, log=log) for case in CASES for log in (False, True)]
    assert check_all(KERNEL, cases, target) > len(cases)
    check_all(KERNEL, cases[:12], target.with_cores(5), every=False)


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_values_that_overflow_the_exponential(target, axis):
    """The maximum is subtracted first; minus infinity gives 0; rows without a number, NaN."""
    region, _ = softmax(np.random.default_rng(2), (40, 40), axis, epilogue=False)
    x = np.random.default_rng(3).standard_normal((40, 40)).astype(np.float32)
    rows = x if axis == 1 else x.T
    rows[0] += 1000.0
    rows[1] -= 1000.0
    rows[2, ::2] = -np.inf
    rows[3] = -np.inf
    rows[4, 7] = np.nan
    rows[5, 39] = 300.0
    emitted = [KERNEL.emit(region, p, target) for p in KERNEL.space(region, target)]
    for code, function in zip(emitted, compiled(emitted, target)):
        got = run(function, code, region, [x])[0]
        got = got if axis == 1 else got.T
        assert np.isnan(got[3]).all() and np.isnan(got[4]).all()
        good = [r for r in range(40) if r not in (3, 4)]
        want = np.exp(rows[good] - rows[good].max(1, keepdims=True), dtype=np.float64)
        np.testing.assert_allclose(
            got[good], want / want.sum(1, keepdims=True), rtol=1e-5, atol=1e-30
        )
        assert (got[2, ::2] == 0).all() and got[5, 39] == 1


def test_refusals():
    rng = np.random.default_rng(4)
    target = HERE[0]
    region, _ = softmax(rng, (4, 6, 8), epilogue=False)

    def changed(**fields):
        return KERNEL.accepts(Region(**{**region.__dict__, **fields}), target)

    assert changed() is None
    assert changed(op=None) == "the anchor is not softmax"
    assert "f32" in changed(outs=(View.dense((4, 6, 8), dt.f64),))
    gaps = View((4, 6, 8), (96, 16, 2), dt.f32)
    assert "contiguous" in changed(operands=(Operand(gaps),), outs=(gaps,))
    assert "empty" in changed(
        operands=(Operand(View.dense((0, 8), dt.f32)),), outs=(View.dense((0, 8), dt.f32),)
    )
