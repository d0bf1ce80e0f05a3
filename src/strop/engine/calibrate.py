"""Range tables of models: what ``strop calibrate`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.engine.build import Model, Shapes, on_this_machine, portable
from strop.engine.precision import CALIBRATOR, Request, calibrate_graph
from strop.lower.projection import split_projections
from strop.quantize.precision import Decisions
from strop.quantize.table import Table
from strop.trace import Progress, Trace


def calibrate(
    model: Model,
    data: Any = None,
    *,
    calibrator: str = CALIBRATOR,
    shapes: Shapes | None = None,
    signature: str | None = None,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    batches: int | None = None,
    preprocess: str = "unit",
    dump: str | Path | None = None,
    progress: Progress | None = None,
) -> Table:
    """The range of every value that an int8 form of the model would quantize. ``table.save(path)`` keeps them; ``build`` takes them.

    Args:
        model, shapes, signature, example_inputs, dynamic_shapes, dump, progress: as for ``strop.engine.build.build``.
        data: samples, see ``strop.quantize.data``; None for random inputs.
        calibrator: see ``strop.quantize.ranges``.
        batches: to use at most; None for all.
        preprocess: of images, a row of ``strop.quantize.data.PREPROCESSING``.

    Raises:
        InputError: samples do not fit the model.
        OptionError: an unknown calibrator.
    """
    trace = Trace(Path(dump) if dump else None, None, progress)
    graph = split_projections(portable(model, shapes, trace, signature=signature, example_inputs=example_inputs, dynamic_shapes=dynamic_shapes))
    request = Request("int8", calibration=data, calibrator=calibrator, batches=batches, preprocess=preprocess, bias_correction=False)
    found = calibrate_graph(graph, Decisions("int8"), request, on_this_machine, trace).table
    return Table(found.entries, trace.notes)
