"""Write the trained LeNet as an ONNX file, node by node, with the `onnx` package."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from digits import write_atomic
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8

WEIGHTS: dict[str, tuple[int, ...]] = {
    "conv1.weight": (20, 1, 5, 5),
    "conv1.bias": (20,),
    "conv2.weight": (50, 20, 5, 5),
    "conv2.bias": (50,),
    "fc1.weight": (500, 800),
    "fc1.bias": (500,),
    "fc2.weight": (10, 500),
    "fc2.bias": (10,),
}
"""Name and shape of every weight: convolutions [out, in, height, width], dense [out, in]."""


def build(weights: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Return the network over `weights`, which must hold exactly the names and shapes of WEIGHTS.

    Input ``input`` is float32 [1, 1, 28, 28] in 0..1 with ink at 1; output ``logits`` is float32
    [1, 10]. Raises ValueError that names a weight which is missing, extra, misshapen or not finite.
    """
    _check(weights)
    window: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        _weighted("Conv", "conv1", "input", "conv1", kernel_shape=[5, 5]),
        helper.make_node("MaxPool", ["conv1"], ["pool1"], name="pool1", **window),
        _weighted("Conv", "conv2", "pool1", "conv2", kernel_shape=[5, 5]),
        helper.make_node("MaxPool", ["conv2"], ["pool2"], name="pool2", **window),
        helper.make_node("Flatten", ["pool2"], ["flatten"], name="flatten", axis=1),
        _weighted("Gemm", "fc1", "flatten", "fc1", transB=1),
        helper.make_node("Relu", ["fc1"], ["relu1"], name="relu1"),
        _weighted("Gemm", "fc2", "relu1", "logits", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "lenet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(np.ascontiguousarray(weights[name]), name) for name in WEIGHTS],
    )
    model = helper.make_model(
        graph,
        producer_name="strop examples/lenet",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def save(path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    """Write `build(weights)` to `path`; equal weights give equal bytes."""
    write_atomic(path, build(weights).SerializeToString(deterministic=True))


def _weighted(op: str, name: str, source: str, result: str, **attributes: Any) -> onnx.NodeProto:
    inputs = [source, f"{name}.weight", f"{name}.bias"]
    return helper.make_node(op, inputs, [result], name=name, **attributes)


def _check(weights: dict[str, NDArray[np.float32]]) -> None:
    if weights.keys() != WEIGHTS.keys():
        odd = sorted(weights.keys() ^ WEIGHTS.keys())
        raise ValueError(f"weights: missing or unknown names {odd}")
    for name, shape in WEIGHTS.items():
        value = weights[name]
        if value.shape != shape or value.dtype != np.float32:
            raise ValueError(f"{name}: got {value.dtype} {value.shape}, expected float32 {shape}")
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{name}: holds a value that is not finite")
