"""strop bench."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_net
from tests.cli.conftest import Strop


def test_json(strop: Strop, engine: Path) -> None:
    done = strop("bench", engine, "--runs", 20, "--warmup", 2, "--threads", 1, "--json", "--per-step")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["runs"], found["warmup_runs"], found["threads"], found["batch"]) == (20, 2, 1, 1)
    ms = found["latency_ms"]
    assert 0 < ms["min"] <= ms["p50"] <= ms["p90"] <= ms["p95"] <= ms["p99"] <= ms["max"]
    assert found["qps"] == pytest.approx(20 / found["seconds"])
    assert set(found["memory"]) == {"weights", "arena", "scratch", "code", "host_peak"}
    assert [step["name"] for step in found["steps"]] == ["conv1", "conv2", "fc"]


def test_text(strop: Strop, engine: Path) -> None:
    done = strop("bench", engine, "--seconds", 0.05, "--warmup", 1, "--layers")
    assert done.code == 0, done.err
    for word in ("throughput", "latency ms", "p99", "weights", "process peak", "least time per step", "conv1"):
        assert word in done.out


def test_a_model_with_given_inputs(strop: Strop, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(tiny_net.INPUT_SHAPE, np.float32))
    done = strop("bench", model, "--runs", 3, "--input", tmp_path / "x.npy", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["runs"] == 3


@pytest.mark.parametrize("option", [("--runs", 0), ("--seconds", -1), ("--warmup", -1), ("--threads", 0), ("--seconds", "nan")])
def test_unusable_numbers(option: tuple[str, object], strop: Strop, engine: Path) -> None:
    done = strop("bench", engine, *option)
    assert done.code == 1
    assert done.err.startswith("strop: ") and "number" in done.err
