"""TFLite files of several operators: quantized layers, sparse weights, variables, branches, loops, signatures, free sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop  # noqa: E402
from strop.engine.describe import describe  # noqa: E402
from strop.frontend.table import judge, read  # noqa: E402
from strop.frontend.tflite.reader import initial_state  # noqa: E402
from strop.ir.graph import Graph  # noqa: E402
from strop.ir.interp import run  # noqa: E402
from strop.lower.quantized import integrate  # noqa: E402
from strop.ops.data import Transpose  # noqa: E402
from strop.ops.integer import IntegerConv, IntegerMatMul  # noqa: E402
from strop.optimize.pipeline import optimize  # noqa: E402
from strop.trace import Trace  # noqa: E402
from tests.frontend.tflite_models import Array, Maker, single  # noqa: E402

RNG = np.random.default_rng(3)
CONV = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}


def rounded(real: Array, scale: float, zero: int) -> Array:
    return np.clip(np.rint(real / scale) + zero, -128, 127).astype(np.int8)


def quantized_net() -> tuple[bytes, dict[str, Array]]:
    """conv per channel with relu, depthwise, residual add, max pool, mean, fully connected; and its weights."""
    maker = Maker()
    main = maker.main
    grid = {"scale": 0.05, "zero": -3}
    w: dict[str, Array] = {
        "conv": RNG.integers(-127, 128, (8, 3, 3, 4), np.int8), "bias": RNG.integers(-500, 500, 8).astype(np.int32),
        "scales": RNG.uniform(0.002, 0.01, 8).astype(np.float32), "depth": RNG.integers(-127, 128, (1, 3, 3, 8), np.int8),
        "dense": RNG.integers(-127, 128, (5, 8), np.int8),
    }  # fmt: skip
    x = main.input("x", (1, 8, 8, 4), "INT8", **grid)
    conv_w = main.const(w["conv"], scale=w["scales"], axis=0)
    bias = main.const(w["bias"], scale=w["scales"] * np.float32(0.05), axis=0)
    depth_w = main.const(w["depth"], scale=np.float32(0.004), axis=3)
    dense_w = main.const(w["dense"], scale=0.01)
    a, d, s = (main.tensor(n, (1, 8, 8, 8), "INT8", **grid) for n in "ads")
    p = main.tensor("p", (1, 4, 4, 8), "INT8", **grid)
    m = main.tensor("m", (1, 8), "INT8", **grid)
    y = main.tensor("y", (1, 5), "INT8", scale=0.02, zero=5)
    main.op("CONV_2D", [x, conv_w, bias], [a], "Conv2DOptions", **CONV, FusedActivationFunction=1)
    main.op("DEPTHWISE_CONV_2D", [a, depth_w], [d], "DepthwiseConv2DOptions", **CONV, DepthMultiplier=1, FusedActivationFunction=3)
    main.op("ADD", [a, d], [s], "AddOptions")
    main.op("MAX_POOL_2D", [s], [p], "Pool2DOptions", Padding=0, StrideH=2, StrideW=2, FilterHeight=2, FilterWidth=2)
    main.op("MEAN", [p, main.const([1, 2], np.int32)], [m], "ReducerOptions")
    main.op("FULLY_CONNECTED", [m, dense_w], [y], "FullyConnectedOptions")
    main.outputs = [y]
    return maker.bytes(), w


def moving(engine: strop.Engine) -> list[str]:
    """Steps that only move elements."""
    return [f"{step.name}: {step.copy}" for step in describe(engine).steps if step.copy or step.transpose]


def test_a_quantized_net_is_computed_in_integers() -> None:
    """As the net says in reals, each result rounded to its grid; an engine has integer products and moves no layouts."""
    file, w = quantized_net()
    x = RNG.integers(-128, 128, (1, 8, 8, 4)).astype(np.int8)
    real = (x.astype(np.float64) + 3) * 0.05
    padded = np.pad(real, ((0, 0), (1, 1), (1, 1), (0, 0)))
    conv = np.zeros((1, 8, 8, 8))
    for i, j in np.ndindex(3, 3):
        conv += np.einsum("nhwi,oi->nhwo", padded[:, i : i + 8, j : j + 8], w["conv"][:, i, j] * w["scales"][:, None].astype(np.float64))
    conv += w["bias"] * w["scales"] * np.float32(0.05)
    a = (rounded(np.maximum(conv, 0), 0.05, -3).astype(np.float64) + 3) * 0.05
    padded = np.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0)))
    deep = sum(padded[:, i : i + 8, j : j + 8] * (w["depth"][0, i, j] * 0.004) for i, j in np.ndindex(3, 3))
    d = (rounded(np.clip(deep, 0, 6), 0.05, -3).astype(np.float64) + 3) * 0.05
    s = rounded(a + d, 0.05, -3)
    p = s.reshape(1, 4, 2, 4, 2, 8).max((2, 4)).astype(np.float64)
    m = (rounded(((p + 3) * 0.05).mean((1, 2)), 0.05, -3).astype(np.float64) + 3) * 0.05
    y = rounded(m @ (w["dense"].T * 0.01), 0.02, 5)
    (found,) = run(read(file), {"x": x}).values()
    assert found.dtype == np.int8 and np.abs(found.astype(int) - y).max() <= 1
    engine = strop.build(file, level=0, threads=1)
    assert np.abs(engine(x).astype(int) - y).max() <= 1  # type: ignore[union-attr]
    assert not moving(engine)


def test_float_net_in_the_files_order_moves_no_layouts() -> None:
    """Convolution, depthwise and pool stay channels-last from input to output."""
    maker = Maker()
    main = maker.main
    x = main.input("x", (1, 8, 8, 3))
    a, b, c = (main.tensor(n, shape) for n, shape in (("a", (1, 8, 8, 8)), ("b", (1, 4, 4, 8)), ("c", (1, 2, 2, 8))))
    y = main.tensor("y", (1, 2, 2, 5))
    main.op("CONV_2D", [x, main.const(RNG.standard_normal((8, 3, 3, 3)), np.float32), main.const(np.ones(8), np.float32)], [a], "Conv2DOptions", **CONV)
    main.op("DEPTHWISE_CONV_2D", [a, main.const(RNG.standard_normal((1, 3, 3, 8)), np.float32)], [b], "DepthwiseConv2DOptions", **{**CONV, "StrideH": 2, "StrideW": 2}, DepthMultiplier=1)
    main.op("AVERAGE_POOL_2D", [b], [c], "Pool2DOptions", StrideH=2, StrideW=2, FilterHeight=2, FilterWidth=2)
    main.op("CONV_2D", [c, main.const(RNG.standard_normal((5, 1, 1, 8)), np.float32)], [y], "Conv2DOptions", **CONV)
    main.outputs = [y]
    file = maker.bytes()
    feeds = {"x": RNG.standard_normal((1, 8, 8, 3)).astype(np.float32)}
    engine = strop.build(file, level=0, threads=1)
    np.testing.assert_allclose(engine.run(feeds)["y"], run(read(file), feeds)["y"], 1e-4, 1e-4)
    assert sum(isinstance(n.op, Transpose) for n in read(file).nodes) > 0
    assert not moving(engine)


def test_grids_are_changed_by_quantize() -> None:
    x = np.arange(-128, 127, 5, np.int8)
    file = single("QUANTIZE", [(x.shape, "INT8", {"scale": 0.1, "zero": 4})], [(x.shape, "UINT8", {"scale": 0.3, "zero": 100})])
    (found,) = run(read(file), {"x0": x}).values()
    np.testing.assert_array_equal(found, np.clip(np.rint((x.astype(np.float64) - 4) * 0.1 / 0.3) + 100, 0, 255).astype(np.uint8))
    file = single("DEQUANTIZE", [(x.shape, "INT8", {"scale": 0.1, "zero": 4})], [(x.shape, "FLOAT32")])
    (found,) = run(read(file), {"x0": x}).values()
    np.testing.assert_allclose(found, (x.astype(np.float32) - 4) * np.float32(0.1), 1e-6)


def test_average_pools_of_integers_round_halves_away_from_zero() -> None:
    x = np.array([[[[1], [2]], [[-1], [-2]]]], np.int8)  # 1.5 and -1.5
    grid = {"scale": 0.5, "zero": 7}
    file = single(
        "AVERAGE_POOL_2D", [(x.shape, "INT8", grid)], [((1, 2, 1, 1), "INT8", grid)], "Pool2DOptions",
        Padding=1, StrideH=1, StrideW=1, FilterHeight=1, FilterWidth=2,
    )  # fmt: skip
    (found,) = run(read(file), {"x0": x}).values()
    assert found.reshape(-1).tolist() == [2, -2]


def test_weights_of_8_bits_with_float_activations() -> None:
    """Dynamic-range files: the weights are dequantized, and products are of floats."""
    maker = Maker()
    main = maker.main
    w = RNG.integers(-127, 128, (6, 10), np.int8)
    main.outputs = [main.tensor("y", (2, 6))]
    main.op("FULLY_CONNECTED", [main.input("x", (2, 10)), main.const(w, scale=0.02)], main.outputs, "FullyConnectedOptions")
    x = RNG.standard_normal((2, 10)).astype(np.float32)
    np.testing.assert_allclose(run(read(maker.bytes()), {"x": x})["y"], x @ (w.T * np.float32(0.02)), 1e-5, 1e-5)


def test_sparse_half_precision_weights() -> None:
    """CSR with blocks of 1 by 2, through DENSIFY and DEQUANTIZE."""
    dense = np.zeros((4, 6), np.float16)
    dense[0, 2:4], dense[2, 0:2], dense[2, 4:6] = (1, 2), (3, 4), (5, 6)
    maker = Maker()
    main = maker.main
    levels = ((4,), (3, (0, 1, 1, 3, 3), (1, 0, 2)), (2,))
    sparse = main.const(np.array([1, 2, 3, 4, 5, 6], np.float16), shape=(4, 6), sparsity=((0, 1, 2), (1,), levels))
    half, real = main.tensor("half", (4, 6), "FLOAT16"), main.tensor("real", (4, 6))
    main.op("DENSIFY", [sparse], [half], "DensifyOptions")
    main.op("DEQUANTIZE", [half], [real])
    main.outputs = [main.tensor("y", (1, 4))]
    main.op("FULLY_CONNECTED", [main.input("x", (1, 6)), real], main.outputs, "FullyConnectedOptions")
    x = RNG.standard_normal((1, 6)).astype(np.float32)
    np.testing.assert_allclose(run(read(maker.bytes()), {"x": x})["y"], x @ dense.T.astype(np.float32), 1e-6)


def streaming() -> bytes:
    """A queue of three values that begins with 7: y is their sum."""
    maker = Maker()
    main, init = maker.main, maker.function()
    x, handle = main.input("x", (1, 1)), main.tensor("handle", (), "RESOURCE")
    old, kept, queue = main.tensor("old", (1, 3)), main.tensor("kept", (1, 2)), main.tensor("queue", (1, 3))
    y = main.tensor("y", (1, 1))
    main.op("CALL_ONCE", [], [], "CallOnceOptions", InitSubgraphIndex=1)
    main.op("VAR_HANDLE", [], [handle], "VarHandleOptions", SharedName="queue/state")
    main.op("READ_VARIABLE", [handle], [old])
    main.op("SLICE", [old, main.const([0, 1], np.int32), main.const([1, 2], np.int32)], [kept])
    main.op("CONCATENATION", [kept, x], [queue], "ConcatenationOptions", Axis=1)
    main.op("ASSIGN_VARIABLE", [handle, queue], [])
    main.op("SUM", [queue, main.const([1], np.int32)], [y], "ReducerOptions", KeepDims=True)
    main.outputs = [y]
    other = init.tensor("handle", (), "RESOURCE")
    init.op("VAR_HANDLE", [], [other], "VarHandleOptions", SharedName="queue/state")
    init.op("ASSIGN_VARIABLE", [other, init.const(np.full((1, 3), 7), np.float32)], [])
    return maker.bytes()


def test_variables_are_inputs_and_outputs() -> None:
    file = streaming()
    state = initial_state(file)
    assert list(state) == ["queue/state"]
    engine = strop.build(file, level=0, threads=1)
    history = [7.0, 7.0, 7.0]
    for step in range(20):
        found = engine.run({"x": np.full((1, 1), step, np.float32), **state})
        state = {"queue/state": found["queue/state.next"]}
        history = [*history[1:], float(step)]
        assert found["y"].item() == sum(history)


def branch(code: str) -> bytes:
    """IF: x > 0 ? x + 1 : x * 2; WHILE: doubles x until it is 100 or more."""
    maker = Maker()
    main, first, second = maker.main, maker.function(), maker.function()
    main.outputs = [main.tensor("y", (1,))]
    if code == "IF":
        main.op("IF", [main.input("flag", (), "BOOL"), main.input("x", (1,))], main.outputs, "IfOptions", ThenSubgraphIndex=1, ElseSubgraphIndex=2)
        parts: list[Any] = [(first, "ADD", 1.0, "FLOAT32"), (second, "MUL", 2.0, "FLOAT32")]
    else:
        main.op("WHILE", [main.input("x", (1,))], main.outputs, "WhileOptions", CondSubgraphIndex=1, BodySubgraphIndex=2)
        parts = [(first, "LESS", 100.0, "BOOL"), (second, "MUL", 2.0, "FLOAT32")]
    for function, op, number, kind in parts:
        function.outputs = [function.tensor("r", (1,), kind)]
        function.op(op, [function.input("v", (1,)), function.const([number], np.float32)], function.outputs)
    return maker.bytes()


def test_branches_and_loops() -> None:
    graph = read(branch("IF"))
    for flag, wanted in ((True, 4.0), (False, 6.0)):
        assert run(graph, {"flag": np.array(flag), "x": np.array([3], np.float32)})["y"] == wanted
    engine = strop.build(branch("WHILE"), level=0, threads=1)
    for x, wanted in ((3.0, 192.0), (200.0, 200.0)):
        assert engine.run({"x": np.array([x], np.float32)})["y"] == wanted


def test_signatures_name_inputs_and_outputs() -> None:
    maker = Maker()
    for number, op in ((0, "EXP"), (1, "NEG")):
        function = maker.main if number == 0 else maker.function()
        function.outputs = [function.tensor("StatefulPartitionedCall:0", (2,))]
        function.op(op, [function.input("serving_default_x:0", (2,))], function.outputs)
        maker.signatures[op.lower()] = (number, {"x": 0 if function.inputs[0] == 0 else function.inputs[0]}, {"result": function.outputs[0]})
    file, x = maker.bytes(), np.array([1, 2], np.float32)
    np.testing.assert_allclose(run(read(file), {"serving_default_x:0": x})["StatefulPartitionedCall:0"], np.exp(x), 1e-6)
    np.testing.assert_allclose(run(read(file, signature="neg"), {"x": x})["result"], -x)
    assert strop.build(file, signature="neg", level=0).inputs[0].name == "x"


def free_net() -> Graph | bytes:
    """x [?, 4] as [?, 2, 2], its shape computed as converters write it."""
    maker = Maker()
    main = maker.main
    x = main.input("x", (1, 4), signature=(-1, 4))
    sizes, batch, wanted, y = (main.tensor(*t) for t in (("sizes", (2,), "INT32"), ("batch", (), "INT32"), ("wanted", (3,), "INT32"), ("y", (1, 2, 2))))
    main.op("SHAPE", [x], [sizes], "ShapeOptions", OutType=2)
    main.op("STRIDED_SLICE", [sizes, *(main.const([k], np.int32) for k in (0, 1, 1))], [batch], "StridedSliceOptions", ShrinkAxisMask=1)
    two = main.const(2, np.int32)
    main.op("PACK", [batch, two, two], [wanted], "PackOptions", ValuesCount=3)
    main.op("RESHAPE", [x, wanted], [y])
    main.outputs = [y]
    return maker.bytes()


def test_free_sizes_are_symbols() -> None:
    file = free_net()
    assert str(read(file).inputs[0].type) == "f32[x_0,4]"
    engine = strop.build(file, level=0, shapes={"x_0": "n:1..5"})
    for n in (1, 5):
        assert engine(np.zeros((n, 4), np.float32)).shape == (n, 2, 2)  # type: ignore[union-attr]
    assert str(read(file, {"x": "3x4"}).outputs[0].type) == "f32[3,2,2]"


def test_integer_products_are_lowered() -> None:
    """The convolutions and the product of the quantized net become integer ones."""
    graph = optimize(read(quantized_net()[0]), Trace())
    integrate(graph)
    assert sum(isinstance(n.op, (IntegerConv, IntegerMatMul)) for n in graph.nodes) == 3


def test_every_operator_gets_a_verdict() -> None:
    verdicts, graph = judge(quantized_net()[0])
    assert [v.op_type for v in verdicts] == ["CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MAX_POOL_2D", "MEAN", "FULLY_CONNECTED"]
    assert all(v.supported for v in verdicts) and len(graph.nodes) > 6
