"""Element types of values. Codes are part of the engine file format and never change."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from strop.errors import UnsupportedError


@dataclass(frozen=True)
class DType:
    """An element type.

    Attributes:
        name: short name used in text, e.g. ``f32``.
        code: number in engine files.
        numpy: the numpy (or ml_dtypes) dtype that holds it.
        c: the C type of the emitted code.
    """

    name: str
    code: int
    numpy: np.dtype[np.generic]
    c: str

    @property
    def size(self) -> int:
        """Bytes per element."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        """True for f64, f32, f16, bf16 and f8e4m3."""
        return self.name in ("f64", "f32", "f16", "bf16", "f8e4m3")

    @property
    def is_int(self) -> bool:
        """True for signed and unsigned integers, not bool."""
        return self.name[0] in "iu"

    @property
    def is_signed(self) -> bool:
        """True for floats and signed integers."""
        return self.is_float or self.name[0] == "i"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


def _make(name: str, code: int, numpy: DTypeLike, c: str) -> DType:
    return DType(name, code, np.dtype(numpy), c)


f32 = _make("f32", 1, np.float32, "float")
u8 = _make("u8", 2, np.uint8, "uint8_t")
i8 = _make("i8", 3, np.int8, "int8_t")
u16 = _make("u16", 4, np.uint16, "uint16_t")
i16 = _make("i16", 5, np.int16, "int16_t")
i32 = _make("i32", 6, np.int32, "int32_t")
i64 = _make("i64", 7, np.int64, "int64_t")
boolean = _make("bool", 9, np.bool_, "bool")
f16 = _make("f16", 10, np.float16, "_Float16")
f64 = _make("f64", 11, np.float64, "double")
u32 = _make("u32", 12, np.uint32, "uint32_t")
u64 = _make("u64", 13, np.uint64, "uint64_t")
bf16 = _make("bf16", 16, ml_dtypes.bfloat16, "uint16_t")
#: 4 bits of exponent, 3 of mantissa, no infinities, one NaN per sign, finite up to 448 (OCP 8-bit Floating Point Specification, E4M3).
f8e4m3 = _make("f8e4m3", 17, ml_dtypes.float8_e4m3fn, "uint8_t")
#: The greatest finite f8e4m3.
F8_MAX = 448.0

ALL: tuple[DType, ...] = (
    f32, u8, i8, u16, i16, i32, i64, boolean, f16, f64, u32, u64, bf16, f8e4m3,
)  # fmt: skip
#: Those that code for processors has, and models bring.
ON_PROCESSORS = tuple(d for d in ALL if d is not f8e4m3)
BY_NAME: dict[str, DType] = {d.name: d for d in ALL}
BY_CODE: dict[int, DType] = {d.code: d for d in ALL}
_BY_NUMPY: dict[np.dtype[np.generic], DType] = {d.numpy: d for d in ALL}


def from_numpy(dtype: DTypeLike) -> DType:
    """The DType of a numpy dtype; raises UnsupportedError for strings, objects and others."""
    found = _BY_NUMPY.get(np.dtype(dtype))
    if found is None:
        raise UnsupportedError(
            f"numpy dtype {np.dtype(dtype)} has no counterpart",
            expected=", ".join(d.name for d in ALL),
        )
    return found
