"""strop report and strop profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import tiny_net
from tests.cli.conftest import Strop


def test_a_page_with_accuracy_against_the_model(strop: Strop, engine: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = strop("report", engine, model, "-o", page, "--against", model, "--seconds", 0.02, "--no-roofline", "--json")
    assert done.code == 0, done.err
    first, second = json.loads(done.out)["engines"]
    assert first["name"] == "tiny" and second["name"] == "tiny (2)"
    assert [s["metric"] for s in first["scores"]] == ["agreement", "sqnr"] and first["scores"][0]["value"] == 1.0
    assert {layer["name"] for layer in first["layers"] if layer["sqnr_text"]} >= {"relu1", "relu2", "fc"}
    assert first["bench"]["latency_ms"]["p50"] > 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and text.count("data-source") >= 1 and len(text) < 200_000


def test_text_and_a_page_without_measuring(strop: Strop, engine: Path, tmp_path: Path) -> None:
    done = strop("report", engine, "-o", tmp_path / "page.html", "--no-run")
    assert done.code == 0 and "page.html" in done.out and "tiny" in done.out


def test_a_place_that_cannot_be_written(strop: Strop, engine: Path, tmp_path: Path) -> None:
    done = strop("report", engine, "-o", tmp_path / "no" / "page.html")
    assert done.code == 1 and "cannot write the output file" in done.err


def test_profile(strop: Strop, engine: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    done = strop("profile", engine, "--runs", 5, "--trace", trace, "--no-roofline", "--all")
    assert done.code == 0, done.err
    for word in ("layer", "conv2", "BatchNormalization", "fused", "flatten", "free", "the fastest whole run", "energy"):
        assert word in done.out, word
    names = [e["name"] for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X" and e["tid"] == 2]
    assert names == [name for name in tiny_net.NODES if name != "flatten"]
    found = json.loads(strop("profile", engine, "--runs", 5, "--json", "--no-roofline").out)
    assert found["covered"] >= 1 - 1e-6 or found["calling_ns"] == 0
    assert [layer["name"] for layer in found["layers"]] == list(tiny_net.NODES)


@pytest.mark.parametrize("option", [("--runs", 1), ("--trace", "/no/such/folder/x.json")])
def test_unusable_options(option: tuple[object, ...], strop: Strop, engine: Path) -> None:
    assert strop("profile", engine, *option).code in (1, 2)


def test_layers_of_a_model_in_int8_beside_fp32(strop: Strop, model: Path, tmp_path: Path) -> None:
    done = strop("report", model, "-o", tmp_path / "page.html", "--precision", "int8", "--seconds", 0.02, "--no-roofline", "--json")
    assert done.code == 0, done.err
    layers = {layer["name"]: layer for layer in json.loads(done.out)["engines"][0]["layers"]}
    assert 10 < layers["conv1"]["sqnr"] < 80 and layers["relu1"]["sqnr"] == layers["conv1"]["sqnr"]  # one kernel
    assert 10 < layers["fc"]["sqnr"] < 80 and layers["flatten"]["sqnr"] is None
