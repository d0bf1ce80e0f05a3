"""Each operation without effect goes; those with an effect, however small, stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ops.data import Concat, Expand, Identity, Pad, Reshape, Slice, Split, Tile, Transpose
from strop.ops.elementwise import Cast
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce
from strop.optimize import eliminate_noops
from tests.optimize.harness import Case, labels

ONES = ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))

GONE: dict[str, Callable[[Case, Value], Value]] = {
    "identity": lambda b, x: b.add(Identity(), x),
    "times one": lambda b, x: b.fn("mul", x, 1.0),
    "one times": lambda b, x: b.fn("mul", 1.0, x),
    "over one": lambda b, x: b.fn("div", x, 1.0),
    "plus zero": lambda b, x: b.fn("add", x, 0.0),
    "minus zero": lambda b, x: b.fn("sub", x, 0.0),
    "plus many zeros": lambda b, x: b.fn("add", x, b.const(np.zeros((3, 1, 1), np.float32))),
    "to the power of one": lambda b, x: b.fn("pow", x, 1.0),
    "reshape": lambda b, x: b.add(Reshape((1, 3, 4, 5)), x),
    "transpose": lambda b, x: b.add(Transpose((0, 1, 2, 3)), x),
    "transpose and back": lambda b, x: b.add(
        Transpose((0, 3, 1, 2)), b.add(Transpose((0, 2, 3, 1)), x)
    ),
    "cast": lambda b, x: b.add(Cast(dt.f32), x),
    "cast and back": lambda b, x: b.add(Cast(dt.f32), b.add(Cast(dt.f64), x)),
    "pad": lambda b, x: b.add(Pad((0,) * 8), x),
    "slice": lambda b, x: b.add(Slice((0, 0), (4, 3), (2, 1), (1, 1)), x),
    "concat": lambda b, x: b.add(Concat(1), x),
    "split": lambda b, x: b.add(Split(1, (3,)), x),
    "expand": lambda b, x: b.add(Expand((4, 1)), x),
    "tile": lambda b, x: b.add(Tile((1, 1, 1, 1)), x),
    "clip": lambda b, x: b.fn("clip", x),
    "max pool": lambda b, x: b.add(MaxPool(*ONES), x),
    "average pool": lambda b, x: b.add(AveragePool(*ONES), x),
    "mean of one": lambda b, x: b.add(Reduce("mean", (0,), True), x),
}
KEPT: dict[str, Callable[[Case, Value], Value]] = {
    "a wider result": lambda b, x: b.fn("mul", x, b.const(np.ones((2, 3, 4, 5), np.float32))),
    "one minus": lambda b, x: b.fn("sub", 0.0, x),
    "one over": lambda b, x: b.fn("div", 1.0, x),
    "almost one": lambda b, x: b.fn("mul", x, 1.0000001),
    "some ones": lambda b, x: b.fn("mul", x, b.const(np.array([1, 1, 1, 1, 2], np.float32))),
    "other order": lambda b, x: b.add(Transpose((0, 1, 3, 2)), x),
    "three turns": lambda b, x: b.add(Transpose((0, 2, 3, 1)), b.add(Transpose((0, 2, 3, 1)), x)),
    "lossy cast and back": lambda b, x: b.add(Cast(dt.f32), b.add(Cast(dt.bf16), x)),
    "reversing slice": lambda b, x: b.add(Slice((4,), (-1,), (3,), (-1,)), x),
    "flattening": lambda b, x: b.add(Reshape((1, 3, 20)), x),
    "l2 of one": lambda b, x: b.add(Reduce("l2", (0,), True), x),
    "lower bound": lambda b, x: b.fn("clip", x, lo=-9.0),
    "strided pool": lambda b, x: b.add(MaxPool((1, 1), (2, 2), (0, 0, 0, 0), (1, 1)), x),
}


@pytest.mark.parametrize("case", GONE)
def test_no_effect(case: str) -> None:
    b = Case(1, 3, 4, 5)
    graph = b.after(eliminate_noops, b.fn("tanh", GONE[case](b, b.fn("sin", b.x))), exact=True)
    assert labels(graph) == ["sin", "tanh"]


@pytest.mark.parametrize("case", KEPT)
def test_unless_there_is_an_effect(case: str) -> None:
    b = Case(1, 3, 4, 5)
    y = KEPT[case](b, b.x)
    count = len(b.graph.nodes)
    assert len(b.after(eliminate_noops, y).nodes) == count
    assert not b.trace.patches


@pytest.mark.parametrize(
    ("fn", "zero", "strictly"),
    [("add", 0.0, False), ("add", -0.0, True), ("sub", 0.0, True), ("sub", -0.0, False)],
)
def test_zeros_and_signs(fn: str, zero: float, strictly: bool) -> None:
    b = Case(3)
    b.feed["x0"] = np.array([-0.0, 0.0, np.nan], np.float32)
    y = b.fn(fn, b.x, zero)
    kept = labels(b.after(eliminate_noops, y, strict=True, exact=True))
    assert kept == ([] if strictly else [fn])
    b.feed["x0"] = np.array([1.0, -2.0, np.inf], np.float32)
    assert labels(b.after(eliminate_noops, y, exact=True)) == []


def test_integer_zeros_are_always_exact() -> None:
    b = Case(3, dtype=np.int32)
    y = b.fn("add", b.x, b.const(np.zeros(3, np.int32)))
    assert labels(b.after(eliminate_noops, y, strict=True, exact=True)) == []


def test_an_output_keeps_its_name() -> None:
    b = Case(3)
    graph = b.after(eliminate_noops, b.add(Identity(), b.x))
    assert graph.outputs == graph.inputs and graph.output_names == ["identity"]
