"""Keras models to Graphs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strop.errors import ModelError, UnsupportedError
from strop.frontend.keras.archive import load
from strop.frontend.keras.importer import Importer
from strop.frontend.verdicts import Verdict, combined
from strop.ir.graph import Graph


def read(model: Any, shapes: Mapping[str, Any] | None = None) -> Graph:
    """Reads a Keras model as it is: one import function per layer, nothing optimized. It computes as in inference, in f32.

    Inputs have the names of the input layers, outputs those of the layers that give them. Every node's ``source`` is the name of its layer, behind
    the names of the models that it lies in.

    Args:
        model: path of a ``.keras`` or whole-model ``.h5`` file, the bytes of an ``.h5`` file, or a model in memory.
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


@contextmanager
def saved(model: Any) -> Iterator[Path]:
    """A Keras model in memory as a file that lasts as long as the context.

    Raises:
        UnsupportedError: an object that is no model, or one that Keras cannot save.
    """
    if not hasattr(model, "save") or not hasattr(model, "layers"):
        raise UnsupportedError("this object of Keras is not read", got=type(model).__qualname__, expected="a model")
    with tempfile.TemporaryDirectory(prefix="strop-") as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
        except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
            raise UnsupportedError("Keras cannot save the model", got=str(error).split("\n")[0][:160], hint="build it first, or export it: model.export(folder)") from error
        yield path


def _import(model: Any, shapes: Mapping[str, Any] | None) -> Importer:
    if isinstance(model, (str, Path, bytes)):
        return _read(model, shapes, "model" if isinstance(model, bytes) else Path(model).stem)
    with saved(model) as path:
        return _read(path, shapes, str(getattr(model, "name", "model")))


def _read(model: str | Path | bytes, shapes: Mapping[str, Any] | None, name: str) -> Importer:
    importer = Importer(load(model), shapes, name)
    try:
        importer.run()
    except RecursionError:
        raise ModelError("the configuration is nested too deep", where=name) from None
    return importer
