"""Reductions and searches along axes, on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c import reduce, reduce_arg
from strop.kernels.c.reduce import Params
from strop.ops.reduce import KINDS, ArgReduce, Reduce
from strop.target.detect import TARGETS, runs_here
from tests import golden
from tests.kernels.harness import check_all, compiled, run

HERE = [t for t in TARGETS.values() if runs_here(t)]
X = Input(0)
NHWC = (0, 2, 3, 1)


def case(op, shape, order=None, slack=0, epilogue=False, values=None, result=None):
    """A region; ``slack`` elements more than used lie between the operand's rows."""
    rng = np.random.default_rng(sum(shape))
    wide = [d + slack * (k + 1) for k, d in enumerate(shape)]
    x = View(tuple(shape), View.dense(wide, dt.f32, order).strides, dt.f32)
    (out,) = op.infer([x.type])
    y = View.dense(out.static_shape, out.dtype, result)
    operands, arrays, expr = [Operand(x)], [rng.uniform(0.2, 2.0, shape).astype(np.float32) if values is None else values], X
    if epilogue:
        last = tuple(1 if k < len(y.shape) - 1 else d for k, d in enumerate(y.shape))
        operands += [Operand(y), Operand(View.dense(last, dt.f32).broadcast(y.shape))]
        arrays += [rng.standard_normal(y.shape).astype(np.float32), rng.standard_normal(last).astype(np.float32)]
        expr = call("max", X * Input(1) + Input(2), -0.75)
    return Region(f"{op} {shape} {order} {slack} {epilogue}", op, tuple(operands), 1, expr, (y,)), arrays


CASES = [
    *[case(Reduce(kind, (2, 3)), (2, 37, 5, 6), NHWC, epilogue=k % 2 == 0) for k, kind in enumerate(KINDS)],
    *[case(Reduce(kind, (1,)), (5, 83), epilogue=k % 2 == 1) for k, kind in enumerate(KINDS)],
    *[case(Reduce(kind, (0, 2), False), (5, 7, 19), slack=1, epilogue=True) for kind in ("mean", "max", "logsumexp")],
    case(Reduce("mean", (2, 3)), (1, 48, 30, 30), NHWC),  # longer than a part of a sum
    case(Reduce("mean", (2, 3)), (1, 9, 9, 80), NHWC, slack=1),
    case(Reduce("sum", (1,)), (2, 700, 33)),
    case(Reduce("sum", (0, 1, 2, 3), False), (2, 3, 40, 41)),
    case(Reduce("l2", (0,)), (9000,)),
    case(Reduce("mean", (2, 3)), (2, 70, 4, 4), NHWC, result=NHWC),
    case(Reduce("sum", (1,)), (3, 4, 21), (2, 1, 0), slack=2),
    case(Reduce("sum", (-1,), False), (4, 5, 1), epilogue=True),
    case(Reduce("sum", ()), (4, 5)),
    case(Reduce("max", (), False), ()),
    case(Reduce("prod", (0,), False), (3,)),
]
ARG_CASES = [
    case(ArgReduce(kind, axis, keep, last), shape, order, slack)
    for kind, last in (("max", False), ("min", True))
    for shape, axis, keep, order, slack in (
        ((6, 200), 1, True, None, 0),
        ((6, 200), 0, False, None, 3),
        ((2, 21, 5, 9), 1, True, NHWC, 0),
        ((2, 21, 5, 9), 1, False, None, 0),
        ((300,), 0, False, None, 0),
        ((5,), 0, True, None, 0),
        ((4, 1), 1, True, None, 0),
    )
]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_reductions(target):
    done = check_all(reduce.KERNEL, CASES, target, every=target is HERE[0])
    assert done > len(CASES) or target is not HERE[0]
    check_all(reduce.KERNEL, CASES[::3], target.with_cores(5), every=False)


@pytest.mark.parametrize("target", HERE, ids=str)
def test_searches(target):
    rng = np.random.default_rng(8)
    cases = ARG_CASES + [(r, [rng.integers(0, 3, a[0].shape).astype(np.float32)]) for r, a in ARG_CASES]
    for _, (values, *_) in cases[:: 2]:
        if values.size > 100:
            values[values > np.quantile(values, 0.98)] = np.nan
    assert check_all(reduce_arg.KERNEL, cases, target) > len(cases)
    check_all(reduce_arg.KERNEL, cases, target.with_cores(5), every=False)


@pytest.mark.parametrize("target", HERE, ids=str)
def test_every_way_of_every_case(target):
    """Also those that the cost model would not offer."""
    for kernel, op in ((reduce.KERNEL, Reduce("max", (1,))), (reduce.KERNEL, Reduce("logsumexp", (1,))), (reduce_arg.KERNEL, ArgReduce("max", 1))):
        region, arrays = case(op, (3, 50, 23))
        emitted = [kernel.emit(region, Params(way, n), target) for way in ("across", "along") for n in (1, 2, 4)]
        for code, function in zip(emitted, compiled(emitted, target)):
            want = op.reference(*arrays)[0]
            np.testing.assert_allclose(run(function, code, region, arrays)[0], want, rtol=1e-5)


@pytest.mark.parametrize("target", HERE, ids=str)
def test_infinities_and_nan(target):
    x = np.ones((6, 40), np.float32)
    x[0, 3], x[1, 39], x[2, 0], x[3, 5], x[3, 6] = np.inf, -np.inf, np.nan, np.inf, -np.inf
    x[4] = -np.inf
    for axis, values in ((1, x), (0, np.ascontiguousarray(x.T))):
        cases = [case(Reduce(kind, (axis,)), values.shape, values=values) for kind in KINDS]
        with np.errstate(all="ignore"):
            check_all(reduce.KERNEL, cases, target)


def test_long_sums_stay_exact():
    """The error of a sum of a million numbers is that of a few hundred."""
    target = HERE[0]
    for shape, axis in (((1_000_000,), 0), ((100_000, 16), 0)):
        x = np.random.default_rng(3).uniform(0, 1, shape).astype(np.float32)
        region, arrays = case(Reduce("sum", (axis,)), shape, values=x)
        emitted = [reduce.KERNEL.emit(region, p, target) for p in reduce.KERNEL.space(region, target)]
        for code, function in zip(emitted, compiled(emitted, target)):
            got = run(function, code, region, arrays)[0]
            np.testing.assert_allclose(got, x.sum(axis=axis, keepdims=True, dtype=np.float64), rtol=3e-6)


def test_refusals():
    target = HERE[0]
    x = Operand(View.dense((3, 4), dt.i32))
    y = View.dense((3, 1), dt.i32)
    assert "f32" in reduce.KERNEL.accepts(Region("", Reduce("sum", (1,)), (x,), 1, X, (y,)), target)
    assert "not reduce" in reduce.KERNEL.accepts(case(ArgReduce("max", 0), (3,))[0], target)
    assert "nothing" in reduce.KERNEL.accepts(case(Reduce("sum", (1,)), (3, 0))[0], target)
    assert "not arg_reduce" in reduce_arg.KERNEL.accepts(case(Reduce("sum", (1,)), (3, 2))[0], target)
    assert "f32" in reduce_arg.KERNEL.accepts(Region("", ArgReduce("max", 1), (x,), 1, X, (View.dense((3, 1), dt.i64),)), target)
    region, _ = case(ArgReduce("max", 1), (3, 4))
    assert "epilogue" in reduce_arg.KERNEL.accepts(Region(**{**region.__dict__, "epilogue": X + X}), target)


def test_c_text(request):
    target = TARGETS["x86-64"].with_cores(1)
    region, _ = case(Reduce("mean", (2, 3)), (1, 6, 7, 7), NHWC)
    golden.check("c/reduce.c", reduce.KERNEL.emit(region, Params("across", 2), target).body + "\n", request.config)
    region, _ = case(ArgReduce("max", 1), (3, 10))
    golden.check("c/reduce_arg.c", reduce_arg.KERNEL.emit(region, Params("along", 1), target).body + "\n", request.config)
