"""Device memory of other libraries taken in, and ours handed out, without a copy through the host.

Taken in are objects with ``__dlpack__`` (DLPack, version 0.8 layout of ``DLManagedTensor``) or ``__cuda_array_interface__`` (version 3).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from strop.errors import UnsupportedError
from strop.ir import dtype as dt
from strop.ir.dtype import DType

#: kDLCUDA.
CUDA = 2
_NAME = b"dltensor"
_USED = b"used_dltensor"
#: DLDataTypeCode by what a dtype is.
_INT, _UINT, _FLOAT, _BOOL = 0, 1, 2, 6
#: kDLBfloat and kDLFloat8_e4m3fn.
_OTHERS = {"bf16": 4, "f8e4m3": 10}


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    """DLManagedTensor."""


_DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", _DELETER))

_python = ctypes.pythonapi
_new = _python.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_pointer = _python.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
_raw_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _python))
_raw_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _python))
_set_name = _python.PyCapsule_SetName
_set_name.restype, _set_name.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)


@dataclass(frozen=True)
class DeviceView:
    """Memory of the device that belongs to another library.

    Attributes:
        pointer: device address of the first element.
        strides: in elements; None for row-major without gaps.
        dtype: None for a type that Strop does not have.
        owner: what keeps the memory.
    """

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: DType | None
    owner: object

    @property
    def is_dense(self) -> bool:
        """Row-major without gaps."""
        wanted = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides or ()), strict=False):
            if size != 1 and stride != wanted:
                return False
            wanted *= size
        return True


def on_device(value: object) -> bool:
    """Whether the object says that its elements are in a GPU's memory."""
    if hasattr(value, "__cuda_array_interface__"):
        return True
    ask = getattr(value, "__dlpack_device__", None)
    return ask is not None and int(ask()[0]) == CUDA


def view(value: Any, stream: int) -> DeviceView:
    """The memory of such an object. What its library still has to do there is done before what ``stream`` is given from here on, where the
    object has ``__dlpack__``; one that has only ``__cuda_array_interface__`` must be ready."""
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        return _from_capsule(value.__dlpack__(stream=stream))
    found = value.__cuda_array_interface__
    try:
        dtype: DType | None = dt.bf16 if found["typestr"] == "<V2" else dt.from_numpy(np.dtype(found["typestr"]))
    except UnsupportedError:
        dtype = None
    item = int(found["typestr"][2:])
    strides = found.get("strides")
    return DeviceView(int(found["data"][0]), tuple(found["shape"]), None if strides is None else tuple(s // item for s in strides), dtype, value)


class _Owned:
    """A DLManagedTensor that was taken in; its deleter is called when nothing needs it any more."""

    def __init__(self, managed: Any) -> None:
        self._managed = managed

    def __del__(self) -> None:
        if self._managed.contents.deleter:
            self._managed.contents.deleter(self._managed)


def _from_capsule(capsule: object) -> DeviceView:
    managed = ctypes.cast(_pointer(capsule, _NAME), ctypes.POINTER(_Managed))
    _set_name(capsule, _USED)
    tensor = managed.contents.tensor
    shape = tuple(tensor.shape[: tensor.ndim]) if tensor.ndim else ()
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides and tensor.ndim else None
    return DeviceView((tensor.data or 0) + tensor.byte_offset, shape, strides, _dtype_of(tensor.code, tensor.bits, tensor.lanes), _Owned(managed))


def _code_of(dtype: DType) -> int:
    if dtype.name in _OTHERS:
        return _OTHERS[dtype.name]
    return {"f": _FLOAT, "i": _INT, "u": _UINT, "b": _BOOL}[dtype.numpy.kind]


def _dtype_of(code: int, bits: int, lanes: int) -> DType | None:
    known = (d for d in dt.BY_CODE.values() if _code_of(d) == code and 8 * d.size == bits)
    return next(known, None) if lanes == 1 else None


#: Tensors that were handed out, by address, with what they need, until their consumers are done.
_handed: dict[int, tuple[object, ...]] = {}


def _done(managed: Any) -> None:
    _handed.pop(ctypes.addressof(managed.contents), None)


def _capsule_ended(capsule: int) -> None:
    if _raw_valid(capsule, _NAME):  # nobody has taken it
        _handed.pop(_raw_pointer(capsule, _NAME), None)


_call_done = _DELETER(_done)
_call_capsule_ended = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_capsule_ended)


def capsule(pointer: int, shape: tuple[int, ...], dtype: DType, owner: object, *, device: int = 0, wait: Callable[[], None]) -> object:
    """A DLPack capsule of row-major device memory that ``owner`` keeps; ``wait`` returns when the memory may be read."""
    wait()
    dims = (ctypes.c_int64 * max(1, len(shape)))(*shape)
    managed = _Managed()
    t = managed.tensor
    t.data, t.device_type, t.device_id, t.ndim = pointer, CUDA, device, len(shape)
    t.code, t.bits, t.lanes = _code_of(dtype), 8 * dtype.size, 1
    t.shape, t.byte_offset = ctypes.cast(dims, ctypes.POINTER(ctypes.c_int64)), 0
    managed.deleter = _call_done
    address = ctypes.addressof(managed)
    _handed[address] = managed, dims, owner
    return _new(address, _NAME, ctypes.cast(_call_capsule_ended, ctypes.c_void_p))
