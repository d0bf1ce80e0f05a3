"""What goes wrong around GPUs, and how it says so."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from strop import demo_data
from strop.codegen import triton
from strop.engine.build import build
from strop.engine.engine import load
from strop.errors import InputError, TargetError, ToolchainError, UnsupportedError
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import REGISTRY, Type
from strop.ops.elementwise import make
from strop.runtime import gpu_driver, gpu_session
from strop.runtime.ports import Port, TensorInfo


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


def test_free_sizes_are_refused_by_name():
    with pytest.raises(UnsupportedError, match=r"no kernel for cuda:sm_90 can do . layers") as caught:
        build(demo_data.lenet_path(), target="cuda:sm_90", level=0, shapes={"input": "1..8x1x28x28"})
    assert "fixed shapes" in str(caught.value) and all(name in str(caught.value) for name in ("conv1", "pool2", "fc1"))


def test_a_layer_without_a_gpu_kernel_is_named():
    sample = next(s for s in REGISTRY["lstm"].samples(np.random.default_rng(0)) if np.asarray(s.inputs[0]).dtype == np.float64)
    graph = Graph("recurrence")
    values = [graph.add_input(f"x{k}", Type(dt.from_numpy(np.asarray(a).dtype), np.asarray(a).shape)) for k, a in enumerate(sample.inputs)]
    node = graph.add(sample.op, values, name="the_lstm", source=["the_lstm"])
    graph.set_outputs([graph.add(make("relu"), [node.outputs[0]]).output], ["y"])
    with pytest.raises(UnsupportedError, match="no kernel for cuda:sm_90 can do a layer") as caught:
        build(graph, target="cuda:sm_90", level=0)
    assert "the_lstm" in str(caught.value)


def test_device_memory_that_does_not_fit():
    array = SimpleNamespace(__cuda_array_interface__={"shape": (2, 3), "typestr": "<f8", "data": (64, False), "strides": None, "version": 3})
    context = SimpleNamespace(stream=1, _kept=[], _shared=SimpleNamespace(where="net.strop"))
    port = Port(TensorInfo("x", dt.f32, (2, 3)), "input", "net.strop")
    with pytest.raises(InputError, match="input 'x' does not fit") as caught:
        gpu_session.GpuContext._taken(context, port, array)
    assert "f64[2, 3]" in str(caught.value) and "x: f32[2, 3]" in str(caught.value)
