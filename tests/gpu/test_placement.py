"""On an NVIDIA GPU: engines that it shares with the processor. Run with ``pytest --gpu tests/gpu``; needs a C compiler."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import pytest

from strop.engine.build import build
from strop.engine.engine import Engine, load
from strop.errors import UnsupportedError
from strop.frontend.onnx.reader import read_onnx
from strop.ir import interp
from strop.ir import shape as sh
from strop.ir.graph import Graph
from strop.ir.op import Array
from strop.runtime.gpu_driver import device
from strop.runtime.gpu_session import GpuContext
from strop.target.base import Target
from strop.target.detect import parse
from tests.engine.test_loops import collatz, dear_branches
from tests.fuzz.generate import make_case
from tests.fuzz.meaning import difference, meaning
from tests.runtime.gpu_emulator import on_processor
from tests.runtime.test_gpu_host import alternating, images, is_tanh, places

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore::strop.errors.PlacementWarning")]


@pytest.fixture(scope="module")
def target() -> Target:
    return parse(f"cuda:sm_{device().capability}")


def _agree(engine: Engine, graph: Graph, feeds: Mapping[str, Array]) -> None:
    for _ in range(2):
        got = engine.run(feeds)
        for name, want in interp.run(graph, dict(feeds)).items():
            assert got[name].shape == want.shape
            np.testing.assert_allclose(got[name], want, 1e-3, 1e-5, err_msg=name)


def test_steps_in_turns(target, monkeypatch, tmp_path):
    on_processor(monkeypatch, is_tanh)
    graph = alternating()
    build(graph, target=target, level=0, threads=2).save(tmp_path / "net.strop")
    engine = load(tmp_path / "net.strop")
    assert [f.step for f in engine.placement] == ["middle"]
    for x in images():
        _agree(engine, graph, {"x": x})
    times = engine.profile(runs=2)
    assert len(times) == 5 and all(0 < t.nanoseconds < 1e8 for t in times)


def test_inputs_and_outputs_on_the_device(target, monkeypatch):
    torch = pytest.importorskip("torch")
    on_processor(monkeypatch, is_tanh)
    engine = build(alternating(), target=target, level=0)
    context = engine.context()
    assert isinstance(context, GpuContext)
    for image in images():
        wanted = engine.run({"x": image})
        x, t = torch.from_numpy(image).cuda(), torch.empty(4, 8, device="cuda")
        found = context.run({"x": x}, out={"t": t})
        np.testing.assert_array_equal(found["y"], wanted["y"])
        np.testing.assert_array_equal(t.cpu().numpy(), wanted["t"])
        torch.as_tensor(context.device_inputs["x"], device="cuda").copy_(x + 1)
        torch.cuda.synchronize()
        context.launch()
        np.testing.assert_array_equal(torch.from_dlpack(context.device_outputs["t"]).cpu().numpy(), engine.run({"x": image + 1})["t"])


def test_sizes_loops_and_branches(target):
    engine, graph = build(places(), target=target, level=0), places()
    for x in images():
        _agree(engine, graph, {"x": x})
    ranges = {"all[]": "1..200(20)"}
    engine, graph = build(collatz(), target=target, level=0, shapes=ranges), read_onnx(collatz(), ranges)
    for x, limit, go in ((27, 500, True), (6, 3, True), (9, 10, False)):
        _agree(engine, graph, {"x": np.array([x, x + 1]), "limit": np.asarray(limit), "go": np.asarray(go), "factor": np.array(0.5, np.float32)})
    engine, graph = build(dear_branches(), target=target, level=0), read_onnx(dear_branches())
    for seed in range(3):
        _agree(engine, graph, {"x": np.random.default_rng(seed).standard_normal((32, 64)).astype(np.float32)})


@pytest.mark.parametrize("seed", range(20, 32))
def test_random_graphs_dealt_at_random(target, monkeypatch, seed):
    on_processor(monkeypatch, lambda region: zlib.crc32(f"{region.name} {seed}".encode()) % 3 == 0)
    case = make_case(seed)
    if any(sh.symbols(value.shape) for value in case.graph.inputs):
        pytest.skip("inputs of free sizes are refused")
    try:
        engine = build(case.graph, target=target, level=0)
    except UnsupportedError:
        pytest.skip("all of it fell to the processor")
    meant = meaning(case.graph, case.feed)
    for _ in range(2):
        assert (problem := difference(engine.run(case.feed), meant)) is None, problem
