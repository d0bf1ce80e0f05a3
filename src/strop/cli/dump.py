"""``strop dump ENGINE|MODEL``: the text inside: a model's graph as it is read, an engine's graph, manifest or sections."""

from __future__ import annotations

from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import show_json, size, table
from strop.cli.source import SHAPE_HELP, SIGNATURE_HELP, is_engine, open_any_engine, parse_shapes
from strop.engine.format import read_header
from strop.errors import OptionError


class Part(str, Enum):
    """What to print."""

    GRAPH = "graph"
    MANIFEST = "manifest"
    SECTIONS = "sections"


def command(
    source: Annotated[Path, typer.Argument(metavar="ENGINE|MODEL", help="Engine file, ONNX model or .pt2 file.")],
    part: Annotated[Part, typer.Option(help="Which part of an engine; a model only has a graph.")] = Part.GRAPH,
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    signature: Annotated[str | None, typer.Option(help=SIGNATURE_HELP)] = None,
) -> None:
    """Prints the text inside an engine or a model."""
    if not is_engine(source):
        if part is not Part.GRAPH:
            raise OptionError("a model has no such part", where="--part", got=part.value, expected="graph, or an engine file")
        print(_model_text(source, shape or [], signature))
    elif part is Part.SECTIONS:
        rows = ((e.kind.name.lower(), e.name, e.offset, size(e.size), f"{e.checksum:016x}") for e in read_header(source))
        table(("section", "name", "offset", "size", "checksum"), rows, right=("offset", "size"))
    elif part is Part.MANIFEST:
        show_json(open_any_engine(source).manifest)
    else:
        print(open_any_engine(source).graph_text)


def _model_text(model: Path, shapes: list[str], signature: str | None) -> str:
    """Imported at first use: the parts of an engine need no ``onnx``."""
    graph = import_module("strop.frontend.table").read(model, parse_shapes(shapes), signature=signature)
    text: str = import_module("strop.ir.text").show(graph)
    return text
