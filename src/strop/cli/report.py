"""``strop report ENGINE... -o FILE``: one page that shows what engines do, and how well."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.accuracy import AGAINST_HELP, scores
from strop.cli.output import StageBar, pairs, show_json, size
from strop.cli.source import (
    DATA_HELP,
    PREPROCESS_HELP,
    SHAPE_HELP,
    build,
    check_output,
    is_engine,
    lazy_engine,
    parse_shapes,
)
from strop.engine.diff import diff
from strop.engine.engine import Engine
from strop.engine.report import Extra, report, sqnr_by_node
from strop.quantize.precision import INTEGERS


def command(
    sources: Annotated[list[Path], typer.Argument(metavar="ENGINE|MODEL...", help="Engine files, or models to build at level 0.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Page to write.")] = Path("report.html"),
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; by default what each engine was built for.")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, max=600.0, help="Time to measure each engine.")] = 1.0,
    run: Annotated[bool, typer.Option("--run/--no-run", help="Measure; without it the page has the build's own times.")] = True,
    roofline: Annotated[bool, typer.Option("--roofline/--no-roofline", help="Measure what the machine can do at most; needs the compiler.")] = True,
    precision: Annotated[
        str, typer.Option(help="Of models that are built: fp32, bf16, fp16, int8 or auto; calibrated with --data. Gives the SQNR of every layer beside fp32.")
    ] = "fp32",
    data: Annotated[Path | None, typer.Option(help=f"For accuracy. {DATA_HELP}")] = None,
    metric: Annotated[str | None, typer.Option(help="Of accuracy, as for strop eval; by default all that --data and --against allow.")] = None,
    against: Annotated[Path | None, typer.Option(help=f"{AGAINST_HELP} Also gives the SQNR of every layer.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A .csv of file,label rows (index,label for arrays).")] = None,
    preprocess: Annotated[str, typer.Option(help=PREPROCESS_HELP)] = "unit",
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what the page shows as JSON.")] = False,
) -> None:
    """Makes one page about engines: the five factors, the graph before and after, layers, roofline, memory, candidates, accuracy.

    The page is complete in itself and can be kept, mailed and opened without a network.
    """
    check_output(output, "--output")
    shapes = shape or []
    with StageBar(quiet=json) as bar:
        engines = [_opened(source, threads, shapes, precision, data, preprocess, bar) for source in sources]
        extras = [_extra(e, p, data, metric, against, labels, preprocess, shapes, bar) for e, p in zip(engines, sources)]
    page = report(engines, extras=extras, seconds=seconds, threads=threads, run=run, roofline=roofline)
    page.save(output)
    if json:
        show_json(page.data)
        return
    pairs([("report", f"{output} ({size(output.stat().st_size)})"), ("engines", ", ".join(e["name"] for e in page.data["engines"]))])


def _extra(
    engine: Engine, path: Path, data: Path | None, metric: str | None, against: Path | None, labels: Path | None, preprocess: str,
    shapes: list[str], bar: StageBar,
) -> Extra:  # fmt: skip
    """What data and a reference say about an engine."""
    found, basis = scores(engine, data, metric, against, labels, preprocess, shapes, bar=bar)
    if engine.explain is not None:
        layers = engine.accuracy_report(data, preprocess=preprocess, batches=1).layers
        return Extra(found, basis if found else "", {layer.name: layer.sqnr for layer in layers}, "fp32")
    if against is None:
        return Extra(found, basis if found else "")
    rows = diff(str(engine.path), str(against), shapes=None).rows
    return Extra(found, basis, sqnr_by_node(rows), str(against))


def _opened(
    source: Path, threads: int | None, shapes: list[str], precision: str, data: Path | None, preprocess: str, bar: StageBar
) -> Engine:  # fmt: skip
    """An engine file, or a model built at level 0 in this precision."""
    if precision == "fp32" or is_engine(source):
        return lazy_engine(source, threads=threads, shapes=shapes, progress=bar)
    calibration = {"calibration": data, "preprocess": preprocess} if precision in (*INTEGERS, "auto") else {}
    return build(source, level=0, threads=threads, shapes=parse_shapes(shapes), progress=bar, precision=precision, **calibration)
