"""The fate of every node, without a build."""

from __future__ import annotations

import subprocess
from pathlib import Path

import onnx
import pytest

from strop import demo_data
from strop.codegen import toolchain
from strop.engine.check import FATES, check
from strop.engine.describe import describe
from strop.errors import ModelError, TargetError, UnsupportedError
from tests import tiny_net


def test_fates_agree_with_the_build() -> None:
    report = check(tiny_net.model_file())
    assert [node.name for node in report.nodes] == list(tiny_net.NODES)
    steps = describe(tiny_net.engine()).steps
    for node in report.nodes:
        step = next((s for s in steps if node.name in s.source), None)
        if step is None:
            assert node.fate == "view"
        else:
            assert step.kernel.startswith(node.kernel)
            assert node.step == ("" if step.name == node.name else step.name)
    assert report.counts == {"view": 1, "fused": 4, "kernel": 3}
    assert report.of("fused")[0].name == "relu1"
    assert set(report.counts) <= set(FATES)


def test_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was compiled")

    monkeypatch.setattr(toolchain, "find", refuse)
    monkeypatch.setattr(subprocess, "run", refuse)
    assert check(tiny_net.model_file(), target="x86-64-v3").target == "x86-64-v3"


def test_constants_are_folded() -> None:
    model = tiny_net.model()
    model.graph.node.insert(0, onnx.helper.make_node("Neg", ["b1"], ["minus"], name="neg"))
    model.graph.node[1].input[2] = "minus"
    report = check(model.SerializeToString())
    assert report.nodes[0].fate == "folded"
    assert report.model == "model"


def test_unsupported_nodes_are_named_and_the_rest_judged_as_far_as_possible() -> None:
    model = tiny_net.model()
    model.graph.node[3].op_type = "Batchelor"
    report = check(model.SerializeToString())
    (bad,) = report.of("unsupported")
    assert bad.name == "bn" and "Batchelor" in bad.reason and bad.hint
    assert len(report.of("unknown")) == len(report.nodes) - 1


def test_free_dims_need_a_shape() -> None:
    model = tiny_net.model(batch="N").SerializeToString()
    with pytest.raises(UnsupportedError, match="symbolic"):
        check(model)
    assert check(model, shapes={"x": (4, 3, 8, 8)}).counts["kernel"] == 3


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="unknown target"):
        check(tiny_net.model_file(), target="pdp-11")
    with pytest.raises(ModelError):
        check(tmp_path / "missing.onnx")


def test_lenet_runs_no_naive_step() -> None:
    report = check(demo_data.lenet_path())
    assert not report.of("unsupported") and not report.of("naive") and not report.of("unknown")
    assert {"conv1", "conv2"} <= {node.name for node in report.of("kernel")}
