"""OpenVINO: CPU plugin, in the precision asked for, tuned for latency. ONEDNN_MAX_CPU_ISA in the environment limits its instructions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import openvino


class Net:
    """A compiled model with one infer request whose inputs are bound once."""

    def __init__(self, task: Any) -> None:
        core = openvino.Core()
        model = core.read_model(str(task.model))
        if model.is_dynamic():
            model.reshape({name: list(array.shape) for name, array in task.inputs.items()})
        settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "fp16": "f16"}.get(task.precision, task.precision),
            "INFERENCE_NUM_THREADS": task.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        self._compiled = core.compile_model(model, "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self._arrays = list(task.inputs.values())
        self._tensors = {name: openvino.Tensor(array, shared_memory=True) for name, array in task.inputs.items()}
        for name, tensor in self._tensors.items():
            self._request.set_tensor(name, tensor)
        self.version = openvino.__version__.split("-")[0]
        self.notes = [_instructions(self._compiled)]
        self.calls: dict[str, Callable[[], object]] = {
            "infer": self._infer,
            "infer of the bound arrays": self._infer_bound,
            "start_async, wait": self._start,
        }

    def _infer(self) -> None:
        self._request.infer(self._arrays, share_inputs=True, share_outputs=True)

    def _infer_bound(self) -> None:
        self._request.infer(None, share_inputs=True, share_outputs=True)

    def _start(self) -> None:
        self._request.start_async()
        self._request.wait()

    def outputs(self) -> list[Any]:
        """Of the last inference."""
        return [self._request.get_output_tensor(i).data.copy() for i in range(len(self._compiled.outputs))]


def _instructions(compiled: Any) -> str:
    """The instruction sets that the primitives of the compiled model name, most frequent first."""
    found: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        with suppress(KeyError, RuntimeError, AttributeError):
            kind = str(node.get_rt_info()["primitiveType"].astype(str)).lower()
            found.update(isa for isa in ("avx512", "avx2", "sse4", "jit_uni", "ref") if isa in kind)
    return "primitives: " + (", ".join(f"{count} {isa}" for isa, count in found.most_common()) or "not told")


def load(task: Any) -> Net:
    """A compiled model."""
    return Net(task)
