"""Random graphs mean the same before and after every pass and the whole pipeline."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strop.ir import interp, text
from strop.ir.verify import verify
from strop.optimize.base import Options
from strop.optimize.pipeline import PASSES, optimize
from strop.trace import Trace
from tests.graphs import STEPS, assert_same, random_graph

ALL = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=list(HealthCheck),
    database=None,
)
SEEDS = st.integers(0, 1 << 32)
SIZES = st.integers(1, 9)
MODULES = {module.NAME: module for module in PASSES}


@ALL
@given(SEEDS, SIZES)
def test_every_pass_alone(seed: int, size: int) -> None:
    graph, feed = random_graph(seed, size)
    wanted = interp.run(graph, feed)
    for name, module in MODULES.items():
        copy = graph.clone()
        module.run(copy, Trace(), Options())
        try:
            verify(copy, "imported")
            assert_same(interp.run(copy, feed), wanted)
        except Exception as error:
            error.add_note(f"after {name}, seed {seed}, size {size}") if hasattr(
                error, "add_note"
            ) else None
            raise


@settings(ALL, max_examples=200)
@given(SEEDS, SIZES, st.booleans())
def test_the_pipeline(seed: int, size: int, strict: bool) -> None:
    graph, feed = random_graph(seed, size)
    before = text.show(graph)
    wanted = interp.run(graph, feed)
    result = optimize(graph, Trace(), Options(strict_nans=strict))
    assert_same(interp.run(result, feed), wanted)
    assert text.show(graph) == before, "the imported graph was changed"
    assert text.show(text.parse(text.show(result), text.by_digest(result))) == text.show(result)
    sources = {s for node in graph.nodes for s in node.source}
    assert all(node.source for node in result.nodes)
    assert {s for node in result.nodes for s in node.source} <= sources


@settings(ALL, max_examples=25)
@given(SEEDS, SIZES)
def test_the_pipeline_is_deterministic_and_idempotent(seed: int, size: int) -> None:
    graph, _ = random_graph(seed, size)
    once = optimize(graph, Trace())
    assert text.show(optimize(graph, Trace())) == text.show(once)
    twice = optimize(once, Trace())
    assert sorted(n.op.label for n in twice.nodes) == sorted(n.op.label for n in once.nodes)


@settings(ALL, max_examples=40)
@given(SEEDS, SIZES, st.integers(0, 25))
def test_stopping_after_any_patch_leaves_a_correct_graph(seed: int, size: int, fuel: int) -> None:
    graph, feed = random_graph(seed, size)
    trace = Trace(fuel=fuel)
    result = optimize(graph, trace)
    assert len(trace.patches) <= fuel
    assert_same(interp.run(result, feed), interp.run(graph, feed))


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s.__name__)
def test_every_step_of_the_generator(step: object) -> None:
    for seed in range(6):
        graph, feed = random_graph(seed, 2, (step,))  # type: ignore[arg-type]
        verify(graph, "imported")
        result = optimize(graph, Trace())
        assert_same(interp.run(result, feed), interp.run(graph, feed))
