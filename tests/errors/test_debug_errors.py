"""What strop diff and strop debug refuse, and how they say so."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from strop.engine import values
from strop.errors import EngineFileError, OptionError, UnsupportedError
from strop.frontend.onnx import read_onnx
from strop.ir import text
from strop.lower.pipeline import lower
from strop.runtime import tap
from strop.target.detect import host
from strop.trace import Trace
from tests import tiny_net
from tests.errors.command import run
from tests.frontend.onnx_models import floats


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(tiny_net.model(), str(path))
    return path


def refused(*arguments: object) -> str:
    done = run(*arguments)
    assert done.code == 1
    return done.err


def test_sides_that_are_none(model: Path, tmp_path: Path) -> None:
    assert "unknown runtime" in refused("diff", f"tensorrt:{model}", model)
    assert "there is no such file" in refused("diff", tmp_path / "nothing.onnx", model)
    assert "there is no such file" in refused("diff", f"oracle:{tmp_path}", model)


def test_onnxruntime_is_not_installed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = refused("diff", f"onnxruntime:{model}", f"oracle:{model}")
    assert "ONNX Runtime is not installed" in message and "pip install onnxruntime" in message


def test_onnxruntime_refuses_the_model(model: Path) -> None:
    pytest.importorskip("onnxruntime")
    proto = onnx.load(str(model))
    proto.graph.node[0].op_type = "Nonsense"
    graph = read_onnx(tiny_net.model())
    feed = {v.name: floats(*v.type.static_shape) for v in graph.inputs}
    with pytest.raises(OptionError, match="does not run the model"):
        values.of_onnxruntime(proto, graph, feed, "onnxruntime:net")


def test_a_free_size_without_a_shape(tmp_path: Path) -> None:
    path = tmp_path / "free.onnx"
    onnx.save(tiny_net.model("n"), str(path))
    for verb in (("diff", f"oracle:{path}", f"oracle:{path}"), ("debug", "bisect", path)):
        message = refused(*verb)
        assert "the size of an input is free" in message and "--shape" in message


def test_an_engine_that_tells_nothing_of_its_values() -> None:
    engine = tiny_net.engine()
    steps = [{k: v for k, v in s.items() if k != "values"} for s in engine.manifest["steps"]]
    told = SimpleNamespace(manifest={"steps": steps}, session=engine.session, path=engine.path)
    with pytest.raises(EngineFileError, match="does not tell which values"):
        values._steps(told)  # type: ignore[arg-type]
    told.manifest = {"steps": steps[1:]}
    with pytest.raises(EngineFileError, match="does not tell of every step"):
        values._steps(told)  # type: ignore[arg-type]


@pytest.mark.parametrize("view", ["f32[2,3]", "f32[2,3]:(3)", "f9[2]:(1)", "f32[2]:(-1)", "f32[n]:(1)", "f32[9]:(1)", "f32[f(2)]:(1)", "f32[2**9]:(1)", "f32[((]:(1)"])
def test_a_view_that_is_none(view: str) -> None:
    import numpy as np

    with pytest.raises(EngineFileError, match="unusable view"):
        values._strided(np.zeros(16, np.uint8), view, {}, SimpleNamespace(path="net.strop"))  # type: ignore[arg-type]


def test_a_runtime_that_cannot_be_run_step_by_step() -> None:
    context = SimpleNamespace(_lib=object(), _handle=None, _error=None, _engine=SimpleNamespace(where="old.strop", step_names=("a",)))
    with pytest.raises(EngineFileError, match="step by step"):
        tap._walk(context, lambda step, read: None)  # type: ignore[arg-type]


def test_a_model_that_does_not_fail(model: Path, tmp_path: Path) -> None:
    message = refused("debug", "reduce", model, "-o", tmp_path / "small.onnx")
    assert "the model does not fail" in message
    message = refused("debug", "reduce", model, "-o", tmp_path / "small.onnx", "--check", "false {model}")
    assert "the model does not fail" in message


def test_commands_that_cannot_be_used(model: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    assert "where the model goes" in refused("debug", "reduce", model, "-o", small, "--check", "true")
    assert "cannot be started" in refused("debug", "reduce", model, "-o", small, "--check", f"{tmp_path}/nothing {{model}}")
    assert "unknown runtime" in refused("debug", "bisect", model, "--against", "tensorrt")
    assert "there is no such file" in refused("debug", "reduce", tmp_path / "nothing.onnx", "-o", small)
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xff")
    assert "not an ONNX model" in refused("debug", "reduce", tmp_path / "bad.onnx", "-o", small)


@pytest.mark.parametrize(
    "node",
    [
        "%y : f32[24] = reshape(%x) {shape=[24]}",
        "%y : f32[2,4], %z : f32[4,4] = split(%x) {axis=0, sizes=[2,4]}",
        "%y : f32[3,4] = slice(%x) {starts=[1], stops=[4], axes=[0], steps=[1]}",
        '%y : f32[(n+3),4] = pad(%x) {pads=[2,0,1,0], mode="reflect", value=0.0}',
    ],
)
def test_types_that_hold_for_some_sizes_only(node: str) -> None:
    graph = text.parse(f'graph "g"\nsymbol n = 2..9 opt 6\ninput %x : f32[n,4]\n{node} @ "node"\noutput %y as "y"\n', {})
    with pytest.raises(UnsupportedError, match="right only for some values of the symbols"):
        lower(graph, host(), Trace())
