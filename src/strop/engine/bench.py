"""Measuring an engine by the five factors: throughput, efficiency, latency, accuracy and memory.

    report = bench(engine, seconds=2.0)
    report.qps, report.joules_per_inference, report.latency.p50, report.memory, report.to_json()
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop.engine.describe import memory_of, title
from strop.engine.energy import Energy, Gauge
from strop.engine.engine import Engine
from strop.engine.notebook import pairs_html
from strop.engine.resident import peak, reset_peak, resident
from strop.engine.step_rates import StepRate, step_rates
from strop.errors import OptionError
from strop.runtime.context import Context
from strop.runtime.session import Session

#: Seconds that are measured, and that come before without being measured, when nothing else is asked for.
SECONDS = 2.0
WARMUP_SECONDS = 0.3
#: A measurement ends after this many runs even when its time is not up.
MAX_RUNS = 1_000_000


@dataclass(frozen=True)
class Latency:
    """Time per run in milliseconds. ``pNN`` is the time that NN of 100 runs did not exceed (linear interpolation); ``low`` and ``high``
    are the 95 % confidence interval of the median, from order statistics: it asks nothing of the distribution (H. A. David and
    H. N. Nagaraja, 2003, "Order Statistics", 7.1)."""

    min: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    std: float
    low: float
    high: float

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> Latency:
        """The statistics of measured runs; at least one."""
        if not nanoseconds:
            raise OptionError("no run was measured", expected="at least one")
        times = np.sort(np.asarray(nanoseconds, np.float64) / 1e6)
        p50, p90, p95, p99 = (float(p) for p in np.percentile(times, (50, 90, 95, 99)))
        low, high = median_ranks(len(times))
        return cls(
            float(times[0]), float(times.mean()), p50, p90, p95, p99, float(times[-1]), float(times.std()),
            float(times[low]), float(times[high]),
        )  # fmt: skip


def median_ranks(count: int, z: float = 1.959964) -> tuple[int, int]:
    """Positions, from 0, among ``count`` sorted values between which the median lies with 95 % confidence: the normal approximation
    of the binomial distribution of how many values lie below it."""
    spread = z * math.sqrt(count) / 2
    return max(0, math.floor(count / 2 - spread)), min(count - 1, math.ceil(count / 2 + spread))


@dataclass(frozen=True)
class Cold:
    """The first inference, in milliseconds: ``load`` of the engine file (its pages in the system's cache), making a ``context``, and the
    ``first`` run in it."""

    load: float
    context: float
    first: float

    @property
    def total(self) -> float:
        """From the file to the first result."""
        return self.load + self.context + self.first


@dataclass(frozen=True)
class Report:
    """What a measurement found.

    Attributes:
        model: the network's name.
        target: whose code ran.
        threads: of the context.
        batch: samples per run: the first dim that all inputs share, else 1.
        warmup_runs: runs before the measurement.
        runs: runs measured.
        seconds: wall time of the measured runs together.
        qps: inferences (runs) per second of wall time.
        samples_per_s: ``qps * batch``.
        latency: of one run in steady state.
        cold: the first one.
        energy: of the measured runs.
        memory: bytes: ``weights`` and ``code`` (shared by all contexts), ``arena`` and ``scratch`` (of this one), ``io`` (inputs and
            outputs), ``predicted``: what loading and running adds to the process by the engine's own figures, ``measured``: what
            it added, ``host_peak``: all resident memory of the process at its peak while measuring. None where the system does not tell.
        steps: least time per step and what it reaches of the cores' peak, when asked for.
        peaks: what that is measured by: operations per second of all threads together, by precision; a multiply-add counts 2.
        scores: how good it is, where there were data; see ``strop.engine.evaluate``.
    """

    model: str
    target: str
    threads: int
    batch: int
    warmup_runs: int
    runs: int
    seconds: float
    qps: float
    samples_per_s: float
    latency: Latency
    cold: Cold
    energy: Energy
    memory: dict[str, int | None]
    steps: tuple[StepRate, ...] = ()
    peaks: dict[str, float] = field(default_factory=dict)
    scores: tuple[Any, ...] = ()

    @property
    def joules_per_inference(self) -> float | None:
        """None without a meter."""
        return self.energy.per(self.runs)

    @property
    def samples_per_joule(self) -> float | None:
        """None without a meter."""
        joules = self.joules_per_inference
        return None if not joules else self.batch / joules

    def _repr_html_(self) -> str:
        latency, memory = self.latency, self.memory
        joules = self.joules_per_inference
        rows = [
            ("throughput", f"{self.qps:.1f} inferences/s, {self.samples_per_s:.1f} samples/s"),
            ("efficiency", f"unavailable: {self.energy.reason}" if joules is None else f"{joules:.4g} J per inference"),
            ("latency", f"p50 {latency.p50:.3f} ms ({latency.low:.3f} to {latency.high:.3f}), p90 {latency.p90:.3f}, p99 {latency.p99:.3f}"),
            ("first inference", f"{self.cold.total:.2f} ms"),
            ("accuracy", "; ".join(f"{s.metric} {s}" for s in self.scores) or "not measured"),
            ("memory", ", ".join(f"{name} {value / 2**20:.2f} MiB" for name, value in memory.items() if value is not None)),
        ]
        return pairs_html(f"{self.model} for {self.target}, {self.threads} threads", rows)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and numbers; times in ms under ``latency_ms`` and ``cold_ms``, of steps in ns."""
        found = asdict(self)
        found["latency_ms"], found["cold_ms"] = found.pop("latency"), {**found.pop("cold"), "total": self.cold.total}
        found["energy"] = self.energy.to_json()
        found["joules_per_inference"], found["samples_per_joule"] = self.joules_per_inference, self.samples_per_joule
        found["scores"] = [score.to_json() for score in self.scores]
        return found


def bench(
    engine: Engine,
    inputs: Mapping[str, ArrayLike] | None = None,
    *,
    threads: int | None = None,
    runs: int | None = None,
    seconds: float | None = None,
    warmup: int | None = None,
    per_step: bool = False,
    gauge: Gauge | None = None,
) -> Report:
    """Runs an engine again and again on the same inputs, outputs going to the same arrays.

    Args:
        engine: what to measure.
        inputs: arrays by name; random ones when None.
        threads: of the context; None for the engine's own.
        runs: how many runs to measure; None for as many as fit ``seconds``.
        seconds: how long to measure when ``runs`` is None; None for 2 s.
        warmup: runs before the measurement; None for 0.3 s of them, at least one.
        per_step: also find the least time of every step, in further runs.
        gauge: of energy; None for the best meter of this machine.

    Raises:
        OptionError: an unusable number.
        InputError: an input does not fit.
    """
    _check("runs", runs, 1)
    _check("seconds", seconds, 0)
    _check("warmup", warmup, 0)
    load, grown = _load(engine)
    arrays = {k: np.ascontiguousarray(v) for k, v in (engine.random_inputs() if inputs is None else inputs).items()}
    with_peak = reset_peak()
    before, started = resident(), time.perf_counter_ns()
    context = engine.context(threads=threads)
    try:
        made = time.perf_counter_ns()
        call = context.bind(arrays, context.new_outputs())
        bound = time.perf_counter_ns()
        call()
        cold = Cold(load, (made - started) / 1e6, (time.perf_counter_ns() - bound) / 1e6)
        warmed = time_calls(call, runs=warmup, seconds=WARMUP_SECONDS, least=1) if warmup != 0 else []
        after = resident()
        with gauge if gauge is not None else Gauge.of(engine.manifest.get("target")) as meter:
            started = time.perf_counter_ns()
            times = time_calls(call, runs=runs, seconds=SECONDS if seconds is None else seconds)
            wall = (time.perf_counter_ns() - started) / 1e9
        steps, peaks = step_rates(engine, context, arrays, min(max(len(times), 1), 50)) if per_step else ((), {})
        memory = _memory(engine, context, arrays)
    finally:
        context.close()
    measured = None if None in (before, after, grown) else (after or 0) - (before or 0) + (grown or 0)
    batch = batch_of(engine)
    return Report(
        model=title(engine),
        target=str(engine.manifest.get("target")),
        threads=context.threads,
        batch=batch,
        warmup_runs=len(warmed),
        runs=len(times),
        seconds=wall,
        qps=len(times) / wall,
        samples_per_s=len(times) * batch / wall,
        latency=Latency.of(times),
        cold=cold,
        energy=meter.found,
        memory={**memory, "measured": measured, "host_peak": peak() if with_peak else None},
        steps=steps,
        peaks=peaks,
    )


def _load(engine: Engine) -> tuple[float, int | None]:
    """Milliseconds that loading the engine file takes, and the bytes by which the process grows; of one that is loaded already a second
    time, for as long as this takes."""
    before, started = resident(), time.perf_counter_ns()
    if engine.is_loaded:
        with Session(engine.path):
            seconds = (time.perf_counter_ns() - started) / 1e6
            after = resident()
    else:
        assert engine.session is not None
        seconds = (time.perf_counter_ns() - started) / 1e6
        after = resident()
    return seconds, None if before is None or after is None else after - before


def time_calls(
    call: Callable[[], object], *, runs: int | None = None, seconds: float = SECONDS, least: int = 1
) -> list[int]:
    """Nanoseconds of each of ``runs`` calls; as many as fit ``seconds``, but ``least``, when ``runs`` is None."""
    times: list[int] = []
    clock = time.perf_counter_ns
    end = clock() + int(seconds * 1e9)
    wanted = MAX_RUNS if runs is None else runs
    while len(times) < wanted:
        before = clock()
        if runs is None and before >= end and len(times) >= least:
            break
        call()
        times.append(clock() - before)
    return times


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Confidence interval of a proportion, 95 % by default (E. B. Wilson, 1927, "Probable inference").

    Raises:
        OptionError: no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise OptionError("no proportion", got=f"{successes} of {trials}", expected="0 <= successes <= trials, trials > 0")
    share, square = successes / trials, z * z
    middle = share + square / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    scale = 1 + square / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def _check(name: str, value: float | None, least: int) -> None:
    if value is not None and not (least <= value <= MAX_RUNS and math.isfinite(value)):
        raise OptionError(f"unusable number of {name}", got=value, expected=f"{least} to {MAX_RUNS}")


def batch_of(engine: Engine) -> int:
    """Samples per run: the first dim that all inputs share, else 1."""
    leading = {t.shape[0] for t in engine.inputs if t.shape}
    return leading.pop() if len(leading) == 1 else 1


def _memory(engine: Engine, context: Context, inputs: Mapping[str, NDArray[Any]]) -> dict[str, int | None]:
    """The engine's own figures. What loading and running it adds to the process is its file, which is mapped whole, its code once more,
    as the system loads it, and a context's arena, scratch and outputs."""
    figures, code = context.memory, memory_of(engine).code
    outputs = sum(array.nbytes for array in context.new_outputs().values())
    return {
        "weights": figures.weights,
        "arena": figures.arena,
        "scratch": figures.scratch,
        "code": code,
        "io": outputs + sum(array.nbytes for array in inputs.values()),
        "predicted": engine.path.stat().st_size + code + figures.arena + figures.scratch + outputs,
    }
