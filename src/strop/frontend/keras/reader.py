"""Keras models to Graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strop.frontend.keras.archive import load
from strop.frontend.keras.importer import Importer
from strop.frontend.verdicts import Verdict, combined
from strop.ir.graph import Graph


def read(model: Any, shapes: Mapping[str, Any] | None = None) -> Graph:
    """Reads a Keras model as it is: one import function per layer, nothing optimized. It computes as in inference, in f32.

    Inputs have the names of the input layers, outputs those of the layers that give them. Every node's ``source`` is the name of its layer, behind
    the names of the models that it lies in.

    Args:
        model: path of a ``.keras`` or whole-model ``.h5`` file, or the bytes of one.
        shapes: shapes of inputs by name, or ranges of free dims by name; see ``strop.ir.ranges``.

    Raises:
        ModelError: the file is damaged or inconsistent.
        UnsupportedError: layers, options or types that are not supported; all of them are named. Layers that hold code are among them.
        ShapeError: operands of a layer do not fit together.
        OptionError: ``shapes`` does not fit the model.
    """
    importer = _import(model, shapes)
    if importer.errors:
        raise combined(importer.errors, len(importer.verdicts))
    return importer.graph


def judge(model: Any, shapes: Mapping[str, Any] | None = None) -> tuple[list[Verdict], Graph]:
    """What would become of every call of a layer, without building anything, and the graph, empty unless all can be read. Arguments and
    errors as ``read``, but for layers."""
    importer = _import(model, shapes)
    return importer.verdicts, Graph() if importer.errors else importer.graph


def _import(model: str | Path | bytes, shapes: Mapping[str, Any] | None) -> Importer:
    importer = Importer(load(model), shapes, "model" if isinstance(model, bytes) else Path(model).stem)
    importer.run()
    return importer
