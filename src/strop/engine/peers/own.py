"""Strop itself: loads an engine file and runs it, in a process like those of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from strop.engine.engine import load as load_engine
from strop.version import __version__


class Net:
    """A context with inputs and outputs that stay where they are."""

    def __init__(self, task: Any) -> None:
        self._engine = load_engine(task.model, threads=task.threads)
        self._context = self._engine.context(threads=task.threads)
        self._inputs = dict(task.inputs)
        self._arrays = [self._inputs[t.name] for t in self._engine.inputs]
        self._context.resize({name: np.shape(array) for name, array in self._inputs.items()})
        self._out = self._context.new_outputs()
        self._results: Any = None
        self._kept = [name for name in self._out if name not in task.state.values()]
        self.version = __version__
        self.notes = [f"{self._engine.manifest.get('target')}, {self._context.threads} threads"]
        self._bound: Callable[[], object] = self._context.bind(self._inputs, self._out)
        self.calls: dict[str, Callable[[], object]] = {"context()": self._call, "run(out=)": self._run, "bind()": self._run_bound}
        if task.state:
            self._back = self._bind_back(task.state)
            self.calls = {"bind() there and back": self._run_carried}

    def _call(self) -> None:
        self._results = self._context(*self._arrays)

    def _run(self) -> None:
        self._results = list(self._context.run(self._inputs, out=self._out).values())

    def _run_bound(self) -> None:
        self._bound()
        self._results = None

    def _bind_back(self, state: Mapping[str, str]) -> Callable[[], object]:
        """Runs with the arrays of every variable and of its next value swapped."""
        swapped = {name: self._out[following] for name, following in state.items()}
        return self._context.bind({**self._inputs, **swapped}, {**self._out, **{following: self._inputs[name] for name, following in state.items()}})

    def _run_carried(self) -> None:
        self._bound()
        self._bound, self._back = self._back, self._bound

    def outputs(self) -> list[Any]:
        """Of the last inference, but what was carried."""
        if self._results is None:
            shapes = self._context.output_shapes()
            return [a.reshape(-1)[: prod(shapes[name])].reshape(shapes[name]) for name, a in self._out.items() if name in self._kept]
        return list(self._results) if isinstance(self._results, (tuple, list)) else [self._results]

    def profile(self, runs: int) -> list[tuple[str, int]]:
        """The least time of every step in nanoseconds."""
        return [(s.name, s.nanoseconds) for s in self._context.profile(self._inputs, runs=runs)]


def load(task: Any) -> Net:
    """The engine, and a context with the task's threads."""
    return Net(task)
