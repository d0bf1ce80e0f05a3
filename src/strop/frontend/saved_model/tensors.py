"""Element types, shapes and constants as TensorFlow writes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.errors import ModelError, UnsupportedError
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.op import Array

#: DataType of core/framework/types.proto.
DTYPES: dict[int, DType] = {
    1: dt.f32, 2: dt.f64, 3: dt.i32, 4: dt.u8, 5: dt.i16, 6: dt.i8, 9: dt.i64, 10: dt.boolean, 14: dt.bf16, 17: dt.u16, 19: dt.f16,
    22: dt.u32, 23: dt.u64,
}  # fmt: skip
STRING, RESOURCE, VARIANT = 7, 20, 21
_OTHERS = {7: "string", 8: "complex64", 11: "qint8", 12: "quint8", 13: "qint32", 15: "qint16", 16: "quint16", 18: "complex128", 20: "resource", 21: "variant"}
#: Where the values of a type lie when they are not raw bytes.
_FIELDS = {
    1: "float_val", 2: "double_val", 3: "int_val", 4: "int_val", 5: "int_val", 6: "int_val", 9: "int64_val", 10: "bool_val", 14: "half_val",
    17: "int_val", 19: "half_val", 22: "uint32_val", 23: "uint64_val",
}  # fmt: skip
#: Most bytes of a constant, and of one that repeats its last value.
MAX_BYTES, MAX_REPEATED = 1 << 31, 256 << 20


def type_name(number: int) -> str:
    """A type's name for messages."""
    number = number - 100 if 100 < number < 200 else number  # references
    return str(DTYPES[number]) if number in DTYPES else _OTHERS.get(number, f"type {number}")


def dtype_of(number: int, where: str) -> DType:
    """An element type.

    Raises:
        UnsupportedError: strings, complex numbers, handles and the like.
    """
    found = DTYPES.get(number - 100 if 100 < number < 200 else number)
    if found is None:
        raise UnsupportedError(f"element type {type_name(number)} is not supported", where=where, expected=", ".join(map(str, DTYPES.values())))
    return found


def shape_of(proto: Any, where: str) -> tuple[int, ...]:
    """Sizes of a shape that is known.

    Raises:
        ModelError: it is unknown, negative or of more than 32 axes.
    """
    dims = tuple(int(d.size) for d in proto.dim)
    if proto.unknown_rank or any(d < 0 for d in dims) or len(dims) > 32:
        raise ModelError("a shape is not known", where=where, got="unknown rank" if proto.unknown_rank else list(dims)[:33])
    return dims


def array(proto: Any, where: str) -> Array:
    """The elements of a TensorProto: raw bytes, or a list of values of which the last one repeats (core/framework/tensor.proto).

    Raises:
        ModelError: they do not fit the shape.
        UnsupportedError: a type that is not supported, or too large.
    """
    kind, shape = dtype_of(proto.dtype, where), shape_of(proto.tensor_shape, where)
    count = 1
    for size in shape:
        count *= size
    if count * kind.size > MAX_BYTES:
        raise UnsupportedError("a constant is too large", where=where, got=f"{kind}{list(shape)}", expected=f"at most {MAX_BYTES} bytes")
    raw = proto.tensor_content
    if raw:
        if len(raw) != count * kind.size:
            raise ModelError("a constant's bytes do not fit its shape", where=where, got=f"{len(raw)} bytes", expected=f"{count * kind.size} for {kind}{list(shape)}")
        return np.frombuffer(raw, np.uint8 if kind is dt.boolean else kind.numpy).astype(kind.numpy, copy=False).reshape(shape)
    values = getattr(proto, _FIELDS[proto.dtype])
    if len(values) > count:
        raise ModelError("a constant has more values than elements", where=where, got=len(values), expected=count)
    given = np.array(values, np.int64 if kind.is_int and proto.dtype != 23 else kind.numpy if proto.dtype not in (14, 19) else np.int32)
    if proto.dtype in (14, 19):
        given = given.astype(np.uint16).view(kind.numpy)
    given = given.astype(kind.numpy)
    if len(given) == count:
        return given.reshape(shape)
    if len(given) <= 1:
        return np.broadcast_to(given[0] if len(given) else np.zeros((), kind.numpy), shape)
    if count * kind.size > MAX_REPEATED:
        raise UnsupportedError("a constant is too large", where=where, got=f"{kind}{list(shape)}", expected=f"at most {MAX_REPEATED} bytes where values repeat")
    return np.concatenate([given, np.full(count - len(given), given[-1], kind.numpy)]).reshape(shape)
