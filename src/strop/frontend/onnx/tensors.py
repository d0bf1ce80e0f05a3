"""TensorProto to numpy array: bounds-checked, memory-mapped where the data lies in a file."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from onnx import SparseTensorProto, TensorProto

from strop.errors import ModelError, UnsupportedError
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.op import Array
from strop.ir.shape import contiguous_strides

#: Most axes a tensor may have (numpy itself stops at 64).
MAX_RANK = 32
#: Most bytes of a single tensor: what 40 bits address.
MAX_BYTES = 1 << 40
#: Most bytes of a sparse tensor made dense.
MAX_DENSE = 256 << 20

#: Field that holds the values of a dtype when raw_data is absent, and the numpy type to read it as.
_TYPED = {
    dt.f32: ("float_data", np.float32),
    dt.f64: ("double_data", np.float64),
    dt.i64: ("int64_data", np.int64),
    dt.u64: ("uint64_data", np.uint64),
    dt.u32: ("uint64_data", np.uint64),
}


#: Types of 4 bits, and those of 8 that hold the same numbers.
HALF_BYTES: dict[int, DType] = {TensorProto.INT4: dt.i8, TensorProto.UINT4: dt.u8}


def element_type(code: int, where: str) -> DType:
    """The DType of an ONNX elem_type; UnsupportedError names types such as STRING or FLOAT8E4M3FN."""
    found = dt.BY_CODE.get(code)
    if found in dt.ON_PROCESSORS:
        return found
    known = TensorProto.DataType.DESCRIPTOR.values_by_number.get(code)
    if known is None or code == TensorProto.UNDEFINED:
        raise ModelError("unknown element type", where=where, got=code)
    raise UnsupportedError(
        f"element type {known.name} is not supported",
        where=where,
        expected=", ".join(d.name for d in dt.ON_PROCESSORS),
        hint="cast the value to a supported type when the model is exported",
    )


def check_shape(dims: Sequence[int], where: str) -> None:
    """ModelError for negative dims, for more axes than are supported, and for sizes beyond what numpy can describe."""
    if len(dims) > MAX_RANK or any(d < 0 for d in dims) or prod(d or 1 for d in dims) > MAX_BYTES:
        raise ModelError(
            "impossible shape",
            where=where,
            got=tuple(dims),
            expected=f"at most {MAX_RANK} dims, none negative, and at most {MAX_BYTES} elements",
        )


class TensorReader:
    """Reads the TensorProtos of one model.

    Attributes:
        folder: folder of the model file, against which external data is looked up; None when there is no file.
        data: bytes of the model file, in which ``wire.split`` found weights.
    """

    def __init__(self, folder: Path | None, data: memoryview | None) -> None:
        self.folder = folder
        self.data = data
        self._maps: dict[Path, np.memmap[tuple[int], np.dtype[np.uint8]]] = {}

    def read(self, tensor: TensorProto, where: str, span: tuple[int, int] | None = None, halves: bool = False) -> Array:
        """The array of a tensor.

        Args:
            tensor: the tensor; its name is used in messages.
            where: what the tensor belongs to, for messages.
            span: (offset, bytes) in the model file of data that ``wire.split`` left out.
            halves: 4-bit integers may come as 8-bit ones.

        Raises:
            ModelError: sizes that do not agree, external data that is missing or out of bounds.
            UnsupportedError: an element type or storage form that is not supported.
        """
        if halves and tensor.data_type in HALF_BYTES:
            return self._half_bytes(tensor, where, span)
        dtype = element_type(tensor.data_type, where)
        dims = tuple(tensor.dims)
        check_shape(dims, where)
        size = prod(dims) * dtype.size
        if size > MAX_BYTES:
            raise ModelError(
                "tensor is too large",
                where=where,
                got=f"{size} bytes",
                expected=f"at most {MAX_BYTES}",
            )
        if tensor.HasField("segment"):
            raise UnsupportedError("tensors stored in segments are not supported", where=where)
        if tensor.data_location == TensorProto.EXTERNAL:
            return _view(self._external(tensor, size, where), dtype, dims)
        if span is not None:
            assert self.data is not None
            offset, length = span
            _check_length(length, size, where)
            return _view(np.frombuffer(self.data, np.uint8, length, offset), dtype, dims)
        if tensor.HasField("raw_data"):
            raw = np.frombuffer(tensor.raw_data, np.uint8)
            _check_length(raw.size, size, where)
            return _view(raw, dtype, dims)
        return _typed(tensor, dtype, dims, where)

    def _half_bytes(self, tensor: TensorProto, where: str, span: tuple[int, int] | None) -> Array:
        """4-bit integers, two in a byte, the first in its lower half (onnx.proto, TensorProto.DataType), as 8-bit integers."""
        dims = tuple(tensor.dims)
        check_shape(dims, where)
        packed = TensorProto()
        packed.CopyFrom(tensor)
        packed.data_type = TensorProto.UINT8
        packed.dims[:] = [-(-prod(dims) // 2)]
        bytes = self.read(packed, where, span)
        both = np.stack([bytes & 15, bytes >> 4], -1).reshape(-1)[: prod(dims)].reshape(dims)
        return both if HALF_BYTES[tensor.data_type] is dt.u8 else ((both ^ 8).astype(np.int8) - np.int8(8))

    def read_sparse(self, sparse: SparseTensorProto, where: str) -> Array:
        """The dense array of a sparse tensor in coordinate form (indices [NNZ] or [NNZ, rank])."""
        dims = tuple(sparse.dims)
        check_shape(dims, where)
        values = self.read(sparse.values, f"{where}, values")
        indices = self.read(sparse.indices, f"{where}, indices")
        count = prod(dims)
        if count * values.itemsize > MAX_DENSE:
            raise ModelError(
                "sparse tensor is too large",
                where=where,
                got=f"{count} elements",
                expected=f"at most {MAX_DENSE} bytes",
            )
        if indices.ndim == 2 and indices.shape[1] == len(dims):
            inside = bool(np.all((indices >= 0) & (indices < np.asarray(dims))))
            flat = indices @ np.asarray(contiguous_strides(dims), np.int64) if inside else indices
        else:
            flat = indices
        if values.ndim != 1 or flat.shape != values.shape or np.any((flat < 0) | (flat >= count)):
            raise ModelError(
                "sparse tensor has indices that do not fit", where=where, got=f"shape {list(dims)}"
            )
        dense = np.zeros(count, values.dtype)
        dense[flat] = values
        return dense.reshape(dims)

    def _external(self, tensor: TensorProto, size: int, where: str) -> Array:
        """Bytes of a tensor kept in another file (ONNX docs/ExternalData.md)."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        path = self._external_path(location, where)
        offset, length = (_number(entries, key, where) for key in ("offset", "length"))
        length = size if length is None else length
        _check_length(length, size, where)
        start = offset or 0
        total = path.stat().st_size
        if start + length > total:
            raise ModelError(
                "external data is shorter than the tensor that lies in it",
                where=f"{where}, file {location}",
                got=f"{total} bytes",
                expected=f"at least {start + length} bytes",
            )
        if length == 0:
            return np.empty(0, np.uint8)
        if path not in self._maps:
            self._maps[path] = np.memmap(path, np.uint8, mode="r")
        return self._maps[path][start : start + length]

    def _external_path(self, location: str, where: str) -> Path:
        if self.folder is None:
            raise ModelError(
                "the model keeps weights in another file, and was not itself read from a file",
                where=f"{where}, file {location}",
                hint="give the path of the .onnx file instead of its bytes",
            )
        folder = self.folder.resolve()
        try:
            path = (folder / location).resolve()
            there = path.is_file()
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                "unusable external data file name", where=where, got=repr(location[:200])
            ) from error
        if not location or Path(location).is_absolute() or not path.is_relative_to(folder):
            raise ModelError(
                "external data must lie in the model's own folder",
                where=where,
                got=repr(location),
                hint="move the file beside the model",
            )
        if not there:
            raise ModelError(
                "external data file is missing",
                where=f"{where}, file {location}",
                expected=f"a regular file in {folder}",
                hint="copy the file beside the model",
            )
        return path


def _number(entries: dict[str, str], key: str, where: str) -> int | None:
    text = entries.get(key, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"external data has an unusable {key}", where=where, got=repr(text[:40]))
    return int(text)


def _check_length(got: int, size: int, where: str) -> None:
    if got != size:
        raise ModelError(
            "tensor data does not fit its shape",
            where=where,
            got=f"{got} bytes",
            expected=f"{size} bytes",
        )


def _view(raw: Array, dtype: DType, dims: tuple[int, ...]) -> Array:
    if dtype is dt.boolean:  # any other byte than 0 and 1 is not a bool to numpy
        return np.not_equal(raw, 0).reshape(dims)
    array: Array = raw.view(dtype.numpy).reshape(dims)
    array.flags.writeable = False
    return array


def _typed(tensor: TensorProto, dtype: DType, dims: tuple[int, ...], where: str) -> Array:
    """Values kept one by one in float_data, int32_data and the like."""
    field, kind = _TYPED.get(dtype, ("int32_data", np.int32))
    values = np.array(getattr(tensor, field), dtype=kind)
    if values.size != prod(dims):
        raise ModelError(
            "tensor data does not fit its shape",
            where=where,
            got=f"{values.size} elements in {field}",
            expected=f"{prod(dims)} elements",
        )
    if dtype in (dt.f16, dt.bf16):  # int32_data holds their bits
        return values.astype(np.uint16).view(dtype.numpy).reshape(dims)
    return values.astype(dtype.numpy).reshape(dims)
