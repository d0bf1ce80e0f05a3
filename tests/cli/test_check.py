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
    assert [line.split()[0] for line in lines[1:9]] == list(tiny_net.NODES)
    assert lines[0].split() == ["node", "op", "fate", "flops", "bytes", "weights", "results", "workspace", "est.", "us", "share", "how"]
    assert "into conv2" in lines[4] and " % " in lines[1]
    foot = {line.split()[0]: line for line in lines[9:-1]}
    assert list(foot) == ["inputs", "steps", "work", "memory"]
    assert "x: f32[1,3,8,8]" in foot["inputs"] and "on one core" in foot["work"] and "workspace" in foot["memory"]
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


def test_orders_and_choices(strop: Strop, model: Path) -> None:
    def names(*options: str) -> list[str]:
        lines = strop("check", model, *options).out.splitlines()
        return [line.split()[0] for line in lines[1 : next(k for k, line in enumerate(lines) if line.startswith("inputs"))]]

    found = json.loads(strop("check", model, "--json").out)["nodes"]
    for order, key in (("time", "estimated_ns"), ("flops", "flops"), ("weights", "weights")):
        wanted = sorted(found, key=lambda node: -node["figures"][key])
        assert names("--sort", order) == [node["name"] for node in wanted]
    assert names("--sort", "fate")[-1] == "flatten"
    assert names("--only", "view") == ["flatten"] and names("--only", "view", "--only", "naive") == ["flatten"]
    for option, value in (("--sort", "beauty"), ("--only", "great")):
        done = strop("check", model, option, value)
        assert done.code == 1 and value in done.err and "expected" in done.err


def test_verbose_says_why_kernels_decline(strop: Strop, monkeypatch: pytest.MonkeyPatch) -> None:
    node = NodeFate("b", "Odd", "naive", "naive", reason="no faster kernel accepts it", refusals={"conv_direct": "it is no conv"})
    monkeypatch.setattr(verb, "check", lambda *_, **__: CheckReport("m", "x86-64", (node,)))
    assert "conv_direct" not in strop("check", "m.onnx").out
    assert "conv_direct: it is no conv" in strop("check", "m.onnx", "--verbose").out


def test_free_sizes(strop: Strop, tmp_path: Path) -> None:
    onnx.save(tiny_net.model(batch="N"), tmp_path / "m.onnx")
    out = strop("check", tmp_path / "m.onnx", "--shape", "x=1..8(4)x3x8x8").out
    assert "sizes   N = 4" in out and "x: f32[N,3,8,8]" in out


def test_not_a_model(strop: Strop, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"hello")
    done = strop("check", path)
    assert done.code == 1 and "ONNX model" in done.err
