"""``strop eval ENGINE|MODEL --data DATA``: how good a network is on samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import StageBar, pairs, show_json, warn
from strop.cli.source import (
    DATA_HELP,
    PREPROCESS_HELP,
    SHAPE_HELP,
    SIGNATURE_HELP,
    load_function,
    open_engine,
)
from strop.engine.evaluate import METRICS, evaluate
from strop.quantize.data import samples


def command(
    source: Annotated[Path, typer.Argument(metavar="ENGINE|MODEL", help="Engine file, or ONNX model to build at level 0.")],
    data: Annotated[Path, typer.Option(help=f"{DATA_HELP} Labels are folder names, or 'labels' in an .npz file.")],
    metric: Annotated[str, typer.Option(help=f"{', '.join(METRICS)}, or module:function; several with commas.")] = "top1",
    labels: Annotated[Path | None, typer.Option(help="A .csv of file,label rows (index,label for arrays).")] = None,
    against: Annotated[Path | None, typer.Option(help="Engine or model that agreement, mse, error, psnr, sqnr and closeness compare with.")] = None,
    batches: Annotated[int | None, typer.Option(min=1, help="Batches to use at most.")] = None,
    preprocess: Annotated[str, typer.Option(help=PREPROCESS_HELP)] = "unit",
    threads: Annotated[int | None, typer.Option(help="Threads; by default what the engine was built for.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    signature: Annotated[str | None, typer.Option(help=SIGNATURE_HELP)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tells how good an engine or a model is on samples."""
    metrics = [load_function(m) if ":" in m else m for m in (part.strip() for part in metric.split(",")) if m]
    with StageBar(quiet=json) as bar:
        engine = open_engine(source, threads=threads, shapes=shape or (), signature=signature, progress=bar)
        other = None if against is None else open_engine(against, threads=threads, shapes=(), progress=bar)
    found = samples(data, engine.inputs, limit=batches, preprocess=preprocess, labels=labels)
    scores = evaluate(engine.run, found, metrics, None if other is None else other.run)
    if found.note:
        warn(found.note)
    if json:
        show_json({"scores": [score.to_json() for score in scores]})
        return
    pairs((score.metric, str(score)) for score in scores)
