"""Ops that are taken apart mean what they meant."""

from __future__ import annotations

import numpy as np
import pytest

from strop.export.expand import IN_ONNX, expand
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.interp import run
from strop.ir.op import REGISTRY, Array, Op, Type
from strop.ir.verify import verify
from strop.ops.attention import Attention
from strop.ops.norm import LayerNorm, RMSNorm
from strop.ops.quantize import Dequantize
from strop.ops.recurrent import LSTM
from tests.fuzz.generate import absent

#: Ops that are always taken apart where they can be, with how many problems of each at least.
APART = {
    "attention": 6, "batch_norm": 4, "gru": 6, "instance_norm": 2, "group_norm": 3, "layer_norm": 5, "lstm": 5, "mixed_matmul": 1, "one_hot": 3,
    "rms_norm": 3, "rnn": 4, "trilu": 4, "top_k": 2, "pad": 4, "reduce": 10, "resize": 10,
}  # fmt: skip


def graph_of(op: Op, arrays: tuple[Array, ...]) -> tuple[Graph, dict[str, Array]]:
    graph = Graph("one")
    operands = []
    for k, array in enumerate(arrays):
        if absent(array):
            operands.append(None)
        elif k == 0:
            operands.append(graph.add_input("x", Type(dt.from_numpy(array.dtype), array.shape)))
        else:
            operands.append(graph.add_const(array, f"c{k}"))
    node = graph.add(op, operands, name="layer", source=("model/layer",))
    graph.set_outputs(node.outputs, [f"y{k}" for k in range(len(node.outputs))])
    return graph, {"x": arrays[0]}


@pytest.mark.parametrize("name", APART)
def test_an_op_that_is_taken_apart_means_what_it_meant(name: str) -> None:
    done = 0
    for sample in REGISTRY[name].samples(np.random.default_rng(3)):
        if any(a.dtype == np.float16 or a.dtype.name == "bfloat16" for a in sample.inputs) or sample.inputs[0].size == 0:
            continue
        graph, feed = graph_of(sample.op, sample.inputs)
        found = expand(graph, lambda op, operands: False)
        if any(node.op == sample.op for node in found.nodes):
            continue
        verify(found, "imported")
        assert all(node.source == ("model/layer",) for node in found.nodes)
        got = run(found, feed)
        for output, want in run(graph, feed).items():
            assert got[output].shape == want.shape and got[output].dtype == want.dtype
            np.testing.assert_allclose(got[output].astype(np.float64), want.astype(np.float64), rtol=1e-4, atol=1e-5)
        done += 1
        if done >= 24:
            break
    assert done >= APART[name]


def test_onnx_keeps_what_it_has() -> None:
    assert Attention not in IN_ONNX and RMSNorm not in IN_ONNX
    assert LayerNorm in IN_ONNX and LSTM in IN_ONNX


def test_the_graph_that_is_given_stays_as_it_is() -> None:
    sample = next(iter(LayerNorm.samples(np.random.default_rng(0))))
    graph, _ = graph_of(sample.op, sample.inputs)
    expand(graph, lambda op, operands: True)
    assert len(graph.nodes) == 1


@pytest.mark.parametrize("zeros", [False, True])
def test_integers_whose_scale_is_computed_are_multiplied_by_it(zeros: bool) -> None:
    """As of an embedding of 8-bit rows, each with a scale."""
    rng = np.random.default_rng(2)
    feed: dict[str, Array] = {"x": rng.integers(-128, 128, (3, 5)).astype(np.int8), "scale": rng.uniform(0.1, 1, (3, 1)).astype(np.float32)}
    graph = Graph("rows")
    operands = [graph.add_input(name, Type(dt.from_numpy(a.dtype), a.shape)) for name, a in feed.items()]
    operands += [graph.add_const(np.array([[3], [-7], [0]], np.int8), "zero")] if zeros else []
    graph.set_outputs([graph.add(Dequantize(), operands).output], ["y"])
    found = expand(graph, lambda op, operands: True)
    assert not any(isinstance(node.op, Dequantize) for node in found.nodes)
    np.testing.assert_allclose(run(found, feed)["y"], run(graph, feed)["y"], rtol=1e-6)
