"""Tables of keys and values as LevelDB and TensorFlow's variable bundles store them (LevelDB, doc/table_format.md).

A file is a run of blocks; its last 48 bytes say where the index block lies, whose values say where the others do. In a block a key leaves out what it shares
with the one before. Behind a block stand a byte for its compression, none or Snappy, and a checksum.
"""

from __future__ import annotations

from collections.abc import Iterator

from strop.errors import ModelError, UnsupportedError
from strop.frontend.saved_model.checksum import masked

_FOOTER, _MAGIC = 48, 0xDB4775248B80FB57
#: Most entries of a table, bytes of a block behind its compression, and bytes of a key.
MAX_ENTRIES, MAX_BLOCK, MAX_KEY = 1 << 20, 1 << 26, 1 << 16


def _malformed(what: str, where: str, got: object = None, expected: object = None) -> ModelError:
    return ModelError(what, where=where, got=got, expected=expected, hint="check that the file was copied completely")


def varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    """A number of 7 bits a byte, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _malformed("a number is cut off", where, got=f"byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _malformed("a number has more than 10 bytes", where, got=f"byte {at}")


def entries(data: bytes, where: str) -> dict[bytes, bytes]:
    """All keys and values of a table.

    Args:
        data: the file.
        where: its name, for messages.

    Raises:
        ModelError: it is no table, damaged or cut off.
        UnsupportedError: a compression that is not known, or too many entries.
    """
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise _malformed("this is no table of variables", where, got=f"{len(data)} bytes", expected="the mark of such a table at its end")
    footer = data[-_FOOTER:]
    _, at = varint(footer, 0, where)
    _, at = varint(footer, at, where)
    offset, at = varint(footer, at, where)
    size, _ = varint(footer, at, where)
    found: dict[bytes, bytes] = {}
    for _, handle in _block(data, offset, size, where):
        begin, at = varint(handle, 0, where)
        length, _ = varint(handle, at, where)
        for key, value in _block(data, begin, length, where):
            found[key] = value
            if len(found) > MAX_ENTRIES:
                raise UnsupportedError("the table has too many entries", where=where, expected=f"at most {MAX_ENTRIES}")
    return found


def _block(data: bytes, offset: int, size: int, where: str) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block."""
    end = offset + size
    if end + 5 > len(data) - _FOOTER:
        raise _malformed("a block reaches past the end", where, got=f"bytes {offset} to {end + 5}", expected=f"at most {len(data) - _FOOTER}")
    if masked(data[offset : end + 1]) != int.from_bytes(data[end + 1 : end + 5], "little"):
        raise _malformed("a block is damaged: its checksum differs", where, got=f"bytes {offset} to {end}")
    kind = data[end]
    if kind not in (0, 1):
        raise UnsupportedError("a block is compressed in a way that is not known", where=where, got=kind, expected="none (0) or Snappy (1)")
    block = data[offset:end] if kind == 0 else unsnapped(data[offset:end], where)
    if len(block) < 4:
        raise _malformed("a block is cut off", where, got=f"{len(block)} bytes")
    last = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if last < 0:
        raise _malformed("a block has more restarts than bytes", where)
    key, at = b"", 0
    while at < last:
        shared, at = varint(block, at, where)
        own, at = varint(block, at, where)
        length, at = varint(block, at, where)
        if shared > len(key) or own > MAX_KEY or at + own + length > last:
            raise _malformed("an entry does not fit its block", where, got=f"byte {at} of a block of {last}")
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length


def unsnapped(data: bytes, where: str) -> bytes:
    """Decompresses one Snappy block (google/snappy, format_description.txt).

    Raises:
        ModelError: it does not fit the length that it announces.
    """
    size, at = varint(data, 0, where)
    if size > MAX_BLOCK:
        raise _malformed("a compressed block is too large", where, got=size, expected=f"at most {MAX_BLOCK}")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        kind, high = tag & 3, tag >> 2
        extra = max(0, high - 59) if kind == 0 else (0, 1, 2, 4)[kind]
        if at + 1 + extra > len(data):
            raise _malformed("a compressed block is cut off", where, got=f"byte {at}")
        number = int.from_bytes(data[at + 1 : at + 1 + extra], "little")
        at += 1 + extra
        if kind == 0:
            length = (number if extra else high) + 1
            if at + length > len(data) or len(out) + length > size:
                raise _malformed("a compressed block does not fit its length", where, got=f"byte {at}")
            out += data[at : at + length]
            at += length
            continue
        length, back = ((high & 7) + 4, (high >> 3) << 8 | number) if kind == 1 else (high + 1, number)
        if not 0 < back <= len(out) or len(out) + length > size:
            raise _malformed("a compressed block copies from outside", where, got=f"byte {at}")
        start = len(out) - back
        while length:  # what is copied may overlap what it is copied to
            part = bytes(out[start : start + min(length, back)])
            out += part
            start += len(part)
            length -= len(part)
    if len(out) != size:
        raise _malformed("a compressed block is cut off", where, got=f"{len(out)} bytes", expected=size)
    return bytes(out)
