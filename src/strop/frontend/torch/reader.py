"""PyTorch models to Graphs: exported programs, their .pt2 files, and modules with example inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strop.frontend.torch.importer import Importer
from strop.frontend.torch.program import Examples, labels_of, program_of
from strop.frontend.verdicts import Verdict, combined, origins
from strop.ir.graph import Graph


def read(
    model: Any, shapes: Mapping[str, Any] | None = None, example_inputs: Examples | None = None, dynamic_shapes: Any = None
) -> Graph:
    """Reads a PyTorch model as it is: one import function per ATen op, nothing optimized.

    Parameters and buffers stay where PyTorch has them. Every node's ``source`` is the path of the module it belongs to and its
    name in the exported program; inputs and outputs have the program's names.

    Args:
        model: path of a .pt2 file, an ExportedProgram, or a module.
        shapes: ranges of inputs by name, or of dims by name, within those of the program; see ``strop.ir.ranges``.
        example_inputs: of a module: positional arguments, or keyword arguments as a dict.
        dynamic_shapes: of a module, as ``torch.export.export`` takes it. The names of its Dims become names of symbols.

    Raises:
        ModelError: the file cannot be read, or PyTorch cannot export the module.
        UnsupportedError: ops, arguments or dtypes that are not supported, all of them named; or state that changes.
        ShapeError: operands of a node do not fit together.
        OptionError: ``shapes`` or the examples do not fit the model.
    """
    importer = _import(model, shapes, example_inputs, dynamic_shapes)
    if importer.errors:
        raise combined(importer.errors, len(importer.verdicts))
    importer.graph.origins = origins(importer.verdicts)
    return importer.graph


def judge(
    model: Any, shapes: Mapping[str, Any] | None = None, example_inputs: Examples | None = None, dynamic_shapes: Any = None
) -> tuple[list[Verdict], Graph]:
    """What would become of every node, without building anything, and the graph, empty unless all can be read. Arguments and errors
    as ``read``, but for ops."""
    importer = _import(model, shapes, example_inputs, dynamic_shapes)
    return importer.verdicts, Graph() if importer.errors else importer.graph


def _import(model: Any, shapes: Mapping[str, Any] | None, example_inputs: Examples | None, dynamic_shapes: Any) -> Importer:
    program = program_of(model, example_inputs, dynamic_shapes)
    name = Path(model).stem if isinstance(model, (str, Path)) else type(model).__name__
    importer = Importer(program, shapes, name, labels_of(model, example_inputs, dynamic_shapes))
    importer.run()
    return importer
