"""TensorFlow Lite's Python API on Strop: ``from strop.compat import tflite`` in the place of ``tf.lite``.

``strop.compat.tflite.interpreter`` is what ``tflite_runtime.interpreter`` and ``ai_edge_litert.interpreter`` are. ``python -m strop.compat run
script.py`` runs a script with all these names replaced. TensorFlow is not needed. docs/tflite-coverage.md says what works, member by member.
A process that only runs engines imports no converter.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strop.compat.tflite import experimental
    from strop.compat.tflite.converter import TFLiteConverter
    from strop.compat.tflite.interpreter import Interpreter
    from strop.compat.tflite.options import OpsSet, Optimize, RepresentativeDataset, TargetSpec

__all__ = ["Interpreter", "OpsSet", "Optimize", "RepresentativeDataset", "TFLiteConverter", "TargetSpec", "experimental"]

#: Where a name is imported from at first use; a name that its module does not have is the module.
_LAZY = {
    "Interpreter": "strop.compat.tflite.interpreter",
    "OpsSet": "strop.compat.tflite.options",
    "Optimize": "strop.compat.tflite.options",
    "RepresentativeDataset": "strop.compat.tflite.options",
    "TFLiteConverter": "strop.compat.tflite.converter",
    "TargetSpec": "strop.compat.tflite.options",
    "experimental": "strop.compat.tflite.experimental",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'strop.compat.tflite' has no attribute '{name}'; docs/tflite-coverage.md lists what is there")
    module = import_module(_LAZY[name])
    value = getattr(module, name, module)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
