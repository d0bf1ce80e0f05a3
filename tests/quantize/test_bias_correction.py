"""Bias correction against the mean of what the layers give, measured by running them."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import Op, Type
from strop.ir.verify import verify
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.quantize.bias_correction import correct
from strop.quantize.pipeline import quantize
from strop.quantize.precision import Decisions
from strop.quantize.table import Entry, Table

#: Name: op, shape of x, shape of w, whether the op has a bias of its own, whether one is added behind it.
CASES: dict[str, tuple[Op, tuple[int, ...], tuple[int, ...], bool, bool]] = {
    "conv": (Conv((1, 1), (0, 0, 0, 0), (1, 1)), (8, 6, 9, 9), (5, 6, 3, 3), False, False),
    "conv with bias": (Conv((1, 1), (0, 0, 0, 0), (1, 1)), (8, 6, 9, 9), (5, 6, 1, 1), True, False),
    "grouped": (Conv((1, 1), (0, 0, 0, 0), (1, 1), groups=3), (8, 6, 9, 9), (9, 2, 3, 3), True, False),
    "transposed": (ConvTranspose((2, 2), (0, 0, 0, 0), (1, 1), 1, (0, 0)), (8, 6, 9, 9), (6, 4, 2, 2), True, False),
    "product": (MatMul(), (400, 7), (7, 5), False, False),
    "product with bias": (MatMul(), (400, 7), (7, 5), False, True),
    "transposed product": (MatMul(transpose_b=True), (400, 7), (5, 7), False, True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_mean_of_every_channel_is_restored(case: str) -> None:
    op, x_shape, w_shape, own, added = CASES[case]
    rng = np.random.default_rng(0)
    graph = Graph("net")
    x = graph.add_input("x", Type(dt.f32, x_shape))
    weights = np.sign(rng.standard_normal(w_shape)) * rng.uniform(0.8, 1.0, w_shape) ** 9
    channel = 1 if isinstance(op, ConvTranspose) or (isinstance(op, MatMul) and not op.transpose_b) else 0
    count = w_shape[channel]
    operands = [x, graph.add_const(weights.astype(np.float32), "w")]
    operands += [graph.add_const(rng.standard_normal(count).astype(np.float32), "b")] if own else []
    y = graph.add(op, operands, name="layer", source=["layer"]).output
    if added:
        y = graph.add(make("add"), [y, graph.add_const(rng.standard_normal(count).astype(np.float32), "b")], name="bias").output
    graph.set_outputs([y], ["y"])
    feed = (rng.random(x_shape) + np.arange(x_shape[1]).reshape(-1, *(1,) * (len(x_shape) - 2))).astype(np.float32)
    axis = 1
    means = {"x": feed.mean(axis=tuple(k for k in range(feed.ndim) if k != axis), dtype=np.float64)}
    found = quantize(graph, Decisions("int8"), Table({"x": Entry(0.0, float(feed.max()))}))
    wanted = interp.run(graph, {"x": feed})["y"]
    others = tuple(k for k in range(wanted.ndim) if k != 1)

    def off() -> float:
        got = interp.run(found, {"x": feed})["y"]
        return float(np.abs((got - wanted).mean(axis=others, dtype=np.float64)).max())

    before = off()
    assert correct(graph, found, means) == 1
    verify(found, "portable")
    assert off() < 0.2 * before, (before, off())


def test_layers_that_stay_in_floats_are_left_alone() -> None:
    graph = Graph("net")
    x = graph.add_input("x", Type(dt.f32, (2, 3)))
    graph.set_outputs([graph.add(MatMul(), [x, graph.add_const(np.ones((3, 2), np.float32))], name="fc").output])
    copy = graph.clone()
    assert correct(graph, copy, {"x": np.ones(3)}) == 0
    assert len(copy.nodes) == 1
