"""Which values become integers, who reads them so, and which share a grid."""

from __future__ import annotations

import numpy as np
import pytest

from strop.errors import OptionError
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph, Value
from strop.ir.op import Type
from strop.ops.conv import Conv
from strop.ops.data import Concat, Reshape, Split
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.ops.pool import MaxPool
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.reduce import Reduce
from strop.ops.softmax import Softmax
from strop.quantize.pipeline import observed, quantize
from strop.quantize.place import Placement, place
from strop.quantize.precision import Decisions, decide, layers
from strop.quantize.table import Entry, Table


class Net:
    """A graph of f32 layers, written down in few words."""

    def __init__(self) -> None:
        self.graph = Graph("net")
        self.rng = np.random.default_rng(0)
        self.x = self.graph.add_input("x", Type(dt.f32, (1, 4, 8, 8)))

    def conv(self, x: Value, name: str, kernel: int = 1) -> Value:
        channels = x.type.static_shape[1]
        w = self.graph.add_const(self.rng.standard_normal((4, channels, kernel, kernel)).astype(np.float32), f"{name}.w")
        b = self.graph.add_const(self.rng.standard_normal(4).astype(np.float32), f"{name}.b")
        op = Conv((1, 1), (kernel // 2,) * 4, (1, 1))
        return self.graph.add(op, [x, w, b], name=name, source=[name]).output

    def fn(self, name: str, *operands: Value) -> Value:
        return self.graph.add(make(name), operands, name=f"{name}{len(self.graph.nodes)}", source=[f"{name}{len(self.graph.nodes)}"]).output

    def pool(self, x: Value) -> Value:
        return self.graph.add(MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), [x], name="pool").output


def names(found: Placement) -> list[str]:
    return [v.name for v in found.readers]


INT8 = Decisions("int8")


def test_a_chain_is_stored_once_behind_its_last_elementwise_op() -> None:
    net = Net()
    a = net.fn("relu", net.conv(net.x, "a"))
    net.graph.set_outputs([net.conv(a, "b")])
    found = place(net.graph, INT8)
    assert names(found) == ["x", a.name] and [n.name for n in found.layers] == ["a", "b"]
    assert [[v.name for v in g] for g in found.groups] == [["x"], [a.name]]


def test_a_residual_is_read_as_integers_and_the_sum_stays_in_registers() -> None:
    net = Net()
    a = net.fn("relu", net.conv(net.x, "a"))
    b = net.conv(a, "b")
    total = net.fn("relu", net.fn("add", b, a))
    net.graph.set_outputs([net.conv(total, "c")])
    found = place(net.graph, INT8)
    assert names(found) == ["x", a.name, total.name]
    assert {n.name for n, _ in found.readers[a]} == {"b", "add3"}


def test_of_two_branches_the_later_one_stays_in_registers() -> None:
    net = Net()
    first, second = net.conv(net.x, "first"), net.conv(net.x, "second")
    total = net.fn("relu", net.fn("add", second, first))
    net.graph.set_outputs([net.conv(total, "c")])
    assert names(place(net.graph, INT8)) == ["x", "first", total.name]


def test_pools_and_joins_share_one_grid() -> None:
    net = Net()
    a, b = net.fn("relu", net.conv(net.x, "a")), net.conv(net.x, "b")
    joined = net.graph.add(Concat(1), [a, b], name="join").output
    pooled = net.pool(joined)
    net.graph.set_outputs([net.conv(pooled, "c")])
    found = place(net.graph, INT8)
    assert {frozenset(v.name for v in g) for g in found.groups} == {frozenset({"x"}), frozenset({a.name, "b", "join", "pool"})}


def test_a_mean_has_a_grid_of_its_own_and_the_classifier_ends_in_floats() -> None:
    net = Net()
    a = net.fn("relu", net.conv(net.x, "a"))
    mean = net.graph.add(Reduce("mean", (2, 3), True), [a], name="mean").output
    flat = net.graph.add(Reshape((1, 4)), [mean], name="flat").output
    w = net.graph.add_const(np.ones((4, 3), np.float32), "w")
    scores = net.graph.add(MatMul(), [flat, w], name="fc").output
    net.graph.set_outputs([net.graph.add(Softmax(-1), [scores], name="softmax").output])
    found = place(net.graph, INT8)
    assert names(found) == ["x", a.name, "mean", "flat"]
    assert [[v.name for v in g] for g in found.groups] == [["x"], [a.name], ["mean", "flat"]]


def test_a_lifted_layer_reads_floats_beside_one_that_reads_integers() -> None:
    net = Net()
    a = net.fn("relu", net.conv(net.x, "a"))
    net.graph.set_outputs([net.conv(a, "b"), net.conv(a, "c")])
    found = place(net.graph, decide(net.graph, "int8", {"c": "fp32"}))
    assert {n.name for n, _ in found.readers[a]} == {"b"}
    assert names(place(net.graph, decide(net.graph, "int8", {"b": "fp32", "c": "fp32"}))) == ["x"]


def test_lifting_never_asks_for_more_values() -> None:
    net = Net()
    a = net.fn("relu", net.conv(net.x, "a"))
    total = net.fn("add", net.conv(net.pool(a), "b"), net.conv(net.pool(a), "c"))
    net.graph.set_outputs([net.conv(total, "d")])
    whole = set(names(place(net.graph, INT8)))
    for node in layers(net.graph):
        assert set(names(place(net.graph, INT8.lifted({node.name: ""})))) <= whole


def table(graph: Graph, low: float = -8.0, high: float = 8.0) -> Table:
    return Table({v.name: Entry(low, high) for v in observed(graph, INT8)})


def test_the_rewritten_graph_means_the_same_up_to_rounding() -> None:
    net = Net()
    a = net.fn("relu", net.conv(net.x, "a", 3))
    total = net.fn("relu", net.fn("add", net.conv(a, "b"), a))
    net.graph.set_outputs([net.conv(net.pool(total), "c")])
    before = len(net.graph.nodes)
    seen: dict[str, list[float]] = {}
    feed = {"x": np.random.default_rng(1).standard_normal((1, 4, 8, 8)).astype(np.float32)}
    wanted = interp.run(net.graph, feed, lambda v, x: seen.setdefault(v.name, [float(x.min()), float(x.max())]) and None)
    ranges = Table({v.name: Entry(*seen[v.name]) for v in observed(net.graph, INT8)})
    found = quantize(net.graph, INT8, ranges)
    got = interp.run(found, feed)
    (name,) = wanted
    noise = np.mean((got[name] - wanted[name]) ** 2) / np.mean(wanted[name] ** 2)
    assert 0 < noise < 1e-3
    assert len(net.graph.nodes) == before, "the given graph is not changed"
    assert sum(isinstance(n.op, Quantize) for n in found.nodes) == 4
    weights = [n for n in found.nodes if isinstance(n.op, Dequantize) and n.operand(0).const is not None]
    assert [n.operand(0).dtype.name for n in weights] == ["i8"] * 3
    assert all(len(n.output.uses) == 1 for n in found.nodes if isinstance(n.op, Dequantize)), "each reader has its own"


def test_a_symmetric_table_wastes_nothing_on_values_that_are_never_negative() -> None:
    net = Net()
    a = net.pool(net.fn("relu", net.conv(net.x, "a")))
    net.graph.set_outputs([net.conv(net.fn("tanh", net.conv(a, "b")), "c")])
    found = quantize(net.graph, INT8, table(net.graph))
    scales = {n.name: float(n.operand(1).const) for n in found.nodes if isinstance(n.op, Quantize)}  # type: ignore[arg-type]
    for name, scale in scales.items():
        assert scale == pytest.approx((16 if name.startswith(("x", "tanh")) else 8) / 255), name
    assert len(scales) == 4


def test_a_missing_range_is_named() -> None:
    net = Net()
    net.graph.set_outputs([net.conv(net.conv(net.x, "a"), "b")])
    with pytest.raises(OptionError, match="no range") as error:
        quantize(net.graph, INT8, Table({"x": Entry(-1, 1)}))
    assert error.value.where == "a"


def test_patterns_and_places() -> None:
    net = Net()
    net.graph.set_outputs([net.conv(net.conv(net.conv(net.x, "a1"), "a2"), "b")])
    kinds = {n.name: decide(net.graph, "int8", {"a*": "bf16", "a2": "int8", "@last": "fp32"}).of(n) for n in net.graph.nodes}
    assert kinds == {"a1": "bf16", "a2": "int8", "b": "fp32"}
    for patterns, message in (({"z*": "int8"}, "no layer matches"), ({"a1": "int4"}, "unknown precision of a layer")):
        with pytest.raises(OptionError, match=message):
            decide(net.graph, "int8", patterns)
    with pytest.raises(OptionError, match="unknown precision"):
        decide(net.graph, "int7")


def test_a_residual_that_is_a_part_of_a_split() -> None:
    net = Net()
    left, right = net.graph.add(Split(1, (2, 2)), [net.fn("relu", net.conv(net.x, "a"))], name="split").outputs
    w = net.graph.add_const(net.rng.standard_normal((2, 2, 1, 1)).astype(np.float32), "b.w")
    b = net.graph.add(Conv((1, 1), (0,) * 4, (1, 1)), [left, w], name="b", source=["b"]).output
    net.graph.set_outputs([net.conv(net.fn("add", b, right), "c")])
    found = place(net.graph, INT8)
    assert [n.name for n in found.layers] == ["a", "b", "c"] and {"x", left.name, right.name} <= set(names(found))
