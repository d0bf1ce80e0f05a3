"""Products of floats with 8-bit weights on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.matmul_mixed import KERNEL
from strop.ops.integer import MixedMatMul
from strop.ops.matmul import MatMul
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
    region = Region(f"{rows} {k} {n} {turned}", MixedMatMul(turned), tuple(operands), 2, epilogue, (View.dense(out, dt.f32),))
    return region, [rng.standard_normal((*rows, k)).astype(np.float32), None, None, None]


CASES = [case((16,), 64, 96, False), case((1, 7), 33, 40, True), case((1,), 384, 130, False), case((2, 3, 5), 20, 5, False)]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_every_tile(target: Target) -> None:
    check_all(KERNEL, CASES, target, every=target is HERE[0])


def test_refused() -> None:
    region, _ = CASES[0]
    floats = Region(region.name, MatMul(), region.operands, 2, region.epilogue, region.outs)
    assert "no product of floats with 8-bit weights" in (KERNEL.accepts(floats, HERE[0]) or "")
    unknown = (region.operands[0], Operand(View.dense((64, 96), dt.i8)), *region.operands[2:])
    assert "not a constant" in (KERNEL.accepts(Region(region.name, region.op, unknown, 2, region.epilogue, region.outs), HERE[0]) or "")
