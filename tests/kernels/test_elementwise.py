"""Elementwise regions on every instruction set the host has; the sweep runs every function on every dtype."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Cast, Const, Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.elementwise import KERNEL
from strop.ops.reduce import Reduce
from strop.target.detect import TARGETS, runs_here
from tests import golden
from tests.kernels.harness import check, check_all, compiled, expected, run

HERE = [t for t in TARGETS.values() if runs_here(t)]
NHWC = (0, 2, 3, 1)


def view(shape, order=None, slack=0, dtype=dt.f32):
    wide = [d + slack * (k + 1) for k, d in enumerate(shape)]
    return View(tuple(shape), View.dense(wide, dtype, order).strides, dtype)


def region(expr, out, *operands):
    """A region over views, which may be broadcast, with values for them."""
    rng = np.random.default_rng(len(operands))
    spread = tuple(Operand(v.broadcast(out.shape)) for v in operands)
    arrays = [rng.uniform(-3, 3, v.shape).astype(v.dtype.numpy) for v in operands]
    return Region(f"{out} {' '.join(map(str, operands))}", None, spread, 0, expr, (out,)), arrays


CHAIN = call("max", Input(0) * 2.0 + Input(1), 0.0) * call("min", Input(2), 3.0)
SHAPE = (2, 37, 5, 7)
CASES = [
    region(CHAIN, view(SHAPE, NHWC), view(SHAPE, NHWC), view((1, 37, 1, 1)), view(SHAPE, NHWC)),
    region(CHAIN, view(SHAPE), view(SHAPE), view((1, 37, 1, 1)), view(())),
    region(CHAIN, view(SHAPE, NHWC), view(SHAPE), view((7,)), view(SHAPE, NHWC, 1)),  # one operand in another order is gathered
    region(CHAIN, view(SHAPE, NHWC, 2), view(SHAPE, NHWC, 1), view((37, 1, 1)), view((2, 1, 5, 7))),
    region(CHAIN, view((3, 4, 5), (2, 1, 0)), view((3, 4, 5)), view((4, 1)), view((3, 1, 1))),
    region(CHAIN, View((4, 6), (30, 3), dt.f32), view((4, 6)), view((6,)), view((4, 1))),  # a result whose elements lie apart
    region(CHAIN, view((50_001,)), view((50_001,)), view(()), view((50_001,))),
    region(CHAIN, view((3, 20_000)), view((3, 20_000)), view((20_000,)), view((3, 1))),
    region(CHAIN, view(()), view(()), view(()), view(())),
    region(CHAIN, view((0, 3)), view((0, 3)), view((3,)), view(())),
    region(CHAIN, view((5, 0)), view((5, 0)), view((5, 1)), view(())),
    region(call("select", Input(0) < Input(1), Input(0), call("exp", Input(1))), view((9, 31)), view((9, 31)), view((31,))),
    region(Cast(dt.f32, (Input(0) > 0.5) & (Input(1) < 1.0)) + call("sign", Input(0)), view((9, 31)), view((9, 31)), view((9, 1))),
]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_layouts_and_broadcasting(target):
    assert check_all(KERNEL, CASES, target) > len(CASES)
    check_all(KERNEL, CASES, target.with_cores(5), every=False)


@pytest.mark.parametrize("target", HERE, ids=str)
def test_narrow_floats_are_computed_in_f32(target):
    halves = [
        region(call("tanh", Input(0) * Input(1)) + 1.0, view((6, 33), dtype=kind), view((6, 33), dtype=kind), view((33,), dtype=kind))
        for kind in (dt.f16, dt.bf16)
    ]
    mixed = region(Cast(dt.f32, Input(0)) + Input(1), view((6, 33)), view((6, 33), dtype=dt.bf16), view((6, 1)))
    check_all(KERNEL, [*halves, mixed], target)


def test_rounding_to_bf16_is_to_nearest_even():
    bits = np.concatenate([np.arange(0, 1 << 32, 65_537, dtype=np.uint64), np.arange(0x3F80_7000, 0x3F81_9000, 97)]).astype(np.uint32)
    x = bits.view(np.float32)
    case = Region("bf16", None, (Operand(view(x.shape)),), 0, Cast(dt.bf16, Input(0)), (view(x.shape, dtype=dt.bf16),))
    emitted = KERNEL.emit(case, KERNEL.space(case, HERE[0])[0], HERE[0])
    got = run(compiled([emitted], HERE[0])[0], emitted, case, [x])[0]
    with np.errstate(all="ignore"):
        want = x.astype(dt.bf16.numpy)
    number = ~np.isnan(x)
    np.testing.assert_array_equal(got.view(np.uint16)[number], want.view(np.uint16)[number])
    assert np.isnan(got[~number].astype(np.float32)).all()


@pytest.mark.parametrize("target", HERE, ids=str)
def test_result_may_overwrite_an_operand(target):
    case, arrays = region(call("tanh", Input(0)) + Input(1), view((40, 33)), view((40, 33)), view((33,)))
    assert KERNEL.in_place
    want = expected(case, arrays)[0]
    emitted = [KERNEL.emit(case, p, target) for p in KERNEL.space(case, target)]
    for code, function in zip(emitted, compiled(emitted, target)):
        np.testing.assert_allclose(run(function, code, case, arrays, overwrite=0)[0], want, rtol=1e-5)


def test_parts_used_often_are_computed_once():
    """Text and time grow with the parts of an expression, not with the ways through it."""
    deep = Input(0)
    for _ in range(40):
        deep = deep * Const(0.5) + call("sqrt", call("abs", deep))
    case, arrays = region(deep, view((70,)), view((70,)))
    assert KERNEL.emit(case, KERNEL.space(case, HERE[0])[0], HERE[0]).body.count("vsqrt") <= 80
    check(KERNEL, case, arrays, HERE[0])


def test_max_and_min_keep_nan():
    x = np.array([[np.nan, 1.0, -1.0, np.inf] * 9], np.float32)
    y = np.array([[1.0, np.nan, 2.0, -np.inf] * 9], np.float32)
    for fn in ("max", "min"):
        for other in (Input(1), Const(0.0)):
            case, _ = region(call(fn, Input(0), other), view((1, 36)), view((1, 36)), view((1, 36)))
            for target in HERE:
                check(KERNEL, case, [x, y], target)


def test_many_outer_axes_are_shared_between_cores():
    case, _ = region(Input(0) + Input(1), view((2, 8, 64, 90), slack=1), view((2, 8, 64, 90), slack=1), view((90,)))
    assert KERNEL.emit(case, KERNEL.space(case, HERE[0])[0], HERE[0].with_cores(8)).tasks >= 16


def test_refusals():
    case, _ = region(Input(0), view((3,)), view((3,)))
    assert "anchor" in KERNEL.accepts(Region(**{**case.__dict__, "op": Reduce("sum", (0,))}), HERE[0])


def test_c_text(request):
    target = TARGETS["x86-64-v4"].with_cores(1)
    hard_swish = Input(0) * call("min", call("max", Input(0) * (1.0 / 6.0) + 0.5, 0.0), 1.0) + Input(1)
    case, _ = region(hard_swish, view((1, 20, 6, 6), NHWC), view((1, 20, 6, 6), NHWC), view((20, 1, 1)))
    golden.check("c/elementwise.c", KERNEL.emit(case, KERNEL.space(case, target)[0], target).body + "\n", request.config)
