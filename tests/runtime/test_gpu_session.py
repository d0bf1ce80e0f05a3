"""A GPU session over a driver that keeps memory on the host and writes down launches: what is launched, on which memory, in which order."""

from __future__ import annotations

import ctypes
import gc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from strop import demo_data
from strop.engine.build import build
from strop.engine.engine import Engine, load
from strop.errors import InputError, RuntimeFailure, TargetError
from strop.ir import dtype as dt
from strop.ir.dtype import from_numpy
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ops.recurrent import LSTM
from strop.runtime import dlpack, gpu_driver
from strop.runtime.gpu_session import DeviceArray, GpuContext


class FakeDriver:
    """The calls that a session makes. A graph is the list of launches that were recorded; launching it fills every output with its number."""

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.launched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        self.graphs: dict[int, list[Any]] = {}
        self.recording: list[Any] | None = None
        self.runs: list[int] = []
        self.cooperative, self.multiprocessors = 0, 132
        self.within: list[tuple[int, int, int]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cu"):
            return lambda *arguments: (0, SimpleNamespace(call=name, arguments=arguments))
        return SimpleNamespace(**dict.fromkeys(_NAMES, 0), CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=1, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT=2)

    def cuDeviceGetCount(self):  # noqa: N802
        return 0, 1

    def cuDeviceGetAttribute(self, attribute, device):  # noqa: N802
        return 0, {1: 9, 2: self.multiprocessors}.get(attribute, 0)

    def cuDeviceGetName(self, size, device):  # noqa: N802
        return 0, b"Fake GPU\0"

    def _allocate(self, size):
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    cuMemAlloc = cuMemAllocHost = _allocate  # noqa: N815

    def cuMemFree(self, pointer):  # noqa: N802
        return 0, self.memory.pop(pointer)

    cuMemFreeHost = cuMemFree  # noqa: N815

    def _copy(self, target, source, size, stream=None):
        ctypes.memmove(target, source, size)
        return 0, None

    cuMemcpyHtoD = cuMemcpyHtoDAsync = cuMemcpyDtoH = cuMemcpyDtoHAsync = _copy  # noqa: N815

    def cuMemcpyDtoDAsync(self, target, source, size, stream):  # noqa: N802
        self.within.append((target, source, size))
        return self._copy(target, source, size)

    def cuStreamCreate(self, flags):  # noqa: N802
        return 0, 7

    def cuMemsetD8Async(self, pointer, byte, size, stream):  # noqa: N802
        assert self.recording is None, "memory is filled while launches are recorded"
        ctypes.memset(pointer, byte, size)
        return 0, None

    def cuModuleGetFunction(self, module, name):  # noqa: N802
        return 0, name.decode()

    def cuStreamBeginCapture(self, stream, mode):  # noqa: N802
        self.recording = []
        return 0, None

    def cuStreamEndCapture(self, stream):  # noqa: N802
        found, self.recording = self.recording, None
        return 0, found

    def cuGraphInstantiate(self, graph, flags):  # noqa: N802
        self.graphs[id(graph)] = graph
        return 0, id(graph)

    def cuLaunchKernel(self, function, x, y, z, threads, ty, tz, shared, stream, places, extra):  # noqa: N802
        assert self.recording is not None and (ty, tz, extra) == (1, 1, 0) and threads % 32 == 0
        values, at = [], places
        while True:
            value = ctypes.c_void_p.from_address(ctypes.c_void_p.from_address(at).value or 0).value
            if value is None:
                break
            values.append(value)
            at += 8
        self.recording.append((function, (x, y, z), tuple(values)))
        return 0, None

    def cuLaunchCooperativeKernel(self, *arguments):  # noqa: N802
        self.cooperative += 1
        return self.cuLaunchKernel(*arguments, 0)

    def cuOccupancyMaxActiveBlocksPerMultiprocessor(self, function, threads, shared):  # noqa: N802
        return 0, 2

    def cuGraphLaunch(self, graph, stream):  # noqa: N802
        self.runs.append(graph)
        return 0, None

    def cuEventElapsedTime(self, begin, end):  # noqa: N802
        return 0, 2.0


_NAMES = (
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR", "CU_STREAM_NON_BLOCKING", "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL",
    "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
)  # fmt: skip


@pytest.fixture
def driver(monkeypatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setattr(gpu_driver, "_driver", lambda: fake)
    monkeypatch.setattr(gpu_driver, "_DEVICES", {})
    return fake


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    pytest.importorskip("triton", reason="the package triton is not installed")
    target = tmp_path_factory.mktemp("gpu") / "lenet.strop"
    build(demo_data.lenet_path(), target="cuda:sm_90", level=0, precision="fp16").save(target)
    return str(target)


def _context(engine: Engine) -> GpuContext:
    found = engine.context()
    assert isinstance(found, GpuContext)
    return found


def test_every_step_is_recorded_once_on_memory_of_the_session(driver, path):
    engine = load(path)
    context = _context(engine)
    (launches,) = driver.graphs.values()
    assert len(launches) == len(engine.manifest["steps"])
    blocks = {start: start + len(block) for start, block in driver.memory.items()}
    for function, grid, pointers in launches:
        assert function.startswith("strop_") and min(grid) >= 1
        assert all(any(low <= p < high for low, high in blocks.items()) for p in pointers)
    assert context.device_inputs["input"].pointer in launches[0][2]
    assert context.device_outputs["logits"].pointer in launches[-1][2]


def test_a_run_launches_one_graph_and_copies_both_ways(driver, path):
    context = _context(load(path))
    x = np.arange(784, dtype=np.float32).reshape(1, 1, 28, 28)
    logits = np.arange(10, dtype=np.float32)
    ctypes.memmove(context.device_outputs["logits"].pointer, logits.ctypes.data, logits.nbytes)
    found = context.run({"input": x})
    assert len(driver.runs) == 1 and np.array_equal(found["logits"], logits[None])
    seen = np.frombuffer(ctypes.string_at(context.device_inputs["input"].pointer, x.nbytes), np.float32)
    assert np.array_equal(seen, x.ravel())
    interface = context.device_inputs["input"].__cuda_array_interface__
    assert interface["shape"] == (1, 1, 28, 28) and interface["typestr"] == "<f4"


class OnDevice:
    """An array of another library that says it is in the device's memory; which way it tells where, is ``way``."""

    def __init__(self, array: np.ndarray, way: str) -> None:
        self.array, self.stream = array, None
        self.held = DeviceArray(array.ctypes.data, array.shape, from_numpy(array.dtype), array, lambda: None)
        if way == "interface":
            self.__cuda_array_interface__ = {**array.__array_interface__, "strides": array.__array_interface__["strides"]}
        else:
            self.__dlpack_device__ = self.held.__dlpack_device__
            self.__dlpack__ = self._capsule

    def _capsule(self, stream):
        self.stream = stream
        return self.held.__dlpack__(stream=stream)


@pytest.mark.parametrize("way", ["interface", "dlpack"])
def test_arrays_of_the_device_are_copied_there(driver, path, way):
    context = _context(load(path))
    x = OnDevice(np.arange(784, dtype=np.float32).reshape(1, 1, 28, 28), way)
    y = OnDevice(np.zeros((1, 10), np.float32), way)
    logits = np.arange(10, dtype=np.float32)
    ctypes.memmove(context.device_outputs["logits"].pointer, logits.ctypes.data, logits.nbytes)
    found = context.run({"input": x}, out={"logits": y})
    assert found["logits"] is y and np.array_equal(y.array, logits[None])
    seen = np.frombuffer(ctypes.string_at(context.device_inputs["input"].pointer, x.array.nbytes), np.float32)
    assert np.array_equal(seen, x.array.ravel())
    assert [size for _, _, size in driver.within] == [x.array.nbytes, y.array.nbytes]
    assert way == "interface" or x.stream == y.stream == context.stream
    assert np.array_equal(np.asarray(context(x)), logits[None])
    gc.collect()
    assert not dlpack._handed


@pytest.mark.parametrize("way", ["interface", "dlpack"])
@pytest.mark.parametrize(
    "array", [np.zeros((2, 1, 28, 28), np.float32), np.zeros((1, 1, 28, 28), np.float16), np.zeros((1, 1, 28, 56), np.float32)[..., ::2]], ids=["shape", "dtype", "gaps"]
)
def test_arrays_of_the_device_that_do_not_fit_are_refused(driver, path, array, way):
    if way == "dlpack" and not array.flags.c_contiguous:
        return  # the capsules of this test are dense
    with pytest.raises(InputError, match="input 'input' does not fit"):
        _context(load(path)).run({"input": OnDevice(array, way)})


def test_outputs_are_handed_out_by_dlpack(driver, path):
    context = _context(load(path))
    output = context.device_outputs["logits"]
    assert output.__dlpack_device__() == (2, 0)
    seen = dlpack.view(SimpleNamespace(__dlpack__=output.__dlpack__, __dlpack_device__=output.__dlpack_device__), 1)
    assert (seen.pointer, seen.shape, seen.dtype) == (output.pointer, (1, 10), output.dtype) and seen.is_dense
    assert len(dlpack._handed) == 1
    del seen
    output.__dlpack__()  # nobody takes it
    gc.collect()
    assert not dlpack._handed


def test_wrong_arrays_are_refused(driver, path):
    context = _context(load(path))
    with pytest.raises(InputError, match="wrong number of inputs"):
        context()
    with pytest.raises(InputError, match="has the wrong shape"):
        context(np.zeros((2, 1, 28, 28), np.float32))
    with pytest.raises(InputError, match="no input has this name"):
        context.run({"y": np.zeros((1, 1, 28, 28), np.float32)})


def test_programs_that_wait_for_each_other_are_launched_together(driver, tmp_path):
    pytest.importorskip("triton", reason="the package triton is not installed")
    graph, op, rng = Graph("layer"), LSTM.default("bidirectional"), np.random.default_rng(0)
    x = graph.add_input("x", Type(dt.f32, (20, 1, 8)))
    weights = [graph.add_const(rng.standard_normal(shape).astype(np.float32), name) for name, shape in (("w", (2, 1024, 8)), ("r", (2, 1024, 256)))]
    graph.set_outputs(graph.add(op, [x, *weights], name="layer").outputs[:1])
    build(graph, target="cuda:sm_90", level=0, precision="fp16").save(tmp_path / "layer.strop")
    _context(load(tmp_path / "layer.strop"))
    assert driver.cooperative == 1
    driver.multiprocessors = 7
    with pytest.raises(TargetError, match="does not run all of them at once"):
        load(tmp_path / "layer.strop")


def test_steps_are_timed_one_by_one(driver, path):
    engine = load(path)
    times = engine.profile(runs=1)
    assert [t.name for t in times] == [s["name"] for s in engine.manifest["steps"]]
    assert {t.nanoseconds for t in times} == {100_000}  # 2 ms for 20 launches


def test_a_closed_context_gives_its_memory_back(driver, path):
    engine = load(path)
    assert engine.session is not None
    before = set(driver.memory)
    context = _context(engine)
    assert set(driver.memory) > before
    context.close()
    assert set(driver.memory) == before


def test_the_driver_s_failures_have_a_name(driver, path):
    engine = load(path)
    driver.cuMemAlloc = lambda size: (2,)
    driver.cuGetErrorName = lambda code: (0, b"CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(RuntimeFailure, match="CUDA driver") as caught:
        engine.context()
    assert "CUDA_ERROR_OUT_OF_MEMORY" in str(caught.value) and "too little memory" in str(caught.value)


def test_a_session_ends_with_its_last_context(driver, path):
    engine = load(path)
    context = _context(engine)
    del engine
    gc.collect()
    assert driver.memory
    context.close()
    del context
    gc.collect()
    assert not driver.memory
