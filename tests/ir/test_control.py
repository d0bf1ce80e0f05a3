"""Bodies of loops, the order of their nodes, and the interpreter on them."""

from __future__ import annotations

import numpy as np
import pytest

from strop.errors import GraphError
from strop.ir import dtype as dt
from strop.ir.control import arranged, innermost, loops
from strop.ir.graph import Graph
from strop.ir.interp import run
from strop.ir.op import Type
from strop.ir.shape import Sym
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.elementwise import make


def nested() -> Graph:
    """y = x doubled 3 times per outer round, 2 rounds, plus a value that no round changes; every outer round gives its sum so far."""
    graph = Graph("nested")
    x = graph.add_input("x", Type(dt.f32, (2,)))
    yes = graph.add_const(np.asarray(True), "yes")
    bounds = [graph.add_const(np.asarray(n), f"last{n}") for n in (1, 2)]
    outer = graph.add(LoopBegin("outer"), [yes, x], name="outer")
    inner = graph.add(LoopBegin("inner"), [yes, outer.outputs[1]], name="inner")
    free = graph.add(make("exp"), [x], name="free").output
    twice = graph.add(make("add"), [inner.outputs[1], inner.outputs[1]], name="twice").output
    again = graph.add(make("lt"), [inner.outputs[0], bounds[1]], name="again").output
    inner_end = graph.add(LoopEnd("inner", 0, Sym("n", 0, 3, 3)), [inner.outputs[0], again, twice], name="inner_end")
    plus = graph.add(make("add"), [inner_end.outputs[0], free], name="plus").output
    more = graph.add(make("lt"), [outer.outputs[0], bounds[0]], name="more").output
    end = graph.add(LoopEnd("outer", 1, Sym("m", 0, 2, 4)), [outer.outputs[0], more, plus, plus], name="end")
    graph.set_outputs([end.outputs[0], end.outputs[1], end.outputs[2]], ["y", "all", "rounds"])
    return graph


def test_bodies_and_order() -> None:
    graph = nested()
    found = loops(graph)
    assert [loop.begin.name for loop in found] == ["inner", "outer"]
    assert [n.name for n in found[0].body] == ["twice", "again"] and found[0].parent is found[1]
    assert {n.name for n in found[1].body} == {"inner", "twice", "again", "inner_end", "plus", "more"}
    assert {k.begin.name for k in innermost(found).values()} == {"inner", "outer"}
    names = [n.name for n in arranged(graph, found)]
    assert names.index("free") < names.index("outer") and names[-1] == "end"
    begin, end = names.index("inner"), names.index("inner_end")
    assert set(names[begin + 1 : end]) == {"twice", "again"}


def test_the_interpreter_runs_rounds() -> None:
    x = np.array([1, -2], np.float32)
    got = run(nested(), {"x": x})
    first = 8 * x + np.exp(x)
    second = 8 * first + np.exp(x)
    np.testing.assert_allclose(got["y"], second, 1e-6)
    np.testing.assert_allclose(got["all"], [first, second], 1e-6)
    assert got["rounds"] == 2


def test_loops_that_overlap() -> None:
    graph = nested()
    inner = next(n for n in graph.nodes if n.name == "inner_end")
    outer = next(n for n in graph.nodes if n.name == "end")
    inner.op, outer.op = inner.op.replace(loop="outer"), outer.op.replace(loop="inner")
    with pytest.raises(GraphError):
        loops(graph)
