"""Networks that come quantized are written as integers, on their own grids."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.engine.convert import conversion
from strop.export.integers import exact_scale
from strop.frontend.table import read
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value
from strop.ir.interp import run
from strop.ir.op import Type
from strop.ops.conv import Conv
from strop.ops.data import Reshape
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.ops.pool import MaxPool
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.softmax import Softmax


class Net:
    """A small quantized network with a residual, spelled with Quantize and Dequantize as ONNX has it."""

    def __init__(self, kind: dt.DType, odd: bool = False) -> None:
        self.kind, self.rng = kind, np.random.default_rng(3)
        self.graph = Graph("quantized")
        x = self.through(self.graph.add_input("x", Type(dt.f32, (1, 3, 8, 8))), 0.02, 7)
        a = self.through(self.step(make("relu"), self.conv(x, 8, 3, 0.02)), 0.05, self.low)
        b = self.through(self.conv(a, 8, 8, 0.05), 0.06, 4)
        total = self.through(self.step(make("add"), a, b), 0.08, self.low + 100)
        if odd:
            total = self.step(make("exp"), total)
        pooled = self.step(MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), total)
        flat = self.step(Reshape((1, 128)), pooled)
        scores = self.through(self.step(MatMul(), flat, self.weights((128, 5), (5,))), 0.1, 0)
        self.graph.set_outputs([self.through(self.step(Softmax(-1), scores), 1 / 256, self.low)])

    @property
    def low(self) -> int:
        return 0 if self.kind is dt.u8 else -128

    def step(self, op: object, *operands: Value) -> Value:
        return self.graph.add(op, operands).output  # type: ignore[arg-type]

    def number(self, value: float, kind: np.dtype) -> Value:
        return self.graph.add_const(np.asarray(value, kind))

    def through(self, x: Value, scale: float, zero: int) -> Value:
        params = [self.number(scale, np.dtype(np.float32)), self.number(zero, self.kind.numpy)]
        return self.step(Dequantize(), self.step(Quantize(self.kind), x, *params), *params)

    def weights(self, shape: tuple[int, ...], scales: tuple[int, ...]) -> Value:
        """i8 that need not reach 127, a scale per output channel."""
        stored = self.graph.add_const(self.rng.integers(-90, 91, shape).astype(np.int8))
        return self.step(Dequantize(), stored, self.graph.add_const(self.rng.uniform(5e-4, 2e-3, scales).astype(np.float32)))

    def conv(self, x: Value, out: int, channels: int, scale: float) -> Value:
        w = self.weights((out, channels, 3, 3), (out, 1, 1, 1))
        assert w.producer is not None
        unit = w.producer.operand(1).const
        assert unit is not None
        bias = self.step(Dequantize(), self.graph.add_const(self.rng.integers(-3000, 3000, out).astype(np.int32)), self.graph.add_const(unit.reshape(-1) * np.float32(scale)))
        return self.step(Conv((1, 1), (1, 1, 1, 1), (1, 1), 1), x, w, bias)


@pytest.mark.parametrize("kind", [dt.i8, dt.u8])
def test_between_its_ends_everything_is_integers(kind: dt.DType) -> None:
    net = Net(kind)
    found = conversion(net.graph, "tflite")
    codes = found.summary["operators"]
    assert (codes["QUANTIZE"], codes["DEQUANTIZE"], codes["CONV_2D"], codes["ADD"]) == (1, 1, 2, 1)
    assert found.summary["constant_bytes"] < 2200  # i8 weights and i32 biases
    image = np.random.default_rng(1).uniform(-2, 2, (1, 3, 8, 8)).astype(np.float32)
    (wanted,), (got,) = run(net.graph, {"x": image}).values(), run(read(found.data), {"x": image}).values()
    assert len(np.unique(wanted)) > 1
    np.testing.assert_allclose(got, wanted, atol=1.01 / 256)
    assert strop.convert(read(found.data), "tflite") == strop.convert(read(found.data), "tflite")
    again = run(read(strop.convert(read(found.data), "tflite")), {"x": image})
    np.testing.assert_array_equal(next(iter(again.values())), got)


def test_what_has_no_kernel_of_integers_stays_in_floats() -> None:
    codes = conversion(Net(dt.i8, odd=True).graph, "tflite").summary["operators"]
    assert codes["EXP"] == 1 and codes["ADD"] == 1 and codes["DEQUANTIZE"] == 2


def test_weights_on_a_grid_keep_it_and_others_have_none() -> None:
    rng = np.random.default_rng(0)
    places = rng.integers(-50, 51, (6, 300))
    places[:, 0] = 50
    scales = rng.uniform(1e-4, 1e-2, 6).astype(np.float32)
    rows = (places.astype(np.float32) * scales[:, None]).astype(np.float32)
    rows[5] = rng.standard_normal(300)
    found = exact_scale(rows)
    np.testing.assert_allclose(found[:5], scales[:5], rtol=1e-6)
    assert found[5] == 0
