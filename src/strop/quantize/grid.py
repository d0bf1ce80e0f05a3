"""Scale and zero point of a grid over a range: real = (integer - zero) * scale, or real = f8e4m3 * scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import cast_array
from strop.ir.op import Array
from strop.ops.base import highest, lowest

#: Least scale: keeps quotients by it finite, also where a range is a single number or all zeros.
LEAST = 2.0**-100
#: Largest magnitude of a symmetric 8-bit integer; -128 is not used, so that the negative of a weight is a weight.
SYMMETRIC = 127


@dataclass(frozen=True)
class Grid:
    """Quantization of a whole tensor: a float32 scale and a zero point of the integer's dtype; 0 for floats of 8 bits."""

    dtype: DType
    scale: float
    zero: int

    @property
    def low(self) -> float:
        """Least number on the grid."""
        return (int(lowest(self.dtype)) - self.zero) * self.scale

    @property
    def high(self) -> float:
        """Greatest number on the grid."""
        return (int(highest(self.dtype)) - self.zero) * self.scale

    @property
    def half(self) -> float:
        """Half a step at the ends of the grid: what lies no further beyond them is rounded, and does not saturate."""
        return 16 * self.scale if self.dtype.is_float else self.scale / 2

    def quantized(self, array: Array) -> Array:
        """Integers, saturating, halves rounded to even (ONNX QuantizeLinear)."""
        if self.dtype.is_float:
            return cast_array(np.asarray(array, np.float32) / np.float32(self.scale), self.dtype)
        places = np.rint(np.asarray(array, np.float32) / np.float32(self.scale)) + self.zero
        return np.asarray(np.clip(places, int(lowest(self.dtype)), int(highest(self.dtype))).astype(self.dtype.numpy))

    def rounded(self, array: Array) -> Array:
        """The numbers on the grid that stand for these, float32."""
        return self.real(self.quantized(array))

    def real(self, integers: Array) -> Array:
        """The numbers that integers stand for, float32 (ONNX DequantizeLinear)."""
        if self.dtype.is_float:
            return np.asarray(integers.astype(np.float32) * np.float32(self.scale))
        return np.asarray((integers.astype(np.int32) - self.zero).astype(np.float32) * np.float32(self.scale))


def affine(low: float, high: float, dtype: DType = dt.u8) -> Grid:
    """The grid over [low, high] widened to hold 0, on which 0 is exact (ONNX DynamicQuantizeLinear; Jacob et al., 2018, section 2.1)."""
    least, most = int(lowest(dtype)), int(highest(dtype))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = _scale((high - low) / (most - least))
    zero = int(np.clip(np.rint(least - low / scale), least, most))
    return Grid(dtype, scale, zero)


def symmetric(most: float, dtype: DType = dt.i8) -> Grid:
    """The grid over [-most, most] with zero point 0, on which the least integer is not used; of integers, or of floats of 8 bits."""
    return Grid(dtype, _scale(most / int(highest(dtype))), 0)


def _scale(step: float) -> float:
    return float(np.float32(max(step, LEAST)))


def weight_scales(array: Array, axis: int, dtype: DType = dt.i8, greatest: int | None = None) -> Array:
    """Per index of an axis the scale of the symmetric grid that holds all weights there, float32; ``greatest``: number of the type that the largest one
    becomes, by default its highest."""
    others = tuple(k for k in range(array.ndim) if k != axis)
    most = np.abs(array.astype(np.float64)).max(axis=others)
    return np.asarray(np.maximum(most / float(greatest or highest(dtype)), LEAST).astype(np.float32))


def quantized_weights(array: Array, scales: Array, axis: int, dtype: DType = dt.i8) -> Array:
    """i8 or f8e4m3 weights on the grids of ``weight_scales``, halves rounded to even."""
    shape = [1] * array.ndim
    shape[axis] = -1
    places = array.astype(np.float32) / scales.reshape(shape)
    if dtype.is_float:
        return cast_array(places, dtype)
    places = np.rint(places)
    return np.clip(places, -SYMMETRIC, SYMMETRIC).astype(np.int8)
