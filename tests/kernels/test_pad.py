"""Padding on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.pad import KERNEL
from strop.ops.data import PAD_MODES, Pad
from strop.ops.reduce import Reduce
from strop.target.detect import TARGETS, runs_here
from tests import golden
from tests.kernels.harness import check_all

HERE = [t for t in TARGETS.values() if runs_here(t)]
X = Input(0)


def view(shape, dtype, order=None, slack=0):
    wide = [d + slack * (k + 1) for k, d in enumerate(shape)]
    return View(tuple(shape), View.dense(wide, dtype, order).strides, dtype)


def case(shape, pads, mode="constant", value=1.5, dtype=dt.f32, orders=(None, None), slack=(0, 0)):
    """A region with an operand and a result in the given orders of axes, with room between their rows."""
    op = Pad(tuple(pads), mode, value)
    x = view(shape, dtype, orders[0], slack[0])
    (out,) = op.infer([x.type])
    y = view(out.static_shape, dtype, orders[1], slack[1])
    values = np.random.default_rng(sum(shape)).integers(0, 2 if dtype is dt.boolean else 100, shape).astype(dtype.numpy)
    return Region(f"pad {x} {pads} {mode} {orders}", op, (Operand(x),), 1, X, (y,)), [values]


NHWC = (0, 2, 3, 1)
CASES = [
    case(shape, pads, mode, value, orders=orders, slack=slack)
    for mode in PAD_MODES
    for value in ((0.0, 1.5) if mode == "constant" else (0.0,))
    for shape, pads, orders, slack in (
        ((1, 576), (0, 0, 0, 64), (None, None), (0, 0)),
        ((2, 400), (0, 130, 0, 128), (None, None), (1, 2)),
        ((2, 3, 9, 7), (0, 0, 1, 2, 0, 0, 2, 1), (None, None), (0, 0)),
        ((2, 3, 9, 7), (0, 0, 1, 2, 0, 0, 2, 1), (NHWC, NHWC), (0, 0)),
        ((2, 3, 9, 7), (0, 0, 1, 2, 0, 0, 2, 1), (None, NHWC), (0, 1)),
        ((1, 40, 30), (0, 0, -3, 0, 0, 11), ((0, 2, 1), None), (0, 0)),
        ((1, 40, 30), (0, 0, -3, 0, 0, 11), ((0, 2, 1), (0, 2, 1)), (0, 0)),
        ((6, 8), (2, -2, 3, -1), (None, None), (0, 0)),
        ((6, 8), (-2, -2, -1, -1), (None, None), (0, 0)),
        ((3, 6), (2, 5, 2, 5), (None, (1, 0)), (0, 0)),
        ((5,), (0, 0), (None, None), (0, 0)),
        ((5, 1, 4), (2, 0, 1, 2, 0, 1), (None, None), (0, 0)),
    )
    if mode != "constant" or value == 0.0 or shape != (5,)
]
SIZES = [
    case((3, 20), (1, 2, 0, 3), mode, 1.0, dtype)
    for dtype in (dt.u8, dt.boolean, dt.i8, dt.i16, dt.f16, dt.bf16, dt.i32, dt.i64, dt.f64)
    for mode in ("constant", "edge")
]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_modes_and_layouts(target):
    assert check_all(KERNEL, CASES, target) == len(CASES)
    check_all(KERNEL, CASES[::3], target.with_cores(7))


@pytest.mark.parametrize("target", HERE, ids=str)
def test_sizes_of_elements(target):
    assert check_all(KERNEL, SIZES, target) == len(SIZES)


def test_refusals():
    target = HERE[0]
    region, _ = case((4, 5), (1, 1, 1, 1))
    assert "not pad" in KERNEL.accepts(Region(**{**region.__dict__, "op": Reduce("sum", (1,))}), target)
    assert "epilogue" in KERNEL.accepts(Region(**{**region.__dict__, "epilogue": X + X}), target)
    assert "nothing" in KERNEL.accepts(case((0, 5), (1, 1, 1, 1))[0], target)


def test_c_text(request):
    target = TARGETS["x86-64"].with_cores(1)
    cases = (
        ((4, 3, 50), (0, 1, 2, 0, 1, 0), "constant"),
        ((2, 300), (0, 70, 0, 70), "reflect"),
    )
    texts = [KERNEL.emit(case(*c)[0], None, target).body for c in cases]
    golden.check("c/pad.c", "\n\n".join(texts) + "\n", request.config)
