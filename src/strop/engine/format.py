"""The bytes of an engine file: header, section table, sections, checksums.

Little endian::

    header 64 B | section table, 96 B each | zeros to a multiple of 4096
    section 0 | zeros to a multiple of 4096 | section 1 | ...

Every byte is covered by exactly one checksum, so that any changed byte and any truncation is
found. ``runtime/src/strop_format.h`` is the C twin of this file and of ``plan.py``. Processes
without a compiler import this file: numpy and the standard library are all it needs.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from strop.engine.checksum import BLOCK, Buffer, Bytes, Hash64, as_bytes, hash64
from strop.errors import EngineFileError

MAGIC = b"STROP\x00\r\n"
FORMAT_VERSION = 1
RUNTIME_ABI = 3
KERNEL_ABI = 1
PLAN_ABI = 3
CUSTOM_ABI = 1
ALIGNMENT = BLOCK
MAX_SECTIONS = 256
MAX_FILE_BYTES = 1 << 44

_HEADER = struct.Struct("<8sIIQQ32x")
_SECTION = struct.Struct("<IIQQQ64s")
_CHECKSUM_AT = 24
_NAME_BYTES = 64

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview"


class SectionKind(IntEnum):
    """What a section holds."""

    MANIFEST = 1  # UTF-8 JSON
    GRAPH = 2  # UTF-8 text of the portable IR
    PLAN = 3  # records of plan.py
    WEIGHTS = 4  # raw bytes
    KERNELS = 5  # shared object; the name is a target such as x86_64-v4
    RUNTIME = 6  # shared object; the name is an operating system and processor: linux-x86_64
    CUSTOM = 7  # records of custom_section.py: steps whose code is found by name
    ATTACHMENT = 8  # bytes of a program above, by name; no part of Strop's runtime reads them
    HOST = 9  # of an engine for a GPU what the processor does: an engine file, and the parts.py that it calls


_DEFAULT_FLAGS = {
    SectionKind.PLAN: PLAN_ABI,
    SectionKind.KERNELS: KERNEL_ABI,
    SectionKind.RUNTIME: RUNTIME_ABI,
    SectionKind.CUSTOM: CUSTOM_ABI,
}
# (kind, at least, at most) for the kinds whose number is fixed.
_COUNTS = (
    (SectionKind.MANIFEST, 1, 1),
    (SectionKind.GRAPH, 0, 1),
    (SectionKind.PLAN, 1, 1),
    (SectionKind.WEIGHTS, 1, 1),
    (SectionKind.CUSTOM, 0, 1),
)


@dataclass(frozen=True)
class Section:
    """A section to be written.

    Attributes:
        kind: what it holds.
        name: printable ASCII, at most 63 characters; for code the target it runs on.
        data: its bytes, in pieces that are written one after the other without being joined;
            arrays count as their C-order bytes.
        flags: None for the kind's own: the version of a plan's, kernels' or runtime's interface.
    """

    kind: SectionKind
    name: str
    data: Sequence[Buffer]
    flags: int | None = None


@dataclass(frozen=True)
class SectionEntry:
    """A section of a file: a row of the section table. Offset and size are bytes."""

    kind: SectionKind
    name: str
    flags: int
    offset: int
    size: int
    checksum: int

    @property
    def padded_size(self) -> int:
        """Bytes up to the next section."""
        return round_up(self.size)


def round_up(size: int, alignment: int = ALIGNMENT) -> int:
    """The least multiple of `alignment` that is not below `size`."""
    return -(-size // alignment) * alignment


# ---- writing -------------------------------------------------------------------------------------


def write_engine(path: str | os.PathLike[str], sections: Sequence[Section]) -> None:
    """Write an engine file, whole or not at all: to a temporary name beside it, then renamed.

    Raises:
        EngineFileError: the sections do not make an engine, or the file cannot be written.
    """
    target = os.fspath(path)
    _check_kinds([(s.kind, s.name) for s in sections], target)
    temporary = f"{target}.{secrets.token_hex(6)}.tmp"
    try:
        # 0o666 and not mkstemp's 0o600: an engine is as readable as any file its user writes.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with open(descriptor, "wb", buffering=1 << 20) as file:
                _write_sections(file, sections, target)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise EngineFileError(
            "cannot write the engine file",
            where=target,
            got=error.strerror or error,
            hint="write to a folder that exists, is writable and has room",
        ) from error


def _write_sections(file: BinaryIO, sections: Sequence[Section], where: str) -> None:
    head_size = round_up(_HEADER.size + _SECTION.size * len(sections))
    file.write(bytes(head_size))
    rows = []
    offset = head_size
    for section in sections:
        size, checksum = _write_pieces(file, section.data)
        flags = _DEFAULT_FLAGS.get(section.kind, 0) if section.flags is None else section.flags
        name = section.name.encode("ascii")
        rows.append(_SECTION.pack(section.kind, flags, offset, size, checksum, name))
        offset += round_up(size)
        if offset > MAX_FILE_BYTES:
            raise EngineFileError("the engine is too large", where=where, got=f"{offset} bytes")
    head = bytearray(head_size)
    _HEADER.pack_into(head, 0, MAGIC, FORMAT_VERSION, len(sections), offset, 0)
    table = b"".join(rows)
    head[_HEADER.size : _HEADER.size + len(table)] = table
    struct.pack_into("<Q", head, _CHECKSUM_AT, hash64(head))
    file.seek(0)
    file.write(head)


def _write_pieces(file: BinaryIO, pieces: Iterable[Buffer]) -> tuple[int, int]:
    """Write a section and its padding; returns its size without, its checksum with padding."""
    hasher = Hash64()
    size = 0
    for piece in pieces:
        view = as_bytes(piece)
        hasher.update(view)
        file.write(view.data)
        size += len(view)
    padding = bytes(-size % ALIGNMENT)
    hasher.update(padding)
    file.write(padding)
    return size, hasher.digest()


# ---- reading -------------------------------------------------------------------------------------


class EngineFile:
    """An engine file opened for reading.

    The header and the section table are checked when it is opened, a section when it is read.

    Attributes:
        where: the path, or ``(memory)``.
        sections: in the order of the file.
    """

    def __init__(self, source: Source) -> None:
        """Open a path, or the bytes of an engine file.

        Raises:
            EngineFileError: not an engine file, truncated, changed or of another version.
        """
        if isinstance(source, (bytes, bytearray, memoryview)):
            self.where = "(memory)"
            self._memory: memoryview | None = memoryview(source).cast("B")
            self._size = len(self._memory)
        else:
            self.where = os.fspath(source)
            self._memory = None
            self._size = self._file_size()
        self.sections = self._read_head()

    def _file_size(self) -> int:
        try:
            if not Path(self.where).is_file():
                os.stat(self.where)
                raise self._error("not an engine file", got="a folder or device")
            return os.stat(self.where).st_size
        except (OSError, ValueError) as error:
            raise self._cannot_read(error) from error

    def _error(self, what: str, got: object = None, expected: object = None) -> EngineFileError:
        return EngineFileError(
            what,
            where=self.where,
            got=got,
            expected=expected,
            hint="build the engine again, or copy it again from where it was built",
        )

    def _cannot_read(self, error: Exception) -> EngineFileError:
        got = error.strerror if isinstance(error, OSError) else None
        return EngineFileError(
            "cannot read the engine file",
            where=self.where,
            got=got or error,
            hint="check the path and its permissions",
        )

    def _read_at(self, offset: int, size: int) -> Bytes:
        if self._memory is not None:
            data = as_bytes(self._memory[offset : offset + size])
        else:
            try:
                data = np.fromfile(self.where, np.uint8, count=size, offset=offset)
            except OSError as error:
                raise self._cannot_read(error) from error
        if len(data) != size:
            raise self._error("the engine file is truncated", got=f"{offset + len(data)} bytes")
        return data

    def _read_head(self) -> tuple[SectionEntry, ...]:
        if self._size < _HEADER.size:
            raise self._error(
                "not an engine file, or a truncated one",
                got=f"{self._size} bytes",
                expected=f"at least the {_HEADER.size} bytes of the header",
            )
        fixed = self._read_at(0, _HEADER.size).tobytes()
        magic, version, count, file_size, checksum = _HEADER.unpack(fixed)
        if magic != MAGIC:
            raise self._error("not an engine file", got=magic, expected=MAGIC)
        if version != FORMAT_VERSION:
            raise self._error("engine file of another version", version, FORMAT_VERSION)
        if file_size != self._size:
            what = "is truncated" if self._size < file_size else "has bytes added"
            raise self._error(
                f"the engine file {what}", f"{self._size} bytes", f"{file_size} bytes"
            )
        head_size = round_up(_HEADER.size + count * _SECTION.size)
        if not 1 <= count <= MAX_SECTIONS or head_size > self._size:
            raise self._error("the engine file is corrupt: its section count", got=count)
        head = bytearray(self._read_at(0, head_size).tobytes())
        struct.pack_into("<Q", head, _CHECKSUM_AT, 0)
        if hash64(head) != checksum:
            raise self._error("the engine file is corrupt: its header or section table was changed")
        rows = head[_HEADER.size : _HEADER.size + count * _SECTION.size]
        return self._parse_table(rows, head_size)

    def _parse_table(self, rows: bytearray, offset: int) -> tuple[SectionEntry, ...]:
        entries = []
        for index, row in enumerate(_SECTION.iter_unpack(rows)):
            entry = self._parse_row(index, row)
            if entry.offset != offset or entry.padded_size > self._size - offset:
                raise self._error(
                    f"the engine file is corrupt: the place of section {index} '{entry.name}'",
                    got=f"{entry.size} bytes at {entry.offset}",
                )
            offset += entry.padded_size
            entries.append(entry)
        if offset != self._size:
            raise self._error(
                "the engine file is corrupt: its sections do not fill it",
                f"{offset} bytes",
                f"{self._size} bytes",
            )
        _check_kinds([(e.kind, e.name) for e in entries], self.where)
        return tuple(entries)

    def _parse_row(self, index: int, row: tuple[int, int, int, int, int, bytes]) -> SectionEntry:
        kind, flags, offset, size, checksum, name = row
        try:
            text = name[: name.index(b"\0")].decode("ascii")
            return SectionEntry(SectionKind(kind), text, flags, offset, size, checksum)
        except ValueError as error:
            raise self._error(f"the engine file is corrupt: section {index}", got=error) from error

    def find(self, kind: SectionKind, name: str | None = None) -> SectionEntry | None:
        """The first section of a kind (and name), or None."""
        for entry in self.sections:
            if entry.kind == kind and name in (None, entry.name):
                return entry
        return None

    def read(self, entry: SectionEntry) -> Bytes:
        """The bytes of a section, checked against its checksum; uint8 [size].

        Raises:
            EngineFileError: the bytes were changed, or cannot be read.
        """
        data = self._read_at(entry.offset, entry.padded_size)
        if hash64(data) != entry.checksum:
            raise self._error(
                f"the engine file is corrupt: bytes of section '{entry.name}' were changed"
            )
        return data[: entry.size]

    def text(self, kind: SectionKind) -> str:
        """The text of the manifest or graph section; empty when there is none.

        Raises:
            EngineFileError: the section was changed or is not UTF-8.
        """
        entry = self.find(kind)
        if entry is None:
            return ""
        try:
            return self.read(entry).tobytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._error(f"section '{entry.name}' is not UTF-8", got=error) from error


def read_header(source: Source) -> tuple[SectionEntry, ...]:
    """The section table of an engine file; raises EngineFileError like EngineFile."""
    return EngineFile(source).sections


def read_sections(source: Source) -> Iterator[tuple[SectionEntry, Bytes]]:
    """Every section with its checked bytes; raises EngineFileError like EngineFile."""
    file = EngineFile(source)
    for entry in file.sections:
        yield entry, file.read(entry)


def _check_kinds(sections: list[tuple[SectionKind, str]], where: str) -> None:
    """Refuses a set of sections that is no engine."""
    if len(sections) > MAX_SECTIONS:
        raise EngineFileError(
            "too many sections", where=where, got=len(sections), expected=f"up to {MAX_SECTIONS}"
        )
    for kind, least, most in _COUNTS:
        count = sum(k == kind for k, _ in sections)
        if not least <= count <= most:
            expected = str(least) if least == most else f"{least} or {most}"
            raise EngineFileError(
                f"an engine with {count} {kind.name.lower()} sections",
                where=where,
                expected=expected,
            )
    for kind, name in sections:
        if not (name.isascii() and name.isprintable()) or len(name) >= _NAME_BYTES:
            raise EngineFileError(
                f"unusable name of a {kind.name.lower()} section",
                where=where,
                got=repr(name),
                expected=f"printable ASCII, at most {_NAME_BYTES - 1} characters",
            )


def in_range(number: Any, least: int, most: int) -> int:
    """A number that a file gives; ValueError for what is none, or leaves its range."""
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise ValueError(f"{number!r}, expected {least} to {most}")
    return number
