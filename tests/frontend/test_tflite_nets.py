"""TFLite files of several operators: quantized layers, sparse weights, variables, branches, loops, signatures, free sizes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.engine.describe import describe
from strop.errors import StropError
from strop.frontend.table import judge, read
from strop.frontend.tflite.reader import initial_state
from strop.ir.control import loops
from strop.ir.interp import run
from strop.lower.quantized import integrate
from strop.ops.control import LoopBegin
from strop.ops.data import Transpose
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.optimize.pipeline import optimize
from strop.trace import Trace
from tests.frontend.tflite_models import Array, Maker, single
from tests.frontend.tflite_nets import (
    CONV,
    branch,
    composite,
    dear_branch,
    free_net,
    list_of_steps,
    quantized_net,
    sparse_net,
    streaming,
)

RNG = np.random.default_rng(3)


def rounded(real: Array, scale: float, zero: int) -> Array:
    return np.clip(np.rint(real / scale) + zero, -128, 127).astype(np.int8)


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


def test_weights_of_4_bits() -> None:
    """Two in a byte, the first in its low half; an odd number of them leaves half a byte over."""
    w = RNG.integers(-8, 8, (3, 5), np.int8)
    flat = np.append(w.reshape(-1), 0).astype(np.uint8) & 15
    maker = Maker()
    main = maker.main
    packed = main.tensor("w", w.shape, "INT4", buffer=maker.buffer((flat[::2] | flat[1::2] << 4).astype(np.uint8).tobytes()), scale=[0.1, 0.2, 0.3], axis=0)
    main.outputs = [main.tensor("y", (2, 3))]
    main.op("FULLY_CONNECTED", [main.input("x", (2, 5)), packed], main.outputs, "FullyConnectedOptions")
    x = RNG.standard_normal((2, 5)).astype(np.float32)
    wanted = x @ (w * np.array([[0.1], [0.2], [0.3]], np.float32)).T
    np.testing.assert_allclose(run(read(maker.bytes()), {"x": x})["y"], wanted, 1e-5, 1e-5)
    np.testing.assert_allclose(strop.build(maker.bytes(), level=0, threads=1)(x), wanted, 1e-5, 1e-5)


def test_activations_of_16_bits() -> None:
    """int16x8: weights i8, biases i64 in units of both scales."""
    maker = Maker()
    main = maker.main
    w, bias = RNG.integers(-127, 128, (6, 10), np.int8), RNG.integers(-9000, 9000, 6)
    x = main.input("x", (2, 10), "INT16", scale=0.001)
    main.outputs = [main.tensor("y", (2, 6), "INT16", scale=0.002)]
    main.op("FULLY_CONNECTED", [x, main.const(w, scale=0.02), main.const(bias, np.int64, scale=0.00002)], main.outputs, "FullyConnectedOptions")
    given = RNG.integers(-4000, 4000, (2, 10)).astype(np.int16)
    wanted = np.rint((given.astype(np.int64) @ w.T.astype(np.int64) + bias) * 0.00002 / 0.002)
    (found,) = run(read(maker.bytes()), {"x": given}).values()
    assert found.dtype == np.int16 and np.abs(found - wanted).max() <= 1


def test_sparse_half_precision_weights() -> None:
    """CSR with blocks of 1 by 2, through DENSIFY and DEQUANTIZE."""
    file, dense = sparse_net()
    x = RNG.standard_normal((1, 6)).astype(np.float32)
    np.testing.assert_allclose(run(read(file), {"x": x})["y"], x @ dense.T.astype(np.float32), 1e-6)


def test_variables_are_inputs_and_outputs_over_a_thousand_steps() -> None:
    file = streaming()
    state = initial_state(file)
    assert list(state) == ["queue/state"]
    engine = strop.build(file, level=0, threads=1)
    history = [7.0, 7.0, 7.0]
    for step in range(1000):
        found = engine.run({"x": np.full((1, 1), step, np.float32), **state})
        state = {"queue/state": found["queue/state.next"]}
        history = [*history[1:], float(step)]
        assert found["y"].item() == sum(history)


def test_branches_and_loops() -> None:
    graph = read(branch("IF"))
    for flag, wanted in ((True, 4.0), (False, 6.0)):
        assert run(graph, {"flag": np.array(flag), "x": np.array([3], np.float32)})["y"] == wanted
    engine = strop.build(branch("WHILE"), level=0, threads=1)
    for x, wanted in ((3.0, 192.0), (200.0, 200.0)):
        assert engine.run({"x": np.array([x], np.float32)})["y"] == wanted


def test_a_loop_that_sets_items_of_a_list_runs() -> None:
    """Its slices have sizes that only a run knows; together they are an update. Where rows would be lost they are none."""
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_array_equal(run(read(list_of_steps()), {"x": x})["y"], 2 * x)
    np.testing.assert_array_equal(strop.build(list_of_steps(), level=0, threads=1).run({"x": x})["y"], 2 * x)
    with pytest.raises(StropError, match="last/body"):
        read(list_of_steps(behind=2))


def test_a_branch_that_costs_more_than_a_jump_is_jumped_over() -> None:
    file = dear_branch()
    assert len(loops(read(file))) == 2
    assert any(isinstance(node.op, LoopBegin) for node in read(file).nodes)
    assert not any(isinstance(node.op, LoopBegin) for node in read(dear_branch(32)).nodes)
    engine = strop.build(file, level=0, threads=1)
    x = np.arange(320, dtype=np.float32)[None]
    for flag, wanted in ((True, np.full((1, 320), x.sum())), (False, x)):
        np.testing.assert_allclose(engine.run({"flag": np.array([flag]), "x": x})["y"], wanted, 1e-5)


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


def test_a_composite_is_what_it_is_made_of() -> None:
    (y,) = run(read(composite()), {"x": np.array([[-3, 0.5, 2]], np.float32)}).values()
    np.testing.assert_allclose(y, [[0, 0.75, 6]])
