"""Layouts: what is arranged computes the same, and turns as little as possible."""

from __future__ import annotations

import numpy as np
import pytest

from strop.export.arrange import arrange, plain
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value
from strop.ir.interp import run
from strop.ir.op import Array, Type
from strop.ir.verify import verify
from strop.ops.channels_last import ChannelsLast
from strop.ops.conv import Conv
from strop.ops.data import Reshape, Transpose
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce
from strop.trace import Trace

RNG = np.random.default_rng(0)


def net(shape: tuple[int, ...] = (2, 6, 8, 7)) -> tuple[Graph, Value, Array]:
    graph = Graph("net")
    x = graph.add_input("x", Type(dt.f32, shape))
    return graph, x, RNG.standard_normal(shape).astype(np.float32)


def const(graph: Graph, *shape: int) -> Value:
    return graph.add_const(RNG.standard_normal(shape).astype(np.float32), "c")


def conv(graph: Graph, x: Value, channels: int = 6, groups: int = 1) -> Value:
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1), groups)
    return graph.add(op, [x, const(graph, channels, int(x.shape[1]) // groups, 3, 3)], name="conv", source=("conv",)).output


def arranged(graph: Graph, feed: Array, outputs: list[Value], turn_ends: bool = False) -> Graph:
    """The arranged graph, whose numbers are those of the graph."""
    graph.set_outputs(outputs, [f"y{k}" for k in range(len(outputs))])
    found = arrange(graph, Trace(), lambda op, operands: True, turn_ends)
    given = feed.transpose(0, 2, 3, 1) if turn_ends else feed
    for name, want in run(graph, {"x": feed}).items():
        got = run(found, {"x": given})[name]
        got = got.transpose(0, 3, 1, 2) if turn_ends and got.ndim == 4 else got
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    return found


def count(graph: Graph, op: type) -> int:
    return sum(isinstance(node.op, op) for node in graph.nodes)


def test_a_chain_is_turned_once_at_either_end() -> None:
    graph, x, feed = net()
    y = graph.add(MaxPool((2, 2), (2, 2), (0,) * 4, (1, 1)), [graph.add(make("relu"), [conv(graph, x)]).output]).output
    found = arranged(graph, feed, [conv(graph, y)])
    assert count(found, Transpose) == 2 and count(found, ChannelsLast) == 3
    assert [v.shape for v in found.inputs] == [x.shape]


def test_turned_ends_need_no_transposition() -> None:
    graph, x, feed = net()
    a = conv(graph, x)
    b = graph.add(AveragePool((3, 3), (1, 1), (1,) * 4, (1, 1)), [a]).output
    found = arranged(graph, feed, [graph.add(make("add"), [a, graph.add(make("mul"), [b, const(graph, 6, 1, 1)]).output]).output], turn_ends=True)
    assert count(found, Transpose) == 0 and found.inputs[0].shape == (2, 8, 7, 6)


def test_a_flattened_image_is_read_as_it_lies() -> None:
    graph, x, feed = net()
    flat = graph.add(Reshape((2, 6 * 8 * 7)), [conv(graph, x)]).output
    found = arranged(graph, feed, [graph.add(MatMul(), [flat, const(graph, 336, 5)]).output])
    assert count(found, Transpose) == 1


def test_a_channel_shuffle_is_one_transposition() -> None:
    graph, x, feed = net()
    parts = graph.add(Reshape((2, 2, 3, 8, 7)), [conv(graph, x)]).output
    mixed = graph.add(Reshape((2, 6, 8, 7)), [graph.add(Transpose((0, 2, 1, 3, 4)), [parts]).output]).output
    found = arranged(graph, feed, [conv(graph, mixed)])
    assert count(found, Transpose) == 3  # its own, and one at each end


def test_a_squeeze_is_turned_by_no_reshape() -> None:
    graph, x, feed = net()
    a = conv(graph, x)
    mean = graph.add(Reduce("mean", (2, 3), True), [a]).output
    small = Conv((1, 1), (0,) * 4, (1, 1))
    gate = graph.add(make("sigmoid"), [graph.add(small, [mean, const(graph, 6, 6, 1, 1)]).output]).output
    found = arranged(graph, feed, [graph.add(make("mul"), [a, gate]).output])
    assert count(found, Reshape) == 0 and count(found, Transpose) == 2


@pytest.mark.parametrize("groups", [1, 6])
def test_the_plain_graph_has_ordinary_ops_and_the_same_values(groups: int) -> None:
    graph, x, feed = net()
    graph.set_outputs([conv(graph, x, groups=groups)], ["y"])
    found = arrange(graph, Trace(), lambda op, operands: True)
    ordinary, names = plain(found)
    assert count(ordinary, ChannelsLast) == 0
    verify(ordinary, "imported")
    seen: list[dict[str, Array]] = [{}, {}]
    for values, made in zip(seen, (found, ordinary), strict=True):
        run(made, {"x": feed}, lambda value, array, values=values: values.__setitem__(value.name, array))  # type: ignore[misc]
    assert set(seen[0]) <= set(names)
    for name, array in seen[0].items():
        np.testing.assert_allclose(seen[1][names[name]], array, rtol=1e-5)
