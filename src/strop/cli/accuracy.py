"""The options and the work of verbs that also tell how good a network is."""

from __future__ import annotations

from pathlib import Path

from strop.cli.output import StageBar
from strop.cli.source import load_function, open_engine
from strop.engine.engine import Engine
from strop.engine.evaluate import Score, evaluate, usual_metrics
from strop.errors import OptionError
from strop.quantize.data import samples

AGAINST_HELP = "Engine or model that agreement, mse, error, psnr, sqnr and closeness compare with; on random inputs without --data."


def scores(
    engine: Engine, data: Path | None, metric: str | None, against: Path | None, labels: Path | None, preprocess: str,
    shapes: list[str], batches: int | None = None, bar: StageBar | None = None,
) -> tuple[tuple[Score, ...], str]:  # fmt: skip
    """Scores of an engine and where they come from; none, and what would give some, without data and reference.

    Raises:
        OptionError: an unknown metric, or one whose data are missing.
        InputError: samples do not fit.
    """
    if data is None and against is None:
        if metric is not None or labels is not None:
            raise OptionError("there is nothing to look at", where="--metric" if metric else "--labels", expected="--data DATA, or --against MODEL")
        return (), "give --data DATA, or --against MODEL"
    other = None if against is None else open_engine(against, shapes=shapes, progress=bar)
    found = samples(data, engine.inputs, limit=batches, preprocess=preprocess, labels=labels)
    reference = None if other is None else other.run
    asked = [load_function(m) if ":" in m else m for m in (part.strip() for part in (metric or "").split(",")) if m]
    asked = asked or usual_metrics(found, reference)
    if not asked:
        raise OptionError("the samples have no labels", where=str(data), expected="labels, or --against MODEL to compare with")
    basis = str(data) if data is not None else "random inputs"
    return evaluate(engine.run, found, asked, reference), basis + (f" against {against}" if against is not None else "")
