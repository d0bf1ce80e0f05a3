"""Equalization: the network stays what it is, ranges meet in the middle, and what cannot be scaled is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph, Value
from strop.ir.op import Type
from strop.ir.verify import verify
from strop.ops.conv import Conv
from strop.ops.elementwise import make
from strop.ops.pool import AveragePool, MaxPool
from strop.quantize.equalize import equalize, pairs


class Net:
    """Convolutions over [1, 4, 6, 6] whose channels have very different ranges."""

    def __init__(self) -> None:
        self.graph, self.rng = Graph("net"), np.random.default_rng(0)
        self.value: Value = self.graph.add_input("x", Type(dt.f32, (1, 4, 6, 6)))

    def conv(self, name: str, groups: int = 1, bias: bool = True) -> Net:
        w = self.rng.standard_normal((4, 4 // groups, 3, 3)) * 10.0 ** self.rng.uniform(-2, 2, (4, 1, 1, 1))
        operands = [self.value, self.graph.add_const(w.astype(np.float32), f"{name}.w")]
        if bias:
            operands.append(self.graph.add_const(self.rng.standard_normal(4).astype(np.float32), f"{name}.b"))
        self.value = self.graph.add(Conv((1, 1), (1,) * 4, (1, 1), groups), operands, name=name).output
        return self

    def then(self, op: object) -> Net:
        self.value = self.graph.add(op, [self.value], name=f"n{len(self.graph.nodes)}").output  # type: ignore[arg-type]
        return self

    def done(self) -> Graph:
        self.graph.set_outputs([self.value], ["y"])
        return self.graph


def most(graph: Graph, name: str, axis: int) -> np.ndarray:
    weights = next(n for n in graph.nodes if n.name == name).operand(1).const
    assert weights is not None
    return np.abs(weights).max(axis=tuple(k for k in range(4) if k != axis))


RELU, POOL = make("relu"), MaxPool((2, 2), (1, 1), (0, 0, 0, 0), (1, 1))


@pytest.mark.parametrize("kind", ["plain", "relu", "pool", "mean", "depthwise", "no bias", "three"])
def test_the_network_stays_the_same_and_ranges_meet(kind: str) -> None:
    net = Net().conv("a", bias=kind != "no bias")
    net = {"relu": lambda: net.then(RELU), "pool": lambda: net.then(RELU).then(POOL), "mean": lambda: net.then(AveragePool((2, 2), (1, 1), (0, 0, 0, 0), (1, 1)))}.get(kind, lambda: net)()
    graph = net.conv("b", groups=4 if kind == "depthwise" else 1)
    graph = (graph.then(RELU).conv("c") if kind == "three" else graph).done()
    found, count = equalize(graph)
    verify(found, "portable")
    assert count == (2 if kind == "three" else 1)
    feed = {"x": np.random.default_rng(1).standard_normal((1, 4, 6, 6)).astype(np.float32)}
    wanted, got = interp.run(graph, feed)["y"], interp.run(found, feed)["y"]
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()
    axis = 0 if kind == "depthwise" else 1
    before = most(graph, "a", 0) / most(graph, "b", axis)
    after = most(found, "a", 0) / most(found, "b", axis)
    assert before.max() / before.min() > 10
    np.testing.assert_allclose(after, 1, rtol=0.05 if kind == "three" else 1e-3)
    if kind != "three":
        np.testing.assert_allclose(most(found, "a", 0), np.sqrt(most(graph, "a", 0) * most(graph, "b", axis)), rtol=1e-3)


def test_what_a_scale_cannot_pass_is_left_alone() -> None:
    graph = Net().conv("a").then(make("sigmoid")).conv("b").then(make("clip", lo=0.0, hi=6.0)).conv("c").conv("d", groups=2).done()
    assert pairs(graph) == []
    twice = Net().conv("a")
    first = twice.value
    twice.conv("b")
    twice.graph.set_outputs([twice.value, first])
    assert pairs(twice.graph) == []
    assert equalize(graph)[1] == 0
