"""``strop convert MODEL -o FILE``: a model to a .tflite or an optimized ONNX file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import StageBar, pairs, show_json, size, warn
from strop.cli.source import (
    CALIBRATOR_HELP,
    DATA_HELP,
    PREPROCESS_HELP,
    SHAPE_HELP,
    check_output,
    parse_shapes,
)
from strop.engine.convert import FORMATS, LAYOUTS, PRECISIONS, STAGES, conversion
from strop.errors import OptionError
from strop.files import replacing


def command(
    model: Annotated[Path, typer.Argument(help="ONNX model, .tflite or .pt2 file.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write; its ending says the format.")] = None,
    to: Annotated[str | None, typer.Option("--to", help=f"Format: {', '.join(FORMATS)}; by default the output's ending.")] = None,
    precision: Annotated[str, typer.Option(help=f"Of a .tflite file: {', '.join(PRECISIONS)}.")] = "fp32",
    calibrate: Annotated[Path | None, typer.Option(help=f"{DATA_HELP} Without, random inputs.")] = None,
    input_dtype: Annotated[str | None, typer.Option(help="Type of float inputs of a quantized file: f32, or i8, u8, i16.")] = None,
    output_dtype: Annotated[str | None, typer.Option(help="Type of float outputs of a quantized file.")] = None,
    layout: Annotated[str, typer.Option(help=f"Of inputs and outputs of rank 4: {', '.join(LAYOUTS)}.")] = "model",
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    signature: Annotated[str | None, typer.Option(help="Key of the signature of a TFLite model to read.")] = None,
    calibrator: Annotated[str, typer.Option(help=CALIBRATOR_HELP)] = "minmax",
    preprocess: Annotated[str, typer.Option(help=PREPROCESS_HELP)] = "unit",
    batches: Annotated[int | None, typer.Option(min=1, help="Samples to use at most.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Writes a model as a .tflite or an optimized ONNX file."""
    if output is None:
        raise OptionError("no output file", expected="-o FILE", hint=f"strop convert {model} -o {model.stem}.tflite")
    check_output(output, "--output")
    wanted = to or output.suffix.removeprefix(".")
    started = time.perf_counter()
    with StageBar(quiet=json, stages=STAGES) as bar:
        found = conversion(
            model, wanted, precision=precision, calibration=calibrate, input_dtype=input_dtype, output_dtype=output_dtype, layout=layout,
            shapes=parse_shapes(shape or ()), calibrator=calibrator, preprocess=preprocess, batches=batches, progress=bar, signature=signature,
        )  # fmt: skip
    try:
        with replacing(output) as temporary:
            temporary.write_bytes(found.data)
    except OSError as error:
        raise OptionError("cannot write the file", where=str(output), got=error.strerror or error, hint="write elsewhere") from error
    summary = {"file": str(output), "file_bytes": len(found.data), "seconds": time.perf_counter() - started, **found.summary}
    if json:
        show_json({**summary, "notes": list(found.notes)})
        return
    for note in found.notes:
        warn(note)
    operators = ", ".join(f"{count} {code}" for code, count in found.summary["operators"].items())
    pairs(
        [
            ("file", f"{output} ({size(len(found.data))}, {size(found.summary['constant_bytes'])} of constants)"),
            ("operators", operators),
            ("transposes", f"{found.summary['transposes_inside']} inside, {found.summary['transposes_at_edges']} at the edges"),
            *([("in floats", ", ".join(found.summary["floats"]) or "none")] if "floats" in found.summary else []),
        ]
    )
