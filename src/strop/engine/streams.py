"""Several engines at once, each with several streams of inputs: multi-network, multi-camera.

    report = bench_streams(engines, streams=4, budget=64 << 20)

Every stream of every engine is a thread with a context of its own. The contexts take arena and scratch out of one pool for the time of a run
(``strop.runtime.arena_pool``), so that memory grows with what runs at once and not with what is open: the default budget holds
the largest context once, and smaller ones beside it. Weights are mapped once per engine, whatever the number of streams.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from strop.engine.bench import MAX_RUNS, SECONDS, Latency, batch_of
from strop.engine.describe import memory_of, title
from strop.engine.energy import Energy, Gauge
from strop.engine.engine import Engine
from strop.engine.resident import peak, reset_peak, resident
from strop.errors import OptionError
from strop.runtime.arena_pool import ArenaPool
from strop.runtime.context import Context

MAX_STREAMS = 256
WARMUP_RUNS = 2
PAGE = 4096
#: The default budget by the largest context's need.
HEADROOM = 1.25


@dataclass(frozen=True)
class StreamFigures:
    """One engine among those that ran at once: runs of all its streams in the measured time."""

    model: str
    runs: int
    qps: float
    samples_per_s: float
    latency: Latency


@dataclass(frozen=True)
class StreamsReport:
    """What a measurement of several streams found.

    Attributes:
        engines: in the order given.
        streams: per engine.
        threads: of each context.
        seconds: measured.
        qps, samples_per_s: of all together.
        energy: of all together.
        memory: bytes: ``weights`` and ``code`` of all engines, ``rooms``: what the contexts would take with memory of their own,
            ``largest``: the largest of these, ``budget``: of the pool (None without one), ``used``: the most that was taken
            out of it at once, ``io``: inputs and outputs, ``grown``: how much the process grew at its peak over what it was before any
            context was made, ``host_peak``: all of its resident memory then. None where the system does not tell.
        waits: runs that waited for room in the pool.
    """

    engines: tuple[StreamFigures, ...]
    streams: int
    threads: int
    seconds: float
    qps: float
    samples_per_s: float
    energy: Energy
    memory: dict[str, int | None]
    waits: int

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and numbers; times in ms under ``latency_ms``."""
        found = asdict(self)
        for record in found["engines"]:
            record["latency_ms"] = record.pop("latency")
        runs = sum(e.runs for e in self.engines)
        return {**found, "energy": self.energy.to_json(), "joules_per_inference": self.energy.per(runs)}


class _Stream:
    """A thread that runs one context again and again."""

    def __init__(self, context: Context, inputs: Mapping[str, Any], clock: _Clock) -> None:
        self.times: list[int] = []
        self.error: BaseException | None = None
        self._call = context.bind(inputs, context.new_outputs())
        self._clock = clock
        self.thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        try:
            for _ in range(WARMUP_RUNS):
                self._call()
            self._clock.start.wait()
            end, now = self._clock.end, time.perf_counter_ns
            while len(self.times) < MAX_RUNS:
                before = now()
                if before >= end and self.times:
                    break
                self._call()
                self.times.append(now() - before)
        except BaseException as error:
            self.error = error
            self._clock.start.abort()


class _Clock:
    """When all streams start, and when they end."""

    def __init__(self, parties: int, seconds: float) -> None:
        self._seconds = seconds
        self.began = self.end = 0
        self.start = threading.Barrier(parties, action=self._begin)

    def _begin(self) -> None:
        self.began = time.perf_counter_ns()
        self.end = self.began + int(self._seconds * 1e9)


def bench_streams(
    engines: Sequence[Engine], streams: int = 1, *, budget: int | None = None, shared: bool = True, threads: int = 1,
    seconds: float | None = None, inputs: Sequence[Mapping[str, ArrayLike] | None] | None = None,
) -> StreamsReport:  # fmt: skip
    """Runs all streams of all engines at once.

    Args:
        engines: one or more, the same one several times too; all its streams share an engine's weights.
        streams: per engine.
        budget: bytes for the arenas and scratch of all contexts; None for ``HEADROOM`` times what the largest needs.
        shared: False gives every context memory of its own.
        threads: of each context.
        seconds: to measure; None for 2 s.
        inputs: per engine, by name; random when None. Streams of an engine read the same arrays.

    Raises:
        OptionError: an unusable number, or a budget that is too small for an engine.
        InputError: an input does not fit.
    """
    if not 1 <= streams <= MAX_STREAMS or not engines:
        raise OptionError("unusable number of streams", got=streams, expected=f"1 to {MAX_STREAMS} of at least one engine")
    seconds = SECONDS if seconds is None else seconds
    for engine in engines:
        assert engine.session is not None  # weights are there before anything is counted
    arrays = [
        {k: np.ascontiguousarray(v) for k, v in (e.random_inputs() if given is None else given).items()}
        for e, given in zip(engines, inputs or [None] * len(engines))
    ]
    rooms = [_room(engine, threads) for engine in engines]
    pool = ArenaPool(int(HEADROOM * max(rooms)) if budget is None else budget) if shared else None
    with_peak, before = reset_peak(), resident()
    clock = _Clock(streams * len(engines) + 1, seconds)
    contexts = [[engine.context(threads=threads, arenas=pool) for _ in range(streams)] for engine in engines]
    try:
        work = [[_Stream(context, given, clock) for context in group] for group, given in zip(contexts, arrays)]
        energy = _run([stream for group in work for stream in group], clock, Gauge.of(engines[0].manifest.get("target")))
        wall = (time.perf_counter_ns() - clock.began) / 1e9
        outputs = sum(a.nbytes for group in contexts for c in group for a in c.new_outputs().values())
    finally:
        for context in (c for group in contexts for c in group):
            context.close()
    highest = peak() if with_peak else None
    figures = tuple(_figures(engine, group, wall) for engine, group in zip(engines, work))
    distinct = {id(e): e for e in engines}.values()
    memory = {
        "weights": sum(e.memory.weights for e in distinct),
        "code": sum(memory_of(e).code for e in distinct),
        "rooms": streams * sum(rooms),
        "largest": max(rooms),
        "budget": None if pool is None else pool.size,
        "used": None if pool is None else pool.peak,
        "io": outputs + sum(a.nbytes for given in arrays for a in given.values()),
        "grown": None if highest is None or before is None else highest - before,
        "host_peak": highest,
    }
    return StreamsReport(
        figures, streams, threads, wall, sum(f.qps for f in figures), sum(f.samples_per_s for f in figures), energy, memory,
        0 if pool is None else pool.waits,
    )  # fmt: skip


def _room(engine: Engine, threads: int) -> int:
    """Bytes of arena and scratch of one context, in whole pages as the runtime takes them."""
    figures = engine.memory
    pages = -(-figures.arena // PAGE) + threads * -(-figures.scratch // PAGE)
    return max(1, pages) * PAGE


def _run(streams: Sequence[_Stream], clock: _Clock, gauge: Gauge) -> Energy:
    """Starts all streams and waits until the last has ended; raises what one of them raised."""
    for stream in streams:
        stream.thread.start()
    with suppress(threading.BrokenBarrierError):
        clock.start.wait()
    with gauge:
        for stream in streams:
            stream.thread.join()
    errors = [s.error for s in streams if s.error is not None and not isinstance(s.error, threading.BrokenBarrierError)]
    if errors:
        raise errors[0]
    return gauge.found


def _figures(engine: Engine, streams: Sequence[_Stream], wall: float) -> StreamFigures:
    times = [t for stream in streams for t in stream.times]
    rate = len(times) / wall
    return StreamFigures(title(engine), len(times), rate, rate * batch_of(engine), Latency.of(times))
