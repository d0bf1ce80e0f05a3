"""What an engine tells about itself."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop.engine.build import build
from strop.engine.describe import describe, memory_of
from strop.engine.engine import Engine
from strop.errors import EngineFileError
from tests import tiny_net


def test_steps_and_totals() -> None:
    found = describe(tiny_net.engine())
    assert [step.source for step in found.steps] == [("conv1", "relu1"), ("conv2", "bn", "add", "relu2"), ("fc",)]
    assert [step.fused for step in found.steps] == [True, True, True]
    assert [step.edge for step in found.steps] == [True, False, True]
    totals = found.totals
    assert (totals.steps, totals.nodes, totals.fused_nodes, totals.copies) == (3, 7, 4, {})
    assert (totals.transposes_inside, totals.transposes_at_edges) == (0, 0)
    convolutions = 2 * 64 * 16 * (27 + 144)
    assert totals.flops >= convolutions + 2 * 1024 * 10
    assert totals.time_ns is None
    assert found.inputs == ("x: f32[1, 3, 8, 8]",) and found.outputs == ("y: f32[1, 10]",)


def test_memory() -> None:
    engine = tiny_net.engine()
    memory = memory_of(engine)
    assert memory.weights == engine.memory.weights
    assert memory.arena == engine.memory.arena >= memory.live_peak > 0
    assert memory.code > 0


def test_times_belong_to_steps() -> None:
    engine = tiny_net.engine()
    times = engine.profile(runs=2)
    found = describe(engine, times)
    assert [step.time_ns for step in found.steps] == [time.nanoseconds for time in times]
    with pytest.raises(EngineFileError):
        describe(engine, times[:-1])


def test_a_transpose_at_the_edge_is_told_from_one_inside() -> None:
    weight = numpy_helper.from_array(np.ones((32, 32, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="c1"),
        helper.make_node("Conv", ["a", "w"], ["y"], name="c2"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "edges", [info("x", TensorProto.FLOAT, [1, 32, 6, 6])], [info("y", TensorProto.FLOAT, [1, 32, 6, 6])], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    found = describe(build(model.SerializeToString(), level=0, threads=1))
    assert found.totals.transposes_inside == 0
    moved = [step for step in found.steps if step.transpose]
    assert found.totals.transposes_at_edges == len(moved)
    assert all(step.edge and step.copy for step in moved)
    assert sum(found.totals.copies.values()) == sum(bool(step.copy) for step in found.steps)


def test_json() -> None:
    found = json.loads(json.dumps(describe(tiny_net.engine()).to_json()))
    assert found["totals"]["steps"] == len(found["steps"]) == 3
    assert found["memory"]["arena"] > 0


@pytest.fixture
def engine() -> Engine:
    """An engine of its own, whose manifest a test may spoil."""
    made = Engine(tiny_net.engine_file())
    made._manifest = copy.deepcopy(made.manifest)
    return made


def spoil(engine: Engine, path: tuple[str | int, ...], value: Any) -> None:
    place: Any = engine.manifest
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("steps",), None),
        (("steps",), []),
        (("steps", 0), "conv"),
        (("steps", 0, "flops"), "many"),
        (("steps", 0, "flops"), True),
        (("steps", 1, "source"), "conv2"),
        (("steps", 1, "kernel"), 3),
        (("memory",), 12),
        (("memory", "arena"), None),
        (("model",), 7),
        (("notes",), "none"),
    ],
)
def test_a_spoilt_manifest_is_refused(engine: Engine, path: tuple[str | int, ...], value: Any) -> None:
    spoil(engine, path, value)
    with pytest.raises(EngineFileError, match="manifest of the engine is malformed"):
        describe(engine)
