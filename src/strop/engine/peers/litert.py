"""LiteRT: the interpreter with XNNPACK. Runs the .tflite file that lies beside the model under the same name."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert


class Net:
    """An interpreter whose inputs are set once."""

    notes: list[str]

    def __init__(self, task: Any) -> None:
        path = task.original.with_suffix(".tflite")
        if not path.exists():
            raise LookupError("no .tflite of this net beside the model, and LiteRT reads nothing else")
        self._interpreter = litert.Interpreter(model_path=str(path), num_threads=task.threads)
        arrays = _match(self._interpreter.get_input_details(), task.inputs)
        for index, array in arrays.items():
            self._interpreter.resize_tensor_input(index, array.shape)
        self._interpreter.allocate_tensors()
        for index, array in arrays.items():
            self._interpreter.set_tensor(index, array)
        self._results = [d["index"] for d in self._interpreter.get_output_details()]
        self.version = version("ai-edge-litert")
        self.notes = []
        self.calls: dict[str, Callable[[], object]] = {"invoke": self._interpreter.invoke}

    def outputs(self) -> list[Any]:
        """Of the last inference."""
        return [self._interpreter.get_tensor(index) for index in self._results]


def _match(details: list[Any], inputs: dict[str, Any]) -> dict[int, Any]:
    """Tensor index to array: by position; an image is handed over channels-last where the file wants that.

    The leading dim is the batch and is not compared: the interpreter is resized to it.
    """
    if len(details) != len(inputs):
        raise LookupError(f"the .tflite file has {len(details)} inputs, the model {len(inputs)}")
    found = {}
    for detail, (name, array) in zip(details, inputs.items()):
        wanted = tuple(int(d) for d in detail["shape_signature"])[1:]
        last = np.moveaxis(array, 1, -1) if array.ndim > 2 else array
        if _fits(array.shape[1:], wanted):
            found[detail["index"]] = array
        elif _fits(last.shape[1:], wanted):
            found[detail["index"]] = np.ascontiguousarray(last)
        else:
            raise LookupError(f"input '{name}' of {array.shape} does not fit the .tflite file's {tuple(detail['shape'])}")
    return found


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape is one of a signature, where -1 is free."""
    return len(shape) == len(wanted) and all(w in (-1, d) for d, w in zip(shape, wanted))


def load(task: Any) -> Net:
    """An interpreter."""
    return Net(task)
