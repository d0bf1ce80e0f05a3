"""Memory by address, as CUDA programs use it, on the processor: what ``pycuda`` and ``cudart`` shims share."""

from __future__ import annotations

import ctypes
import math
import os
import time
from typing import Any

import numpy as np

_held: dict[int, np.ndarray[Any, Any]] = {}
_ALIGNMENT = 64


def allocate(size: int) -> int:
    """The address of ``size`` zeroed bytes, aligned to 64."""
    raw = np.zeros(max(int(size), 1) + _ALIGNMENT, np.uint8)
    address = -(-raw.ctypes.data // _ALIGNMENT) * _ALIGNMENT
    _held[address] = raw
    return address


def free(address: int) -> bool:
    """Gives memory back; False when it is none of ours."""
    return _held.pop(int(address), None) is not None


def address_of(memory: Any) -> int:
    """The address of an integer, an allocation, or an array."""
    if isinstance(memory, np.ndarray):
        return int(memory.ctypes.data)
    if isinstance(memory, (bytes, bytearray, memoryview)):
        return int(np.frombuffer(memory, np.uint8).ctypes.data)
    return int(memory)


def copy(destination: Any, source: Any, size: int) -> None:
    """Copies bytes."""
    ctypes.memmove(address_of(destination), address_of(source), size)


def array_at(address: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The array that lies at an address."""
    count = math.prod(shape)
    raw = (ctypes.c_uint8 * max(count * dtype.itemsize, 1)).from_address(address)
    whole = np.ctypeslib.as_array(raw)[: count * dtype.itemsize]
    found: np.ndarray[Any, Any] = whole.view(dtype).reshape(shape)
    return found


def free_and_total() -> tuple[int, int]:
    """Bytes of memory of the machine."""
    page = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page


class Clock:
    """A moment."""

    def __init__(self) -> None:
        self.seconds = time.perf_counter()

    def record(self) -> None:
        """Now."""
        self.seconds = time.perf_counter()

    def since(self, start: Clock) -> float:
        """Milliseconds from another moment to this one."""
        return (self.seconds - start.seconds) * 1e3
