"""Strop takes a trained network and makes one small, fast engine file of it.

    import strop

    engine = strop.build("net.onnx")          # needs the compiler
    engine.save("net.strop")

    engine = strop.load("net.strop")          # needs numpy and ml_dtypes, no compiler
    y = engine(x)

Only the names in ``__all__`` are public. Those that need the compiler are looked up at first use, and ``onnx`` or ``torch`` when such a
model is read; a process that only loads engines imports none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from strop.engine.engine import Engine, load
from strop.errors import (
    CustomError,
    EngineFileError,
    GraphError,
    InputError,
    KernelError,
    ModelError,
    OptionError,
    PlacementWarning,
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
    from strop import custom, quantize
    from strop.engine.bench import bench
    from strop.engine.build import build
    from strop.engine.calibrate import calibrate
    from strop.engine.convert import convert
    from strop.engine.provenance import profile
    from strop.engine.report import report
    from strop.engine.sweep import sweep
    from strop.frontend import network as layers
    from strop.frontend.network import Network

__all__ = [
    "CustomError",
    "Engine",
    "EngineFileError",
    "GraphError",
    "InputError",
    "KernelError",
    "ModelError",
    "Network",
    "OptionError",
    "PlacementWarning",
    "RuntimeFailure",
    "ShapeError",
    "StropError",
    "Target",
    "TargetError",
    "ToolchainError",
    "UnsupportedError",
    "VerifyError",
    "__version__",
    "bench",
    "build",
    "calibrate",
    "convert",
    "custom",
    "layers",
    "load",
    "profile",
    "quantize",
    "report",
    "sweep",
]

#: Public names whose modules are imported at first use; a name that its module does not have is the module.
_LAZY = {
    "Network": "strop.frontend.network",
    "bench": "strop.engine.bench",
    "build": "strop.engine.build",
    "calibrate": "strop.engine.calibrate",
    "convert": "strop.engine.convert",
    "custom": "strop.custom",
    "layers": "strop.frontend.network",
    "profile": "strop.engine.provenance",
    "quantize": "strop.quantize",
    "report": "strop.engine.report",
    "sweep": "strop.engine.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'strop' has no attribute '{name}'")
    module = import_module(_LAZY[name])
    value = getattr(module, name, module)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
