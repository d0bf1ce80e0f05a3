"""Numbers for people, tables and the progress bar."""

from __future__ import annotations

import io
import sys

import pytest

from strop.cli import output
from strop.engine.stages import STAGES


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert output.size(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1000, "1.0 k"), (4.1e9, "4.1 G"), (2e6, "2.0 M"), (7e12, "7.0 T")]
)
def test_numbers(count: float, text: str) -> None:
    assert output.number(count) == text


def test_tables_keep_every_cell_whole(capsys: pytest.CaptureFixture[str]) -> None:
    name = "block/[3]/" + "conv" * 40
    output.table(("layer", "us"), [(name, 1.5), ("short", 22)], right=("us",))
    lines = capsys.readouterr().out.splitlines()
    assert name in lines[1]
    assert lines[2].split() == ["short", "22"]


def test_the_bar_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with output.StageBar() as bar:
        bar("lower", 0, 0)
        bar("codegen", 1, 3)
    text = capsys.readouterr()
    assert text.out == text.err == ""


def test_the_bar_names_the_stage_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with output.StageBar() as bar:
        for stage in STAGES:
            bar(stage, 0, 0)
        bar("codegen", 2, 3)
        bar._bar.refresh()
    text = terminal.getvalue()
    assert "codegen" in text and "2/3" in text and f"{STAGES.index('codegen')}/{len(STAGES)}" in text
