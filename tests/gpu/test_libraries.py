"""On an NVIDIA GPU with cuBLASLt and cuDNN: their kernels on regions, and engines that call them. Run with ``pytest --gpu tests/gpu``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from strop.engine.build import build
from strop.engine.engine import load
from strop.engine.options import machine_of
from strop.errors import TargetError
from strop.ir.interp import run as interpret
from strop.runtime.gpu_driver import device
from strop.runtime.gpu_library_files import versions
from strop.runtime.gpu_session import GpuContext
from strop.target.base import Target
from strop.tune import gpu as tuning
from tests.gpu.library_net import calls_of, network

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def target() -> Target:
    try:
        versions()
    except TargetError as error:
        pytest.skip(error.what)
    return machine_of(f"cuda:sm_{device().capability}+libraries", None)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_every_algorithm_agrees_with_the_oracle(precision, target):
    if precision == "fp32":
        target = replace(target, extras=(*target.extras, "tf32"))
    results: dict[str, int | str] = {}
    owner = tuning._Gpu(target, False)
    for region, found in calls_of(target, precision):
        for candidate in found:
            emitted: Any = candidate.emit(region, target)
            name = f"{region.name} {candidate.label}"
            owner.run(tuning.Task(region, found), [(candidate, emitted, [])], lambda t, c, result, why, name=name: results.update({name: f"{result} {why}" if why else result}))
    problems = [f"{name}: {result}" for name, result in results.items() if not isinstance(result, int)]
    print(precision, results)
    assert len(results) >= 8 and not problems, "\n".join(problems)


def test_an_engine_of_calls_is_one_graph(target, tmp_path, monkeypatch):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning.Task, "first", lambda task, depth: [*task._own(), *task.calls(depth)])
    put = tuning._Region.timed
    monkeypatch.setattr(tuning._Region, "timed", lambda self, label, emitted, code: _favoured(put(self, label, emitted, code), emitted))
    graph = network()
    engine = build(graph, target=target, level=1, precision="fp16")
    called = [s["kernel"].split("(")[0] for s in engine.manifest["steps"] if s["kernel"].startswith(("cublaslt", "cudnn"))]
    assert sorted(called) == ["cublaslt"] * 3 + ["cudnn"] * 5 and engine.manifest["libraries"] == dict(target.libraries)
    engine.save(tmp_path / "calls.strop")
    again = load(tmp_path / "calls.strop")
    rng = np.random.default_rng(4)
    context = again.context()
    assert isinstance(context, GpuContext)
    for _ in range(3):
        feeds = {v.name: rng.standard_normal(tuple(map(int, v.shape))).astype(np.float32) for v in graph.inputs}
        wanted, found = interpret(graph, feeds), context.run(feeds)
        for name, array in wanted.items():
            assert np.linalg.norm(found[name] - array) <= 1e-2 * np.linalg.norm(array)
    assert all(0 < t.nanoseconds < 1e8 for t in context.profile(runs=1))
    without = build(graph, target=f"cuda:sm_{device().capability}", level=1, budget=0.0, precision="fp16")
    assert not [s for s in without.manifest["steps"] if s["kernel"].startswith(("cublaslt", "cudnn"))]


def _favoured(result: tuple[int | str, str], emitted: Any) -> tuple[int | str, str]:
    """Times of libraries as if they were the best."""
    ns, why = result
    return (max(1, ns // 1000), why) if isinstance(ns, int) and emitted.library is not None else (ns, why)
