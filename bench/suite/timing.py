"""The time of every network on one thread, in turns with ONNX Runtime in an environment of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bench.suite.runtimes import Strop, model_path
from bench.suite.task import Array, Net
from strop.engine.peer_process import find_peers, python_of
from strop.engine.versus import Row, Settings, choose_cpus, compare

#: Error at which something else is computed. Whether outputs agree has been found over all calls, where one element has a scale.
_ABSURD = 10.0


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
    settings = Settings(threads=1, rounds=rounds, seconds=seconds, cpus=choose_cpus(1), tolerance=_ABSURD)
    engine, path = own.engine(net), model_path(folder, net)
    if net.module is not None:
        named = dict(zip((tensor.name for tensor in engine.inputs), inputs.values()))
        return compare(
            engine, path, find_peers(["torch"]), python_of(peers), settings, name=net.name, inputs=named,
            original=_exported(net, folder, inputs), progress=tell,
        )  # fmt: skip
    whole = {**inputs, **{key: np.array(value, np.int64) for key, value in net.values.items()}}
    return compare(
        engine, path, find_peers(["onnxruntime"]), python_of(peers), settings, name=net.name, inputs=whole, progress=tell
    )


def _exported(net: Net, folder: Path, inputs: Mapping[str, Array]) -> Path:
    """A path beside which the module lies as an exported program, for inputs of these shapes."""
    import torch

    assert net.module is not None
    module, _, _ = net.module(folder)
    path = folder / "prepared" / f"{net.name}.pt2"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(module, tuple(torch.from_numpy(array) for array in inputs.values())), path)
    return path
