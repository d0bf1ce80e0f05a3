"""The PTX of ``kernels.triton.pack`` on the interpreter's tensors, by numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import TensorHandle

from strop.kernels.triton.pack import TO_BYTES


def _rounded(low: int, high: int, kind: type) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.clip(np.rint(np.nan_to_num(x.astype(np.float64))), low, high).astype(kind)


_MEANINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    TO_BYTES["s8"]: _rounded(-128, 127, np.int8),
    TO_BYTES["u8"]: _rounded(0, 255, np.uint8),
}


def run(asm: str, constraints: str, args: Sequence[Any], dtype: Any, is_pure: bool, pack: int) -> Any:
    """What ``tl.inline_asm_elementwise`` gives."""
    (given,) = args
    data = _MEANINGS[asm](np.ascontiguousarray(given.handle.data))
    return tl.core.tensor(TensorHandle(data, dtype), tl.core.block_type(dtype, list(data.shape)) if data.ndim else dtype)


def between(first: Any, last: Any) -> range:
    """``range`` of numbers that the interpreter keeps in arrays of one element."""
    return range(*(int(n.handle.data.reshape(-1)[0]) for n in (first, last)))
