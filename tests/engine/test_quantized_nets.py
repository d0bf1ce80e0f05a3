"""Quantized networks become integer kernels and agree with ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

import strop
from strop.engine.format import EngineFile, SectionKind
from strop.target.detect import host
from strop.target.isa.table import ISAS
from tests.saturates import SATURATES

RNG = np.random.default_rng(11)


class Batches(CalibrationDataReader):
    """A few random inputs."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        rng = np.random.default_rng(2)
        self.feeds = iter([{n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()} for _ in range(3)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def constant(name: str, *shape: int, scale: float = 0.2) -> onnx.TensorProto:
    return numpy_helper.from_array((RNG.standard_normal(shape) * scale).astype(np.float32), name)


def image_net() -> onnx.ModelProto:
    """Convolutions with padding, stride and groups, a residual, pools, a concat, activations, a dense layer."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1] * 4, strides=[2, 2], name="stem"),
        node("Relu", ["c0"], ["r0"]),
        node("MaxPool", ["r0"], ["p0"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        node("Conv", ["p0", "w1", "b1"], ["c1"], pads=[1] * 4, name="same"),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], name="expand"),
        node("Add", ["c2", "p0"], ["s2"], name="residual"),
        node("Relu", ["s2"], ["r2"]),
        node("Conv", ["r2", "w3", "b3"], ["c3"], pads=[1] * 4, group=24, name="depthwise"),
        node("Clip", ["c3", "zero", "six"], ["r3"]),
        node("Conv", ["r3", "w4", "b4"], ["c4"], name="left"),
        node("Conv", ["r3", "w5"], ["c5"], pads=[1, 1, 1, 1], group=4, name="right"),
        node("Concat", ["c4", "c5"], ["k"], axis=1),
        node("Sigmoid", ["k"], ["g"]),
        node("Mul", ["k", "g"], ["m"]),
        node("Conv", ["m", "w6", "b6"], ["c6"], name="last"),
        node("GlobalAveragePool", ["c6"], ["a"]),
        node("Flatten", ["a"], ["f"]),
        node("Gemm", ["f", "w7", "b7"], ["y"], transB=1, name="dense"),
    ]
    shapes = {"w0": (24, 3, 3, 3), "w1": (16, 24, 3, 3), "w2": (24, 16, 1, 1), "w3": (24, 1, 3, 3), "w4": (20, 24, 1, 1),
              "w5": (12, 6, 3, 3), "w6": (18, 32, 1, 1), "w7": (10, 18)}  # fmt: skip
    weights = [constant(n, *s) for n, s in shapes.items()]
    weights += [constant(f"b{n[1]}", s[0]) for n, s in shapes.items() if n != "w5"]
    weights += [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in (("zero", 0), ("six", 6))]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "net", [value("x", TensorProto.FLOAT, [2, 3, 30, 26])], [value("y", TensorProto.FLOAT, [2, 10])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def steps(engine: Any) -> Counter[str]:
    return Counter(step["kernel"].split("(")[0] for step in engine.manifest["steps"])


def products(found: Counter[str]) -> int:
    """Steps that multiply bytes, by whichever kernel suits the processor."""
    return sum(found[name] for name in ("conv_int8", "conv_int8_pairs", "conv_int8_pipelined", "conv_int8_small"))


def outputs(engine: Any, *inputs: np.ndarray) -> np.ndarray:
    found = engine(*inputs)
    return found if isinstance(found, np.ndarray) else next(iter(found.values() if isinstance(found, dict) else found))


@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8], ids=["u8", "i8"])
@pytest.mark.parametrize("layout", [QuantFormat.QDQ, QuantFormat.QOperator], ids=["qdq", "qlinear"])
def test_an_image_net(tmp_path: Path, kind: QuantType, layout: QuantFormat) -> None:
    if layout is QuantFormat.QOperator and kind is QuantType.QInt8:
        pytest.skip("ONNX Runtime's tool makes none of these")
    onnx.save(image_net(), tmp_path / "float.onnx")
    path = tmp_path / "net.onnx"
    quantize_static(tmp_path / "float.onnx", path, Batches(x=(2, 3, 30, 26)), quant_format=layout, per_channel=True,
                    activation_type=kind, weight_type=QuantType.QInt8, reduce_range=SATURATES)  # fmt: skip
    engine = strop.build(path, level=0, threads=1)
    found = steps(engine)
    assert "naive" not in found
    depthwise = found["conv_depthwise_int8"] + found["conv_depthwise_dot"]
    assert products(found) == 7 and depthwise == 1, found
    x = RNG.standard_normal((2, 3, 30, 26)).astype(np.float32)
    want = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    step = np.diff(np.unique(want)).min()  # of the quantized result
    assert np.abs(outputs(engine, x) - want).max() <= 2.1 * step


def test_dynamic_quantization(tmp_path: Path) -> None:
    """Scales that only a run knows, and a number of rows that only a run knows."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w0"], ["h"]),
        node("Add", ["h", "b0"], ["a"]),
        node("Relu", ["a"], ["r"]),
        node("MatMul", ["r", "w1"], ["o"]),
        node("Add", ["o", "x"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "mlp", [value("x", TensorProto.FLOAT, ["rows", 20])], [value("y", TensorProto.FLOAT, ["rows", 20])],
        [constant("w0", 20, 70), constant("b0", 70), constant("w1", 70, 20)],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "net.onnx", weight_type=QuantType.QInt8, reduce_range=SATURATES)
    engine = strop.build(tmp_path / "net.onnx", level=0, threads=1, shapes={"x": "1..40(16)x20"})
    found = steps(engine)
    assert "naive" not in found and products(found) == 2, found
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for rows in (1, 7, 40):
        x = RNG.standard_normal((rows, 20)).astype(np.float32)
        np.testing.assert_allclose(outputs(engine, x), session.run(None, {"x": x})[0], rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not host().extras, reason="this processor has no optional features")
def test_an_engine_says_which_optional_features_it_uses(tmp_path: Path) -> None:
    """Code of 8-bit products and of bf16 ones needs what the host has for them beyond its level; code of f32 needs nothing."""
    found = {}
    for name, kind in (("float", np.float32), ("integer", np.int8), ("bf16", np.float32)):
        weight = numpy_helper.from_array(np.ones((8, 16), kind), "w")
        op, elem = ("MatMul", TensorProto.FLOAT) if kind is np.float32 else ("MatMulInteger", TensorProto.UINT8)
        value = helper.make_tensor_value_info
        result = TensorProto.FLOAT if kind is np.float32 else TensorProto.INT32
        graph = helper.make_graph([helper.make_node(op, ["x", "w"], ["y"])], "one", [value("x", elem, [4, 8])], [value("y", result, [4, 16])], [weight])
        path = tmp_path / f"{name}.strop"
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        narrow = {"precision": "bf16", "layer_precision": {"*": "bf16"}} if name == "bf16" else {}
        strop.build(model, level=0, threads=1, **narrow).save(path)
        found[name] = [s.name for s in EngineFile(path).sections if s.kind == SectionKind.KERNELS]
    isa = ISAS[host().isa]
    needed = {"float": (), "integer": isa.used("vdot4()", host().extras), "bf16": isa.used("vdot2_bf16()", host().extras)}
    assert found == {name: [replace(host(), extras=extras).section] for name, extras in needed.items()}
