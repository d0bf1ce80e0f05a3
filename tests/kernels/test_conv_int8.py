"""Products of 8-bit integers on every instruction set the host has: exact, and equal everywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Cast, Expr, Input, call, substitute
from strop.ir.op import Type
from strop.kernels.base import Kernel, Operand, Region, View
from strop.kernels.c.conv_depthwise_dot import KERNEL as DOT_KERNEL
from strop.kernels.c.conv_depthwise_int8 import KERNEL as DEPTHWISE_KERNEL
from strop.kernels.c.conv_int8 import KERNEL
from strop.kernels.c.conv_int8_pairs import KERNEL as PAIRS_KERNEL
from strop.kernels.c.conv_int8_pipelined import KERNEL as PIPELINED_KERNEL
from strop.kernels.c.conv_int8_small import KERNEL as SMALL_KERNEL
from strop.kernels.c.dot_emitter import native
from strop.kernels.oracle import expected
from strop.ops.base import random_array
from strop.ops.elementwise import make
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.quantize import saturated
from strop.target.base import Target
from strop.target.detect import TARGETS, host, runs_here
from strop.target.isa.table import ISAS, multiplies_pairs
from tests.kernels.harness import compiled, run
from tests.kernels.test_conv_direct import CASES as CONVS
from tests.kernels.test_conv_direct import NHWC

#: Every target with and without its optional features, and the host with all of them.
TARGETS_HERE = [host(), *(t for base in TARGETS.values() for t in (base, *(replace(base, extras=(f,)) for f in base.optional)) if runs_here(t))]


def requantized(kind: dt.DType, factor: Expr, zero: Expr | float) -> Expr:
    """A sum of products as a quantized value: scaled per channel, rounded, clamped, narrowed."""
    whole = call("round", Cast(dt.f32, Input(0) + Input(1)) * factor) + zero
    return saturated(whole, dt.f32, kind)


def region_of(
    rng: np.random.Generator, op: IntegerConv | IntegerMatMul, x: View, weight: np.ndarray, y_view: Any, kind: dt.DType | None, zero: bool = True
) -> tuple[Region, list[np.ndarray | None]]:
    """A product with a requantizing epilogue in ``kind``, whose zero point is an operand for u8 values, with a quantized residual between i8 values, or with
    i32 results."""
    out = op.infer([Type(x.dtype, x.shape), Type(dt.i8, weight.shape)])[0].shape
    channels = (weight.shape[0], *(1,) * (len(out) - 2)) if isinstance(op, IntegerConv) else out[-1:]
    operands = [Operand(x), Operand(View.dense(weight.shape, dt.i8), weight)]
    low, high = (0, 255) if x.dtype is dt.u8 else (-128, 127)
    arrays: list[np.ndarray | None] = [random_array(rng, x.shape, x.dtype, low, high), None]
    if zero:
        operands.append(Operand(View.dense((), x.dtype)))
        arrays.append(np.asarray(11, x.dtype.numpy))
    anchors = len(operands)
    expr: Expr = Input(0)
    if kind is not None:
        bias = rng.integers(-900, 900, channels).astype(np.int32)
        factor = rng.uniform(1e-3, 4e-3, channels).astype(np.float32)
        operands += [Operand(View.dense(a.shape, d).broadcast(out), a) for a, d in ((bias, dt.i32), (factor, dt.f32))]
        arrays += [None, None]
        expr = requantized(kind, Input(2), 3.0)
    if kind is not None and x.dtype is dt.u8:  # a zero point that may be another in the next layer
        operands.append(Operand(View.dense((), dt.f32).broadcast(out), np.asarray(-3.0 if kind is dt.i8 else 3.0, np.float32)))
        arrays.append(None)
        expr = requantized(kind, Input(2), Input(3))
    if kind is x.dtype is dt.i8:  # a residual is added
        operands.append(Operand(y_view(out, dt.i8)))
        arrays.append(random_array(rng, out, dt.i8, -128, 127))
        parts = {Input(0): expr, Input(1): Input(3)}
        expr = substitute(make("fixed_sum").expr(), lambda e: parts.get(e) if isinstance(e, Input) else None)
    return Region("product", op, tuple(operands), anchors, expr, (y_view(out, kind or dt.i32),)), arrays


def conv_case(rng: np.random.Generator, kinds: tuple[dt.DType, dt.DType | None], zero: bool, n: int, c: int, h: int, w: int, o: int, k: Any,
              stride: int = 1, pad: Any = 0, dilation: int = 1, groups: int = 1, planar: bool = False, slices: int = 0) -> Any:  # fmt: skip
    kernel = k if isinstance(k, tuple) else (k, k)
    pads = pad if isinstance(pad, tuple) else (pad, pad)
    op = IntegerConv((stride, stride), pads * 2, (dilation, dilation), groups)
    weight = rng.integers(-128, 128, (o, c // groups, *kernel)).astype(np.int8)

    def placed(shape: Any, kind: dt.DType) -> View:
        wide = View.dense((shape[0], shape[1] + slices, *shape[2:]), kind, NHWC)
        return View(tuple(shape), wide.strides, kind)

    x = View.dense((n, c, h, w), kinds[0]) if planar else placed((n, c, h, w), kinds[0])
    return region_of(rng, op, x, weight, placed, kinds[1], zero)


def cases() -> list[Any]:
    rng = np.random.default_rng(5)
    kinds = [(dt.u8, dt.u8), (dt.i8, dt.i8), (dt.u8, None), (dt.u8, dt.i8), (dt.i8, None)]
    found = [conv_case(rng, kinds[i % 5], i % 4 != 2, **case) for i, case in enumerate(CONVS.values())]
    for i, (m, k, n, turned) in enumerate([(13, 64, 40, False), (1, 384, 100, True), (7, 9, 5, False), (30, 4, 33, True), (2, 66, 16, False)]):
        weight = rng.integers(-128, 128, (n, k) if turned else (k, n)).astype(np.int8)
        x = View.dense((2, m, k), kinds[i][0])
        found.append(region_of(rng, IntegerMatMul(transpose_b=turned), x, weight, View.dense, kinds[i][1]))
    return found


def short_cases() -> list[Any]:
    """Products of one short run, between one tile and many, some with weights beyond the first cache level, which are fetched ahead."""
    rng = np.random.default_rng(8)
    kinds = [(dt.u8, dt.u8), (dt.i8, dt.i8), (dt.u8, None), (dt.u8, dt.i8), (dt.i8, None)]
    sizes = [(64, 5, 7, 256), (24, 9, 11, 40), (16, 5, 5, 17), (20, 6, 6, 33), (12, 1, 7, 100), (256, 6, 11, 512), (8, 8, 8, 64), (96, 1, 1, 24)]
    found = [
        conv_case(rng, kinds[i % 5], i % 4 != 2, n=1 + (i == 2), c=c, h=h, w=w, o=o, k=1, slices=7 * (i == 3)) for i, (c, h, w, o) in enumerate(sizes)
    ]
    weight = rng.integers(-128, 128, (64, 72)).astype(np.int8)
    return [*found, region_of(rng, IntegerMatMul(), View.dense((13, 64), dt.i8), weight, View.dense, dt.i8)]


def small_cases() -> list[Any]:
    """With the largest weights that two products allow, met by activations of 255: some sums are exactly those that just fit."""
    found = []
    for region, arrays in cases():
        operands = list(region.operands)
        weight = operands[1].const
        small = np.clip(np.abs(weight.astype(np.int16)) // 2, 0, 64).astype(np.int8) * np.where(weight < 0, -1, 1).astype(np.int8)
        operands[1] = Operand(operands[1].view, small)
        first = arrays[0].copy()
        first[np.random.default_rng(1).random(first.shape) < 0.5] = np.iinfo(first.dtype).max
        found.append((replace(region, operands=tuple(operands)), [first, *arrays[1:]]))
    return found


DEPTHWISE = {
    "3x3 same": dict(n=2, c=35, h=9, w=11, o=35, k=3, pad=1, groups=35),
    "3x3 stride 2": dict(n=1, c=16, h=12, w=13, o=16, k=3, stride=2, pad=1, groups=16),
    "5x5 slices": dict(n=1, c=24, h=9, w=9, o=24, k=5, pad=2, groups=24, slices=5),
    "3x3 dilated valid": dict(n=1, c=20, h=11, w=12, o=20, k=3, dilation=2, groups=20),
    "7x1": dict(n=1, c=4, h=9, w=3, o=4, k=(7, 1), pad=(3, 0), groups=4),
}


def depthwise() -> list[Any]:
    rng = np.random.default_rng(6)
    kinds = [(dt.u8, dt.u8), (dt.i8, dt.i8), (dt.u8, None), (dt.i8, dt.u8), (dt.u8, dt.i8)]
    return [conv_case(rng, kinds[i % 5], i % 3 != 2, **case) for i, case in enumerate(DEPTHWISE.values())]


def _does_both(target: Target) -> bool:
    """True where an instruction adds four products and there are registers for two sets of sums."""
    return native("vdot4", target) and ISAS[target.isa].registers >= 32


def _does_rows(target: Target) -> bool:
    """True where an instruction interleaves rows and one adds four products."""
    return native("vquads", target) and native("vdot4", target)


@pytest.mark.parametrize(
    ("kernel", "made", "targets"),
    [
        (KERNEL, cases, TARGETS_HERE),
        (PAIRS_KERNEL, cases, [t for t in TARGETS_HERE if multiplies_pairs(t)]),
        (SMALL_KERNEL, small_cases, [t for t in TARGETS_HERE if multiplies_pairs(t)]),
        (PIPELINED_KERNEL, short_cases, [t for t in TARGETS_HERE if _does_both(t)]),
        (DEPTHWISE_KERNEL, depthwise, TARGETS_HERE),
        (DOT_KERNEL, depthwise, [t for t in TARGETS_HERE if _does_rows(t)]),
    ],
    ids=["direct", "direct by pairs", "direct with small weights", "pipelined", "depthwise", "depthwise by dot products"],
)
def test_exact_and_the_same_on_every_instruction_set(kernel: Kernel[Any], made: Any, targets: list[Target]) -> None:
    if not targets:
        pytest.skip("this machine lacks the instructions")
    problems = made()
    wanted = [expected(region, arrays)[0] for region, arrays in problems]  # every rounding of f32 included
    for target in targets:
        work = []
        for (region, arrays), want in zip(problems, wanted, strict=True):
            assert kernel.accepts(region, target) is None, (region.signature(), kernel.accepts(region, target))
            space = kernel.space(region, target)
            for params in {space[0], space[len(space) // 2], space[-1]}:
                assert kernel.cost(region, params, target) > 0
                work.append((region, arrays, want, kernel.emit(region, params, target)))
        functions = compiled([emitted for *_, emitted in work], target)
        for (region, arrays, want, emitted), function in zip(work, functions, strict=True):
            (got,) = run(function, emitted, region, arrays, splits=2)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want, f"{target} {target.extras} {region.signature()}")


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (dict(c=260, h=6, w=6, o=32, k=1), "small part"),
        (dict(c=16, h=6, w=6, o=32, k=3), "several runs"),
        (dict(c=16, h=6, w=6, o=32, k=1, stride=2), "different distances"),
    ],
)
def test_only_short_products_at_even_distances_are_pipelined(case: dict[str, Any], says: str) -> None:
    target = replace(TARGETS["x86-64-v4"], extras=("avx512vnni",))
    region, _ = conv_case(np.random.default_rng(1), (dt.u8, dt.u8), True, n=1, **case)
    assert says in (PIPELINED_KERNEL.accepts(region, target) or "")


def test_long_epilogues_and_few_registers_are_not_pipelined() -> None:
    region, _ = conv_case(np.random.default_rng(1), (dt.u8, dt.u8), True, n=1, c=16, h=6, w=6, o=32, k=1)
    target = replace(TARGETS["x86-64-v4"], extras=("avx512vnni",))
    assert PIPELINED_KERNEL.accepts(region, target) is None
    assert "no instruction" in (PIPELINED_KERNEL.accepts(region, TARGETS["x86-64-v4"]) or "")
    long = replace(region, epilogue=saturated(call("round", call("exp", Cast(dt.f32, Input(0)))), dt.f32, dt.u8))
    assert "long" in (PIPELINED_KERNEL.accepts(long, target) or "")


def test_the_widest_products_do_not_saturate() -> None:
    """255 * -128, four at a time, where pairs of products do not fit 16 bits."""
    weight = np.full((64, 16), -128, np.int8)
    region = Region("product", IntegerMatMul(), (Operand(View.dense((6, 64), dt.u8)), Operand(View.dense(weight.shape, dt.i8), weight)), 2,
                    Input(0), (View.dense((6, 16), dt.i32),))  # fmt: skip
    for target in TARGETS_HERE:
        emitted = KERNEL.emit(region, KERNEL.space(region, target)[0], target)
        (got,) = run(compiled([emitted], target)[0], emitted, region, [np.full((6, 64), 255, np.uint8), None])
        assert (got == -128 * 255 * 64).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: replace(r, operands=(r.operands[0], Operand(View.dense((8, 8), dt.u8), np.ones((8, 8), np.uint8)))), "weights are not signed"),
        (lambda r: replace(r, operands=(r.operands[0], Operand(View.dense((8, 8), dt.i8)))), "not a constant"),
        (lambda r: replace(r, epilogue=call("floormod", Input(0), 3), outs=r.outs), "no vector form"),
        (lambda r: replace(r, operands=(*r.operands, Operand(View.dense((5, 1), dt.u8))), anchors=3), "several zero points"),
    ],
)
def test_refused(change: Any, says: str) -> None:
    weight = np.ones((8, 8), np.int8)
    region = Region("product", IntegerMatMul(), (Operand(View.dense((5, 8), dt.u8)), Operand(View.dense((8, 8), dt.i8), weight)), 2,
                    Input(0), (View.dense((5, 8), dt.i32),))  # fmt: skip
    assert KERNEL.accepts(region, TARGETS["x86-64-v3"]) is None
    assert says in (KERNEL.accepts(change(region), TARGETS["x86-64-v3"]) or "")
