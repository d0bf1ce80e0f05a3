"""Algebra of views: which reshapes, transposes and slices need no bytes moved."""

from __future__ import annotations

from collections.abc import Sequence

from strop.ir.dtype import DType
from strop.kernels.base import View


def transposed(view: View, perm: Sequence[int]) -> View:
    """The view with axes permuted."""
    return View(tuple(view.shape[p] for p in perm), tuple(view.strides[p] for p in perm), view.dtype)


def sliced(view: View, axis: int, start: int, size: int, step: int = 1) -> tuple[View, int]:
    """(view, offset in elements) of ``size`` elements of an axis from ``start`` on."""
    shape, strides = list(view.shape), list(view.strides)
    offset = start * strides[axis]
    shape[axis] = size
    strides[axis] *= step
    return View(tuple(shape), tuple(strides), view.dtype), offset


def reshaped(view: View, shape: Sequence[int]) -> View | None:
    """The view under another shape of equal size, or None when bytes would have to move."""
    if view.count == 0 or view.is_dense():
        return View.dense(shape, view.dtype)
    old = [(d, s) for d, s in zip(view.shape, view.strides, strict=True) if d != 1]
    runs = _runs(old)
    strides: list[int] = [0] * len(shape)
    run, left = 0, runs[0][0] if runs else 1
    step = runs[0][1] * runs[0][0] if runs else 1
    for axis, dim in enumerate(shape):
        if dim == 1:
            continue
        if left == 1:
            run += 1
            if run >= len(runs):
                return None
            left = runs[run][0]
            step = runs[run][1] * left
        if left % dim:
            return None
        left //= dim
        step //= dim
        strides[axis] = step
    return _fill_ones(shape, strides, view.dtype)


def _runs(dims: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merges neighbouring axes that are evenly spaced: (elements, stride) per run."""
    runs: list[tuple[int, int]] = []
    for dim, stride in dims:
        if runs and runs[-1][1] == dim * stride:
            runs[-1] = (runs[-1][0] * dim, stride)
        else:
            runs.append((dim, stride))
    return runs


def _fill_ones(shape: Sequence[int], strides: list[int], dtype: DType) -> View:
    """Gives axes of length 1 the stride they would have in a dense array, so that views print and compare well."""
    step = 1
    for axis in reversed(range(len(shape))):
        if shape[axis] == 1:
            strides[axis] = step
        else:
            step = strides[axis] * shape[axis]
    return View(tuple(shape), tuple(strides), dtype)


def channels_last(rank: int) -> tuple[int, ...]:
    """Axis order N, spatial..., C of a logical N, C, spatial... value."""
    return (0, *range(2, rank), 1)
