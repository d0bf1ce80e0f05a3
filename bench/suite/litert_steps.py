"""LiteRT, run for several steps from a fresh start: a script for ``strop.engine.peers.runner``. Nothing of Strop is imported here.

With ``LITERT_DELEGATES=none`` in the environment it runs without XNNPACK, on the interpreter's own kernels.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert


class Net:
    """An interpreter per call, so that variables begin with their initial values.

    Inputs, by position, have the steps as a further first axis, and so have outputs.
    """

    notes: list[str]

    def __init__(self, task: Any) -> None:
        self._task = task
        self._found: list[Any] = []
        self.version = version("ai-edge-litert")
        self.notes = []
        self.calls = {"steps": self._steps}

    def _steps(self) -> None:
        if self._found:
            return
        kinds = litert.OpResolverType
        kind = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if os.environ.get("LITERT_DELEGATES") == "none" else kinds.AUTO
        interpreter = litert.Interpreter(model_path=str(self._task.model), num_threads=self._task.threads, experimental_op_resolver_type=kind)
        details, arrays = interpreter.get_input_details(), list(self._task.inputs.values())
        for detail, array in zip(details, arrays):
            if tuple(detail["shape"]) != array.shape[1:]:
                interpreter.resize_tensor_input(detail["index"], array.shape[1:])
        interpreter.allocate_tensors()
        results = [d["index"] for d in interpreter.get_output_details()]
        rows = []
        for step in range(len(arrays[0])):
            for detail, array in zip(details, arrays):
                interpreter.set_tensor(detail["index"], array[step])
            interpreter.invoke()
            rows.append([interpreter.get_tensor(index).copy() for index in results])
        self._found = [np.stack(column) for column in zip(*rows)]

    def outputs(self) -> list[Any]:
        """Of all steps."""
        return self._found


def load(task: Any) -> Net:
    """An interpreter."""
    return Net(task)
