"""Takes the bulky weights out of an ONNX file before protobuf sees it, so that they stay memory-mapped.

An ONNX file is a protobuf ModelProto. Protobuf copies every ``raw_data`` field and refuses messages of 2 GiB. ``split`` walks
the wire format (https://protobuf.dev/programming-guides/encoding) down to the initializers of the main graph and leaves their
larger ``raw_data`` out; what remains is a small ModelProto, and a table says where each left-out field lies in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, TensorProto

from strop.errors import ModelError

_GRAPH = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number

#: raw_data shorter than this stays in the message.
KEEP_BELOW = 1024
#: A tensor message with more fields than this (dims and values written one by one) is left as it is.
_MAX_TENSOR_FIELDS = 64

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Field:
    """One field: its number, wire type, where its tag starts and where its payload lies."""

    number: int
    kind: int
    start: int
    begin: int
    end: int


def _malformed(what: str, at: int) -> ModelError:
    return ModelError(
        "the file is not a complete ONNX model",
        where=f"byte {at}",
        got=what,
        expected="a serialized ModelProto",
        hint="check that the file was copied completely and is an .onnx file",
    )


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """(value, position after it)"""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _malformed("a number that is cut off", at)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _malformed("a number of more than 10 bytes", at)


def _encode(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data: memoryview, at: int, end: int) -> Iterator[Field]:
    """The fields of a message; ModelError when one does not fit."""
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            begin = at
            _, at = _varint(data, at, end)
        elif kind == _BYTES:
            length, begin = _varint(data, at, end)
            at = begin + length
        elif kind in (_FIXED64, _FIXED32):
            begin, at = at, at + (8 if kind == _FIXED64 else 4)
        else:
            raise _malformed(f"wire type {kind}", start)
        if number == 0 or at > end:
            raise _malformed(
                "a field that reaches past the end" if number else "field number 0", start
            )
        yield Field(number, kind, start, begin, at)


def _raw_data(data: memoryview, tensor: Field) -> Field | None:
    """The raw_data field of an initializer when it is worth taking out."""
    if tensor.end - tensor.begin < KEEP_BELOW:
        return None
    found: Field | None = None
    for index, field in enumerate(fields(data, tensor.begin, tensor.end)):
        if index >= _MAX_TENSOR_FIELDS:
            return None
        if field.number == _RAW_DATA and field.kind == _BYTES:
            if found is not None:
                return None
            found = field
    return found if found is not None and found.end - found.begin >= KEEP_BELOW else None


def _message(number: int, chunks: list[memoryview | bytes]) -> list[memoryview | bytes]:
    """A length-delimited field around chunks."""
    return [_encode(number << 3 | _BYTES), _encode(sum(len(c) for c in chunks)), *chunks]


def split(data: memoryview) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """Separates bulky weights from a serialized ModelProto.

    Returns:
        The ModelProto without them, and (offset, bytes) in ``data`` of each left-out raw_data, keyed by the position of its
        tensor in ``graph.initializer``.

    Raises:
        ModelError: the bytes are no protobuf message or end too early.
    """
    taken: dict[int, tuple[int, int]] = {}
    out: list[memoryview | bytes] = []
    position = 0
    for field in fields(data, 0, len(data)):
        if field.number != _GRAPH or field.kind != _BYTES:
            out.append(data[field.start : field.end])
            continue
        graph: list[memoryview | bytes] = []
        for inner in fields(data, field.begin, field.end):
            if inner.number == _INITIALIZER and inner.kind == _BYTES:
                raw = _raw_data(data, inner)
                if raw is not None:
                    taken[position] = (raw.begin, raw.end - raw.begin)
                    rest: list[memoryview | bytes] = [
                        data[inner.begin : raw.start],
                        data[raw.end : inner.end],
                    ]
                    graph.extend(_message(_INITIALIZER, rest))
                    position += 1
                    continue
                position += 1
            graph.append(data[inner.start : inner.end])
        out.extend(_message(_GRAPH, graph))
    return b"".join(out), taken
