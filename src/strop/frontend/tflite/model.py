"""TFLite flatbuffers as plain records. Every number is checked before it is believed; weights stay where the file has them.

The only file that imports the schema classes of the package ``tflite``. Schema: tensorflow/lite/schema/schema.fbs, version 3.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tflite

from strop.errors import ModelError
from strop.frontend.tflite.grid import Grid
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.op import Array

#: What the accessors of flatbuffers raise on bytes that are no such table, or is raised on what they then answer.
BROKEN = (struct.error, ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)
_HINT = "check that the file was copied completely and is a .tflite file"
MAX_RANK = 16

#: Element types by their names in the schema; None stands for a handle of a resource.
DTYPES: dict[str, DType | None] = {
    "FLOAT32": dt.f32,
    "FLOAT16": dt.f16,
    "BFLOAT16": dt.bf16,
    "FLOAT64": dt.f64,
    "INT4": dt.i8,  # two in a byte where the file has them, see Tensor.elements
    "INT8": dt.i8,
    "INT16": dt.i16,
    "INT32": dt.i32,
    "INT64": dt.i64,
    "UINT8": dt.u8,
    "UINT16": dt.u16,
    "UINT32": dt.u32,
    "UINT64": dt.u64,
    "BOOL": dt.boolean,
    "RESOURCE": None,
}


def _names(schema: Any) -> dict[int, str]:
    return {number: name for name, number in vars(schema).items() if isinstance(number, int)}


OPERATORS = _names(tflite.BuiltinOperator)
_TYPES = _names(tflite.TensorType)
_OPTIONS, _OPTIONS_2 = _names(tflite.BuiltinOptions), _names(getattr(tflite, "BuiltinOptions2", object))


@dataclass(frozen=True)
class Level:
    """One level of a sparse tensor: dense of ``size``, or, with segments, compressed (CSR)."""

    size: int
    segments: Array | None = None
    indices: Array | None = None


@dataclass(frozen=True)
class Sparsity:
    """How a sparse tensor's values are stored.

    Attributes:
        order: which axis each level walks; those from the rank on are inner axes of blocks.
        blocks: which axis each of these splits.
        levels: from the outermost.
    """

    order: tuple[int, ...]
    blocks: tuple[int, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of a subgraph.

    Attributes:
        name: as in the file; not always unique.
        type: its name in the schema.
        shape: as stored; 1 where ``free`` has an axis.
        free: axes whose size is only known when the model runs.
        buffer: its bytes, or None of one that is computed.
        grid: how its integers stand for real numbers, if they do.
        sparsity: how its values are stored where they are not dense.
        variable: it keeps its value from one run to the next.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    free: tuple[int, ...] = ()
    buffer: Array | None = None
    grid: Grid | None = None
    sparsity: Sparsity | None = None
    variable: bool = False

    @property
    def dtype(self) -> DType | None:
        """Element type; None for a type that is not supported and for handles."""
        return DTYPES.get(self.type)

    def elements(self) -> Array:
        """What the buffer of a dense constant holds, one after the other; of 4-bit integers the low half of a byte comes first."""
        assert self.buffer is not None and self.dtype is not None and self.sparsity is None
        if self.type != "INT4":
            return self.buffer.view(self.dtype.numpy)
        halves = np.stack([self.buffer << 4, self.buffer], -1).reshape(-1).view(np.int8)
        found: Array = (halves >> 4)[: prod(self.shape)]
        return found


@dataclass(frozen=True)
class Operator:
    """An operator.

    Attributes:
        code: its name in the schema, ``CUSTOM`` for a custom op.
        custom: name of the custom op, else "".
        inputs, outputs: numbers of tensors; -1 for an input left out.
        options: table of the schema with its options, or None.
        custom_options: bytes that a custom op has in its place.
        intermediates: numbers of tensors that stand for what is computed on the way.
    """

    code: str
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any
    custom_options: bytes
    intermediates: tuple[int, ...] = ()


@dataclass(frozen=True)
class Subgraph:
    """A function: tensors, operators in the order of execution, and numbers of the tensors it takes and gives."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """A named entry: a subgraph, and the tensors of its arguments and results by their names."""

    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True)
class Model:
    """A file."""

    subgraphs: tuple[Subgraph, ...]
    signatures: Mapping[str, Signature]


def load(source: str | Path | bytes) -> Model:
    """The records of a file or of its bytes.

    Raises:
        ModelError: there is no such file, or it is truncated or inconsistent.
    """
    if isinstance(source, bytes):
        return _Reader(np.frombuffer(source, np.uint8), "the given bytes").model()
    where = str(source)
    try:
        data = np.memmap(source, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise ModelError("the model file cannot be read", where=where, got=getattr(error, "strerror", None) or error, hint=_HINT) from error
    return _Reader(data, where).model()


class _Reader:
    """Reads one file. What is counted in its vectors is bounded by its size, so that tables that are named often cost nothing."""

    def __init__(self, data: Array, where: str) -> None:
        self._data = data
        self._where = where
        self._left = len(data)
        self._place = "the header"

    def model(self) -> Model:
        try:
            return self._model()
        except BROKEN as error:
            raise ModelError(
                "the file is not a sound TFLite model", where=f"{self._where}, {self._place}", got=f"{type(error).__name__}: {error}", hint=_HINT
            ) from error

    def _broken(self, what: str, got: object = None, expected: object = None) -> ModelError:
        return ModelError(what, where=f"{self._where}, {self._place}", got=got, expected=expected, hint=_HINT)

    def _model(self) -> Model:
        if len(self._data) < 8 or bytes(self._data[4:8]) != b"TFL3":
            raise self._broken("the file is not a TFLite model", bytes(self._data[4:8]), b"TFL3")
        self._root = tflite.Model.GetRootAs(self._data.data, 0)
        if self._root.Version() != 3:
            raise self._broken("another version of the format", self._root.Version(), 3)
        self._codes = [self._code(c) for c in self._all(self._root, "OperatorCodes")]
        self._buffers = self._all(self._root, "Buffers")
        subgraphs = tuple(self._subgraph(g, k) for k, g in enumerate(self._all(self._root, "Subgraphs")))
        if not subgraphs:
            raise self._broken("the model has no subgraph")
        signatures: dict[str, Signature] = {}
        for entry in self._all(self._root, "SignatureDefs"):
            key = _text(entry.SignatureKey())
            self._place = f"signature {key}"
            index = entry.SubgraphIndex()
            if not 0 <= index < len(subgraphs):
                raise self._broken("no such subgraph", index, f"0 to {len(subgraphs) - 1}")
            count = len(subgraphs[index].tensors)
            signatures[key] = Signature(index, *(self._map(entry, field, count) for field in ("Inputs", "Outputs")))
        return Model(subgraphs, signatures)

    def _map(self, entry: Any, field: str, count: int) -> dict[str, int]:
        found = {_text(m.Name()): int(m.TensorIndex()) for m in self._all(entry, field)}
        self._check(tuple(found.values()), count)
        return found

    # ---- vectors

    def _spend(self, count: int) -> int:
        if not 0 <= count <= self._left:
            raise self._broken("a vector is longer than the file", count)
        self._left -= count
        return count

    def _all(self, table: Any, field: str) -> list[Any]:
        """The tables of a vector."""
        get = getattr(table, field)
        return [get(k) for k in range(self._spend(getattr(table, f"{field}Length")()))]

    def _numbers(self, table: Any, field: str) -> tuple[int, ...]:
        """The integers of a vector."""
        return tuple(self._array(table, field).tolist())

    def _array(self, table: Any, field: str) -> Array:
        count = self._spend(getattr(table, f"{field}Length")())
        found: Array = getattr(table, f"{field}AsNumpy")() if count else np.zeros(0, np.int64)
        return found

    def _check(self, numbers: Sequence[int], count: int, least: int = 0) -> tuple[int, ...]:
        for number in numbers:
            if not least <= number < count:
                raise self._broken("no such tensor", number, f"0 to {count - 1}")
        return tuple(numbers)

    # ---- parts

    def _code(self, code: Any) -> tuple[str, str]:
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())  # files before version 3a have only the first, of 8 bits
        name = OPERATORS.get(number, f"operator {number}")
        return name, _text(code.CustomCode()) if name == "CUSTOM" else ""

    def _subgraph(self, graph: Any, number: int) -> Subgraph:
        name = _text(graph.Name())
        self._place = f"subgraph {number}"
        tensors = tuple(self._tensor(t, number, k) for k, t in enumerate(self._all(graph, "Tensors")))
        operators = tuple(self._operator(o, len(tensors), number, k) for k, o in enumerate(self._all(graph, "Operators")))
        self._place = f"subgraph {number}"
        ends = [self._check(self._numbers(graph, field), len(tensors)) for field in ("Inputs", "Outputs")]
        computed = {index for operator in operators for index in operator.outputs} | set(ends[0])
        tensors = tuple(t if k in computed else _empty(t) for k, t in enumerate(tensors))
        return Subgraph(name, tensors, operators, ends[0], ends[1])

    def _operator(self, operator: Any, count: int, subgraph: int, number: int) -> Operator:
        self._place = f"subgraph {subgraph}, operator {number}"
        index = operator.OpcodeIndex()
        if not 0 <= index < len(self._codes):
            raise self._broken("no such operator code", index, f"0 to {len(self._codes) - 1}")
        code, custom = self._codes[index]
        inputs = self._check(self._numbers(operator, "Inputs"), count, -1)
        outputs = self._check(self._numbers(operator, "Outputs"), count)
        options: Any = None
        for kinds, kind, table in (
            (_OPTIONS, operator.BuiltinOptionsType, operator.BuiltinOptions),
            (_OPTIONS_2, getattr(operator, "BuiltinOptions2Type", int), getattr(operator, "BuiltinOptions2", None)),
        ):
            given = table() if kind() and table is not None else None
            if given is not None:
                options = getattr(tflite, kinds[kind()])()
                options.Init(given.Bytes, given.Pos)
        stored = b"" if operator.CustomOptionsIsNone() else self._array(operator, "CustomOptions").tobytes()
        return Operator(code, custom, inputs, outputs, options, stored, self._check(self._numbers(operator, "Intermediates"), count))

    def _tensor(self, tensor: Any, subgraph: int, number: int) -> Tensor:
        name = _text(tensor.Name())
        self._place = f"subgraph {subgraph}, tensor {number} ({name})"
        shape = self._numbers(tensor, "Shape")
        signature = self._numbers(tensor, "ShapeSignature") or shape
        if len(shape) > MAX_RANK or any(d < 0 for d in shape):
            raise self._broken("an unsound shape", list(shape), f"at most {MAX_RANK} sizes from 0 on")
        if len(signature) != len(shape):
            raise self._broken("shape and shape signature differ in rank", list(signature), list(shape))
        kind = _TYPES.get(tensor.Type(), f"type {tensor.Type()}")
        free = tuple(k for k, d in enumerate(signature) if d < 0)
        sparsity = tensor.Sparsity()
        found = Tensor(
            name, kind, shape, free, self._bytes(tensor.Buffer()), self._grid(tensor.Quantization(), shape),
            None if sparsity is None else self._sparsity(sparsity), bool(tensor.IsVariable()),
        )  # fmt: skip
        if found.buffer is not None and found.sparsity is None and found.dtype is not None:
            wanted = (prod(shape) + 1) // 2 if kind == "INT4" else prod(shape) * found.dtype.size
            if len(found.buffer) != wanted:
                raise self._broken("its buffer does not fit its shape", f"{len(found.buffer)} bytes", f"{wanted} bytes for {kind}{list(shape)}")
        return found

    def _bytes(self, index: int) -> Array | None:
        """The bytes of a buffer; None for an empty one. Those of large files lie behind the flatbuffer."""
        if index == 0:
            return None
        if not 0 <= index < len(self._buffers):
            raise self._broken("no such buffer", index, f"0 to {len(self._buffers) - 1}")
        buffer = self._buffers[index]
        offset, size = buffer.Offset(), buffer.Size()
        if offset > 1:
            if offset + size > len(self._data):
                raise self._broken("a buffer ends behind the file", f"{offset} + {size}", len(self._data))
            return self._data[offset : offset + size] if size else None
        if buffer.DataIsNone() or buffer.DataLength() == 0:
            return None
        found: Array = buffer.DataAsNumpy()
        if found.dtype != np.uint8 or len(found) != buffer.DataLength():
            raise self._broken("a buffer ends behind the file", buffer.DataLength())
        return found

    def _grid(self, given: Any, shape: tuple[int, ...]) -> Grid | None:
        if given is None or given.ScaleLength() == 0:
            return None
        scale = self._array(given, "Scale").astype(np.float32)
        zero = self._array(given, "ZeroPoint").astype(np.int64)
        zero = np.zeros(len(scale), np.int64) if len(zero) == 0 else zero
        axis = given.QuantizedDimension()
        if len(zero) == 1 < len(scale):
            zero = np.repeat(zero, len(scale))
        if len(zero) != len(scale):
            raise self._broken("scales and zero points differ in number", len(zero), len(scale))
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            if not scale.any():
                return None  # converters write zeros for what is not quantized
            raise self._broken("a scale is not positive", scale[:8].tolist())
        if len(scale) > 1 and not (0 <= axis < len(shape) and len(scale) == shape[axis]):
            raise self._broken("scales do not fit the tensor", f"{len(scale)} along axis {axis}", f"shape {list(shape)}")
        return Grid(scale, zero, axis)

    def _sparsity(self, given: Any) -> Sparsity:
        levels = []
        for level in self._all(given, "DimMetadata"):
            if level.Format() == tflite.DimensionType.DENSE:
                levels.append(Level(int(level.DenseSize())))
            else:
                parts = [self._sparse_vector(level, part) for part in ("ArraySegments", "ArrayIndices")]
                levels.append(Level(0, parts[0], parts[1]))
        return Sparsity(self._numbers(given, "TraversalOrder"), self._numbers(given, "BlockMap"), tuple(levels))

    def _sparse_vector(self, level: Any, part: str) -> Array:
        kinds = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}
        table, kind = getattr(level, part)(), getattr(level, f"{part}Type")()
        if table is None or kind not in kinds:
            raise self._broken("a sparse axis has no indices")
        vector = kinds[kind]()
        vector.Init(table.Bytes, table.Pos)
        return self._array(vector, "Values").astype(np.int64)


def _empty(tensor: Tensor) -> Tensor:
    """A constant without elements, which has no buffer, with an empty one."""
    absent = tensor.buffer is None and 0 in tensor.shape and not tensor.variable
    return replace(tensor, buffer=np.zeros(0, np.uint8)) if absent else tensor


def _text(given: Any) -> str:
    return bytes(given or b"").decode(errors="replace")
