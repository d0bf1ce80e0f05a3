"""What an interpreter runs: a .tflite file, compiled when its tensors are allocated, or an engine that was built from one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.engine.engine import Engine, load
from strop.engine.format import MAGIC
from strop.errors import EngineFileError, ModelError, OptionError, StropError
from strop.frontend.tflite_sheet import SHEET, STATE, Sheet, SheetTensor, parse

Array = NDArray[Any]
#: Of Strop's dtypes in TFLite's schema.
TYPE_NAMES = {
    "f32": "FLOAT32", "f16": "FLOAT16", "bf16": "BFLOAT16", "f64": "FLOAT64", "i8": "INT8", "i16": "INT16", "i32": "INT32", "i64": "INT64",
    "u8": "UINT8", "u16": "UINT16", "u32": "UINT32", "u64": "UINT64", "bool": "BOOL",
}  # fmt: skip


@dataclass
class Program:
    """A subgraph that can run.

    Attributes:
        engine: the loaded engine.
        sheet: of the subgraph at these shapes.
        state: first values of the variables, by the engine's inputs.
    """

    engine: Engine
    sheet: Sheet
    state: dict[str, Array]


class FileSource:
    """A .tflite file or its bytes."""

    def __init__(self, given: str | bytes) -> None:
        """ValueError, in LiteRT's words, for what is no sound file."""
        if find_spec("tflite") is None:
            raise OptionError("the package tflite is not installed", where="reading a .tflite file", hint="pip install 'strop[tflite]', or give a .strop engine")
        self._given = given
        self._reader = import_module("strop.frontend.tflite.reader")
        self._sheet_of = import_module("strop.frontend.tflite.sheets").sheet_of
        try:
            self._model = import_module("strop.frontend.tflite.model").load(given)
        except ModelError as error:
            raise ValueError("The model is not a valid Flatbuffer buffer") from error

    def sheet(self, subgraph: int) -> Sheet:
        """What the file says, before it is compiled."""
        key = next((k for k, s in self._model.signatures.items() if s.subgraph == subgraph), None) if subgraph else None
        found: Sheet = self._sheet_of(self._model, subgraph, key)
        return found

    def check(self, key: str | None) -> None:
        """Every signature of a file can be compiled."""

    def program(self, key: str | None, shapes: Mapping[int, Sequence[int]], threads: int, keep: bool) -> Program:
        """The subgraph, compiled at level 0 for these shapes of inputs, by their tensors' numbers; other open sizes are 1."""
        subgraph = 0 if key is None else self._model.signatures[key].subgraph
        sheet = self.sheet(subgraph)
        names = import_module("strop.frontend.tflite.importer").input_names(self._model, key)
        wanted = {names[k]: tuple(shapes.get(k, sheet.tensors[k].shape)) for k in names}
        graph = self._reader.read(self._given, wanted, key, keep=keep)
        engine = import_module("strop.engine.build").build(graph, level=0, threads=threads)
        made = _program(engine)
        known = tuple(replace(t, sparsity=old.sparsity, const=old.const) for t, old in zip(made.sheet.tensors, sheet.tensors, strict=True))
        made.sheet = replace(made.sheet, tensors=tuple(_signed(t, old) for t, old in zip(known, sheet.tensors, strict=True)))
        return made


def _signed(tensor: SheetTensor, told: SheetTensor) -> SheetTensor:
    """With -1 where the file leaves sizes open."""
    if len(tensor.shape) != len(told.signature):
        return tensor
    return replace(tensor, signature=tuple(-1 if s == -1 else d for s, d in zip(told.signature, tensor.shape, strict=True)))


class EngineSource:
    """An engine file or its bytes."""

    def __init__(self, given: str | bytes) -> None:
        """ValueError for what is no sound engine."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(given, bytes):
            self._folder = tempfile.TemporaryDirectory(prefix="strop-")
            path = os.path.join(self._folder.name, "engine.strop")
            with open(path, "wb") as file:
                file.write(given)
            given = path
        try:
            self._program = _program(load(given))
        except StropError as error:
            raise ValueError(str(error)) from error

    def sheet(self, subgraph: int) -> Sheet:
        """What the engine carries."""
        found = self._program.sheet
        if subgraph not in (0, found.subgraph):
            raise ValueError(f"the engine was built of subgraph {found.subgraph} and has not subgraph {subgraph}; build one with --signature, or load the .tflite file")
        return found

    def check(self, key: str | None) -> None:
        """OptionError when the engine was built of another signature."""
        sheet = self._program.sheet
        if key is not None and sheet.signatures[key].subgraph != sheet.subgraph:
            raise OptionError("the engine was built of another signature", got=key, expected=sheet.key or "the main subgraph", hint="load the .tflite file, or strop build --signature")

    def program(self, key: str | None, shapes: Mapping[int, Sequence[int]], threads: int, keep: bool) -> Program:
        """The engine, which serves the shapes that it was built for.

        Raises:
            OptionError: it does not keep intermediate tensors.
        """
        found = self._program
        if keep:
            raise OptionError("an engine does not keep intermediate tensors", where="experimental_preserve_all_tensors", hint="load the .tflite file")
        return found


def open_source(path: Any, content: bytes | None) -> FileSource | EngineSource:
    """What a path or bytes hold.

    Raises:
        ValueError: nothing that can be run, in LiteRT's words.
    """
    if content is not None:
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise TypeError(f"model_content must be bytes, not {type(content).__name__}")
        data = bytes(content)
        return EngineSource(data) if data.startswith(MAGIC) else FileSource(data)
    where = os.fspath(path)
    where = os.fsdecode(where)
    try:
        with open(where, "rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        raise ValueError(f"Could not open '{where}'.The model allocation is null/empty") from error
    return EngineSource(where) if head == MAGIC else FileSource(where)


def _program(engine: Engine) -> Program:
    stored = engine.attachment(SHEET)
    if stored is None:
        return Program(engine, _plain(engine), {})
    where = str(engine.path)
    sheet = parse(stored.decode(errors="replace"), where)
    data = engine.attachment(STATE) or b""
    ports = {port.name: port for port in engine.inputs}
    state, at = {}, 0
    for variable in sheet.variables:
        port = ports.get(variable.input)
        if port is None or at + variable.size > len(data):
            raise EngineFileError("the engine's variables do not fit it", where=where, got=variable.input)
        state[port.name] = np.frombuffer(data[at : at + variable.size], port.dtype.numpy).reshape(port.shape)
        at += variable.size
    return Program(engine, sheet, state)


def _plain(engine: Engine) -> Sheet:
    """Of an engine that was not built from a .tflite file: its inputs and outputs are its tensors."""

    def tensor(port: Any, kind: str) -> SheetTensor:
        signature = tuple(-1 if port.is_dynamic and low != high else d for d, low, high in zip(port.shape, port.least or port.shape, port.most or port.shape, strict=True))
        return SheetTensor(port.name, TYPE_NAMES[str(port.dtype)], port.shape, signature, place=f"{kind}:{port.name}")

    tensors = [*(tensor(p, "in") for p in engine.inputs), *(tensor(p, "out") for p in engine.outputs)]
    count = len(engine.inputs)
    return Sheet(tuple(tensors), tuple(range(count)), tuple(range(count, len(tensors))))
