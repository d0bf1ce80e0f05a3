"""The oracle of regions: parts equal the whole, every op's problems can be made at random,
differences are told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Cast, Input, call
from strop.ir.op import REGISTRY, Op
from strop.kernels import oracle
from strop.kernels.base import Operand, Region, View
from strop.ops.conv import Conv
from strop.ops.matmul import MatMul
from strop.ops.recurrent import RNN


def region_of(op: Op, inputs: tuple[np.ndarray, ...], extra: bool = False) -> Region:
    types = [View.dense(a.shape, dt.from_numpy(a.dtype)) for a in inputs]
    outs = [View.dense(t.static_shape, t.dtype) for t in op.infer([v.type for v in types])]
    operands = [Operand(v) for v in types] + ([Operand(outs[0])] if extra else [])
    expr = Input(0) + Input(1) if extra else Input(0)
    return Region(op.name, op, tuple(operands), len(types), expr, tuple(outs))


@pytest.mark.parametrize("kind", [Conv, MatMul])
def test_parts_equal_the_whole(kind: type[Op]) -> None:
    rng = np.random.default_rng(0)
    checked = 0
    for sample in kind.samples(rng):
        region = region_of(sample.op, sample.inputs, extra=True)
        axis = oracle.rows(region)
        if axis is None or region.out.count == 0:
            continue
        arrays = [
            *sample.inputs,
            rng.standard_normal(region.out.shape).astype(region.out.dtype.numpy),
        ]
        (whole,) = oracle.expected(region, arrays)
        extent = region.out.shape[axis]
        for low, high in {(0, 1), (extent - 1, extent), (extent // 2, extent), (0, extent)}:
            (part,) = oracle.expected(region, arrays, low, high)
            error = oracle.difference(region, 0, part, np.take(whole, range(low, high), axis))
            assert error is None, f"{sample.op} [{low}, {high}): {error}"
            checked += 1
    assert checked > 20


def test_parts_of_a_region_with_a_prologue() -> None:
    rng = np.random.default_rng(0)
    op = Conv((2, 1), (1, 1, 1, 1), (1, 1))
    shapes = [(1, 4, 9, 6), (5, 4, 3, 3), (1, 5, 5, 6), (1, 4, 1, 1)]
    views = [View.dense(shape, dt.f32) for shape in shapes]
    views[3] = views[3].broadcast(shapes[0])
    operands = tuple(Operand(view) for view in views)
    total = Input(0) + Input(1)
    region = Region("conv", op, operands, 2, total, (views[2],), prologue=total, prologues=1)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    (whole,) = oracle.expected(region, arrays)
    (plain,) = op.reference(arrays[0] + arrays[3], arrays[1])
    np.testing.assert_allclose(whole, plain + arrays[2], rtol=1e-5, atol=1e-5)
    (part,) = oracle.expected(region, arrays, 1, 4)
    np.testing.assert_allclose(part, whole[:, :, 1:4], rtol=1e-5, atol=1e-5)


def test_random_operands_fit_every_op() -> None:
    """Indices are in bounds, so that the reference of any op can be computed on random operands."""
    rng = np.random.default_rng(0)
    seen = set()
    for name, kind in sorted(REGISTRY.items()):
        for count, sample in enumerate(kind.samples(rng)):
            if count == 4 or sample.op.computed or kind.lasting:
                break  # sizes that data decides, and loops, have tests of their own
            region = region_of(sample.op, sample.inputs)
            with np.errstate(all="ignore"):
                results = oracle.expected(region, oracle.random_operands(region, rng))
            assert [r.shape for r in results] == [v.shape for v in region.outs], name
            seen.add(name)
    assert {"conv", "matmul"} <= seen


def test_repeated_elements_are_equal() -> None:
    view = View.dense((1, 5), dt.f32).broadcast((3, 5))
    region = Region("add", None, (Operand(view),), 0, Input(0), (View.dense((3, 5), dt.f32),))
    (array,) = oracle.random_operands(region, np.random.default_rng(0))
    assert array is not None and array.shape == (3, 5) and (array == array[0]).all()


def out_region(dtype: dt.DType, source: dt.DType) -> Region:
    view = View.dense((2000,), dtype)
    return Region("cast", None, (Operand(View.dense((2000,), source)),), 0, Input(0), (view,))


def test_float_differences() -> None:
    region = out_region(dt.f32, dt.f32)
    want = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    assert oracle.difference(region, 0, want * np.float32(1 + 1e-6), want) is None
    got = want.copy()
    got[7] += 0.01
    assert "1 of 2000 elements differ, most at [7]" in str(oracle.difference(region, 0, got, want))
    got[9] = np.nan
    assert "2 of 2000 elements differ, most at [9]: got nan" in str(
        oracle.difference(region, 0, got, want)
    )


def test_special_values_must_be_the_same() -> None:
    region = out_region(dt.f32, dt.f32)
    want = np.zeros(2000, np.float32)
    want[:3] = np.nan, np.inf, -np.inf
    assert oracle.difference(region, 0, want.copy(), want) is None
    for index, value in ((0, 0.0), (1, -np.inf), (2, 0.0), (1, np.nan), (5, np.inf)):
        got = want.copy()
        got[index] = value
        assert oracle.difference(region, 0, got, want) is not None, (index, value)


def test_integers_are_exact_unless_floats_are_rounded() -> None:
    want = np.arange(2000) % 50
    got = want.copy()
    got[5] += 1
    assert (
        oracle.difference(
            out_region(dt.i32, dt.i32), 0, got.astype(np.int32), want.astype(np.int32)
        )
        is not None
    )
    assert (
        oracle.difference(
            out_region(dt.i32, dt.f32), 0, got.astype(np.int32), want.astype(np.int32)
        )
        is None
    )
    got[5] += 1
    assert (
        oracle.difference(
            out_region(dt.i32, dt.f32), 0, got.astype(np.int32), want.astype(np.int32)
        )
        is not None
    )
    got = want + (np.arange(2000) < 3)
    assert (
        oracle.difference(
            out_region(dt.i32, dt.f32), 0, got.astype(np.int32), want.astype(np.int32)
        )
        is not None
    )


def recurrence(gain):
    """An RNN of 120 steps whose weights make a small error ``gain`` times as large at every step, where tanh lets them."""
    rng = np.random.default_rng(0)
    r = (gain * np.linalg.qr(rng.standard_normal((16, 16)))[0]).astype(np.float32)[None]
    views = [View.dense(s, dt.f32) for s in ((120, 1, 16), (120, 1, 1, 16), (1, 1, 16))]
    operands = (Operand(views[0]), Operand(View.dense(r.shape, dt.f32), r))
    region = Region("rnn", RNN.default(projected=True), operands, 2, Input(0), tuple(views[1:]))
    return region, [rng.standard_normal((120, 1, 16)).astype(np.float32), None]


@pytest.mark.parametrize(("gain", "exact"), [(0.5, 120), (4.0, 4)])
def test_a_recurrence_may_let_rounding_grow_and_nothing_else(gain, exact):
    """``exact``: up to which step a wrong element must be seen."""
    region, arrays = recurrence(gain)
    want = oracle.expected(region, arrays)
    extra = oracle.slack(region, arrays, want)
    assert [e.shape for e in extra] == [(120, 1, 1, 1), (1, 1, 1)]
    assert oracle.difference(region, 0, want[0], want[0], extra[0]) is None
    for step in {0, exact - 1}:
        wrong = want[0].copy()
        wrong[step, 0, 0, 3] += 0.05
        assert "differ" in oracle.difference(region, 0, wrong, want[0], extra[0])
    assert (extra[0].max() > 1.0) == (gain > 1)


def test_other_ops_have_no_slack():
    region = Region("e", None, (Operand(View.dense((3,), dt.f32)),), 0, Input(0), (View.dense((3,), dt.f32),))
    assert oracle.slack(region, [np.zeros(3, np.float32)], [np.zeros(3, np.float32)]) is None


def test_values_that_were_rounded_to_16_bits_may_be_their_neighbours():
    """A sum near the middle of two bf16 becomes either, depending on its order; in an f32 behind it this is no mistake."""

    def region(kind: dt.DType) -> Region:
        x, w = (Operand(View.dense(shape, kind)) for shape in ((1, 8), (8, 4)))
        return Region("product", MatMul(), (x, w), 2, Cast(dt.f32, Input(0)), (View.dense((1, 4), dt.f32),))

    want = np.float32([[1.0, -2.0, 3.0, 0.5]])
    near, far = want * np.float32(1 + 2**-7), want * np.float32(1.2)
    assert oracle.difference(region(dt.bf16), 0, near, want) is None
    assert oracle.difference(region(dt.bf16), 0, far, want) is not None
    assert oracle.difference(region(dt.f32), 0, near, want) is not None


def test_casts_on_the_way_to_an_f32_may_round_to_a_neighbour():
    x, w = (Operand(View.dense(shape, dt.f32)) for shape in ((1, 8), (8, 4)))
    rounded = Cast(dt.f32, Cast(dt.bf16, Input(0)))
    out = (View.dense((1, 4), dt.f32),)
    want = np.float32([[1.0, -2.0, 3.0, 0.5]])
    near, far = want * np.float32(1 + 2**-7), want * np.float32(1.2)
    for kind, region in (
        ("epilogue", Region("product", MatMul(), (x, w), 2, rounded, out)),
        ("prologue", Region("product", MatMul(), (x, w), 2, Input(0), out, prologue=rounded)),
    ):
        assert oracle.difference(region, 0, near, want) is None, kind
        assert oracle.difference(region, 0, far, want) is not None, kind


def test_floats_on_a_grid_may_be_its_neighbours_where_the_epilogue_rounds():
    """Of integers that are kept in f32: as many as of integers, by one step, and nothing where nothing rounds."""

    def region(rounds: bool) -> Region:
        x, w = (Operand(View.dense(shape, dt.f32)) for shape in ((4, 8), (8, 500)))
        value = call("mul", call("round", Input(0)), 0.25) if rounds else Input(0)
        return Region("product", MatMul(), (x, w), 2, value, (View.dense((4, 500), dt.f32),))

    want = (np.arange(2000).reshape(4, 500) % 50).astype(np.float32) / 4
    got = want.copy()
    got[0, 7] += 0.25
    assert oracle.difference(region(True), 0, got, want) is None
    assert "1 of 2000" in str(oracle.difference(region(False), 0, got, want))
    assert "1 of 1" in str(oracle.difference(region(True), 0, got[:1, 7:8], want[:1, 7:8]))
    got[0, 7] += 0.25
    assert "1 of 2000" in str(oracle.difference(region(True), 0, got, want))
    assert "3 of 2000" in str(oracle.difference(region(True), 0, want + 0.25 * (np.arange(2000).reshape(4, 500) < 3), want))


def test_more_neighbours_where_values_of_16_bits_are_rounded():
    """A sum that becomes another bf16 may become another integer; none is two steps away."""
    want = np.arange(2000) % 50
    got = want.copy()
    got[:20] += 1
    two = got.copy()
    two[3] += 1
    rounds = call("round", Input(0))
    for kind, source, epilogue in ((dt.u8, dt.bf16, Input(0)), (dt.f32, dt.bf16, rounds), (dt.f32, dt.f32, Cast(dt.f32, Cast(dt.bf16, rounds)))):
        region = replace(out_region(kind, source), epilogue=epilogue)
        narrow, wide = (replace(region, operands=(Operand(View.dense((2000,), k)),), epilogue=e) for k, e in ((source, epilogue), (dt.f32, rounds)))
        assert oracle.difference(narrow, 0, got.astype(kind.numpy), want.astype(kind.numpy)) is None
        assert oracle.difference(narrow, 0, two.astype(kind.numpy), want.astype(kind.numpy)) is not None
        assert oracle.difference(wide, 0, got.astype(kind.numpy), want.astype(kind.numpy)) is not None
