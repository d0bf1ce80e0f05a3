"""Calls of cuBLASLt and cuDNN over fakes of them: what is described, in which order calls are made, and that all is given back."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.cli.inspect import _foot
from strop.codegen.triton import Cubin, GpuModule
from strop.engine.build import build
from strop.engine.describe import describe
from strop.engine.engine import load
from strop.engine.library_calls import LibraryCall, call_of
from strop.engine.options import machine_of
from strop.errors import RuntimeFailure
from strop.runtime import gpu_library_files
from strop.runtime.gpu_libraries import ready
from strop.runtime.gpu_library_files import NoAlgorithm
from strop.runtime.gpu_session import GpuContext
from strop.tune import gpu as tuning
from strop.tune.records import HEADER, code_of, path_of
from tests.gpu.library_net import calls_of, network, steps_of
from tests.runtime.fake_libraries import VERSIONS, FakeLibrary, install
from tests.runtime.test_gpu_session import driver  # noqa: F401


@pytest.fixture
def fakes(monkeypatch) -> dict[str, FakeLibrary]:
    return install(monkeypatch)


def product(rank: int = 1, act: str = "relu", **changes: Any) -> dict[str, Any]:
    """y[1, 16, 24] = act(x[1, 16, 8] w[1, 8, 24] + bias + added), w stored column by column, rows of y 32 apart."""
    operands = [
        ["x", "f16", [1, 16, 8], [128, 8, 1]], ["w", "f16", [1, 8, 24], [192, 1, 8]], ["bias", "f16", [24], [1]], ["added", "f16", [1, 16, 24], [512, 32, 1]],
        ["y", "f16", [1, 16, 24], [512, 32, 1]],
    ]  # fmt: skip
    return {"library": "cublaslt", "version": VERSIONS["cublaslt"], "rank": rank, "act": act, "operands": operands, "window": [], "tf32": False, **changes}


def convolution(rank: int = 1, act: str = "relu", **changes: Any) -> dict[str, Any]:
    """y[2, 16, 5, 5] = act(conv(x[2, 8, 9, 9], w[16, 8, 3, 3]) + bias + added), strides of 2, zeros at the end alone."""
    operands = [
        ["x", "f16", [2, 8, 9, 9], [648, 1, 72, 8]], ["w", "f16", [16, 8, 3, 3], [72, 1, 24, 8]], ["bias", "f16", [16], [1]],
        ["added", "f16", [2, 16, 4, 4], [256, 1, 64, 16]], ["y", "f16", [2, 16, 4, 4], [256, 1, 64, 16]],
    ]  # fmt: skip
    return {
        "library": "cudnn", "version": VERSIONS["cudnn"], "rank": rank, "act": act, "operands": operands, "window": [0, 0, 1, 1, 2, 2, 1, 1], "tf32": False, **changes,
    }  # fmt: skip


@pytest.mark.parametrize("row", [product(), convolution()], ids=["cublaslt", "cudnn"])
def test_rows_and_calls(row):
    call = call_of(row)
    assert isinstance(call, LibraryCall) and call.row() == row and call.names == ("x", "w", "bias", "added", "y")
    assert call.operands["x"].reach == 2 * int(np.prod(call.operands["x"].shape))


def _attributes(fake: FakeLibrary, function: str) -> list[tuple[int, int]]:
    return [(arguments[1].value, arguments[2]._obj.value) for name, arguments in fake.calls if name == function]


def test_a_product_is_described_the_other_way_round(fakes):
    fake, seen = fakes["cublaslt"], []
    fake.enqueued = lambda name, addresses: seen.append(addresses)
    call = ready(product(), "fc", "here")
    created = [name for name, _ in fake.calls if name.endswith("Create")]
    assert created == ["cublasLtCreate", "cublasLtMatmulDescCreate", *["cublasLtMatrixLayoutCreate"] * 4, "cublasLtMatmulPreferenceCreate"]
    layouts = [tuple(a.value for a in arguments[1:]) for name, arguments in fake.calls if name == "cublasLtMatrixLayoutCreate"]
    assert layouts == [(2, 8, 24, 8), (2, 8, 16, 8), (2, 24, 16, 32), (2, 24, 16, 32)]  # w, x, y, added: f16, rows, columns, step
    # transposed w, x as it is, ReLU and bias, bias of f16; the bias's address is given with the call
    assert _attributes(fake, "cublasLtMatmulDescSetAttribute")[:4] == [(3, 1), (4, 0), (7, 6), (26, 2)]
    assert dict(_attributes(fake, "cublasLtMatmulPreferenceSetAttribute")) == {1: 32 << 20, 5: 16, 6: 16, 7: 16, 8: 16}
    call.enqueue([16, 32, 48, 64, 80, 96], 7)
    assert seen == [(32, 16, 64, 80, 96)] and fake.beta == 1.0 and _attributes(fake, "cublasLtMatmulDescSetAttribute")[-1] == (8, 48)
    call.close()
    assert len(fake.made) == 1  # the handle


def test_a_product_without_a_sum(fakes):
    fake, seen = fakes["cublaslt"], []
    fake.enqueued = lambda name, addresses: seen.append(addresses)
    x, w, _, _, y = product()["operands"]
    ready(product(rank=0, act="none", operands=[x, w, y]), "fc", "here").enqueue([16, 32, 80, 96], 7)
    assert seen == [(32, 16, 80, 80, 96)] and fake.beta == 0.0 and (7, 1) in _attributes(fake, "cublasLtMatmulDescSetAttribute")


def test_products_of_a_batch(fakes):
    x, w, y = (["x", "bf16", [3, 16, 8], [128, 1, 16]], ["w", "bf16", [3, 8, 24], [0, 24, 1]], ["y", "f32", [3, 16, 24], [384, 24, 1]])
    ready(product(rank=0, act="none", operands=[x, w, y]), "scores", "here")
    fake = fakes["cublaslt"]
    assert _attributes(fake, "cublasLtMatmulDescSetAttribute")[:3] == [(3, 0), (4, 1), (7, 1)]
    assert _attributes(fake, "cublasLtMatrixLayoutSetAttribute") == [(5, 3), (6, 0), (5, 3), (6, 128), (5, 3), (6, 384)]


def test_a_convolution_is_a_graph_of_operations(fakes):
    fake, seen = fakes["cudnn"], []
    fake.enqueued = lambda name, addresses: seen.append(addresses)
    call = ready(convolution(), "conv", "here")
    (graph,) = (a for n, a in fake.attributes.items() if fake.kinds[n] == 15)
    kinds = [fake.kinds[n] for n in graph[801]]
    assert kinds == [10, 13, 13, 13]  # a convolution and three pointwise operations
    first, added, bias, act = (fake.attributes[n] for n in graph[801])
    assert fake.attributes[first[704][0]][902] == [2, 8, 9, 9] and fake.attributes[first[703][0]][903] == [72, 1, 24, 8]
    assert first[705] == added[751] and added[753] == bias[751] and bias[753] == act[751]  # each reads what the one before gives
    assert [fake.attributes[n[0]][906] for n in (bias[752], added[752], act[753])] == [[3], [4], [5]] and 752 not in act
    assert fake.attributes[bias[752][0]][902] == [1, 16, 1, 1] and fake.attributes[bias[753][0]][907] == [True]
    assert [fake.attributes[n[750][0]][0] for n in (bias, added, act)] == [[0], [0], [100]]
    window = fake.attributes[first[702][0]]
    assert (window[105], window[104], window[103], window[102]) == ([0, 0], [1, 1], [2, 2], [1, 1])
    before = set(fake.made)
    call.enqueue([16, 32, 48, 64, 80, 96], 7)
    assert seen == [(16, 32, 48, 64, 80, 96)] and fake.made == before
    call.close()
    assert len(fake.made) == 1  # the handle


@pytest.mark.parametrize("row", [product(rank=3), convolution(rank=3)], ids=["cublaslt", "cudnn"])
def test_a_heuristic_that_names_fewer_algorithms(row, fakes):
    with pytest.raises(NoAlgorithm, match="algorithm") as caught:
        ready(row, "layer", "here")
    assert "build again on this machine" in str(caught.value) and len(fakes[row["library"]].made) == 1


def test_a_plan_that_does_not_run_here(fakes):
    fakes["cudnn"].unfit = 5
    with pytest.raises(NoAlgorithm, match="it says why"):
        ready(convolution(), "layer", "here")


@pytest.mark.parametrize(("row", "function", "said"), [(product(), "cublasLtMatmul", "INTERNAL_ERROR"), (convolution(), "cudnnBackendExecute", "it says why")], ids=["cublaslt", "cudnn"])
def test_failures_say_which_function(row, function, said, fakes):
    call = ready(row, "layer", "here")
    fakes[row["library"]].status[function] = 14
    with pytest.raises(RuntimeFailure, match=function) as caught:
        call.enqueue([16, 32, 48, 64, 80, 96], 7)
    assert said in str(caught.value)


def test_files_are_looked_for_in_packages(monkeypatch, tmp_path):
    file = tmp_path / "cu13" / "lib" / "libcublasLt.so.13"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setattr(gpu_library_files.importlib.util, "find_spec", lambda name: type("Spec", (), {"submodule_search_locations": [str(tmp_path)]}))
    opened: list[str] = []
    monkeypatch.setattr(gpu_library_files.ctypes, "CDLL", lambda path: opened.append(path) or path)
    gpu_library_files.load.cache_clear()
    assert gpu_library_files.load("cublaslt") == str(file) and opened == [str(file)]
    gpu_library_files.load.cache_clear()


# ---- engines


@pytest.fixture
def engine_path(fakes, monkeypatch, tmp_path) -> Path:
    """An engine whose records say that the libraries' second algorithms are the fastest."""
    pytest.importorskip("triton", reason="the package triton is not installed")
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "runs_here", lambda target: False)
    monkeypatch.setattr(GpuModule, "compile", lambda self, done=None: [Cubin(job.function, b"code", 0, 4) for job in self.jobs])
    target = machine_of("cuda:sm_90+libraries", None)
    write_records(target)
    build(network(), target=target, level=1, precision="fp16").save(tmp_path / "calls.strop")
    return tmp_path / "calls.strop"


def write_records(target: Any) -> None:
    lines = []
    for region, found in calls_of(target):
        chosen = next(c for c in found if c.params.rank == 1)
        lines += [f"{region.digest()} NVIDIA-H100 {target.cores} l2 {code_of(chosen.kernel)} 1 {chosen.label}"]
    path = path_of(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *lines]) + "\n")


def test_an_engine_of_calls(engine_path, driver, fakes):  # noqa: F811
    engine = load(engine_path)
    assert engine.manifest["libraries"] == describe(engine).libraries == VERSIONS
    assert ("libraries", "cublaslt 13.1.0, cudnn 9.28.1: the engine needs them") in _foot(describe(engine))
    kernels = [s["kernel"] for s in engine.manifest["steps"]]
    assert kernels.count("cublaslt(version=13.1.0, rank=1)") == 3 and kernels.count("cudnn(version=9.28.1, rank=1)") == 5
    made: list[Any] = []
    for fake in fakes.values():
        fake.enqueued = lambda name, addresses: (made if driver.recording is None else driver.recording).append((name, addresses))
    context = engine.context()
    assert isinstance(context, GpuContext) and len(made) == 8  # each once before they are captured
    (graph,) = driver.graphs.values()
    assert [row[0] if row[0] in VERSIONS else "launch" for row in graph] == [k.split("(")[0] if k.startswith(("cu",)) else "launch" for k in kernels]
    assert [row for row in graph if row[0] in VERSIONS] == made and all(a for _, addresses in made for a in addresses)
    context.close()
    del context, engine
    gc.collect()
    assert all(len(fake.made) == 1 for fake in fakes.values())  # the handles


def test_records_of_calls_are_nothing_to_a_target_without(engine_path):
    plain = build(network(), target="cuda:sm_90", level=1, precision="fp16")
    assert "libraries" not in plain.manifest and not [s for s in plain.manifest["steps"] if s["kernel"].startswith(("cublaslt", "cudnn"))]


def test_without_records_nothing_is_called(fakes, monkeypatch, tmp_path):
    pytest.importorskip("triton", reason="the package triton is not installed")
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    steps = steps_of(machine_of("cuda:sm_90+libraries", None))
    assert any(not c.kernel.estimated for s in steps for c in s.candidates) and all(s.chosen.kernel.estimated for s in steps)
