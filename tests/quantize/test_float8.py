"""fp8: which layers are of 8-bit floats, what is stored as bytes, and what the rest is of."""

from __future__ import annotations

import numpy as np
import pytest

from strop.engine.rewrite import Calibrated, rewrite
from strop.errors import OptionError
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ir.verify import verify
from strop.lower.pipeline import Step, lower
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.data import Reshape
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.ops.norm import LayerNorm
from strop.ops.pool import MaxPool
from strop.ops.reduce import Reduce
from strop.quantize import table
from strop.quantize.grid import quantized_weights, symmetric, weight_scales
from strop.quantize.pipeline import quantize
from strop.quantize.precision import decide
from strop.quantize.table import Table
from strop.target.detect import parse
from strop.trace import Trace

H100 = parse("cuda:sm_90")
RNG = np.random.default_rng(0)
FEED = {"x": RNG.standard_normal((2, 3, 12, 12)).astype(np.float32)}


def _net() -> Graph:
    """Two convolutions with a residual, a pool before and a mean and a product behind."""
    rng = np.random.default_rng(1)
    graph = Graph("net")
    value = graph.add_input("x", Type(dt.f32, (2, 3, 12, 12)))

    def conv(name: str, x, outs: int, kernel: int):
        shape = (outs, x.shape[1], kernel, kernel)
        w = graph.add_const((rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), f"{name}.w")
        b = graph.add_const((0.1 * rng.standard_normal(outs)).astype(np.float32), f"{name}.b")
        return graph.add(Conv((1, 1), (kernel // 2,) * 4, (1, 1)), [x, w, b], name=name, source=[name]).output

    value = graph.add(make("relu"), [conv("first", value, 32, 5)], name="relu0").output
    value = graph.add(MaxPool((2, 2), (2, 2), (0,) * 4, (1, 1), False), [value], name="pool").output
    inner = graph.add(make("relu"), [conv("second", value, 32, 3)], name="relu1").output
    total = graph.add(make("add"), [conv("third", inner, 32, 1), value], name="add").output
    value = graph.add(make("relu"), [total], name="relu2").output
    value = graph.add(Reduce("mean", (2, 3), False), [value], name="mean").output
    w = graph.add_const(rng.standard_normal((32, 10)).astype(np.float32) / 4, "fc.w")
    graph.set_outputs([graph.add(MatMul(), [value, w], name="fc", source=["fc"]).output], ["y"])
    return graph


def _ranges(graph: Graph, feed: dict[str, np.ndarray]) -> Table:
    seen: dict[str, tuple[float, float]] = {}
    interp.run(graph, feed, lambda value, array: seen.setdefault(value.name, (float(array.min()), float(array.max()))) and None)
    return table.of(seen)


def _reduced(graph: Graph, precision: str = "fp8", layers: dict[str, str] | None = None, feed: dict[str, np.ndarray] = FEED) -> Graph:
    found = rewrite(graph, decide(graph, precision, layers), Calibrated(_ranges(graph, feed)), Trace())
    verify(found, "portable")
    return found


def _steps(graph: Graph) -> list[Step]:
    return lower(graph, H100, Trace()).steps


def _kinds(step: Step) -> tuple[str, dt.DType]:
    return step.chosen.kernel.name, step.region.out.dtype


def test_activations_travel_as_bytes_from_kernel_to_kernel() -> None:
    graph = _net()
    reduced = _reduced(graph)
    steps = _steps(reduced)
    f8, f16, f32 = dt.f8e4m3, dt.f16, dt.f32
    assert [_kinds(s) for s in steps] == [
        ("channel_pad", f16), ("conv_gemm", f8), ("pooling", f8), ("conv_gemm", f8), ("conv_gemm", f16), ("fold", f8), ("gemm", f32),
    ]  # fmt: skip
    residual = steps[4].region
    assert [o.view.dtype for o in residual.operands if o is not None and o.const is None] == [f8, f8]  # the sum is of what the convolution before reads
    wanted, got = interp.run(graph, FEED)["y"], interp.run(reduced, FEED)["y"]
    assert 1e-3 < np.linalg.norm(got - wanted) / np.linalg.norm(wanted) < 0.06


def test_a_layer_of_few_channels_reads_bytes_where_it_is_named() -> None:
    graph = _net()
    reduced = _reduced(graph, "fp8", {"first": "fp8"})
    first, second = _steps(reduced)[:2]
    assert _kinds(first) == ("channel_pad", dt.f8e4m3) and second.region.op is not None and second.region.op.label == "wide_conv"
    assert second.region.operands[0] is not None and second.region.operands[0].view.shape[1] == 4
    wanted, got = interp.run(graph, FEED)["y"], interp.run(reduced, FEED)["y"]
    assert 1e-3 < np.linalg.norm(got - wanted) / np.linalg.norm(wanted) < 0.08


def test_a_layer_reads_back_what_the_grid_keeps() -> None:
    x = np.linspace(-3, 3, 101, dtype=np.float32)
    grid = symmetric(3.0, dt.f8e4m3)
    assert grid.scale == np.float32(3 / 448) and grid.zero == 0 and grid.high == -grid.low == pytest.approx(3)
    big = np.abs(x) > 2.0**-6 * grid.scale
    np.testing.assert_allclose(grid.rounded(x)[big], x[big], rtol=2.0**-4)
    w = RNG.standard_normal((4, 3, 2, 2)).astype(np.float32) * np.array([1, 10, 1e-3, 0], np.float32)[:, None, None, None]
    scales = weight_scales(w, 0, dt.f8e4m3)
    stored = quantized_weights(w, scales, 0, dt.f8e4m3).astype(np.float32)
    np.testing.assert_array_equal(np.abs(stored).max(axis=(1, 2, 3)), [448, 448, 448, 0])
    np.testing.assert_allclose(stored * scales[:, None, None, None], w, rtol=2.0**-4, atol=1e-6)


def test_rows_of_a_transformer_are_quantized_by_the_kernels_that_make_them() -> None:
    rng = np.random.default_rng(2)
    graph = Graph("block")
    x = graph.add_input("x", Type(dt.f32, (1, 20, 64)))
    ones = [graph.add_const(v, n) for n, v in (("g", np.ones(64, np.float32)), ("b", np.zeros(64, np.float32)))]
    normed = graph.add(LayerNorm(-1, 1e-5), [x, *ones], name="ln").output
    first = graph.add_const(rng.standard_normal((64, 128)).astype(np.float32) / 8, "w1")
    second = graph.add_const(rng.standard_normal((128, 64)).astype(np.float32) / 11, "w2")
    inner = graph.add(make("gelu"), [graph.add(MatMul(), [normed, first], name="up", source=["up"]).output], name="gelu").output
    down = graph.add(MatMul(), [inner, second], name="down", source=["down"]).output
    graph.set_outputs([graph.add(make("add"), [down, x], name="sum").output], ["y"])
    feed = {"x": rng.standard_normal((1, 20, 64)).astype(np.float32)}
    reduced = _reduced(graph, feed=feed)
    assert [_kinds(s)[1] for s in _steps(reduced)][-3:] == [dt.f8e4m3, dt.f8e4m3, dt.f32]
    wanted, got = interp.run(graph, feed)["y"], interp.run(reduced, feed)["y"]
    assert np.linalg.norm(got - wanted) / np.linalg.norm(wanted) < 0.05


def test_what_kernels_do_not_multiply_as_matrices_is_of_f16() -> None:
    graph = Graph("g")
    x = graph.add_input("x", Type(dt.f32, (1, 16, 6, 6)))
    own = graph.add_const(np.ones((16, 1, 3, 3), np.float32), "own")
    turned = graph.add_const(np.ones((16, 8, 2, 2), np.float32), "turned")
    wide = graph.add(Conv((1, 1), (1,) * 4, (1, 1), 16), [x, own], name="depthwise", source=["depthwise"]).output
    up = graph.add(ConvTranspose((2, 2), (0,) * 4, (1, 1), 1, (0, 0)), [wide, turned], name="up", source=["up"]).output
    graph.set_outputs([graph.add(Reshape((1, 1152)), [up]).output], ["y"])
    decisions = decide(graph, "fp8")
    assert [decisions.of(n) for n in graph.nodes[:2]] == ["fp16", "fp16"]
    reduced = rewrite(graph, decisions, Calibrated(Table()), Trace())
    assert {v.dtype for v in reduced.values.values() if v.const is None} == {dt.f32, dt.f16}


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_single_layers(rest: str) -> None:
    reduced = _reduced(_net(), rest, {"second": "fp8"})
    regions = [s.region for s in _steps(reduced)]
    read = {r.op.label for r in regions if r.op is not None and r.operands[0] is not None and r.operands[0].view.dtype is dt.f8e4m3}
    assert read == {"max_pool", "wide_conv"}  # the pool hands on the bytes that the layer reads
    rest_of = dt.f16 if rest == "fp16" else dt.f32
    assert {r.operands[1].view.dtype for r in regions if isinstance(r.op, Conv) and r.operands[1] is not None} == {rest_of}
    wanted, got = interp.run(_net(), FEED)["y"], interp.run(reduced, FEED)["y"]
    assert 1e-4 < np.linalg.norm(got - wanted) / np.linalg.norm(wanted) < 0.05


def test_a_table_of_int8_serves_and_one_without_a_value_does_not() -> None:
    graph = _net()
    whole = _ranges(graph, FEED)
    int8 = quantize(graph, decide(graph, "int8"), whole)
    known = {v.name.removesuffix(".quantized") for v in int8.values.values() if v.name.endswith(".quantized")}
    few = Table({name: entry for name, entry in whole.entries.items() if name in known})
    assert rewrite(graph, decide(graph, "fp8"), Calibrated(few), Trace()).nodes
    with pytest.raises(OptionError, match="no range for a value"):
        rewrite(graph, decide(graph, "fp8"), Calibrated(Table()), Trace())
