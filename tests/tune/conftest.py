"""Every test has its own records; compiled kernels are shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop import knobs
from strop.codegen import toolchain
from strop.tune import bench, measure, search


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the host's records, in an empty folder."""

    def path(target: object) -> Path:
        return tmp_path / f"records/{target}.txt"

    assert knobs.cache_dir().exists() and toolchain.find()
    monkeypatch.setattr(search, "path_of", path)
    monkeypatch.setattr(measure, "PATIENCE", 0.5)
    return tmp_path / "records"


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes any attempt to start a worker an error."""

    def start(self: bench.Bench) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(bench.Bench, "_start", start)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Process numbers of the workers that were started."""
    numbers: list[int] = []
    start = bench.Bench._start

    def count(self: bench.Bench) -> object:
        process = start(self)
        numbers.append(process.pid)
        return process

    monkeypatch.setattr(bench.Bench, "_start", count)
    return numbers
