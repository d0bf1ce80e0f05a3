"""strop inspect."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from strop.engine.build import build
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ops.matmul import MatMul
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


def test_rounding_of_algorithms_that_save_products(strop: Strop, tmp_path: Path) -> None:
    graph = Graph("wide")
    x = graph.add_input("x", Type(dt.f32, (64, 512)))
    weight = graph.add_const(np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32), "w")
    graph.set_outputs([graph.add(MatMul(), [x, weight], name="wide").output])
    build(graph, level=0, threads=1).save(tmp_path / "wide.strop")
    (step,) = json.loads(strop("inspect", tmp_path / "wide.strop", "--json").out)["steps"]
    assert step["kernel"].startswith("conv_strassen") and 1e-8 < step["rounding"] < 1e-5
    assert f"{step['rounding']:.1e}" in strop("inspect", tmp_path / "wide.strop").out
