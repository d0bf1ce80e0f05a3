"""Picking the best k elements: sizes around a heap's levels, ties, NaN, layouts, dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.kernels.base import Operand, Region, View
from strop.kernels.c import naive
from strop.kernels.c.top_k import KERNEL
from strop.ops.index import TopK
from strop.ops.reduce import ArgReduce
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check_all, execute

HERE = [t for t in TARGETS.values() if runs_here(t)]


def case(shape, axis, k, largest=True, dtype=dt.f32, order=None, values=40):
    """A region over few distinct values, so that there are ties."""
    rng = np.random.default_rng(sum(shape) + k)
    op = TopK(axis, k, largest)
    x = View.dense(shape, dtype, order)
    outs = tuple(View.dense(t.static_shape, t.dtype, order) for t in op.infer([x.type]))
    array = rng.integers(0, values, shape).astype(dtype.numpy)
    return Region(f"top_k {shape} {axis} {k} {dtype}", op, (Operand(x),), 1, Input(0), outs), [array]


CASES = [
    *[case((3, 50), 1, k, largest) for k in (1, 2, 3, 7, 8, 49, 50) for largest in (True, False)],
    *[case((4, 9, 5), a, 4) for a in (0, 1, 2)],
    *[case((4, 9, 5), a, 3, order=(2, 0, 1)) for a in (0, 1, 2)],
    *[case((2, 33), 1, 9, dtype=d) for d in (dt.f64, dt.f16, dt.bf16, dt.i64, dt.i8, dt.u8, dt.u32)],
    case((1,), 0, 1),
    case((20000,), 0, 300, values=10**6),
]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_sizes_layouts_and_dtypes(target):
    assert check_all(KERNEL, CASES, target) == len(CASES)


@pytest.mark.parametrize("largest", [True, False])
def test_nan_counts_as_the_largest(largest):
    region, _ = case((12,), 0, 12, largest)
    x = np.float32([3, np.nan, 1, np.inf, -np.inf, np.nan, 0, -0.0, 7, 1, 3, -2])
    values, indices = execute(KERNEL.emit(region, None, HERE[0]), region, [x], HERE[0])
    wanted, places = region.op.reference(x)
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_array_equal(values, wanted)


def test_it_is_preferred_where_rows_are_long():
    region, _ = case((8400,), 0, 300)
    target = HERE[0]
    assert KERNEL.cost(region, None, target) < naive.KERNEL.cost(region, None, target) / 100


def test_refusals():
    region, _ = case((4, 5), 1, 2)
    fields = region.__dict__
    assert "not top_k" in KERNEL.accepts(Region(**{**fields, "op": ArgReduce("max", 1)}), HERE[0])
    assert "one view per result" in KERNEL.accepts(Region(**{**fields, "outs": region.outs[:1]}), HERE[0])
    assert "nothing" in KERNEL.accepts(case((4, 5), 1, 0)[0], HERE[0])
