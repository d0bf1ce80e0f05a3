"""Steps of an engine that are calls of NVIDIA's libraries, made ready and put on streams, also on one that is being captured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from strop.engine.library_calls import CUBLASLT, CUDNN, LibraryCall, call_of
from strop.runtime import gpu_cublaslt, gpu_cudnn
from strop.runtime.gpu_library_files import require


class Ready(Protocol):
    """A call that is ready to be made."""

    def enqueue(self, pointers: Sequence[int], stream: int) -> None:
        """Puts it on a stream: addresses in the order of the call's operands, then that of the workspace."""

    def close(self) -> None:
        """Gives back what it holds."""


_KINDS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any, LibraryCall], Ready]]] = {
    CUBLASLT: (gpu_cublaslt.handle_of, gpu_cublaslt.Product),
    CUDNN: (gpu_cudnn.handle_of, gpu_cudnn.Convolution),
}
#: The libraries' handles; one each serves a process, as calls are put on streams one at a time.
_HANDLES: dict[str, Any] = {}


def ready(call: LibraryCall | Mapping[str, Any], step: str, where: str) -> Ready:
    """Makes a call ready in the device's context, which must be current.

    Args:
        call: or its row.
        step: the step that makes it, for errors.
        where: the engine, for errors.

    Raises:
        TargetError: the library is not installed, or not in the call's version.
        NoAlgorithm: it does not have the algorithm that the call asks for.
        RuntimeFailure: it reports a failure.
    """
    told = call if isinstance(call, LibraryCall) else call_of(call)
    functions = require(told.library, told.version, step, where)
    begin, make = _KINDS[told.library]
    if told.library not in _HANDLES:
        _HANDLES[told.library] = begin(functions)
    return make(functions, _HANDLES[told.library], told)
