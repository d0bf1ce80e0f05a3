"""Loggers, dims, weights, dtypes, host memory."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from strop.compat.memory import array_at
from strop.compat.tensorrt.enums import DataType, Severity
from strop.errors import StropError
from strop.ir import dtype as dt
from strop.ir.dtype import DType

# ---- logging


class ILogger:
    """Receives messages. Subclasses override ``log``."""

    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self, min_severity: Any = Severity.WARNING) -> None:
        self.min_severity = min_severity

    def log(self, severity: Any, msg: str) -> None:
        """Called with every message."""
        raise NotImplementedError("ILogger.log must be overridden")


class Logger(ILogger):
    """Writes messages of at least a severity to the error output."""

    def log(self, severity: Any, msg: str) -> None:
        if severity <= self.min_severity:
            print(f"[TRT] [{'XEWIV'[severity]}] {msg}", file=sys.stderr)


def tell(logger: ILogger | None, severity: Any, message: str) -> None:
    """Gives a logger a message."""
    if logger is not None:
        logger.log(severity, message)


def failed(logger: ILogger | None, error: Exception | str) -> None:
    """Logs an error and answers None, which is how TensorRT's builders say that something failed."""
    tell(logger, Severity.ERROR, str(error))


# ---- context managers

SelfT = TypeVar("SelfT", bound="Managed")


class Managed:
    """Objects of versions before 10 are used in ``with`` blocks, which do nothing."""

    def __enter__(self: SelfT) -> SelfT:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def __del__(self) -> None:
        return None


class Flags:
    """Settings that are bits of one number."""

    flags = 0

    def set_flag(self, flag: Any) -> bool:
        """Sets a flag."""
        self.flags |= 1 << int(flag)
        return True

    def clear_flag(self, flag: Any) -> bool:
        """Clears a flag."""
        self.flags &= ~(1 << int(flag))
        return True

    def get_flag(self, flag: Any) -> bool:
        """Whether a flag is set."""
        return bool(self.flags >> int(flag) & 1)


# ---- dims


class Dims(list[int]):
    """A shape: a sequence of at most 8 sizes that may be changed, equal to a tuple or list of the same sizes."""

    MAX_DIMS = 8

    def __init__(self, *sizes: Any) -> None:
        given = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], Iterable) else sizes
        super().__init__(int(size) for size in given)
        if len(self) > self.MAX_DIMS:
            raise ValueError(f"dims have at most {self.MAX_DIMS} sizes, not {len(self)}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (list, tuple)) and tuple(self) == tuple(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return tuple(found) if isinstance(index, slice) else found

    def __repr__(self) -> str:
        return f"({', '.join(map(str, self))}{',' * (len(self) == 1)})"

    __str__ = __repr__

    @property
    def nbDims(self) -> int:
        """Number of sizes."""
        return len(self)

    numel = property(lambda self: volume(self))


class Dims2(Dims):
    """Two sizes."""


class DimsHW(Dims2):
    """Height and width."""

    @property
    def h(self) -> int:
        return int(self[0])

    @h.setter
    def h(self, value: int) -> None:
        self[0] = value

    @property
    def w(self) -> int:
        return int(self[1])

    @w.setter
    def w(self, value: int) -> None:
        self[1] = value


class Dims3(Dims):
    """Three sizes."""


class Dims4(Dims):
    """Four sizes."""


class Permutation(Dims):
    """An order of axes."""

    def __init__(self, order: Iterable[int] = range(8)) -> None:
        super().__init__(list(order))


def volume(iterable: Iterable[int]) -> int:
    """The product of sizes; 1 for none."""
    total = 1
    for size in iterable:
        total *= int(size)
    return total


# ---- dtypes


_OWN: dict[Any, DType] = {
    DataType.FLOAT: dt.f32,
    DataType.HALF: dt.f16,
    DataType.INT8: dt.i8,
    DataType.INT32: dt.i32,
    DataType.BOOL: dt.boolean,
    DataType.UINT8: dt.u8,
    DataType.BF16: dt.bf16,
    DataType.INT64: dt.i64,
}
_THEIRS = {own: theirs for theirs, own in _OWN.items()}
_SIZES = {DataType.FP8: 1, DataType.E8M0: 1, DataType.INT4: 0.5, DataType.FP4: 0.5}
DataType.itemsize = property(lambda self: _SIZES[self] if self in _SIZES else _OWN[self].size)


def own_dtype(given: Any) -> DType:
    """Our dtype of a DataType or a numpy dtype; TypeError for one that values cannot have."""
    if isinstance(given, DataType):
        if given not in _OWN:
            raise TypeError(f"values of {given.name} are not supported")
        return _OWN[given]
    return dt.from_numpy(given)


def their_dtype(own: DType) -> Any:
    """The DataType of our dtype; TypeError where TensorRT has none."""
    if own not in _THEIRS:
        raise TypeError(f"TensorRT has no counterpart of {own}")
    return _THEIRS[own]


def nptype(trt_type: Any) -> Any:
    """The numpy type of a DataType; TypeError for those that numpy does not have."""
    if trt_type not in _OWN or trt_type == DataType.BF16:
        raise TypeError(f"numpy has no counterpart of {trt_type!r}")
    return _OWN[trt_type].numpy.type


class Weights:
    """Weights: ``Weights(array)``, ``Weights(dtype)`` for none, or ``Weights(dtype, address, count)``."""

    def __init__(self, a: Any = DataType.FLOAT, ptr: int | None = None, count: int = 0) -> None:
        self._array: np.ndarray[Any, Any]
        if isinstance(a, DataType) and ptr is not None:
            self._array = array_at(int(ptr), own_dtype(a).numpy, (count,))
        elif isinstance(a, DataType):
            self._array = np.empty(0, own_dtype(a).numpy)
        else:
            self._array = np.ascontiguousarray(a)

    @property
    def dtype(self) -> Any:
        """DataType of the elements."""
        return their_dtype(dt.from_numpy(self._array.dtype))

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self._array.size)

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return int(self._array.nbytes)

    def numpy(self) -> np.ndarray[Any, Any]:
        """The array."""
        return self._array

    def __len__(self) -> int:
        return self.size


def array_of(weights: Any) -> np.ndarray[Any, Any] | None:
    """The array of Weights, of an array, or of something that numpy understands; None for none."""
    if weights is None:
        return None
    found: np.ndarray[Any, Any] = weights.numpy() if isinstance(weights, Weights) else np.asarray(weights)
    return found if found.size else None


# ---- memory


class IHostMemory(bytearray):
    """A serialized engine: a buffer, as samples write it to a file or hand it to a runtime."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return len(self)

    @property
    def dtype(self) -> Any:
        """DataType.INT8."""
        return DataType.INT8

    def __enter__(self) -> IHostMemory:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __del__(self) -> None:
        return None


class IErrorRecorder:
    """Gathers errors; subclasses override the methods."""

    MAX_DESC_LENGTH = 127

    def __init__(self) -> None:
        return None

    def report_error(self, val: Any, desc: str) -> bool:
        """Called with every error."""
        return False

    def num_errors(self) -> int:
        """How many there were."""
        return 0

    def get_error_code(self, arg0: int) -> Any:
        """The code of an error."""
        return None

    def get_error_desc(self, arg0: int) -> str:
        """The text of an error."""
        return ""

    def has_overflowed(self) -> bool:
        """Whether errors were lost."""
        return False

    def clear(self) -> None:
        """Forgets errors."""


def note(logger: ILogger | None, what: str) -> None:
    """Logs that a setting has no effect here."""
    tell(logger, Severity.VERBOSE, f"{what} is accepted and has no effect")


def deprecated(what: str) -> None:
    """Warns of a call that newer versions of TensorRT do not have."""
    warnings.warn(what, DeprecationWarning, stacklevel=3)


#: What a failed call may raise underneath.
FAILURES = (StropError, ValueError, TypeError, OSError)
