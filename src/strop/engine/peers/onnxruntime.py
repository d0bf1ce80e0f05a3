"""ONNX Runtime: CPU provider, every graph optimization, one session per process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnxruntime


class Net:
    """A session whose inputs and outputs are bound once."""

    notes: list[str]

    def __init__(self, task: Any) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(task.model), options, providers=["CPUExecutionProvider"])
        self._names = [o.name for o in self._session.get_outputs()]
        self._feed = dict(task.inputs)
        self._results: list[Any] = self._session.run(self._names, self._feed)
        self._binding = self._session.io_binding()
        self._held = [onnxruntime.OrtValue.ortvalue_from_numpy(a) for a in (*self._feed.values(), *self._results)]
        for name, value in zip(self._feed, self._held):
            self._binding.bind_ortvalue_input(name, value)
        for name, value in zip(self._names, self._held[len(self._feed) :]):
            self._binding.bind_ortvalue_output(name, value)
        self._bound = False
        self.version = onnxruntime.__version__
        self.notes = []
        self.calls: dict[str, Callable[[], object]] = {"run": self._run, "run_with_iobinding": self._run_bound}

    def _run(self) -> None:
        self._results = self._session.run(self._names, self._feed)
        self._bound = False

    def _run_bound(self) -> None:
        self._session.run_with_iobinding(self._binding)
        self._bound = True

    def outputs(self) -> list[Any]:
        """Of the last inference."""
        return [v.numpy() for v in self._held[len(self._feed) :]] if self._bound else self._results


def load(task: Any) -> Net:
    """A session for the model."""
    return Net(task)
