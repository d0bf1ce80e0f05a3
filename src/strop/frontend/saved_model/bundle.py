"""The variables of a SavedModel or checkpoint: ``variables.index``, a table of what there is, and the shards with the elements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from strop.errors import ModelError, UnsupportedError
from strop.frontend.saved_model import messages, sorted_table, tensors
from strop.frontend.saved_model.checksum import masked
from strop.ir import dtype as dt
from strop.ir.op import Array

#: Most bytes of an index, and shards.
MAX_INDEX, MAX_SHARDS = 1 << 28, 1 << 16


class Bundle:
    """Variables by their keys. Elements stay memory-mapped; their checksum is verified when they are read.

    Args:
        prefix: path of the files without ``.index`` and ``.data-00000-of-00001``.

    Raises:
        ModelError: the index is missing, damaged or inconsistent.
        UnsupportedError: big-endian numbers.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        path = prefix.with_name(prefix.name + ".index")
        self._where = str(path)
        try:
            if path.stat().st_size > MAX_INDEX:
                raise ModelError("the index of the variables is too large", where=self._where, expected=f"at most {MAX_INDEX} bytes")
            data = path.read_bytes()
        except OSError as error:
            raise ModelError("the variables cannot be read", where=self._where, got=error.strerror, hint="a SavedModel is a folder: copy all of it") from error
        found = sorted_table.entries(data, self._where)
        header = messages.parse("BundleHeader", found.pop(b"", b""), self._where)
        if header.endianness != 0:
            raise UnsupportedError("variables of a big-endian machine are not supported", where=self._where)
        if not 1 <= header.num_shards <= MAX_SHARDS:
            raise ModelError("the number of files with variables is wrong", where=self._where, got=header.num_shards, expected=f"1 to {MAX_SHARDS}")
        self._shards = header.num_shards
        self._entries = {key.decode("utf-8", "replace"): value for key, value in found.items()}
        self._files: dict[int, Array] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def array(self, key: str) -> Array:
        """The elements of a variable.

        Raises:
            ModelError: there is none of this key, it reaches past its file, or its elements are damaged.
            UnsupportedError: a type that is not supported, or a variable that is stored in slices.
        """
        where = f"variable {key} of {self._prefix}"
        if key not in self._entries:
            raise ModelError("there is no such variable", where=where, got=key)
        entry: Any = messages.parse("BundleEntry", self._entries[key], where)
        kind, shape = tensors.dtype_of(entry.dtype, where), tensors.shape_of(entry.shape, where)
        if entry.slices:
            raise UnsupportedError("variables that are stored in slices are not supported", where=where, hint="save the model without partitioned variables")
        count = 1
        for size in shape:
            count *= size
        if entry.size != count * kind.size:
            raise ModelError("a variable's bytes do not fit its shape", where=where, got=f"{entry.size} bytes", expected=f"{count * kind.size} for {kind}{list(shape)}")
        raw = self._bytes(entry, where)
        if masked(raw) != entry.crc32c:
            raise ModelError("a variable is damaged: its checksum differs", where=where, hint="check that the file was copied completely")
        if kind is dt.boolean:
            return np.not_equal(raw, 0).reshape(shape)
        return raw.view(kind.numpy).reshape(shape) if entry.offset % kind.size == 0 else np.frombuffer(raw.tobytes(), kind.numpy).reshape(shape)

    def text(self, key: str) -> bytes:
        """The only element of a variable of strings: its length, a checksum of that, its bytes.

        Raises:
            ModelError: there is none of this key, or it is damaged.
        """
        where = f"variable {key} of {self._prefix}"
        entry: Any = messages.parse("BundleEntry", self._entries[key], where)
        raw = self._bytes(entry, where).tobytes()
        length, at = sorted_table.varint(raw, 0, where)
        if entry.dtype != tensors.STRING or entry.shape.dim or at + 4 + length != len(raw):
            raise ModelError("a variable is no single string", where=where, got=f"{tensors.type_name(entry.dtype)}, {len(raw)} bytes")
        return raw[at + 4 :]

    def _bytes(self, entry: Any, where: str) -> Array:
        file = self._file(entry.shard_id)
        if entry.size < 0 or not 0 <= entry.offset <= len(file) - entry.size:
            raise ModelError("a variable reaches past the end of its file", where=where, got=f"bytes {entry.offset} to {entry.offset + entry.size}", expected=f"at most {len(file)}")
        return file[entry.offset : entry.offset + entry.size]

    def _file(self, shard: int) -> Array:
        """The bytes of a shard, whose name is made of its number alone."""
        if not 0 <= shard < self._shards:
            raise ModelError("a variable lies in a file that is not there", where=self._where, got=f"file {shard}", expected=f"0 to {self._shards - 1}")
        if shard not in self._files:
            path = self._prefix.with_name(f"{self._prefix.name}.data-{shard:05d}-of-{self._shards:05d}")
            try:
                self._files[shard] = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
            except OSError as error:
                raise ModelError("the variables cannot be read", where=str(path), got=error.strerror, hint="a SavedModel is a folder: copy all of it") from error
        return self._files[shard]
