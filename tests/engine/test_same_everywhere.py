"""int8 networks give the same values, bit by bit, on every instruction set: VNNI, AVX-512 and AVX2 without it, and portable vector code."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop import demo_data
from strop.engine.build import build
from strop.engine.calibrate import calibrate
from strop.target.base import Target
from strop.target.detect import parse, runs_here
from tests.engine.planted import digits

IMAGES, _ = digits(0, 24)


def targets() -> list[Target]:
    """With and without VNNI, wide, narrow, and without fused multiply-adds: those that this machine runs."""
    names = ("x86-64-v4+avx512vnni", "x86-64-v4", "x86-64-v3", "x86-64")
    return [target for target in (parse(name) for name in names) if runs_here(target)]


def residual() -> onnx.ModelProto:
    """Convolutions, a depthwise one, a residual, hard-swish, pools, a product: what integers flow through."""
    rng = np.random.default_rng(2)

    def weights(name: str, *shape: int) -> Any:
        fan = int(np.prod(shape[1:])) or 1
        return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["a"], pads=[1] * 4, strides=[2, 2], name="stem"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w1", "b1"], ["d"], pads=[1] * 4, group=24, name="depthwise"),
        helper.make_node("HardSwish", ["d"], ["h"], name="swish"),
        helper.make_node("Conv", ["h", "w2", "b2"], ["p"], name="point"),
        helper.make_node("Add", ["p", "r"], ["s"], name="sum"),
        helper.make_node("Relu", ["s"], ["t"], name="relu2"),
        helper.make_node("MaxPool", ["t"], ["m"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        helper.make_node("Conv", ["m", "w3", "b3"], ["o"], pads=[1] * 4, name="last"),
        helper.make_node("GlobalAveragePool", ["o"], ["g"], name="mean"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], transB=1, name="fc"),
    ]
    shapes = ((24, 3, 3, 3), (24, 1, 3, 3), (24, 24, 1, 1), (30, 24, 3, 3), (10, 30))
    known = [weights(f"w{k}", *s) for k, s in enumerate(shapes)] + [weights(f"b{k}", s[0]) for k, s in enumerate(shapes)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 24, 24))
    graph = helper.make_graph(nodes, "residual", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 10))], known)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _inputs(name: str) -> list[Any]:
    return [x[None] for x in IMAGES] if name == "lenet" else list(np.random.default_rng(1).standard_normal((24, 1, 3, 24, 24)).astype(np.float32))


@pytest.mark.parametrize("name", ["lenet", "residual"])
def test_int8_is_the_same_everywhere(name: str) -> None:
    model: Any = demo_data.lenet_path() if name == "lenet" else residual()
    inputs = _inputs(name)
    ranges = calibrate(model, np.concatenate(inputs))
    seen: dict[str, list[Any]] = {}
    for target in targets():
        engine = build(model, target=target, level=0, threads=1, precision="int8", ranges=ranges)
        assert sum("int8" in step["kernel"] for step in engine.manifest["steps"]) >= 4
        seen['+'.join((target.name, *target.extras))] = [engine(x) for x in inputs]
    assert len(seen) >= 2, "this machine has one instruction set only"
    first, *others = seen
    for other in others:
        for number, (a, b) in enumerate(zip(seen[first], seen[other], strict=True)):
            np.testing.assert_array_equal(a, b, f"{name}, input {number}: {first} and {other}")
