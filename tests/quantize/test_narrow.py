"""16-bit floats: where values are rounded, and what saturates."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ir.verify import verify
from strop.ops.conv import Conv
from strop.ops.elementwise import make
from strop.ops.reduce import Reduce
from strop.quantize.narrow import narrow, rounded
from strop.quantize.precision import Decisions


def net() -> Graph:
    rng = np.random.default_rng(0)
    graph = Graph("net")
    x = graph.add_input("x", Type(dt.f32, (1, 3, 6, 6)))
    for k, name in enumerate(("a", "b")):
        w = graph.add_const(rng.standard_normal((3, 3, 3, 3)).astype(np.float32), f"{name}.w")
        x = graph.add(Conv((1, 1), (1,) * 4, (1, 1)), [x, w], name=name, source=[name]).output
        x = graph.add(make("relu"), [x], name=f"relu{k}", source=[f"relu{k}"]).output
    graph.set_outputs([x], ["y"])
    return graph


FEED = {"x": np.random.default_rng(1).standard_normal((1, 3, 6, 6)).astype(np.float32)}


@pytest.mark.parametrize(("name", "dtype", "bits"), [("bf16", dt.bf16, 8), ("fp16", dt.f16, 11)])
def test_every_op_is_narrow_and_the_edges_stay_f32(name: str, dtype: dt.DType, bits: int) -> None:
    found = narrow(net(), Decisions(name))
    verify(found.graph, "portable")
    assert not found.overflows
    kinds = [(n.op.label, n.output.dtype) for n in found.graph.nodes]
    assert kinds == [("cast", dtype), ("conv", dtype), ("relu", dtype), ("conv", dtype), ("relu", dtype), ("cast", dt.f32)]
    wanted, got = interp.run(net(), FEED)["y"], interp.run(found.graph, FEED)["y"]
    assert got.dtype == np.float32
    error = np.abs(got - wanted).max() / np.abs(wanted).max()
    assert 0 < error < 2.0 ** (2 - bits)


def test_exact_weights_stay_f32_and_values_are_f16() -> None:
    found = narrow(net(), Decisions("fp16x2"))
    verify(found.graph, "portable")
    kinds = [(n.op.label, n.output.dtype) for n in found.graph.nodes]
    layer = [("cast", dt.f32), ("conv", dt.f32), ("cast", dt.f16), ("relu", dt.f16)]
    assert kinds == [("cast", dt.f16), *layer, *layer, ("cast", dt.f32)]
    wanted, exact, plain = (interp.run(g, FEED)["y"] for g in (net(), found.graph, narrow(net(), Decisions("fp16")).graph))
    assert 0 < np.linalg.norm(exact - wanted) < np.linalg.norm(plain - wanted)


def test_what_is_small_beside_exact_weights_is_f32() -> None:
    graph = Graph("g")
    x = graph.add_input("x", Type(dt.f32, (1, 4, 32, 32)))
    w = graph.add_const(np.ones((4, 4, 1, 1), np.float32))
    conv = graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), [x, w], name="a").output
    mean = graph.add(Reduce("mean", (2, 3)), [conv]).output
    graph.set_outputs([graph.add(make("relu"), [mean]).output], ["y"])
    kinds = [(n.op.label, n.output.dtype) for n in narrow(graph, Decisions("fp16", {"a": "fp16x2"})).graph.nodes]
    assert kinds == [("cast", dt.f16), ("cast", dt.f32), ("conv", dt.f32), ("cast", dt.f16), ("cast", dt.f32), ("reduce", dt.f32), ("relu", dt.f32)]


def test_one_layer_alone() -> None:
    found = narrow(net(), Decisions("fp32", {"b": "bf16"}))
    kinds = [(n.op.label, n.output.dtype.name) for n in found.graph.nodes]
    assert kinds == [("conv", "f32"), ("relu", "f32"), ("cast", "bf16"), ("conv", "bf16"), ("cast", "f32"), ("relu", "f32")]


def test_the_ranges_of_the_formats() -> None:
    """FP16 ends at 65504: what is beyond saturates, and is counted; infinities and NaNs stay, halves go to even."""
    given = np.array([65504, 65505, 1e9, -1e9, np.inf, np.nan, 2049, 2051], np.float32)
    halves, lost = rounded(given, dt.f16)
    assert lost == 3 and halves[:5].tolist() == [65504, 65504, 65504, -65504, np.inf] and np.isnan(halves[5])
    assert halves[6:].tolist() == [2048, 2052]
    wide, none = rounded(np.array([3.3e38, -3.3e38, 1.00390625], np.float32), dt.bf16)
    assert none == 0 and np.isfinite(wide.astype(np.float32)).all() and float(wide[2]) == 1.0


def test_weights_that_saturate_are_told_by_layer() -> None:
    graph = net()
    node = next(n for n in graph.nodes if n.name == "b")
    large = node.operand(1).const.copy()  # type: ignore[union-attr]
    large.reshape(-1)[:3] = 1e6
    graph.set_operand(node, 1, graph.add_const(large))
    graph.prune()
    assert narrow(graph, Decisions("fp16")).overflows == {"b": 3}
    assert narrow(graph, Decisions("bf16")).overflows == {}
