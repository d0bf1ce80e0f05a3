"""The products of a recurrent layer's input with its weights, split off before kernels are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.interp import run
from strop.ir.op import Type
from strop.lower.prepare import prepare
from strop.lower.projection import split_projections
from strop.ops.data import Transpose
from strop.ops.recurrent import GRU, LSTM, RNN
from tests.recurrent_nodes import NAMES, operands


def layer(op, left_out=(), constant="w r b p", dtype=dt.f32, swapped=False):
    """A graph of one layer, and arrays for its inputs."""
    kind = op.name.upper()
    arrays = operands(np.random.default_rng(0), kind, (4, 2, 3, 5), op.directions, left_out)
    graph, feeds, values = Graph(), {}, []
    for name in NAMES[: 8 if kind == "LSTM" else 6]:
        if name not in arrays:
            values.append(None)
            continue
        array = arrays[name] if name == "lens" else arrays[name].astype(dtype.numpy)
        if name in constant.split():
            values.append(graph.add_const(array, name))
            continue
        swap = swapped and name == "x"
        feeds[name] = array.swapaxes(0, 1) if swap else array
        value = graph.add_input(name, Type(dt.from_numpy(array.dtype), feeds[name].shape))
        values.append(graph.add(Transpose((1, 0, 2)), [value]).output if swap else value)
    node = graph.add(op, values, name="layer", source=("model's",))
    graph.set_outputs(node.outputs)
    return graph, feeds


def check(graph, feeds):
    """Prepares the graph, compares results and returns the labels of its nodes."""
    prepared = prepare(graph)
    want, got = run(graph, feeds), run(prepared, feeds)
    for a, b in zip(want.values(), got.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert all(n.source == ("model's",) for n in prepared.nodes if n.op.label != "transpose")
    return [n.op.label for n in prepared.nodes], prepared


@pytest.mark.parametrize("kind", [RNN, GRU, LSTM], ids=lambda k: k.name)
@pytest.mark.parametrize("constant", ["w r b p", ""])
def test_projection_and_biases_leave_the_layer(kind, constant):
    labels, prepared = check(*layer(kind.default("bidirectional"), constant=constant))
    assert labels[-1] == kind.name and "matmul" in labels and "add" in labels
    (last,) = (n for n in prepared.nodes if n.op.label == kind.name)
    assert last.op.projected and last.name == "layer"
    assert not last.has(last.op.operand_names.index("b"))


def test_without_bias_only_the_product_leaves():
    assert check(*layer(RNN.default(), ("b",)))[0] == ["matmul", "rnn"]


@pytest.mark.parametrize("constant", ["w r b", "w r"])
def test_a_bias_before_the_reset_gate_stays(constant):
    _, prepared = check(*layer(GRU.default(linear_before_reset=True), constant=constant))
    bias = prepared.nodes[-1].operand(2)
    assert bias.shape == (1, 30)
    if bias.const is not None:
        assert not bias.const[:, :25].any() and bias.const[:, 25:].all()


def test_the_product_comes_before_a_swap_of_axes():
    labels, _ = check(*layer(LSTM.default(), swapped=True))
    assert labels == ["matmul", "add", "transpose", "lstm"]


def test_other_floats_stay_whole():
    assert check(*layer(GRU.default(), dtype=dt.f64))[0] == ["gru"]


@pytest.mark.parametrize("swapped", [False, True])
def test_products_become_layers_where_a_range_of_their_input_is_known(swapped):
    graph, feeds = layer(LSTM.default("bidirectional"), swapped=swapped)
    labels = [n.op.label for n in graph.nodes]
    for known, split in ((None, True), ({"x"}, True), ({"other"}, False)):
        result = split_projections(graph, known)
        assert ("matmul" in [n.op.label for n in result.nodes]) is split
        for a, b in zip(run(graph, feeds).values(), run(result, feeds).values(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert [n.op.label for n in graph.nodes] == labels
    unknown, _ = layer(LSTM.default(), constant="r b p")
    assert "matmul" not in [n.op.label for n in split_projections(unknown).nodes]
