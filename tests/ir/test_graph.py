"""Building, editing and reading graphs; unsafe edits are refused and name what stands in the way."""

from __future__ import annotations

import numpy as np
import pytest

from strop.errors import GraphError, ShapeError
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value, scalar_of
from strop.ir.op import Type
from strop.ir.shape import Sym
from strop.ir.verify import verify
from strop.ops.conv import Conv
from strop.ops.data import Reshape, Split
from strop.ops.elementwise import make

X = Type(dt.f32, (2, 3))


def chain() -> tuple[Graph, list[Value]]:
    """x -> neg -> abs -> relu, the last one the output."""
    graph = Graph("chain")
    values = [graph.add_input("x", X)]
    for fn in ("neg", "abs", "relu"):
        values.append(graph.add(make(fn), [values[-1]], source=[f"src_{fn}"]).output)
    graph.set_outputs([values[-1]], ["y"])
    return graph, values


def test_names_are_made_unique() -> None:
    graph, values = chain()
    again = graph.add(make("neg"), [values[0]])
    third = graph.add(make("neg"), [values[0]], name="neg")
    assert (again.name, again.output.name, third.name) == ("neg.1", "neg.1", "neg.2")
    assert graph.add_const(np.ones(1), "x").name == "x.1"
    with pytest.raises(GraphError, match="taken"):
        graph.add_input("x", X)


def test_uses_and_users() -> None:
    graph, values = chain()
    x, neg = values[0], values[1]
    both = graph.add(make("mul"), [x, x])
    assert [(n.name, i) for n, i in x.uses] == [("neg", 0), ("mul", 0), ("mul", 1)]
    assert [n.name for n in x.users] == ["neg", "mul"]
    assert graph.users_of(values[-1]) == ["output y"]
    assert graph.users_of(neg) == ["abs"] and not graph.users_of(both.output)


def test_ill_typed_and_foreign_operands() -> None:
    graph, values = chain()
    with pytest.raises(ShapeError):
        graph.add(Reshape((7,)), [values[0]])
    other, others = chain()
    with pytest.raises(GraphError, match="another graph"):
        graph.add(make("neg"), [others[0]])
    assert len(graph.nodes) == len(other.nodes) == 3
    verify(graph, "imported")


def test_optional_operands() -> None:
    graph = Graph()
    x = graph.add_input("x", Type(dt.f32, (1, 1, 2, 2)))
    w = graph.add_const(np.ones((1, 1, 1, 1), np.float32))
    node = graph.add(Conv((1, 1), (0,) * 4, (1, 1)), [x, w, None])
    assert len(node.inputs) == 2 and not node.has(2) and node.has(1)
    with pytest.raises(GraphError, match="no operand 2"):
        node.operand(2)


def test_several_results() -> None:
    graph = Graph()
    x = graph.add_input("x", X)
    node = graph.add(Split(1, (1, 2)), [x], outputs=["a", "b"])
    assert [v.name for v in node.outputs] == ["a", "b"]
    with pytest.raises(GraphError, match="2 results"):
        _ = node.output


def test_replacing_keeps_types() -> None:
    graph, values = chain()
    x, neg, absolute, _ = values
    graph.replace_uses(neg, x)
    assert absolute.producer is not None and absolute.producer.inputs == [x]
    assert not neg.uses
    other = graph.add(Reshape((3, 2)), [x]).output
    with pytest.raises(GraphError, match="dtype or shape"):
        graph.replace_uses(absolute, other)
    with pytest.raises(GraphError, match="type"):
        graph.set_operand(absolute.producer, 0, other)
    verify(graph, "imported")


def test_replacing_an_output() -> None:
    graph, values = chain()
    graph.replace_uses(values[-1], values[0])
    assert graph.outputs == [values[0]] and graph.output_names == ["y"]
    graph.replace_uses(values[0], values[0])
    assert graph.is_output(values[0])


def test_removing_names_the_readers() -> None:
    graph, values = chain()
    for value, reader in ((values[1], "abs"), (values[-1], "output y")):
        assert value.producer is not None
        with pytest.raises(GraphError, match=reader) as caught:
            graph.remove(value.producer)
        assert caught.value.where == value.producer.name
    extra = graph.add(make("neg"), [values[0]])
    graph.remove(extra)
    assert "neg.1" not in graph.values and len(values[0].uses) == 1
    assert graph.add(make("neg"), [values[0]]).name == "neg.1"


def test_prune() -> None:
    graph, values = chain()
    two = graph.add_const(np.float32(2))
    dead = graph.add(make("mul"), [values[1], two])
    graph.add(make("neg"), [dead.output])
    assert graph.prune() == 2
    assert [n.name for n in graph.nodes] == ["neg", "abs", "relu"]
    assert not list(graph.constants()) and len(values[1].uses) == 1
    assert graph.prune() == 0
    verify(graph, "portable")


def test_toposort_is_stable_and_finds_cycles() -> None:
    graph, values = chain()
    graph.add(make("sin"), [values[0]])
    order = list(graph.nodes)
    graph.toposort()
    assert graph.nodes == order
    graph.nodes = [order[2], order[3], order[1], order[0]]
    graph.toposort()
    assert [n.name for n in graph.nodes] == ["sin", "neg", "abs", "relu"]
    first, last = values[1].producer, values[3]
    assert first is not None
    graph.set_operand(first, 0, last)
    with pytest.raises(GraphError, match="cycle"):
        graph.toposort()


def test_insertion_and_renaming() -> None:
    graph, values = chain()
    new = graph.add(make("sin"), [values[0]], before=values[2].producer)
    assert [n.name for n in graph.nodes] == ["neg", "sin", "abs", "relu"]
    graph.rename(new.output, "sine")
    graph.rename_node(new, "sine")
    assert graph.values["sine"] is new.output and graph.has_node("sine")
    assert not graph.has_node("sin") and "sin" not in graph.values
    graph.rename(new.output, "sine")
    graph.rename_node(new, "sine")
    with pytest.raises(GraphError, match="taken"):
        graph.rename(new.output, "abs")
    with pytest.raises(GraphError, match="taken"):
        graph.rename_node(new, "abs")
    verify(graph, "imported")


def test_clone_shares_constants_and_nothing_else() -> None:
    graph, values = chain()
    array = np.ones(3, np.float32)
    total = graph.add(make("add"), [values[3], graph.add_const(array, "c")], source=["a", "b"])
    graph.set_outputs([total.output], ["out"])
    copy = graph.clone()
    assert copy.values["c"].const is array
    assert [n.source for n in copy.nodes] == [n.source for n in graph.nodes]
    assert copy.output_names == ["out"] and copy.name == graph.name
    copy.prune()
    copy.replace_uses(copy.values["neg"], copy.values["x"])
    assert len(values[0].uses) == 1 and graph.nodes[1].inputs == [values[1]]
    verify(graph, "portable")


def test_clone_with_other_input_types() -> None:
    graph, _ = chain()
    n = Sym("n", 1, 2, 8)
    copy = graph.clone(lambda value: Type(value.dtype, (n, *value.shape[1:])))
    assert copy.outputs[0].shape == (n, 3)
    assert graph.outputs[0].shape == (2, 3)


def test_scalars_and_printing() -> None:
    graph, values = chain()
    assert scalar_of(graph.add_const(np.full((1, 1), 3))) == 3
    assert scalar_of(graph.add_const(np.ones(2))) is None and scalar_of(values[0]) is None
    assert repr(values[0]) == "%x: f32[2,3]"
    assert repr(graph.nodes[0]) == "%neg: f32[2,3] = neg(%x)"
    assert repr(graph) == "Graph(chain: 1 inputs, 3 nodes, 1 outputs)"
