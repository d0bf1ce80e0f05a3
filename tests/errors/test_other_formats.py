"""Models of other kinds are refused by name, before anything is read as ONNX."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from strop.engine.build import build
from strop.engine.check import check
from strop.errors import ModelError, OptionError, UnsupportedError
from strop.frontend import table
from strop.frontend.formats import kind_of
from tests import tiny_net
from tests.errors.command import run


def archive(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        for name in names:
            made.writestr(name, b"x")
    return data.getvalue()


FILES = {
    "net.pt": (archive("net/data.pkl", "net/version"), "a PyTorch checkpoint: a state dict or a pickled module"),
    "old.pth": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "a PyTorch checkpoint: a state dict or a pickled module"),
    "net.jit": (archive("net/data.pkl", "net/constants.pkl", "net/code/__torch__.py"), "a TorchScript model"),
    "aot.pt2": (archive("net/archive_format", "net/data/aotinductor/model/x.so"), "a PyTorch package compiled by AOTInductor"),
}
HINTS = {
    "net.pt": "to strop.build(module, example_inputs=...)",
    "old.pth": "to strop.build(module, example_inputs=...)",
    "net.jit": "export the module that it was made from",
    "aot.pt2": "torch.export.save(program, 'net.pt2')",
}


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    content, kind = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    for action in (build, check):
        with pytest.raises(UnsupportedError, match="this kind of model is not read") as error:
            action(path)
        assert error.value.got == kind and HINTS.get(name, "export the network as ONNX") in (error.value.hint or "")
    done = run("build", path, "-o", tmp_path / "net.strop")
    assert done.code == 1 and kind in done.err
    assert not (tmp_path / "net.strop").exists()


def test_bytes() -> None:
    with pytest.raises(UnsupportedError) as error:
        build(FILES["old.pth"][0])
    assert error.value.got == "a PyTorch checkpoint: a state dict or a pickled module"


KERAS = {"net.h5": b"\x89HDF\r\n\x1a\n" + bytes(64), "net.keras": archive("metadata.json", "config.json", "model.weights.h5")}


@pytest.mark.parametrize("name", KERAS)
def test_keras_files_need_h5py(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.write_bytes(KERAS[name])
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    for action in (build, check):
        with pytest.raises(OptionError, match="the package h5py is not installed") as error:
            action(path)
        assert error.value.hint == "pip install 'strop[keras]'" and str(path) in (error.value.where or "")


def test_an_engine_is_built_already() -> None:
    with pytest.raises(UnsupportedError) as error:
        build(tiny_net.engine_file())
    assert error.value.got == "an engine file of Strop" and "strop run" in (error.value.hint or "")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x03\x04 broken archive", archive("readme.txt"), b"TFL3"])
def test_unknown_files_are_left_to_the_reader(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert kind_of(path) is None
    with pytest.raises(ModelError):
        build(path)


def test_models_pass() -> None:
    assert kind_of(tiny_net.model_file()) is kind_of(tiny_net.model().SerializeToString()) is kind_of("missing.onnx") is None


@pytest.mark.parametrize("names", [("net/archive_format", "net/models/model.json"), ("serialized_exported_program.json",)])
def test_exported_programs_need_torch(names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(archive(*names))
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    for action in (build, check):
        with pytest.raises(OptionError, match="the package torch is not installed") as error:
            action(path)
        assert error.value.hint == "pip install 'strop[torch]'" and str(path) in (error.value.where or "")


def test_objects_that_are_no_models() -> None:
    with pytest.raises(UnsupportedError, match="this kind of model is not read") as error:
        build(3.0)  # type: ignore[arg-type]
    assert error.value.got == "an object of type float"
    with pytest.raises(UnsupportedError) as error:
        build({"conv.weight": 1})  # type: ignore[arg-type]
    assert "state dict" in (error.value.got or "") and "load the weights into it" in (error.value.hint or "")


@pytest.mark.parametrize("option", ["example_inputs", "dynamic_shapes"])
def test_options_of_another_kind(option: str) -> None:
    for action in (build, check):
        with pytest.raises(OptionError, match=f"an ONNX model takes no {option}") as error:
            action(tiny_net.model_file(), **{option: ()})  # type: ignore[arg-type]
        assert error.value.expected == "shapes"
