"""strop diff: engines, models, the oracle and ONNX Runtime, layer by layer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import strop
from strop.engine.values import of_engine, of_graph
from strop.frontend.onnx import read_onnx
from strop.kernels.c import pool
from tests import dynamic_nets, tiny_net
from tests.errors.command import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.onnx and net.strop: the tiny net."""
    path = tmp_path_factory.mktemp("diff")
    onnx.save(tiny_net.model(), str(path / "net.onnx"))
    tiny_net.engine().save(path / "net.strop")
    return path


def test_an_engine_agrees_with_its_model_layer_by_layer(folder: Path) -> None:
    done = run("diff", folder / "net.strop", f"oracle:{folder / 'net.onnx'}", "--json")
    found = json.loads(done.out)
    assert done.code == 0 and found["first"] is None
    compared = [row for row in found["rows"] if row["max_abs"] is not None]
    assert len(compared) >= 3 and all(row["max_rel"] < 1e-4 for row in compared)
    assert any(row["a"].startswith("fused into") for row in found["rows"])
    assert sum(row["output"] for row in found["rows"]) == len(onnx.load(str(folder / "net.onnx")).graph.output)


def test_with_onnxruntime(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    done = run("diff", folder / "net.strop", f"onnxruntime:{folder / 'net.onnx'}")
    assert done.code == 0 and "agree" in done.out and "fused" not in done.out


def test_two_engines_of_one_model_are_compared_in_every_step(folder: Path) -> None:
    done = run("diff", folder / "net.strop", folder / "net.strop", "--json")
    found = json.loads(done.out)
    assert done.code == 0 and all(row["max_abs"] == 0.0 for row in found["rows"])


def test_the_first_departing_layer_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emit = type(pool.KERNEL).emit

    def wrong(self, region, params, target):
        emitted = emit(self, region, params, target)
        return replace(emitted, body="if (end > begin) end--;\n" + emitted.body)

    monkeypatch.setattr(type(pool.KERNEL), "emit", wrong)
    proto, feed = _chain()
    path = folder / "chain.onnx"
    onnx.save(proto, str(path))
    np.save(folder / "x.npy", feed)
    done = run("diff", path, f"oracle:{path}", "--input", folder / "x.npy")
    assert done.code == 1 and "departs from" in done.err and " at pool1 (p)" in done.err
    assert run("diff", path, f"oracle:{path}", "--tolerance", 1e9).code == 0


def _chain() -> tuple[onnx.ModelProto, np.ndarray]:
    """Conv, MaxPool, Conv with another kernel, of distinct names for nodes and values."""
    rng = np.random.default_rng(2)
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in (("w", (4, 3, 3, 3)), ("v", (5, 4, 1, 1)))]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv1"),
        helper.make_node("MaxPool", ["c"], ["p"], name="pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "v"], ["y"], name="conv2"),
    ]
    info = lambda n, s: helper.make_tensor_value_info(n, TensorProto.FLOAT, s)  # noqa: E731
    graph = helper.make_graph(nodes, "chain", [info("x", [1, 3, 10, 10])], [info("y", [1, 5, 4, 4])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model, rng.standard_normal((1, 3, 10, 10)).astype(np.float32)


def test_values_of_an_engine_with_free_sizes_at_several_shapes() -> None:
    model = dynamic_nets.sequences()
    engine = strop.build(model, level=0, threads=2, shapes={"x": "batch:1..3,seq:3..40(12),8"})
    graph = read_onnx(model, {"x": "batch:1..3,seq:3..40(12),8"})
    for shape in ((1, 3, 8), (3, 40, 8), (2, 11, 8)):
        feed = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
        meant, got = of_graph(graph, feed, "oracle"), of_engine(engine, feed, "engine")
        shared = [n for n, layer in got.layers.items() if n in meant.layers and meant.layers[n].node == layer.node]
        assert len(shared) >= 3
        for name in shared:
            np.testing.assert_allclose(got.layers[name].array, meant.layers[name].array, rtol=1e-4, atol=1e-4)
        for name, array in meant.outputs.items():
            np.testing.assert_allclose(got.outputs[name], array, rtol=1e-4, atol=1e-4)


def test_looking_does_not_change_what_comes_out() -> None:
    engine = tiny_net.engine()
    feed = engine.random_inputs(3)
    plain, looked = engine.run(feed), of_engine(engine, feed, "engine").outputs
    assert all(plain[n].tobytes() == looked[n].tobytes() for n in plain)
