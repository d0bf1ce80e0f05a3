"""Convolutions whose last axis is 1 are walked along the other one."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir.graph import Graph
from strop.lower.pipeline import Lowered, lower
from strop.ops.conv import Conv
from strop.optimize.pipeline import optimize
from strop.target.detect import TARGETS
from strop.trace import Trace
from tests.graphs import Builder


def _lowered(x: tuple[int, ...], w: tuple[int, ...], **attributes: object) -> Lowered:
    b = Builder(1)
    given = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), **attributes}
    y = b.add(Conv(**given), b.input(b.rng.standard_normal(x).astype(np.float32)), b.normal(*w))  # type: ignore[arg-type]
    b.graph.set_outputs((y,))
    graph: Graph = optimize(b.graph, Trace())
    return lower(graph, TARGETS["x86-64-v4"], Trace())


def _conv(lowered: Lowered) -> Conv:
    (op,) = (s.region.op for s in lowered.steps if isinstance(s.region.op, Conv))
    return op


def test_views_are_turned_and_bytes_are_not() -> None:
    lowered = _lowered((1, 8, 40, 1), (16, 8, 5, 1), strides=(2, 1), pads=(2, 0, 1, 0))
    (step,) = (s for s in lowered.steps if isinstance(s.region.op, Conv))
    op = _conv(lowered)
    assert (op.strides, op.pads) == ((1, 2), (0, 2, 0, 1))
    assert step.region.operand(0).view.shape == (1, 8, 1, 40) and step.region.out.shape == (1, 16, 1, 20)
    assert step.region.operand(1).view.shape == (16, 8, 1, 5)
    assert step.chosen.params.mr > 1, "a tile holds several positions"


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((1, 8, 40, 2), (16, 8, 5, 1), {}),
        ((1, 8, 40, 1), (16, 8, 5, 3), {"pads": (0, 1, 0, 1)}),
        ((1, 8, 1, 40), (16, 8, 1, 5), {}),
    ],
    ids=["two columns", "padded columns", "already last"],
)
def test_others_stay(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, object]) -> None:
    op = _conv(_lowered(x, w, **attributes))
    assert op.pads == attributes.get("pads", (0, 0, 0, 0)) and op.strides == (1, 1)
