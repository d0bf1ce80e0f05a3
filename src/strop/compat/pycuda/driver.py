"""Allocations, copies, streams and events of ``pycuda.driver``. Everything is done when a call returns."""

from __future__ import annotations

from enum import IntFlag
from typing import Any

import numpy as np

from strop.compat import memory


class Error(Exception):
    """Base of the errors."""


class LogicError(Error):
    """A call that makes no sense."""


class MemoryError(Error):
    """No memory."""


class host_alloc_flags(IntFlag):
    """Kinds of page-locked memory."""

    PORTABLE = 1
    DEVICEMAP = 2
    WRITECOMBINED = 4


class mem_host_register_flags(IntFlag):
    """Kinds of registration."""

    PORTABLE = 1
    DEVICEMAP = 2


class ctx_flags(IntFlag):
    """Kinds of context."""

    SCHED_AUTO = 0
    MAP_HOST = 8


class DeviceAllocation:
    """Memory that is freed with its last reference."""

    def __init__(self, size: int) -> None:
        self.size = int(size)
        self._address = memory.allocate(self.size)

    def __int__(self) -> int:
        return self._address

    __index__ = __int__

    def __add__(self, offset: int) -> int:
        return self._address + offset

    def as_buffer(self, size: int, offset: int = 0) -> memoryview:
        """The bytes."""
        return memoryview(memory.array_at(self._address, np.dtype(np.uint8), (self.size,)).data)[offset : offset + size]

    def free(self) -> None:
        """Gives the memory back."""
        memory.free(self._address)

    def __del__(self) -> None:
        memory.free(self._address)


def mem_alloc(bytes: int) -> DeviceAllocation:
    """So many bytes."""
    return DeviceAllocation(bytes)


def mem_alloc_like(ary: np.ndarray[Any, Any]) -> DeviceAllocation:
    """As many bytes as an array has."""
    return DeviceAllocation(ary.nbytes)


managed_empty = mem_alloc


def to_device(array: np.ndarray[Any, Any]) -> DeviceAllocation:
    """Memory with an array's bytes."""
    made = mem_alloc(array.nbytes)
    memcpy_htod(made, array)
    return made


def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray[Any, Any]:
    """An array."""
    made: np.ndarray[Any, Any] = np.empty(shape, dtype)
    return made


def pagelocked_zeros(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray[Any, Any]:
    """An array of zeros."""
    made: np.ndarray[Any, Any] = np.zeros(shape, dtype)
    return made


def pagelocked_empty_like(array: np.ndarray[Any, Any], mem_flags: int = 0) -> np.ndarray[Any, Any]:
    """An array."""
    return np.empty_like(array)


def register_host_memory(ary: np.ndarray[Any, Any], flags: int = 0) -> np.ndarray[Any, Any]:
    """The array."""
    return ary


def memcpy_htod(dest: Any, src: Any) -> None:
    """Copies an array to memory."""
    array = np.ascontiguousarray(src)
    memory.copy(dest, array, array.nbytes)


def memcpy_dtoh(dest: np.ndarray[Any, Any], src: Any) -> None:
    """Copies memory to an array."""
    if not dest.flags.c_contiguous:
        raise LogicError("the destination is not contiguous")
    memory.copy(dest, src, dest.nbytes)


def memcpy_dtod(dest: Any, src: Any, size: int) -> None:
    """Copies memory to memory."""
    memory.copy(dest, src, size)


def memcpy_htod_async(dest: Any, src: Any, stream: Any = None) -> None:
    """As ``memcpy_htod``."""
    memcpy_htod(dest, src)


def memcpy_dtoh_async(dest: np.ndarray[Any, Any], src: Any, stream: Any = None) -> None:
    """As ``memcpy_dtoh``."""
    memcpy_dtoh(dest, src)


def memcpy_dtod_async(dest: Any, src: Any, size: int, stream: Any = None) -> None:
    """As ``memcpy_dtod``."""
    memcpy_dtod(dest, src, size)


def memset_d8(dest: Any, data: int, size: int) -> None:
    """Sets bytes."""
    memory.copy(dest, np.full(size, data, np.uint8), size)


class Stream:
    """An order of calls; all are done when they return."""

    handle = 0

    def __init__(self, flags: int = 0) -> None:
        return None

    def synchronize(self) -> None:
        """All is done."""

    def is_done(self) -> bool:
        """True."""
        return True

    def wait_for_event(self, evt: Any) -> None:
        """All is done."""


class Event:
    """A moment."""

    def __init__(self, flags: int = 0) -> None:
        self._clock = memory.Clock()

    handle = 0

    def record(self, stream: Any = None) -> Event:
        """Now."""
        self._clock.record()
        return self

    def synchronize(self) -> Event:
        """It has passed."""
        return self

    def query(self) -> bool:
        """True: it has passed."""
        return True

    def time_since(self, event: Event) -> float:
        """Milliseconds since another moment."""
        return self._clock.since(event._clock)

    def time_till(self, event: Event) -> float:
        """Milliseconds until another moment."""
        return event._clock.since(self._clock)


class Context:
    """A context; nothing depends on it."""

    def push(self) -> None:
        """Nothing."""

    def detach(self) -> None:
        """Nothing."""

    @staticmethod
    def pop() -> None:
        """Nothing."""

    @staticmethod
    def synchronize() -> None:
        """All is done."""

    @staticmethod
    def get_device() -> Device:
        """The processor."""
        return Device(0)


class Device:
    """The processor."""

    def __init__(self, number: int) -> None:
        self.number = number

    @staticmethod
    def count() -> int:
        """One."""
        return 1

    def name(self) -> str:
        """Name."""
        return "Strop host"

    def compute_capability(self) -> tuple[int, int]:
        """None: (0, 0)."""
        return (0, 0)

    def make_context(self, flags: int = 0) -> Context:
        """A context."""
        return Context()

    retain_primary_context = make_context


def init(flags: int = 0) -> None:
    """Nothing."""


def mem_get_info() -> tuple[int, int]:
    """(free, total) bytes."""
    return memory.free_and_total()
