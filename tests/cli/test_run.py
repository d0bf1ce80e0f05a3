"""strop run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from strop.cli.run import statistics
from strop.frontend.onnx import read_onnx
from strop.ir import interp
from tests import tiny_net
from tests.cli.conftest import Strop


@pytest.fixture
def x(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(1).standard_normal(tiny_net.INPUT_SHAPE).astype(np.float32))
    return path


@pytest.mark.parametrize("kind", ["engine", "model"])
def test_outputs_are_what_the_model_means(kind: str, strop: Strop, x: Path, tmp_path: Path) -> None:
    source = tiny_net.engine_file() if kind == "engine" else tiny_net.model_file()
    out = tmp_path / "out.npz"
    done = strop("run", source, "--input", f"x={x}", "--output", out)
    assert done.code == 0, done.err
    assert f"written to {out}" in done.out
    want = interp.run(read_onnx(tiny_net.model_file()), {"x": np.load(x)})["y"]
    with np.load(out, allow_pickle=False) as stored:
        np.testing.assert_allclose(stored["y"], want, rtol=1e-4, atol=1e-5)


def test_the_table_tells_shapes_and_numbers(strop: Strop, engine: Path) -> None:
    done = strop("run", engine, "--random")
    header, row = done.out.splitlines()
    assert header.split()[:4] == ["output", "dtype", "shape", "min"]
    assert row.split()[:3] == ["y", "float32", "1x10"]


def test_random_inputs_are_the_seeds(strop: Strop, engine: Path) -> None:
    found = [json.loads(strop("run", engine, "--random", "--seed", s, "--json").out)["outputs"]["y"] for s in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert found[0]["shape"] == [1, 10] and found[0]["not_finite"] == 0


def test_a_missing_input_is_named(strop: Strop, engine: Path) -> None:
    done = strop("run", engine)
    assert done.code == 1
    assert "'x' is missing" in done.err and "--random" in done.err


def test_an_input_of_another_shape(strop: Strop, engine: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 9), np.float32))
    done = strop("run", engine, "-i", tmp_path / "x.npy", "-o", tmp_path / "out.npz")
    assert done.code == 1
    assert "wrong shape" in done.err and "(1, 3, 8, 9)" in done.err
    assert not (tmp_path / "out.npz").exists()


def test_statistics() -> None:
    row = statistics(np.array([[1.0, np.nan], [3.0, np.inf]]))
    assert (row["min"], row["max"], row["mean"], row["not_finite"], row["argmax"]) == (1.0, 3.0, 2.0, 2, None)
    assert statistics(np.array([[1, 5], [3, 4]]))["argmax"] == 1
    empty = statistics(np.zeros((0, 3), np.float32))
    assert empty["min"] is None and empty["argmax"] is None and empty["shape"] == [0, 3]
    assert statistics(np.array(True))["shape"] == []
