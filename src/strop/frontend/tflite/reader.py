"""TFLite files to Graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from strop.errors import UnsupportedError
from strop.frontend.tflite.importer import NEXT, Importer, input_names
from strop.frontend.tflite.model import load
from strop.frontend.tflite.sheets import sheet_of
from strop.frontend.tflite_sheet import SHEET, STATE, SheetVariable
from strop.frontend.verdicts import Verdict, combined, origins
from strop.ir.graph import Graph
from strop.ir.op import Array


def read(model: str | Path | bytes, shapes: Mapping[str, Any] | None = None, signature: str | None = None, *, keep: bool = False) -> Graph:
    """Reads a TFLite model as it is: one import function per operator, nothing optimized.

    Quantized tensors become Dequantize -> op on floats -> Quantize; inputs and outputs have the file's types. Every node's ``source``
    is the name of the operator's first result. A variable ``v``, whose value lasts from one run to the next, is an input ``v`` and an
    output ``v.next``; ``initial_state`` has the values for the first run.

    Args:
        model: path of a .tflite file, or its bytes.
        shapes: shapes of inputs by name, or ranges of free dims by name; see ``strop.ir.ranges``.
        signature: key of a signature, whose names inputs and outputs then have; None for the first subgraph and the tensors' names.
        keep: every tensor that the subgraph computes is an output, to be looked at.

    The graph carries a sheet, see ``strop.frontend.tflite_sheet``, for programs that know the file's tensors by their numbers.

    Raises:
        ModelError: the file is truncated or inconsistent.
        UnsupportedError: operators, options or types that are not supported; all of them are named.
        ShapeError: operands of an operator do not fit together.
        OptionError: ``shapes`` or ``signature`` does not fit the model.
    """
    importer = _import(model, shapes, signature, keep)
    if importer.errors:
        raise combined(importer.errors, len(importer.verdicts))
    importer.graph.origins = origins(importer.verdicts)
    session = importer.session
    states = [(v.given.name, session.initial[name]) for name, v in session.variables.items()]
    variables = tuple(SheetVariable(name, name + NEXT, array.nbytes) for name, array in states)
    sheet = sheet_of(importer.model, importer.number, signature, importer.types, importer.places, variables)
    importer.graph.carried[SHEET] = sheet.text().encode()
    if states:
        importer.graph.carried[STATE] = b"".join(np.ascontiguousarray(array).tobytes() for _, array in states)
    return importer.graph


def judge(model: str | Path | bytes, shapes: Mapping[str, Any] | None = None, signature: str | None = None) -> tuple[list[Verdict], Graph]:
    """What would become of every operator, without building anything, and the graph, empty unless all can be read. Arguments and
    errors as ``read``, but for operators."""
    importer = _import(model, shapes, signature)
    return importer.verdicts, Graph() if importer.errors else importer.graph


def stored_shapes(model: str | Path | bytes, signature: str | None = None) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs as the file has them, by the graph's names: sizes that it leaves open are what TFLite's interpreter begins with, mostly 1.

    Raises:
        ModelError: the file is truncated or inconsistent.
        OptionError: there is no such signature.
    """
    found = load(model)
    number = 0 if signature is None else found.signatures[signature].subgraph if signature in found.signatures else 0
    return {name: found.subgraphs[number].tensors[index].shape for index, name in input_names(found, signature).items()}


def initial_state(model: str | Path | bytes, shapes: Mapping[str, Any] | None = None, signature: str | None = None) -> dict[str, Array]:
    """The values of the model's variables before the first run, by the names of the inputs that take them. Arguments as ``read``.

    Raises:
        UnsupportedError: an initial value is computed.
        StropError: as ``read``.
    """
    importer = _import(model, shapes, signature)
    if importer.errors:
        raise combined(importer.errors, len(importer.verdicts))
    session = importer.session
    return {variable.given.name: session.initial[name] for name, variable in session.variables.items()}


def _import(model: str | Path | bytes, shapes: Mapping[str, Any] | None, signature: str | None, keep: bool = False) -> Importer:
    if not isinstance(model, (str, Path, bytes)):
        raise UnsupportedError("this kind of model is not read", got=type(model).__qualname__, expected="a .tflite file or its bytes")
    name = "model" if isinstance(model, bytes) else Path(model).stem
    importer = Importer(load(model), shapes, name, signature, keep)
    importer.run()
    return importer
