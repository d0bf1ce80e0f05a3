"""What is said about a bad graph text, bad inputs to the oracle, refused edits and broken stages."""

from __future__ import annotations

import numpy as np
import pytest

from strop.errors import GraphError, InputError, ModelError, VerifyError
from strop.ir import dtype as dt
from strop.ir import interp, text
from strop.ir.graph import Graph
from strop.ir.match import Match, Patch, any_value, op, rewrite, rule
from strop.ir.op import Type
from strop.ir.verify import verify
from strop.ops.data import Reshape
from strop.ops.elementwise import make
from strop.trace import Trace


def net() -> Graph:
    graph = Graph("net")
    x = graph.add_input("x", Type(dt.f32, (2, 3)))
    graph.set_outputs(graph.add(make("neg"), [x], name="layer").outputs)
    return graph


def test_a_bad_line_of_graph_text() -> None:
    source = 'graph "g"\ninput %x : f32[2,3]\n%y : f32[3,2] = neg(%x)\noutput %y as "y"'
    with pytest.raises(ModelError) as caught:
        text.parse(source, {})
    assert str(caught.value) == (
        "neg has another result type than stated\n"
        "  where: graph text, line 3\n"
        "  got: f32[3,2]\n"
        "  expected: f32[2,3]"
    )


def test_what_an_op_says_is_kept_with_the_line() -> None:
    source = 'graph "g"\ninput %x : f32[2,3]\n%y : f32[7] = reshape(%x) {shape=[7]}'
    with pytest.raises(ModelError) as caught:
        text.parse(source, {})
    assert "reshape: cannot become 7" in caught.value.what
    assert caught.value.where == "graph text, line 3"
    assert caught.value.got == "f32[2,3]"


def test_a_wrong_input_of_the_oracle() -> None:
    with pytest.raises(InputError) as caught:
        interp.run(net(), {"x": np.zeros((2, 4), np.float32)})
    assert str(caught.value) == (
        "an input has the wrong shape\n  where: x\n  got: (2, 4)\n  expected: f32[2,3]"
    )


def test_a_refused_removal_names_the_readers() -> None:
    graph = net()
    with pytest.raises(GraphError) as caught:
        graph.remove(graph.nodes[0])
    assert str(caught.value) == "node is still used\n  where: layer\n  got: output layer"


def test_a_broken_stage_names_rule_stage_and_place() -> None:
    graph = net()
    graph.values["layer"].type = Type(dt.f16, (2, 3))
    with pytest.raises(VerifyError) as caught:
        verify(graph, "portable")
    assert caught.value.what == "types: result types differ from inference"
    assert caught.value.where == "stage portable, graph net, layer"
    assert "f16" in str(caught.value.got) and "f32" in str(caught.value.expected)


def test_a_patch_of_another_type_is_refused() -> None:
    graph = net()
    patch = Patch(graph)
    with pytest.raises(GraphError) as caught:
        patch.replace(graph.outputs[0], patch.add(Reshape((6,)), graph.inputs[0]))
    assert str(caught.value) == (
        "replacement changes dtype or shape\n  where: layer\n  got: f32[6]\n  expected: f32[2,3]"
    )


def test_rules_that_run_in_circles_are_named() -> None:
    @rule(op("neg", any_value("x")))
    def again(m: Match) -> Patch | None:
        return m.becomes(make("neg"), m["x"])

    with pytest.raises(VerifyError) as caught:
        rewrite(net(), [again], Trace(), "circle")
    assert caught.value.what == "the rules of a pass do not come to an end"
    assert caught.value.where == "circle" and "again (errors/test_graph_errors.py:" in str(
        caught.value.got
    )
