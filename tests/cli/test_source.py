"""Reading arguments: shapes, arrays, engines or models."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from strop.cli import source
from strop.errors import EngineFileError, InputError, ModelError, OptionError
from tests import tiny_net


def test_shapes() -> None:
    assert source.parse_shapes(["x=1x3x224x224", "a=b=7", "s="]) == {"x": "1x3x224x224", "a=b": "7", "s": ""}
    assert source.parse_shapes([]) is None
    assert source.parse_shapes(["sr==16000", "x=1"]) == {"sr": "=16000", "x": "1"}, "a value in place of a shape"


@pytest.mark.parametrize("text", ["1x3", "x", "=1x3", "x=1xx3", "x=-1", "x=1x0", "x=1X3", "x=1,3", "x=²", f"x={2**31}"])
def test_bad_shapes_are_named(text: str) -> None:
    with pytest.raises(OptionError, match="unusable shape") as error:
        source.parse_shapes([text])
    assert error.value.got == text


def test_a_shape_given_twice() -> None:
    with pytest.raises(OptionError, match="two shapes"):
        source.parse_shapes(["x=1", "x=2"])


def test_engines_are_told_from_models(tmp_path: Path) -> None:
    assert source.is_engine(tiny_net.engine_file())
    assert not source.is_engine(tiny_net.model_file())
    renamed = tmp_path / "engine.bin"
    renamed.write_bytes(tiny_net.engine_file().read_bytes())
    assert source.is_engine(renamed)
    broken = tmp_path / "broken.strop"
    broken.write_bytes(b"not an engine")
    with pytest.raises(EngineFileError):
        source.open_engine(broken)
    with pytest.raises(OptionError, match="cannot be read") as error:
        source.is_engine(tmp_path / "missing.onnx")
    assert "missing.onnx" in str(error.value)


def test_a_model_is_built_in_memory() -> None:
    engine = source.open_engine(tiny_net.model_file(), threads=1)
    assert engine.outputs[0].shape == tiny_net.OUTPUT_SHAPE


def test_an_engine_takes_no_shape() -> None:
    with pytest.raises(OptionError, match="fixed"):
        source.open_engine(tiny_net.engine_file(), shapes=["x=2x3x8x8"])


def test_text_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(ModelError):
        source.open_engine(path)


def test_arrays_by_name_alone_and_from_archives(tmp_path: Path) -> None:
    engine = tiny_net.engine()
    x = np.ones(tiny_net.INPUT_SHAPE, np.float32)
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "a.npz", x=x)
    for text in ("a.npy", "x=a.npy", "a.npz"):
        name, _, file = text.rpartition("=")
        given = f"{name}={tmp_path / file}" if name else str(tmp_path / file)
        read = source.read_inputs(engine, [given])
        assert list(read) == ["x"]
        np.testing.assert_array_equal(read["x"], x)
    with pytest.raises(InputError, match="twice"):
        source.read_inputs(engine, [str(tmp_path / "a.npy"), f"x={tmp_path / 'a.npy'}"])


@pytest.mark.parametrize("name", ["missing.npy", "missing.npz", "text.npy", "text.npz", "pickled.npy", "cut.npy"])
def test_files_without_arrays(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "cut.npy", np.zeros(100, np.float32))
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-7])
    with pytest.raises(InputError, match="cannot read the input file") as error:
        source.read_inputs(tiny_net.engine(), [str(tmp_path / name)])
    assert name in (error.value.where or "")


def test_outputs_are_written_whole_under_any_name(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3.0), "a/b": np.ones((2, 2), np.float32), "": np.zeros((), np.int64)}
    path = tmp_path / "out.npz"
    source.write_npz(path, arrays)
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored.files) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(stored[name], array)
    assert os.listdir(tmp_path) == ["out.npz"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.npz"
    path.write_bytes(b"old")

    def no_room(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", no_room)
    with pytest.raises(OptionError, match="cannot write") as error:
        source.write_npz(path, {"y": np.zeros(3)})
    assert "No space left" in str(error.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.npz"]


def test_places_without_room_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    source.check_output(tmp_path / "new.strop", "--output")
    for bad in (tmp_path, tmp_path / "none" / "x.strop", tmp_path / "plain" / "x.strop"):
        with pytest.raises(OptionError, match="cannot write") as error:
            source.check_output(bad, "--output")
        assert str(bad) in (error.value.where or "")
