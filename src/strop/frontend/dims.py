"""Arithmetic over dims that several frontends need."""

from __future__ import annotations

from strop.ir import shape as sh
from strop.ir.shape import Dim


def ratio(have: Dim, size: Dim) -> float | None:
    """size / have; of symbolic dims only where that is the same for all values of the symbols, else None."""
    if isinstance(size, int) and isinstance(have, int):
        return size / have if have > 0 else None
    if size == have:
        return 1.0
    grows, shrinks = sh.floordiv(size, have), sh.floordiv(have, size)
    if isinstance(grows, int) and sh.mul(have, grows) == size:
        return float(grows)
    return 1.0 / shrinks if isinstance(shrinks, int) and sh.mul(size, shrinks) == have else None
