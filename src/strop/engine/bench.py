"""Measuring an engine: latency, throughput and memory of repeated runs.

    report = bench(engine, seconds=2.0)
    report.qps, report.latency.p50, report.to_json()
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop.engine.describe import memory_of
from strop.engine.engine import Engine
from strop.errors import OptionError
from strop.runtime.context import Context, StepTime

#: Seconds that are measured, and that come before without being measured, when nothing else is asked for.
SECONDS = 2.0
WARMUP_SECONDS = 0.3
#: A measurement ends after this many runs even when its time is not up.
MAX_RUNS = 1_000_000


@dataclass(frozen=True)
class Latency:
    """Time per run in milliseconds. ``pNN`` is the time that NN of 100 runs did not exceed (linear interpolation)."""

    min: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    std: float

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> Latency:
        """The statistics of measured runs; at least one."""
        if not nanoseconds:
            raise OptionError("no run was measured", expected="at least one")
        times = np.asarray(nanoseconds, np.float64) / 1e6
        p50, p90, p95, p99 = (float(p) for p in np.percentile(times, (50, 90, 95, 99)))
        return cls(
            float(times.min()), float(times.mean()), p50, p90, p95, p99, float(times.max()), float(times.std())
        )


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
        latency: of one run.
        memory: bytes: ``weights`` and ``code`` (shared by all contexts), ``arena`` and ``scratch`` (of this one),
            ``host_peak`` (resident memory of the process at its peak while measuring; None where the system does not tell).
        steps: least time per step, when asked for.
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
    memory: dict[str, int | None]
    steps: tuple[StepTime, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and numbers; times in ms under ``latency_ms``, of steps in ns."""
        found = asdict(self)
        found["latency_ms"] = found.pop("latency")
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

    Raises:
        OptionError: an unusable number.
        InputError: an input does not fit.
    """
    _check("runs", runs, 1)
    _check("seconds", seconds, 0)
    _check("warmup", warmup, 0)
    arrays = {k: np.asarray(v) for k, v in (engine.random_inputs() if inputs is None else inputs).items()}
    with_peak = _reset_peak()
    context = engine.context(threads=threads)
    try:
        outputs = {t.name: np.empty(t.shape, t.dtype.numpy) for t in engine.outputs if not t.is_computed}
        warmed = _repeat(context, arrays, outputs, warmup, WARMUP_SECONDS, least=0 if warmup == 0 else 1)
        started = time.perf_counter_ns()
        times = _repeat(context, arrays, outputs, runs, SECONDS if seconds is None else seconds, least=1)
        wall = (time.perf_counter_ns() - started) / 1e9
        peak = _peak() if with_peak else None
        steps = context.profile(arrays, runs=min(max(len(times), 1), 50)) if per_step else ()
        memory = _memory(engine, context, peak)
    finally:
        context.close()
    batch = _batch(engine)
    return Report(
        model=str(engine.manifest.get("model")),
        target=str(engine.manifest.get("target")),
        threads=context.threads,
        batch=batch,
        warmup_runs=len(warmed),
        runs=len(times),
        seconds=wall,
        qps=len(times) / wall,
        samples_per_s=len(times) * batch / wall,
        latency=Latency.of(times),
        memory=memory,
        steps=steps,
    )


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


def _repeat(
    context: Context,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    runs: int | None,
    seconds: float,
    least: int,
) -> list[int]:
    return time_calls(lambda: context.run(inputs, out=outputs), runs=runs, seconds=seconds, least=least)


def _check(name: str, value: float | None, least: int) -> None:
    if value is not None and not (least <= value <= MAX_RUNS and math.isfinite(value)):
        raise OptionError(f"unusable number of {name}", got=value, expected=f"{least} to {MAX_RUNS}")


def _batch(engine: Engine) -> int:
    leading = {t.shape[0] for t in engine.inputs if t.shape}
    return leading.pop() if len(leading) == 1 else 1


def _memory(engine: Engine, context: Context, peak: int | None) -> dict[str, int | None]:
    figures = context.memory
    return {
        "weights": figures.weights,
        "arena": figures.arena,
        "scratch": figures.scratch,
        "code": memory_of(engine).code,
        "host_peak": peak,
    }


def _reset_peak() -> bool:
    """Lets the kernel start the process's peak of resident memory anew (proc(5): clear_refs, value 5)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    return False


def _peak() -> int | None:
    """Bytes of resident memory at the peak since ``_reset_peak``."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
