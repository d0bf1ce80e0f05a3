"""strop sweep, and what it recommends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from strop.engine.bench import Latency
from strop.engine.energy import Energy
from strop.engine.evaluate import Score
from strop.engine.sweep import Point, Sweep, _best, _front, _why, sweep
from strop.engine.sweep_chart import chart
from strop.errors import OptionError
from tests import tiny_net
from tests.cli.conftest import Strop


def point(precision: str, ms: float, drop: float = 0.0, size: int = 100, batch: int = 1, joules: float | None = None) -> Point:
    score = Score("agreement", 1 - drop / 100, 100, 100 - round(drop), 0.9, 1.0)
    return Point(precision, 1, batch, "host", Latency.of([round(ms * 1e6)]), batch * 1e3 / ms, size, 10, drop, score, joules, 1.0)


def test_the_front_is_what_nothing_dominates() -> None:
    points = _front([point("fp32", 4.0, size=400), point("int8", 1.0, 0.5, 100), point("bf16", 2.0, 0.6, 200), point("fp16", 5.0, size=500)])
    assert [p.front for p in points] == [True, True, False, False]


def test_the_best_within_the_budget_is_recommended() -> None:
    points = [point("fp32", 4.0, size=400), point("int8", 1.0, 3.0), point("bf16", 2.0, 0.5, 200)]
    assert _best(points, "latency", 1.0) == 2 and _best(points, "latency", 5.0) == 1 and _best(points, "size", 0.0) == 0
    why = _why(points, 2, "latency", 1.0)
    assert "the least latency of 2 combinations" in why and "int8 loses more" in why and "fp32 takes 4.000 ms" in why
    assert _best([point("int8", 1.0, 3.0)], "latency", 1.0) is None
    assert "loses 3.00" in _why([point("int8", 1.0, 3.0)], None, "latency", 1.0)
    batched = [point("fp32", 4.0), point("fp32", 8.0, batch=4)]
    assert (_best(batched, "throughput", 1.0), _best(batched, "latency", 1.0)) == (1, 0)
    assert _best([point("fp32", 4.0, joules=2.0), point("fp32", 5.0, joules=1.0)], "energy", 1.0) == 1
    with pytest.raises(OptionError, match="no meter"):
        _best(points, "energy", 1.0)


def test_a_sweep_measures_what_it_recommends(strop: Strop, model: Path, tmp_path: Path) -> None:
    plot, kept = tmp_path / "pareto.svg", tmp_path / "best.strop"
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.standard_normal((32, *tiny_net.INPUT_SHAPE[1:])).astype(np.float32))
    done = strop("sweep", model, "--threads", "1", "--seconds", 0.05, "--data", tmp_path / "data.npz", "--max-drop", 100,
                 "--plot", plot, "-o", kept, "--json")  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [(p["precision"], p["threads"], p["batch"]) for p in found["points"]] == [("fp32", 1, 1), ("int8", 1, 1)]
    best = min(range(2), key=lambda k: found["points"][k]["latency_ms"]["p50"])
    assert found["best"] == best and found["why"].startswith(found["points"][best]["precision"])
    assert kept.stat().st_size == found["points"][best]["bytes"]
    assert found["points"][0]["drop"] == 0.0 and found["points"][0]["score"]["samples"] == 32
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


def test_batches_that_cannot_be_built_are_named(strop: Strop, model: Path) -> None:
    done = strop("sweep", model, "--threads", "1", "--precisions", "fp32", "--batches", "1,2", "--seconds", 0.02)
    assert done.code == 0, done.err
    assert "take" in done.out and "fp32 on 1 thread" in done.out and "unavailable" in done.out


@pytest.mark.parametrize(
    "options",
    [("--precisions", "fp31"), ("--goal", "beauty"), ("--threads", "none"), ("--batches", "0"), ("--targets", "aarch64"), ("--precisions", "")],
)
def test_unusable_options(options: tuple[str, str], strop: Strop, model: Path) -> None:
    done = strop("sweep", model, *options)
    assert done.code == 1 and done.err.startswith("strop: ")


def test_the_chart_escapes_and_marks(tmp_path: Path) -> None:
    points = _front([point("fp32", 4.0), point("int8", 1.0, 0.5)])
    found = Sweep("<net> & co", "latency", 1.0, points, (), Energy(None, 0.0), 1, "")
    text = chart(found)
    root = ElementTree.fromstring(text)
    assert "&lt;net&gt; &amp; co" in text and sum(e.tag.endswith("circle") and e.get("class") == "ring" for e in root.iter()) == 2  # one per panel
    assert ElementTree.fromstring(chart(replace(found, points=(), best=None))) is not None


def test_a_sweep_from_python() -> None:
    told: list[str] = []
    found = sweep(tiny_net.model(), precisions=["fp32"], threads=[1], seconds=0.02, progress=told.append)
    assert found.best == 0 and found.front == found.points and any("measuring" in text for text in told)
