"""What runs on the processor beside a GPU, as build, inspect and check tell it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.cli.conftest import Strop
from tests.frontend.onnx_models import build as onnx_model
from tests.runtime.gpu_emulator import install, on_processor


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """softmax, tanh, softmax, and no GPU kernel for tanh."""
    pytest.importorskip("triton", reason="the package triton is not installed")
    install(monkeypatch)
    on_processor(monkeypatch, lambda region: "tanh" in region.signature())
    kinds = zip(("Softmax", "Tanh", "Softmax"), ("x", "a", "b"), ("a", "b", "y"), ("first", "middle", "last"), strict=True)
    nodes = [helper.make_node(kind, [x], [y], name=name) for kind, x, y, name in kinds]
    onnx.save(onnx_model(nodes, {"x": (np.float32, [4, 8])}, ["y", "a"]), str(tmp_path / "net.onnx"))
    return tmp_path / "net.onnx"


def test_build_and_inspect_tell_what_falls_back(strop: Strop, net: Path) -> None:
    engine, target = net.with_suffix(".strop"), ("--target", "cuda:sm_90+x86-64-v3")
    done = strop("build", net, "-o", engine, "--level", 0, *target)
    assert done.code == 0
    assert "placement: 1 of 3 steps run on the processor x86-64-v3, as the GPU has no kernel for them: middle" in done.err
    assert "why not on the GPU" in done.out and "middle" in done.out
    told = json.loads(strop("build", net, "-o", engine, "--level", 0, "--json", *target).out)["placement"]
    assert [(f["index"], f["step"], f["layers"], f["target"]) for f in told] == [(1, "middle", ["middle"], "x86-64-v3")]
    done = strop("inspect", engine)
    assert "1 of 3 steps run on the processor x86-64-v3" in done.out and "why not on the GPU" in done.out
    found = json.loads(strop("inspect", engine, "--json").out)
    assert found["placement"] == told and [s["side"] for s in found["steps"]] == ["cuda:sm_90", "x86-64-v3", "cuda:sm_90"]


def test_check_foretells_it_and_strict_refuses_it(strop: Strop, net: Path) -> None:
    found = {n["name"]: n for n in json.loads(strop("check", net, "--target", "cuda:sm_90+x86-64-v3", "--json").out)["nodes"]}
    assert {name: n["fate"] for name, n in found.items()} == {"first": "kernel", "middle": "processor", "last": "kernel"}
    assert found["middle"]["reason"].startswith("on x86-64-v3: ")
    done = strop("build", net, "-o", net.with_suffix(".strop"), "--level", 0, "--target", "cuda:sm_90", "--strict")
    assert done.code == 1 and "would run on the processor" in done.err and "middle" in done.err
    assert not net.with_suffix(".strop").exists()
