"""Engines with free dims: one build serves a whole range, equal to ONNX Runtime and to the interpreter, without growing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from strop.engine.build import build
from strop.engine.engine import Engine, load
from strop.engine.roofline import has_dots
from strop.errors import InputError
from strop.frontend.onnx.reader import read_onnx
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ir.parse import parse
from strop.ir.shape import Sym, mul
from strop.ops.elementwise import make
from strop.target.detect import host
from tests import dynamic_nets, tiny_net
from tests.runtime.synthetic import run_script

CONV = {"x": "1..3(1)x3x32..128(64)%32x32..160(96)%32"}
SEQUENCE = {"batch": "1..4(1)", "seq": "1..90(48)"}


def runtime_of(model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model) if isinstance(model, Path) else model.SerializeToString(), options)


def agree(engine: Engine, session: onnxruntime.InferenceSession, shape: tuple[int, ...], seed: int = 0) -> None:
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    got = engine.run({"x": x})
    for output, wanted in zip(session.get_outputs(), session.run(None, {"x": x}), strict=True):
        found = got[output.name]
        assert found.shape == wanted.shape, (output.name, shape)
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max(), (output.name, shape)


@pytest.mark.parametrize("threads", [1, 2])
def test_images_of_any_size(threads: int) -> None:
    model = dynamic_nets.conv_net()
    engine, session = build(model, level=0, threads=threads, shapes=CONV), runtime_of(model)
    assert [str(t) for t in engine.inputs] == ["x: f32[1..3, 3, 32..128%32, 32..160%32]"]
    assert engine.inputs[0].shape == (1, 3, 64, 96) and engine.outputs[1].most == (3, 8, 64, 80)
    kernels = {s["kernel"].split("(")[0] for s in engine.manifest["steps"]}
    assert "naive" not in kernels and kernels >= {"conv_transpose", "conv_winograd"}
    rng = np.random.default_rng(1)
    for shape in [(1, 3, 32, 32), (3, 3, 128, 160), *((int(rng.integers(1, 4)), 3, *(32 * rng.integers(1, 5, 2)).tolist()) for _ in range(10))]:
        agree(engine, session, shape)


@pytest.mark.parametrize(("net", "shapes", "sizes"), [
    ("conv_net", CONV, [(1, 3, 32, 32), (3, 3, 128, 160), (2, 3, 64, 96)]), ("transformer", SEQUENCE, [(1, 1, 64), (4, 90, 64), (3, 33, 64)]),
], ids=("images", "sequences"))  # fmt: skip
def test_any_size_in_bf16(net: str, shapes: dict[str, str], sizes: list[tuple[int, ...]]) -> None:
    model = getattr(dynamic_nets, net)()
    engine = build(model, level=0, threads=2, shapes=shapes, precision="bf16", layer_precision={"*": "bf16"})
    kernels = {s["kernel"].split("(")[0] for s in engine.manifest["steps"]}
    assert "naive" not in kernels and ("conv_bf16" in kernels or not has_dots(host()))  # without dot products of bf16 values are widened
    session = runtime_of(model)
    for shape in sizes:
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        got = engine.run({"x": x})
        for output, wanted in zip(session.get_outputs(), session.run(None, {"x": x}), strict=True):
            assert np.square(got[output.name] - wanted).sum() <= 1e-3 * np.square(wanted).sum(), (output.name, shape)


def test_sequences_of_any_length() -> None:
    model = dynamic_nets.transformer()
    engine, session = build(model, level=0, threads=2, shapes=SEQUENCE), runtime_of(model)
    assert [s["name"] for s in engine.manifest["steps"] if s["kernel"].startswith("naive")] == []
    for batch, length in ((1, 1), (4, 90), (1, 48), (2, 17), (3, 64), (1, 5), (4, 33)):
        agree(engine, session, (batch, length, 64))


def test_slices_pads_and_concats_along_a_free_axis() -> None:
    model = dynamic_nets.sequences()
    engine, session = build(model, level=0, threads=1, shapes={"x": "batch:1..3,seq:3..40(12),8"}), runtime_of(model)
    for batch, length in ((1, 3), (3, 40), (2, 4), (1, 33), (3, 11)):
        agree(engine, session, (batch, length, 8))
    assert sum(s["kernel"].startswith("recurrent") for s in engine.manifest["steps"]) == 2


def test_any_batch() -> None:
    model = tiny_net.model(batch="batch")
    engine, session = build(model, level=0, shapes={"batch": "1..16(4)"}), runtime_of(model)
    for batch in (4, 1, 16, 7):
        agree(engine, session, (batch, 3, 8, 8))


def test_the_interpreter_agrees() -> None:
    model = dynamic_nets.conv_net()
    engine, graph = build(model, level=0, threads=1, shapes=CONV), read_onnx(model, CONV)
    x = np.random.default_rng(2).standard_normal((2, 3, 64, 32)).astype(np.float32)
    got, wanted = engine.run({"x": x}), interp.run(graph, {"x": x})
    for name, array in wanted.items():
        assert np.abs(got[name] - array).max() <= 1e-4 * np.abs(array).max()


def test_graphs_of_the_callers_own() -> None:
    graph = Graph("sum")
    rows, columns = Sym("rows", 1, 3, 9), mul(Sym("quads", 1, 2, 5), 4)
    kind = read_onnx(tiny_net.model()).inputs[0].dtype
    x, y = graph.add_input("x", Type(kind, (rows, columns))), graph.add_input("y", Type(kind, (columns,)))
    graph.set_outputs([graph.add(make("add"), [x, y]).output], ["z"])
    engine = build(graph, level=0, threads=1)
    a, b = np.ones((7, 12), np.float32), np.arange(12, dtype=np.float32)
    np.testing.assert_array_equal(engine.run({"x": a, "y": b})["z"], a + b)
    with pytest.raises(InputError, match="axis 0 of input 'y' is 8, which makes 'quads' 2; axis 1 of input 'x' makes it 3"):
        engine.run({"x": a, "y": b[:8]})


def test_a_saved_engine_keeps_its_range(tmp_path: Path) -> None:
    model = tiny_net.model(batch="batch")
    build(model, level=0, shapes={"x": "1..5x3x8x8"}).save(tmp_path / "e.strop")
    engine = load(tmp_path / "e.strop", threads=1)
    assert engine.inputs[0].least == (1, 3, 8, 8) and engine.inputs[0].most == (5, 3, 8, 8)
    agree(engine, runtime_of(model), (3, 3, 8, 8))
    with pytest.raises(InputError, match="axis 0 of input 'x' is 6; 'batch' takes 1 to 5"):
        engine.run({"x": np.zeros((6, 3, 8, 8), np.float32)})


def test_measured_kernels_are_checked_at_two_shapes() -> None:
    model = dynamic_nets.conv_net()
    engine = build(model, level=1, budget=20.0, threads=1, shapes=CONV)
    assert not [note for note in engine.manifest["notes"] if "is not used" in note]
    agree(engine, runtime_of(model), (2, 3, 96, 160))


def test_the_same_build_gives_the_same_code(tmp_path: Path) -> None:
    model, files = tiny_net.model(batch="batch"), (tmp_path / "a.strop", tmp_path / "b.strop")
    for file in files:
        build(model, level=0, shapes={"batch": "1..8"}).save(file)
    assert files[0].read_bytes() == files[1].read_bytes()


GROWTH = """
import resource, sys
import numpy as np
from strop.engine.engine import load

engine = load(sys.argv[1], threads=1)
rng = np.random.default_rng(0)
room = np.zeros(4 * 90 * 64, np.float32)
context = engine.context()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def go(runs):
    for _ in range(runs):
        batch, length = int(rng.integers(1, 5)), int(rng.integers(1, 91))
        context.run({"x": room[: batch * length * 64].reshape(batch, length, 64)})

for batch, length in ((4, 90), (1, 1)):
    context.run({"x": room[: batch * length * 64].reshape(batch, length, 64)})
go(300)
before = resident()
go(int(sys.argv[2]))
print(before, resident())
"""


@pytest.mark.parametrize("runs", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_stays_flat(tmp_path: Path, runs: int) -> None:
    path = tmp_path / "e.strop"
    build(dynamic_nets.transformer(), level=0, threads=1, shapes=SEQUENCE).save(path)
    before, after = map(int, run_script(GROWTH, path, runs, timeout=300).split())
    assert after <= 1.01 * before


OCR: dict[str, tuple[str, Callable[[np.random.Generator], tuple[int, ...]]]] = {
    "ch_ppocr_mobile_v2.0_cls_infer": (
        "1..6(1)x3x48x32..320(192)%8", lambda rng: (int(rng.integers(1, 7)), 3, 48, 8 * int(rng.integers(4, 41)))),
    "ch_PP-OCRv4_rec_infer": (
        "1..4(1)x3x48x64..640(320)%8", lambda rng: (int(rng.integers(1, 5)), 3, 48, 8 * int(rng.integers(8, 81)))),
    "ch_PP-OCRv4_det_infer": (
        "1..2(1)x3x32..960(320)%32x32..960(320)%32", lambda rng: (1, 3, 32 * int(rng.integers(1, 20)), 32 * int(rng.integers(1, 20)))),
}  # fmt: skip


@pytest.mark.models
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(OCR))
def test_text_recognition(models_dir: Path, name: str) -> None:
    """Models of rapidocr-onnxruntime; outputs are probabilities."""
    path = models_dir / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"no {path.name}")
    spec, shape = OCR[name]
    engine, session = build(path, level=0, threads=1, shapes={"x": spec}), runtime_of(path)
    rng = np.random.default_rng(0)
    for _ in range(6):
        x = (rng.random(shape(rng), np.float32) > 0.7).astype(np.float32)
        (got,), (wanted,) = engine.run({"x": x}).values(), session.run(None, {"x": x})
        assert got.shape == wanted.shape and np.abs(got - wanted).max() <= 1e-4


def test_windows_without_padding_over_free_height_and_width() -> None:
    text_of = """
graph "net"
symbol h = 5..28 opt 7
symbol w = 8..44 opt 8
input %x : f32[1,1,h,w]
%p : f32[1,1,(h+-1),(w+-1)] = max_pool(%x) {kernel=[2,2], strides=[1,1], pads=[0,0,0,0], dilations=[1,1], ceil_mode=false} @ "pool"
%y : f32[1,1,(h+-1),(w+-1)] = tanh(%p) @ "tanh"
output %p as "p"
output %y as "y"
"""
    graph = parse(text_of, {})
    engine = build(graph, level=0, threads=1)
    for shape in ((1, 1, 5, 8), (1, 1, 28, 44), (1, 1, 11, 9)):
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        got, wanted = engine.run({"x": x}), interp.run(graph, {"x": x})
        for name in wanted:
            np.testing.assert_allclose(got[name], wanted[name], rtol=1e-5, atol=1e-5)
