"""The table of written files."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from bench.suite.tflite_export import MARKS, Row, examine, write_table
from strop import demo_data


def test_rows_are_merged_into_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}\n{MARKS[1]}\nafter\n", encoding="utf-8")
    write_table(page, [Row("b", "fp32", verdict="differs"), Row("a", "fp32", verdict="agrees")])
    write_table(page, [Row("b", "fp32", verdict="agrees"), Row("b", "int8", verdict="agrees")])
    text = page.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert text.startswith("before\n") and text.endswith("after\n")
    assert [row.split("|")[1:3] for row in rows] == [[" a ", " fp32 "], [" b ", " fp32 "], [" b ", " int8 "]]
    assert "differs" not in text


def test_a_net_that_is_not_written_is_told(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes(Path(demo_data.lenet_path()).read_bytes())
    assert examine(model, "int3", None, 1).verdict.startswith("refused: unknown precision")


def test_litert_computes_what_the_model_does(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed (bench/setup_peers.sh)")
    model = tmp_path / "net.onnx"
    model.write_bytes(Path(demo_data.lenet_path()).read_bytes())
    for precision in ("fp32", "fp16", "dynamic", "int8", "int16x8"):
        assert examine(model, precision, None, 2).verdict == "agrees"
