"""Results of the tasks in a lower precision: networks are calibrated on inputs of the task's own calls, and scored with Strop alone.

Every call of the task on the stock runtime is seen; of each network up to ``SAMPLES`` inputs, evenly over the calls, calibrate. What counts is what
the task loses against floats, in points: hundredths of a share, error rates included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.suite.runtimes import OnnxRuntime, Strop, Torch, build
from bench.suite.task import Array, Net, Run, Task
from strop.engine.engine import Engine
from strop.engine.versus_report import Table
from strop.errors import OptionError, StropError

#: Inputs of a network that calibrate it.
SAMPLES = 48
#: Points that a task may lose.
MAX_DROP = 1.0


class Recorder:
    """Answers calls with another runtime's outputs, and keeps inputs: every n-th, n such that they are at most ``SAMPLES``."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._every: dict[str, int] = {}
        self._calls: dict[str, int] = {}
        self.inputs: dict[str, list[dict[str, Array]]] = {}

    def __call__(self, net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
        kept, number = self.inputs.setdefault(net.name, []), self._calls.get(net.name, 0)
        self._calls[net.name] = number + 1
        if number % self._every.setdefault(net.name, 1) == 0:
            kept.append({name: array.copy() for name, array in inputs.items() if name not in net.values})
        if len(kept) > SAMPLES:
            del kept[1::2]
            self._every[net.name] *= 2
        return self._run(net, inputs)


class Reduced(Strop):
    """Engines in a lower precision."""

    def __init__(self, folder: Path, level: int, precision: str, inputs: Mapping[str, list[dict[str, Array]]], tell: Callable[[str], None]) -> None:
        super().__init__(folder, level, tell)
        self._precision, self._inputs = precision, inputs

    def _build(self, net: Net) -> Engine:
        given: list[Any] = list(self._inputs[net.name])
        names = [tensor.name for tensor in build(self._folder, net, 0).inputs] if net.module is not None else None
        batches = given if names is None else [dict(zip(names, batch.values(), strict=False)) for batch in given]
        return build(self._folder, net, self._level, precision=self._precision, calibration=batches, max_drop=MAX_DROP if self._precision == "auto" else None)

    def _key(self, net: Net) -> str:
        found = hashlib.sha256(f"{super()._key(net)} {self._precision}".encode())
        for batch in self._inputs[net.name]:
            for array in batch.values():
                found.update(array.tobytes())
        return found.hexdigest()[:16]


@dataclass
class Loss:
    """One task.

    Attributes:
        task: its name.
        floats: its figures in floats, with the stock runtime.
        reduced: its figures in the lower precision, with Strop.
        layers: per network how many layers compute in which precision.
        reason: why it failed; empty when it did not.
    """

    task: str
    floats: dict[str, float] = field(default_factory=dict)
    reduced: dict[str, float] = field(default_factory=dict)
    layers: dict[str, dict[str, int]] = field(default_factory=dict)
    reason: str = ""

    def drop(self, name: str) -> float:
        """Points that a figure lost; of an error rate, that it gained."""
        lost = 100 * (self.floats[name] - self.reduced[name])
        return -lost if "CER" in name else lost

    @property
    def good(self) -> bool:
        """Whether it ran and lost no more than it may."""
        return not self.reason and all(self.drop(name) <= MAX_DROP + 1e-9 for name in self.reduced)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return {**asdict(self), "good": self.good}


def measure(task: Task, folder: Path, precision: str, level: int, own: Strop, onnxruntime: Callable[[], OnnxRuntime], tell: Callable[[str], None]) -> Loss:
    """Scores a task in floats, calibrates its networks, and scores it again."""
    found = Loss(task.name)
    try:
        peer = Torch(folder, lambda net: [t.name for t in own.engine(net).outputs]) if task.runtime == "torch" else onnxruntime()
        recorder = Recorder(peer.run)
        found.floats = task.score(folder, recorder)
        reduced = Reduced(folder, level, precision, recorder.inputs, tell)
        found.reduced = task.score(folder, reduced.run)
        for net in task.nets:
            layers = reduced.engine(net).manifest["precision"]["layers"]
            found.layers[net.name] = {kind: len(names) for kind, names in layers.items()}
    except (StropError, ImportError) as error:
        found.reason = str(error)
    return found


def read(files: Sequence[Path], precision: str) -> list[Loss]:
    """The losses that ``--json`` has written, later files before earlier ones.

    Raises:
        OptionError: a file that is none, or of another precision.
    """
    found: dict[str, Loss] = {}
    for path in files:
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["precision"] != precision:
                raise OptionError("results in another precision", where=str(path), got=stored["precision"], expected=precision)
            entries = [Loss(**{key: value for key, value in entry.items() if key != "good"}) for entry in stored["tasks"]]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise OptionError("no results of a run with --precision", where=str(path), got=error) from None
        found.update({entry.task: entry for entry in entries})
    return list(found.values())


def table(losses: list[Loss]) -> Table:
    """A row per figure: in floats, in the lower precision, points lost, and which layers compute in which precision."""
    rows = []
    for loss in losses:
        kinds: dict[str, int] = {}
        for counts in loss.layers.values():
            for kind, count in counts.items():
                kinds[kind] = kinds.get(kind, 0) + count
        shown = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "quantized by its authors"
        for name, value in loss.floats.items():
            if name in loss.reduced:
                drop = loss.drop(name)
                verdict = "yes" if drop <= MAX_DROP + 1e-9 else "NO"
                rows.append((loss.task, name, f"{value:.4f}", f"{loss.reduced[name]:.4f}", f"{drop + 0.0:.2f}", verdict, shown))
        if loss.reason:
            rows.append((loss.task, loss.reason.splitlines()[0][:80], "", "", "", "NO", ""))
    numbers = ("floats", "reduced", "lost")
    return Table(("task", "figure", *numbers, f"at most {MAX_DROP:g}", "layers"), tuple(rows), numbers)
