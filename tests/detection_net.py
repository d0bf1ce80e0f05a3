"""A small detector as exporters write it: a convolution makes boxes and scores, NonMaxSuppression picks, the best are gathered."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from strop.ir.op import Array

OUTPUTS = ("boxes_out", "best", "classes", "selected", "count")
#: Places of an image of 8 x 8.
PLACES = 64


def model(batch: int = 1) -> onnx.ModelProto:
    """x [batch, 3, 8, 8] to: boxes_out [k, 4], best scores [k], classes [k], selected [n, 3], count [1] = n, where k = min(n, 15)."""
    nodes: list[onnx.NodeProto] = []

    def node(op: str, inputs: str, *outputs: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(op, inputs.split(), list(outputs), name=outputs[0], **attributes))

    node("Conv", "x w", "maps", pads=[1] * 4)
    node("Reshape", "maps rows", "flat")
    node("Transpose", "flat", "places", perm=[0, 2, 1])
    node("Split", "places halves", "raw", "logits", axis=2)
    node("Split", "raw pairs", "shift", "extent", axis=2)
    node("Exp", "extent", "size")
    node("Add", "shift anchors", "center")
    node("Mul", "size half", "reach")
    node("Sub", "center reach", "low")
    node("Add", "center reach", "high")
    node("Concat", "low high", "boxes", axis=2)
    node("Sigmoid", "logits", "chance")
    node("Transpose", "chance", "scores", perm=[0, 2, 1])
    node("NonMaxSuppression", "boxes scores most overlap least", "selected")
    node("Slice", "selected zero one second", "image")
    node("Slice", "selected two three second", "box")
    node("Concat", "image box", "image_box", axis=1)
    node("GatherND", "boxes image_box", "kept")
    node("GatherND", "scores selected", "kept_scores")
    node("Shape", "kept_scores", "count")
    node("Min", "count cap", "k")
    node("TopK", "kept_scores k", "best", "order", axis=0)
    node("Gather", "kept order", "ordered", axis=0)
    node("Mul", "ordered scale", "boxes_out")
    node("Gather", "selected second", "class_column", axis=1)
    node("Squeeze", "class_column second", "every_class")
    node("Gather", "every_class order", "classes", axis=0)
    rng = np.random.default_rng(0)
    known: dict[str, Array] = {
        "w": (0.3 * rng.standard_normal((8, 3, 3, 3))).astype(np.float32),
        "rows": np.array([batch, 8, PLACES]),
        "halves": np.array([4, 4]),
        "pairs": np.array([2, 2]),
        "anchors": rng.uniform(0, 8, (1, PLACES, 2)).astype(np.float32),
        "half": np.float32(0.7),
        "most": np.array([10]),
        "overlap": np.array([0.4], np.float32),
        "least": np.array([0.6], np.float32),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "three": np.array([3]),
        "second": np.array([1]),
        "cap": np.array([15]),
        "scale": np.full((1, 4), 8, np.float32),
    }
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])]
    outputs = [helper.make_empty_tensor_value_info(name) for name in OUTPUTS]
    weights = [numpy_helper.from_array(np.asarray(a), n) for n, a in known.items()]
    graph = helper.make_graph(nodes, "detector", inputs, outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def images(batch: int = 1) -> list[Array]:
    """Images in which much, something and nothing is found."""
    found = [np.random.default_rng(seed).standard_normal((batch, 3, 8, 8)).astype(np.float32) for seed in range(4)]
    return [found[0], np.zeros_like(found[0]), 0.3 * found[1], found[2], 0.2 * found[3]]
