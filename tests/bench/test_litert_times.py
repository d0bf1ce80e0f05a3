"""What is timed of .tflite files, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from bench.suite import litert_times
from bench.suite.__main__ import main
from bench.suite.litert_times import Timed, computes, files, lines, times
from strop.errors import OptionError
from strop.frontend.tflite.model import load
from tests.frontend.tflite_models import single

SOFTMAX = single("SOFTMAX", [((1, 4), "FLOAT32")], [((1, 4), "FLOAT32")], beta=1.0)


def row(name: str, ratio: float, computes: str = "float") -> Timed:
    return Timed(name, computes, "agrees", "", "timed", (1.0, 0.9, 1.2), (ratio, ratio, ratio), (ratio, ratio, ratio), 0.0, (("conv", 0.75), ("pool", 0.25)))


def test_each_content_is_timed_once(tmp_path: Path) -> None:
    for name in ("b.tflite", "a.tflite", "c.txt"):
        (tmp_path / name).write_bytes(SOFTMAX)
    assert [path.name for path in files(tmp_path)] == ["a.tflite"]
    assert [path.name for path in files(tmp_path, ["b", "x"])] == ["b.tflite"]


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no \.tflite files"):
        files(tmp_path)


@pytest.mark.parametrize(
    ("types", "found"),
    [
        (("FLOAT32", "FLOAT32", "FLOAT32"), "float"),
        (("FLOAT32", "INT8", "FLOAT32"), "dynamic"),
        (("INT8", "INT8", "INT8"), "int8"),
        (("INT16", "INT8", "INT16"), "int16x8"),
    ],
)
def test_a_file_computes_in_what_its_products_have(types: tuple[str, str, str], found: str) -> None:
    data = single("FULLY_CONNECTED", [((1, 4), types[0]), ((8, 4), types[1])], [((1, 8), types[2])])
    assert computes(load(data).subgraphs[0]) == found


def test_means_are_of_floats_and_of_integers() -> None:
    found = lines([row("a", 2.0), row("b", 0.5), row("c", 3.0, "int8"), row("d", 3.0, "dynamic")])
    assert found[0].startswith("float: LiteRT takes 1.00 x") and "slower on 1" in found[0]
    assert found[1].startswith("int8: LiteRT takes 3.00 x") and "slower on 0" in found[1]
    assert found[2] == "slower: b 0.50: conv 75 %, pool 25 %"


def test_times_have_their_least_and_greatest() -> None:
    found = times([row("a", 2.0), Timed("b", "float", "refused", "custom op")])
    assert found.rows[0] == ("a", "float", "agrees", "1.00 (0.900 to 1.20)", "2.00 (2.00 to 2.00)", "2.00", "2.00 to 2.00")
    assert found.rows[1][2:] == ("refused", "", "", "", "")


def test_parts_of_a_folder_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / f"{name}.tflite").write_bytes(SOFTMAX + bytes(number))
    monkeypatch.setattr(litert_times, "measure", lambda path, *rest: row(path.stem, 2.0))
    results, page = tmp_path / "r.json", tmp_path / "page.md"
    for name in ("a", "b"):
        assert main(["litert-times", str(tmp_path), "--json", str(results), "--only", f"{name}.", "--markdown", str(page)]) == 0
    assert [found["file"] for found in json.loads(results.read_text())["files"]] == ["a", "b"]
    assert "geometric mean of 2" in capsys.readouterr().out
    assert "| a | float |" in page.read_text() and "begin litert times" in page.read_text()
