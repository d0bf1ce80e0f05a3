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


def _edges(source, to):
    """Values of a dtype, with neighbours of the points half way between two values of ``to`` among them."""
    rng = np.random.default_rng(6)
    if source is dt.f16:
        return np.arange(1 << 16).astype(np.uint16).view(np.float16)
    if source.is_int:
        return rng.integers(-(2**30), 2**30, 20_000).astype(source.numpy)
    with np.errstate(all="ignore"):
        near = (rng.standard_normal(20_000) * 10.0 ** rng.integers(-9, 6, 20_000)).astype(to.numpy).astype(np.float64)
        half = near * (1 + 2.0 ** (-12 if to is dt.f16 else -9))
        values = [near, half, half * (1 + 1e-15), half * (1 - 1e-15)]
        if source is dt.f32:
            values.append(np.arange(0, 1 << 32, 65_537, dtype=np.uint64).astype(np.uint32).view(np.float32))
        return np.concatenate([v.astype(source.numpy) for v in values])


@pytest.mark.parametrize("target", HERE, ids=str)
def test_conversions_of_narrow_floats_round_once(target):
    pairs = [(dt.f32, dt.f16), (dt.f16, dt.f32), (dt.f64, dt.f16), (dt.f64, dt.bf16), (dt.f32, dt.bf16), (dt.i32, dt.bf16), (dt.i64, dt.f16)]
    cases = []
    for source, to in pairs:
        x = _edges(source, to)
        case = Region(f"{source} {to}", None, (Operand(view(x.shape, dtype=source)),), 0, Cast(to, Input(0)), (view(x.shape, dtype=to),))
        cases.append((case, x, KERNEL.emit(case, KERNEL.space(case, target)[0], target)))
    for (case, x, emitted), function in zip(cases, compiled([e for *_, e in cases], target)):
        got = run(function, emitted, case, [x])[0]
        with np.errstate(all="ignore"):
            want = x.astype(case.out.dtype.numpy)
            number = ~np.isnan(want.astype(np.float64))
            assert np.isnan(got[~number].astype(np.float64)).all(), case.name
        np.testing.assert_array_equal(got[number].view(np.uint8), want[number].view(np.uint8), err_msg=case.name)


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


@pytest.mark.parametrize("count", [3, 5, 9, 13, 17])
def test_the_last_of_a_few_16_bit_elements_stays_within_the_result(count):
    """The compiler's own vectors of 16-bit elements may end in a store of 32 bits."""
    for to in (dt.bf16, dt.u16, dt.i16, dt.f16):
        case, arrays = region(Cast(to, Input(0)), view((1, count), dtype=to), view((count,), dtype=dt.f64))
        for target in HERE:
            check(KERNEL, case, [np.abs(a) for a in arrays], target)


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
