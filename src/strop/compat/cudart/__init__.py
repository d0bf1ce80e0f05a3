"""The part of CUDA Python's runtime API (``cuda.cudart``, ``cuda.bindings.runtime``) that TensorRT programs use, on the processor.

Calls answer tuples that begin with an error code, as CUDA Python's do. Everything is done when a call returns.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from strop.compat import memory


class cudaError_t(IntEnum):
    """Error codes."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2


class cudaMemcpyKind(IntEnum):
    """Directions of copies."""

    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3
    cudaMemcpyDefault = 4


#: Handles are numbers.
cudaStream_t = cudaEvent_t = int
_OK = cudaError_t.cudaSuccess
_WRONG = cudaError_t.cudaErrorInvalidValue


def cudaMalloc(size: int) -> tuple[Any, int]:
    """So many bytes."""
    return _OK, memory.allocate(size)


def cudaMallocHost(size: int) -> tuple[Any, int]:
    """So many bytes."""
    return cudaMalloc(size)


def cudaMallocManaged(size: int, flags: int = 0) -> tuple[Any, int]:
    """So many bytes."""
    return cudaMalloc(size)


def cudaHostAlloc(size: int, flags: int = 0) -> tuple[Any, int]:
    """So many bytes."""
    return cudaMalloc(size)


def cudaMallocAsync(size: int, stream: Any) -> tuple[Any, int]:
    """So many bytes."""
    return cudaMalloc(size)


def cudaFree(pointer: Any) -> tuple[Any]:
    """Gives memory back."""
    return (_OK if int(pointer) == 0 or memory.free(pointer) else _WRONG,)


def cudaFreeHost(pointer: Any) -> tuple[Any]:
    """Gives memory back."""
    return cudaFree(pointer)


def cudaFreeAsync(pointer: Any, stream: Any) -> tuple[Any]:
    """Gives memory back."""
    return cudaFree(pointer)


def cudaMemcpy(destination: Any, source: Any, count: int, kind: Any) -> tuple[Any]:
    """Copies bytes."""
    memory.copy(destination, source, count)
    return (_OK,)


def cudaMemcpyAsync(destination: Any, source: Any, count: int, kind: Any, stream: Any) -> tuple[Any]:
    """Copies bytes."""
    return cudaMemcpy(destination, source, count, kind)


def cudaMemset(pointer: Any, value: int, count: int) -> tuple[Any]:
    """Sets bytes."""
    memory.copy(pointer, bytes([value & 255]) * count, count)
    return (_OK,)


def cudaMemsetAsync(pointer: Any, value: int, count: int, stream: Any) -> tuple[Any]:
    """Sets bytes."""
    return cudaMemset(pointer, value, count)


_events: dict[int, memory.Clock] = {}


def cudaStreamCreate() -> tuple[Any, int]:
    """A stream."""
    return _OK, 1


def cudaStreamCreateWithFlags(flags: int) -> tuple[Any, int]:
    """A stream."""
    return cudaStreamCreate()


def cudaStreamSynchronize(stream: Any) -> tuple[Any]:
    """All is done."""
    return (_OK,)


def cudaStreamDestroy(stream: Any) -> tuple[Any]:
    """Nothing."""
    return (_OK,)


def cudaDeviceSynchronize() -> tuple[Any]:
    """All is done."""
    return (_OK,)


def cudaEventCreate() -> tuple[Any, int]:
    """A moment."""
    number = max(_events, default=0) + 1
    _events[number] = memory.Clock()
    return _OK, number


def cudaEventCreateWithFlags(flags: int) -> tuple[Any, int]:
    """A moment."""
    return cudaEventCreate()


def cudaEventRecord(event: int, stream: Any) -> tuple[Any]:
    """Now."""
    _events[event].record()
    return (_OK,)


def cudaEventSynchronize(event: int) -> tuple[Any]:
    """It has passed."""
    return (_OK,)


def cudaEventElapsedTime(start: int, end: int) -> tuple[Any, float]:
    """Milliseconds."""
    return _OK, _events[end].since(_events[start])


def cudaEventDestroy(event: int) -> tuple[Any]:
    """Forgets a moment."""
    _events.pop(event, None)
    return (_OK,)


def cudaGetDeviceCount() -> tuple[Any, int]:
    """One: the processor."""
    return _OK, 1


def cudaSetDevice(device: int) -> tuple[Any]:
    """Only 0 is there."""
    return (_OK if device == 0 else _WRONG,)


def cudaGetDevice() -> tuple[Any, int]:
    """0."""
    return _OK, 0


def cudaGetErrorString(error: Any) -> tuple[Any, bytes]:
    """The name of an error."""
    return _OK, cudaError_t(error).name.encode()


def cudaGetErrorName(error: Any) -> tuple[Any, bytes]:
    """The name of an error."""
    return cudaGetErrorString(error)


def cudaMemGetInfo() -> tuple[Any, int, int]:
    """(error, free, total) bytes."""
    return (_OK, *memory.free_and_total())
