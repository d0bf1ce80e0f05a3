"""``strop_error`` of strop.h."""

from __future__ import annotations

from ctypes import Structure, c_char, c_int32


class ErrorStruct(Structure):
    """strop_error."""

    _fields_ = (("code", c_int32), ("message", c_char * 1024))
