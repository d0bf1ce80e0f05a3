"""The CUDA driver through the package ``cuda-bindings``: memory, modules, launches, graphs, events. Errors of the driver become RuntimeFailure."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from typing import Any

from strop.errors import RuntimeFailure, TargetError

#: Bytes that a program may take without asking.
_PLAIN_SHARED = 48 * 1024


class Device:
    """A GPU and its primary context, which PyTorch and others share.

    Attributes:
        name: as its maker calls it.
        capability: 90 for 9.0.
    """

    def __init__(self, ordinal: int = 0) -> None:
        """Opens a device; TargetError when there is no package, no driver or no device."""
        self.api = _driver()
        try:
            self.call("cuInit", 0)
            count = self.call("cuDeviceGetCount")
        except (RuntimeFailure, RuntimeError, OSError) as error:
            raise no_gpu(error) from error
        if ordinal >= count:
            raise no_gpu(f"{count} devices")
        self.handle = self.call("cuDeviceGet", ordinal)
        attribute = self.api.CUdevice_attribute
        major = self.call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, self.handle)
        minor = self.call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, self.handle)
        self.capability: int = 10 * major + minor
        self.name: str = self.call("cuDeviceGetName", 128, self.handle).split(b"\0")[0].decode()
        self._context = self.call("cuDevicePrimaryCtxRetain", self.handle)
        self.use()
        #: Held while contexts are made: what allocates must not meet what is captured.
        self.making = threading.RLock()
        self._fills = self.stream()

    def use(self) -> None:
        """Makes the device's context the calling thread's."""
        self.call("cuCtxSetCurrent", self._context)

    def call(self, function: str, *arguments: Any) -> Any:
        """Calls the driver; returns its result, or a tuple of several."""
        code, *results = getattr(self.api, function)(*arguments)
        if int(code) != 0:
            _, name = self.api.cuGetErrorName(code)
            raise RuntimeFailure("the CUDA driver reported a failure", where=function, got=(name or b"?").decode(), hint=_HINTS.get(int(code)))
        return results[0] if len(results) == 1 else tuple(results)

    # ---- memory

    def allocate(self, size: int) -> int:
        """Address of device memory of at least one byte, all zeros."""
        pointer = int(self.call("cuMemAlloc", max(size, 1)))
        self.fill(pointer, 0, max(size, 1))
        return pointer

    def fill(self, pointer: int, byte: int, size: int) -> None:
        """Fills memory with a byte, before anything that is launched on any stream from here on."""
        self.call("cuMemsetD8Async", pointer, byte, size, self._fills)
        self.call("cuStreamSynchronize", self._fills)

    def free(self, pointer: int) -> None:
        """Gives memory back."""
        self.call("cuMemFree", pointer)

    def to_device(self, pointer: int, address: int, size: int, stream: Any = None) -> None:
        """Copies from the host; with a stream as soon as it gets there."""
        if size:
            self.call(*(("cuMemcpyHtoD", pointer, address, size) if stream is None else ("cuMemcpyHtoDAsync", pointer, address, size, stream)))

    def to_host(self, address: int, pointer: int, size: int, stream: Any = None) -> None:
        """Copies to the host; with a stream as soon as it gets there."""
        if size:
            self.call(*(("cuMemcpyDtoH", address, pointer, size) if stream is None else ("cuMemcpyDtoHAsync", address, pointer, size, stream)))

    def within(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copies within the device's memory as soon as the stream gets there."""
        if size:
            self.call("cuMemcpyDtoDAsync", target, source, size, stream)

    def pinned(self, size: int) -> int:
        """Address of host memory that the device copies from and to by itself."""
        return int(self.call("cuMemAllocHost", max(size, 1)))

    def unpin(self, address: int) -> None:
        """Gives such memory back."""
        self.call("cuMemFreeHost", address)

    # ---- code

    def function(self, code: bytes, name: str, shared: int) -> tuple[Any, Any]:
        """(module, function) of machine code."""
        module = self.call("cuModuleLoadData", code)
        function = self.call("cuModuleGetFunction", module, name.encode())
        if shared > _PLAIN_SHARED:
            attribute = self.api.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self.call("cuFuncSetAttribute", function, attribute, shared)
        return module, function

    def launch(self, function: Any, grid: Sequence[int], warps: int, shared: int, stream: Any, pointers: Sequence[int], cooperative: bool = False) -> None:
        """Launches a function on pointers, ``cooperative`` only with all programs resident at once; Triton's two scratch pointers follow and are null."""
        values = (ctypes.c_void_p * (len(pointers) + 2))(*pointers, None, None)
        step = ctypes.sizeof(ctypes.c_void_p)
        places = (ctypes.c_void_p * len(values))(*(ctypes.addressof(values) + k * step for k in range(len(values))))
        common = (function, *grid, 32 * warps, 1, 1, shared, stream, ctypes.addressof(places))
        self.call(*(("cuLaunchCooperativeKernel", *common) if cooperative else ("cuLaunchKernel", *common, 0)))

    def resident(self, function: Any, warps: int, shared: int) -> int:
        """Programs of a function that the device holds at once."""
        each = self.call("cuOccupancyMaxActiveBlocksPerMultiprocessor", function, 32 * warps, shared)
        return int(each) * int(self.call("cuDeviceGetAttribute", self.api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, self.handle))

    # ---- streams and graphs

    def stream(self) -> Any:
        """A stream of its own."""
        return self.call("cuStreamCreate", self.api.CUstream_flags.CU_STREAM_NON_BLOCKING)

    def begin_capture(self, stream: Any) -> None:
        """What is launched on the stream from here on is recorded."""
        self.call("cuStreamBeginCapture", stream, self.api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)

    def end_capture(self, stream: Any) -> Any:
        """An executable graph of what was recorded."""
        graph = self.call("cuStreamEndCapture", stream)
        executable = self.call("cuGraphInstantiate", graph, 0)
        self.call("cuGraphDestroy", graph)
        return executable

    def event(self) -> Any:
        """An event that keeps time."""
        return self.call("cuEventCreate", 0)


_HINTS = {2: "the device has too little memory left", 209: "the code is for GPUs of another compute capability"}


def _driver() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise TargetError(
            "engines for NVIDIA GPUs need the package cuda-bindings", got=error, expected="cuda-bindings 12 or later", hint="pip install 'strop[cuda]'"
        ) from error
    return driver


def no_gpu(got: object) -> TargetError:
    """The error for a machine without a usable GPU."""
    return TargetError(
        "there is no NVIDIA GPU that can be used", got=got, expected="a GPU and its driver", hint="see whether 'nvidia-smi' lists the GPU; a processor needs --target host"
    )


def device(ordinal: int = 0) -> Device:
    """The device; opened once per process."""
    if ordinal not in _DEVICES:
        _DEVICES[ordinal] = Device(ordinal)
    found = _DEVICES[ordinal]
    found.use()
    return found


_DEVICES: dict[int, Device] = {}
