"""strop inspect."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Strop


def test_text(strop: Strop, engine: Path) -> None:
    done = strop("inspect", engine)
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines()]
    steps = [row for row in rows if row and row[0] in "012"]
    assert [row[1] for row in steps] == ["conv1", "conv2", "fc"]
    assert "conv1, relu1" in done.out and "conv2, bn, add, relu2" in done.out
    assert "layout transposes: 0 inside, 0 at the edges" in done.out


def test_time(strop: Strop, engine: Path) -> None:
    found = json.loads(strop("inspect", engine, "--time", "--runs", 3, "--json").out)
    assert all(step["time_ns"] >= 0 for step in found["steps"])
    assert found["totals"]["time_ns"] == sum(step["time_ns"] for step in found["steps"])
    assert "Gflop/s" in strop("inspect", engine, "--time", "--runs", 3).out


def test_json(strop: Strop, engine: Path) -> None:
    found = json.loads(strop("inspect", engine, "--json").out)
    assert found["totals"]["nodes"] == 7 and found["totals"]["time_ns"] is None
    assert {"kernel", "kind", "source", "inputs", "outputs", "flops", "bytes", "tasks"} <= set(found["steps"][0])


def test_a_model_is_no_engine(strop: Strop, model: Path) -> None:
    done = strop("inspect", model)
    assert done.code == 1 and "not an engine file" in done.err
