"""What a call costs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench import overhead
from strop.target.detect import host
from tests import tiny_net


def test_from_c_and_from_python(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "BLOCKS", 3)
    monkeypatch.setattr(overhead, "_BLOCK_NS", 1e5)
    arguments = ["--level", "0", "--rounds", "1", "--only", "relu1,sine", "--no-pin"]
    page, data = tmp_path / "page.md", tmp_path / "data.json"
    assert overhead.main([*arguments, "--json", str(data), "--markdown", str(page)]) == 0
    calls = {c["net"]: c for c in json.loads(data.read_text("utf-8"))["calls"]}
    assert list(calls) == ["relu1", "sine"]
    for found in calls.values():
        assert set(found["ns"]) == set(overhead.WAYS)
        assert all(0 < ns < 1e8 for ns in found["ns"].values())
    assert calls["relu1"]["steps"] == 1 and calls["sine"]["flops"] > calls["relu1"]["flops"] > 0
    shown = capsys.readouterr().out
    assert "Python bind()" in shown and "sine" in shown
    text = page.read_text("utf-8")
    assert text.startswith("<!-- begin overhead -->") and "| relu1 |" in text and "level 0" in text


def test_the_program_says_what_is_wrong(tmp_path: Path) -> None:
    program = overhead.program(tmp_path, host())
    engine = str(tiny_net.engine_file())
    for arguments, message in (
        ([engine], "usage"),
        ([engine, "0", "1", "-1"], "numbers"),
        ([str(tmp_path / "gone.strop"), "1", "1", "-1"], "gone.strop"),
    ):
        done = subprocess.run([program, *arguments], capture_output=True, text=True)
        assert done.returncode == 1 and message in done.stderr
    done = subprocess.run([program, engine, "2", "4", "-1"], capture_output=True, text=True)
    assert [len(line.split()) for line in done.stdout.splitlines()] == [5, 5]


def test_the_overhead_is_what_is_left_of_a_call() -> None:
    ns = dict(zip(overhead.WAYS, (1500.0, 1600.0, 2100.0, 5000.0, 6000.0, 7000.0), strict=True))
    found = overhead.as_table([overhead.Calls("net", 10**6, 3, 1200, ns)])
    assert found.rows == (("net", "1.000", "3", "1.20", "1.50", "1.60", "2.10", "5.00", "6.00", "7.00", "0.30", "0.60"),)
