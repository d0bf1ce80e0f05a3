"""Engines of recurrent layers against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import strop
from strop.engine.calibrate import calibrate
from strop.engine.check import check
from tests.frontend.onnx_models import build, compare, longs, onnx_runtime
from tests.recurrent_nodes import GATES, WEIGHTS, node, operands, random_node


def model_of(nodes, arrays, outputs, opset=17):
    """A model of nodes whose weights are initializers, and its inputs."""
    fixed = {n: a for n, a in arrays.items() if n.rpartition(":")[2] in (*WEIGHTS, "shape")}
    feeds = {n: a for n, a in arrays.items() if n not in fixed}
    inputs = {n: (a.dtype, a.shape) for n, a in feeds.items()}
    return build(nodes, inputs, outputs, fixed, opset), feeds


def steps(engine):
    """Kernels of the engine's steps, and how many of them are copies."""
    records = engine.manifest["steps"]
    return [s["kernel"].partition("(")[0] for s in records], sum(bool(s["copy"]) for s in records)


@pytest.mark.parametrize("target", ["host", "x86-64"])
def test_random_nodes(target):
    """Many nodes in one engine, so that there is one compilation."""
    rng = np.random.default_rng(1)
    made = [random_node(rng, kind, f"{kind}{k}:") for kind in GATES for k in range(6)]
    arrays = {n: a for _, some in made for n, a in some.items()}
    model, feeds = model_of([n for n, _ in made], arrays, [o for n, _ in made for o in n.output if o])
    engine = strop.build(model, level=0, target=target)
    kernels, copies = steps(engine)
    assert kernels.count("recurrent") == len(made) and "naive" not in kernels and copies == 0
    want = onnx_runtime(model, feeds)
    for got, expected in zip(engine.run(feeds).values(), want, strict=True):
        compare(got, expected, 1e-4, 1e-5)


@pytest.mark.parametrize("kind", GATES)
def test_batch_first_needs_no_copies(kind):
    left = ("lens", "p", "h0", "c0")
    arrays = operands(np.random.default_rng(2), kind, (6, 3, 5, 20), 1, left, batch_first=True)
    made = node(kind, list(arrays), ["y", "y_h"], hidden_size=20, layout=1)
    model, feeds = model_of([made], arrays, ["y", "y_h"])
    engine = strop.build(model, level=0)
    assert steps(engine)[1] == 0
    want = ReferenceEvaluator(model).run(None, feeds)
    for got, expected in zip(engine.run(feeds).values(), want, strict=True):
        compare(got, np.asarray(expected), 1e-4, 1e-5)


def test_directions_side_by_side_need_no_copies():
    """What exporters write behind a bidirectional layer."""
    arrays = operands(np.random.default_rng(3), "LSTM", (7, 2, 4, 17), 2, ("p",))
    arrays["shape"] = longs(0, 0, -1)
    nodes = [
        node("LSTM", list(arrays), ["y"], hidden_size=17, direction="bidirectional"),
        helper.make_node("Transpose", ["y"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "shape"], ["flat"]),
    ]
    model, feeds = model_of(nodes, arrays, ["flat"])
    engine = strop.build(model, level=1, threads=2)
    assert steps(engine)[1] == 0
    compare(engine.run(feeds)["flat"], onnx_runtime(model, feeds)[0], 1e-4, 1e-5)
    assert check(model.SerializeToString()).counts["kernel"] == 1


def test_weights_from_inputs_and_other_floats_are_naive():
    arrays = operands(np.random.default_rng(4), "GRU", (3, 2, 4, 5), 1, ())
    made = node("GRU", list(arrays), ["y", "y_h"], hidden_size=5)
    inputs = {n: (a.dtype, a.shape) for n, a in arrays.items()}
    model = build([made], inputs, ["y", "y_h"])
    engine = strop.build(model, level=0)
    assert "naive" in steps(engine)[0]
    for got, expected in zip(engine.run(arrays).values(), onnx_runtime(model, arrays), strict=True):
        compare(got, expected, 1e-4, 1e-5)
    wide = {n: a if n == "lens" else a.astype(np.float64) for n, a in arrays.items()}
    model, feeds = model_of([made], wide, ["y", "y_h"])
    result = strop.build(model, level=0).run(feeds)
    for got, expected in zip(result.values(), engine.run(arrays).values(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_weights_that_amplify_rounding_can_be_tuned():
    arrays = operands(np.random.default_rng(5), "LSTM", (40, 2, 8, 48), 1, ("p", "lens"))
    arrays["r"] *= np.float32(20)
    made = node("LSTM", list(arrays), ["y"], hidden_size=48)
    model, feeds = model_of([made], arrays, ["y"])
    engine = strop.build(model, level=2)
    assert "recurrent" in steps(engine)[0]
    early = engine.run(feeds)["y"][:4], onnx_runtime(model, feeds)[0][:4]
    compare(*early, 1e-3, 1e-3)


def test_products_of_the_input_have_precisions_of_their_own():
    """Integers or 16-bit floats up to what recurs, which stays in f32."""
    arrays = operands(np.random.default_rng(5), "LSTM", (8, 1, 64, 32), 2, ("p", "lens", "h0", "c0"))
    model, feeds = model_of([node("LSTM", list(arrays), ["y"], hidden_size=32, direction="bidirectional")], arrays, ["y"])
    want = strop.build(model, level=0, threads=1)(feeds["x"])
    found = calibrate(model, [feeds])
    assert "x" in found
    for options in ({"precision": "int8", "calibration": [feeds]}, {"precision": "int8", "ranges": found}, {"layer_precision": {"*": "bf16"}}):
        engine = strop.build(model, level=0, threads=1, **options)
        kernels, _ = steps(engine)
        assert "recurrent" in kernels and "naive" not in kernels
        assert ("integer_matmul" in [s["kind"].partition(" ")[0] for s in engine.manifest["steps"]]) is (options.get("precision") == "int8")
        error = np.abs(engine(feeds["x"]) - want).max()
        assert 0 < error < 0.05
    whole = strop.build(model, level=0, threads=1, precision="int8", ranges={"other": (0.0, 1.0)})
    np.testing.assert_array_equal(whole(feeds["x"]), want)
