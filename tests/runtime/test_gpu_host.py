"""Engines that a GPU and the processor share, over a driver that computes on the host: what crosses, and that it arrives."""

from __future__ import annotations

import ctypes
import gc
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from strop import custom
from strop.engine.build import build
from strop.engine.engine import Engine, load
from strop.errors import PlacementWarning, RuntimeFailure, UnsupportedError
from strop.frontend.onnx.reader import read_onnx
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir import shape as sh
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ir.shape import Sym
from strop.kernels.base import Region
from strop.ops.custom import make as make_layer
from strop.ops.data import Concat, Reshape
from strop.ops.elementwise import make
from strop.ops.select import NonZero
from strop.ops.softmax import Softmax
from strop.runtime.gpu_session import GpuContext
from tests.custom_layers import COLLAPSE, DECAY_SOURCE, declare
from tests.engine.test_loops import collatz, dear_branches
from tests.fuzz.generate import make_case
from tests.fuzz.meaning import difference, meaning
from tests.runtime.gpu_emulator import Emulator, install, on_processor

pytestmark = [
    pytest.mark.filterwarnings("ignore::strop.errors.PlacementWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # numpy's, of the oracle
]


@pytest.fixture
def driver(monkeypatch) -> Emulator:
    pytest.importorskip("triton", reason="the package triton is not installed")
    return install(monkeypatch)


def is_tanh(region: Region) -> bool:
    return "tanh" in region.signature()


def alternating() -> Graph:
    """relu, softmax on the GPU; tanh on the processor; softmax, sum, softmax on the GPU."""
    graph = Graph("alternating")
    x = graph.add_input("x", Type(dt.f32, (4, 8)))
    first = graph.add(Softmax(1), [graph.add(make("relu"), [x]).output]).output
    middle = graph.add(make("tanh"), [first], name="middle", source=["middle"]).output
    last = graph.add(make("add"), [graph.add(Softmax(1), [middle]).output, first]).output
    graph.set_outputs([graph.add(Softmax(0), [last]).output, middle], ["y", "t"])
    return graph


def places() -> Graph:
    """Where a softmax is above a level, which only a run knows, and the softmax."""
    graph = Graph("places")
    x = graph.add_input("x", Type(dt.f32, (4, 8)))
    y = graph.add(Softmax(1), [graph.add(make("relu"), [x]).output]).output
    above = graph.add(make("gt"), [y, graph.add_const(np.float32(0.2), "level")]).output
    graph.set_outputs([graph.add(NonZero(Sym("places", 0, 16, 32)), [above]).outputs[0], y], ["places", "y"])
    return graph


def _agree(engine: Engine, graph: Graph, feeds: dict[str, np.ndarray]) -> None:
    got, wanted = engine.run(feeds), interp.run(graph, feeds)
    assert list(got) == list(wanted)
    for name, want in wanted.items():
        assert got[name].shape == want.shape
        np.testing.assert_allclose(got[name], want, 1e-5, 1e-6, err_msg=name)


def images(count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((4, 8)).astype(np.float32) for _ in range(count)]


def test_only_what_crosses_is_copied(driver, monkeypatch):
    on_processor(monkeypatch, is_tanh)
    graph = alternating()
    engine = build(graph, target="cuda:sm_90", level=0, threads=1)
    _agree(engine, graph, {"x": images()[0]})
    size = 4 * 8 * 4
    # the input, and tanh for the GPU and for its output; the first softmax for the processor, and the last for the caller
    assert driver.crossed == [3 * size, 2 * size] and len(driver.runs) == 2
    for x in images():
        _agree(engine, graph, {"x": x})


def test_the_engine_tells_its_placement(driver, monkeypatch, tmp_path):
    on_processor(monkeypatch, is_tanh)
    with pytest.warns(PlacementWarning, match=r"1 of 5 steps run on the processor x86-64-v3, .*: middle"):
        build(alternating(), target="cuda:sm_90+x86-64-v3", level=0).save(tmp_path / "net.strop")
    (found,) = load(tmp_path / "net.strop").placement
    assert (found.index, found.step, found.layers, found.target) == (2, "middle", ("middle",), "x86-64-v3") and found.reason
    sides = [step["side"] for step in load(tmp_path / "net.strop").manifest["steps"]]
    assert sides == ["cuda:sm_90", "cuda:sm_90", "x86-64-v3", "cuda:sm_90", "cuda:sm_90"]


def test_an_engine_of_the_gpu_alone_has_no_placement(driver):
    assert build(alternating(), target="cuda:sm_90", level=0, strict=True).placement == ()


def test_contexts_keep_to_themselves_and_give_everything_back(driver, monkeypatch):
    on_processor(monkeypatch, is_tanh)
    graph = alternating()
    engine = build(graph, target="cuda:sm_90", level=0, threads=2)
    first, second, third = images()
    one, two = engine.context(), engine.context()
    wanted = [interp.run(graph, {"x": x})["y"] for x in (first, second)]
    for _ in range(2):
        for context, x, want in ((one, first, wanted[0]), (two, second, wanted[1])):
            np.testing.assert_allclose(context.run({"x": x})["y"], want, 1e-5)
    assert isinstance(one, GpuContext)
    np.copyto(np.ctypeslib.as_array((ctypes.c_float * 32).from_address(one.device_inputs["x"].pointer)).reshape(4, 8), third)
    one.launch()
    one.synchronize()
    given = {"y": np.empty((4, 8), np.float32), "t": np.empty((4, 8), np.float32)}
    two.run({"x": third}, out=given)
    for name, want in interp.run(graph, {"x": third}).items():
        there = np.ctypeslib.as_array((ctypes.c_float * 32).from_address(one.device_outputs[name].pointer)).reshape(4, 8)
        np.testing.assert_allclose(there, want, 1e-5)
        np.testing.assert_allclose(given[name], want, 1e-5)
    times = one.profile(runs=1)
    assert [t.name for t in times] == [s["name"] for s in engine.manifest["steps"]] and times[2].nanoseconds != 100_000
    one.close()
    two.close()
    del one, two, context, engine
    gc.collect()
    assert not driver.memory


def test_a_failure_of_the_driver_within_a_part(driver, monkeypatch):
    on_processor(monkeypatch, is_tanh)
    engine = build(alternating(), target="cuda:sm_90", level=0, threads=1)
    x = images()[0]
    engine(x)
    driver.cuGraphLaunch = lambda graph, stream: (700,)
    driver.cuGetErrorName = lambda code: (0, b"CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(RuntimeFailure, match="CUDA driver") as caught:
        engine(x)
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in str(caught.value)
    del driver.cuGraphLaunch
    engine(x)


def test_both_sides_write_parts_of_one_value(driver, monkeypatch):
    on_processor(monkeypatch, is_tanh)
    graph = Graph("parts")
    x = graph.add_input("x", Type(dt.f32, (4, 8)))
    a, b = graph.add(Softmax(1), [x]).output, graph.add(make("tanh"), [x]).output
    c = graph.add(Softmax(0), [b]).output
    d = graph.add(make("tanh"), [a]).output
    whole = graph.add(Concat(0), [a, b, c, d]).output
    graph.set_outputs([graph.add(Softmax(0), [whole]).output, graph.add(make("tanh"), [whole]).output], ["y", "z"])
    engine = build(graph, target="cuda:sm_90", level=0, threads=1)
    assert 0 < len(engine.placement) < len(engine.manifest["steps"])
    for image in images():
        _agree(engine, graph, {"x": image})


def test_sizes_that_data_decides(driver):
    graph = places()
    engine = build(graph, target="cuda:sm_90", level=0, threads=1)
    assert [f.kind for f in engine.placement][:1] == ["non_zero"]
    counts = set()
    for image in images():
        _agree(engine, graph, {"x": image})
        counts.add(engine.run({"x": image})["places"].shape)
    assert len(counts) > 1


@pytest.fixture
def layers() -> Iterator[None]:
    """Custom layers, declared for one test: others iterate the table of ops."""
    declare()
    yield
    for name in custom.declared():
        custom.forget(name)


@pytest.mark.usefixtures("layers")
def test_custom_layers(driver):
    graph = Graph("custom")
    x = graph.add_input("x", Type(dt.f32, (4, 8)))
    native = graph.add(make_layer(DECAY_SOURCE, {"decay": 0.75}), [graph.add(Softmax(1), [x]).output]).output
    rows = graph.add(Reshape((1, 4, 8)), [graph.add(Softmax(1), [native]).output]).output
    path, length = graph.add(make_layer(COLLAPSE, {}), [rows]).outputs
    graph.set_outputs([graph.add(Softmax(2), [rows]).output, path, length], ["y", "path", "length"])
    engine = build(graph, target="cuda:sm_90", level=0, threads=1)
    assert [f.kernel.partition("(")[0] for f in engine.placement] == ["custom", "custom_callback"]
    for image in images():
        _agree(engine, graph, {"x": image})


def test_loops_and_branches(driver):
    ranges = {"all[]": "1..200(20)"}
    model = collatz()
    engine, graph = build(model, target="cuda:sm_90", level=0, threads=1, shapes=ranges), read_onnx(model, ranges)
    for number, limit, go in ((27, 500, True), (6, 3, True), (7, 0, True), (9, 10, False)):
        _agree(engine, graph, {"x": np.array([number, number + 1]), "limit": np.asarray(limit), "go": np.asarray(go), "factor": np.array(0.5, np.float32)})
    assert driver.runs
    engine, graph = build(dear_branches(), target="cuda:sm_90", level=0, threads=1), read_onnx(dear_branches())
    for seed in range(3):
        _agree(engine, graph, {"x": np.random.default_rng(seed).standard_normal((32, 64)).astype(np.float32)})


@pytest.mark.parametrize(("first", "count"), [(20, 15), pytest.param(100, 300, marks=pytest.mark.slow)])
def test_random_graphs_dealt_at_random(driver, monkeypatch, first, count):
    seed = first
    on_processor(monkeypatch, lambda region: zlib.crc32(f"{region.name} {seed}".encode()) % 3 == 0)
    shared = 0
    for seed in range(first, first + count):
        case = make_case(seed)
        if any(sh.symbols(value.shape) for value in case.graph.inputs):
            continue
        try:
            engine = build(case.graph, target="cuda:sm_90", level=0, threads=1)
        except UnsupportedError as error:
            assert "no kernel for cuda:sm_90 can do" in str(error)  # all of it fell to the processor
            continue
        meant = meaning(case.graph, case.feed)
        for _ in range(2):
            assert (problem := difference(engine.run(case.feed), meant)) is None, f"seed {seed}: {problem}"
        shared += bool(engine.placement)
    assert shared > count // 4
