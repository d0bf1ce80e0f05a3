"""Code of custom layers that this process has registered by name: Python callbacks, and kernels of shared libraries.

Registrations reach the native runtime when it is loaded, or at once when it is loaded already. A callback runs on the thread that runs
the context, with the interpreter lock held; contexts that run on several threads call it from each of them.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_int,
    c_int64,
    c_uint32,
    c_void_p,
)
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.errors import StropError
from strop.ir.dtype import BY_CODE
from strop.runtime.error_struct import ErrorStruct

Array = NDArray[Any]
_MAX_RANK = 8


class _Tensor(Structure):
    """strop_custom_tensor."""

    _fields_ = (
        ("data", c_void_p),
        ("dtype", c_uint32),
        ("rank", c_uint32),
        ("dims", c_int64 * _MAX_RANK),
        ("strides", c_int64 * _MAX_RANK),
    )


class _Call(Structure):
    """strop_custom_call."""

    _fields_ = (
        ("name", c_char_p),
        ("layer", c_char_p),
        ("attributes", c_char_p),
        ("n_outputs", c_uint32),
        ("n_inputs", c_uint32),
        ("outputs", POINTER(_Tensor)),
        ("inputs", POINTER(_Tensor)),
    )


_FUNCTION = CFUNCTYPE(c_int, POINTER(_Call), c_void_p, POINTER(ErrorStruct))


@dataclass(frozen=True)
class CustomCall:
    """One call of a custom layer. The arrays are views of the context's memory, valid during the call only.

    Attributes:
        layer: name of the layer in the network.
        attributes: JSON text of an object.
        outputs: to be written.
        inputs: not to be written; None for one left out.
    """

    layer: str
    attributes: str
    outputs: tuple[Array, ...]
    inputs: tuple[Array | None, ...]


Callback = Callable[[CustomCall], None]

_lock = threading.Lock()
_libraries: list[Any] = []
_registered: dict[str, tuple[str, Any]] = {}  # name: (function that registers, what it is given)
_kept: list[Any] = []  # what native code may still call
_raised = threading.local()


def register_callback(name: str, callback: Callback) -> None:
    """Contexts created from now on compute the custom layer with ``callback``."""

    def run(call: Any, user: Any, error: Any) -> int:
        try:
            callback(_convert(call.contents))
        except BaseException as raised:
            _raised.error = raised
            error.contents.message = _line(raised).encode()[:1000]
            return 1
        return 0

    _register(name, "strop_register_custom", _FUNCTION(run))


def register_kernel(name: str, kernel: Any, keep: object) -> None:
    """Contexts created from now on compute the custom layer with a native kernel; ``keep`` is what its code belongs to."""
    _kept.append(keep)
    _register(name, "strop_register_kernel", ctypes.cast(kernel, c_void_p))


def forget(name: str) -> None:
    """Contexts created from now on find no code of this name."""
    _register(name, "strop_register_custom", None)


def _register(name: str, function: str, code: Any) -> None:
    with _lock:
        _registered[name] = function, code
        _kept.append(code)
        for library in _libraries:
            _tell(library, name, function, code)


def install(library: Any) -> None:
    """Tells a native runtime that was just loaded what is registered."""
    with _lock:
        _libraries.append(library)
        for name, (function, code) in _registered.items():
            _tell(library, name, function, code)


def _tell(library: Any, name: str, function: str, code: Any) -> None:
    if function == "strop_register_custom":
        library.strop_register_custom(name.encode(), ctypes.cast(code, c_void_p), None, None)
    else:
        library.strop_register_kernel(name.encode(), code, None)


def take_raised() -> BaseException | None:
    """What a callback raised on this thread since the last question."""
    found: BaseException | None = getattr(_raised, "error", None)
    _raised.error = None
    return found


def _line(raised: BaseException) -> str:
    if not isinstance(raised, StropError):
        return f"{type(raised).__name__}: {raised}"
    parts = [raised.what, f"got {raised.got}" if raised.got else "", f"expected {raised.expected}" if raised.expected else ""]
    return "; ".join(part for part in parts if part)


def _convert(call: Any) -> CustomCall:
    outputs = tuple(_view(call.outputs[i], True) for i in range(call.n_outputs))
    inputs = tuple(_view(call.inputs[i], False) if call.inputs[i].data else None for i in range(call.n_inputs))
    return CustomCall(call.layer.decode("utf-8", "replace"), call.attributes.decode(), outputs, inputs)


def _view(tensor: Any, writeable: bool) -> Array:
    """The tensor as an array on the memory where it lies."""
    rank = tensor.rank
    return _array(tensor.data, tensor.dtype, tuple(tensor.dims[:rank]), tuple(tensor.strides[:rank]), writeable).view()


@lru_cache(maxsize=1024)
def _array(address: int, code: int, shape: tuple[int, ...], strides: tuple[int, ...], writeable: bool) -> Array:
    """An array on memory that is not its own; making one takes long for a short call, and it is right whenever these are the same."""
    dtype: np.dtype[Any] = BY_CODE[code].numpy
    if 0 in shape:
        return np.empty(shape, dtype)
    span = (1 + sum((d - 1) * s for d, s in zip(shape, strides))) * dtype.itemsize
    memory: Any = (c_char * span).from_address(address)
    array: Array = np.ndarray(shape, dtype, memory, strides=tuple(s * dtype.itemsize for s in strides))
    array.flags.writeable = writeable
    return array
