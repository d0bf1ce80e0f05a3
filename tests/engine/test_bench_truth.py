"""What a measurement says, against another clock and against what the system says of the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from strop import demo_data, knobs
from strop.engine.bench import bench, time_calls
from strop.engine.build import build
from strop.engine.engine import Engine
from strop.engine.streams import bench_streams

pytestmark = [pytest.mark.slow, pytest.mark.models]
NETS = ("lenet", "mobilenet_v2", "resnet50")


@pytest.fixture(scope="module")
def engines(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Engine files by name."""
    folder = tmp_path_factory.mktemp("truth")
    found = {}
    for name in (*NETS, "squeezenet1_1"):
        model = demo_data.lenet_path() if name == "lenet" else models_dir / f"{name}.onnx"
        found[name] = folder / f"{name}.strop"
        build(model, level=0, threads=1).save(found[name])
    return found


@pytest.mark.parametrize("name", NETS)
def test_latency_and_throughput_by_another_clock(engines: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same runs by the system's time of day, taken outside of the measurement."""
    spans: list[tuple[int, int]] = []
    loops: list[tuple[int, int]] = []

    def watched(call: Callable[[], object], **options: Any) -> list[int]:
        def timed() -> None:
            before = time.time_ns()
            call()
            spans.append((before, time.time_ns()))

        began = time.time_ns()
        found = time_calls(timed, **options)
        loops.append((began, time.time_ns()))
        return found

    monkeypatch.setattr("strop.engine.bench.time_calls", watched)
    report = bench(Engine(engines[name]), threads=1, runs=5000 if name == "lenet" else 30, warmup=3)
    measured = spans[-report.runs :]
    whole = (loops[-1][1] - loops[-1][0]) / 1e9
    assert report.latency.p50 == pytest.approx(median(b - a for a, b in measured) / 1e6, rel=0.02)
    assert report.qps == pytest.approx(len(measured) / whole, rel=0.02)


@pytest.mark.parametrize("name", NETS)
def test_the_peak_is_what_the_system_sees(engines: dict[str, Path], name: str) -> None:
    """Another process looks at /proc while the command measures."""
    environment = knobs.environment({"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))})
    command = [sys.executable, "-m", "strop.cli.main", "bench", str(engines[name]), "--seconds", "1", "--json"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    seen = 0
    while child.poll() is None:
        try:
            lines = Path(f"/proc/{child.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            break
        seen = max([seen, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))])
        time.sleep(0.002)
    output, _ = child.communicate(timeout=60)
    memory = json.loads(output)["memory"]
    assert memory["host_peak"] == pytest.approx(seen, rel=0.05)
    if name != "lenet":  # what Python takes by the way is not small beside a net of 2 MB
        assert memory["measured"] == pytest.approx(memory["predicted"], rel=0.05)


def test_four_engines_with_four_streams_share_memory(engines: dict[str, Path]) -> None:
    """Beside the weights, less than 1.5 times what the largest of them takes alone."""
    opened = [Engine(path) for path in engines.values()]
    report = bench_streams(opened, 4, seconds=2.0)
    memory = report.memory
    assert all(e.runs > 0 for e in report.engines)
    grown, largest = memory["grown"], memory["largest"]
    assert grown is not None and largest is not None
    assert grown - (memory["io"] or 0) < 1.5 * largest
    assert grown < 1.5 * largest + (memory["io"] or 0) < (memory["rooms"] or 0)
