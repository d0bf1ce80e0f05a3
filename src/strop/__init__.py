"""Strop takes a trained network and makes one small, fast engine file of it.

    import strop

    engine = strop.build("net.onnx")          # needs the compiler
    engine.save("net.strop")

    engine = strop.load("net.strop")          # needs numpy and ml_dtypes, no compiler
    y = engine(x)

Only the names in ``__all__`` are public. ``build`` is looked up at first use, because the compiler comes with it, and ``onnx`` or
``torch`` when such a model is read; a process that only loads engines imports none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from strop.engine.engine import Engine, load
from strop.errors import (
    EngineFileError,
    GraphError,
    InputError,
    KernelError,
    ModelError,
    OptionError,
    RuntimeFailure,
    ShapeError,
    StropError,
    TargetError,
    ToolchainError,
    UnsupportedError,
    VerifyError,
)
from strop.target.base import Target
from strop.version import __version__

if TYPE_CHECKING:
    from strop.engine.build import build

__all__ = [
    "Engine",
    "EngineFileError",
    "GraphError",
    "InputError",
    "KernelError",
    "ModelError",
    "OptionError",
    "RuntimeFailure",
    "ShapeError",
    "StropError",
    "Target",
    "TargetError",
    "ToolchainError",
    "UnsupportedError",
    "VerifyError",
    "__version__",
    "build",
    "load",
]

#: Public names whose modules are imported at first use.
_LAZY = {"build": "strop.engine.build"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'strop' has no attribute '{name}'")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
