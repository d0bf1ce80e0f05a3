"""strop check."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from strop.cli import check as verb
from strop.engine.check import CheckReport, NodeFate
from tests import tiny_net
from tests.cli.conftest import Strop


def test_every_node_has_a_fate(strop: Strop, model: Path) -> None:
    done = strop("check", model)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(tiny_net.NODES)
    assert lines[-1].endswith("8 nodes: 1 view, 4 fused, 3 kernel")


def test_json(strop: Strop, model: Path) -> None:
    found = json.loads(strop("check", model, "--json", "--target", "x86-64").out)
    assert found["target"] == "x86-64"
    assert found["counts"] == {"view": 1, "fused": 4, "kernel": 3}
    fate = {node["name"]: (node["fate"], node["step"]) for node in found["nodes"]}
    assert fate["bn"] == ("fused", "conv2") and fate["conv1"] == ("kernel", "")


def test_unsupported_nodes_are_all_named(strop: Strop, tmp_path: Path) -> None:
    model = tiny_net.model()
    model.graph.node[1].op_type = "Reluu"
    model.graph.node[5].op_type = "Ruler"
    path = tmp_path / "odd.onnx"
    onnx.save(model, path)
    done = strop("check", path)
    assert done.code == 1
    assert "Reluu is not supported" in done.out and "Ruler is not supported" in done.out
    assert "2 unsupported" in done.out


@pytest.mark.parametrize(("fate", "options", "code"), [
    ("naive", [], 3), ("naive", ["--allow-naive"], 0), ("unsupported", ["--allow-naive"], 1), ("copy", [], 0),
])  # fmt: skip
def test_exit_codes(fate: str, options: list[str], code: int, strop: Strop, monkeypatch: pytest.MonkeyPatch) -> None:
    report = CheckReport("m", "x86-64", (NodeFate("a", "Conv", "kernel"), NodeFate("b", "Odd", fate, reason="why")))
    monkeypatch.setattr(verb, "check", lambda *_, **__: report)
    done = strop("check", "m.onnx", *options)
    assert done.code == code
    assert f"1 {fate}" in done.out and "why" in done.out


def test_not_a_model(strop: Strop, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"hello")
    done = strop("check", path)
    assert done.code == 1 and "ONNX model" in done.err
