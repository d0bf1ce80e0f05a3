"""Strop's best engine against eager PyTorch: samples, choice, table; with PyTorch itself where it is installed."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from bench import best
from strop import demo_data
from strop.engine.build import build
from strop.engine.ratios import Ratio
from strop.engine.versus import Row
from strop.errors import OptionError

RATIO = Ratio(8.0, 7.0, 9.0, 0.1)
FOUND = best.Found("lenet", 1e-6, 50, {"int8": 1.0, "fp32": 1.0}, {"bf16": "no such kernel"}, "int8", Row("lenet", 1, "compared", "", (), "pytorch", RATIO))


def test_crops_are_squares_that_differ_and_are_normalized() -> None:
    image = pytest.importorskip("PIL.Image")
    picture = image.fromarray(np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8))
    found = best.crops([picture], 4, 0)
    assert all(crop.shape == (best.SIDE, best.SIDE, 3) and crop.dtype == np.uint8 for crop in found)
    assert not np.array_equal(found[0], found[2])
    values = best.normalized(found[0])
    assert values.shape == (1, 3, best.SIDE, best.SIDE) and values.dtype == np.float32 and -2.2 < values.min() < values.max() < 2.7
    np.testing.assert_array_equal(found[3], best.crops([picture], 4, 0)[3])


def test_no_photograph_both_calibrates_and_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(best, "PHOTOGRAPHS", ("a/*.png", "b/one.png"))
    with pytest.raises(OptionError, match="there are no photographs"):
        best.photographs(tmp_path)
    for number, name in enumerate(("a/1.png", "a/2.png", "b/one.png", "b/other.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.new("RGB", (300, 300), (number, 0, 0)).save(tmp_path / name)
    calibration, tests = best.parts(tmp_path, 5, 3)
    assert [int(crop[0, 0, 0]) for crop in calibration] == [0, 2, 0, 2, 0] and [int(crop[0, 0, 0]) for crop in tests] == [1, 1, 1]


def test_certainty_falls_with_noise_and_closeness() -> None:
    right = {"y": np.array([[5.0, 1.0, 0.0], [1.1, 1.0, 0.0]])}
    noisy = {"y": right["y"] + [[0.1, -0.1, 0.0], [0.1, -0.1, 0.0]]}
    assert list(best.certainty(right, None, right)) == [100.0, 100.0]
    far, close = best.certainty(noisy, None, right)
    assert far > 99.99
    deviation = np.sqrt(2) * np.std([0.1, -0.1, 0.0])
    assert close == pytest.approx(100 * NormalDist(0, deviation).cdf(0.1))


def test_the_fastest_that_agrees_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build(demo_data.lenet_path(), level=0, threads=1)
    times = {"fast": 1.0, "right": 2.0, "slow": 3.0}
    engines = {name: build(demo_data.lenet_path(), level=0, threads=1) for name in times}
    by_engine = {id(each): times[name] for name, each in engines.items()}
    monkeypatch.setattr(best.race, "ratio", lambda one, two, inputs: by_engine[id(one)] / by_engine[id(two)])
    sample = np.zeros((1, 1, 28, 28), np.float32)
    assert best.fastest(engines, {"fast": 0.98, "right": 0.99, "slow": 1.0}, sample) == "right"
    assert best.fastest(engines, dict.fromkeys(times, 1.0), sample) == "fast"
    assert best.fastest(engines, dict.fromkeys(times, 0.5), sample) == ""
    digits = [digit[None] for digit in demo_data.held_back_digits()[0][:4]]
    wanted = [engine(digit) for digit in digits]
    assert best.share(engine, digits, wanted) == 1.0 and best.share(engine, digits, [-output for output in wanted]) == 0.0


def test_classes_of_tokens_are_counted_one_by_one() -> None:
    assert list(best.classes(np.eye(4, dtype=np.float32)[None])) == [0, 1, 2, 3]


def test_the_table_says_what_is_not_good() -> None:
    assert FOUND.good and best.table([FOUND]).rows[0][-2:] == ("8.00", "[7.00, 9.00]")
    for found, why in ((replace(FOUND, error=1e-2), "floats differ"), (replace(FOUND, row=None), "none agrees")):
        told = found if why != "floats differ" else replace(found, row=None)
        assert not told.good and why in best.table([told]).rows[0]
    lines = best.notes([FOUND], 1, 2)
    assert "8.00 x" in lines[0] and lines[1] == "lenet: not in bf16: no such kernel" and "2 threads" in lines[2]


def test_requests_that_cannot_be_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {
        "no such nets": ["--only", "odd"],
        "nets of pictures need": ["--only", "resnet50", "--models", str(tmp_path), "--pictures", str(tmp_path)],
        "too few samples": ["--tests", "1"],
        "PyTorch does not run": ["--only", "tagger", "--torch", str(tmp_path / "none")],
        "PyTorch failed": ["--only", "tagger", "--torch", "/bin/false"],
    }
    for message, options in wanted.items():
        assert best.main(["--torch", sys.executable, *options]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is the other side")
def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, page = tmp_path / "r.json", tmp_path / "p.md"
    options = ["--torch", sys.executable, "--only", "lenet", "--calibration", "10", "--tests", "10", "--level", "0", "--rounds", "1", "--seconds", "0.01", "--precisions", f"{best.LIFTED},int8"]
    assert best.main([*options, "--json", str(data), "--markdown", str(page), "--engines", str(tmp_path / "engines")]) == 0
    (net,) = json.loads(data.read_text(encoding="utf-8"))["nets"]
    assert net["chosen"].startswith("int8") and net["agreement"]["int8"] >= 0.99 and net["error"] <= best.FLOAT_ERROR and net["row"]["ratio"]["median"] > 0
    assert "| lenet |" in page.read_text(encoding="utf-8") and "eager PyTorch takes" in capsys.readouterr().out
    assert {path.name.split("-")[1] for path in (tmp_path / "engines").iterdir()} == {"fp32", "int8"}
    assert len(list((tmp_path / "engines").iterdir())) == 3
