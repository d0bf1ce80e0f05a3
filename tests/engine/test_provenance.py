"""Time, bytes and energy by the model's own layers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from strop import demo_data
from strop.engine.build import build
from strop.engine.describe import StepReport, describe
from strop.engine.engine import Engine
from strop.engine.provenance import COPY, FREE, FUSED, KERNEL, OWN, attribute, chrome_trace, profile
from strop.engine.roofline import Peaks
from strop.engine.sources import CONSTANT, INPUT, Source, read_sources
from strop.errors import EngineFileError
from tests import tiny_net


@pytest.fixture(scope="module")
def lenet() -> Engine:
    return build(demo_data.lenet_path(), level=0, threads=1)


def step(name: str, source: tuple[str, ...], ns: int = 100, flops: int = 0, bytes: int = 0, **more: object) -> StepReport:
    found = describe(tiny_net.engine()).steps[0]
    return replace(found, name=name, source=source, time_ns=ns, flops=flops, bytes=bytes, **more)  # type: ignore[arg-type]


def test_sources_are_the_models_nodes() -> None:
    sources = read_sources(tiny_net.engine())
    assert tuple(s.name for s in sources) == tiny_net.NODES
    assert [s.op for s in sources][:4] == ["Conv", "Relu", "Conv", "BatchNormalization"]
    conv, relu = sources[:2]
    assert conv.operands[0] == (INPUT, 3 * 64 * 4) and conv.operands[1][0] == CONSTANT
    assert relu.operands == ((0, 16 * 64 * 4),) and relu.written == 16 * 64 * 4 and relu.result == "f32[1,16,8,8]"


def test_a_fused_step_is_divided_by_operations_and_by_what_crosses_its_edge() -> None:
    sources = (
        Source("conv", "Conv", "f32[4]", 900, 400, ((INPUT, 100), (CONSTANT, 300))),
        Source("add", "Add", "f32[4]", 100, 400, ((0, 400), (INPUT, 200))),
        Source("view", "Reshape", "f32[2,2]", 0, 400, ((1, 400),)),
    )
    layers, parts = attribute(sources, [step("conv", ("conv", "add"), ns=1000, flops=2000, bytes=5000)], 8.0, Peaks(1e10, 1e9))
    conv, add, view = layers
    assert (conv.ns, add.ns, view.ns) == pytest.approx((900, 100, 0))
    assert (conv.flops, add.flops) == pytest.approx((1800, 200))
    assert (conv.bytes, add.bytes) == pytest.approx((5000 * 400 / 1000, 5000 * 600 / 1000))  # add reads 200 and writes 400
    assert (conv.joules, add.joules) == pytest.approx((7.2, 0.8))
    assert [x.fate for x in layers] == [KERNEL, FUSED, FREE]
    assert conv.intensity == add.intensity == pytest.approx(0.4)
    assert conv.of_roof == pytest.approx(2e9 / 4e8)
    assert parts == (((0, pytest.approx(0.9)), (1, pytest.approx(0.1))),)


def test_steps_without_nodes_and_copies_are_rows_too() -> None:
    sources = (Source("a", "Concat", "f32[4]", 0, 16, ((INPUT, 16),)),)
    layers, _ = attribute(sources, [step("a", ("a",), ns=30, copy="concat"), step("order", (), ns=70, bytes=8)])
    assert [(x.name, x.fate, x.ns) for x in layers] == [("a", COPY, 30), (OWN, KERNEL, 70)] or layers[1].name == OWN
    assert sum(x.ns for x in layers) == 100 and layers[0].joules is None and layers[0].of_roof is None


def test_sums_are_the_totals_and_the_totals_a_whole_run(lenet: Engine) -> None:
    found = min((profile(lenet, threads=1, runs=200) for _ in range(5)), key=lambda p: abs(p.covered - 1))
    totals = describe(lenet).totals
    assert math.fsum(x.ns for x in found.layers) == pytest.approx(found.ns)
    assert math.fsum(x.share for x in found.layers) == pytest.approx(1.0)
    assert math.fsum(x.bytes for x in found.layers) == pytest.approx(totals.bytes)
    assert math.fsum(x.flops for x in found.layers) == pytest.approx(totals.flops)
    assert found.covered == pytest.approx(1.0, abs=0.03)
    assert {x.name: x.fate for x in found.layers} == {
        "conv1": KERNEL, "pool1": KERNEL, "conv2": KERNEL, "pool2": KERNEL, "flatten": FREE, "fc1": KERNEL, "relu1": FUSED, "fc2": KERNEL,
    }  # fmt: skip


@pytest.mark.models
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_sums_of_large_nets(name: str, models_dir: Path) -> None:
    engine = build(models_dir / f"{name}.onnx", level=0, threads=1)
    found = min((profile(engine, threads=1, runs=60) for _ in range(5)), key=lambda p: abs(p.covered - 1))
    assert found.covered == pytest.approx(1.0, abs=0.03)
    assert found.calling_ns < 0.03 * found.latency.min * 1e6


def test_json_and_the_trace(lenet: Engine) -> None:
    found = profile(lenet, threads=1, runs=3)
    assert json.loads(json.dumps(found.to_json()))["layers"][0]["name"] == "conv1"
    events = json.loads(json.dumps(chrome_trace(found)))["traceEvents"]
    spans = [e for e in events if e["ph"] == "X"]
    steps, layers = ([e for e in spans if e["tid"] == tid] for tid in (1, 2))
    assert [e["name"] for e in steps] == [s.name for s in found.steps]
    assert sum(e["dur"] for e in layers) == pytest.approx(sum(e["dur"] for e in steps)) == pytest.approx(found.ns / 1e3)
    for a, b in pairwise(steps):
        assert b["ts"] == pytest.approx(a["ts"] + a["dur"])


@pytest.mark.parametrize("value", ["many", [["conv1"]], [["a", "Conv", "", 0, 0, [[7, 1]]]], [["a", "Conv", "", 0, 0, []]] * 2, [["a", 3, "", 0, 0, []]]])
def test_spoilt_sources_are_refused(value: object) -> None:
    engine = Engine(tiny_net.engine_file())
    engine._manifest = {**engine.manifest, "sources": value}
    with pytest.raises(EngineFileError, match="manifest of the engine is malformed"):
        read_sources(engine)


def test_an_engine_without_sources_has_the_names_of_its_steps() -> None:
    engine = Engine(tiny_net.engine_file())
    engine._manifest = {k: v for k, v in engine.manifest.items() if k != "sources"}
    assert [s.name for s in read_sources(engine)] == ["conv1", "relu1", "conv2", "bn", "add", "relu2", "fc"]
