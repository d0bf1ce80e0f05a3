"""What stands for ``tensorflow`` where it is not installed: ``lite``, and the dtypes that converters are told.

Everything else of TensorFlow is refused by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.compat import tflite as lite
from strop.ir import dtype as dt

__all__ = ["DType", "lite"]
__version__ = "2.21.0"


class DType:
    """An element type under TensorFlow's name.

    Attributes:
        name: as TensorFlow writes it.
        as_numpy_dtype: numpy's type.
    """

    def __init__(self, name: str, dtype: Any) -> None:
        self.name = name
        self.as_numpy_dtype = np.dtype(dtype).type

    def __repr__(self) -> str:
        return f"tf.{self.name}"


def _types() -> dict[str, DType]:
    names = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    return {name: DType(name, name) for name in names} | {"bool": DType("bool", np.bool_), "bfloat16": DType("bfloat16", dt.bf16.numpy)}


globals().update(_types())


def __getattr__(name: str) -> Any:
    raise AttributeError(f"tensorflow.{name} is not there: strop.compat has tensorflow.lite and dtypes; pip install tensorflow for the rest")
