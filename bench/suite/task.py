"""What a network and a task of the suite are. A task is written once and runs on any runtime.

A task draws its data, calls ``run(net, inputs)`` and turns the outputs into figures of the task. It never knows which
runtime it runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
#: What a task calls: outputs by name.
Run = Callable[["Net", Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True)
class Net:
    """A trained network.

    Attributes:
        name: in tables.
        file: of the model, below the suite's folder; for a PyTorch module, of its weights.
        shapes: input name to the shapes that one engine shall serve.
        values: inputs that are the same in every call, by name; they are compiled in.
        dynamic: free the first, third and fourth dim that the file fixes, for runtimes that would insist on them.
        module: makes a PyTorch module, example inputs and ``dynamic_shapes`` (see ``strop.build``) of the suite's folder; None for
            an ONNX or TFLite file.
        extract: makes the bytes of a .tflite file of those of ``file``; None where ``file`` is the model itself.
        steps: a call's arrays have steps as a further first axis: variables begin with their initial values in every call and are kept from
            step to step (TFLite only).
    """

    name: str
    file: str
    shapes: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, int] = field(default_factory=dict)
    dynamic: bool = False
    module: Callable[[Path], tuple[Any, tuple[Any, ...], Any]] | None = None
    extract: Callable[[bytes], bytes] | None = None
    steps: bool = False

    @property
    def is_tflite(self) -> bool:
        """Whether it is a TFLite file."""
        return self.extract is not None or self.file.endswith(".tflite")


@dataclass(frozen=True)
class Reference:
    """What is known about a figure of a task.

    Attributes:
        value: that the stock runtime reached.
        low: least that is accepted.
        high: most that is accepted.
        source: how the value was found, and on which data.
    """

    value: float
    low: float
    high: float
    source: str

    def met(self, value: float) -> bool:
        """Whether a figure is as good as it should be."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Task:
    """A task on one or more networks.

    Attributes:
        name: in tables and for ``--models``.
        about: one line: what is measured on which data.
        packages: names of the packages it reads.
        nets: that it runs.
        score: from the suite's folder and ``run`` to figures by name.
        references: figures by name that a runtime must reach.
    """

    name: str
    about: str
    packages: tuple[str, ...]
    nets: tuple[Net, ...]
    score: Callable[[Path, Run], dict[str, float]]
    references: Mapping[str, Reference]

    @property
    def runtime(self) -> str:
        """The stock runtime of its networks: onnxruntime, torch or litert."""
        if any(net.module is not None for net in self.nets):
            return "torch"
        return "litert" if any(net.is_tflite for net in self.nets) else "onnxruntime"


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (E. B. Wilson 1927, J. Am. Stat. Assoc. 22, 209-212)."""
    z = 1.959964
    share, square = hits / of, z * z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = z / (1 + square / of) * (share * (1 - share) / of + square / (4 * of * of)) ** 0.5
    return middle - half, middle + half


def share(hits: int, of: int, source: str) -> Reference:
    """A share that was reached; accepted is whatever lies above the low end of its 95 % interval."""
    return Reference(hits / of, wilson(hits, of)[0], 1.0, source)
