"""How the integers of a TFLite tensor stand for real numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strop.ir.op import Array


@dataclass(frozen=True)
class Grid:
    """How integers stand for real numbers: real = (integer - zero) * scale.

    Attributes:
        scale: f32, one number or one per index of ``axis``.
        zero: i64, as many.
        axis: quantized dimension, of a grid with several scales.
    """

    scale: Array
    zero: Array
    axis: int

    def same(self, other: Grid | None) -> bool:
        """Whether another grid is equal."""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero, other.zero)
            and (self.scale.size == 1 or self.axis == other.axis)
        )
