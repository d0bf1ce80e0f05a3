"""Explicit padding goes into what can pad by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from strop.ir.graph import Value
from strop.ops.conv import Conv
from strop.ops.data import Pad
from strop.ops.pool import AveragePool, MaxPool
from strop.optimize import fold_pad
from tests.optimize.harness import Case, labels, only

SMALL = (0, 0, 1, 0, 0, 0, 1, 2)


def pad(b: Case, x: Value, pads: tuple[int, ...] = SMALL, **how: object) -> Value:
    return b.add(Pad(pads, **how), x)  # type: ignore[arg-type]


def conv(b: Case, x: Value, own: int = 0) -> Value:
    channels = x.type.static_shape[1]
    return b.add(Conv((1, 1), (own,) * 4, (1, 1)), x, b.normal(2, channels, 3, 3))


def pool(kind: type, own: int = 0, size: int = 3, **how: object) -> Callable[[Case, Value], Value]:
    return lambda b, x: b.add(kind((size, size), (1, 1), (own,) * 4, (1, 1), **how), x)


FOLDS: dict[str, tuple[Callable[[Case, Value], Value], tuple[int, ...]]] = {
    "conv": (lambda b, x: conv(b, pad(b, x)), (1, 0, 1, 2)),
    "conv with pads": (lambda b, x: conv(b, pad(b, x), 1), (2, 1, 2, 3)),
    "average": (lambda b, x: pool(AveragePool)(b, pad(b, x)), (1, 0, 1, 2)),
    "counted average": (
        lambda b, x: pool(AveragePool, 1, count_include_pad=True)(b, pad(b, x)),
        (2, 1, 2, 3),
    ),
    "max of infinity": (lambda b, x: pool(MaxPool)(b, pad(b, x, value=-np.inf)), (1, 0, 1, 2)),
    "max of zeros after relu": (
        lambda b, x: pool(MaxPool)(b, pad(b, b.fn("relu", x))),
        (1, 0, 1, 2),
    ),
    "max of zeros after clip": (
        lambda b, x: pool(MaxPool)(b, pad(b, b.fn("clip", x, lo=0.0, hi=6.0))),
        (1, 0, 1, 2),
    ),
}

STAYS: dict[str, Callable[[Case, Value], Value]] = {
    "channels": lambda b, x: conv(b, pad(b, x, (0, 1, 0, 0, 0, 1, 0, 0))),
    "batch": lambda b, x: conv(b, pad(b, x, (1, 0, 0, 0, 0, 0, 0, 0))),
    "ones": lambda b, x: conv(b, pad(b, x, value=1.0)),
    "reflection": lambda b, x: conv(b, pad(b, x, mode="reflect")),
    "cropping": lambda b, x: conv(b, pad(b, x, (0, 0, -1, 0, 0, 0, 1, 0))),
    "uncounted average": lambda b, x: pool(AveragePool, 1)(b, pad(b, x)),
    "average of ones": lambda b, x: pool(AveragePool)(b, pad(b, x, value=1.0)),
    "ceiling": lambda b, x: b.add(AveragePool((3, 3), (2, 2), (0,) * 4, (1, 1), True), pad(b, x)),
    "max of zeros": lambda b, x: pool(MaxPool)(b, pad(b, x)),
    "max of padding alone": lambda b, x: pool(MaxPool, size=2)(b, pad(b, b.fn("relu", x))),
}


@pytest.mark.parametrize("case", FOLDS)
def test_folds(case: str) -> None:
    build, wanted = FOLDS[case]
    b = Case(1, 2, 4, 5)
    graph = b.after(fold_pad, build(b, b.x))
    assert "pad" not in labels(graph)
    assert graph.nodes[-1].op.attributes()["pads"] == wanted
    assert len(graph.nodes[-1].source) >= 2


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    b = Case(1, 2, 4, 5)
    y = STAYS[case](b, b.x)
    assert "pad" in labels(b.after(fold_pad, y))


def test_channels_last() -> None:
    b = Case(1, 4, 5, 2)
    padded = b.add(Pad((0, 1, 2, 0, 0, 0, 1, 0)), b.x)
    y = b.add(Conv((1, 1), (0,) * 4, (1, 1), 1, "NHWC"), padded, b.normal(2, 2, 3, 3))
    op = only(b.after(fold_pad, y), "conv").op
    assert isinstance(op, Conv) and op.pads == (1, 2, 0, 1)


def test_unless_it_is_read_elsewhere() -> None:
    b = Case(1, 2, 4, 5)
    padded = pad(b, b.x)
    assert labels(b.after(fold_pad, conv(b, padded), padded)) == ["pad", "conv"]
