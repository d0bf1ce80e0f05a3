"""Products of floats with weights of 8 and 4 bits on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.matmul_mixed import KERNEL
from strop.ops.matmul import MatMul
from strop.ops.mixed import LIMITS, MixedConv, MixedMatMul
from strop.target.base import Target
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check_all
from tests.kernels.regions import Case

HERE = [t for t in TARGETS.values() if runs_here(t)]


def case(rows: tuple[int, ...], k: int, n: int, turned: bool) -> Case:
    """With a scale and a bias per column and a function behind them."""
    rng = np.random.default_rng(k)
    weight = rng.integers(-128, 128, (n, k) if turned else (k, n)).astype(np.int8)
    out = (*rows, n)
    sides = [rng.uniform(0.001, 0.01, n).astype(np.float32), rng.standard_normal(n).astype(np.float32)]
    operands = [Operand(View.dense((*rows, k), dt.f32)), Operand(View.dense(weight.shape, dt.i8), weight)]
    operands += [Operand(View.dense((n,), dt.f32).broadcast(out), side) for side in sides]
    epilogue = call("max", Input(0) * Input(1) + Input(2), -0.5)
    region = Region(f"{rows} {k} {n} {turned}", MixedMatMul(transpose_b=turned), tuple(operands), 2, epilogue, (View.dense(out, dt.f32),))
    return region, [rng.standard_normal((*rows, k)).astype(np.float32), None, None, None]


def grouped(rows: tuple[int, ...], k: int, n: int, bits: int, group: int, zero: bool) -> Case:
    """With scales per group, and a bias."""
    rng = np.random.default_rng(k + n)
    weight = rng.integers(LIMITS[bits][0], LIMITS[bits][1] + 1, (k, n)).astype(np.int8)
    groups = (-(-k // group), n)
    params = [rng.uniform(0.01, 0.1, groups).astype(np.float32), rng.integers(-7, 8, groups).astype(np.float32)][: 1 + zero]
    out = (*rows, n)
    operands = [Operand(View.dense((*rows, k), dt.f32)), Operand(View.dense(weight.shape, dt.i8), weight)]
    operands += [Operand(View.dense(groups, dt.f32), p) for p in params]
    operands.append(Operand(View.dense((n,), dt.f32).broadcast(out), rng.standard_normal(n).astype(np.float32)))
    op = MixedMatMul(bits, group)
    region = Region(f"{rows} {op}", op, tuple(operands), 3 + zero, call("max", Input(0) + Input(1), -0.5), (View.dense(out, dt.f32),))
    return region, [rng.standard_normal((*rows, k)).astype(np.float32), *[None] * (3 + zero)]


def image(channels: int, size: int, o: int, stride: int, bits: int, group: int) -> Case:
    """A convolution of one tap over channels-last values, with a residual."""
    rng = np.random.default_rng(channels)
    op = MixedConv(bits, group, (stride, stride))
    weight = rng.integers(LIMITS[bits][0], LIMITS[bits][1] + 1, (o, channels, 1, 1)).astype(np.int8)
    groups = (-(-channels // group), o)
    rest = (size - 1) // stride + 1
    x, y = (1, channels, size, size), (1, o, rest, rest)
    order = (0, 2, 3, 1)
    operands = (
        Operand(View.dense(x, dt.f32, order)), Operand(View.dense(weight.shape, dt.i8), weight),
        Operand(View.dense(groups, dt.f32), rng.uniform(0.01, 0.1, groups).astype(np.float32)), Operand(View.dense(y, dt.f32, order)),
    )  # fmt: skip
    region = Region(str(op), op, operands, 3, Input(0) + Input(1), (View.dense(y, dt.f32, order),))
    return region, [rng.standard_normal(x).astype(np.float32), None, None, rng.standard_normal(y).astype(np.float32)]


GROUPED = [
    grouped((1,), 96, 150, 4, 32, False), grouped((5,), 50, 40, 4, 16, True), grouped((2, 3), 27, 18, 4, 5, False),
    grouped((1, 7), 64, 33, 8, 16, True), grouped((3,), 40, 70, 8, 40, False), image(48, 7, 40, 1, 4, 16), image(24, 9, 33, 2, 8, 24),
]  # fmt: skip
CASES = [case((16,), 64, 96, False), case((1, 7), 33, 40, True), case((1,), 384, 130, False), case((2, 3, 5), 20, 5, False)]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_every_tile(target: Target) -> None:
    check_all(KERNEL, [*CASES, *GROUPED], target, every=target is HERE[0])


def test_refused() -> None:
    region, _ = CASES[0]
    floats = Region(region.name, MatMul(), region.operands, 2, region.epilogue, region.outs)
    assert "no product of floats with 8-bit weights" in (KERNEL.accepts(floats, HERE[0]) or "")
    unknown = (region.operands[0], Operand(View.dense((64, 96), dt.i8)), *region.operands[2:])
    assert "not a constant" in (KERNEL.accepts(Region(region.name, region.op, unknown, 2, region.epilogue, region.outs), HERE[0]) or "")
