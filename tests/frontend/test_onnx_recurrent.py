"""LSTM, GRU and RNN nodes against ONNX Runtime and the ONNX reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest

from strop.frontend.onnx import read_onnx
from strop.ir.interp import run
from strop.ir.text import by_digest, parse, show
from strop.ops.recurrent import GRU, LSTM, RNN
from tests.frontend.onnx_models import build, check
from tests.recurrent_nodes import GATES, WEIGHTS, node, operands, random_node


def model_of(made, arrays, opset=17):
    """A model of one node, its weights initializers, and the other arrays."""
    fixed = {n: a for n, a in arrays.items() if n in WEIGHTS}
    feeds = {n: a for n, a in arrays.items() if n not in fixed}
    inputs = {n: (a.dtype, a.shape) for n, a in feeds.items()}
    return build([made], inputs, [o for o in made.output if o], fixed, opset), feeds


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("seed", range(30))
def test_random_nodes_against_onnx_runtime(kind, seed):
    made, arrays = random_node(np.random.default_rng([seed, GATES[kind]]), kind)
    model, feeds = model_of(made, arrays)
    check(model, feeds, 1e-4, 1e-5, peer="onnxruntime")


@pytest.mark.parametrize("opset", [7, 13, 14, 22, 24])
@pytest.mark.parametrize("kind", GATES)
def test_opsets(kind, opset):
    arrays = operands(np.random.default_rng(opset), kind, (4, 2, 3, 5), 1, ("lens", "p"))
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    model, feeds = model_of(node(kind, list(arrays), outputs, hidden_size=5), arrays, opset)
    check(model, feeds, 1e-4, 1e-5)


@pytest.mark.parametrize("kind", GATES)
def test_batch_first(kind):
    """The evaluator's first state has directions first, so it is left out."""
    left = ("lens", "p", "h0", "c0")
    arrays = operands(np.random.default_rng(3), kind, (4, 2, 3, 5), 1, left, batch_first=True)
    made = node(kind, list(arrays), ["y", "y_h"], hidden_size=5, layout=1)
    model, feeds = model_of(made, arrays)
    graph = check(model, feeds, 1e-4, 1e-5)
    assert [v.static_shape for v in (t.type for t in graph.outputs)] == [(2, 4, 1, 5), (2, 1, 5)]


@pytest.mark.parametrize("kind", GATES)
def test_batch_first_is_batch_second_transposed(kind):
    rng = np.random.default_rng(4)
    arrays = operands(rng, kind, (4, 2, 3, 5), 2, batch_first=True)
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    attributes = {"hidden_size": 5, "direction": "bidirectional"}
    first, feeds = model_of(node(kind, list(arrays), outputs, layout=1, **attributes), arrays, 22)
    states = ("x", "h0", "c0")
    swapped = {n: a.swapaxes(0, 1) if n in states else a for n, a in arrays.items()}
    second, others = model_of(node(kind, list(arrays), outputs, **attributes), swapped, 22)
    got, want = run(read_onnx(first), feeds), run(read_onnx(second), others)
    np.testing.assert_array_equal(got["y"], want["y"].transpose(2, 0, 1, 3))
    for name in outputs[1:]:
        np.testing.assert_array_equal(got[name], want[name].transpose(1, 0, 2))


def test_one_node_is_one_op_that_is_printed_and_read():
    for kind, op in (("RNN", RNN), ("GRU", GRU), ("LSTM", LSTM)):
        made, arrays = random_node(np.random.default_rng(8), kind)
        graph = read_onnx(model_of(made, arrays)[0])
        assert [type(n.op) for n in graph.nodes] == [op]
        again = parse(show(graph), by_digest(graph))
        assert show(again) == show(graph) and again.nodes[0].op == graph.nodes[0].op


def test_alphas_go_to_activations_that_have_one():
    arrays = operands(np.random.default_rng(1), "LSTM", (2, 1, 3, 4), 1)
    activations = ["Sigmoid", "LeakyRelu", "HardSigmoid"]
    made = node("LSTM", list(arrays), ["y"], activations=activations, activation_alpha=[0.5, 0.25])
    op = read_onnx(model_of(made, arrays)[0]).nodes[0].op
    assert op.activations == (
        ("sigmoid", 0.0, 0.0), ("leaky_relu", 0.5, 0.0), ("hard_sigmoid", 0.25, 0.5),
    )  # fmt: skip
