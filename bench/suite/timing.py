"""The time of every network on one thread, in turns with ONNX Runtime in an environment of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bench.suite.compare import TOLERANCE
from bench.suite.runtimes import Strop, model_path
from bench.suite.task import Array, Net
from strop.engine.peer_process import find_peers, python_of
from strop.engine.versus import Row, Settings, choose_cpus, compare


def measure(
    net: Net,
    folder: Path,
    own: Strop,
    inputs: Mapping[str, Array],
    peers: Path | None,
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
) -> Row:
    """One network on inputs of its task, of the shape that came most often.

    Args:
        net: which.
        folder: the suite's.
        own: holds its engine.
        inputs: by name.
        peers: virtual environment with the other runtime; None for this one.
        rounds: turns of each.
        seconds: inferences of a turn together.
        tell: told what is done.

    Returns:
        The figures, or why there are none.
    """
    settings = Settings(threads=1, rounds=rounds, seconds=seconds, cpus=choose_cpus(1), tolerance=TOLERANCE)
    whole = {**inputs, **{key: np.array(value, np.int64) for key, value in net.values.items()}}
    name = "torch" if net.module is not None else "onnxruntime"
    path = model_path(folder, net)
    return compare(
        own.engine(net), path, find_peers([name]), python_of(peers), settings, name=net.name, inputs=whole, progress=tell
    )  # fmt: skip
