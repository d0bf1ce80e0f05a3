"""Small TFLite files made in tests, through the schema's own builder functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

_TYPES = {
    np.dtype(np.float32): "FLOAT32", np.dtype(np.float16): "FLOAT16", np.dtype(np.int8): "INT8", np.dtype(np.uint8): "UINT8",
    np.dtype(np.int16): "INT16", np.dtype(np.int32): "INT32", np.dtype(np.int64): "INT64", np.dtype(np.bool_): "BOOL",
}  # fmt: skip


@dataclass
class Function:
    """A subgraph that is being made; ``tensors`` and ``operators`` are what ``Maker`` writes."""

    maker: Maker
    tensors: list[dict[str, Any]] = field(default_factory=list)
    operators: list[tuple[int, Sequence[int], Sequence[int], str, Mapping[str, Any], bytes, Sequence[int]]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def tensor(self, name: str, shape: Sequence[int], type: str = "FLOAT32", **more: Any) -> int:
        """A tensor that is computed; ``more``: scale, zero, axis, signature, buffer, variable, sparsity."""
        self.tensors.append({"name": name, "shape": tuple(shape), "type": type, **more})
        return len(self.tensors) - 1

    def const(self, value: ArrayLike, dtype: Any = None, name: str = "", **more: Any) -> int:
        """A constant."""
        array = np.asarray(value, dtype)
        buffer = self.maker.buffer(array.tobytes())
        return self.tensor(name or f"const_{len(self.tensors)}", more.pop("shape", array.shape), _TYPES[array.dtype], buffer=buffer, **more)

    def input(self, name: str, shape: Sequence[int], type: str = "FLOAT32", **more: Any) -> int:
        """A tensor that the subgraph takes."""
        self.inputs.append(self.tensor(name, shape, type, **more))
        return self.inputs[-1]

    def op(self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", custom: str = "", custom_options: bytes = b"", intermediates: Sequence[int] = (), **values: Any) -> None:
        """An operator; ``values`` are its options by their names in the schema."""
        self.operators.append((self.maker.code(code, custom), inputs, outputs, options, values, custom_options, intermediates))


class Maker:
    """A file that is being made. The first subgraph is there from the start."""

    def __init__(self) -> None:
        self._buffers: list[bytes] = [b""]
        self._codes: list[tuple[str, str]] = []
        self.functions: list[Function] = [Function(self)]
        self.signatures: dict[str, tuple[int, dict[str, int], dict[str, int]]] = {}

    @property
    def main(self) -> Function:
        return self.functions[0]

    def function(self) -> Function:
        """Another subgraph."""
        self.functions.append(Function(self))
        return self.functions[-1]

    def buffer(self, data: bytes) -> int:
        self._buffers.append(data)
        return len(self._buffers) - 1

    def code(self, code: str, custom: str) -> int:
        if (code, custom) not in self._codes:
            self._codes.append((code, custom))
        return self._codes.index((code, custom))

    def bytes(self) -> bytes:
        """The file."""
        self._b = b = flatbuffers.Builder(4096)
        description = b.CreateString("made by a test")
        buffers = self._tables([self._table("Buffer", Data=np.frombuffer(data, np.uint8) if data else None) for data in self._buffers])
        codes = self._tables([self._code(*code) for code in self._codes])
        graphs = self._tables([self._function(f) for f in self.functions])
        entries = self._tables([self._signature(key, *entry) for key, entry in self.signatures.items()])
        root = self._table("Model", Version=3, OperatorCodes=codes, Subgraphs=graphs, Buffers=buffers, Description=description, SignatureDefs=entries)
        b.Finish(root, b"TFL3")
        return bytes(b.Output())

    # ---- tables

    def _table(self, name: str, **values: Any) -> int:
        """A table; lists of integers, arrays and texts become vectors and strings, offsets and numbers go in as they are."""
        ready = {}
        for key, value in values.items():
            if isinstance(value, (str, bytes)):
                value = self._b.CreateString(value)
            elif isinstance(value, (list, tuple)):
                value = self._b.CreateNumpyVector(np.asarray(value, np.int32))
            elif isinstance(value, np.ndarray):
                value = self._b.CreateNumpyVector(value)
            if value is not None:
                ready[key] = value
        getattr(tflite, f"{name}Start")(self._b)
        for key, value in ready.items():
            getattr(tflite, f"{name}Add{key}")(self._b, value)
        found: int = getattr(tflite, f"{name}End")(self._b)
        return found

    def _tables(self, offsets: Sequence[int]) -> int:
        self._b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._b.PrependUOffsetTRelative(offset)
        found: int = self._b.EndVector()
        return found

    def _code(self, code: str, custom: str) -> int:
        number = getattr(tflite.BuiltinOperator, code)
        return self._table("OperatorCode", DeprecatedBuiltinCode=min(number, 127), BuiltinCode=number, CustomCode=custom or None, Version=1)

    def _function(self, function: Function) -> int:
        tensors = self._tables([self._tensor(**t) for t in function.tensors])
        operators = self._tables([self._operator(*o) for o in function.operators])
        return self._table("SubGraph", Tensors=tensors, Operators=operators, Inputs=function.inputs, Outputs=function.outputs, Name="main")

    def _tensor(
        self, name: str, shape: tuple[int, ...], type: str, buffer: int = 0, scale: ArrayLike | None = None, zero: ArrayLike = 0, axis: int = 0,
        signature: Sequence[int] | None = None, variable: bool = False, sparsity: tuple[Any, ...] | None = None,
    ) -> int:  # fmt: skip
        grid = sparse = None
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            zeros = np.broadcast_to(np.asarray(zero, np.int64), scales.shape).copy()
            grid = self._table("QuantizationParameters", Scale=scales, ZeroPoint=zeros, QuantizedDimension=axis)
        if sparsity is not None:
            order, blocks, levels = sparsity
            rows = self._tables([self._level(*level) for level in levels])
            sparse = self._table("SparsityParameters", TraversalOrder=list(order), BlockMap=list(blocks) or None, DimMetadata=rows)
        kind = getattr(tflite.TensorType, type)
        return self._table(
            "Tensor", Shape=list(shape), Type=kind, Buffer=buffer, Name=name, Quantization=grid, IsVariable=variable, Sparsity=sparse,
            ShapeSignature=None if signature is None else list(signature),
        )  # fmt: skip

    def _level(self, size: int, segments: Sequence[int] | None = None, indices: Sequence[int] | None = None) -> int:
        if segments is None:
            return self._table("DimensionMetadata", Format=0, DenseSize=size)
        parts = [self._table("Uint8Vector", Values=np.asarray(p, np.uint8)) for p in (segments, indices)]
        return self._table("DimensionMetadata", Format=1, ArraySegmentsType=3, ArraySegments=parts[0], ArrayIndicesType=3, ArrayIndices=parts[1])

    def _operator(self, code: int, inputs: Sequence[int], outputs: Sequence[int], options: str, values: Mapping[str, Any], custom: bytes, between: Sequence[int]) -> int:
        made = self._table(options, **values) if options else None
        second = "2" if options and hasattr(tflite.BuiltinOptions2, options) else ""
        chosen = {f"BuiltinOptions{second}": made, f"BuiltinOptions{second}Type": getattr(getattr(tflite, f"BuiltinOptions{second}"), options)} if options else {}
        return self._table(
            "Operator", OpcodeIndex=code, Inputs=list(inputs), Outputs=list(outputs), **chosen, CustomOptions=np.frombuffer(custom, np.uint8) if custom else None,
            Intermediates=list(between) or None,
        )  # fmt: skip

    def _signature(self, key: str, subgraph: int, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> int:
        maps = [self._tables([self._table("TensorMap", Name=n, TensorIndex=i) for n, i in part.items()]) for part in (inputs, outputs)]
        return self._table("SignatureDef", Inputs=maps[0], Outputs=maps[1], SignatureKey=key, SubgraphIndex=subgraph)


def single(code: str, operands: Sequence[Any], results: Sequence[tuple[Any, ...]], options: str = "", **values: Any) -> bytes:
    """A file of one operator.

    Args:
        code: name of the operator.
        operands: arrays of constants; (shape, type, further arguments of ``tensor``) of inputs, which are named x0, x1, ..;
            None for one left out.
        results: as inputs; named y0, y1, ..
        options, values: see ``Function.op``.
    """
    maker = Maker()
    main = maker.main
    numbers = []
    for k, operand in enumerate(operands):
        if operand is None:
            numbers.append(-1)
        elif isinstance(operand, tuple):
            shape, *rest = operand
            numbers.append(main.input(f"x{k}", shape, *rest[:1], **(rest[1] if len(rest) > 1 else {})))
        else:
            numbers.append(main.const(operand))
    main.outputs = [main.tensor(f"y{k}", r[0], *r[1:2], **(r[2] if len(r) > 2 else {})) for k, r in enumerate(results)]
    main.op(code, numbers, main.outputs, options, **values)
    return maker.bytes()
