"""strop convert."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from tests.cli.conftest import Strop


def test_a_tflite_file_by_its_ending(strop: Strop, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "net.tflite"
    done = strop("convert", model, "-o", file, "--layout", "channels_last")
    assert done.code == 0, done.err
    assert file.read_bytes()[4:8] == b"TFL3"
    assert "2 CONV_2D" in done.out and "0 inside, 0 at the edges" in done.out


def test_the_summary_as_json(strop: Strop, model: Path, tmp_path: Path) -> None:
    told = json.loads(strop("convert", model, "-o", tmp_path / "net.tflite", "--precision", "dynamic", "--json").out)
    assert told["operators"]["CONV_2D"] == 2 and told["file_bytes"] > told["constant_bytes"] > 0
    assert (told["transposes_inside"], told["transposes_at_edges"]) == (0, 1)


def test_an_onnx_file(model: Path, tmp_path: Path, strop: Strop) -> None:
    file = tmp_path / "small.onnx"
    done = strop("convert", model, "-o", file)
    assert done.code == 0, done.err
    assert not any(n.op_type == "BatchNormalization" for n in onnx.load(file).graph.node)


def test_the_function_writes_the_same(model: Path, tmp_path: Path, strop: Strop) -> None:
    file = tmp_path / "net.bin"
    strop("convert", model, "-o", file, "--to", "tflite")
    assert file.read_bytes() == _convert(model)


def _convert(model: Path) -> bytes:
    return strop.convert(model)
