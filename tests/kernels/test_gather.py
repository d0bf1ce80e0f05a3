"""Gathers on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.gather import KERNEL
from strop.ops.index import Gather
from strop.ops.reduce import Reduce
from strop.target.detect import TARGETS, runs_here
from tests import golden
from tests.kernels.harness import check_all, execute

HERE = [t for t in TARGETS.values() if runs_here(t)]
X = Input(0)


def view(shape, dtype, order=None, slack=0):
    wide = [d + slack * (k + 1) for k, d in enumerate(shape)]
    return View(tuple(shape), View.dense(wide, dtype, order).strides, dtype)


def case(shape, axis, picks, dtype=dt.f32, index=dt.i64, orders=(None, None), slack=0, epilogue=False):
    """A region with indices of shape ``picks``, negative ones among them; ``orders`` of x and of the result."""
    rng = np.random.default_rng(sum(shape))
    op = Gather(axis)
    size = shape[axis]
    x, indices = view(shape, dtype, orders[0], slack), view(picks, index, None, slack)
    (out,) = op.infer([x.type, indices.type])
    y = view(out.static_shape, out.dtype, orders[1], slack)
    operands = [Operand(x), Operand(indices)]
    arrays = [rng.integers(0, 2 if dtype is dt.boolean else 100, shape).astype(dtype.numpy)]
    arrays.append(rng.integers(-size, size, picks).astype(index.numpy))
    expr = X
    if epilogue:
        last = tuple(d if k == len(y.shape) - 1 else 1 for k, d in enumerate(y.shape))
        operands += [Operand(y), Operand(View.dense(last, dt.f32).broadcast(y.shape)), Operand(View.dense((), dt.f32).broadcast(y.shape))]
        arrays += [rng.standard_normal(s).astype(np.float32) for s in (y.shape, last, ())]
        expr = call("tanh", X * Input(2) + Input(1)) * Input(3)
    return Region(f"gather {axis} {x} {indices} {epilogue}", op, tuple(operands), 2, expr, (y,)), arrays


CASES = [
    *[case((50, 37), 0, (7,), epilogue=e, slack=s) for e in (False, True) for s in (0, 2)],
    *[case((5, 6, 20), 1, (3, 4), index=dt.i32, epilogue=e) for e in (False, True)],
    *[case((4, 9), 1, p) for p in ((), (5,), (2, 3))],
    *[case((3, 5, 8), a, (6,), orders=((2, 0, 1), (1, 2, 0))) for a in (0, 1, 2)],
    *[case((9, 4), 0, (3,), dtype=d) for d in (dt.u8, dt.boolean, dt.i16, dt.f16, dt.bf16, dt.f64, dt.i64)],
    case((30522, 8), 0, (1, 40)),
    case((4, 3000), 0, (5,)),
    case((7,), 0, (2, 2)),
    case((7, 12), -1, (40,), slack=1),
    case((6, 2, 33), 0, (11,), orders=((0, 1, 2), (1, 0, 2)), epilogue=True),
]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_layouts_and_dtypes(target):
    assert check_all(KERNEL, CASES, target) == len(CASES)
    check_all(KERNEL, CASES, target.with_cores(7))


@pytest.mark.parametrize("axis", [0, 1])
def test_indices_out_of_range_stay_inside(axis):
    """They give the first or the last slice; nothing outside x is read."""
    region, (x, _) = case((5, 6), axis, (6,))
    size = x.shape[axis]
    picks = np.array([size, 10**12, -size - 1, -(10**12), size - 1, -size], np.int64)
    got = execute(KERNEL.emit(region, None, HERE[0]), region, [x, picks], HERE[0])[0]
    np.testing.assert_array_equal(got, np.take(x, [size - 1, size - 1, 0, 0, size - 1, 0], axis))


def test_refusals():
    target = HERE[0]
    region, _ = case((4, 5), 0, (3,))
    assert "not gather" in KERNEL.accepts(Region(**{**region.__dict__, "op": Reduce("sum", (1,))}), target)
    doubled = Region(**{**case((4, 5), 0, (3,), dtype=dt.i32)[0].__dict__, "epilogue": X + X})
    assert "f32" in KERNEL.accepts(doubled, target)
    scalars = Region(**{**case((5,), 0, (3,))[0].__dict__, "epilogue": X + X})
    assert "slices" in KERNEL.accepts(scalars, target)
    assert "nothing" in KERNEL.accepts(case((5, 0), 0, (3,))[0], target)


def test_c_text(request):
    target = TARGETS["x86-64"].with_cores(1)
    texts = [KERNEL.emit(case(*c)[0], None, target).body for c in (((30, 40), 0, (7,)), ((30, 6), 1, (7,)))]
    golden.check("c/gather.c", "\n\n".join(texts) + "\n", request.config)
