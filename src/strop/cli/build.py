"""``strop build MODEL -o FILE``: a model to an engine file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import StageBar, pairs, show_json, size, table, warn
from strop.cli.source import (
    CALIBRATOR_HELP,
    PREPROCESS_HELP,
    SHAPE_HELP,
    SIGNATURE_HELP,
    build,
    check_output,
    load_function,
    parse_layers,
    parse_shapes,
    stored_shapes,
)
from strop.engine.describe import Description, describe
from strop.engine.engine import Engine
from strop.engine.stages import STAGES, Stopped
from strop.errors import OptionError
from strop.quantize.precision import PRECISIONS


def command(
    model: Annotated[Path, typer.Argument(help="ONNX, .pt2, .tflite, .keras or .h5 file, or a SavedModel's folder.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Engine file to write.")] = None,
    target: Annotated[str, typer.Option(help="Machine the code is for: host, x86-64-v3, ...")] = "host",
    threads: Annotated[int | None, typer.Option(help="Threads to split work for; all cores by default.")] = None,
    level: Annotated[int, typer.Option(help="Effort of choosing kernels: 0 by estimates, 5 measures everything.")] = 3,
    budget: Annotated[float | None, typer.Option(help="Seconds that measuring may take.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    signature: Annotated[str | None, typer.Option(help=SIGNATURE_HELP)] = None,
    stored: Annotated[bool, typer.Option("--stored-shapes", help="Sizes that a TensorFlow Lite file leaves open are those that it stores, mostly 1.")] = False,
    dump: Annotated[Path | None, typer.Option(help="Folder that receives the text of every stage.")] = None,
    stop_after: Annotated[str | None, typer.Option(help=f"End after a stage: {', '.join(STAGES)}.")] = None,
    precision: Annotated[str, typer.Option(help=f"Of the layers: {', '.join(PRECISIONS)}.")] = "fp32",
    layer_precision: Annotated[list[str] | None, typer.Option(help="PATTERN=PRECISION for layers whose names match; repeatable.")] = None,
    calibrate: Annotated[Path | None, typer.Option(help="Samples for int8: .npy, .npz, or a folder of images or .npy files.")] = None,
    ranges: Annotated[Path | None, typer.Option(help="Range table of strop calibrate, or a TensorRT calibration cache.")] = None,
    calibrator: Annotated[str | None, typer.Option(help=CALIBRATOR_HELP)] = None,
    preprocess: Annotated[str, typer.Option(help=PREPROCESS_HELP)] = "unit",
    max_drop: Annotated[float | None, typer.Option(help="How much worse the metric may get; points for top1, top5, agreement, closeness.")] = None,
    metric: Annotated[str | None, typer.Option(help="Of --max-drop: top1 where samples have labels, else agreement; closeness where there is one score.")] = None,
    equalize: Annotated[bool, typer.Option("--equalize", help="Bring channels between convolutions to like ranges before int8.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what a GPU has no kernel for instead of running it on the processor.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Makes an engine file of a model."""
    stop = None if stop_after == STAGES[-1] else stop_after
    if output is None and stop is None:
        raise OptionError("no output file", expected="-o FILE", hint=f"strop build {model} -o {model.stem}.strop")
    if output is not None:
        check_output(output, "--output")
    started = time.perf_counter()
    try:
        with StageBar(quiet=json) as bar:
            engine = build(
                model,
                target=target,
                threads=threads,
                level=level,
                budget=budget,
                shapes={**(stored_shapes(model, signature) if stored else {}), **(parse_shapes(shape or ()) or {})} or None,
                signature=signature,
                dump=dump,
                stop_after=stop,
                progress=bar,
                precision=precision,
                layer_precision=parse_layers(layer_precision or ()),
                calibration=calibrate,
                ranges=ranges,
                calibrator=calibrator,
                preprocess=preprocess,
                max_drop=max_drop,
                equalize=equalize,
                strict=strict,
                metric=load_function(metric) if metric and ":" in metric else metric,
            )
    except Stopped as stopped:
        if output is not None:
            warn(f"{output} is not written: the build {stopped}")
        if json:
            show_json({"stopped_after": stopped.stage})
        else:
            print(stopped)
        return
    assert output is not None, "a build that does not stop early ends with an engine"
    engine.save(output)
    _report(engine, output, time.perf_counter() - started, json)


def _report(engine: Engine, output: Path, seconds: float, json: bool) -> None:
    found = describe(engine)
    file_bytes = output.stat().st_size
    if json:
        show_json(
            {
                "engine": str(output),
                "file_bytes": file_bytes,
                "seconds": seconds,
                **{k: v for k, v in found.to_json().items() if k != "steps"},
            }
        )
        return
    pairs(summary(found, file_bytes, seconds, output))
    placement_table(found)
    for note in found.notes:
        print(f"note: {note}")


def summary(found: Description, file_bytes: int, seconds: float, output: Path) -> list[tuple[str, object]]:
    """What a build tells at its end, as label and value."""
    totals, memory = found.totals, found.memory
    return [
        ("engine", f"{output} ({size(file_bytes)})"),
        ("target", found.target if found.target.startswith("cuda:") else f"{found.target}, {found.threads} thread{'s' * (found.threads != 1)}"),
        ("steps", f"{totals.steps} for {totals.nodes} nodes ({totals.fused_nodes} fused into others)"),
        ("copies", copies(found)),
        ("weights", size(memory.weights)),
        ("arena", f"{size(memory.arena)} (at least {size(memory.live_peak)} are alive at once)"),
        ("built in", f"{seconds:.1f} s"),
    ]


def placement_table(found: Description) -> None:
    """What runs on the processor beside a GPU, and why, one row each."""
    if found.placement:
        rows = [[f.index, f.step, f.kind, f.target, f.kernel, f.reason] for f in found.placement]
        table(["#", "step", "kind", "runs on", "kernel", "why not on the GPU"], rows, right=["#"])


def copies(found: Description) -> str:
    """Copy steps by reason, and how many change the order of axes."""
    totals = found.totals
    by_reason = ", ".join(f"{count} {reason}" for reason, count in sorted(totals.copies.items())) or "none"
    return f"{by_reason}; layout transposes: {totals.transposes_inside} inside, {totals.transposes_at_edges} at the edges"
