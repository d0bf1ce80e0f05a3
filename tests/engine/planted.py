"""The demonstration's LeNet, its weights as they are or with one layer that int8 spoils though it means the same in floats."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from strop import demo_data

#: Planted: one channel between conv1 and conv2 is this much larger, and conv2's weights for it as much smaller.
FACTOR = np.float32(4000)
BAD = "conv2"


def digits(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 images [count, 1, 28, 28] and labels, from the held-back ones."""
    images, labels = demo_data.held_back_digits()
    return np.ascontiguousarray(images[first : first + count]), labels[first : first + count]


def spoiled() -> onnx.ModelProto:
    """The LeNet whose conv2 reads values of which nearly all fall below one step of the integer grid."""
    model = onnx.load(demo_data.lenet_path())
    changed = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("conv1.weight", "conv1.bias"):
            array[3] *= FACTOR
        elif tensor.name == "conv2.weight":
            array[:, 3] /= FACTOR
        else:
            continue
        changed[tensor.name] = numpy_helper.from_array(array, tensor.name)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(changed[tensor.name])
    return model
