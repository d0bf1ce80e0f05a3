"""PyTorch on the CPU: the exported program that lies beside the model as .pt2, eager and compiled by Inductor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Net:
    """A module and its inputs."""

    def __init__(self, task: Any) -> None:
        path = task.original.with_suffix(".pt2")
        if not path.exists():
            raise LookupError("no .pt2 of this net beside the model, and PyTorch does not read ONNX")
        torch.set_num_threads(task.threads)
        torch.set_num_interop_threads(1)
        self._inputs = [torch.from_numpy(a) for a in task.inputs.values()]
        module = torch.export.load(str(path)).module()
        self._result: Any = None
        self.version = torch.__version__
        self.notes: list[str] = []
        self.calls: dict[str, Callable[[], object]] = {"eager": lambda: self._run(module)}
        compiled = self._compile(module)
        if compiled is not None:
            self.calls["compiled"] = lambda: self._run(compiled)

    def _compile(self, module: Any) -> Any:
        """The module compiled with its weights frozen, or None when that fails, which is noted."""
        try:
            import torch._inductor.config as settings

            settings.freezing = True
            compiled = torch.compile(module)
            self._run(compiled)
        except Exception as error:  # no C++ compiler, or a graph that Inductor refuses
            self.notes.append(f"not compiled: {type(error).__name__}")
            return None
        return compiled

    def _run(self, module: Any) -> None:
        with torch.inference_mode():
            self._result = module(*self._inputs)

    def outputs(self) -> list[Any]:
        """Of the last inference."""
        found = self._result if isinstance(self._result, (tuple, list)) else [self._result]
        return [t.detach().numpy() for t in found]


def load(task: Any) -> Net:
    """An exported program."""
    return Net(task)
