"""Runs a task on two runtimes: what each reaches, and how far their outputs lie apart call by call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.suite.litert import LiteRT
from bench.suite.runtimes import OnnxRuntime, Strop, Torch
from bench.suite.task import Array, Net, Task
from strop.engine.versus import output_error
from strop.errors import StropError

#: Largest error of an output that counts as agreement: max |ours - theirs| / max |theirs|.
TOLERANCE = 1e-3


@dataclass
class NetResult:
    """One network.

    Attributes:
        net: its name.
        calls: that were compared.
        shapes: different shapes among them.
        error: the largest error of any output of any call: max |ours - theirs| / max |theirs|; an output of one element is set
            against the largest that it has in all calls.
        reason: why it failed; empty when it did not.
    """

    net: str
    calls: int = 0
    shapes: int = 0
    error: float = 0.0
    reason: str = ""

    @property
    def agrees(self) -> bool:
        """Whether all outputs of all calls lie within the tolerance."""
        return not self.reason and self.calls > 0 and self.error <= TOLERANCE


@dataclass
class TaskResult:
    """One task.

    Attributes:
        task: its name.
        peer: the other runtime.
        theirs: its figures.
        ours: Strop's.
        nets: its networks.
        missed: figures of Strop that are worse than they should be.
        reason: why it failed; empty when it did not.
    """

    task: str
    peer: str
    theirs: dict[str, float] = field(default_factory=dict)
    ours: dict[str, float] = field(default_factory=dict)
    nets: list[NetResult] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def good(self) -> bool:
        """Whether it ran, agrees, and reaches what it should."""
        return not self.reason and not self.missed and all(net.agrees for net in self.nets)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return {**asdict(self), "good": self.good}


class _Scalar:
    """Differences of an output of one element: in a single call there is nothing to set them against but the element itself,
    so they are set against the largest of all calls."""

    def __init__(self) -> None:
        self._difference = self._largest = 0.0

    def error(self, ours: Array, theirs: Array) -> float:
        """The largest difference so far by the largest element so far; infinite for what cannot be compared."""
        a, b = float(ours.reshape(-1)[0]) if ours.size == 1 else np.nan, float(theirs.reshape(-1)[0])
        if not (np.isfinite(a) and np.isfinite(b)):
            return float("inf")
        self._difference, self._largest = max(self._difference, abs(a - b)), max(self._largest, abs(b))
        return self._difference / (self._largest or 1.0)


class _Seen:
    """Calls of one shape: how many, and the inputs of the one whose first output was largest."""

    def __init__(self) -> None:
        self.calls, self.inputs = 0, dict[str, Array]()
        self._largest = -1.0

    def add(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Counts a call."""
        self.calls += 1
        largest = float(np.abs(next(iter(outputs.values()))).max())
        if largest > self._largest:
            self._largest, self.inputs = largest, dict(inputs)


class _Both:
    """Runs every call on both runtimes, on the same inputs; answers with the other's outputs."""

    def __init__(self, peer: OnnxRuntime | Torch | LiteRT, own: Strop, nets: tuple[Net, ...]) -> None:
        self._peer, self._own = peer, own
        self.results = {net.name: NetResult(net.name) for net in nets}
        self.examples: dict[str, dict[str, Array]] = {}
        self._seen: dict[str, dict[tuple[Any, ...], _Seen]] = {net.name: {} for net in nets}
        self._scalars: dict[tuple[str, str], _Scalar] = {}
        self._whole: dict[str, float] = {}
        self._scalar_errors: dict[tuple[str, str], float] = {}

    def __call__(self, net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
        found = self.results[net.name]
        theirs = self._peer.run(net, inputs)
        found.calls += 1
        self._seen[net.name].setdefault(tuple(array.shape for array in inputs.values()), _Seen()).add(inputs, theirs)
        found.shapes = len(self._seen[net.name])
        if not found.reason:
            try:
                ours = self._own.run(net, inputs)
            except StropError as error:
                found.reason = str(error)
                return theirs
            self._note(net, ours, theirs)
        return theirs

    def _note(self, net: Net, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> None:
        """Adds a call to the largest errors."""
        single = [name for name, array in theirs.items() if array.size == 1]
        for name in single:
            key = (net.name, name)
            self._scalar_errors[key] = self._scalars.setdefault(key, _Scalar()).error(ours[name], theirs[name])
        whole = [name for name in theirs if name not in single]
        self._whole[net.name] = max(
            self._whole.get(net.name, 0.0), output_error([ours[name] for name in whole], [theirs[name] for name in whole])
        )
        of_scalars = [error for (owner, _), error in self._scalar_errors.items() if owner == net.name]
        self.results[net.name].error = max(self._whole[net.name], *of_scalars) if of_scalars else self._whole[net.name]

    def example(self, net: Net) -> dict[str, Array] | None:
        """Inputs of the shape that came most often."""
        seen = self._seen[net.name].values()
        return max(seen, key=lambda item: item.calls).inputs if seen else None


def compare(
    task: Task,
    folder: Path,
    own: Strop,
    onnxruntime: Callable[[], OnnxRuntime],
    examples: dict[str, dict[str, Array]],
    environment: Path | None = None,
) -> TaskResult:
    """Runs a task, first on both in step, then on Strop alone.

    Args:
        task: which.
        folder: the suite's.
        own: Strop.
        onnxruntime: makes the runtime for ONNX files.
        examples: receives inputs of every network.
        environment: virtual environment with the runtime for TFLite files; None for this one.

    Returns:
        What was found; a network that Strop cannot build or run is told there.
    """
    result = TaskResult(task.name, task.runtime)
    litert = LiteRT(folder, environment)
    try:
        peer: OnnxRuntime | Torch | LiteRT = litert
        if task.runtime == "torch":
            peer = Torch(folder, lambda net: [t.name for t in own.engine(net).outputs])
        elif task.runtime == "onnxruntime":
            peer = onnxruntime()
        both = _Both(peer, own, task.nets)
        result.theirs = task.score(folder, both)
        result.nets = list(both.results.values())
        examples.update({net.name: x for net in task.nets if (x := both.example(net)) is not None})
        if not any(net.reason for net in result.nets):
            result.ours = task.score(folder, own.run)
    except (StropError, ImportError) as error:
        result.reason = str(error)
    finally:
        litert.close()
    result.missed = [name for name, r in task.references.items() if name in result.ours and not r.met(result.ours[name])]
    return result


