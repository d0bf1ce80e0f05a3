"""Quantized layers lowered to integer products: what becomes one, what does not, and that values stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph, Value
from strop.lower.prepare import prepare
from strop.lower.regions import Group, form
from strop.ops.conv import Conv
from strop.ops.data import Concat, Pad, Reshape
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.mixed import MixedMatMul
from strop.ops.pool import MaxPool
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.wide import WideConv
from tests.graphs import Builder

CONV = Conv((1, 1), (1,) * 4, (1, 1))
POOL = MaxPool((2, 2), (2, 2), (0,) * 4, (1, 1))


class Net(Builder):
    """A small quantized graph."""

    def number(self, value: float, kind: Any = np.float32) -> Value:
        return self.const(np.asarray(value, kind))

    def quantized(self, x: Value, scale: float, zero: int, kind: dt.DType = dt.u8) -> Value:
        """x on a grid, as floats."""
        params = self.number(scale), self.number(zero, kind.numpy)
        return self.add(Dequantize(), self.add(Quantize(kind), x, *params), *params)

    def weights(self, *shape: int, axis: int | None = 0, zero: int | None = None, kind: dt.DType = dt.i8) -> Value:
        info = np.iinfo(str(kind.numpy))
        stored = self.const(self.rng.integers(info.min, info.max + 1, shape).astype(kind.numpy))
        scales = [1] * len(shape)
        if axis is not None:
            scales[axis] = shape[axis]
        scale = self.const(self.rng.uniform(0.01, 0.03, scales).astype(np.float32))
        extra = [] if zero is None else [self.const(np.full(scales, zero, kind.numpy))]
        return self.add(Dequantize(), stored, scale, *extra)

    def bias(self, x_scale: float, weights: Value, size: int) -> Value:
        """i32 in units of the product's."""
        maker = weights.producer
        assert maker is not None and maker.operand(1).const is not None
        scale = maker.operand(1).const.reshape(-1) * np.float32(x_scale)
        stored = self.rng.integers(-2000, 2000, size).astype(np.int32)
        return self.add(Dequantize(), self.const(stored), self.const(np.broadcast_to(scale, size).astype(np.float32)))


def lowered(net: Net, *outputs: Value) -> tuple[Graph, list[list[str]]]:
    """The prepared graph, compared with the given one, and per kernel launch the labels of its nodes."""
    net.graph.set_outputs(outputs)
    wanted = interp.run(net.graph, net.feed)
    graph = prepare(net.graph)
    got = interp.run(graph, net.feed)
    for name, want in wanted.items():
        far = np.abs(got[name].astype(np.float64) - want.astype(np.float64))
        assert far.max() <= (1 if want.dtype.kind in "iu" else 1e-3 + 1e-4 * np.abs(want).max()), name
        assert (far > 0.01).mean() < 0.02, name  # scales are combined: halves may fall to the other side
    return graph, [[n.op.label for n in item.nodes] for item in form(graph) if isinstance(item, Group)]


def image(channels: int = 8) -> Net:
    net = Net(3)
    net.x = net.input(net.rng.standard_normal((2, channels, 6, 6)).astype(np.float32))  # type: ignore[attr-defined]
    return net


def kinds(graph: Graph) -> list[type]:
    return [type(n.op) for n in graph.nodes]


@pytest.mark.parametrize("kind", [dt.u8, dt.i8], ids=str)
def test_a_convolution_with_bias_and_relu(kind: dt.DType) -> None:
    net = image()
    w = net.weights(5, 8, 3, 3)
    x = net.quantized(net.x, 0.03, 4, kind)
    y = net.fn("relu", net.add(CONV, x, w, net.bias(0.03, w, 5)))
    graph, launches = lowered(net, net.add(Quantize(kind), y, net.number(0.2), net.number(3, kind.numpy)))
    assert IntegerConv in kinds(graph) and Conv not in kinds(graph)
    assert [launch[0] for launch in launches] == ["quantize", "integer_conv"]
    assert "div" not in launches[1] and "quantize" not in launches[1]


@pytest.mark.parametrize(("zero", "hi"), [(0, 6.0), (7, 6.0), (7, 2.0)], ids=["nothing is cut", "cut below", "cut on both sides"])
def test_a_bias_in_floats_and_a_clip_leave_one_product_one_sum_and_one_clip(zero: int, hi: float) -> None:
    net = image()
    x = net.quantized(net.x, 0.03, 4)
    bias = net.const(net.rng.standard_normal(5).astype(np.float32))
    y = net.fn("clip", net.add(CONV, x, net.weights(5, 8, 3, 3), bias), lo=0.0, hi=hi)
    _, launches = lowered(net, net.add(Quantize(dt.u8), y, net.number(0.025), net.number(zero, np.uint8)))
    assert len(launches) == 2
    assert [launches[1].count(label) for label in ("mul", "clip", "quantize", "div")] == [1, 1, 0, 0]


def test_a_scale_behind_another_function_becomes_a_factor() -> None:
    net = image()
    x = net.quantized(net.x, 0.03, 4)
    y = net.fn("sigmoid", net.add(CONV, x, net.weights(5, 8, 3, 3)))
    _, launches = lowered(net, net.add(Quantize(dt.u8), y, net.number(0.004), net.number(0, np.uint8)))
    assert len(launches) == 2 and "quantize" not in launches[1] and launches[1].count("div") == 0


def test_a_residual_is_added_in_the_epilogue() -> None:
    net = image()
    x = net.quantized(net.x, 0.03, 120)
    y = net.quantized(net.add(CONV, x, net.weights(8, 8, 3, 3)), 0.1, 130)
    _, launches = lowered(net, net.quantized(net.fn("relu", net.fn("add", y, x)), 0.09, 10))
    assert len(launches) == 2 and launches[1][0] == "integer_conv"


def test_integers_are_stored_for_a_later_kernel() -> None:
    net = image()
    x = net.quantized(net.x, 0.03, 120)
    first = net.quantized(net.add(CONV, x, net.weights(8, 8, 3, 3)), 0.1, 130)
    second = net.quantized(net.add(CONV, x, net.weights(8, 8, 3, 3)), 0.1, 120)
    net.graph.set_outputs([net.quantized(net.fn("add", first, second), 0.15, 90)])
    groups = [i for i in form(prepare(net.graph)) if isinstance(i, Group)]
    assert [str(g.outputs[0].dtype) for g in groups] == ["u8", "u8", "f32"]


@pytest.mark.parametrize("turned", [False, True])
def test_a_dense_layer(turned: bool) -> None:
    net = Net(4)
    x = net.quantized(net.input(net.rng.standard_normal((3, 16)).astype(np.float32)), 0.02, 128)
    w = net.weights(5, 16) if turned else net.weights(16, 5, axis=1)
    y = net.fn("add", net.add(MatMul(transpose_b=turned), x, w), net.bias(0.02, w, 5))
    graph, launches = lowered(net, y)
    assert IntegerMatMul in kinds(graph)
    assert launches[1][:3] == ["integer_matmul", "add", "cast"], "the bias is added to the sum"


def test_weights_with_a_zero_point_are_centred() -> None:
    net = image()
    x = net.quantized(net.x, 0.03, 4)
    graph, _ = lowered(net, net.add(CONV, x, net.weights(5, 8, 3, 3, zero=128, kind=dt.u8)))
    conv = next(n for n in graph.nodes if isinstance(n.op, IntegerConv))
    assert conv.operand(1).dtype is dt.i8


def _far_zero(net: Net) -> Value:
    return net.add(CONV, net.quantized(net.x, 0.03, 4), net.weights(5, 8, 3, 3, zero=3, kind=dt.u8))


def _scale_per_input(net: Net) -> Value:
    return net.add(CONV, net.quantized(net.x, 0.03, 4), net.weights(5, 8, 3, 3, axis=1))


def _floats(net: Net) -> Value:
    return net.add(CONV, net.x, net.weights(5, 8, 3, 3))


def _scale_per_channel(net: Net) -> Value:
    scale = net.const(net.rng.uniform(0.02, 0.04, (8, 1, 1)).astype(np.float32))
    return net.add(CONV, net.add(Dequantize(), net.add(Quantize(dt.i8), net.x, scale), scale), net.weights(5, 8, 3, 3))


@pytest.mark.parametrize("made", [_far_zero, _scale_per_input, _floats, _scale_per_channel])
def test_what_stays_a_product_of_floats(made: Any) -> None:
    net = image()
    graph, _ = lowered(net, made(net))
    assert IntegerConv not in kinds(graph) and Conv in kinds(graph)


def test_what_moves_keeps_its_scale() -> None:
    net = image()
    x = net.quantized(net.x, 0.03, 120)
    flat = net.add(Reshape((2, 72)), net.quantized(net.add(POOL, x), 0.03, 120))
    graph, _ = lowered(net, net.add(Quantize(dt.u8), flat, net.number(0.03), net.number(120, np.uint8)))
    assert Dequantize not in kinds(graph)
    assert [n.output.dtype for n in graph.nodes if isinstance(n.op, MaxPool)] == [dt.u8]


def test_what_is_padded_for_several_readers_stays_integers() -> None:
    net = image()
    padded = net.add(Pad((0, 0, 1, 1, 0, 0, 0, 0)), net.quantized(net.x, 0.05, 3, dt.i8))
    w = net.weights(4, 8, 3, 3)
    made = net.add(Conv((2, 2), (0,) * 4, (1, 1)), padded, w, net.bias(0.05, w, 4))
    stored = net.add(Quantize(dt.i8), padded, net.number(0.05), net.number(3, np.int8))
    graph, _ = lowered(net, net.quantized(made, 0.1, 0, dt.i8), stored)
    assert IntegerConv in kinds(graph) and Conv not in kinds(graph)
    assert [n.output.dtype for n in graph.nodes if isinstance(n.op, Pad)] == [dt.i8]


def parts(net: Net, scales: Sequence[float]) -> Value:
    return net.add(Concat(1), *(net.quantized(net.x, s, 100) for s in scales))


def test_parts_of_a_concat_are_requantized() -> None:
    net = image()
    graph, _ = lowered(net, net.add(Quantize(dt.u8), parts(net, (0.03, 0.05)), net.number(0.03), net.number(100, np.uint8)))
    assert kinds(graph).count(Concat) == 1 and all(v.dtype is dt.u8 for n in graph.nodes if isinstance(n.op, Concat) for v in n.operands)
    assert kinds(graph).count(Dequantize) == 1, "equal scales need nothing"


def test_few_rows_meet_stored_weights() -> None:
    net = Net(5)
    x = net.input(net.rng.standard_normal((3, 16)).astype(np.float32))
    graph, launches = lowered(net, net.fn("gelu", net.add(MatMul(), x, net.weights(16, 5, axis=1))))
    assert kinds(graph)[0] is MixedMatMul and len(launches) == 1


def test_activations_of_16_bits_are_not_made_floats() -> None:
    net = image()
    conv = net.add(CONV, net.quantized(net.x, 1e-4, 0, dt.i16), net.weights(6, 8, 3, 3))
    graph, launches = lowered(net, net.add(Quantize(dt.i16), conv, net.number(2e-3)))
    assert WideConv in kinds(graph) and Conv not in kinds(graph)
    assert next(names for names in launches if "wide_conv" in names)[0] == "wide_conv"
    shifted = image()
    conv = shifted.add(CONV, shifted.quantized(shifted.x, 1e-4, 7, dt.i16), shifted.weights(6, 8, 3, 3))
    assert WideConv not in kinds(lowered(shifted, conv)[0]), "a zero point would have to be taken off"


@pytest.mark.parametrize("zero", [False, True])
def test_weights_of_4_bits_with_scales_per_group(zero: bool) -> None:
    net = image()
    rows = net.add(Reshape((2, 288)), net.x)
    stored = net.const(net.rng.integers(0, 16, (5, 288)).astype(np.uint8))
    scale = net.const(net.rng.uniform(0.01, 0.03, (5, 9)).astype(np.float32))
    zeros = [net.const(net.rng.integers(0, 16, (5, 9)).astype(np.uint8))] if zero else []
    graph, _ = lowered(net, net.add(MatMul(transpose_b=True), rows, net.add(Dequantize(1, 32), stored, scale, *zeros)))
    (op,) = [n.op for n in graph.nodes if isinstance(n.op, MixedMatMul)]
    assert (op.bits, op.group) == (4, 32)
