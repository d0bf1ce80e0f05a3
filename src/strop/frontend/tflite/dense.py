"""Sparse tensors of TFLite made dense (tensorflow/lite/kernels/internal/utils/sparsity_format_converter)."""

from __future__ import annotations

from math import prod

import numpy as np

from strop.errors import ModelError
from strop.frontend.tflite.model import Sparsity
from strop.ir.op import Array

#: Most elements that one may have, and how many for each that is stored.
MAX_ELEMENTS, MAX_RATIO = 1 << 28, 1 << 12


def densified(values: Array, sparsity: Sparsity, shape: tuple[int, ...], where: str) -> Array:
    """The dense array.

    Each level adds one coordinate: all indices of a dense one, the stored indices of a compressed one. Inner axes of blocks then
    refine the coordinate of the axis that they split.

    Args:
        values: stored elements.
        sparsity: how they are stored.
        shape: of the result.
        where: the tensor, for messages.

    Raises:
        ModelError: the description is inconsistent, or the tensor is too large.
    """
    rank, levels = len(shape), sparsity.levels
    if (
        sorted(sparsity.order) != list(range(len(levels)))
        or len(levels) != rank + len(sparsity.blocks)
        or any(not 0 <= axis < rank for axis in sparsity.blocks)
    ):
        raise ModelError("the axes of a sparse tensor do not fit", where=where, got=sparsity.order, expected=f"rank {rank} and blocks {sparsity.blocks}")
    most = prod(shape)
    if most > min(MAX_ELEMENTS, MAX_RATIO * max(len(values), 1)):
        raise ModelError("a sparse tensor is too large", where=where, got=f"{most} elements", expected=f"at most {MAX_ELEMENTS}, and {MAX_RATIO} for each that is stored")
    place = np.zeros(1, np.int64)
    walked: list[Array] = []
    sizes = [0] * len(levels)
    for number, level in enumerate(levels):
        if level.segments is None or level.indices is None:
            sizes[number] = level.size
            if not 0 <= level.size * len(place) <= most:
                raise ModelError("a sparse tensor is too large", where=where, got=level.size)
            parent = np.repeat(np.arange(len(place)), level.size)
            index = np.tile(np.arange(level.size), len(place))
            place = place[parent] * level.size + index
        else:
            starts, ends = _bounds(level.segments, level.indices, place, where)
            counts = ends - starts
            if not 0 <= counts.sum() <= most:
                raise ModelError("a sparse tensor is too large", where=where, got=int(counts.sum()))
            parent = np.repeat(np.arange(len(place)), counts)
            place = np.arange(len(parent)) - np.repeat(np.cumsum(counts) - counts, counts) + starts[parent]
            index = level.indices[place]
        walked = [*(coordinate[parent] for coordinate in walked), index]
    if len(place) and (place.max() >= len(values) or place.min() < 0):
        raise ModelError("a sparse tensor has fewer values than its axes say", where=where, got=len(values), expected=int(place.max()) + 1)
    by_axis = {axis: walked[level] for level, axis in enumerate(sparsity.order)}
    extent = {axis: sizes[level] for level, axis in enumerate(sparsity.order)}
    coordinates = [by_axis[axis] for axis in range(rank)]
    for number, axis in enumerate(sparsity.blocks):
        coordinates[axis] = coordinates[axis] * extent[rank + number] + by_axis[rank + number]
    for axis, coordinate in enumerate(coordinates):
        if len(coordinate) and not 0 <= coordinate.min() <= coordinate.max() < shape[axis]:
            raise ModelError("an index of a sparse tensor is out of range", where=where, got=int(coordinate.max()), expected=f"below {shape[axis]}")
    dense = np.zeros(shape, values.dtype)
    dense[tuple(coordinates)] = values[place]
    return dense


def _bounds(segments: Array, indices: Array, place: Array, where: str) -> tuple[Array, Array]:
    """Where the entries of each parent begin and end."""
    if len(place) and (place.max() + 1 >= len(segments) or place.min() < 0):
        raise ModelError("a sparse axis has too few segments", where=where, got=len(segments), expected=int(place.max()) + 2)
    starts, ends = segments[place], segments[place + 1]
    if len(place) and ((starts < 0) | (ends < starts) | (ends > len(indices))).any():
        raise ModelError("the segments of a sparse axis are out of order", where=where)
    return starts, ends
