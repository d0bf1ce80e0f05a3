"""Every rule of every stage finds the defect that it is for, and passes a sound graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from strop.errors import VerifyError
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ir.shape import Sym
from strop.ir.verify import STAGES, findings, verify
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.data import Concat, Expand, Identity, Reshape, Slice, Split, Tile, Transpose
from strop.ops.elementwise import Cast, make
from strop.ops.select import NonZero


def sound() -> Graph:
    graph = Graph("sound")
    x = graph.add_input("x", Type(dt.f32, (2, 3)))
    c = graph.add_const(np.ones(3, np.float32), "c")
    y = graph.add(make("add"), [x, c], name="y").output
    z = graph.add(make("relu"), [y], name="z").output
    graph.set_outputs([z])
    return graph


@pytest.mark.parametrize("stage", STAGES)
def test_a_sound_graph_passes(stage: str) -> None:
    verify(sound(), stage)


def _misfiled(g: Graph) -> None:
    g.values["other"] = g.values.pop("y")


def _same_node_name(g: Graph) -> None:
    g.nodes[1].name = "y"


def _same_output_name(g: Graph) -> None:
    g.set_outputs([g.values["z"], g.values["y"]], ["a", "a"])


def _input_with_content(g: Graph) -> None:
    g.inputs[0].const = np.ones((2, 3), np.float32)


def _orphan(g: Graph) -> None:
    g.nodes.pop(0)


def _unfiled(g: Graph) -> None:
    del g.values["x"]


def _extra_use(g: Graph) -> None:
    g.values["c"].uses.append((g.nodes[1], 0))


def _missing_use(g: Graph) -> None:
    g.values["x"].uses.clear()


def _trailing_none(g: Graph) -> None:
    g.nodes[0].inputs.append(None)


def _reversed(g: Graph) -> None:
    g.nodes.reverse()


def _wrong_type(g: Graph) -> None:
    g.values["z"].type = Type(dt.f32, (3, 2))


def _misfit(g: Graph) -> None:
    g.nodes[0].op = Concat(0)


def _wrong_constant(g: Graph) -> None:
    g.values["c"].const = np.ones(3, np.float64)


def _no_outputs(g: Graph) -> None:
    g.set_outputs([])


def _unnamed_output(g: Graph) -> None:
    g.output_names = []


def _foreign_output(g: Graph) -> None:
    g.outputs = [sound().outputs[0]]


def _negative(g: Graph) -> None:
    g.add_input("n", Type(dt.f32, (-1,)))


def _symbol_bounds(g: Graph) -> None:
    g.add_input("n", Type(dt.f32, (Sym("a", 3, 2, 4),)))


def _two_symbols(g: Graph) -> None:
    g.add_input("n", Type(dt.f32, (Sym("a", 1, 2, 3), Sym("a", 1, 2, 4))))


def _dead_node(g: Graph) -> None:
    g.add(make("neg"), [g.inputs[0]])


def _dead_constant(g: Graph) -> None:
    g.add_const(np.ones(1), "dead")


BROKEN: list[tuple[str, Callable[[Graph], None]]] = [
    ("names", _misfiled),
    ("names", _same_node_name),
    ("names", _same_output_name),
    ("ownership", _input_with_content),
    ("ownership", _orphan),
    ("ownership", _unfiled),
    ("use lists", _extra_use),
    ("use lists", _missing_use),
    ("use lists", _trailing_none),
    ("topological order", _reversed),
    ("types", _wrong_type),
    ("types", _misfit),
    ("constants", _wrong_constant),
    ("outputs", _no_outputs),
    ("outputs", _unnamed_output),
    ("outputs", _foreign_output),
    ("symbols", _negative),
    ("symbols", _symbol_bounds),
    ("symbols", _two_symbols),
    ("liveness", _dead_node),
    ("liveness", _dead_constant),
]


@pytest.mark.parametrize(("rule", "damage"), BROKEN, ids=lambda p: getattr(p, "__name__", p))
def test_each_rule_finds_its_defect(rule: str, damage: Callable[[Graph], None]) -> None:
    graph = sound()
    damage(graph)
    assert rule in {name for name, _ in findings(graph, "portable")}
    with pytest.raises(VerifyError, match="stage portable"):
        verify(graph, "portable")


def selecting() -> Graph:
    """Of x the elements that are not zero, the places found in a loop's body besides."""
    graph = Graph("selecting")
    x = graph.add_input("x", Type(dt.f32, (4,)))
    go = graph.add_input("go", Type(dt.boolean, ()))
    count = Sym("count", 0, 2, 4)
    found = graph.add(NonZero(count), [x], name="found")
    places = graph.add(Reshape((count,)), [found.outputs[0]], name="places").output
    begin = graph.add(LoopBegin("a"), [go, x], name="begin")
    twice = graph.add(make("add"), [begin.outputs[1], x], name="twice").output
    end = graph.add(LoopEnd("a", 1, Sym("rounds", 0, 1, 3)), [begin.outputs[0], go, twice, twice], name="end")
    graph.set_outputs([places, end.outputs[0], end.outputs[1]])
    return graph


def _late(g: Graph) -> None:
    g.nodes.insert(2, g.nodes.pop(0))


def _found_twice(g: Graph) -> None:
    g.add(NonZero(Sym("count", 0, 2, 4)), [g.values["x"]], name="again")


def _nobody_finds(g: Graph) -> None:
    g.set_outputs([*g.outputs, g.add(Expand((Sym("ghost", 0, 1, 2),)), [g.add_const(np.ones((), np.float32))]).output])


def _body_read_outside(g: Graph) -> None:
    g.set_outputs([*g.outputs, g.add(make("neg"), [g.values["twice"]]).output])


def _body_as_output(g: Graph) -> None:
    g.set_outputs([*g.outputs, g.values["twice"]])


def _end_alone(g: Graph) -> None:
    node = g.nodes[-1]
    node.op = node.op.replace(loop="b")


def _another_type(g: Graph) -> None:
    node = g.nodes[-1]
    g.nodes[-1].op = node.op.replace(scans=0)


@pytest.mark.parametrize("stage", STAGES)
def test_a_graph_with_computed_sizes_and_a_loop_passes(stage: str) -> None:
    verify(selecting(), stage)
    copy = selecting().clone()
    assert copy.prune() == 0
    copy.nodes.reverse()
    copy.toposort()
    verify(copy, stage)


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        ("computed sizes", _late),
        ("computed sizes", _found_twice),
        ("computed sizes", _nobody_finds),
        ("loops", _body_read_outside),
        ("loops", _body_as_output),
        ("loops", _end_alone),
        ("loops", _another_type),
    ],
)
def test_rules_of_computed_sizes_and_loops(rule: str, damage: Callable[[Graph], None]) -> None:
    graph = selecting()
    damage(graph)
    assert rule in {name for name, _ in findings(graph, "portable")}


def test_what_finds_a_size_is_needed() -> None:
    graph = selecting()
    count = Sym("count", 0, 2, 4)
    ones = graph.add(Expand((count,)), [graph.add_const(np.ones((), np.float32))], name="ones").output
    graph.set_outputs([ones])
    graph.prune()
    assert [n.name for n in graph.nodes] == ["found", "ones"]


def test_imported_form_may_hold_dead_nodes() -> None:
    graph = sound()
    _dead_node(graph)
    verify(graph, "imported")


NOOPS = {
    "identity": Identity(),
    "cast": Cast(dt.f32),
    "reshape": Reshape((2, 3)),
    "expand": Expand((2, 3)),
    "slice": Slice((0,), (3,), (1,), (1,)),
    "tile": Tile((1, 1)),
    "transpose": Transpose((0, 1)),
    "concat": Concat(0),
    "split": Split(0, (2,)),
}


@pytest.mark.parametrize("case", NOOPS)
def test_noops_are_not_portable(case: str) -> None:
    graph = sound()
    node = graph.add(NOOPS[case], [graph.values["z"]])
    graph.set_outputs(node.outputs)
    verify(graph, "imported")
    with pytest.raises(VerifyError, match=f"a {case} without effect"):
        verify(graph, "portable")


@pytest.mark.parametrize("op", [Reshape((6,)), Transpose((1, 0))], ids=lambda o: o.name)
def test_chains_are_not_portable(op: Reshape | Transpose) -> None:
    graph = sound()
    first = graph.add(op, [graph.values["z"]]).output
    back = Reshape((3, 2)) if isinstance(op, Reshape) else Transpose((1, 0))
    graph.set_outputs(graph.add(back, [first]).outputs)
    with pytest.raises(VerifyError, match="without effect"):
        verify(graph, "portable")


def test_a_reversing_slice_is_kept() -> None:
    graph = sound()
    node = graph.add(Slice((2,), (-1,), (1,), (-1,)), [graph.values["z"]])
    graph.set_outputs(node.outputs)
    verify(graph, "portable")
