"""Every kind of bad file on the command line: exit code 1, one clear message, nothing written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from strop.engine.build import build
from strop.engine.format import EngineFile, Section, SectionKind, write_engine
from tests import tiny_net
from tests.errors.command import run


def whole() -> bytes:
    return tiny_net.model_file().read_bytes()


def changed_model(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = tiny_net.model()
    change(model)
    return model.SerializeToString()


def without_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


MODELS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"this is no model\n" * 9, "ONNX"),
    "truncated": (lambda: whole()[: len(whole()) // 2], "ONNX"),
    "one byte short": (lambda: whole()[:-1], "m.onnx"),
    "unsupported op": (lambda: changed_model(lambda m: setattr(m.graph.node[1], "op_type", "Blur")), "Blur is not supported"),
    "unsupported attribute": (
        lambda: changed_model(lambda m: m.graph.node[0].attribute.add(name="blur", i=1, type=onnx.AttributeProto.INT)),
        "attribute blur is not known",
    ),
    "missing external data": (lambda: changed_model(without_data), "weights.bin"),
    "newer opset": (lambda: changed_model(lambda m: setattr(m.opset_import[0], "version", 999)), "opset"),
}


@pytest.mark.parametrize("case", MODELS)
def test_models(case: str, tmp_path: Path) -> None:
    make, message = MODELS[case]
    (tmp_path / "m.onnx").write_bytes(make())
    done = run("build", tmp_path / "m.onnx", "-o", tmp_path / "net.strop", "--level", "0")
    assert done.code == 1 and message in done.err, done.err
    assert done.out == "" and os.listdir(tmp_path) == ["m.onnx"]
    checked = run("check", tmp_path / "m.onnx")
    said = checked.out + checked.err
    assert checked.code == 1 and (message in said or "external data file is missing" in said)


@pytest.mark.parametrize("where", [0, 7, 30, 63, 64, 200, 4096, 8192, -4096, -1])
@pytest.mark.parametrize("verb", ["run", "bench", "inspect"])
def test_engines_with_a_changed_byte(verb: str, where: int, tmp_path: Path) -> None:
    data = bytearray(tiny_net.engine_file().read_bytes())
    data[where] ^= 0x20
    (tmp_path / "net.strop").write_bytes(data)
    done = run(verb, tmp_path / "net.strop", *(["--random", "-o", tmp_path / "o.npz"] if verb == "run" else []))
    assert done.code == 1 and "net.strop" in done.err, done.err
    assert os.listdir(tmp_path) == ["net.strop"]


@pytest.mark.parametrize("kept", [0, 1, 63, 64, 4095, 4096, 0.5, -4096, -1])
def test_truncated_engines(kept: float, tmp_path: Path) -> None:
    data = tiny_net.engine_file().read_bytes()
    size = int(len(data) * kept) if isinstance(kept, float) else kept % len(data)
    (tmp_path / "net.strop").write_bytes(data[:size])
    done = run("run", tmp_path / "net.strop", "--random")
    assert done.code == 1 and "net.strop" in done.err


def renamed(path: Path, kind: SectionKind, name: str) -> Path:
    """The engine with its code declared to be for another machine."""
    file = EngineFile(tiny_net.engine_file())
    sections = [Section(e.kind, name if e.kind == kind else e.name, [file.read(e)], e.flags) for e in file.sections]
    write_engine(path, sections)
    return path


@pytest.mark.parametrize(
    ("kind", "name"), [(SectionKind.KERNELS, "x86_64-v4+avx10.2"), (SectionKind.KERNELS, "riscv64"), (SectionKind.RUNTIME, "plan9-mips")]
)
def test_engines_for_another_machine(kind: SectionKind, name: str, tmp_path: Path) -> None:
    path = renamed(tmp_path / "net.strop", kind, name)
    done = run("run", path, "--random")
    assert done.code == 1 and name in done.err and "--target" in done.err, done.err


@pytest.mark.slow
def test_an_engine_built_for_another_processor(tmp_path: Path) -> None:
    path = tmp_path / "net.strop"
    build(tiny_net.model_file(), target="aarch64", level=0).save(path)
    if os.uname().machine in ("aarch64", "arm64"):
        pytest.skip("this is that processor")
    done = run("run", path, "--random")
    assert done.code == 1 and "linux-aarch64" in done.err
    assert run("inspect", path).code == 0


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    for verb in ("run", "bench", "inspect", "dump"):
        done = run(verb, tmp_path / "none.strop")
        assert done.code == 1 and "none.strop" in done.err
