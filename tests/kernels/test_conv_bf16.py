"""Convolutions and products of 16-bit floats: bf16 by dot products, both types by way of f32, on every instruction set the host has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.ir.op import Type
from strop.kernels.base import Operand, Region, View
from strop.kernels.c import conv_bf16, conv_direct
from strop.ops.matmul import MatMul
from strop.target.detect import TARGETS
from tests.kernels.halves import TARGETS_HERE, Case, check_halves, narrowed
from tests.kernels.test_conv_direct import CASES, conv_region

#: Odd channels, which a pair along k reaches beyond.
ODD = {
    "1x1 odd": dict(n=2, c=21, h=5, w=7, o=40, k=1),
    "3x3 odd valid": dict(n=1, c=5, h=9, w=8, o=20, k=3),
    "3x3 odd padded": dict(n=1, c=7, h=9, w=8, o=20, k=3, pad=1),
}


def product(rng: np.random.Generator, lead: tuple[int, ...], k: int, n: int, turned: bool) -> Case:
    op = MatMul(transpose_b=turned)
    weight = rng.standard_normal((n, k) if turned else (k, n)).astype(np.float32)
    x = View.dense((*lead, k), dt.f32)
    out = op.infer([x.type, Type(dt.f32, weight.shape)])[0].shape
    bias = rng.standard_normal(n).astype(np.float32)
    operands = (Operand(x), Operand(View.dense(weight.shape, dt.f32), weight), Operand(View.dense((n,), dt.f32).broadcast(out), bias))
    region = Region("product", op, operands, 2, Input(0) + Input(1), (View.dense(out, dt.f32),))
    return region, [rng.standard_normal((*lead, k)).astype(np.float32), None, None]


def with_prologue(case: Case) -> Case:
    """A 1x1 convolution that reads relu(x * scale[channel])."""
    region, arrays = case
    c = region.operand(0).view.shape[1]
    scale = np.exp2(np.arange(c, dtype=np.float32) % 3 - 1).reshape(1, c, 1, 1)  # so that products are exact
    view = View.dense(scale.shape, dt.f32).broadcast(region.operand(0).view.shape)
    made = replace(region, operands=(*region.operands, Operand(view, scale)), prologue=call("max", Input(0) * Input(1), 0.0), prologues=1)
    return made, [*arrays, None]


def problems() -> list[Case]:
    rng = np.random.default_rng(3)
    found: list[Case] = [conv_region(rng, **case) for case in (*CASES.values(), *ODD.values())]
    for lead, k, n, turned in (((13,), 64, 40, False), ((1,), 384, 100, True), ((2, 7), 9, 5, False), ((1,), 33, 70, False)):
        found.append(product(rng, lead, k, n, turned))
    return found


@pytest.mark.parametrize(
    ("kernel", "kind", "without"),
    [(conv_bf16.KERNEL, dt.bf16, ""), (conv_direct.KERNEL, dt.bf16, "avx512"), (conv_direct.KERNEL, dt.f16, "portable")],
    ids=("dots of bf16", "bf16 by way of f32", "f16"),
)
def test_products(kernel, kind, without):
    cases = [narrowed(case, kind, dt.f32 if number % 3 == 1 else None) for number, case in enumerate(problems())]
    rng = np.random.default_rng(4)
    cases.append(narrowed(with_prologue(conv_region(rng, n=2, c=37, h=5, w=5, o=24, k=1, epilogue=False)), kind))
    check_halves(kernel, cases, [t for t in TARGETS_HERE if t.isa != without])


def test_what_is_not_a_product_of_bf16():
    rng = np.random.default_rng(0)
    case = conv_region(rng, **CASES["1x1"])
    for kind in (dt.f32, dt.f16):
        assert "not a product of bf16" in (conv_bf16.KERNEL.accepts(narrowed(case, kind)[0], TARGETS["x86-64-v4"]) or "")
