"""``strop bench ENGINE|MODEL``: latency, throughput and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import StageBar, micros, pairs, show_json, size, table
from strop.cli.source import open_engine, read_inputs
from strop.engine.bench import Report, bench


def command(
    source: Annotated[Path, typer.Argument(metavar="ENGINE|MODEL", help="Engine file, or ONNX model to build at level 0.")],
    threads: Annotated[int | None, typer.Option(help="Threads; by default what the engine was built for.")] = None,
    runs: Annotated[int | None, typer.Option(help="Runs to measure; by default as many as fit --seconds.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Time to measure; 2 by default.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Runs before the measurement; by default 0.3 s of them.")] = None,
    input: Annotated[
        list[str] | None, typer.Option("-i", "--input", help="name=file.npy or file.npz; random arrays otherwise.")
    ] = None,
    shape: Annotated[list[str] | None, typer.Option(help="Shape of a model's input, name=1x3x224x224.")] = None,
    per_step: Annotated[bool, typer.Option("--per-step", "--layers", help="Also the least time of every step.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measures an engine or a model: latency, throughput, memory."""
    with StageBar(quiet=json) as bar:
        engine = open_engine(source, threads=threads, shapes=shape or (), progress=bar)
    inputs = {**engine.random_inputs(), **read_inputs(engine, input or [])}
    report = bench(engine, inputs, threads=threads, runs=runs, seconds=seconds, warmup=warmup, per_step=per_step)
    if json:
        show_json(report.to_json())
        return
    pairs(_lines(report))
    if per_step:
        whole = max(1, sum(step.nanoseconds for step in report.steps))
        rows = [(s.name, micros(s.nanoseconds), f"{100 * s.nanoseconds / whole:.1f}") for s in report.steps]
        print("\nleast time per step")
        table(("step", "us", "%"), rows, right=("us", "%"))


def _lines(report: Report) -> list[tuple[str, object]]:
    latency, memory = report.latency, report.memory
    known = ", ".join(f"{name} {size(value)}" for name, value in memory.items() if value is not None and name != "host_peak")
    peak = memory["host_peak"]
    return [
        ("network", f"{report.model} for {report.target}, {report.threads} thread{'s' * (report.threads != 1)}"),
        ("measured", f"{report.runs} runs in {report.seconds:.2f} s, after {report.warmup_runs} to warm up"),
        ("throughput", f"{report.qps:.1f} inferences/s, {report.samples_per_s:.1f} samples/s (batch {report.batch})"),
        ("latency ms", f"min {latency.min:.3f}  mean {latency.mean:.3f}  p50 {latency.p50:.3f}  p90 {latency.p90:.3f}  "
                       f"p95 {latency.p95:.3f}  p99 {latency.p99:.3f}  max {latency.max:.3f}"),
        ("memory", known),
        ("process peak", "the system does not tell" if peak is None else size(peak)),
    ]  # fmt: skip
