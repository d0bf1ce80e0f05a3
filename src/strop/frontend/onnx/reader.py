"""ONNX files to Graphs. Weights stay memory-mapped; every byte of the file is checked before it is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto

# Importing these registers their import functions.
import strop.frontend.onnx.ops_attention
import strop.frontend.onnx.ops_contrib
import strop.frontend.onnx.ops_contrib_quant
import strop.frontend.onnx.ops_control
import strop.frontend.onnx.ops_data
import strop.frontend.onnx.ops_einsum
import strop.frontend.onnx.ops_index
import strop.frontend.onnx.ops_math
import strop.frontend.onnx.ops_nn
import strop.frontend.onnx.ops_quant
import strop.frontend.onnx.ops_recurrent
import strop.frontend.onnx.ops_resize
import strop.frontend.onnx.ops_select
import strop.frontend.onnx.ops_signal
import strop.frontend.onnx.ops_vision  # noqa: F401
from strop.errors import ModelError
from strop.frontend.onnx import wire
from strop.frontend.onnx.importer import Importer
from strop.frontend.onnx.tensors import TensorReader
from strop.frontend.verdicts import Verdict, combined, origins
from strop.ir.graph import Graph
from strop.ir.shape import Dim

Source = str | Path | bytes | ModelProto
Shapes = Mapping[str, str | Sequence[int | str | Dim]]


def read_onnx(source: Source, shapes: Shapes | None = None) -> Graph:
    """Reads an ONNX model as it is: one import function per op, nothing optimized.

    Shape computations are evaluated, so no Shape or ConstantOfShape remains. Initializers that are also inputs are
    constants. Local functions are expanded. Every node's ``source`` is the name of the model's node.

    Args:
        source: path of an .onnx file, its bytes, or a ModelProto.
        shapes: shapes of inputs by name, or dims by the model's names of them; they replace the declared ones, and may have
            ranges, see ``strop.ir.ranges``. Unknown dims become symbols without a range otherwise.

    Raises:
        ModelError: the file is truncated, inconsistent, or refers to data that is missing.
        UnsupportedError: ops, attribute values, dtypes or opsets that are not supported; all of them are named. Or the file is
            a model of another kind.
        ShapeError: operands of a node do not fit together.
        OptionError: ``shapes`` does not fit the model's inputs.
    """
    importer = _import(source, shapes)
    if importer.errors:
        raise combined(importer.errors, len(importer.verdicts))
    importer.graph.origins = origins(importer.verdicts)
    return importer.graph


read = read_onnx  # the name in ``strop.frontend.table``


def survey(source: Source, shapes: Shapes | None = None) -> list[Verdict]:
    """What would become of every node of a model, without building anything.

    Args:
        source: path of an .onnx file, its bytes, or a ModelProto.
        shapes: as for ``read_onnx``.

    Returns:
        One verdict per node, in the order of execution; then one for every output that cannot be given.

    Raises:
        ModelError: the file is no model whose nodes could be judged.
    """
    return _import(source, shapes).verdicts


def judge(source: Source, shapes: Shapes | None = None) -> tuple[list[Verdict], Graph]:
    """``survey``, and the graph of the nodes that can be read.

    Values whose types the model declares stand for the results of nodes that cannot be read, as further inputs; what these nodes
    would have read are further outputs. Without such nodes it is the graph that ``read_onnx`` gives.

    Raises:
        ModelError: the file is no model whose nodes could be judged.
    """
    importer = _import(source, shapes)
    return importer.verdicts, importer.judged() if importer.errors else importer.graph


def _import(source: Source, shapes: Shapes | None) -> Importer:
    if isinstance(source, ModelProto):
        importer = Importer(source, TensorReader(None, None), {}, shapes, "model")
    elif isinstance(source, bytes):
        data = memoryview(source)
        importer = Importer(*_parse(data, "the given bytes", None), shapes, "model")
    else:
        path = Path(source)
        importer = Importer(*_parse(_map(path), str(path), path.parent), shapes, path.stem)
    importer.run()
    return importer


def _map(path: Path) -> memoryview:
    """The file's bytes, memory-mapped."""
    hint = "give the path of an .onnx file"
    try:
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "something else" if path.exists() else "nothing"
            raise ModelError("there is no such model file", where=str(path), got=kind, hint=hint)
        if path.stat().st_size == 0:
            raise ModelError("the model file is empty", where=str(path), hint="copy it again")
        return np.memmap(path, np.uint8, mode="r").data
    except OSError as error:
        raise ModelError(
            "the model file cannot be read", where=str(path), got=error.strerror, hint=hint
        ) from error
    except ValueError as error:
        raise ModelError(
            "the model file cannot be read", where=repr(str(path)), got=error, hint=hint
        ) from error


def _parse(
    data: memoryview, where: str, folder: Path | None
) -> tuple[ModelProto, TensorReader, dict[int, tuple[int, int]]]:
    """The ModelProto, what reads its tensors, and where its bulky weights lie."""
    hint = "check that the file was copied completely and is an .onnx file"
    model = ModelProto()
    try:
        slim, spans = wire.split(data)
        model.ParseFromString(slim)
    except ModelError as error:
        raise ModelError(
            error.what, where=f"{where}, {error.where}", got=error.got, hint=hint
        ) from None
    except DecodeError as error:
        raise ModelError(
            "the file is not an ONNX model", where=where, got=error, hint=hint
        ) from error
    if model.ir_version < 1 or not model.HasField("graph"):
        raise ModelError(
            "the file is not an ONNX model",
            where=where,
            got="no graph" if model.ir_version >= 1 else "no IR version",
            expected="a serialized ModelProto",
            hint=hint,
        )
    return model, TensorReader(folder, data), spans
