"""Watching a network's values: the right arrays, and memory that does not grow with the number of samples."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from strop.engine import watch as watching
from strop.engine.build import on_this_machine, portable
from strop.engine.watch import observe, portions, watch
from strop.ir import interp
from strop.quantize.data import samples
from strop.quantize.pipeline import observed
from strop.quantize.precision import Decisions
from strop.trace import Trace
from tests import tiny_net

RNG = np.random.default_rng(0)


def test_values_are_those_of_the_graph_in_every_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = portable(tiny_net.model_file(), None, Trace())
    values = [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]
    images = RNG.standard_normal((3, 3, 8, 8)).astype(np.float32)
    wanted: dict[tuple[str, int], np.ndarray] = {}
    for k, image in enumerate(images):
        interp.run(graph, {"x": image[None]}, lambda v, x, k=k: wanted.setdefault((v.name, k), x) is None)  # type: ignore[misc]
    counts: dict[str, int] = {}

    def look(value: object, array: np.ndarray) -> None:
        name = value.name  # type: ignore[attr-defined]
        k = counts.get(name, 0)
        counts[name] = k + 1
        np.testing.assert_allclose(array, wanted[name, k], rtol=1e-3, atol=1e-4)

    monkeypatch.setattr(watching, "portions", lambda g, v, whole: portions(g, v, whole, 0))
    for once in (False, True):
        counts.clear()
        source = iter(images) if once else images
        found = samples(source, graph.inputs)
        assert watch(graph, values, found, on_this_machine, look, Trace()) == (3, 3)
        assert counts == dict.fromkeys([v.name for v in values], 3)


def test_portions_are_small_beside_the_network() -> None:
    graph = portable(tiny_net.model_file(), None, Trace())
    values = [v for n in graph.nodes for v in n.outputs]
    constants = sum(v.const.nbytes for v in graph.constants() if v.const is not None)
    room = max(constants // 4, max(v.type.nbytes for v in values))
    parts = list(portions(graph, values, False, 0))
    assert len(parts) > 1 and list(portions(graph, values, False)) == [values]
    assert [v for part in parts for v in part] == values
    assert all(sum(v.type.nbytes for v in part) <= room for part in parts)
    assert list(portions(graph, values, True)) == [values]


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    graph = portable(tiny_net.model_file(), None, Trace())
    values = observed(graph, Decisions("int8"))

    def peak(count: int) -> int:
        made = samples(lambda: (RNG.standard_normal((1, 3, 8, 8)).astype(np.float32) for _ in range(count)), graph.inputs)
        tracemalloc.start()
        seen = observe(graph, values, made, on_this_machine, Trace(), {"x": 1})
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen.samples == count and seen.observers["x"].count == count * 192
        return most

    few = peak(5)
    assert peak(300) <= 1.05 * few + 100_000
