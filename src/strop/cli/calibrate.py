"""``strop calibrate MODEL --data DATA -o FILE``: the range table that int8 builds take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import StageBar, show_json, table, warn
from strop.cli.source import (
    CALIBRATOR_HELP,
    DATA_HELP,
    PREPROCESS_HELP,
    SHAPE_HELP,
    SIGNATURE_HELP,
    check_output,
    parse_shapes,
)
from strop.engine.calibrate import calibrate
from strop.engine.precision import CALIBRATOR
from strop.errors import OptionError
from strop.quantize.table import load


def command(
    model: Annotated[Path, typer.Argument(help="ONNX model.")],
    data: Annotated[Path | None, typer.Option(help=f"{DATA_HELP} Without, random inputs.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Range table to write.")] = None,
    calibrator: Annotated[str, typer.Option(help=CALIBRATOR_HELP)] = CALIBRATOR,
    batches: Annotated[int | None, typer.Option(min=1, help="Batches to use at most.")] = None,
    preprocess: Annotated[str, typer.Option(help=PREPROCESS_HELP)] = "unit",
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    signature: Annotated[str | None, typer.Option(help=SIGNATURE_HELP)] = None,
    merge: Annotated[list[Path] | None, typer.Option(help="Range table to merge in; repeatable.")] = None,
    tensorrt: Annotated[bool, typer.Option("--tensorrt", help="Write a TensorRT calibration cache.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Finds the range of every value that an int8 build quantizes."""
    if output is None and not json:
        raise OptionError("no output file", expected="-o FILE", hint=f"strop calibrate {model} -o {model.stem}.ranges")
    if output is not None:
        check_output(output, "--output")
    others = [load(path) for path in merge or ()]
    with StageBar(quiet=json) as bar:
        found = calibrate(
            model, data, calibrator=calibrator, shapes=parse_shapes(shape or ()), signature=signature, batches=batches, preprocess=preprocess, progress=bar
        )
    for other in others:
        found.merge(other)
    if output is not None:
        found.save(output, tensorrt=tensorrt)
    for note in found.notes:
        warn(note)
    if json:
        rows = [{"name": n, "low": e.low, "high": e.high, "calibrator": e.calibrator, "samples": e.samples} for n, e in found.entries.items()]
        show_json({"ranges": rows, "notes": found.notes, "written": None if output is None else str(output)})
        return
    columns = ("value", "low", "high", "calibrator", "samples")
    table(columns, ((n, f"{e.low:.5g}", f"{e.high:.5g}", e.calibrator, e.samples) for n, e in found.entries.items()), right=columns[1:3])
    print(f"written to {output}")
