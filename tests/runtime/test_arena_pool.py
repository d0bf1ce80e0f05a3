"""Contexts that share one budget of memory."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from strop.engine.streams import PAGE, bench_streams
from strop.errors import OptionError, RuntimeFailure
from strop.runtime.arena_pool import ArenaPool
from tests import tiny_net


def test_pieces_do_not_overlap_and_large_ones_find_room() -> None:
    pool = ArenaPool(10 * PAGE)
    with pool.lease(PAGE) as small, pool.lease(4 * PAGE) as large, pool.lease(5 * PAGE) as last:
        spans = sorted([(small, small + PAGE), (large, large + 4 * PAGE), (last, last + 5 * PAGE)])
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
        assert small > large  # small pieces lie at the end
    assert pool.peak == 10 * PAGE and pool.waits == 0
    with pool.lease(10 * PAGE):
        pass


def test_who_finds_no_room_waits_and_is_served_in_time() -> None:
    pool, order = ArenaPool(4 * PAGE), []
    started = threading.Event()

    def large() -> None:
        started.set()
        with pool.lease(4 * PAGE):
            order.append("large")

    thread = threading.Thread(target=large)
    with pool.lease(2 * PAGE):
        thread.start()
        started.wait()
        while not pool.waits:
            pass
        with pool.lease(PAGE):  # fits in beside, and passes
            order.append("small")
    thread.join(10)
    assert order == ["small", "large"] and pool.waits == 1


def test_the_first_is_not_passed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.runtime.arena_pool._MOST_PASSED", 1)
    pool, order = ArenaPool(4 * PAGE), []

    def take(name: str, need: int) -> None:
        with pool.lease(need):
            order.append(name)

    with pool.lease(2 * PAGE):
        first = threading.Thread(target=take, args=("large", 4 * PAGE))
        first.start()
        while pool.waits < 1:
            pass
        take("passes", PAGE)
        second = threading.Thread(target=take, args=("too late", PAGE))
        second.start()
        while pool.waits < 2:
            pass
        assert order == ["passes"]
    first.join(10)
    second.join(10)
    assert order == ["passes", "large", "too late"]


def test_contexts_of_one_pool_compute_what_others_do() -> None:
    engine = tiny_net.engine()
    inputs = [engine.random_inputs(seed) for seed in range(6)]
    expected = [engine.run(x)["y"] for x in inputs]
    memory = engine.memory
    pool = ArenaPool((-(-memory.arena // PAGE) + -(-memory.scratch // PAGE)) * PAGE)
    contexts = [engine.context(threads=1, arenas=pool) for _ in inputs]
    assert contexts[0].room == pool.size
    failures: list[int] = []

    def work(k: int) -> None:
        out = contexts[k].new_outputs()
        call = contexts[k].bind(inputs[k], out)
        for _ in range(50):
            call()
            if not np.array_equal(out["y"], expected[k]):
                failures.append(k)
        if [s.name for s in contexts[k].profile(inputs[k], runs=1)] != ["conv1", "conv2", "fc"]:
            failures.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and pool.peak <= pool.size
    contexts[0].close()
    with pytest.raises(RuntimeFailure, match="closed"):
        contexts[0].run(inputs[0])


def test_a_pool_that_is_too_small_is_refused() -> None:
    with pytest.raises(OptionError, match="too small for the engine"):
        tiny_net.engine().context(threads=1, arenas=ArenaPool(PAGE))
    for size in (0, -1, 1 << 62):
        with pytest.raises(OptionError, match="budget of arenas"):
            ArenaPool(size)


def test_streams_of_several_engines_share_a_budget() -> None:
    engines = [tiny_net.engine()] * 4
    report = bench_streams(engines, 4, seconds=0.1)
    memory = report.memory
    assert memory["used"] <= memory["budget"] <= 1.5 * memory["largest"] < memory["rooms"]  # type: ignore[operator]
    assert memory["rooms"] == 16 * memory["largest"]  # type: ignore[operator]
    assert len(report.engines) == 4 and all(e.runs > 0 for e in report.engines)
    assert report.qps == pytest.approx(sum(e.qps for e in report.engines))
    assert report.to_json()["engines"][0]["latency_ms"]["p50"] > 0
    own = bench_streams(engines[:1], 2, seconds=0.05, shared=False)
    assert own.memory["budget"] is None and own.waits == 0


def test_errors_of_a_stream_reach_the_caller() -> None:
    with pytest.raises(OptionError, match="number of streams"):
        bench_streams([tiny_net.engine()], 0)
