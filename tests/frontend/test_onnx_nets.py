"""Whole networks: the light nets of the onnx wheel, and the nets given with --models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from strop.frontend.onnx import read_onnx, survey
from strop.ir.interp import run
from tests.frontend.onnx_models import Array

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SLOW = ("convnext_tiny", "light_vgg19", "vgg16", "vit_b_16")
NETS = sorted(p.stem for p in LIGHT.glob("*.onnx"))
MODELS = (
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "resnet18",
    "resnet50",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "vgg16",
    "vit_b_16",
)


def ramp(shape: tuple[int, ...]) -> Array:
    """The input that onnx.backend.test.runner gives to the light nets: a ramp from 0 to 1."""
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def close(got: Array, expected: Array, relative: float = 1e-4) -> None:
    """Within a part of the largest magnitude."""
    assert got.shape == expected.shape
    assert np.max(np.abs(got - expected)) <= relative * np.max(np.abs(expected))


@pytest.mark.parametrize("net", NETS)
def test_light_net_is_read(net: str) -> None:
    graph = read_onnx(LIGHT / f"{net}.onnx")
    proto = onnx.load(LIGHT / f"{net}.onnx").graph
    given = {t.name for t in proto.initializer}
    assert [v.name for v in graph.inputs] == [i.name for i in proto.input if i.name not in given]
    assert graph.output_names == [o.name for o in proto.output]
    # Weights that the net makes with ConstantOfShape are constants, and no shape op is left.
    kept = [n for n in proto.node if n.op_type != "ConstantOfShape"]
    assert {s for node in graph.nodes for s in node.source} <= {
        n.name or f"{n.op_type}_{i}" for i, n in enumerate(proto.node) if n in kept
    }
    assert all(
        value.producer is None
        for node in graph.nodes
        for value in node.operands[1:2]
        if node.op.label == "conv"
    )


@pytest.mark.parametrize(
    "net", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NETS]
)
def test_light_net_gives_the_stored_output(net: str) -> None:
    graph = read_onnx(LIGHT / f"{net}.onnx")
    feeds = {v.name: ramp(v.type.static_shape) for v in graph.inputs}
    (got,) = run(graph, feeds).values()
    stored = TensorProto()
    stored.ParseFromString((LIGHT / f"{net}_output_0.pb").read_bytes())
    expected = numpy_helper.to_array(stored)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.models
@pytest.mark.parametrize("net", MODELS)
def test_net_is_read_with_memory_mapped_weights(net: str, models_dir: Path) -> None:
    graph = read_onnx(models_dir / f"{net}.onnx")
    assert all(v.supported and v.checked for v in survey(models_dir / f"{net}.onnx"))
    assert not {"shape", "constant_of_shape", "range"} & {n.op.label for n in graph.nodes}
    for value in graph.constants():
        assert value.const is not None
        assert value.const.nbytes < 4096 or not value.const.flags.owndata, value


@pytest.mark.models
@pytest.mark.parametrize(
    "net", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in MODELS]
)
def test_net_agrees_with_onnx_runtime(net: str, models_dir: Path) -> None:
    path = models_dir / f"{net}.onnx"
    graph = read_onnx(path)
    rng = np.random.default_rng(7)
    feeds = {v.name: rng.standard_normal(v.type.static_shape, np.float32) for v in graph.inputs}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    for got, expected in zip(run(graph, feeds).values(), session.run(None, feeds), strict=True):
        close(got, expected)
