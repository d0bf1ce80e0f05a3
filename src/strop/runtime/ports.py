"""Inputs and outputs of an engine as numpy sees them, and the arrays of pointers that a run takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from ctypes import addressof, c_char, c_void_p
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike, NDArray

from strop.errors import InputError
from strop.ir.dtype import DType

Array: TypeAlias = NDArray[Any]

_PLAIN = 0x101  # numpy's flags C_CONTIGUOUS and ALIGNED


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of an engine: row-major.

    Attributes:
        shape: the only one, or the one that the engine was tuned for.
        least: where the shape is free: the smallest dims that the engine serves; else empty.
        most: likewise the largest.
        step: likewise what an input's dims are multiples of.
        is_computed: whether data decides over a dim of this output, so that only a run tells it.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    least: tuple[int, ...] = ()
    most: tuple[int, ...] = ()
    step: tuple[int, ...] = ()
    is_computed: bool = False

    @property
    def is_dynamic(self) -> bool:
        """Whether the shape is free within a range."""
        return bool(self.least)

    def __str__(self) -> str:
        dims = [str(dim) for dim in self.shape]
        for axis, (low, high, step) in enumerate(zip(self.least, self.most, self.step)):
            if low != high:
                dims[axis] = f"{low}..{high}" + (f"%{step}" if step > 1 else "")
        return f"{self.name}: {self.dtype}[{', '.join(dims)}]"


class Port:
    """An input or output as numpy sees it."""

    __slots__ = ("computed", "dtype", "free", "name", "role", "room", "shape", "text", "where")

    def __init__(self, tensor: TensorInfo, role: str, where: str) -> None:
        self.role = role
        self.where = where
        self.name = tensor.name
        self.dtype = tensor.dtype.numpy
        self.shape = tensor.shape
        self.room = 0  # elements that an output of computed shape may have, at most
        self.free = tensor.is_dynamic
        self.computed = tensor.is_computed
        self.text = str(tensor)

    def fits(self, array: Array) -> bool:
        """Whether the runtime can use the array in place."""
        return (
            array.dtype == self.dtype
            and array.shape == self.shape
            and array.flags.num & _PLAIN == _PLAIN
        )

    def adapt(self, value: ArrayLike) -> Array:
        """An array with the same elements that fits; refuses another dtype or shape."""
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise self._error("is not an array", got=error) from error
        self._check_type(array)
        return np.require(array, requirements=("C", "A"))

    def in_place(self, value: ArrayLike) -> Array:
        """The array itself; refuses one that the runtime would have to copy."""
        if not isinstance(value, ndarray):
            raise self._error("is not an array", got=type(value).__name__)
        self._check_type(value)
        if not self.fits(value):
            raise self._error(
                "cannot be read in place",
                got=f"strides {value.strides}",
                expected="a C-contiguous, aligned array",
                hint="np.require(x, requirements='CA') makes one",
            )
        return value

    def given(self, arrays: Mapping[str, Array]) -> Array:
        """The array of this name."""
        array = arrays.get(self.name)
        if array is None:
            raise self._error("is missing", got=", ".join(map(str, arrays)) or "no arrays")
        return array

    def check_output(self, array: Array, others: Sequence[Array]) -> None:
        """Refuses an array that an output cannot be written into in place."""
        if not isinstance(array, ndarray):
            raise self._error("is not an array", got=type(array).__name__)
        if self.computed:
            self._check_room(array)
        else:
            self._check_type(array)
        if not (self.computed or (self.fits(array) and array.flags.writeable)):
            raise self._error(
                "cannot be written in place",
                got=f"strides {array.strides}, writeable: {array.flags.writeable}",
                expected="a C-contiguous, aligned, writeable array",
                hint="np.empty(shape, dtype) makes one",
            )
        if any(np.may_share_memory(array, other) for other in others):
            raise self._error(
                "overlaps another array of this run",
                expected="memory of its own",
                hint="np.empty(shape, dtype) makes it",
            )

    def _check_room(self, array: Array) -> None:
        """Refuses an array that has no room for all that a run may find."""
        if array.dtype != self.dtype or array.shape != (self.room,) or not array.flags.writeable or array.flags.num & _PLAIN != _PLAIN:
            raise self._error(
                "cannot be written into the given array",
                got=f"{array.dtype}{list(array.shape)}",
                expected=f"a flat, writeable array of {self.room} {self.dtype}: its shape is known after the run",
                hint="context.new_outputs() makes one",
            )

    def _check_type(self, array: Array) -> None:
        if array.dtype != self.dtype:
            hint = f"convert it: x.astype('{self.dtype}')"
            raise self._error("has the wrong dtype", array.dtype, self.dtype, hint)
        if array.shape != self.shape:
            raise self.wrong_shape(array.shape)

    def wrong_shape(self, shape: tuple[int, ...]) -> InputError:
        """The error for an array of this shape."""
        return self._error("has the wrong shape", shape, self.text if self.free else self.shape)

    def _error(
        self, what: str, got: object = None, expected: object = None, hint: str | None = None
    ) -> InputError:
        return InputError(
            f"{self.role} '{self.name}' {what}",
            where=self.where,
            got=got,
            expected=self.text if expected is None else expected,
            hint=hint,
        )


def _no_array() -> None:
    return None


class Slots:
    """The array of pointers that a run takes; remembers whose address each slot holds.

    Asking numpy for an address is a large part of a short call, so it is not repeated for an
    array that is still the same. numpy refuses to move the data of an array that has a weak
    reference to it.
    """

    __slots__ = ("_addresses", "_owners", "pointers")

    def __init__(self, count: int) -> None:
        self.pointers = (c_void_p * (count + 1))()  # one spare: a view of nothing is refused
        self._addresses = memoryview(self.pointers).cast("B").cast("P")
        self._owners: list[Callable[[], Array | None]] = [_no_array] * count

    def point_at(self, index: int, array: Array) -> None:
        """The slot holds the address of `array`."""
        if self._owners[index]() is not array:
            self.point_at_new(index, array)
            self._owners[index] = weakref.ref(array)

    def point_at_new(self, index: int, array: Array) -> None:
        """The same for an array that was in no slot before and will not be again."""
        self._owners[index] = _no_array
        self._addresses[index] = _address(array)


def _address(array: Array) -> int:
    try:
        return addressof(c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):  # read-only, empty, or a dtype of ml_dtypes
        return array.ctypes.data


def list_of(ports: Sequence[Port]) -> str:
    """The ports in words."""
    return "; ".join(port.text for port in ports) or "none"


def check_names(given: Mapping[str, object], ports: Sequence[Port], where: str) -> None:
    """Refuses names that no port has."""
    unknown = set(given) - {port.name for port in ports}
    if unknown:
        role = ports[0].role if ports else "tensor"
        raise InputError(
            f"no {role} has this name",
            where=where,
            got=", ".join(sorted(map(repr, unknown))),
            expected=list_of(ports),
        )
