"""``strop bench ENGINE|MODEL...``: the five factors; several engines and streams at once; with ``--vs`` against other runtimes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.accuracy import AGAINST_HELP, scores
from strop.cli.factors import factors, streams_rows, streams_table
from strop.cli.output import StageBar, micros, pairs, parse_size, show_json, table, warn
from strop.cli.source import (
    DATA_HELP,
    PREPROCESS_HELP,
    SHAPE_HELP,
    SIGNATURE_HELP,
    build,
    is_engine,
    lazy_engine,
    parse_shapes,
    read_inputs,
)
from strop.engine.bench import Report, bench
from strop.engine.engine import Engine
from strop.engine.peer_process import find_peers, python_of
from strop.engine.streams import bench_streams
from strop.engine.versus import Row, Settings, choose_cpus, compare
from strop.engine.versus_report import mean_lines, notes
from strop.engine.versus_report import table as versus_table
from strop.errors import OptionError


def command(
    sources: Annotated[list[Path], typer.Argument(metavar="ENGINE|MODEL...", help="Engine files, or models to build at level 0.")],
    threads: Annotated[int | None, typer.Option(help="Threads; by default what the engine was built for, 1 with --streams.")] = None,
    runs: Annotated[int | None, typer.Option(help="Runs to measure; by default as many as fit --seconds.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Time to measure; 2 by default.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Runs before the measurement; by default 0.3 s of them.")] = None,
    input: Annotated[
        list[str] | None, typer.Option("-i", "--input", help="name=file.npy or file.npz; random arrays otherwise.")
    ] = None,
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    signature: Annotated[str | None, typer.Option(help=SIGNATURE_HELP)] = None,
    per_step: Annotated[bool, typer.Option("--per-step", "--layers", help="Also the least time of every step, and its share of the measured peak of its precision; strop profile tells more.")] = False,
    data: Annotated[Path | None, typer.Option(help=f"For accuracy. {DATA_HELP}")] = None,
    metric: Annotated[str | None, typer.Option(help="Of accuracy, as for strop eval; by default all that --data and --against allow.")] = None,
    against: Annotated[Path | None, typer.Option(help=AGAINST_HELP)] = None,
    labels: Annotated[Path | None, typer.Option(help="A .csv of file,label rows (index,label for arrays).")] = None,
    preprocess: Annotated[str, typer.Option(help=PREPROCESS_HELP)] = "unit",
    streams: Annotated[int, typer.Option(min=1, help="Contexts of every engine that run at once.")] = 1,
    arena_budget: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="Memory that the arenas of all contexts share, e.g. 64M; none: each has its own. By default 1.25 times what the largest needs."),
    ] = None,
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
    """Measures engines or models by throughput, efficiency, latency, accuracy and memory."""
    several = len(sources) > 1 or streams > 1
    accuracy = {"--data": data, "--metric": metric, "--against": against, "--labels": labels}
    alone = {"--runs": runs, "--warmup": warmup, "--input": input, "--per-step": per_step or None, **accuracy}
    _refuse(vs is not None, {**alone, "--arena-budget": arena_budget}, "with --vs")
    _refuse(vs is None, {"--peers": peers, "--rounds": rounds, "--level": level}, "without --vs")
    _refuse(several, alone, "with several engines or streams")
    _refuse(not several, {"--arena-budget": arena_budget}, "with one stream of one engine")
    if vs is not None:
        if several:
            raise OptionError("--vs measures one model", got=f"{len(sources)} models, {streams} streams")
        _versus(sources[0], vs, peers, _settings(threads, rounds, seconds), level, shape or [], signature, json)
        return
    with StageBar(quiet=json) as bar:
        opened = {source: lazy_engine(source, threads=threads, shapes=shape or (), signature=signature, progress=bar) for source in dict.fromkeys(sources)}
    engines = [opened[source] for source in sources]
    if several:
        _streams(sources, engines, streams, arena_budget, threads or 1, seconds, json)
        return
    inputs = {**engines[0].random_inputs(), **read_inputs(engines[0], input)} if input else None
    report = bench(engines[0], inputs, threads=threads, runs=runs, seconds=seconds, warmup=warmup, per_step=per_step)
    with StageBar(quiet=json) as bar:
        found, basis = scores(engines[0], data, metric, against, labels, preprocess, shape or [], bar=bar)
    _show_one(replace(report, scores=found), basis, json)


def _show_one(report: Report, basis: str, json: bool) -> None:
    if json:
        show_json(report.to_json())
        return
    pairs(factors(report, basis))
    if report.steps:
        _show_steps(report)


def _show_steps(report: Report) -> None:
    whole = max(1, sum(step.nanoseconds for step in report.steps))
    columns = ["step", "kernel", "us", "%", *["Gop/s", "precision", "% of peak"] * bool(report.peaks)]
    rows = []
    for s in report.steps:
        row = [s.name, s.kernel, micros(s.nanoseconds), f"{100 * s.nanoseconds / whole:.1f}"]
        if report.peaks:
            row += ["", "", ""] if s.of_peak is None else [f"{s.rate / 1e9:.1f}", s.precision, f"{100 * s.of_peak:.1f}"]
        rows.append(row)
    print("\nleast time per step")
    table(columns, rows, right=("us", "%", "Gop/s", "% of peak"))
    if report.peaks:
        peaks = ", ".join(f"{precision} {rate / 1e9:.0f}" for precision, rate in report.peaks.items())
        print(f"peaks of multiply-adds, measured in turns with the steps, Gop/s on {report.threads} thread{'s' * (report.threads != 1)}: {peaks}")


def _streams(
    sources: Sequence[Path], engines: Sequence[Engine], streams: int, budget: str | None, threads: int, seconds: float | None, json: bool
) -> None:
    shared = budget != "none"
    size = None if budget is None or not shared else parse_size(budget, "--arena-budget")
    report = bench_streams(engines, streams, budget=size, shared=shared, threads=threads, seconds=seconds)
    if json:
        show_json(report.to_json())
        return
    columns, rows = streams_table(report, [path.stem for path in sources])
    table(columns, rows, right=columns[1:])
    print()
    pairs(streams_rows(report))


def _refuse(refused: bool, options: Mapping[str, object], when: str) -> None:
    """OptionError when one of the options is given that says nothing there."""
    given = [name for name, value in options.items() if value is not None]
    if refused and given:
        raise OptionError("options that do not go together", got=", ".join(given), expected=f"none of {', '.join(options)} {when}")


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
