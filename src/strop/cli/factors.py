"""A measurement in words: the five factors, of one engine or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence

from strop.cli.output import size
from strop.engine.bench import Report
from strop.engine.energy import Energy
from strop.engine.streams import StreamsReport

#: Parts of memory, as they are called for people.
_PARTS = {"weights": "weights", "code": "code", "arena": "arena", "scratch": "workspace", "io": "inputs and outputs"}


def factors(report: Report, basis: str) -> list[tuple[str, object]]:
    """Label and text per line. ``basis``: where the scores come from, or what would give some."""
    latency, cold, memory = report.latency, report.cold, report.memory
    sure = f"median {latency.p50:.3f}, 95 % sure within {latency.low:.3f} to {latency.high:.3f}"
    parts = ", ".join(f"{name} {size(memory[key] or 0)}" for key, name in _PARTS.items())
    rows: list[tuple[str, object]] = [
        ("network", f"{report.model} for {report.target}, {report.threads} thread{'s' * (report.threads != 1)}"),
        ("measured", f"{report.runs} runs in {report.seconds:.2f} s, after {report.warmup_runs} to warm up"),
        ("throughput", f"{report.qps:.1f} inferences/s, {report.samples_per_s:.1f} samples/s (batch {report.batch})"),
        ("efficiency", _efficiency(report)),
        ("latency ms", f"min {latency.min:.3f}  mean {latency.mean:.3f}  p50 {latency.p50:.3f}  p90 {latency.p90:.3f}  "
                       f"p95 {latency.p95:.3f}  p99 {latency.p99:.3f}  max {latency.max:.3f}"),
        ("", f"{sure}; spread {100 * latency.std / latency.mean:.1f} %"),
        ("first ms", f"load {cold.load:.2f} + context {cold.context:.2f} + run {cold.first:.2f} = {cold.total:.2f}"),
    ]  # fmt: skip
    rows += [("accuracy" if not k else "", f"{s.metric} {s}") for k, s in enumerate(report.scores)]
    if report.scores:
        rows.append(("", f"on {basis}"))
    else:
        rows.append(("accuracy", f"not measured: {basis}"))
    rows += [
        ("memory", parts),
        ("", f"loading and running it takes {_size(memory['predicted'])} by its own figures, {_size(memory['measured'])} as measured"),
        ("process peak", _size(memory["host_peak"])),
    ]
    return rows


def streams_rows(report: StreamsReport) -> list[tuple[str, object]]:
    """The same of several engines and streams at once."""
    memory = report.memory
    contexts = f"{report.streams} stream{'s' * (report.streams != 1)} of each engine, {report.threads} thread{'s' * (report.threads != 1)} each"
    pooled = "arenas of their own"
    if memory["budget"] is not None:
        pooled = f"arenas out of one budget of {size(memory['budget'])}, {size(memory['used'] or 0)} used at once, {report.waits} runs waited"
    return [
        ("at once", contexts),
        ("throughput", f"{report.qps:.1f} inferences/s, {report.samples_per_s:.1f} samples/s together, in {report.seconds:.2f} s"),
        ("efficiency", _joules(report.energy, sum(e.runs for e in report.engines), report.samples_per_s * report.seconds)),
        ("memory", f"weights {_size(memory['weights'])}, code {_size(memory['code'])}, {pooled}; "
                   f"each with its own would take {_size(memory['rooms'])}"),
        ("grown", f"{_size(memory['grown'])} at the peak, beside the weights; the largest context alone needs {_size(memory['largest'])}"),
        ("process peak", _size(memory["host_peak"])),
    ]  # fmt: skip


def streams_table(report: StreamsReport, names: Sequence[str]) -> tuple[Sequence[str], list[Sequence[object]]]:
    """Columns and rows, an engine each."""
    columns = ("engine", "runs", "inferences/s", "samples/s", "p50 ms", "p90 ms", "p99 ms", "max ms")
    rows: list[Sequence[object]] = []
    for name, e in zip(names, report.engines):
        numbers = (e.qps, e.samples_per_s, e.latency.p50, e.latency.p90, e.latency.p99, e.latency.max)
        rows.append((name, e.runs, *(f"{n:.2f}" for n in numbers)))
    return columns, rows


def _efficiency(report: Report) -> str:
    return _joules(report.energy, report.runs, report.runs * report.batch)


def _joules(energy: Energy, runs: int, samples: float) -> str:
    each = energy.per(runs)
    if each is None or not energy.joules:
        return f"unavailable: {energy.reason or 'the meter counted nothing'}"
    return f"{each:.4g} J per inference, {samples / energy.joules:.4g} samples/J, {energy.watts:.1f} W ({energy.meter})"


def _size(count: int | None) -> str:
    return "unknown (the system does not tell)" if count is None else size(count)
