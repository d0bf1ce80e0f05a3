"""Products of 16-bit activations with 8-bit weights: as the oracle to the last step, and the same on every instruction set the host has."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Cast, Expr, Input, call
from strop.ir.op import Type
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.conv_int16 import KERNEL
from strop.kernels.oracle import expected
from strop.ops.quantize import saturated
from strop.ops.wide import WideConv, WideMatMul
from tests.kernels.harness import compiled, run
from tests.kernels.test_conv_direct import CASES as CONVS
from tests.kernels.test_conv_direct import NHWC
from tests.kernels.test_conv_int8 import TARGETS_HERE


def region_of(rng: np.random.Generator, op: WideConv | WideMatMul, x: View, weight: np.ndarray, place: Any, whole: bool) -> Any:
    """With a factor and a bias per channel; requantized to i16 with an i16 residual, or in f32."""
    out = op.infer([Type(x.dtype, x.shape), Type(dt.i8, weight.shape)])[0].shape
    channels = (weight.shape[0], *(1,) * (len(out) - 2)) if isinstance(op, WideConv) else out[-1:]
    factor, bias = rng.uniform(1e-4, 9e-4, channels).astype(np.float32), rng.uniform(-300, 300, channels).astype(np.float32)
    operands = [Operand(x), Operand(View.dense(weight.shape, dt.i8), weight)]
    operands += [Operand(View.dense(a.shape, dt.f32).broadcast(out), a) for a in (factor, bias)]
    arrays = [rng.integers(-32768, 32768, x.shape).astype(np.int16), None, None, None]
    expr: Expr = Input(0) * Input(1) + Input(2)
    if whole:
        residual = rng.integers(-30000, 30000, out).astype(np.int16)
        operands.append(Operand(place(out, dt.i16)))
        arrays.append(residual)
        expr = saturated(call("round", expr + Cast(dt.f32, Input(3)) * 0.5), dt.f32, dt.i16)
    return Region("product", op, tuple(operands), 2, expr, (place(out, dt.i16 if whole else dt.f32),)), arrays


def cases() -> list[Any]:
    rng = np.random.default_rng(5)
    found = []

    def placed(shape: Any, kind: dt.DType) -> View:
        return View.dense(shape, kind, NHWC)

    for i, case in enumerate(CONVS.values()):
        k, pad, groups = case["k"], case.get("pad", 0), case.get("groups", 1)
        kernel = k if isinstance(k, tuple) else (k, k)
        pads = (pad if isinstance(pad, tuple) else (pad, pad)) * 2
        op = WideConv((case.get("stride", 1),) * 2, pads, (case.get("dilation", 1),) * 2, groups)
        weight = rng.integers(-128, 128, (case["o"], case["c"] // groups, *kernel)).astype(np.int8)
        shape = (case["n"], case["c"], case["h"], case["w"])
        x = View.dense(shape, dt.i16) if case.get("planar") else placed(shape, dt.i16)
        found.append(region_of(rng, op, x, weight, placed, i % 2 == 0))
    for i, (m, k, n, turned) in enumerate([(13, 64, 40, False), (1, 1100, 100, True), (7, 9, 5, False), (30, 4, 33, True)]):
        weight = rng.integers(-128, 128, (n, k) if turned else (k, n)).astype(np.int8)
        found.append(region_of(rng, WideMatMul(transpose_b=turned), View.dense((2, m, k), dt.i16), weight, View.dense, i % 2 == 0))
    return found


def test_right_and_the_same_on_every_instruction_set() -> None:
    problems = cases()
    wanted = [expected(region, arrays)[0] for region, arrays in problems]
    first: list[Any] = []
    for target in TARGETS_HERE:
        work = []
        for region, arrays in problems:
            assert KERNEL.accepts(region, target) is None, KERNEL.accepts(region, target)
            space = KERNEL.space(region, target)
            assert all(KERNEL.cost(region, params, target) > 0 for params in space)
            work += [(region, arrays, KERNEL.emit(region, params, target)) for params in (space[0], space[-1])]
        functions = compiled([emitted for *_, emitted in work], target)
        got = [run(f, emitted, region, arrays, splits=2)[0] for f, (region, arrays, emitted) in zip(functions, work, strict=True)]
        first = first or got
        for k, array in enumerate(got):
            want = wanted[k // 2].astype(np.float64)
            assert np.abs(array - want).max() <= (1 if array.dtype == np.int16 else 1e-5 * np.abs(want).max() + 1e-3), (target, problems[k // 2][0].op)
            if array.dtype == np.int16:
                assert (array != want).mean() < 0.01
                np.testing.assert_array_equal(array, first[k], f"{target} {target.extras}")


def test_sums_do_not_leave_32_bits() -> None:
    """The largest products, more of them than fit."""
    weight = np.full((1201, 16), -128, np.int8)
    operands = (Operand(View.dense((3, 1201), dt.i16)), Operand(View.dense(weight.shape, dt.i8), weight))
    region = Region("product", WideMatMul(), operands, 2, Input(0), (View.dense((3, 16), dt.f32),))
    for target in TARGETS_HERE:
        emitted = KERNEL.emit(region, KERNEL.space(region, target)[0], target)
        (got,) = run(compiled([emitted], target)[0], emitted, region, [np.full((3, 1201), -32768, np.int16), None])
        assert (got == np.float32(32768 * 128 * 1201)).all()


def test_refused() -> None:
    weight = np.ones((8, 8), np.int8)
    operands = (Operand(View.dense((5, 8), dt.i16)), Operand(View.dense((8, 8), dt.i8), weight))
    region = Region("product", WideMatMul(), operands, 2, call("floormod", Input(0), 3.0), (View.dense((5, 8), dt.f32),))
    assert "no vector form" in (KERNEL.accepts(region, TARGETS_HERE[0]) or "")
