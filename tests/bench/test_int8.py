"""Comparisons in int8: one set of samples for all runtimes, QDQ models by ONNX Runtime, agreement with f32."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from bench import compare, int8, int8_agreement, nets, results
from strop import demo_data
from strop.engine.build import build
from strop.errors import OptionError
from tests.engine.planted import digits

pytest.importorskip("onnxruntime", reason="onnxruntime makes the QDQ models")
PYTHON = Path(sys.executable)


def test_the_same_samples_calibrate_all(tmp_path: Path) -> None:
    images, _ = digits(0, 30)
    np.save(tmp_path / "digits.npy", images)
    lenet = demo_data.lenet_path()
    floats = build(lenet, level=0, threads=1)
    found = int8.prepare(lenet, floats, tmp_path / "digits.npy", "unit", PYTHON, tmp_path)
    assert found.model is not None and len(found.calibration) == 10 and len(found.floats) == 20
    assert "DequantizeLinear" in {node.op_type for node in onnx.load(found.model).graph.node}
    with np.load(tmp_path / "lenet.calibration.npz") as stored:
        np.testing.assert_array_equal(stored["input"][:, 0], images[:10])
    engine = build(lenet, level=0, threads=1, precision="int8", calibration=found.calibration)
    shares = int8.agreement(found, engine, ["onnxruntime", "litert"], PYTHON, tmp_path, "lenet")
    assert set(shares) == {"strop", "onnxruntime"} and min(shares.values()) >= 0.95


def test_random_pictures_and_what_is_no_picture(tmp_path: Path) -> None:
    picture = int8._smooth((1, 3, 96, 144), np.random.default_rng(0))
    assert picture.shape == (1, 3, 96, 144) and 0.3 < picture.std() < 3
    assert np.abs(np.diff(picture, axis=-1)).mean() < 0.5 * picture.std(), "neighbours are alike"
    onnx.save(nets.sine(), str(tmp_path / "sine.onnx"))
    with pytest.raises(OptionError, match="random samples are pictures"):
        int8.prepare(tmp_path / "sine.onnx", build(tmp_path / "sine.onnx", level=0), None, "unit", PYTHON, tmp_path)
    np.save(tmp_path / "few.npy", digits(0, 2)[0])
    with pytest.raises(OptionError, match="too few samples"):
        int8.prepare(demo_data.lenet_path(), build(demo_data.lenet_path(), level=0), tmp_path / "few.npy", "unit", PYTHON, tmp_path)


def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/lenet.onnx").write_bytes(demo_data.lenet_path().read_bytes())
    np.save(tmp_path / "digits.npy", digits(0, 12)[0])
    data = tmp_path / "r.json"
    options = ["--models", str(tmp_path / "nets"), "--only", "lenet", "--vs", "onnxruntime", "--precision", "int8", "--calibrate", str(tmp_path / "digits.npy")]
    quick = ["--preprocess", "unit", "--rounds", "1", "--seconds", "0.01", "--level", "0", "--no-roofline", "--no-pin", "--json", str(data)]
    assert compare.main([*options, *quick]) == 0
    (found,) = results.load(data).results
    assert found.precision == "int8" and found.agreement["strop"] >= 0.9 and found.row.status == "compared" and "int8" in found.key
    assert "lenet in int8: same class as in f32: strop" in capsys.readouterr().out
    assert compare.main([*options, *quick, "--batch", "2"]) == 1
    assert "batch of 1" in capsys.readouterr().err


def test_agreement_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    data, page = tmp_path / "r.json", tmp_path / "p.md"
    data.write_text('{"nets": {"other": {"strop": 0.96, "litert": 0.95}}}', encoding="utf-8")
    monkeypatch.setattr(int8_agreement, "measure", lambda model, python, folder, precision: ({"strop": 0.9, "litert": 0.95}, 20))
    (tmp_path / "lenet.onnx").write_bytes(demo_data.lenet_path().read_bytes())
    assert int8_agreement.main(["--models", str(tmp_path), "--json", str(data), "--markdown", str(page)]) == 1
    assert "| lenet | 90.0 | does not run | does not run | 95.0 |" in page.read_text(encoding="utf-8")
    assert int8_agreement.behind({"other": {"strop": 0.96, "litert": 0.95}}) == []
    assert "0.9" in data.read_text(encoding="utf-8")
    assert int8_agreement.main(["--models", str(tmp_path), "--only", "none"]) == 1 and "no such nets" in capsys.readouterr().err


def test_agreement_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = digits(0, 30)
    monkeypatch.setattr(int8, "samples_of", lambda *_: [{"input": image[None]} for image in images])
    shares, tests = int8_agreement.measure(demo_data.lenet_path(), PYTHON, tmp_path)
    assert tests == 20 and set(shares) == {"strop", "onnxruntime"} and min(shares.values()) >= 0.95
