"""strop build."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from strop.cli import build as verb
from strop.engine.engine import Engine, load
from strop.engine.stages import STAGES
from tests import tiny_net
from tests.cli.conftest import Strop


def test_an_engine_and_a_summary(strop: Strop, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.strop"
    done = strop("build", model, "-o", path, "--level", 0, "--threads", 1)
    assert done.code == 0, done.err
    assert os.listdir(tmp_path) == ["net.strop"]
    engine = load(path)
    assert engine(np.zeros(tiny_net.INPUT_SHAPE, np.float32)).shape == tiny_net.OUTPUT_SHAPE  # type: ignore[union-attr]
    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert lines["target"].endswith("1 thread")
    assert lines["steps"].startswith("3 for 7 nodes (4 fused")
    assert "0 inside" in lines["copies"]
    assert {"weights", "arena", "built", "engine"} <= set(lines)


def test_json(strop: Strop, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.strop"
    done = strop("build", model, "-o", path, "--level", 0, "--json")
    assert done.code == 0 and done.err == ""
    found = json.loads(done.out)
    assert found["engine"] == str(path)
    assert found["file_bytes"] == path.stat().st_size
    assert found["totals"]["fused_nodes"] == 4
    assert found["memory"]["weights"] > 0 and found["seconds"] > 0


def test_options_reach_the_build(strop: Strop, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def fake(path: Path, **options: object) -> Engine:
        seen.update(options, model=path)
        return tiny_net.engine()

    monkeypatch.setattr(verb, "build", fake)
    done = strop(
        "build", model, "--output", tmp_path / "o", "--target", "x86-64-v3", "--threads", 3, "--level", 4, "--budget", 1.5,
        "--shape", "x=1x3x8x8", "--shape", "z=2", "--dump", tmp_path / "d", "--stop-after", "engine",
        "--precision", "int8", "--layer-precision", "fc*=fp32", "--calibrate", "d.npz", "--ranges", "t.txt", "--calibrator", "minmax",
        "--preprocess", "imagenet", "--max-drop", 0.5, "--metric", "math:hypot", "--equalize", "--signature", "serve",
    )  # fmt: skip
    assert done.code == 0, done.err
    progress = seen.pop("progress")
    assert callable(progress)
    assert seen == {
        "model": model, "target": "x86-64-v3", "threads": 3, "level": 4, "budget": 1.5,
        "shapes": {"x": "1x3x8x8", "z": "2"}, "dump": tmp_path / "d", "stop_after": None,
        "precision": "int8", "layer_precision": {"fc*": "fp32"}, "calibration": Path("d.npz"), "ranges": Path("t.txt"),
        "calibrator": "minmax", "preprocess": "imagenet", "max_drop": 0.5, "metric": math.hypot, "equalize": True, "strict": False,
        "signature": "serve",
    }  # fmt: skip


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_stop_after(stage: str, strop: Strop, model: Path, tmp_path: Path) -> None:
    done = strop("build", model, "--stop-after", stage, "--level", 0, "--dump", tmp_path / "d", "-o", tmp_path / "o.strop")
    assert done.code == 0, done.err
    assert done.out == f"stopped after {stage}\n"
    assert "is not written" in done.err and not (tmp_path / "o.strop").exists()
    dumped = {name.split("_", 1)[1].split(".")[0] for name in os.listdir(tmp_path / "d")}
    assert dumped == set(STAGES[: STAGES.index(stage) + 1]) - {"quantize"}, "there is nothing to tell of f32"


def test_stop_after_as_json(strop: Strop, model: Path) -> None:
    done = strop("build", model, "--stop-after", "frontend", "--json")
    assert json.loads(done.out) == {"stopped_after": "frontend"}


def test_dump_files_are_numbered_in_order(strop: Strop, model: Path, tmp_path: Path) -> None:
    assert strop("build", model, "--stop-after", "codegen", "--level", 0, "--dump", tmp_path).code == 0
    names = sorted(os.listdir(tmp_path))
    assert [int(name.split("_")[0]) for name in names] == list(range(len(names)))
    assert names[0] == "00_frontend.ir" and names[-1].endswith("_codegen.c")
    assert "void strop_" in (tmp_path / names[-1]).read_text()


def test_shape_fixes_free_dims(strop: Strop, tmp_path: Path) -> None:
    free = tmp_path / "free.onnx"
    onnx.save(tiny_net.model(batch="N"), free)
    path = tmp_path / "net.strop"
    assert strop("build", free, "-o", path, "--level", 0).code == 1
    assert not path.exists()
    done = strop("build", free, "-o", path, "--level", 0, "--shape", "x=2x3x8x8")
    assert done.code == 0, done.err
    assert load(path).outputs[0].shape == (2, 10)


def test_interrupted(strop: Strop, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Engine, path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "save", interrupt)
    monkeypatch.setattr(verb, "build", lambda *_, **__: tiny_net.engine())
    done = strop("build", model, "-o", tmp_path / "net.strop")
    assert done.code in (1, 130)  # the latter from typer 0.26 on
    assert "Traceback" not in done.err
    assert os.listdir(tmp_path) == []


def test_interrupted_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(source: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfile", half)
    with pytest.raises(KeyboardInterrupt):
        tiny_net.engine().save(tmp_path / "net.strop")
    assert os.listdir(tmp_path) == []
