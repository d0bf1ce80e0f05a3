"""Records of a TFLite file to its bytes, by the schema's own builder functions. Equal records give equal bytes.

Schema: tensorflow/lite/schema/schema.fbs, version 3. Data of buffers starts at multiples of 16 bytes and equal data is stored once;
in files that a flatbuffer cannot hold, it lies behind it. Constants have no names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
import tflite

from strop.frontend.tflite.grid import Grid
from strop.frontend.tflite.model import DTYPES
from strop.frontend.tflite.records import OutGraph, OutOperator, OutTensor
from strop.frontend.tflite.versions import runtime_version, version_of
from strop.ir.op import Array

#: Where data of buffers may start.
ALIGN = 16
#: Most bytes of constants inside the flatbuffer, whose offsets have 31 bits.
MOST_INSIDE = 1_900_000_000
#: Key of the only signature, as TensorFlow's converter writes it.
SIGNATURE = "serving_default"

#: Fields of one byte that are no bool.
_BYTES = ("Type", "BuiltinOptionsType", "DeprecatedBuiltinCode", "FusedActivationFunction", "Padding", "InDataType", "OutDataType", "Mode", "OutputType")

_TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items() if dtype is not None}


def serialize(graph: OutGraph, most_inside: int = MOST_INSIDE) -> bytes:
    """The bytes of a file of a graph, with those that its operators refer to, and one signature.

    Args:
        graph: what it holds.
        most_inside: bytes of constants above which they are put behind the flatbuffer.
    """
    return _Serializer(graph, most_inside).whole()


class _Serializer:
    def __init__(self, graph: OutGraph, most_inside: int) -> None:
        self._graph = graph
        self._graphs = graph.graphs()
        self._numbers = {tensor: number for part in self._graphs for number, tensor in enumerate(part.tensors())}
        self._codes = list(dict.fromkeys((o.code, version_of(o)) for part in self._graphs for o in part.operators))
        self._buffers: dict[bytes | None, int] = {None: 0}  # by content; the first is the empty one
        self._of: dict[OutTensor, int] = {}
        for tensor in self._numbers:
            data = None if tensor.data is None or tensor.data.size == 0 else np.ascontiguousarray(tensor.data).tobytes()
            self._of[tensor] = self._buffers.setdefault(data, len(self._buffers))
        self._version = runtime_version(self._codes).encode().ljust(16, b"\0")
        self._metadata = self._buffers.setdefault(self._version, len(self._buffers))
        self._outside = sum(len(data) for data in self._buffers if data) > most_inside

    def whole(self) -> bytes:
        """The file."""
        if not self._outside:
            return self._flatbuffer([(0, 0)] * len(self._buffers))
        # The numbers of offsets and sizes do not change the flatbuffer's length.
        start = _aligned(len(self._flatbuffer([(2, 2)] * len(self._buffers))))
        places = []
        for data in self._buffers:
            places.append((start, len(data)) if data else (0, 0))
            start = _aligned(start + len(data or b""))
        parts = [self._flatbuffer([place if place[1] else (0, 0) for place in places])]
        length = len(parts[0])
        for data, (at, size) in zip(self._buffers, places, strict=True):
            if data:
                parts += [bytes(at - length), data]
                length = at + size
        return b"".join(parts)

    def _flatbuffer(self, places: Sequence[tuple[int, int]]) -> bytes:
        self._b = flatbuffers.Builder(1 << 12)
        self._vectors: dict[tuple[str, bytes], int] = {}
        buffers = self._tables([self._buffer(data, *place) for data, place in zip(self._buffers, places, strict=True)])
        codes = self._tables([self._code(*code) for code in self._codes])
        graphs = self._tables([self._subgraph(part) for part in self._graphs])
        metadata = self._tables([self._table("Metadata", Name="min_runtime_version", Buffer=self._metadata)])
        signatures = self._tables([self._signature()])
        root = self._table(
            "Model", Version=3, OperatorCodes=codes, Subgraphs=graphs, Buffers=buffers, Metadata=metadata, SignatureDefs=signatures
        )
        self._b.Finish(root, b"TFL3")
        return bytes(self._b.Output())

    # ---- tables

    def _table(self, name: str, **values: Any) -> int:
        """A table; sequences of integers and texts become vectors and strings; None is left out. Fields of one byte lie together."""
        ready: dict[str, Any] = {}
        for key, value in values.items():
            if isinstance(value, str):
                value = self._b.CreateSharedString(value)
            elif isinstance(value, (list, tuple)):
                value = self._vector(np.asarray(value, np.int32))
            if value is not None:
                ready[key] = value
        getattr(tflite, f"{name}Start")(self._b)
        for key, value in sorted(ready.items(), key=lambda item: isinstance(item[1], bool) or item[0] in _BYTES):
            getattr(tflite, f"{name}Add{key}")(self._b, value)
        found: int = getattr(tflite, f"{name}End")(self._b)
        return found

    def _tables(self, offsets: Sequence[int]) -> int:
        self._b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._b.PrependUOffsetTRelative(offset)
        found: int = self._b.EndVector()
        return found

    def _buffer(self, data: bytes | None, offset: int, size: int) -> int:
        if not data:
            return self._table("Buffer")
        if self._outside:
            return self._table("Buffer", Offset=offset, Size=size)
        self._b.StartVector(1, len(data), ALIGN)
        self._b.head -= len(data)
        self._b.Bytes[self._b.head : self._b.head + len(data)] = data
        return self._table("Buffer", Data=self._b.EndVector())

    def _code(self, code: str, version: int) -> int:
        number = getattr(tflite.BuiltinOperator, code)
        return self._table("OperatorCode", DeprecatedBuiltinCode=min(number, 127), BuiltinCode=number, Version=version)

    def _subgraph(self, graph: OutGraph) -> int:
        tensors = self._tables([self._tensor(t) for t in graph.tensors()])
        operators = self._tables([self._operator(o) for o in graph.operators])
        return self._table(
            "SubGraph", Tensors=tensors, Operators=operators, Inputs=self._indices(graph.inputs.values()),
            Outputs=self._indices(graph.outputs.values()),
        )  # fmt: skip

    def _indices(self, tensors: Iterable[OutTensor | None]) -> tuple[int, ...]:
        return tuple(-1 if t is None else self._numbers[t] for t in tensors)

    def _tensor(self, tensor: OutTensor) -> int:
        signature = tuple(-1 if k in tensor.free else d for k, d in enumerate(tensor.shape)) if tensor.free else None
        return self._table(
            "Tensor", Shape=tensor.shape or None, Type=getattr(tflite.TensorType, _TYPE_NAMES[tensor.dtype]), Buffer=self._of[tensor],
            Name=None if tensor.data is not None else tensor.name, Quantization=None if tensor.grid is None else self._grid(tensor.grid), ShapeSignature=signature,
        )  # fmt: skip

    def _grid(self, grid: Grid) -> int:
        return self._table(
            "QuantizationParameters", Scale=self._vector(grid.scale.astype(np.float32)), ZeroPoint=self._vector(grid.zero.astype(np.int64)),
            QuantizedDimension=grid.axis,
        )  # fmt: skip

    def _vector(self, array: Array) -> int:
        """A vector; equal ones are stored once."""
        key = (array.dtype.str, array.tobytes())
        if key not in self._vectors:
            self._vectors[key] = self._b.CreateNumpyVector(array.reshape(-1))
        return self._vectors[key]

    def _operator(self, operator: OutOperator) -> int:
        options = self._options(operator.options, operator.fields) if operator.options else None
        return self._table(
            "Operator", OpcodeIndex=self._codes.index((operator.code, version_of(operator))), Inputs=self._indices(operator.inputs),
            Outputs=self._indices(operator.outputs), BuiltinOptions=options,
            BuiltinOptionsType=getattr(tflite.BuiltinOptions, operator.options) if operator.options else None,
        )  # fmt: skip

    def _options(self, name: str, fields: Mapping[str, Any]) -> int:
        return self._table(name, **{key: self._graphs.index(value) if isinstance(value, OutGraph) else value for key, value in fields.items()})

    def _signature(self) -> int:
        maps = [
            self._tables([self._table("TensorMap", Name=name, TensorIndex=self._numbers[tensor]) for name, tensor in ends.items()])
            for ends in (self._graph.inputs, self._graph.outputs)
        ]
        return self._table("SignatureDef", Inputs=maps[0], Outputs=maps[1], SignatureKey=SIGNATURE, SubgraphIndex=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN
