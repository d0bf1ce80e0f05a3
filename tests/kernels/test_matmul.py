"""Matrix products of run-time operands on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.ir.op import Type
from strop.kernels.base import Operand, Region, View
from strop.kernels.c import matmul, matmul_dot
from strop.ops.matmul import MatMul
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check_all, compiled, run

HERE = [t for t in TARGETS.values() if runs_here(t)]


def dense(shape, slices=0):
    if not shape:
        return View.dense(shape, dt.f32)
    return View(shape, View.dense((*shape[:-1], shape[-1] + slices), dt.f32).strides, dt.f32)


def swapped(shape):
    """The last axis but one is the innermost in memory."""
    rank = len(shape)
    return View.dense(shape, dt.f32, (*range(rank - 2), rank - 1, rank - 2))


def product(
    rng, a, b, ta=False, tb=False, a_view=dense, b_view=dense, out_view=dense, epilogue=True
):
    """A region with a bias per column, a full residual and relu."""
    op = MatMul(ta, tb)
    out = op.infer([Type(dt.f32, a), Type(dt.f32, b)])[0].static_shape
    operands = [Operand(a_view(a)), Operand(b_view(b))]
    arrays = [rng.standard_normal(s).astype(np.float32) for s in (a, b)]
    expr = Input(0)
    if epilogue:
        bias = out[-1:]
        operands += [Operand(View.dense(bias, dt.f32).broadcast(out)), Operand(out_view(out))]
        arrays += [
            rng.standard_normal(bias).astype(np.float32),
            rng.standard_normal(out).astype(np.float32),
        ]
        expr = call("max", Input(0) + Input(1), 0.0) + Input(2)
    return Region(f"{op} {a} {b}", op, tuple(operands), 2, expr, (out_view(out),)), arrays


def sliced(shape):
    return dense(shape, 3)


TILES = {
    "plain": dict(a=(13, 20), b=(20, 37)),
    "whole vectors": dict(a=(12, 33), b=(33, 64)),
    "transposed b": dict(a=(9, 21), b=(35, 21), tb=True),
    "transposed a": dict(a=(19, 30), b=(19, 48), ta=True),
    "both transposed, sliced": dict(
        a=(22, 5), b=(18, 22), ta=True, tb=True, a_view=sliced, b_view=sliced, out_view=sliced
    ),
    "batches": dict(a=(2, 3, 7, 16), b=(2, 3, 16, 20)),
    "batches of one b": dict(a=(2, 5, 7, 16), b=(16, 33)),
    "batches of one a": dict(a=(7, 16), b=(4, 16, 33)),
    "broadcast both ways": dict(a=(3, 1, 6, 8), b=(1, 4, 8, 9)),
    "a row": dict(a=(40,), b=(40, 70)),
    "rows of batches": dict(a=(3, 1, 24), b=(24, 21)),
    "a row against batches": dict(a=(24,), b=(3, 24, 21)),
    "columns of the result strided": dict(a=(11, 14), b=(14, 26), out_view=swapped, epilogue=False),
    "heads": dict(
        a=(2, 9, 8),
        b=(2, 8, 21),
        out_view=lambda s: View(s, (s[2], 2 * s[2], 1), dt.f32),
        a_view=lambda s: View(s, (s[2], 2 * s[2], 1), dt.f32),
    ),
    "one number": dict(a=(3, 1, 12), b=(12, 1)),
    "k of one": dict(a=(5, 1), b=(1, 40)),
}
DOTS = {
    "transposed b": dict(a=(5, 37), b=(21, 37), tb=True),
    "a row": dict(a=(1, 200), b=(70, 200), tb=True),
    "matrix times vector": dict(a=(45, 64), b=(64,)),
    "batches, sliced": dict(a=(3, 4, 20), b=(3, 33, 20), tb=True, a_view=sliced, b_view=sliced),
    "vector times vector": dict(a=(50,), b=(50,)),
    "column": dict(a=(2, 19, 24), b=(24, 1)),
    "few columns": dict(a=(6, 16), b=(3, 16), tb=True),
}
BOTH = pytest.mark.parametrize(
    "kernel, named", [(matmul.KERNEL, TILES), (matmul_dot.KERNEL, DOTS)], ids=["tiles", "dots"]
)


@BOTH
@pytest.mark.parametrize("target", HERE, ids=str)
def test_cases(kernel, named, target):
    rng = np.random.default_rng(1)
    cases = [product(rng, **case) for case in named.values()]
    assert check_all(kernel, cases, target, every=False) == len(cases)


@BOTH
@pytest.mark.parametrize("target", HERE, ids=str)
def test_every_parameter_set(kernel, named, target):
    rng = np.random.default_rng(2)
    cases = [product(rng, **named[name]) for name in list(named)[:2]]
    assert check_all(kernel, cases, target) >= 4


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize(
    "kernel, case",
    [
        (matmul.KERNEL, dict(a=(100, 40), b=(40, 150))),
        (matmul.KERNEL, dict(a=(700, 90), b=(90, 20))),
        (matmul.KERNEL, dict(a=(2, 60, 64), b=(2, 50, 64), tb=True)),
        (matmul_dot.KERNEL, dict(a=(2, 900), b=(300, 900), tb=True)),
    ],
)
def test_work_is_split(kernel, case, target):
    rng = np.random.default_rng(3)
    wide = target.with_cores(2)
    region, arrays = product(rng, **case)
    assert tasks_of(kernel, region, wide) >= 2
    check_all(kernel, [(region, arrays)], wide, every=False)


def tasks_of(kernel, region, target):
    return kernel.emit(region, kernel.space(region, target)[0], target).tasks


def test_leading_axes_become_rows():
    rng = np.random.default_rng(4)
    plan = matmul.plan_of(product(rng, (4, 5, 6, 8), (8, 16))[0])
    assert (plan.m, plan.n, plan.k, plan.batch.extents) == (120, 16, 8, (1,))
    plan = matmul.plan_of(product(rng, (4, 5, 6, 8), (4, 1, 8, 16))[0])
    assert (plan.m, plan.batch.extents) == (30, (4,))
    plan = matmul.plan_of(product(rng, (7, 5), (5,))[0])  # as a row of b against the columns of a^T
    assert (plan.m, plan.n, plan.operands) == (1, 7, (1, 0))


@pytest.mark.parametrize(
    "kernel, case", [(matmul.KERNEL, TILES["plain"]), (matmul_dot.KERNEL, DOTS["transposed b"])]
)
def test_result_may_overwrite_the_residual(kernel, case):
    target = HERE[0]
    region, arrays = product(np.random.default_rng(5), **case)
    assert kernel.in_place
    emitted = kernel.emit(region, kernel.space(region, target)[0], target)
    function = compiled([emitted], target)[0]
    together = run(function, emitted, region, arrays, overwrite=3)[0]
    np.testing.assert_array_equal(run(function, emitted, region, arrays)[0], together)


def test_refusals():
    target = HERE[0]
    rng = np.random.default_rng(6)
    region, _ = product(rng, (4, 6), (6, 8), epilogue=False)

    def changed(kernel, **fields):
        return kernel.accepts(Region(**{**region.__dict__, **fields}), target)

    assert changed(matmul.KERNEL) is None
    assert "summed axis" in changed(matmul_dot.KERNEL)
    assert changed(matmul.KERNEL, op=None) == "the anchor is not matmul"
    assert "consecutive" in changed(matmul.KERNEL, outs=(View((4, 8), (32, 2), dt.f32),))
    assert "f32" in changed(matmul.KERNEL, outs=(View.dense((4, 8), dt.f64),))
    none = (Operand(View.dense((4, 0), dt.f32)), Operand(View.dense((0, 8), dt.f32)))
    assert "empty" in changed(matmul.KERNEL, operands=none)
