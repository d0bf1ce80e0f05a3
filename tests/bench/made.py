"""Results without measuring anything."""

from __future__ import annotations

from typing import Any

from bench.results import Layer, Peaks, Result, Results
from strop.engine.ratios import ratio
from strop.engine.versus import Entry, Row

CPU = "a processor"
HOST = {"cpu": CPU, "cores": 2, "caches": {"L1": "32K"}, "governor": None, "virtual": False, "load": 0.1, "system": "Linux",
        "python": "3.11", "date": "2026-01-02 03:04 UTC"}  # fmt: skip
SETTINGS: dict[str, Any] = {"rounds": 3, "seconds": 0.1, "level": 3, "pin": True, "avx2": False, "limits": {}}


def entry(name: str, *ms: float, **fields: Any) -> Entry:
    """A timed entry with these rounds."""
    middle = sorted(ms)[len(ms) // 2]
    fields = {"error": 2e-7, "version": "1.0", **fields}
    return Entry(name, "timed", ms=middle, low=min(ms), high=max(ms), rounds=ms, runs=10, **fields)


def row(net: str, own: tuple[float, ...], threads: int = 1, *more: Entry, **others: tuple[float, ...]) -> Row:
    """A compared row; rounds in ms by runtime."""
    entries = (entry("strop", *own), *(entry(name, *ms) for name, ms in others.items()), *more)
    ratios = {name: ratio(ms, own) for name, ms in others.items()}
    best = min(others, key=lambda name: sorted(others[name])[len(own) // 2])
    return Row(net, threads, "compared", "", entries, best, ratios[best], ratios)


def bad(net: str, status: str, reason: str = "differs") -> Row:
    """A row without figures."""
    return Row(net, 1, status, reason, (Entry("strop", status, reason), Entry("a", "not timed")))


def result(made: Row, **fields: Any) -> Result:
    """A result of one row: 2 Gflop and 10 MB on 100 Gflop/s and 10 GB/s."""
    known = {"batch": 1, "target": "x86-64-v4", "level": 3, "flops": 2 * 10**9, "bytes": 10**7, "peaks": Peaks(1e11, 1e10)}
    return Result(made, **{**known, **fields})


def results(*made: Result, cpu: str = CPU) -> Results:
    """A run."""
    return Results({**HOST, "cpu": cpu}, dict(SETTINGS), made)


LAYERS = (Layer("conv1", "conv", "winograd", 10**9, 10**6, 4 * 10**6), Layer("fc", "matmul", "direct", 10**6, 4 * 10**6, 10**6))
