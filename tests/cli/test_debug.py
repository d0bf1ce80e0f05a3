"""strop debug reduce and bisect, on planted defects."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop.engine.reduce import names_read
from strop.frontend.onnx import importer, registry
from strop.kernels.c import pool
from strop.ops.elementwise import make
from strop.optimize import pipeline
from strop.optimize.pipeline import PASSES
from tests.errors.command import run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Conv, Relu, MaxPool, Tanh, Add, Conv, Sigmoid, GlobalAveragePool."""
    rng = np.random.default_rng(1)
    weights = {"w1": rng.standard_normal((6, 3, 3, 3)), "w2": rng.standard_normal((4, 6, 1, 1)), "c": rng.standard_normal((1, 6, 1, 1))}
    nodes = [
        ("Conv", ["x", "w1"], "conv1", {"pads": [1, 1, 1, 1]}), ("Relu", ["conv1"], "relu1", {}),
        ("MaxPool", ["relu1"], "pool1", {"kernel_shape": [2, 2], "strides": [2, 2]}), ("Tanh", ["pool1"], "tanh1", {}),
        ("Add", ["tanh1", "c"], "add1", {}), ("Conv", ["add1", "w2"], "conv2", {}), ("Sigmoid", ["conv2"], "sig1", {}),
        ("GlobalAveragePool", ["sig1"], "y", {}),
    ]  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node(op, ins, [out], name=out, **attributes) for op, ins, out, attributes in nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 1, 1])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.fixture
def wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool kernel leaves out its last task."""
    emit = type(pool.KERNEL).emit

    def wrong(self, region, params, target):
        emitted = emit(self, region, params, target)
        if region.op.name != "max_pool":
            return emitted
        return replace(emitted, body="if (end > begin) end--;\n" + emitted.body)

    monkeypatch.setattr(type(pool.KERNEL), "emit", wrong)


def wrong_pass(counts: bool) -> SimpleNamespace:
    """A pass that takes tanh for sin."""

    def run(graph, trace, options):
        for node in [n for n in graph.nodes if n.op.label == "tanh"]:
            if counts and not trace.may_patch():
                return
            new = graph.add(make("sin"), node.inputs, source=node.source, before=node)
            graph.replace_uses(node.output, new.output)
            if counts:
                trace.patched("planted", "tanh_to_sin (planted.py:7)", "tanh1")

    return SimpleNamespace(NAME="planted", run=run)


def test_nothing_is_wrong(model: Path) -> None:
    done = run("debug", "bisect", model)
    assert done.code == 0 and "nothing departs" in done.out


def test_bisect_names_a_kernel_its_step_and_its_nodes(model: Path, wrong_kernel: None) -> None:
    done = run("debug", "bisect", model, "--json")
    found = json.loads(done.out)
    assert done.code == 1 and found["stage"] == "kernel" and found["name"].startswith("pool(") and found["step"] == "pool1"
    assert "pool1" in found["nodes"] and any(label.startswith("naive") for label in found["right"])


def test_bisect_names_a_patch_and_its_rule(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PASSES", (*PASSES[:3], wrong_pass(True), *PASSES[3:]))
    done = run("debug", "bisect", model)
    assert done.code == 1 and "planted" in done.out and "tanh_to_sin (planted.py:7)" in done.out and "tanh1" in done.out and "STROP_PATCHES=" in done.out


def test_bisect_names_a_pass_that_does_not_count_its_patches(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "PASSES", (*PASSES[:2], wrong_pass(False), *PASSES[2:]))
    done = run("debug", "bisect", model, "--json")
    found = json.loads(done.out)
    assert done.code == 1 and found["stage"] == "pass" and found["name"] == "planted" and "tanh1" in found["nodes"]


def test_bisect_names_what_the_frontend_reads_otherwise(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    done = run("debug", "bisect", model, "--against", "onnxruntime")
    assert done.code == 0
    monkeypatch.setattr(importer, "find", _sin_for_tanh)
    done = run("debug", "bisect", model, "--against", "onnxruntime", "--json")
    found = json.loads(done.out)
    assert done.code == 1 and found["stage"] == "frontend" and found["nodes"] == ["tanh1"]


def _sin_for_tanh(domain: str, op_type: str, opset: int, where: str) -> registry.Rule:
    return registry.find(domain, "Sin" if op_type == "Tanh" else op_type, opset, where)


def test_reduce_keeps_the_pool_alone(model: Path, wrong_kernel: None, tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    done = run("debug", "reduce", model, "-o", small)
    assert done.code == 0 and "1 of 8 nodes" in done.out
    found = onnx.load(str(small))
    assert [n.op_type for n in found.graph.node] == ["MaxPool"]
    with np.load(small.with_suffix(".npz")) as arrays:
        assert list(arrays) == ["relu1"] and arrays["relu1"].size < 6 * 8 * 8


def test_reduce_of_a_model_that_cannot_be_built(tmp_path: Path, model: Path) -> None:
    proto = onnx.load(str(model))
    proto.graph.node[6].op_type = "StringNormalizer"
    onnx.save(proto, str(model))
    small = tmp_path / "small.onnx"
    done = run("debug", "reduce", model, "-o", small)
    assert done.code == 0
    assert [n.op_type for n in onnx.load(str(small)).graph.node] == ["StringNormalizer"]


def test_reduce_by_a_command(tmp_path: Path, model: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text(
        "import sys\n"
        "model, arrays = (open(name, 'rb').read() for name in sys.argv[1:])\n"
        "sys.exit(0 if b'Tanh' in model and b'Conv' in model and b'.npy' in arrays else 1)\n"
    )
    small = tmp_path / "small.onnx"
    command = f"{sys.executable} {script} {{model}} {{inputs}}"
    done = run("debug", "reduce", model, "-o", small, "--check", command)
    assert done.code == 0 and "2 of 8 nodes" in done.out
    assert sorted(n.op_type for n in onnx.load(str(small)).graph.node) == ["Conv", "Tanh"]


def test_what_a_body_reads_from_outside_counts() -> None:
    body = helper.make_graph([helper.make_node("Add", ["outer", "w"], ["z"])], "body", [], [helper.make_empty_tensor_value_info("z")])
    body.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "w"))
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    assert set(names_read(node)) == {"c", "outer"}
