"""Helpers of the ops that take index operands or bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.errors import InputError, ShapeError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.expr import Expr
from strop.ir.op import Array, Op, Type
from strop.ir.shape import Dim
from strop.ops import base


def check_indices(op: Op, inputs: Sequence[Type], number: int = 1) -> None:
    """ShapeError unless an operand is i32 or i64."""
    if inputs[number].dtype not in (dt.i32, dt.i64):
        raise op.fail(f"operand {number} holds no indices", inputs, "i32 or i64")


def resolved(op: Op, indices: Array, size: int) -> Array:
    """Indices as int64 with negative ones counted from the end; InputError when out of range."""
    whole = indices.astype(np.int64)
    bad = whole[(whole < -size) | (whole >= size)]
    if bad.size:
        raise InputError(
            f"{op.name}: an index is out of range", got=bad[0], expected=f"-{size}..{size - 1}"
        )
    return np.where(whole < 0, whole + size, whole)


def load_index(given: Type, number: int, position: Sequence[Expr]) -> Expr:
    """An element of an index operand as int64."""
    return base.load(number, given.dtype, position, dt.i64)


def counted_from_end(index: Expr, extent: Dim) -> Expr:
    """The index, plus the extent when negative."""
    return base.select(index < base.integer(0), index + base.size(extent), index)


def random_indices(
    rng: np.random.Generator, shape: Sequence[int], size: int, dtype: dt.DType = dt.i64
) -> Array:
    """Indices into an axis, about half of them negative."""
    return np.asarray(rng.integers(-size, size, shape)).astype(dtype.numpy)


def element_places(op: Op, x: Array, indices: Array, axis: int) -> tuple[Array, ...]:
    """numpy index arrays that address x[.., indices, ..] element by element."""
    axis = base.axis_of(op, axis, x.ndim)
    places: list[Array] = list(np.indices(indices.shape, sparse=True))
    places[axis] = resolved(op, indices, x.shape[axis])
    return tuple(places)


def check_aligned(op: Op, inputs: Sequence[Type], axis: int, indices: Type) -> None:
    """ShapeError unless indices have x's rank and fit into x beside the axis."""
    x = inputs[0]
    if x.rank != indices.rank or x.rank == 0:
        raise op.fail("x and indices differ in rank", inputs, "equal rank, 1 or more")
    axis = base.axis_of(op, axis, x.rank)
    for k, (have, wanted) in enumerate(zip(x.shape, indices.shape, strict=True)):
        if k != axis and isinstance(have, int) and isinstance(wanted, int) and wanted > have:
            raise op.fail(f"indices are longer than x along axis {k}", inputs)


def slice_bounds(size: Dim, start: Dim, stop: Dim, step: int) -> tuple[Dim, Dim]:
    """Normalized start and stop on one axis."""
    if not (isinstance(start, int) and isinstance(stop, int)):
        return _symbolic_bounds(size, start, stop, step)
    if isinstance(size, int):
        begin, end, _ = slice(start, stop, step).indices(size)
        return begin, end
    far = (1 << 31) - 1
    if step > 0:
        first: Dim = 0 if start <= -far else _clamped(size, start, 0, size)
        last = size if stop >= far else _clamped(size, stop, 0, size)
        return first, last
    top = sh.sub(size, 1)
    first = top if start >= far else _clamped(size, start, -1, top)
    last = -1 if stop <= -far else _clamped(size, stop, -1, top)
    return first, last


def _symbolic_bounds(size: Dim, start: Dim, stop: Dim, step: int) -> tuple[Dim, Dim]:
    """As ``slice_bounds``, where start or stop depends on symbols; a slice that would be empty ends where it begins."""
    far = (1 << 31) - 1
    if step > 0:
        first = 0 if isinstance(start, int) and start <= -far else _clamped(size, start, 0, size)
        last = size if isinstance(stop, int) and stop >= far else _clamped(size, stop, 0, size)
        return first, sh.maximum(first, last)
    top = sh.sub(size, 1)
    first = top if isinstance(start, int) and start >= far else _clamped(size, start, -1, top)
    last = -1 if isinstance(stop, int) and stop <= -far else _clamped(size, stop, -1, top)
    return first, sh.minimum(first, last)


def _clamped(size: Dim, index: Dim, low: int, high: Dim) -> Dim:
    """An index, counted from the end when it is negative, within low..high.

    Raises:
        ShapeError: it depends on symbols, and may be negative or not.
    """
    least, most = sh.bounds(index)
    if least >= 0:
        return sh.minimum(index, high)
    if most >= 0:
        raise ShapeError(
            "slice: a bound may count from the front or from the end", got=index, hint="give the symbols a range with --shape"
        )
    return sh.maximum(sh.add(size, index), low)
