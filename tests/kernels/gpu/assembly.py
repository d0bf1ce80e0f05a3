"""The PTX of kernels on the interpreter's tensors, by numpy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import TensorHandle

from strop.kernels.triton.pack import TO_BYTES
from strop.kernels.triton.recurrent_persistent import ACQUIRE
from tests.kernels.gpu import together


def _rounded(low: int, high: int, kind: type) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.clip(np.rint(np.nan_to_num(x.astype(np.float64))), low, high).astype(kind)


def _read(pointer: np.ndarray) -> np.ndarray:
    together.waiting()
    return np.array([ctypes.c_int32.from_address(int(p)).value for p in pointer.ravel()], np.int32).reshape(pointer.shape)


_MEANINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    TO_BYTES["s8"]: _rounded(-128, 127, np.int8),
    TO_BYTES["u8"]: _rounded(0, 255, np.uint8),
    ACQUIRE: _read,
}


def run(asm: str, constraints: str, args: Sequence[Any], dtype: Any, is_pure: bool, pack: int) -> Any:
    """What ``tl.inline_asm_elementwise`` gives."""
    (given,) = args
    data = _MEANINGS[asm](np.ascontiguousarray(given.handle.data))
    return tl.core.tensor(TensorHandle(data, dtype), tl.core.block_type(dtype, list(data.shape)) if given.type.is_block() else dtype)


def between(first: Any, last: Any) -> range:
    """``range`` of numbers that the interpreter keeps in arrays of one element."""
    return range(*(int(n.handle.data.reshape(-1)[0]) for n in (first, last)))
