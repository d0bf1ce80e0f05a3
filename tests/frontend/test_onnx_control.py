"""If, Loop, Scan, sequences and ops defined by other ops, against the ONNX reference evaluator or written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from strop.frontend.onnx import read_onnx, survey
from strop.frontend.onnx.bodies import expanded_op_types
from strop.frontend.onnx.registry import RULES
from strop.ir.interp import run
from tests.frontend.onnx_models import Array, build, check, floats, longs, single

N = helper.make_node
X = {"x": (np.float32, [2, 3])}
FEED = {"x": floats(2, 3)}


def typed(name: str, kind: int, shape: list[int]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def body(nodes: list[Any], inputs: list[Any], outputs: list[Any], **known: Array) -> Any:
    """A subgraph; inputs and outputs are (name, element type, shape)."""
    initializers = [numpy_helper.from_array(a, n) for n, a in known.items()]
    return helper.make_graph(nodes, "body", [typed(*i) for i in inputs], [typed(*o) for o in outputs], initializers)


F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
MATRIX = (F, [2, 3])


def branches() -> dict[str, Any]:
    """Both read x and a value of the graph around them; the second has an initializer of its own."""
    return {
        "then_branch": body([N("Add", ["x", "outer"], ["a"])], [], [("a", *MATRIX)]),
        "else_branch": body([N("Mul", ["x", "k"], ["b"])], [], [("b", *MATRIX)], k=np.float32([5])),
    }


@pytest.mark.parametrize("taken", [True, False])
def test_known_condition_takes_one_branch(taken: bool) -> None:
    nodes = [N("If", ["c"], ["y"], **branches()), N("Relu", ["x"], ["outer"])]  # out of order
    model = build(nodes[::-1], X, ["y"], {"c": np.asarray(taken)})
    graph = check(model, FEED)
    assert ("mul" in {n.op.label for n in graph.nodes}) is not taken
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    late = run(read_onnx(model), FEED)["y"]
    np.testing.assert_array_equal(late, FEED["x"] + np.maximum(FEED["x"], 0) if taken else FEED["x"] * 5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_computed_condition_picks_among_both_branches(sign: float) -> None:
    nodes = [
        N("Relu", ["x"], ["outer"]),
        N("ReduceSum", ["x"], ["sum"], keepdims=0),
        N("Greater", ["sum", "zero"], ["c"]),
        N("If", ["c"], ["y"], **branches()),
    ]
    model = build(nodes, X, ["y"], {"zero": np.float32(0)})
    check(model, {"x": np.abs(FEED["x"]) * np.float32(sign)})


def accumulate() -> Any:
    """sum = sum + x; also gives the product with the round's number."""
    nodes = [
        N("Add", ["sum", "x"], ["next"]),
        N("Cast", ["i"], ["f"], to=F),
        N("Mul", ["next", "f"], ["scaled"]),
        N("Less", ["i", "limit"], ["go"]),
    ]
    inputs = [("i", I, []), ("c", B, []), ("sum", *MATRIX)]
    return body(nodes, inputs, [("go", B, []), ("next", *MATRIX), ("scaled", *MATRIX)], limit=np.asarray(2))


@pytest.mark.parametrize(("trips", "condition"), [(3, None), (7, True), (None, True)])
def test_loop_collects_what_rounds_give(trips: int | None, condition: bool | None) -> None:
    """Without a condition three rounds are made, with one as many: it holds while i < 2. The body hides the outer name ``go``."""
    known = {"start": floats(2, 3, seed=1)}
    known |= {} if trips is None else {"trips": np.asarray(trips)}
    known |= {} if condition is None else {"go": np.asarray(condition)}
    operands = ["" if trips is None else "trips", "" if condition is None else "go", "start"]
    model = build([N("Loop", operands, ["last", "all"], name="l", body=accumulate())], X, ["last", "all"], known)
    graph = read_onnx(model)
    got = run(graph, FEED)
    sums = [known["start"] + (k + 1) * FEED["x"] for k in range(3)]
    np.testing.assert_allclose(got["last"], sums[-1], rtol=1e-6)
    np.testing.assert_allclose(got["all"], np.stack([s * k for k, s in enumerate(sums)]), rtol=1e-6)
    assert {n.source[0] for n in graph.nodes if n.op.label == "add"} == {f"l/{k}/Add_0" for k in range(3)}


def test_loop_without_rounds_gives_what_it_was_given() -> None:
    inner = body(
        [N("Relu", ["s"], ["t"]), N("Identity", ["c"], ["d"])],
        [("i", I, []), ("c", B, []), ("s", *MATRIX)],
        [("d", B, []), ("t", *MATRIX)],
    )
    model = build([N("Loop", ["n", "", "x"], ["y"], body=inner)], X, ["y"], {"n": np.asarray(0)})
    np.testing.assert_array_equal(run(read_onnx(model), FEED)["y"], FEED["x"])


def scanned() -> Any:
    nodes = [N("Add", ["s", "e"], ["t"]), N("Mul", ["t", "t"], ["z"])]
    row = (F, [3])
    return body(nodes, [("s", *row), ("e", *row)], [("t", *row), ("z", *row)])


@pytest.mark.parametrize("attributes", [{}, {"scan_input_directions": [1]}, {"scan_output_directions": [1]}])
def test_scan(attributes: dict[str, Any]) -> None:
    node = N("Scan", ["s0", "x"], ["s1", "y"], body=scanned(), num_scan_inputs=1, **attributes)
    got = run(read_onnx(build([node], X, ["s1", "y"], {"s0": floats(3, seed=2)})), FEED)
    rows = FEED["x"][::-1] if "scan_input_directions" in attributes else FEED["x"]
    states = floats(3, seed=2) + np.cumsum(rows, 0)
    squares = states**2
    np.testing.assert_allclose(got["s1"], states[-1], rtol=1e-6)
    np.testing.assert_allclose(got["y"], squares[::-1] if "scan_output_directions" in attributes else squares, rtol=1e-6)


def test_scan_along_other_axes() -> None:
    column = (F, [2])
    inner = body([N("Relu", ["e"], ["z"])], [("e", *column)], [("z", *column)])
    node = N("Scan", ["x"], ["y"], body=inner, num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[-1])
    got = run(read_onnx(build([node], X, ["y"])), FEED)
    np.testing.assert_array_equal(got["y"], np.maximum(FEED["x"], 0))


def test_a_function_with_a_loop_reads_the_attributes_of_its_call() -> None:
    alpha = N("Constant", [], ["a"])
    reference = AttributeProto(name="value_float", ref_attr_name="factor", type=AttributeProto.FLOAT)
    alpha.attribute.append(reference)
    inner = body(
        [alpha, N("Mul", ["s", "a"], ["t"]), N("Identity", ["c"], ["d"])],
        [("i", I, []), ("c", B, []), ("s", *MATRIX)],
        [("d", B, []), ("t", *MATRIX)],
    )
    opsets = [helper.make_opsetid("", 17)]
    nodes = [N("Constant", [], ["n"], value_int=3), N("Loop", ["n", "", "v"], ["w"], body=inner)]
    function = helper.make_function("local", "Power", ["v"], ["w"], nodes, opsets, ["factor"])
    node = N("Power", ["x"], ["y"], domain="local", factor=2.0)
    model = build([node], X, ["y"], functions=[function], domains={"local": 1})
    np.testing.assert_allclose(run(read_onnx(model), FEED)["y"], FEED["x"] * 8)


def test_sequences_leave_no_node_of_their_own() -> None:
    nodes = [
        N("SplitToSequence", ["x", "one"], ["parts"], axis=1),
        N("SequenceErase", ["parts", "one"], ["two"]),
        N("SequenceInsert", ["two", "k", "zero"], ["three"]),
        N("SequenceLength", ["three"], ["n"]),
        N("SequenceAt", ["three", "last"], ["end"]),
        N("ConcatFromSequence", ["three"], ["whole"], axis=-1),
        N("ConcatFromSequence", ["three"], ["stacked"], axis=0, new_axis=1),
    ]
    known = {"one": np.asarray(1), "zero": np.asarray(0), "last": np.asarray(-1), "k": floats(2, 1, seed=4)}
    model = build(nodes, X, ["n", "end", "whole", "stacked"], known)
    graph = check(model, FEED)
    assert {n.op.label for n in graph.nodes} <= {"slice", "concat", "reshape", "identity"}


def test_split_into_slices_without_their_axis() -> None:
    nodes = [N("SplitToSequence", ["x"], ["rows"], keepdims=0), N("SequenceAt", ["rows", "one"], ["y"])]
    check(build(nodes, X, ["y"], {"one": np.asarray(1)}), FEED)


def test_sequence_map_is_expanded() -> None:
    inner = body([N("Relu", ["e"], ["z"])], [("e", F, [2, 1])], [("z", F, [2, 1])])
    nodes = [
        N("SplitToSequence", ["x"], ["parts"], axis=1),
        N("SequenceMap", ["parts"], ["mapped"], body=inner),
        N("ConcatFromSequence", ["mapped"], ["y"], axis=1),
    ]
    got = run(read_onnx(build(nodes, X, ["y"])), FEED)
    np.testing.assert_array_equal(got["y"], np.maximum(FEED["x"], 0))


def test_optionals() -> None:
    nodes = [
        N("Optional", ["x"], ["o"]),
        N("OptionalHasElement", ["o"], ["has"]),
        N("OptionalGetElement", ["o"], ["y"]),
    ]
    got = run(read_onnx(build(nodes, X, ["has", "y"], opset=18)), FEED)
    assert got["has"] == np.True_
    np.testing.assert_array_equal(got["y"], FEED["x"])


# ---- ops that the standard defines by other ops


def test_an_op_without_a_rule_is_expanded() -> None:
    model, feeds = single("SoftmaxCrossEntropyLoss", [floats(3, 5), longs(1, 0, 4)], 13, reduction="sum")
    graph = check(model, feeds)
    assert all(n.source[0].startswith("node/") for n in graph.nodes)
    assert all(v.supported and v.name.startswith("node/") for v in survey(model))


def test_ops_with_bodies_are_listed() -> None:
    listed = expanded_op_types()
    assert listed["AffineGrid"] == "20-28"
    assert "Bernoulli" not in listed
    assert not any(("", name) in RULES for name in listed)
