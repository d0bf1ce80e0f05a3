"""Calibrators: batches by address, and caches of TensorRT's format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from strop.compat.memory import array_at
from strop.compat.tensorrt.enums import CalibrationAlgoType
from strop.engine.calibrate import calibrate
from strop.ir import shape as sh
from strop.ir.graph import Graph, Value
from strop.ir.op import Array
from strop.quantize.table import Table, parse

#: Strop's calibrator of each algorithm.
_NAMES = {
    CalibrationAlgoType.LEGACY_CALIBRATION: "legacy",
    CalibrationAlgoType.ENTROPY_CALIBRATION: "entropy",
    CalibrationAlgoType.ENTROPY_CALIBRATION_2: "entropy2",
    CalibrationAlgoType.MINMAX_CALIBRATION: "minmax",
}


def ranges_of(calibrator: Any, graph: Graph) -> Table:
    """The ranges of a calibrator: from its cache where it has one, else from its batches, which its cache is then given."""
    cache = calibrator.read_calibration_cache()
    if cache:
        return parse(bytes(cache).decode("utf-8", "replace"), "the calibration cache")
    table = calibrate(graph, batches_of(calibrator, graph.inputs), calibrator=_NAMES[calibrator.get_algorithm()])
    calibrator.write_calibration_cache(table.tensorrt_text().encode())
    return table


def batches_of(calibrator: Any, inputs: Sequence[Value]) -> Iterator[dict[str, Array]]:
    """The calibrator's batches, cut into the batches of the network."""
    size = int(calibrator.get_batch_size())
    names = [value.name for value in inputs]
    while True:
        addresses = calibrator.get_batch(names)
        if not addresses:
            return
        given = {v.name: _copied(int(a), v, size) for v, a in zip(inputs, addresses, strict=True)}
        step = inputs[0].shape[0] if inputs[0].shape and isinstance(inputs[0].shape[0], int) else size
        for start in range(0, size - step + 1, step):
            yield {name: array[start : start + step] for name, array in given.items()}


def _copied(address: int, value: Value, size: int) -> Array:
    rest = sh.static(tuple(d if isinstance(d, int) else sh.evaluate(d, {s.name: s.opt for s in sh.symbols([d])}) for d in value.shape[1:]))
    return np.array(array_at(address, value.dtype.numpy, (size, *rest)))
