"""The part of CUDA Python's driver API (``cuda.cuda``, ``cuda.bindings.driver``) that TensorRT programs use, on the processor: the one
device, its context, and error codes. Calls answer tuples that begin with an error code."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from strop.compat import cudart, memory


class CUresult(IntEnum):
    """Error codes."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2


CUdevice = CUcontext = CUstream = CUdeviceptr = cuuint64_t = int
_OK = CUresult.CUDA_SUCCESS


def _result(answer: tuple[Any, ...]) -> tuple[Any, ...]:
    """An answer of the runtime API with the driver's code."""
    return CUresult(int(answer[0])), *answer[1:]


def cuInit(flags: int) -> tuple[Any]:
    """Nothing is to be done."""
    return (_OK,)


def cuDeviceGetCount() -> tuple[Any, int]:
    """One device: the processor."""
    return _OK, 1


def cuDeviceGet(ordinal: int) -> tuple[Any, int]:
    """The device of a number."""
    return (_OK, 0) if ordinal == 0 else (CUresult.CUDA_ERROR_INVALID_VALUE, -1)


def cuCtxCreate(flags: int, device: int) -> tuple[Any, int]:
    """A context, of which there is one."""
    return _OK, 1


def cuCtxDestroy(context: int) -> tuple[Any]:
    """Nothing is to be done."""
    return (_OK,)


def cuCtxSynchronize() -> tuple[Any]:
    """Everything is done already."""
    return (_OK,)


def cuMemAlloc(size: int) -> tuple[Any, ...]:
    """So many bytes."""
    return _result(cudart.cudaMalloc(size))


def cuMemFree(pointer: int) -> tuple[Any, ...]:
    """Gives memory back."""
    return _result(cudart.cudaFree(pointer))


def cuMemcpyHtoD(destination: int, source: Any, count: int) -> tuple[Any]:
    """Copies bytes."""
    memory.copy(destination, source, count)
    return (_OK,)


def cuMemcpyDtoH(destination: Any, source: int, count: int) -> tuple[Any]:
    """Copies bytes."""
    memory.copy(destination, source, count)
    return (_OK,)


def cuStreamCreate(flags: int) -> tuple[Any, ...]:
    """A stream."""
    return _result(cudart.cudaStreamCreate())


def cuStreamSynchronize(stream: int) -> tuple[Any]:
    """Everything is done already."""
    return (_OK,)


def cuStreamDestroy(stream: int) -> tuple[Any, ...]:
    """Ends a stream."""
    return _result(cudart.cudaStreamDestroy(stream))


def cuGetErrorName(error: Any) -> tuple[Any, bytes]:
    """The name of a code."""
    return _OK, CUresult(error).name.encode()
