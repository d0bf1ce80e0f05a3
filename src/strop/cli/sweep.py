"""``strop sweep MODEL``: which precision, threads and batch to take, by measuring all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import Status, pairs, show_json, size, table
from strop.cli.source import (
    DATA_HELP,
    PREPROCESS_HELP,
    SHAPE_HELP,
    check_output,
    load_function,
    parse_shapes,
    write_text,
)
from strop.engine.sweep import GOALS, PRECISIONS, Sweep, sweep
from strop.engine.sweep_chart import chart
from strop.errors import OptionError


def command(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    precisions: Annotated[str, typer.Option(help=f"Of {', '.join(PRECISIONS)}, with commas.")] = "fp32,int8",
    threads: Annotated[str, typer.Option(help="Numbers with commas; by default 1 and all cores.")] = "",
    batches: Annotated[str, typer.Option(help="Numbers with commas, in place of the leading dim of every input.")] = "1",
    targets: Annotated[str, typer.Option(help="Targets that this machine runs, with commas.")] = "host",
    level: Annotated[int, typer.Option(min=0, max=5, help="Effort of choosing kernels.")] = 0,
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    data: Annotated[Path | None, typer.Option(help=f"For calibration and accuracy; random inputs otherwise. {DATA_HELP}")] = None,
    labels: Annotated[Path | None, typer.Option(help="A .csv of file,label rows (index,label for arrays).")] = None,
    metric: Annotated[str | None, typer.Option(help="Of accuracy, as for strop eval; by default top1 with labels, else agreement with fp32.")] = None,
    preprocess: Annotated[str, typer.Option(help=PREPROCESS_HELP)] = "unit",
    max_drop: Annotated[float, typer.Option(min=0.0, help="Points of accuracy that the recommendation may lose against fp32.")] = 1.0,
    goal: Annotated[str, typer.Option(help=f"What to recommend by: {', '.join(GOALS)}.")] = "latency",
    seconds: Annotated[float, typer.Option(min=0.01, max=600.0, help="Time to measure each engine.")] = 1.0,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Pareto chart (SVG) to write.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Save the recommended engine.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Builds a model in many ways, measures latency, accuracy, size and energy of all, and recommends one."""
    for path, name in ((plot, "--plot"), (output, "--output")):
        if path is not None:
            check_output(path, name)
    asked = load_function(metric) if metric is not None and ":" in metric else metric
    with Status(quiet=json) as status:
        found = sweep(
            model, precisions=_words(precisions), threads=_numbers(threads, "--threads"), batches=_numbers(batches, "--batches"),
            targets=_words(targets), level=level, shapes=parse_shapes(shape or ()), data=data, preprocess=preprocess, labels=labels, metric=asked,
            max_drop=max_drop, goal=goal, seconds=seconds, keep=output, progress=status,
        )  # fmt: skip
    if plot is not None:
        write_text(plot, chart(found))
    if json:
        show_json(found.to_json())
        return
    _show(found)


def _show(found: Sweep) -> None:
    columns = ["precision", "threads", "batch", "target", "p50 ms", "95 % within", "samples/s", "lost", found.points[0].score.metric, "engine", "memory", "mJ/sample", "front", ""]
    rows = []
    for number, p in enumerate(found.points):
        joules = "" if p.joules_per_sample is None else f"{1e3 * p.joules_per_sample:.3f}"
        good = f"{100 * p.score.value:.2f} %" if p.score.right is not None else f"{p.score.value:.4g}"
        rows.append([p.precision, p.threads, p.batch, p.target, f"{p.latency.p50:.3f}", f"{p.latency.low:.3f} to {p.latency.high:.3f}",
                     f"{p.samples_per_s:.1f}", f"{p.drop:.2f}", good, size(p.bytes), size(p.memory), joules, "yes" * p.front, "<- take" * (number == found.best)])  # fmt: skip
    table(columns, rows, right=columns[1:3] + columns[4:12])
    print()
    energy = found.energy.meter or f"unavailable: {found.energy.reason}"
    pairs([*(("failed", f"{name}: {why}") for name, why in found.failed), ("energy", energy), ("took", f"{found.seconds:.1f} s"), ("take", found.why)])


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str, where: str) -> list[int]:
    """Numbers with commas between them; OptionError names one that is none."""
    found = []
    for word in _words(text):
        if not word.isdecimal():
            raise OptionError("unusable number", where=where, got=word, expected="whole numbers with commas between them")
        found.append(int(word))
    return found
