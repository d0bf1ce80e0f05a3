"""A small convolutional network for tests of whole builds: two convolutions, a residual, a classifier."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from strop.engine.build import build
from strop.engine.engine import Engine

#: Node names, in order.
NODES = ("conv1", "relu1", "conv2", "bn", "add", "relu2", "flatten", "fc")
INPUT, OUTPUT = "x", "y"
INPUT_SHAPE, OUTPUT_SHAPE = (1, 3, 8, 8), (1, 10)


def model(batch: int | str = 1) -> onnx.ModelProto:
    """The network with fixed random weights; a text as ``batch`` makes the leading dim symbolic."""
    rng = np.random.default_rng(0)

    def const(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((0.1 * rng.standard_normal(shape)).astype(np.float32), name)

    weights = [
        const("w1", 16, 3, 3, 3),
        const("b1", 16),
        const("w2", 16, 16, 3, 3),
        *(const(name, 16) for name in ("scale", "shift", "mean")),
        numpy_helper.from_array(np.ones(16, np.float32), "var"),
        const("w3", 10, 1024),
        const("b3", 10),
    ]
    nodes = [
        helper.make_node("Conv", [INPUT, "w1", "b1"], ["a"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="conv2", pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["d"], name="bn"),
        helper.make_node("Add", ["d", "b"], ["e"], name="add"),
        helper.make_node("Relu", ["e"], ["f"], name="relu2"),
        helper.make_node("Flatten", ["f"], ["g"], name="flatten"),
        helper.make_node("Gemm", ["g", "w3", "b3"], [OUTPUT], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, *INPUT_SHAPE[1:]])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, *OUTPUT_SHAPE[1:]])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    onnx.checker.check_model(made)
    return made


@cache
def folder() -> Path:
    """A folder of this process, deleted at its end."""
    made = Path(tempfile.mkdtemp(prefix="strop-tiny-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def model_file() -> Path:
    """The network as an .onnx file."""
    path = folder() / "tiny.onnx"
    onnx.save(model(), path)
    return path


@cache
def engine() -> Engine:
    """The network built at level 0 for two threads; shared, so leave it open."""
    return build(model_file(), level=0, threads=2)


@cache
def engine_file() -> Path:
    """The engine as a file."""
    path = folder() / "tiny.strop"
    engine().save(path)
    return path
