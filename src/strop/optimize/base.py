"""What passes share: their signature, options, and arithmetic on constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop import knobs
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value
from strop.ir.op import Array
from strop.ir.shape import Shape
from strop.trace import Trace


@dataclass(frozen=True)
class Options:
    """What a user may decide about the portable rewrites.

    Attributes:
        strict_nans: keep the sign of zeros and every NaN as the model's arithmetic gives them: rewrites
            that hold for ordinary numbers only (``x + 0.0``, ``pow(x, 0.5)``, a reciprocal that is
            not exact) are left out. By default what ``STROP_STRICT_NANS`` says.
        fold_bytes: a constant result larger than this is only computed when it is not much larger than
            the constants it is made of.
        view_price: what a transposition that only moves axes of size 1 costs; 0 where a reshape is no step.
    """

    strict_nans: bool = field(default_factory=lambda: bool(knobs.STRICT_NANS.get()))
    fold_bytes: int = 1 << 20
    view_price: int = 0


#: A pass edits a graph in place.
Pass = Callable[[Graph, Trace, Options], None]


def is_float(value: Value) -> bool:
    """True for a value of floating point type."""
    return value.dtype.is_float


def along_axis(array: Array, shape: Shape, axis: int) -> Array | None:
    """A constant that meets a value of ``shape`` by broadcasting, as one float64 per index of ``axis``.

    None when it varies along another axis, would enlarge the value, or the axis is symbolic.
    """
    size = shape[axis]
    if not isinstance(size, int) or array.ndim > len(shape):
        return None
    extents = (1,) * (len(shape) - array.ndim) + array.shape
    if any(extent != 1 for k, extent in enumerate(extents) if k != axis):
        return None
    if extents[axis] not in (1, size):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (size,))


def narrow(array: Any, dtype: dt.DType) -> Array | None:
    """A float64 result rounded to a float dtype; None when that makes infinities or NaNs of it."""
    wide = np.asarray(array)
    with np.errstate(all="ignore"):
        rounded = wide.astype(dtype.numpy)
    return rounded if bool(np.isfinite(rounded.astype(np.float64)).all()) else None


def wide(array: Array) -> Array:
    """A constant in float64."""
    return array.astype(np.float64)
