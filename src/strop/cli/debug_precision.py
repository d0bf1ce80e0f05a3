"""``strop debug precision MODEL --data DATA``: which layers lose accuracy in lower precision, and how much."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import StageBar, show_json, table, warn
from strop.cli.source import (
    CALIBRATOR_HELP,
    DATA_HELP,
    PREPROCESS_HELP,
    SHAPE_HELP,
    build,
    check_output,
    parse_layers,
    parse_shapes,
    write_text,
)
from strop.engine.xray import ISOLATED_BATCHES, AccuracyReport, LayerReport
from strop.engine.xray_chart import chart
from strop.quantize.narrow import NARROW


def command(
    model: Annotated[Path, typer.Argument(help="ONNX model.")],
    data: Annotated[Path, typer.Option(help=f"{DATA_HELP} Calibration takes them too, unless --ranges.")],
    precision: Annotated[str, typer.Option(help="bf16, fp16, int8, int8x7, w8 or w4.")] = "int8",
    layer_precision: Annotated[list[str] | None, typer.Option(help="PATTERN=PRECISION for layers whose names match; repeatable.")] = None,
    ranges: Annotated[Path | None, typer.Option(help="Range table.")] = None,
    calibrator: Annotated[str | None, typer.Option(help=CALIBRATOR_HELP)] = None,
    preprocess: Annotated[str, typer.Option(help=PREPROCESS_HELP)] = "unit",
    batches: Annotated[int, typer.Option(min=1, help="Batches on which layers are isolated.")] = ISOLATED_BATCHES,
    top: Annotated[int | None, typer.Option(min=1, help="Layers to show.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture to write, .svg.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tells which layers lose accuracy in lower precision, the one most to blame first."""
    if plot is not None:
        check_output(plot, "--plot")
    every = {"*": precision} if precision in NARROW else {}  # the question is what a layer loses, not whether it gets faster
    with StageBar(quiet=json) as bar:
        engine = build(
            model, level=0, threads=1, shapes=parse_shapes(shape or ()), progress=bar, precision=precision, calibration=data, ranges=ranges,
            calibrator=calibrator, preprocess=preprocess, layer_precision={**every, **parse_layers(layer_precision or ())},
        )  # fmt: skip
        report: AccuracyReport = engine.accuracy_report(data, preprocess=preprocess, batches=batches)
    if plot is not None:
        write_text(plot, chart(report))
    for note in engine.manifest["notes"]:
        warn(note)
    if json:
        show_json(report.to_json())
        return
    columns = ("layer", "op", "in", "blame %", "alone dB", "without dB", "result dB", "saturated", "overflows", "worst channels")
    table(columns, map(_row, report.layers[:top]), right=columns[3:9])
    seen = "watching changed no bit of the outputs" if report.exact else "watching changed roundings inside kernels"
    print(f"{report.model}: {_decibels(report.sqnr)} dB at the outputs over {report.batches} batches, layers isolated on {report.isolated}; {seen}")
    if plot is not None:
        print(f"written to {plot}")


def _row(row: LayerReport) -> tuple[object, ...]:
    worst = ", ".join(f"{channel}: {_decibels(value)}" for channel, value in row.worst)
    share = f"{100 * row.saturated / max(1, row.elements):.3f} %" if row.saturated else "0"
    numbers = (f"{100 * row.blame:.1f}", _decibels(row.alone), _decibels(row.without), _decibels(row.sqnr))
    return (row.name, row.op, row.precision, *numbers, share, row.overflows, worst)


def _decibels(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "exact" if value > 0 else "all noise"
