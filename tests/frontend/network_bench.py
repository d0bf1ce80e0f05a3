"""Layers of Network on random configurations: many networks of one layer each, gathered in one network and run at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from strop.engine.build import build
from strop.frontend import network as nw
from strop.ir import dtype as dt
from strop.ir.interp import run

Array = np.ndarray[Any, Any]
#: Configurations of every layer.
COUNT = 100


class Bench:
    """Networks of one layer each, gathered in one network and run at once."""

    def __init__(self, *, implicit_batch: bool = False) -> None:
        self.net = nw.Network("bench", implicit_batch=implicit_batch)
        self.feeds: dict[str, Array] = {}
        self.wanted: list[Array] = []
        self.notes: list[str] = []

    def input(self, array: Array) -> nw.Tensor:
        name = f"x{len(self.feeds)}"
        self.feeds[name] = array
        shape = array.shape[1:] if self.net.implicit_batch else array.shape
        return self.net.add_input(name, dt.from_numpy(array.dtype), shape)

    def constant(self, array: Any) -> nw.Tensor:
        return self.net.add(nw.Constant(np.asarray(array))).output

    def expect(self, tensor: nw.Tensor, wanted: Array, note: str = "") -> None:
        self.net.mark_output(tensor)
        self.wanted.append(np.asarray(wanted))
        self.notes.append(note)

    def check(self, tolerance: float = 2e-5, *, engine: bool = False) -> None:
        batch = next(iter(self.feeds.values())).shape[0] if self.net.implicit_batch else 1
        graph = self.net.to_graph(batch=batch)
        if engine:
            found = build(graph, level=0, threads=1).run(self.feeds)
            results = [found[name] for name in graph.output_names]
        else:
            results = list(run(graph, self.feeds).values())
        assert len(results) == len(self.wanted)
        for note, got, wanted in zip(self.notes, results, self.wanted, strict=True):
            assert got.shape == wanted.shape, (note, got.shape, wanted.shape)
            scale = max(float(np.abs(wanted.astype(float)).max(initial=0)), 1e-3)
            error = np.abs(got.astype(float) - wanted.astype(float)).max(initial=0)
            assert error <= tolerance * scale, (note, error, scale)


def random(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def pick(rng: np.random.Generator, *values: Any) -> Any:
    return values[rng.integers(len(values))]


Maker = Callable[[Bench, np.random.Generator], None]


def filled(layer: Maker, count: int = COUNT, bench: Bench | None = None, rng: np.random.Generator | None = None) -> Bench:
    """A bench with ``count`` configurations of a layer."""
    bench = Bench() if bench is None else bench
    rng = np.random.default_rng(list(layer.__name__.encode())) if rng is None else rng
    made = 0
    while made < count:
        before = len(bench.wanted)
        layer(bench, rng)
        made += len(bench.wanted) > before
    return bench
