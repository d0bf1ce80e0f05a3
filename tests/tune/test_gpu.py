"""Which candidates are measured on a GPU, and what machines without one do with records."""

from __future__ import annotations

from typing import Any

import pytest

from strop import demo_data
from strop.engine.build import build, portable
from strop.kernels.base import Candidate
from strop.kernels.cuda_libraries import cublaslt, cudnn
from strop.kernels.cuda_libraries.calls import Rank
from strop.kernels.triton.conv_gemm import KERNEL as CONV
from strop.kernels.triton.product import Params, StreamParams
from strop.lower.pipeline import lower
from strop.quantize.narrow import narrow
from strop.quantize.precision import decide
from strop.target.detect import parse
from strop.trace import Trace
from strop.tune import gpu
from strop.tune.records import HEADER, code_of, path_of


def _task(*params: Params) -> gpu.Task:
    return gpu.Task(None, [Candidate(CONV, p) for p in params])  # type: ignore[arg-type]


A, B, C, D = Params(64, 64, 32, 4, 3), Params(64, 64, 32, 4, 4), Params(128, 64, 32, 4, 3), Params(128, 64, 32, 8, 2)


def test_first_come_different_shapes():
    task = _task(A, B, C, D)
    assert [c.params for c in task.first(2)] == [A, C]
    assert [c.params for c in task.first(None)] == [A, B, C, D]
    task.found[task.candidates[0].label] = 5
    assert [c.params for c in task.first(2)] == [C]


def test_then_the_neighbours_of_the_fastest():
    task = _task(A, B, C, D)
    task.found = {task.candidates[0].label: 9, task.candidates[2].label: 5}
    assert [c.params for c in task.neighbours(8)] == [B, D]
    task.found[task.candidates[0].label] = "wrong"
    assert [c.params for c in task.neighbours(8)] == [D]


def _calls(kernel: Any, count: int) -> list[Candidate]:
    return [Candidate(kernel, Rank("1.0", k)) for k in range(count)]


def test_calls_of_libraries_come_beside_the_others_with_one_to_compare_them_with():
    task = gpu.Task(None, [*_task(A, B, C, D).candidates, *_calls(cublaslt.KERNEL, 3), *_calls(cudnn.KERNEL, 1)])  # type: ignore[arg-type]
    assert [c.label.split("(")[0] for c in task.first(2)] == ["conv_gemm"] * 2 + ["cublaslt"] * 2 + ["cudnn"]
    assert [c.params.rank for c in task.calls(None)] == [0, 1, 2, 0]
    task.found = {c.label: 9 - k for k, c in enumerate(task.candidates[:4])}
    assert [c.params for c in task.first(2)[:1]] == [D] and len(task.first(2)) == 4
    task.found.update({c.label: 5 for c in task.calls(None)})
    assert task.calls(None) == [] and task.first(2) == [] and not [c for c in task.neighbours(8) if not c.kernel.estimated]


def test_shares_of_rounds_are_neighbours_of_whole_tiles():
    shared = StreamParams(64, 64, 32, 4, 3, 1, 132)
    task = _task(A, shared, C)
    task.found = {task.candidates[0].label: 5}
    assert [c.params for c in task.neighbours(8)] == [shared, C]
    task.found = {task.candidates[1].label: 5}
    assert [c.params for c in task.neighbours(8)] == [A]


def test_no_gpu_is_no_error(monkeypatch):
    monkeypatch.setattr(gpu, "device", lambda: (_ for _ in ()).throw(gpu.RuntimeFailure("none")))
    assert not gpu.runs_here(parse("cuda:sm_90"))


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A machine without a GPU, with a cache of its own."""
    pytest.importorskip("triton", reason="the package triton is not installed")
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    monkeypatch.setattr(gpu, "runs_here", lambda target: False)
    return parse("cuda:sm_90")


def test_records_from_elsewhere_choose(elsewhere):
    plain = build(demo_data.lenet_path(), target=elsewhere, level=1, precision="fp16")
    assert any("no GPU" in note for note in plain.manifest["notes"])
    graph = portable(demo_data.lenet_path(), None, Trace())
    steps = lower(narrow(graph, decide(graph, "fp16")).graph, elsewhere, Trace()).steps
    conv = next(s for s in steps if s.chosen.kernel is CONV)
    other = conv.candidates[5]
    path = path_of(elsewhere)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = f"{conv.region.digest()} NVIDIA-H100 {elsewhere.cores} l2 {code_of(CONV)} 1234 {other.label}"
    path.write_text(f"{HEADER}\n{line}\n")
    chosen = build(demo_data.lenet_path(), target=elsewhere, level=1, precision="fp16").manifest["steps"]
    assert [s["measured_ns"] for s in chosen if s["kernel"] == other.label] == [1234]
