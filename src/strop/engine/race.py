"""Two engines of one network in turns: which one is faster, as a whole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from statistics import median

from strop.engine.engine import Engine
from strop.ir.op import Array

#: Turns, and seconds that each engine runs in one.
_ROUNDS, _SECONDS = 15, 0.04


def ratio(engine: Engine, other: Engine, inputs: Mapping[str, Array] | None = None) -> float:
    """The time of ``engine`` by that of ``other``: the median over turns, in each of which both run for a while on one thread.

    Args:
        inputs: arrays by name; random ones when None.
    """
    arrays = dict(inputs) if inputs is not None else engine.random_inputs()
    with closing(engine.context(threads=1)) as one, closing(other.context(threads=1)) as two:
        for context in (one, two):
            context.run(arrays)
        found = []
        for _ in range(_ROUNDS):
            times = []
            for context in (one, two):
                started, runs = time.perf_counter(), 0
                while runs == 0 or time.perf_counter() - started < _SECONDS:
                    context.run(arrays)
                    runs += 1
                times.append((time.perf_counter() - started) / runs)
            found.append(times[0] / times[1])
    return median(found)
