"""Puts the compatible APIs under their original names, so that scripts run unchanged.

    python -m strop.compat run script.py --its --own arguments

    with strop.compat.shims.installed():
        import tensorrt as trt
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

#: Original name to ours.
NAMES = {
    "tensorrt": "strop.compat.tensorrt",
    "tensorrt.plugin": "strop.compat.tensorrt.plugins",
    "pycuda": "strop.compat.pycuda",
    "pycuda.autoinit": "strop.compat.pycuda.autoinit",
    "pycuda.driver": "strop.compat.pycuda.driver",
    "pycuda.tools": "strop.compat.pycuda.tools",
    "cuda.cuda": "strop.compat.cudadriver",
    "cuda.cudart": "strop.compat.cudart",
    "cuda.bindings.driver": "strop.compat.cudadriver",
    "cuda.bindings.runtime": "strop.compat.cudart",
    "tflite_runtime.interpreter": "strop.compat.tflite.interpreter",
    "ai_edge_litert.interpreter": "strop.compat.tflite.interpreter",
    "tensorflow.lite.python.interpreter": "strop.compat.tflite.interpreter",
    "tensorflow.lite": "strop.compat.tflite",
    "tensorflow": "strop.compat.tflite.tensorflow",
}
#: Packages above them that hold nothing else.
_PACKAGES = ("cuda", "cuda.bindings", "tflite_runtime", "ai_edge_litert", "tensorflow.lite.python")


class _TensorFlow:
    """Where TensorFlow is installed: its modules, but for ``tensorflow.lite``, which is ours. It is imported when a script asks for it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of ``tensorflow``, with ``lite`` put into the module when it has been run."""
        if name != "tensorflow":
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((s for s in found if s is not None), None)
        if spec is not None and spec.loader is not None:
            run_module = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run_module(module)
                vars(module)["lite"] = sys.modules["tensorflow.lite"]

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextmanager
def installed() -> Iterator[None]:
    """The original names are ours within the block; modules that were there before come back after it."""
    before: dict[str, ModuleType | None] = {name: sys.modules.get(name) for name in (*NAMES, *_PACKAGES)}
    finder = _TensorFlow()
    has_tensorflow = before["tensorflow"] is None and find_spec("tensorflow") is not None
    try:
        for name in _PACKAGES:
            package = ModuleType(name)
            package.__path__ = []
            sys.modules[name] = package
        for name, ours in NAMES.items():
            if name != "tensorflow" or not has_tensorflow:
                sys.modules[name] = import_module(ours)
        for name in (*NAMES, *_PACKAGES):
            parent, _, child = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], child, sys.modules[name])
        if has_tensorflow:
            sys.meta_path.insert(0, finder)
        yield
    finally:
        if has_tensorflow:
            sys.meta_path.remove(finder)
        for name, old in before.items():
            if old is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = old


def run(script: str, arguments: Sequence[str] = ()) -> None:
    """Runs a script as ``python script`` does, with the names installed."""
    saved = sys.argv, list(sys.path)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).resolve().parent))
    try:
        with installed():
            runpy.run_path(script, run_name="__main__")
    finally:
        sys.argv, sys.path[:] = saved
