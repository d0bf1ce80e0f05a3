"""Functions of CUDA's device library on the interpreter's tensors, by numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import TensorHandle


def _function(way: Callable[..., Any]) -> Callable[..., Any]:
    def on_tensors(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            data = way(*(a.handle.data for a in args)).astype(args[0].handle.data.dtype)
        return tl.core.tensor(TensorHandle(data, args[0].handle.dtype), tl.core.block_type(args[0].dtype, list(data.shape)) if data.ndim else args[0].type)

    return on_tensors


for _name, _way in {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "expm1": np.expm1, "fmod": np.fmod, "log1p": np.log1p, "pow": np.power, "rint": np.rint, "tan": np.tan, "tanh": np.tanh, "sinh": np.sinh,
    "cosh": np.cosh, "trunc": np.trunc,
}.items():  # fmt: skip
    globals()[_name] = _function(_way)
