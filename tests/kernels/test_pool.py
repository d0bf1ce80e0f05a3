"""Pools on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.pool import KERNEL, Params
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce
from strop.target.detect import TARGETS, runs_here
from tests import golden
from tests.kernels.harness import check_all, compiled, run

HERE = [t for t in TARGETS.values() if runs_here(t)]
X = Input(0)


def last(rank):
    return (0, *range(2, rank), 1)


def case(op, shape, order=None, slack=0, epilogue=False, values=None):
    """Channels-last unless ``order`` says otherwise; ``slack`` further channels belong to a wider buffer on both sides."""
    order = last(len(shape)) if order is None else order
    rng = np.random.default_rng(sum(shape))

    def view(dims):
        wide = list(dims)
        wide[order[-1]] += slack
        return View(tuple(dims), View.dense(wide, dt.f32, order).strides, dt.f32)

    x = view(shape)
    (out,) = op.infer([x.type])
    y = view(out.static_shape)
    operands, arrays, expr = [Operand(x)], [rng.standard_normal(shape).astype(np.float32) if values is None else values], X
    if epilogue:
        channel = tuple(d if k == 1 else 1 for k, d in enumerate(y.shape))
        operands += [Operand(y), Operand(View.dense(channel, dt.f32).broadcast(y.shape))]
        arrays += [rng.standard_normal(y.shape).astype(np.float32), rng.standard_normal(channel).astype(np.float32)]
        expr = call("max", X * Input(2) + Input(1), -0.5)
    return Region(f"{op} {shape} {order} {slack} {epilogue}", op, tuple(operands), 1, expr, (y,)), arrays


def window(kernel, strides=None, pads=None, dilations=None):
    rank = len(kernel)
    return kernel, strides or (1,) * rank, pads or (0,) * 2 * rank, dilations or (1,) * rank


WINDOWS = [
    (window((3, 3), (2, 2), (1, 1, 1, 1)), (2, 37, 9, 10)),
    (window((3, 3), (1, 1), (1, 1, 1, 1)), (1, 70, 6, 5)),
    (window((2, 2), (2, 2)), (1, 16, 7, 8)),
    (window((5, 3), (1, 2), (2, 0, 1, 1), (1, 2)), (1, 5, 11, 12)),
    (window((3, 3), (2, 2), None, (2, 1)), (1, 8, 10, 11)),
    (window((3,), (2,), (1, 1)), (2, 20, 15)),
    (window((12,), (3,), (5, 2)), (1, 3, 30)),
    (window((2, 3, 2), (1, 2, 2), (1, 1, 0, 0, 1, 1)), (1, 19, 5, 6, 7)),
    (window((1, 4), (1, 1), (0, 3, 0, 3)), (1, 4, 3, 6)),
    (window((4, 1), (1, 3), (3, 0, 3, 0)), (1, 4, 3, 6)),
    (window((6, 6), (1, 1), (3, 3, 2, 2)), (1, 17, 4, 4)),  # windows larger than the input
]
CASES = []
for number, (w, shape) in enumerate(WINDOWS):
    CASES.append(case(MaxPool(*w), shape, epilogue=number % 2 == 0))
    CASES.append(case(AveragePool(*w), shape, epilogue=number % 2 == 1))
    CASES.append(case(AveragePool(*w, count_include_pad=True), shape, slack=3))
    CASES.append(case(MaxPool(*w, ceil_mode=True), shape, slack=3, epilogue=True))
    CASES.append(case(AveragePool(*w, ceil_mode=True, count_include_pad=True), shape, order=tuple(range(len(shape)))))


def whole_numbers(region, arrays, kind):
    """The same maximum over integers of the whole range of an 8-bit dtype."""
    def turned(view):
        return View(view.shape, view.strides, kind)

    info = np.iinfo(str(kind.numpy))
    x = np.random.default_rng(4).integers(info.min, info.max + 1, arrays[0].shape).astype(kind.numpy)
    return Region(f"{region.name} {kind}", region.op, (Operand(turned(region.operand(0).view)),), 1, X, (turned(region.out),)), [x]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_maxima_of_bytes(target):
    plain = [case(MaxPool(*w, ceil_mode=number % 2 == 0), shape, slack=number % 4) for number, (w, shape) in enumerate(WINDOWS)]
    cases = [whole_numbers(*c, (dt.u8, dt.i8, dt.i16)[number % 3]) for number, c in enumerate(plain)]
    check_all(KERNEL, cases, target, tolerance=0.0, every=target is HERE[0])


@pytest.mark.parametrize("target", HERE, ids=str)
def test_windows(target):
    done = check_all(KERNEL, CASES, target, every=target is HERE[0])
    assert done > len(CASES) or target is not HERE[0]
    check_all(KERNEL, CASES[::4], target.with_cores(5), every=False)


@pytest.mark.parametrize("target", HERE, ids=str)
def test_nan_and_infinities(target):
    """NaN wins in a maximum, and padding never does."""
    x = np.full((1, 20, 6, 6), -np.inf, np.float32)
    x[0, ::2, 2, 2] = np.nan
    x[0, 1::2, 4, 1] = 3.0
    x[0, 5, 0, 0] = np.inf
    cases = [case(MaxPool(*window((3, 3), (1, 1), (1, 1, 1, 1))), x.shape, values=x)]
    cases.append(case(AveragePool(*window((3, 3), (1, 1), (1, 1, 1, 1))), x.shape, values=x))
    with np.errstate(invalid="ignore"):
        check_all(KERNEL, cases, target)


def test_both_ways_agree_on_maxima():
    target = HERE[0]
    region, arrays = case(MaxPool(*window((3, 3), (1, 1), (1, 1, 1, 1))), (2, 40, 8, 9))
    emitted = [KERNEL.emit(region, Params(way, n), target) for way in ("direct", "rows") for n in (1, 2)]
    assert [e.scratch > 0 for e in emitted] == [False, False, True, True]
    want = region.op.reference(*arrays)[0]
    for code, function in zip(emitted, compiled(emitted, target)):
        np.testing.assert_array_equal(run(function, code, region, arrays)[0], want)


def test_refusals():
    target = HERE[0]
    region, _ = case(MaxPool(*window((2, 2))), (1, 3, 4, 5))
    assert KERNEL.accepts(region, target) is None
    assert "not a pool" in KERNEL.accepts(Region(**{**region.__dict__, "op": Reduce("sum", (1,))}), target)
    whole = View.dense((1, 3, 4, 5), dt.i32)
    assert "f32" in KERNEL.accepts(Region(**{**region.__dict__, "operands": (Operand(whole),)}), target)
    empty = View.dense((0, 3, 3, 4), dt.f32)
    assert "empty" in KERNEL.accepts(Region(**{**region.__dict__, "outs": (empty,)}), target)


def test_c_text(request):
    target = TARGETS["x86-64"].with_cores(1)
    region, _ = case(AveragePool(*window((3, 3), (2, 2), (1, 1, 1, 1))), (1, 10, 8, 8))
    texts = [KERNEL.emit(region, Params(way, 2), target).body for way in ("direct", "rows")]
    golden.check("c/pool.c", "\n\n".join(texts) + "\n", request.config)
