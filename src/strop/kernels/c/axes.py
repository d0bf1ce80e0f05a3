"""Loop axes that several views share."""

from __future__ import annotations

from dataclasses import dataclass

from strop.kernels.base import View


@dataclass(frozen=True)
class Axes:
    """Loop axes of a result, outermost first: extents, and one stride tuple per view (the result first)."""

    extents: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    @staticmethod
    def merged(views: list[View]) -> Axes:
        """Orders axes by the first view's strides, drops those of length 1 and merges neighbours that all views walk alike."""
        first = views[0]
        order = [a for a in first.order() if first.shape[a] != 1]
        extents: list[int] = []
        strides: list[list[int]] = [[] for _ in views]
        for axis in order:
            steps = [v.strides[axis] for v in views]
            size = first.shape[axis]
            if extents and all(s[-1] == step * size for s, step in zip(strides, steps, strict=True)):
                extents[-1] *= size
                for s, step in zip(strides, steps, strict=True):
                    s[-1] = step
                continue
            extents.append(size)
            for s, step in zip(strides, steps, strict=True):
                s.append(step)
        if not extents:
            extents, strides = [1], [[1] for _ in views]
        return Axes(tuple(extents), tuple(map(tuple, strides)))
