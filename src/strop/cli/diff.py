"""``strop diff A B``: two runtimes or engines, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from strop.cli.output import show_json, table, warn
from strop.cli.source import SHAPE_HELP, parse_shapes, read_arrays
from strop.engine.diff import Diff, Row, Side, diff

#: Exit code when a layer departs.
DEPARTS = 1
_SIDE = "Engine file, ONNX model to build, oracle:MODEL (the numpy meaning) or onnxruntime:MODEL."


def command(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE)],
    b: Annotated[str, typer.Argument(metavar="B", help=_SIDE + " What A is measured against.")],
    input: Annotated[
        list[str] | None, typer.Option("-i", "--input", help="name=file.npy or file.npz; random arrays otherwise.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random arrays.")] = 0,
    level: Annotated[int, typer.Option(min=0, max=5, help="At which models are built.")] = 0,
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="Largest difference, relative to the largest magnitude of a value; by dtype by default, 1e-3 for f32."),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Also list values that only one of the two has.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compares two runtimes or engines layer by layer, and names the first layer that departs.

    Engines run as they are; values that exist only inside a fused step are named with that step.

    Exit code 0: the same within the tolerance; 1: a layer or output departs.
    """
    shapes = parse_shapes(shape or ())
    arrays: dict[str, np.ndarray[Any, Any]] = read_arrays(_names(a, b, input), input or [])
    found = diff(a, b, inputs=arrays, seed=seed, level=level, shapes=shapes, tolerance=tolerance)
    if json:
        show_json(found.to_json())
    else:
        _show(found, all)
    if found.first is not None:
        raise typer.Exit(DEPARTS)


def _names(a: str, b: str, texts: list[str] | None) -> list[str]:
    """Names of the inputs, asked only when a text does not say for which one its array is."""
    if not any("=" not in text and Path(text).suffix != ".npz" for text in texts or ()):
        return []
    side = Side(a, 0, None)
    return [v.name for v in side.graph.inputs] if side.graph is not None else [t.name for t in side.engine.inputs] if side.engine else []


def _show(found: Diff, everything: bool) -> None:
    rows = [row for row in found.rows if everything or row.max_abs is not None or row.departs]
    columns = ("value", "node", "A", "B", "shape", "max abs", "max rel", "SQNR dB", "NaN", "Inf", "")
    table(columns, map(_cells, rows), right=("max abs", "max rel", "SQNR dB"))
    hidden = len(found.rows) - found.compared
    print(f"{found.compared} values compared, {hidden} exist on one side only" + ("" if everything or not hidden else " (--all lists them)"))
    first = found.first
    if first is None:
        print(f"{found.a} and {found.b} agree")
    else:
        warn(f"{found.a} departs from {found.b} at {first.node or first.value} ({first.value}): {first.departs}")


def _cells(row: Row) -> list[object]:
    shape = "x".join(map(str, row.shape)) or "scalar"
    sqnr = "" if row.max_abs is None else "inf" if row.sqnr is None else f"{row.sqnr:.1f}"
    return [row.value, row.node, row.a, row.b, shape, _number(row.max_abs), _number(row.max_rel), sqnr,
            _both(row.nan), _both(row.inf), "departs" * bool(row.departs)]  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}"


def _both(counts: tuple[int, int]) -> str:
    return "" if counts == (0, 0) else f"{counts[0]} {counts[1]}"
