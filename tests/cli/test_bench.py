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
    assert set(found["memory"]) == {"weights", "arena", "scratch", "code", "io", "predicted", "measured", "host_peak"}
    assert [step["name"] for step in found["steps"]] == ["conv1", "conv2", "fc"]


def test_text(strop: Strop, engine: Path) -> None:
    done = strop("bench", engine, "--seconds", 0.05, "--warmup", 1, "--layers")
    assert done.code == 0, done.err
    for word in ("throughput", "efficiency", "latency ms", "p99", "first ms", "accuracy", "weights", "process peak", "least time per step", "conv1", "% of peak", "peaks of multiply-adds"):
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


def test_accuracy_beside_another_engine_and_labels(strop: Strop, engine: Path, model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.standard_normal((6, *tiny_net.INPUT_SHAPE[1:])).astype(np.float32), labels=np.arange(6) % 10)
    done = strop("bench", engine, "--runs", 2, "--data", tmp_path / "data.npz", "--against", model, "--json")
    assert done.code == 0, done.err
    found = {score["metric"]: score for score in json.loads(done.out)["scores"]}
    assert list(found) == ["top1", "top5", "agreement", "sqnr"]
    assert found["agreement"]["value"] == 1.0 and found["agreement"]["samples"] == 6
    text = strop("bench", engine, "--runs", 2, "--against", model)
    assert text.code == 0 and "agreement 100.00 %" in text.out and "random inputs against" in text.out


def test_several_engines_and_streams(strop: Strop, engine: Path, model: Path) -> None:
    done = strop("bench", engine, model, "--streams", 2, "--seconds", 0.05, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert len(found["engines"]) == 2 and found["streams"] == 2 and found["memory"]["budget"] < found["memory"]["rooms"]
    text = strop("bench", engine, "--streams", 2, "--seconds", 0.05, "--arena-budget", "none")
    assert text.code == 0 and "arenas of their own" in text.out
    small = strop("bench", engine, "--streams", 2, "--arena-budget", "4K")
    assert small.code == 1 and "budget of arenas is too small" in small.err


@pytest.mark.parametrize(
    "options",
    [("--streams", 2, "--runs", 3), ("--arena-budget", "1M"), ("--streams", 2, "--arena-budget", "much"), ("--metric", "top1"), ("--labels", "x.csv")],
)
def test_options_that_say_nothing_are_refused(options: tuple[object, ...], strop: Strop, engine: Path) -> None:
    done = strop("bench", engine, *options)
    assert done.code == 1 and done.err.startswith("strop: ")
