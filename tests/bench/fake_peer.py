"""A runtime for tests: computes with ONNX's reference implementation, and misbehaves as MODE says."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

MODE = "right"


class Net:
    """A model that is computed once; every call takes the time that its way has."""

    def __init__(self, task: Any) -> None:
        print("libraries print to stdout")
        os.write(1, b"also natively\n")
        if MODE == "cannot":
            raise LookupError("no such file format")
        if MODE == "broken":
            raise ValueError("the graph is cyclic")
        if MODE == "absent":
            import a_package_that_is_not_installed  # noqa: F401
        if MODE == "crash":
            print("about to fall", file=sys.stderr, flush=True)
            os.abort()
        model = onnx.load(str(task.model))
        self._outputs = ReferenceEvaluator(model).run(None, task.inputs)
        if MODE == "wrong":
            self._outputs = [y * 1.001 for y in self._outputs]
        if MODE == "nan":
            self._outputs = [np.full_like(y, np.nan) for y in self._outputs]
        self._count = 0
        self.version = "1.2.3"
        self.notes = [f"limit={os.environ.get('FAKE_LIMIT')}", f"threads={os.environ.get('OMP_NUM_THREADS')}", f"precision={task.precision}"]
        self.calls = {"slow way": lambda: self._wait(0.01), "fast way": lambda: self._wait(0.004 if MODE == "slow" else 0.001)}

    def _wait(self, seconds: float) -> None:
        self._count += 1
        if MODE == "dies" and self._count > 40:
            os._exit(3)
        if MODE == "drifts" and self._count > 40:
            self._outputs = [y + 1 for y in self._outputs]
        time.sleep(seconds)

    def outputs(self) -> list[Any]:
        """Of the model."""
        return list(self._outputs)


def load(task: Any) -> Net:
    """The model."""
    return Net(task)
