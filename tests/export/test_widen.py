"""16-bit floats as f32."""

from __future__ import annotations

import numpy as np
import pytest

from strop.export.widen import is_narrow, widen
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.interp import run
from strop.ir.op import Type
from strop.ir.verify import verify
from strop.ops.elementwise import BitCast, Cast, make
from strop.ops.matmul import MatMul


@pytest.mark.parametrize("kind", [dt.f16, dt.bf16])
def test_a_graph_of_16_bits_computes_in_f32_between_its_ends(kind: dt.DType) -> None:
    rng = np.random.default_rng(0)
    graph = Graph("narrow")
    x = graph.add_input("x", Type(kind, (3, 8)))
    w = graph.add_const(rng.standard_normal((8, 4)).astype(kind.numpy), "w")
    y = graph.add(MatMul(), [x, w], name="product").output
    graph.set_outputs([graph.add(Cast(kind), [graph.add(Cast(dt.f32), [graph.add(make("tanh"), [y]).output]).output]).output], ["y"])
    found = widen(graph)
    verify(found, "imported")
    assert is_narrow(graph) and not is_narrow(found)
    assert found.inputs[0].dtype is kind and found.outputs[0].dtype is kind
    feed = {"x": rng.standard_normal((3, 8)).astype(kind.numpy)}
    got, want = (run(g, feed)["y"].astype(np.float32) for g in (found, graph))
    np.testing.assert_allclose(got, want, atol=0.02)


def test_casts_alone_are_not_narrow() -> None:
    graph = Graph("casts")
    x = graph.add_input("x", Type(dt.f16, (3,)))
    graph.set_outputs([graph.add(make("relu"), [graph.add(Cast(dt.f32), [x]).output]).output], ["y"])
    assert not is_narrow(graph)


def test_bits_are_left_alone() -> None:
    graph = Graph("bits")
    x = graph.add_input("x", Type(dt.f16, (3,)))
    graph.set_outputs([graph.add(BitCast(dt.i16), [graph.add(make("relu"), [x]).output]).output], ["y"])
    assert not is_narrow(graph)
