"""strop calibrate, strop eval, strop debug precision, strop build --precision: a LeNet from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from strop import demo_data
from strop.engine.engine import load
from strop.quantize.table import load as load_table
from tests.cli.conftest import Strop
from tests.engine.planted import digits

LENET = demo_data.lenet_path()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 labelled digits."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    images, labels = digits(0, 40)
    np.savez(path, input=images, labels=labels)
    return path


def test_from_samples_to_an_int8_engine(strop: Strop, data: Path, tmp_path: Path) -> None:
    ranges, engine = tmp_path / "ranges.txt", tmp_path / "net.strop"
    done = strop("calibrate", LENET, "--data", data, "-o", ranges, "--calibrator", "percentile:99.9")
    assert done.code == 0, done.err
    assert "percentile:99.9" in done.out and "relu1" in done.out
    assert all(e.samples == 40 for e in load_table(ranges).entries.values())
    done = strop("build", LENET, "-o", engine, "--level", 0, "--threads", 1, "--precision", "int8", "--ranges", ranges)
    assert done.code == 0, done.err
    assert load(engine).manifest["precision"]["layers"] == {"int8": ["conv1", "conv2", "fc1", "fc2"]}
    done = strop("eval", engine, "--data", data, "--metric", "top1,agreement,psnr", "--against", LENET)
    assert done.code == 0, done.err
    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert re.match(r"(97\.50|100\.00) % \((39|40) of 40\), 95 % Wilson interval", lines["top1"])
    assert float(lines["psnr"].split()[0]) > 30


def test_calibrate_merges_and_writes_tensorrt_caches(strop: Strop, data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.txt"
    first.write_text("strop ranges 1\n-50.0 50.0 minmax 7 relu1\n")
    done = strop("calibrate", LENET, "--data", data, "-o", tmp_path / "cache", "--merge", first, "--batches", 3, "--tensorrt", "--json")
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in json.loads(done.out)["ranges"]}
    assert rows["relu1"]["samples"] == 10 and rows["relu1"]["high"] == 50.0
    assert (tmp_path / "cache").read_text().startswith("TRT-8601-")


def test_calibrate_without_data_warns(strop: Strop, tmp_path: Path) -> None:
    done = strop("calibrate", LENET, "-o", tmp_path / "t.txt")
    assert done.code == 0 and "no data" in done.err


def test_eval_of_folders_and_plug_ins(strop: Strop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = digits(0, 6)
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "set" / str(label)).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "set" / str(label) / f"{k}.npy", image)
    (tmp_path / "my_metric.py").write_text("def spread(outputs, labels, reference):\n    return outputs['logits'].max(axis=1)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    done = strop("eval", LENET, "--data", tmp_path / "set", "--metric", "top1,my_metric:spread", "--json")
    assert done.code == 0, done.err
    top1, spread = json.loads(done.out)["scores"]
    np.savez(tmp_path / "same.npz", input=images, labels=labels)
    again = json.loads(strop("eval", LENET, "--data", tmp_path / "same.npz", "--json").out)["scores"][0]
    assert top1 == again and top1["right"] >= 5 and spread["metric"] == "spread" and spread["samples"] == 6 and spread["right"] is None


def test_debug_precision(strop: Strop, data: Path, tmp_path: Path) -> None:
    picture = tmp_path / "blame.svg"
    done = strop("debug", "precision", LENET, "--data", data, "--batches", 2, "--plot", picture)
    assert done.code == 0, done.err
    assert "watching changed no bit of the outputs" in done.out and "layers isolated on 2" in done.out
    names = [line.split()[0] for line in done.out.splitlines()[1:5]]
    assert sorted(names) == ["conv1", "conv2", "fc1", "fc2"]
    assert picture.read_text().startswith("<svg") and names[0] in picture.read_text()
    done = strop("debug", "precision", LENET, "--data", data, "--precision", "fp16", "--batches", 1, "--json")
    assert done.code == 0, done.err
    assert {row["precision"] for row in json.loads(done.out)["layers"]} == {"fp16"}


def test_max_drop_reports_the_metric(strop: Strop, data: Path, tmp_path: Path) -> None:
    done = strop("build", LENET, "-o", tmp_path / "n.strop", "--level", 0, "--precision", "int8", "--calibrate", data, "--max-drop", 1.0)
    assert done.code == 0, done.err
    assert "note: accuracy: top1" in done.out
