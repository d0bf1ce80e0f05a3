"""On an NVIDIA GPU: every kernel on samples of every op, and engines from end to end. Run with ``pytest --gpu tests/gpu``."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from strop import demo_data
from strop.codegen.triton import Cubin, Job, compile_all, jobs_of
from strop.engine.build import build
from strop.engine.engine import load
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.kernels.base import In as Operand
from strop.kernels.base import Packed, Region
from strop.kernels.oracle import difference, expected
from strop.kernels.table import GPU_KERNELS
from strop.kernels.triton import recurrent_persistent
from strop.kernels.triton.emit import GpuEmitted
from strop.ops.recurrent import GRU, LSTM, RNN
from strop.runtime.gpu_driver import Device, device
from strop.runtime.gpu_session import GpuContext
from strop.target.base import Target
from strop.target.detect import parse
from strop.tune.gpu import _as_narrow
from tests.kernels import regions
from tests.kernels.gpu.cases import cases
from tests.kernels.harness import GUARD, buffer_for, results

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def target() -> Target:
    return parse(f"cuda:sm_{device().capability}")


def _run(gpu: Device, emitted: GpuEmitted, code: Sequence[Cubin], region: Region, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """The results; AssertionError when something outside of them was written, or a lock left set."""
    ins = {k: buffer_for(o.view, o.logical if o.const is not None else arrays[k]) for k, o in enumerate(region.operands) if o is not None}
    outs = [buffer_for(view) for view in region.outs]
    before = [o.copy() for o in outs]
    memory: list[int] = []

    def place(array: np.ndarray) -> int:
        memory.append(gpu.allocate(array.nbytes))
        gpu.to_device(memory[-1], array.ctypes.data, array.nbytes)
        return memory[-1]

    places = [place(o) for o in outs]
    pointers = []
    for pointer in emitted.pointers:
        if isinstance(pointer, Packed):
            pointers.append(place(np.ascontiguousarray(pointer.array)))
        elif isinstance(pointer, Operand):
            pointers.append(place(ins[pointer.index]) + GUARD * ins[pointer.index].itemsize)
        else:
            pointers.append(places[pointer.index] + GUARD * outs[pointer.index].itemsize)
    locks = np.zeros(max(1, emitted.locks), np.int32)
    pointers += [place(np.full(emitted.workspace // 4, np.nan, np.float32))] if emitted.workspace else []
    pointers += [place(locks)] if emitted.locks else []
    stream = gpu.stream()
    for launch, cubin in zip(emitted.launches, code, strict=True):
        module, function = gpu.function(cubin.code, cubin.function, cubin.shared)
        gpu.launch(function, launch.grid, cubin.warps, cubin.shared, stream, pointers, launch.cooperative)
        gpu.call("cuStreamSynchronize", stream)
        gpu.call("cuModuleUnload", module)
    for array, pointer in zip(outs, places, strict=True):
        gpu.to_host(array.ctypes.data, pointer, array.nbytes)
    if emitted.locks:
        gpu.to_host(locks.ctypes.data, pointers[-1], locks.nbytes)
    for pointer in memory:
        gpu.free(pointer)
    assert not locks.any(), f"{region.name}: a lock is left set"
    return results(region, outs, before)


@pytest.mark.parametrize("kernel", GPU_KERNELS, ids=lambda k: k.name)
def test_every_kernel_on_samples_that_it_accepts(kernel, target):
    gpu = device()
    found = [case for name in regions.all_names() for case in cases(kernel, name, target, lambda k, r: True, most=3 if kernel.name == "loops" else 8)]
    assert found or kernel.name in ("channel_pad", "recurrent_persistent")
    emitted: list[GpuEmitted] = []
    jobs: list[list[Job]] = []
    for region, _ in found:
        params: Any = min(kernel.space(region, target), key=lambda p, r=region: kernel.cost(r, p, target))
        one = kernel.emit(region, params, target)
        assert isinstance(one, GpuEmitted)
        emitted.append(one)
        jobs.append(jobs_of(one, [False] * len(one.pointers), kernel.name, target))
    code = iter(compile_all([job for row in jobs for job in row]))
    problems = []
    for (region, arrays), one, row in zip(found, emitted, jobs, strict=True):
        made = [next(code) for _ in row]
        broken = [c for c in made if isinstance(c, str)]
        if broken:
            problems.append(f"{region.name}: {broken[0][:300]}")
            continue
        results = _run(gpu, one, [c for c in made if isinstance(c, Cubin)], region, arrays)
        wanted = expected(region, arrays)
        tolerant = _as_narrow(region)
        problems += [f"{region.name}: {text}" for k, (a, b) in enumerate(zip(results, wanted, strict=True)) if (text := difference(tolerant, k, a, b))]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_digits_are_named_as_on_the_processor(precision, target, tmp_path):
    images, labels = demo_data.held_back_digits()
    build(demo_data.lenet_path(), target=target, level=0, precision=precision).save(tmp_path / "lenet.strop")
    engine = load(tmp_path / "lenet.strop")
    right = sum(int(np.argmax(engine(images[k : k + 1].astype(np.float32)))) == labels[k] for k in range(300))
    assert right >= 290


def test_contexts_run_at_once(target):
    engine = build(demo_data.lenet_path(), target=target, level=0)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((1, 1, 28, 28)).astype(np.float32) for _ in range(4)]
    wanted = [engine(x) for x in inputs]
    results: list[list[np.ndarray]] = [[] for _ in inputs]

    def work(number: int) -> None:
        context = engine.context()
        results[number] = [context(inputs[number]) for _ in range(50)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found, want in zip(results, wanted, strict=True):
        assert len(found) == 50 and all(np.array_equal(y, want) for y in found)


def test_inputs_and_outputs_may_stay_on_the_device(target):
    torch = pytest.importorskip("torch")
    engine = build(demo_data.lenet_path(), target=target, level=0)
    context = engine.context()
    assert isinstance(context, GpuContext)
    x = torch.randn(1, 1, 28, 28, device="cuda")
    torch.as_tensor(context.device_inputs["input"], device="cuda").copy_(x)
    torch.cuda.synchronize()
    context.launch()
    context.synchronize()
    found = torch.as_tensor(context.device_outputs["logits"], device="cuda").cpu().numpy()
    np.testing.assert_allclose(found, engine(x.cpu().numpy()), rtol=1e-6)


def test_tensors_of_the_device_go_in_and_out(target):
    torch = pytest.importorskip("torch")
    engine = build(demo_data.lenet_path(), target=target, level=0)
    context = engine.context()
    assert isinstance(context, GpuContext)
    for _ in range(20):
        x = torch.randn(1, 1, 28, 28, device="cuda")
        wanted = engine(x.cpu().numpy())
        y = torch.full((1, 10), torch.nan, device="cuda")
        context.run({"input": x}, out={"logits": y})
        np.testing.assert_array_equal(y.cpu().numpy(), wanted)
        np.testing.assert_array_equal(torch.from_dlpack(context.device_outputs["logits"]).cpu().numpy(), wanted)
        np.testing.assert_array_equal(context(x), wanted)


def test_steps_are_timed(target):
    engine = build(demo_data.lenet_path(), target=target, level=0)
    times = engine.profile(runs=1)
    assert len(times) == len(engine.manifest["steps"]) and all(0 < t.nanoseconds < 1e8 for t in times)


def test_measuring_chooses_and_is_remembered(target, tmp_path, monkeypatch):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    first = build(demo_data.lenet_path(), target=target, level=1, precision="fp16")
    measured = [step["measured_ns"] for step in first.manifest["steps"]]
    assert all(ns is not None for ns in measured) and not first.manifest["notes"]
    again = build(demo_data.lenet_path(), target=target, level=1, budget=0.0, precision="fp16")
    assert [s["kernel"] for s in again.manifest["steps"]] == [s["kernel"] for s in first.manifest["steps"]]


@pytest.mark.parametrize(("kind", "hidden", "samples"), [(LSTM, 512, 1), (LSTM, 320, 16), (LSTM, 512, 64), (LSTM, 256, 256), (GRU, 512, 64), (GRU, 200, 3), (RNN, 1024, 33)])
def test_programs_that_keep_weights_wait_for_each_other(kind, hidden, samples, target):
    """All choices of parameters, three times each: a race would show as a difference."""
    rng, gpu, kernel = np.random.default_rng(3), device(), recurrent_persistent.KERNEL
    for op in {kind.default("bidirectional", projected=True), *([kind.default("reverse", projected=True, linear_before_reset=True)] if kind is GRU else [])}:
        sample = kind._sample(rng, op, (12, samples, 4, hidden), set(kind.names), dt.f16)
        sample.inputs[op.operand_names.index("r")][...] *= np.float16(hidden**-0.5)
        region, arrays = regions.anchored(sample, "dense", rng)
        wanted, choices = expected(region, arrays), kernel.space(region, target)
        assert choices
        emitted = [kernel.launches(region, params, target) for params in choices]
        code = compile_all([job for one in emitted for job in jobs_of(one, [False] * len(one.pointers), kernel.name, target)])
        for params, one, cubin in zip(choices, emitted, code, strict=True):
            assert isinstance(cubin, Cubin), (params, cubin)
            results = [_run(gpu, one, [cubin], region, arrays) for _ in range(3)]
            assert not [text for k, (a, b) in enumerate(zip(results[0], wanted, strict=True)) if (text := difference(region, k, a, b))], params
            for again in results[1:]:
                for a, b in zip(results[0], again, strict=True):
                    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-3), ("fp16", 1e-2)])
@pytest.mark.parametrize(("kind", "hidden", "samples"), [(LSTM, 96, 1), (LSTM, 200, 33), (GRU, 64, 5), (GRU, 200, 1), (RNN, 130, 20)])
def test_recurrent_engines(kind, hidden, samples, precision, limit, target):
    rng = np.random.default_rng(1)
    op = kind.default("bidirectional")
    shapes = {"x": (12, samples, 40), "w": (2, op.gates * hidden, 40), "r": (2, op.gates * hidden, hidden), "b": (2, 2 * op.gates * hidden)}
    arrays = {name: rng.uniform(-1, 1, shape).astype(np.float32) / (1.0 if name == "x" else hidden**0.5) for name, shape in shapes.items()}
    graph = Graph("recurrence")
    x = graph.add_input("x", Type(dt.f32, shapes["x"]))
    node = graph.add(op, [x, *(graph.add_const(arrays[n], n) for n in ("w", "r", "b"))], name="layer")
    graph.set_outputs(node.outputs)
    engine = build(graph, target=target, level=0, precision=precision)
    for _ in range(2):
        for found, wanted in zip(engine(arrays["x"]), op.reference(*(a.astype(np.float64) for a in arrays.values())), strict=True):
            assert np.linalg.norm(found - wanted) <= limit * np.linalg.norm(wanted)
