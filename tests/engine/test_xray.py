"""The X-ray of a network: a planted bad layer comes first, counts and powers are those of the arrays, watching changes nothing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop import demo_data
from strop.engine import shifted
from strop.engine.build import build, on_this_machine, portable
from strop.engine.per_op import PerOp
from strop.engine.replay import Replay
from strop.engine.rewrite import Calibrated, rewrite
from strop.engine.watch import observe
from strop.engine.xray import AccuracyReport, isolate
from strop.engine.xray_chart import chart
from strop.quantize.data import samples
from strop.quantize.grid import affine
from strop.quantize.pipeline import observed, quantize
from strop.quantize.precision import Decisions
from strop.quantize.ranges import parse
from strop.quantize.table import Entry, Table
from strop.trace import Trace
from tests.engine.planted import BAD, digits, spoiled

IMAGES, _ = digits(0, 24)


@cache
def report() -> AccuracyReport:
    engine = build(spoiled(), level=0, threads=1, precision="int8", calibration=IMAGES, calibrator="minmax")
    found: AccuracyReport = engine.accuracy_report(IMAGES, batches=3)
    return found


def test_the_planted_layer_is_ranked_first() -> None:
    first, *rest = report().layers
    assert first.name == BAD and first.blame > 0.8
    assert first.alone < min(row.alone for row in rest) - 6
    assert first.without > report().sqnr + 6, "lifting it must help most"
    assert first.without == max(row.without for row in report().layers)
    assert (report().batches, report().isolated) == (24, 3)


def test_watching_changes_nothing() -> None:
    assert report().exact


def test_json_and_picture() -> None:
    text = json.loads(json.dumps(report().to_json(), allow_nan=False))
    assert text["layers"][0]["name"] == BAD and len(text["layers"]) == 4
    root = ET.fromstring(chart(report()))
    words = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert words.index(BAD) < words.index("fc1")
    assert len([e for e in root.iter() if e.tag.endswith("rect")]) == 1 + 1 + 2 * 4


def test_numbers_are_those_of_the_arrays() -> None:
    """Of a network that saturates on purpose: SQNR, saturated values and worst channels, from numpy."""
    graph = portable(demo_data.lenet_path(), None, Trace())
    names = ("input", "conv1", "pool1", "conv2", "pool2", "flatten", "relu1")
    ranges = Table({n: Entry(0.0, 1.0) if n == "input" else Entry(0.0, 9.0) if n == "relu1" else Entry(-0.5, 0.5) for n in names})
    engine = build(demo_data.lenet_path(), level=0, threads=1, precision="int8", ranges=ranges)
    found: AccuracyReport = engine.accuracy_report(IMAGES[:4], batches=1)
    reduced = quantize(graph, Decisions("int8"), ranges)
    exact, rounded = [], []
    for image in IMAGES[:4]:
        feed = {"input": image[None]}
        exact.append(Replay(graph, feed).values["conv1"])
        rounded.append(Replay(reduced, feed).values["conv1.dequantized"])
    a, b = np.concatenate(exact).astype(np.float64), np.concatenate(rounded).astype(np.float64)
    row = next(r for r in found.layers if r.name == "conv1")
    assert row.elements == a.size
    assert row.sqnr == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()), abs=0.05)
    grid = affine(-0.5, 0.5)
    beyond = (a < grid.low - grid.scale / 2) | (a > grid.high + grid.scale / 2)
    assert row.saturated == pytest.approx(int(beyond.sum()), abs=3) and row.saturated > 100
    each = 10 * np.log10((a**2).sum(axis=(0, 2, 3)) / ((a - b) ** 2).sum(axis=(0, 2, 3)))
    assert row.worst[0][0] == int(np.argmin(each)) and row.worst[0][1] == pytest.approx(each.min(), abs=0.1)


def test_replay_is_the_variant_run_from_the_start() -> None:
    graph = portable(demo_data.lenet_path(), None, Trace())
    ranges = Table({n: Entry(-4.0, 4.0) for n in ("input", "conv1", "pool1", "conv2", "pool2", "flatten", "relu1")})
    feed = {"input": IMAGES[:1]}
    replay = Replay(graph, feed)
    for kept in ("conv1", "conv2", "fc1", "fc2"):
        variant = rewrite(graph, Decisions("fp32", {kept: "int8"}), Calibrated(ranges), Trace())
        wanted = PerOp(variant).run(feed)["logits"]
        np.testing.assert_array_equal(replay.run(variant)["logits"], wanted)
        assert (wanted != replay.outputs["logits"]).any()
    np.testing.assert_array_equal(replay.run(graph.clone())["logits"], replay.outputs["logits"])


def test_overflows_beyond_f16_are_counted() -> None:
    model = spoiled()
    engine = build(model, level=0, threads=1, precision="fp16", layer_precision={"*": "fp16"})
    found: AccuracyReport = engine.accuracy_report(IMAGES[:2] * np.float32(30), batches=1)
    row = next(r for r in found.layers if r.name == "conv1")
    assert row.overflows > 0 and row.precision == "fp16"


def branched() -> onnx.ModelProto:
    """conv a -> relu -> (conv b -> relu -> conv c) + itself -> relu -> mean -> product d."""
    rng = np.random.default_rng(0)
    names = {"a": (16, 8, 3, 3), "b": (16, 16, 3, 3), "c": (16, 16, 1, 1), "d": (16, 10)}
    weights = [numpy_helper.from_array((0.2 * rng.standard_normal(s)).astype(np.float32), f"w{n}") for n, s in names.items()]
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "wa"], ["a"], name="a", pads=[1] * 4), node("Relu", ["a"], ["ra"]),
        node("Conv", ["ra", "wb"], ["b"], name="b", pads=[1] * 4), node("Relu", ["b"], ["rb"]),
        node("Conv", ["rb", "wc"], ["c"], name="c"), node("Add", ["c", "ra"], ["s"]), node("Relu", ["s"], ["rs"]),
        node("GlobalAveragePool", ["rs"], ["m"]), node("Flatten", ["m"], ["f"]), node("MatMul", ["f", "wd"], ["y"], name="d"),
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "branched", [value("x", TensorProto.FLOAT, (1, 8, 12, 12))], [value("y", TensorProto.FLOAT, (1, 10))], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_layers_alone_in_an_engine_are_those_in_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a layer's noise does behind it is the same whether numpy or an engine computes it, in a network with branches too."""
    model, feed = branched(), np.random.default_rng(1).standard_normal((2, 1, 8, 12, 12)).astype(np.float32)
    graph = portable(model, None, Trace())
    data = samples(list(feed), graph.inputs)
    decisions = Decisions("int8")
    ranges = observe(graph, observed(graph, decisions), data, on_this_machine, Trace()).table(parse("minmax"))
    plain = isolate(graph, decisions, Calibrated(ranges), data, Trace(), on_this_machine, without=False)
    made = []

    class Counted(shifted.Shifted):
        def run(self, inputs: Any, shifts: Any) -> Any:
            made.append(set(shifts))
            return super().run(inputs, shifts)

    monkeypatch.setattr(shifted, "WORTH", 0)
    monkeypatch.setattr("strop.engine.xray.Shifted", Counted)
    fast = isolate(graph, decisions, Calibrated(ranges), data, Trace(), on_this_machine, without=False)
    assert len(plain.alone) == 4 and len(made) >= 2 * 4 and sum(map(bool, made)) >= 2 * 3, "nearly all layers end at a cut"
    assert fast.alone == pytest.approx(plain.alone, rel=1e-2) and min(plain.alone.values()) > 0
