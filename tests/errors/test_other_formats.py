"""Models of other kinds are refused by name, before anything is read as ONNX."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from strop.engine.build import build
from strop.engine.check import check
from strop.errors import ModelError, UnsupportedError
from strop.frontend.formats import refuse_other
from tests import tiny_net
from tests.errors.command import run


def archive(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        for name in names:
            made.writestr(name, b"x")
    return data.getvalue()


FILES = {
    "net.tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(64), "a TensorFlow Lite model"),
    "net.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "a Keras model (HDF5)"),
    "net.keras": (archive("metadata.json", "config.json", "model.weights.h5"), "a Keras model"),
    "net.pt": (archive("net/data.pkl", "net/version"), "a PyTorch model"),
    "net.pt2": (archive("archive_format", "models/model.json"), "a PyTorch model"),
    "saved_model.pb": (b"\x08\x01", "a TensorFlow SavedModel"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    content, kind = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    for action in (build, check):
        with pytest.raises(UnsupportedError, match="only ONNX models can be built") as error:
            action(path)
        assert error.value.got == kind and error.value.hint == "export the network as ONNX"
    done = run("build", path, "-o", tmp_path / "net.strop")
    assert done.code == 1 and kind in done.err
    assert not (tmp_path / "net.strop").exists()


def test_bytes() -> None:
    with pytest.raises(UnsupportedError) as error:
        build(FILES["net.tflite"][0])
    assert error.value.got == "a TensorFlow Lite model"


def test_a_saved_model_folder(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UnsupportedError) as error:
        build(tmp_path)
    assert error.value.got == "a TensorFlow SavedModel"


def test_an_engine_is_built_already() -> None:
    with pytest.raises(UnsupportedError) as error:
        build(tiny_net.engine_file())
    assert error.value.got == "an engine file of Strop" and "strop run" in (error.value.hint or "")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x03\x04 broken archive", archive("readme.txt"), b"TFL3"])
def test_unknown_files_are_left_to_the_reader(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    refuse_other(path)
    with pytest.raises(ModelError):
        build(path)


def test_models_pass() -> None:
    refuse_other(tiny_net.model_file())
    refuse_other(tiny_net.model().SerializeToString())
    refuse_other("missing.onnx")
