"""Symbolic dims: inference and loop programs hold for any value of the symbols."""

from __future__ import annotations

import numpy as np
import pytest

from strop.errors import ShapeError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.op import REGISTRY, Sample, Type
from strop.ir.shape import Dim, Sym, add, floordiv, mul
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.data import Concat, Expand, Pad, Reshape, Slice, Split
from strop.ops.matmul import MatMul
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce
from strop.ops.resize import Resize
from tests.ops import loop_interpreter
from tests.ops.test_samples import assert_close, named_samples

#: Ops whose samples fix every size in an attribute; the tests below give them symbols.
FIXED = {"reshape", "resize", "identity", "iota", "sizes", "read_sizes"}


def with_symbol(sample: Sample, size: int) -> list[Type]:
    """Operand types with every dim of one size replaced by one symbol."""
    symbol = Sym("n", 1, size, 1 << 20)
    return [
        Type(dt.from_numpy(a.dtype), tuple(symbol if d == size else d for d in a.shape))
        for a in sample.inputs
    ]


def check(sample: Sample, types: list[Type], values: dict[str, int]) -> None:
    """With the symbols' values, inferred types and loop results are the reference's."""
    outputs = sample.op.infer(types)
    want = sample.op.at(values).reference(*sample.inputs)
    values = values | {s.name: int(a) for s, a in zip(reversed(sample.op.computed), reversed(want), strict=False)}
    for type, array in zip(outputs, want, strict=True):
        assert tuple(sh.evaluate(d, values) for d in type.shape) == array.shape, sample.op
        assert type.dtype == dt.from_numpy(array.dtype)
    program = sample.op.loops(types, outputs)
    if program is None:
        return
    stages = loop_interpreter.run(program, sample.inputs, values)
    for k, array in enumerate(want):
        assert_close(stages[f"out{k}"], array, f"{sample.op} with {types}")


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - FIXED))
def test_any_axis_of_a_sample_may_be_symbolic(name: str) -> None:
    done = 0
    for sample in named_samples(name)[:90]:
        for size in sorted({d for a in sample.inputs for d in a.shape if d > 1}):
            types = with_symbol(sample, size)
            try:
                sample.op.infer(types)
            except ShapeError:
                continue  # this axis must be constant, or an attribute fixes it
            check(sample, types, {"n": size})
            done += 1
    assert done >= 2


N, H, W, T = Sym("n", 1, 2, 64), Sym("h", 8, 9, 99), Sym("w", 8, 11, 99), Sym("t", 1, 7, 512)
IMAGE = Type(dt.f32, (N, 3, H, W))
VALUES = {"n": 2, "h": 9, "w": 11, "t": 7}


def f32(*shape: Dim) -> Type:
    return Type(dt.f32, shape)


def test_convolution_of_any_height() -> None:
    conv = Conv((2, 2), (1, 1, 1, 1), (1, 1))
    (out,) = conv.infer([IMAGE, f32(8, 3, 3, 3)])
    assert out.shape == (N, 8, add(floordiv(add(H, -1), 2), 1), add(floordiv(add(W, -1), 2), 1))
    assert [sh.evaluate(d, VALUES) for d in out.shape] == [2, 8, 5, 6]
    (same,) = Conv((1, 1), (1, 1, 1, 1), (1, 1)).infer([IMAGE, f32(8, 3, 3, 3)])
    assert same.shape == (N, 8, H, W)
    (back,) = ConvTranspose((2, 2), (0, 0, 0, 0), (1, 1), 1, (0, 0)).infer([IMAGE, f32(3, 4, 2, 2)])
    assert [sh.evaluate(d, VALUES) for d in back.shape] == [2, 4, 18, 22]


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pools_of_any_height(ceil_mode: bool) -> None:
    for cls in (MaxPool, AveragePool):
        op = cls((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), ceil_mode)
        (out,) = op.infer([IMAGE])
        for height in range(8, 14):
            values = {**VALUES, "h": height}
            (fixed,) = op.infer([f32(2, 3, height, 11)])
            assert tuple(sh.evaluate(d, values) for d in out.shape) == fixed.shape


def test_sequence_axes() -> None:
    (out,) = MatMul().infer([f32(N, T, 16), f32(16, 8)])
    assert out.shape == (N, T, 8)
    (mean,) = Reduce("mean", (2, 3), False).infer([IMAGE])
    assert mean.shape == (N, 3)
    (joined,) = Concat(1).infer([f32(N, T, 4), f32(N, 1, 4)])
    assert joined.shape == (N, add(T, 1), 4)
    (wide,) = Expand((N, 1, 4)).infer([f32(1, 1, 4)])
    assert wide.shape == (N, 1, 4)


def test_reshape_checks_element_counts_of_symbols() -> None:
    (flat,) = Reshape((N, mul(mul(H, W), 3))).infer([IMAGE])
    assert flat.shape == (N, mul(mul(H, W), 3))
    Reshape((mul(N, 3), H, W)).infer([IMAGE])
    with pytest.raises(ShapeError, match="cannot become"):
        Reshape((N, 4, H, W)).infer([IMAGE])


def test_slices_of_symbolic_axes() -> None:
    shape = (N, T, 8)
    far = (1 << 63) - 1
    whole = Slice.of(shape, [0], [far], [1])
    assert whole.infer([f32(*shape)])[0].shape == shape
    tail = Slice.of(shape, [1], [far], [1])
    assert tail.infer([f32(*shape)])[0].shape == (N, add(T, -1), 8)
    last = Slice.of(shape, [-1], [far], [1])
    assert sh.evaluate(last.infer([f32(*shape)])[0].shape[1], VALUES) == 1
    head = Slice.of(shape, [0], [-1], [1])
    assert sh.evaluate(head.infer([f32(*shape)])[0].shape[1], VALUES) == 6
    turned = Slice.of(shape, [far], [-far], [1], [-1])
    assert sh.evaluate(turned.infer([f32(*shape)])[0].shape[1], VALUES) == 7


def test_split_of_a_symbolic_axis() -> None:
    parts = Split(1, (3, add(T, -3))).infer([f32(N, T)])
    assert [p.shape for p in parts] == [(N, 3), (N, add(T, -3))]


def test_views_and_resizes_run_with_symbols() -> None:
    array = np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32)
    values = {"n": 2, "h": 5, "w": 6}
    types = [f32(N, 3, H, W)]
    for op in (
        Reshape((N, mul(mul(H, W), 3))),
        Resize((N, 3, mul(H, 2), mul(W, 3)), (1.0, 1.0, 2.0, 3.0), "linear"),
        Resize((N, 3, mul(H, 2), W), (1.0, 1.0, 2.0, 1.0), "nearest", "asymmetric"),
        Resize((N, 3, mul(H, 2), mul(W, 2)), (1.0, 1.0, 2.0, 2.0), "cubic", "align_corners"),
        Pad((0, 0, 1, 2, 0, 0, 0, 1), "reflect"),
        Slice.of((N, 3, H, W), [1, -2], [1 << 40, -(1 << 40)], [2, 3], [2, -1]),
    ):
        check(Sample(op, (array,)), types, values)
