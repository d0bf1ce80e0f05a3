"""Calls of libraries are measured beside other candidates, over a driver and libraries that only write down what they are told."""

from __future__ import annotations

from typing import Any

import pytest

from strop.codegen.triton import Cubin
from strop.engine.build import build
from strop.runtime import gpu_driver
from strop.target.detect import parse
from strop.tune import gpu as tuning
from strop.tune.records import path_of
from tests.gpu.library_net import network
from tests.runtime.fake_libraries import FakeLibrary, install
from tests.runtime.test_gpu_session import FakeDriver

CALL = "call of "


class _Timed(FakeDriver):
    """Launches of libraries' first algorithms take 3 ms, of others 1 ms, of kernels 2 ms."""

    rank = -1

    def cuGraphLaunch(self, graph, stream):  # noqa: N802
        calls = [row for row in self.graphs[graph] if str(row[0]).startswith(CALL)]
        self.ms = 2.0 if not calls else 3.0 if self.rank == 0 else 1.0
        return 0, None

    def cuEventElapsedTime(self, begin, end):  # noqa: N802
        return 0, self.ms

    def cuLaunchKernel(self, *arguments):  # noqa: N802
        return (0, None) if self.recording is None else super().cuLaunchKernel(*arguments)


@pytest.fixture
def machine(monkeypatch, tmp_path) -> tuple[_Timed, dict[str, FakeLibrary]]:
    pytest.importorskip("triton", reason="the package triton is not installed")
    driver, fakes = _Timed(), install(monkeypatch)
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    monkeypatch.setattr(gpu_driver, "_driver", lambda: driver)
    monkeypatch.setattr(gpu_driver, "_DEVICES", {})
    monkeypatch.setattr(tuning, "compile_all", lambda jobs: [Cubin(job.function, b"code", 0, 4) for job in jobs])
    monkeypatch.setattr("strop.codegen.triton.compile_all", lambda jobs, done=None: [Cubin(job.function, b"code", 0, 4) for job in jobs])
    real = tuning.ready

    def ready(call: Any, step: str, where: str) -> Any:
        made = real(call, step, where)

        def enqueue(pointers: Any, stream: int) -> None:
            driver.rank = call["rank"]
            if driver.recording is not None:
                driver.recording.append((CALL + call["library"], tuple(pointers)))

        monkeypatch.setattr(made, "enqueue", enqueue)
        return made

    monkeypatch.setattr(tuning, "ready", ready)
    return driver, fakes


def test_the_fastest_is_chosen_and_remembered(machine, monkeypatch):
    _, fakes = machine
    monkeypatch.setattr(tuning._Region, "wrong", lambda self, task: [])
    fakes["cudnn"].algorithms = 1
    engine = build(network(), target="cuda:sm_90+libraries", level=1, precision="fp16")
    kernels = [s["kernel"] for s in engine.manifest["steps"]]
    assert kernels.count("cublaslt(version=13.1.0, rank=1)") == 3 and not [k for k in kernels if k.startswith("cudnn")]
    lines = [line.split(" ", 6)[5:] for line in path_of(parse("cuda:sm_90")).read_text().splitlines()[1:]]
    assert {label for _, label in lines if label.startswith("cu")} == {*(f"cublaslt(version=13.1.0, rank={k})" for k in range(3)), "cudnn(version=9.28.1, rank=0)"}
    again = build(network(), target="cuda:sm_90+libraries", level=1, budget=0.0, precision="fp16")
    assert [s["kernel"] for s in again.manifest["steps"]] == kernels


def test_a_wrong_call_is_not_chosen(machine, monkeypatch):
    def differ(region: Any, index: int, found: Any, wanted: Any) -> str | None:
        return "it differs" if "cublaslt" in asked[-1] or "cudnn" in asked[-1] else None

    asked: list[str] = []
    results = tuning._Region._results
    monkeypatch.setattr(tuning._Region, "_results", lambda self, label: asked.append(label) or results(self, label))
    monkeypatch.setattr("strop.kernels.oracle.difference", differ)
    engine = build(network(), target="cuda:sm_90+libraries", level=1, precision="fp16")
    assert not [s for s in engine.manifest["steps"] if s["kernel"].startswith("cu")]
    assert sum("its result is wrong" in note and " cu" in note for note in engine.manifest["notes"]) == 16


def test_large_regions_are_compared_with_another_kernel(machine, monkeypatch):
    monkeypatch.setattr(tuning, "_CHECKED", 0)
    pairs: list[list[str]] = []
    results, wrong = tuning._Region._results, tuning._Region.wrong

    def each(self: Any, task: Any) -> Any:
        pairs.append([])
        return wrong(self, task)

    monkeypatch.setattr(tuning._Region, "wrong", each)
    monkeypatch.setattr(tuning._Region, "_results", lambda self, label: pairs[-1].append(label.split("(")[0]) or results(self, label))
    build(network(), target="cuda:sm_90+libraries", level=1, precision="fp16")
    compared = [pair for pair in pairs if pair and pair[0] in ("cublaslt", "cudnn")]
    assert len(compared) == 8 and all(pair[1] in ("gemm", "conv_gemm") for pair in compared)
