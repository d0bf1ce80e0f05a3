"""SavedModels, frozen graphs and functions of TensorFlow to Graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strop.errors import ModelError
from strop.frontend.saved_model import live, program
from strop.frontend.saved_model.importer import Importer
from strop.frontend.verdicts import Verdict, combined
from strop.ir.graph import Graph
from strop.ir.op import Array


def read(model: Any, shapes: Mapping[str, Any] | None = None, signature: str | None = None) -> Graph:
    """Reads one signature of a SavedModel, or a frozen graph, as it is: one import function per op, nothing optimized.

    Functions are read where they are called, loops of known length are unrolled, variables become constants. One that a run changes, ``v``, is an
    input ``v`` and an output ``v.next``; ``initial_state`` has the values for the first run. Inputs and outputs have
    the signature's names, those of a frozen graph the names of their nodes. Every node's ``source`` is the name of TensorFlow's node.

    Args:
        model: path of a SavedModel's folder, of the ``saved_model.pb`` in it, or of a frozen ``.pb`` graph; a ConcreteFunction, or a
            tf.function with an input signature, where TensorFlow is installed.
        shapes: shapes of inputs by name, or ranges of free dims by name; see ``strop.ir.ranges``.
        signature: key of a signature; None for the only one or ``serving_default``.

    Raises:
        ModelError: a file is missing, damaged or inconsistent.
        UnsupportedError: ops, attributes or types that are not supported; all of them are named.
        ShapeError: operands of a node do not fit together.
        OptionError: ``shapes`` or ``signature`` does not fit the model.
    """
    importer = _import(model, shapes, signature)
    if importer.errors:
        raise combined(importer.errors, len(importer.verdicts))
    return importer.graph


def judge(model: Any, shapes: Mapping[str, Any] | None = None, signature: str | None = None) -> tuple[list[Verdict], Graph]:
    """What would become of every node that the outputs need, without building anything, and the graph, empty unless all can be read.
    Arguments and errors as ``read``, but for ops."""
    importer = _import(model, shapes, signature)
    return importer.verdicts, Graph() if importer.errors else importer.graph


def initial_state(model: Any, shapes: Mapping[str, Any] | None = None, signature: str | None = None) -> dict[str, Array]:
    """The values of variables that a run changes before the first run, by the names of the inputs that take them. Arguments and errors as ``read``."""
    importer = _import(model, shapes, signature)
    if importer.errors:
        raise combined(importer.errors, len(importer.verdicts))
    return {state.given.name: state.initial for state in importer.session.state.values()}


def _import(model: Any, shapes: Mapping[str, Any] | None, signature: str | None) -> Importer:
    importer = Importer(_program(model, signature), shapes)
    try:
        importer.run()
    except RecursionError:
        raise ModelError("calls, branches and loops of the graph lie too deep in each other", where=importer.program.name) from None
    return importer


def _program(model: Any, signature: str | None) -> program.Program:
    if not isinstance(model, (str, Path)):
        return live.program_of(model, signature)
    path = Path(model)
    if path.is_dir() or path.name == program.FILE:
        return program.load(path, signature)
    return program.frozen(program.read_bytes(path), path.stem, signature)
