"""What goes wrong around GPUs, and how it says so."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from strop import demo_data
from strop.codegen import triton
from strop.engine.build import build
from strop.engine.cubins import GpuKernel
from strop.engine.engine import Engine, load
from strop.engine.format import Section, SectionKind, read_sections, write_engine
from strop.engine.parts import Part, decode_parts
from strop.engine.plan import Plan, Tensor
from strop.engine.plan import Step as PlanStep
from strop.errors import (
    CustomError,
    EngineFileError,
    InputError,
    TargetError,
    ToolchainError,
    UnsupportedError,
)
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import REGISTRY, Type
from strop.ops.elementwise import make
from strop.runtime import gpu_driver, gpu_host, gpu_session
from strop.runtime.callbacks import CustomCall
from strop.runtime.ports import Port, TensorInfo
from tests.runtime.gpu_emulator import install, on_processor
from tests.runtime.test_gpu_host import alternating, is_tanh


def test_unknown_capability():
    with pytest.raises(TargetError, match="unknown target") as caught:
        build(demo_data.lenet_path(), target="cuda:sm_12", level=0)
    assert "cuda:sm_90" in str(caught.value)


def test_no_triton(monkeypatch):
    monkeypatch.setattr(triton.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match="needs Triton") as caught:
        triton.version()
    assert "strop[cuda]" in str(caught.value)


def test_no_driver_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr(gpu_driver, "_DEVICES", {})
    with pytest.raises(TargetError, match="cuda-bindings"):
        gpu_driver.device()


def test_no_gpu(monkeypatch):
    class Api:
        def __getattr__(self, name):
            return lambda *_: (100,) if name == "cuInit" else (0, b"CUDA_ERROR_NO_DEVICE")

    monkeypatch.setattr(gpu_driver, "_driver", Api)
    monkeypatch.setattr(gpu_driver, "_DEVICES", {})
    with pytest.raises(TargetError, match="no NVIDIA GPU") as caught:
        gpu_driver.device()
    assert "CUDA_ERROR_NO_DEVICE" in str(caught.value)


def test_another_capability(monkeypatch, tmp_path):
    pytest.importorskip("triton", reason="the package triton is not installed")
    build(demo_data.lenet_path(), target="cuda:sm_87", level=0, precision="fp16").save(tmp_path / "orin.strop")
    monkeypatch.setattr(gpu_session, "device", lambda: SimpleNamespace(name="NVIDIA H100", capability=90))
    with pytest.raises(TargetError, match="another compute capability") as caught:
        load(tmp_path / "orin.strop")
    assert "NVIDIA H100, capability 90" in str(caught.value) and "--target cuda:sm_90" in str(caught.value)


def test_programs_that_wait_for_each_other_need_a_whole_gpu():
    kernels = (GpuKernel(((0, (64, 1, 2)),), 0, 64, True), GpuKernel(((0, (999, 1, 1)),), 0, 0))
    found: Any = SimpleNamespace(name="NVIDIA H100 MIG 1g.10gb", resident=lambda function, warps, shared: 32)
    gpu_session._check_resident(found, kernels[1:], ((None, 0, 4),), "lstm.strop")
    with pytest.raises(TargetError, match="does not run all of them at once") as caught:
        gpu_session._check_resident(found, kernels, ((None, 0, 4),), "lstm.strop")
    assert "MIG 1g.10gb: 32 programs" in str(caught.value) and "128 programs" in str(caught.value) and "whole GPU" in str(caught.value)


def test_free_sizes_are_refused_by_name():
    with pytest.raises(UnsupportedError, match=r"no kernel for cuda:sm_90 can do . layers") as caught:
        build(demo_data.lenet_path(), target="cuda:sm_90", level=0, shapes={"input": "1..8x1x28x28"})
    assert "fixed shapes" in str(caught.value) and all(name in str(caught.value) for name in ("conv1", "pool2", "fc1"))


def _recurrence() -> Graph:
    """A network of which one layer has no GPU kernel: an LSTM in f64."""
    sample = next(s for s in REGISTRY["lstm"].samples(np.random.default_rng(0)) if np.asarray(s.inputs[0]).dtype == np.float64)
    graph = Graph("recurrence")
    values = [graph.add_input(f"x{k}", Type(dt.from_numpy(np.asarray(a).dtype), np.asarray(a).shape)) for k, a in enumerate(sample.inputs)]
    node = graph.add(sample.op, values, name="the_lstm", source=["the_lstm"])
    graph.set_outputs([graph.add(make("relu"), [node.outputs[0]]).output], ["y"])
    return graph


def test_strict_refuses_what_would_run_on_the_processor():
    with pytest.raises(UnsupportedError, match="a step of 2 would run on the processor") as caught:
        build(_recurrence(), target="cuda:sm_90", level=0, strict=True)
    assert all(text in str(caught.value) for text in ("the_lstm (lstm): its steps depend on each other", "--strict", "cuda:sm_90"))


def test_a_network_of_which_nothing_runs_on_the_gpu():
    graph = _recurrence()
    graph.set_outputs([graph.nodes[0].outputs[0]], ["y"])
    graph.prune()
    with pytest.raises(UnsupportedError, match="no kernel for cuda:sm_90 can do a layer") as caught:
        build(graph, target="cuda:sm_90", level=0)
    assert "the_lstm" in str(caught.value)


def test_a_processor_that_is_not_known():
    with pytest.raises(TargetError, match="unknown target") as caught:
        build(demo_data.lenet_path(), target="cuda:sm_90+z80", level=0)
    assert "cuda:sm_90+z80" in str(caught.value)


def _plan() -> Plan:
    tensor = Tensor("x", dt.f32, (4,))
    return Plan((tensor,), (tensor,), (PlanStep("a", 0, (), 1), PlanStep("b", 0, (), 1)), 64, 0, 1)


@pytest.mark.parametrize("change", [
    {"first": 2}, {"end": 3}, {"end": 0}, {"brought": [{"space": 1, "offset": 0, "size": 4, "index": 0}]}, {"brought": [{"space": 0, "offset": 61, "size": 4, "index": 0}]},
    {"fetched": [{"space": 3, "offset": 0, "size": 16, "index": 1}]}, {"fetched": [{"space": 3, "offset": 0, "size": 17, "index": 0}]}, {"first": True}, {"fetched": None},
])  # fmt: skip
def test_malformed_parts(change):
    part = {"first": 0, "end": 2, "brought": [], "fetched": []}
    whole = {"parts": [part], "inputs": [0], "outputs": [0]}
    assert decode_parts(json.dumps(whole).encode(), _plan()).parts == (Part(0, 2, (), ()),)
    with pytest.raises(EngineFileError, match="parts that run on the GPU are malformed"):
        decode_parts(json.dumps({**whole, "parts": [{**part, **change}]}).encode(), _plan())
    with pytest.raises(EngineFileError, match="parts that run on the GPU are malformed"):
        decode_parts(json.dumps({**whole, "inputs": [1]}).encode(), _plan())


def test_a_part_that_is_called_by_somebody_else():
    with pytest.raises(CustomError, match="outside of an engine for a GPU"):
        gpu_host._call(CustomCall("GPU: steps 0 to 3", '{"part": 0}', (), ()))


def test_device_memory_that_does_not_fit():
    array = SimpleNamespace(__cuda_array_interface__={"shape": (2, 3), "typestr": "<f8", "data": (64, False), "strides": None, "version": 3})
    context = SimpleNamespace(stream=1, _kept=[], _shared=SimpleNamespace(where="net.strop"))
    port = Port(TensorInfo("x", dt.f32, (2, 3)), "input", "net.strop")
    with pytest.raises(InputError, match="input 'x' does not fit") as caught:
        gpu_session.GpuContext._taken(context, port, array)
    assert "f64[2, 3]" in str(caught.value) and "x: f32[2, 3]" in str(caught.value)


@pytest.mark.filterwarnings("ignore::strop.errors.PlacementWarning")
def test_two_sides_that_do_not_belong_together(monkeypatch, tmp_path):
    pytest.importorskip("triton", reason="the package triton is not installed")
    install(monkeypatch)
    on_processor(monkeypatch, is_tanh)
    engine, graph = build(alternating(), target="cuda:sm_90", level=0), alternating()
    graph.set_outputs([graph.outputs[1]], ["t"])
    other = build(graph, target="cuda:sm_90", level=0)
    processor = build(alternating(), level=0)

    def swapped(name: str, data: bytes) -> str:
        path = tmp_path / "swapped.strop"
        sections = [Section(e.kind, e.name, [data if (e.kind, e.name) == (SectionKind.HOST, name) else d], e.flags) for e, d in read_sections(engine.path)]
        write_engine(path, sections)
        return str(path)

    def host(of: Engine, name: str) -> bytes:
        return next(d.tobytes() for e, d in read_sections(of.path) if (e.kind, e.name) == (SectionKind.HOST, name))

    with pytest.raises(EngineFileError, match="does not fit together"):
        load(swapped("engine", host(other, "engine")))
    load(swapped("engine", processor.path.read_bytes())).context()  # does it all by itself
    parts = json.loads(host(engine, "parts"))
    parts["parts"][1]["brought"][0]["size"] -= 4
    with pytest.raises(EngineFileError, match="does not fit together") as caught:
        load(swapped("parts", json.dumps(parts).encode()))(np.zeros((4, 8), np.float32))
    assert "part 1 with operands of [128]" in str(caught.value)
