"""Regions of f8e4m3: products with what follows them in a network of fp8, casts, and what moves or picks bytes."""

from __future__ import annotations

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Cast, Expr, Input, call, cast_array
from strop.ir.op import Op, Sample
from strop.kernels.base import Operand, Region, View
from strop.kernels.oracle import expected
from strop.ops.pool import MaxPool
from strop.ops.wide import WideConv, WideMatMul
from tests.kernels import regions

F8 = dt.f8e4m3.numpy


def random(rng: np.random.Generator, shape: tuple[int, ...], scale: float = 60.0) -> np.ndarray:
    """f8e4m3 of normal numbers, with the greatest ones and subnormals among them."""
    array = (rng.standard_normal(shape) * scale).astype(np.float32)
    flat = array.reshape(-1)
    flat[::17], flat[5::17] = 448.0, np.sign(flat[5::17]) * 2.0**-8
    return cast_array(array, dt.f8e4m3)


def product(op: Op, x: tuple[int, ...], w: tuple[int, ...], to: dt.DType, layout: str = "dense", residual: bool = False) -> regions.Case:
    """A product whose sums are scaled per channel, shifted, added to bytes that are read back, limited and stored as ``to``."""
    rng = np.random.default_rng(7)
    arrays = [random(rng, x), random(rng, w, 30.0)]
    region, _ = regions.anchored(Sample(op, tuple(arrays)), layout, rng, constants=True)
    shape, count = region.out.shape, region.out.shape[1 if isinstance(op, WideConv) else -1]
    axis = 1 if isinstance(op, WideConv) else len(shape) - 1
    spread = tuple(count if k == axis else 1 for k in range(len(shape)))
    (sums,) = op.reference(*arrays)
    factor = np.full(spread, 0.5 / float(np.abs(sums).std()), np.float32) * rng.uniform(0.5, 2, spread).astype(np.float32)
    extras = [Operand(View.dense(spread, dt.f32).broadcast(shape), a) for a in (factor, rng.standard_normal(spread).astype(np.float32))]
    arrays += [e.const for e in extras if e.const is not None]
    value: Expr = Input(0) * Input(1) + Input(2)
    if residual:
        extras.append(Operand(regions.view(shape, dt.f8e4m3, layout)))
        arrays.append(random(rng, shape, 20.0))
        value = value + Cast(dt.f32, Input(3)) * 0.03125
    value = call("max", value, -1.0)
    value = Cast(dt.f8e4m3, value * 200.0) if to is dt.f8e4m3 else Cast(to, value)
    out = regions.view(shape, to, layout)
    return Region(f"{op} to {to}", op, (*region.operands[:2], *extras), 2, value, (out,)), arrays


def products() -> list[regions.Case]:
    """Of every shape of loop that the kernels have."""
    return [
        product(WideMatMul(), (40, 96), (96, 33), dt.f8e4m3),
        product(WideMatMul(transpose_b=True), (2, 9, 64), (24, 64), dt.f16, residual=True),
        product(WideMatMul(), (3, 130), (130, 16), dt.f32),
        product(WideConv((1, 1), (1,) * 4, (1, 1)), (1, 40, 6, 5), (24, 40, 3, 3), dt.f8e4m3, "last", residual=True),
        product(WideConv((2, 1), (0,) * 4, (1, 1)), (2, 16, 7, 6), (20, 16, 1, 1), dt.f16, "last"),
        product(WideConv((2, 2), (3,) * 4, (1, 1)), (1, 4, 11, 13), (16, 4, 7, 7), dt.f8e4m3, "last"),
        product(WideConv((1, 1), (1,) * 4, (1, 1)), (1, 3, 8, 8), (16, 3, 3, 3), dt.f8e4m3),
        product(WideConv((1, 1), (1,) * 4, (1, 1), 2), (1, 32, 5, 5), (16, 16, 3, 3), dt.f8e4m3, "last"),
    ]


def everything() -> np.ndarray:
    """f32[?]: all of f16, the middles between neighbours of f8e4m3 with the numbers around them, and what is beyond its range."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    grid = np.arange(256, dtype=np.uint8).view(F8).astype(np.float32)
    grid = np.unique(grid[np.isfinite(grid)])
    ties = ((grid[1:] + grid[:-1]) / 2).astype(np.float32)
    around = [np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.concatenate([halves, ties, *around, np.array([464.0, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)]).astype(np.float32)


def casts() -> list[regions.Case]:
    """f32 to f8e4m3 and back."""
    x = everything()
    to, back = View.dense(x.shape, dt.f8e4m3), View.dense(x.shape, dt.f32)
    return [
        (Region("to f8e4m3", None, (Operand(back),), 0, Cast(dt.f8e4m3, Input(0)), (to,)), [x]),
        (Region("from f8e4m3", None, (Operand(to),), 0, Cast(dt.f32, Input(0)), (back,)), [np.arange(x.size).astype(np.uint8).view(F8)]),
    ]


def movers() -> list[regions.Case]:
    """Pools and copies."""
    rng = np.random.default_rng(8)
    x = random(rng, (2, 20, 9, 7))
    pool = Sample(MaxPool((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), False), (x,))
    turned = View(x.shape, View.dense(x.shape, dt.f8e4m3, (0, 2, 3, 1)).strides, dt.f8e4m3)
    copy = Region("copy", None, (Operand(turned),), 0, Input(0), (View.dense(x.shape, dt.f8e4m3),))
    return [regions.anchored(pool, "last", rng), (copy, [x])]


def wanted(case: regions.Case) -> list[np.ndarray]:
    """What the oracle says."""
    return expected(*case)
