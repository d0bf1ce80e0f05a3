"""Copies between layouts on every instruction set the host has."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.copy import KERNEL
from strop.target.detect import TARGETS, runs_here
from tests import golden
from tests.kernels.harness import check_all

HERE = [t for t in TARGETS.values() if runs_here(t)]
X = Input(0)


def view(shape, dtype, order, slack=0):
    wide = [d + slack * (k + 1) for k, d in enumerate(shape)]
    return View(tuple(shape), View.dense(wide, dtype, order).strides, dtype)


def copy(shape, source, result, dtype=dt.f32, slack=(0, 0)):
    """A region that changes the order of axes, with room between rows of either side."""
    x, y = view(shape, dtype, source, slack[0]), view(shape, dtype, result, slack[1])
    values = np.random.default_rng(sum(shape)).integers(0, 2 if dtype is dt.boolean else 100, shape).astype(dtype.numpy)
    return Region(f"copy {dtype} {shape} {source} {result} {slack}", None, (Operand(x),), 0, X, (y,)), [values]


NCHW, NHWC = (0, 1, 2, 3), (0, 2, 3, 1)
CASES = [
    *[copy((2, c, 9, 7), a, b) for c in (1, 2, 3, 4, 5, 8, 9, 16, 17, 33) for a, b in ((NCHW, NHWC), (NHWC, NCHW))],
    *[copy((1, 3, 40, 50), a, b) for a, b in ((NCHW, NHWC), (NHWC, NCHW))],
    *[copy((1, 100, 20, 21), a, b) for a, b in ((NCHW, NHWC), (NHWC, NCHW))],
    *[copy((50, 2, 29), (0, 1, 2), order) for order in itertools.permutations(range(3))],
    *[copy((50, 29, 2), (0, 1, 2), order, slack=(1, 0)) for order in ((0, 2, 1), (2, 1, 0))],
    copy((70, 130), (0, 1), (1, 0), slack=(1, 2)),
    copy((19, 3, 64), (0, 1, 2), (1, 0, 2)),
    copy((7, 3, 700), (0, 1, 2), (1, 0, 2), slack=(2, 0)),
    copy((2, 3, 4, 5, 6), (0, 1, 2, 3, 4), (4, 2, 0, 3, 1), slack=(1, 1)),
    copy((5, 6), (0, 1), (0, 1), slack=(3, 1)),
    copy((20000,), (0,), (0,)),
    copy((1,), (0,), (0,)),
    copy((), (), ()),
    copy((2, 9000), (0, 1), (1, 0)),
    copy((9000, 2), (0, 1), (1, 0)),
]
SIZES = [
    copy(shape, (0, 1, 2), order, dtype, slack)
    for dtype in (dt.u8, dt.boolean, dt.i16, dt.bf16, dt.f64, dt.i64)
    for shape, order, slack in (
        ((3, 37, 50), (0, 2, 1), (0, 0)),
        ((3, 50, 3), (0, 2, 1), (0, 0)),
        ((2, 3, 50), (0, 2, 1), (1, 0)),
        ((20, 30, 40), (2, 1, 0), (0, 1)),
        ((6, 5, 21), (1, 0, 2), (0, 0)),
    )
]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_orders_of_axes(target):
    check_all(KERNEL, CASES, target)
    check_all(KERNEL, CASES[::3], target.with_cores(7), every=False)


@pytest.mark.parametrize("target", HERE, ids=str)
def test_sizes_of_elements(target):
    check_all(KERNEL, SIZES, target)


def test_repeated_and_scattered_operands():
    """Strides of 0, a step of 2 along the innermost axis, and a result whose elements lie apart."""
    rng = np.random.default_rng(3)
    row = rng.standard_normal((4, 1, 6)).astype(np.float32)
    out = View.dense((4, 5, 6), dt.f32)
    cases = [
        (Region("repeat", None, (Operand(View.dense((4, 1, 6), dt.f32).broadcast((4, 5, 6))),), 0, X, (out,)), [row]),
        (Region("scalar", None, (Operand(View.dense((), dt.f32).broadcast((4, 5, 6))),), 0, X, (out,)), [np.float32(2.5).reshape(())]),
        (Region("step", None, (Operand(View((4, 5, 6), (70, 13, 2), dt.f32)),), 0, X, (out,)), [np.tile(row, (1, 5, 1))]),
        (Region("apart", None, (Operand(out),), 0, X, (View((4, 5, 6), (3, 90, 14), dt.f32),)), [np.tile(row, (1, 5, 1))]),
    ]
    check_all(KERNEL, cases, HERE[0])


def test_tasks_cover_large_copies():
    """Work is cut along outer axes or along the transposed one."""
    target = HERE[0].with_cores(2)
    for case, least in ((copy((1, 3, 224, 224), NCHW, NHWC), 4), (copy((64, 3136), (0, 1), (1, 0)), 4), (copy((200_000,), (0,), (0,)), 4)):
        emitted = [KERNEL.emit(case[0], p, target) for p in KERNEL.space(case[0], target)]
        assert all(e.tasks >= least for e in emitted)
        check_all(KERNEL, [case], target)


def test_refusals():
    out = View.dense((3, 4), dt.f32)
    target = HERE[0]
    one = Operand(out)
    assert KERNEL.accepts(Region("", None, (one,), 0, X, (out,)), target) is None
    assert KERNEL.accepts(Region("", None, (one,), 0, X * 2.0, (out,)), target) == "more than a copy"
    assert KERNEL.accepts(Region("", None, (one, one), 0, X, (out,)), target) == "more than a copy"
    assert "dtype" in KERNEL.accepts(Region("", None, (Operand(View.dense((3, 4), dt.i32)),), 0, X, (out,)), target)
    empty = View.dense((0, 4), dt.f32)
    assert "empty" in KERNEL.accepts(Region("", None, (Operand(empty),), 0, X, (empty,)), target)


def test_c_text(request):
    region, _ = copy((1, 3, 30, 40), NCHW, NHWC)
    emitted = KERNEL.emit(region, KERNEL.space(region, TARGETS["x86-64"])[0], TARGETS["x86-64"].with_cores(1))
    golden.check("c/copy.c", "\n".join([*emitted.helpers, emitted.body]) + "\n", request.config)
