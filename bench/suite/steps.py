"""A network with variables, run for many steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.engine.engine import Engine
from strop.frontend.tflite.importer import NEXT

Array = NDArray[Any]


def steps(engine: Engine, state: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Runs an engine once per step; what it says a variable is next, the next step is given.

    Args:
        engine: whose inputs are those named here and the variables.
        state: values of the variables before the first step, by the names of their inputs.
        inputs: arrays whose first axis are the steps.

    Returns:
        Outputs by name, variables left out, with the steps as a further first axis.
    """
    now = dict(state)
    names = [t.name for t in engine.outputs]
    plain = [name for name in names if not (name.endswith(NEXT) and name.removesuffix(NEXT) in state)]
    rows: dict[str, list[Array]] = {name: [] for name in plain}
    for step in range(min(len(array) for array in inputs.values())):
        found = engine.run({**{name: array[step] for name, array in inputs.items()}, **now})
        now = {name: found[name + NEXT].copy() for name in state}
        for name in plain:
            rows[name].append(found[name].copy())
    return {name: np.stack(row) for name, row in rows.items()}
