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
from pathlib import Path
from types import ModuleType

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
}


@contextmanager
def installed() -> Iterator[None]:
    """The original names are ours within the block; modules that were there before come back after it."""
    before: dict[str, ModuleType | None] = {name: sys.modules.get(name) for name in (*NAMES, "cuda", "cuda.bindings")}
    try:
        for name in ("cuda", "cuda.bindings"):
            package = ModuleType(name)
            package.__path__ = []
            sys.modules[name] = package
        for name, ours in NAMES.items():
            module = import_module(ours)
            sys.modules[name] = module
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)
        yield
    finally:
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
