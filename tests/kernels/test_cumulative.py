"""Running sums and products: both directions, exclusive or not, layouts, dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.kernels.base import Operand, Region, View
from strop.kernels.c import naive
from strop.kernels.c.cumulative import KERNEL
from strop.ops.cumulative import CumProd, CumSum
from strop.ops.index import TopK
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check_all

HERE = [t for t in TARGETS.values() if runs_here(t)]
X = Input(0)


def case(shape, op, dtype=dt.f32, order=None):
    rng = np.random.default_rng(sum(shape))
    x = View.dense(shape, dtype, order)
    array = rng.uniform(0.5, 1.5, shape).astype(dtype.numpy) if dtype.is_float else rng.integers(0, 4, shape).astype(dtype.numpy)
    return Region(f"{op} {x}", op, (Operand(x),), 1, X, (View.dense(shape, dtype, order),)), [array]


CASES = [
    *[
        case((3, 6, 17), kind(axis, exclusive, reverse))
        for kind in (CumSum, CumProd)
        for axis in (0, 1, 2)
        for exclusive in (False, True)
        for reverse in (False, True)
    ],
    *[case((3, 6, 17), CumSum(axis), order=(2, 0, 1)) for axis in (0, 1, 2)],
    *[case((5, 9), CumSum(1), dtype=d) for d in (dt.f64, dt.f16, dt.bf16, dt.i64, dt.i32, dt.u8, dt.i8)],
    case((7,), CumSum(0, True)),
    case((1, 1), CumProd(1)),
]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_directions_layouts_and_dtypes(target):
    assert check_all(KERNEL, CASES, target) == len(CASES)
    check_all(KERNEL, CASES[:4], target.with_cores(5))


def test_it_is_preferred_to_the_naive_kernel():
    region, _ = case((64, 1000), CumSum(1))
    assert KERNEL.cost(region, None, HERE[0]) < naive.KERNEL.cost(region, None, HERE[0])


def test_refusals():
    fields = case((4, 5), CumSum(1))[0].__dict__
    assert "no running sum" in KERNEL.accepts(Region(**{**fields, "op": TopK(1, 2)}), HERE[0])
    assert "epilogue" in KERNEL.accepts(Region(**{**fields, "epilogue": X + X}), HERE[0])
    assert "nothing" in KERNEL.accepts(case((4, 0), CumSum(1))[0], HERE[0])
