"""``strop bench ENGINE|MODEL``: latency, throughput and memory; with ``--vs`` against other runtimes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import StageBar, micros, pairs, show_json, size, table, warn
from strop.cli.source import (
    SHAPE_HELP,
    SIGNATURE_HELP,
    build,
    is_engine,
    open_engine,
    parse_shapes,
    read_inputs,
)
from strop.engine.bench import Report, bench
from strop.engine.peer_process import find_peers, python_of
from strop.engine.versus import Row, Settings, choose_cpus, compare
from strop.engine.versus_report import mean_lines, notes
from strop.engine.versus_report import table as versus_table
from strop.errors import OptionError


def command(
    source: Annotated[Path, typer.Argument(metavar="ENGINE|MODEL", help="Engine file, or ONNX model to build at level 0.")],
    threads: Annotated[int | None, typer.Option(help="Threads; by default what the engine was built for.")] = None,
    runs: Annotated[int | None, typer.Option(help="Runs to measure; by default as many as fit --seconds.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Time to measure; 2 by default.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Runs before the measurement; by default 0.3 s of them.")] = None,
    input: Annotated[
        list[str] | None, typer.Option("-i", "--input", help="name=file.npy or file.npz; random arrays otherwise.")
    ] = None,
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    signature: Annotated[str | None, typer.Option(help=SIGNATURE_HELP)] = None,
    per_step: Annotated[bool, typer.Option("--per-step", "--layers", help="Also the least time of every step.")] = False,
    vs: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Measure a model against onnxruntime,openvino,litert,ncnn,torch.")
    ] = None,
    peers: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Virtual environment of the runtimes in --vs; this one by default.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Turns of every runtime in --vs; 9 by default.")] = None,
    level: Annotated[int | None, typer.Option(help="Effort of the build for --vs; 3 by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measures an engine or a model: latency, throughput, memory."""
    _refuse(vs is not None, {"--runs": runs, "--warmup": warmup, "--input": input, "--per-step": per_step or None})
    _refuse(vs is None, {"--peers": peers, "--rounds": rounds, "--level": level})
    if vs is not None:
        _versus(source, vs, peers, _settings(threads, rounds, seconds), level, shape or [], signature, json)
        return
    with StageBar(quiet=json) as bar:
        engine = open_engine(source, threads=threads, shapes=shape or (), signature=signature, progress=bar)
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


def _refuse(refused: bool, options: dict[str, object]) -> None:
    """OptionError when one of the options is given that says nothing with, or without, ``--vs``."""
    given = [name for name, value in options.items() if value is not None]
    if refused and given:
        raise OptionError("options that do not go together", got=", ".join(given), expected=f"none of {', '.join(options)} "
                          f"{'without' if '--peers' in options else 'with'} --vs")  # fmt: skip


def _settings(threads: int | None, rounds: int | None, seconds: float | None) -> Settings:
    """How to measure for ``--vs``: on one thread when none are given."""
    default, count = Settings(), 1 if threads is None else threads
    rounds, seconds = default.rounds if rounds is None else rounds, default.seconds if seconds is None else seconds
    return Settings(count, rounds, seconds, choose_cpus(count))


def _versus(
    model: Path, names: str, environment: Path | None, settings: Settings, level: int | None, shapes: list[str], signature: str | None, json: bool
) -> None:
    """Builds a model and measures it against other runtimes; an error after the table when Strop has no figures."""
    peers = find_peers([name.strip() for name in names.split(",") if name.strip()])
    python = python_of(environment)
    if is_engine(model):
        raise OptionError("other runtimes do not read engines", where=str(model), expected="the ONNX model it was built of")
    with StageBar(quiet=json) as bar:
        engine = build(
            model, level=3 if level is None else level, threads=settings.threads, shapes=parse_shapes(shapes), signature=signature, progress=bar
        )
    row = compare(engine, model, peers, python, settings, progress=warn if sys.stderr.isatty() else None)
    if json:
        show_json(row.to_json())
    else:
        _show(row)
    if row.status in ("wrong", "failed"):
        raise OptionError(f"Strop has no figures: {row.status}", where=str(model), got=row.reason)


def _show(row: Row) -> None:
    found = versus_table([row])
    print(f"ms per inference on {row.threads} thread{'s' * (row.threads != 1)}; ratio: the best other runtime's time by Strop's")
    table(found.columns, found.rows, right=found.numbers)
    for line in (*mean_lines([row]), *notes([row])):
        print(line)


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
