"""Keras files that are damaged, inconsistent, hostile or not supported are refused by name."""

from __future__ import annotations

import io
import json
import lzma
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py", reason="the package h5py is not installed: pip install 'strop[keras]'")

import h5py

from strop.errors import ModelError, OptionError, RuntimeFailure, UnsupportedError
from strop.frontend.keras import hdf5, walk
from strop.frontend.table import judge, read
from tests.frontend.test_keras import CASES, saved

Config = dict[str, Any]

#: An HDF5 file that the library reads without end: a file of weights of which some bytes were changed by chance.
ENDLESS = Path(__file__).with_name("endless.h5.xz")


def dense(**changes: Any) -> Config:
    return {"class_name": "Dense", "config": {"name": "dense", "units": 2, "activation": "linear", "use_bias": True} | changes}


def model(*layers: Config, shape: Any = (None, 3)) -> Config:
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": list(shape) if shape else None, "dtype": "float32"}}
    return {"class_name": "Sequential", "config": {"name": "net", "layers": [first, *(layers or (dense(),))]}}


def weights(change: Callable[[h5py.File], None] = lambda file: None) -> bytes:
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        held = file.create_group("layers/dense/vars")
        held["0"], held["1"] = np.ones((3, 2), np.float32), np.zeros(2, np.float32)
        change(file)
    return data.getvalue()


def archive(config: Config | bytes, data: bytes | None = None, version: str = "3.0.0") -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("metadata.json", json.dumps({"keras_version": version}))
        made.writestr("config.json", config if isinstance(config, bytes) else json.dumps(config))
        made.writestr("model.weights.h5", weights() if data is None else data)
    return found.getvalue()


def reading(content: bytes, folder: Path, name: str = "net.keras") -> Any:
    path = folder / name
    path.write_bytes(content)
    return read(path)


def test_the_model_that_is_broken_below_is_whole(tmp_path: Path) -> None:
    graph = reading(archive(model()), tmp_path)
    assert [v.name for v in graph.inputs] == ["x"] and len(graph.outputs) == 1


def _relinked(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "/x")


def _soft(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.SoftLink("/layers/dense/vars/1")


def _outside(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (3, 2), np.float32, external=[("/etc/passwd", 0, 24)])


def _text(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = "words"


def _huge(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (1 << 16, 1 << 14), np.float32, chunks=(64, 64), compression="gzip")


def _lost(file: h5py.File) -> None:
    del file["layers/dense/vars"]


def _named(file: h5py.File) -> None:
    file["layers/dense/vars/kernel"] = np.ones(3)


def _part(file: h5py.File) -> None:
    file["layers/dense/secret/vars/0"] = np.ones(3)


def _shape(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = np.ones((4, 2), np.float32)


WEIGHTS: dict[str, tuple[Callable[[h5py.File], None], type[Exception], str]] = {
    "a link to another file": (_relinked, UnsupportedError, "links in weights are not followed"),
    "a link to another place": (_soft, UnsupportedError, "links in weights are not followed"),
    "elements in another file": (_outside, UnsupportedError, "weights that lie in other files are not supported"),
    "text": (_text, UnsupportedError, "weights of this type are not supported"),
    "more than a file can hold": (_huge, ModelError, "weights are larger than their file can hold"),
    "none": (_lost, ModelError, "the file has another number of weights for it"),
    "names": (_named, ModelError, "weights of a layer are not numbered"),
    "an unknown part": (_part, UnsupportedError, "a layer has weights of a part that is not known"),
    "another shape": (_shape, ModelError, "the weights do not fit"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str, tmp_path: Path) -> None:
    change, kind, message = WEIGHTS[name]
    with pytest.raises(kind, match=message):
        reading(archive(model(), weights(change)), tmp_path)


def _functional(**changes: Any) -> Config:
    layers = [
        {"class_name": "InputLayer", "name": "x", "config": {"batch_shape": [None, 3]}, "inbound_nodes": []},
        {"class_name": "ReLU", "name": "a", "config": {}, "inbound_nodes": [[["x", 0, 0, {}]]]},
        {"class_name": "ReLU", "name": "b", "config": {}, "inbound_nodes": [[["a", 0, 0, {}]]]},
    ]
    return {"class_name": "Functional", "config": {"name": "net", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["b", 0, 0]]} | changes}


def _rewired(node: Any) -> Config:
    config = _functional()
    config["config"]["layers"][1]["inbound_nodes"] = [node]
    return config


def _nested(depth: int) -> Config:
    config = model(dense())
    for _ in range(depth):
        config = model({"class_name": "Sequential", "config": {**config["config"], "name": "inner"}})
    return config


CONFIGS: dict[str, tuple[Config | bytes, type[Exception], str]] = {
    "no JSON": (b"{", ModelError, "the Keras model cannot be read"),
    "nested lists": (b"[" * 100_000, ModelError, "the Keras model cannot be read"),
    "a list": (b"[]", ModelError, "the configuration is malformed"),
    "no class": ({"config": {}}, ModelError, "the configuration is no model's"),
    "a class of one's own": ({"class_name": "Mine", "config": {}}, UnsupportedError, "a model of this class says nothing about its layers"),
    "no layer": ({"class_name": "Sequential", "config": {"layers": [3]}}, ModelError, "a layer's configuration is malformed"),
    "a name that is no text": (model(dense(name=[1])), ModelError, "a layer's name is no text"),
    "two of one name": (model(dense(), dense()), ModelError, "two layers have one name"),
    "no shape": (model(shape=None), OptionError, "the shape of an input is not known"),
    "a negative shape": (model(shape=(None, -3)), OptionError, "the shape of an input is not known"),
    "a layer that is not known": (model({"class_name": "Swirl", "config": {"name": "s"}}), UnsupportedError, "layer Swirl is not supported"),
    "code": (model({"class_name": "Lambda", "config": {"name": "s", "function": {}}}), UnsupportedError, "layer Lambda holds code, which is not run"),
    "code as an activation": (model(dense(activation={"class_name": "__lambda__", "config": {"value": "x"}})), UnsupportedError, "is Python code, which is not run"),
    "an unknown activation": (model(dense(activation="wobble")), UnsupportedError, "this activation function is not supported"),
    "an activation that is a number": (model(dense(activation=3)), ModelError, "activation is malformed"),
    "a flag that is a word": (model(dense(use_bias="yes")), ModelError, "use_bias is neither true nor false"),
    "a mask": (model({"class_name": "Embedding", "config": {"name": "e", "mask_zero": True}}), UnsupportedError, "masks are not supported"),
    "a masking layer": (model({"class_name": "Masking", "config": {"name": "m"}}), UnsupportedError, "layer Masking is not supported"),
    "strides of 0": (model({"class_name": "MaxPooling1D", "config": {"name": "p", "pool_size": 2, "strides": 0}}, shape=(None, 4, 3)), ModelError, "are positive"),
    "another rank": (model({"class_name": "MaxPooling2D", "config": {"name": "p"}}), ModelError, "its operand has another rank"),
    "an unknown padding": (model({"class_name": "MaxPooling1D", "config": {"name": "p", "padding": "odd"}}, shape=(None, 4, 3)), UnsupportedError, "this padding is not supported"),
    "state": (model({"class_name": "LSTM", "config": {"name": "l", "units": 2, "stateful": True}}, shape=(None, 4, 3)), UnsupportedError, "stateful is not supported"),
    "a layer without its kind": (model({"class_name": "TimeDistributed", "config": {"name": "t", "layer": {"class_name": "Huh", "config": {}}}}, shape=(None, 4, 3)), UnsupportedError, "not supported at every step"),
    "a circle": (_rewired([["b", 0, 0, {}]]), ModelError, "layers read each other in a circle"),
    "a layer that is not there": (_rewired([["q", 0, 0, {}]]), ModelError, "layers read each other in a circle, or what is not there"),
    "a call that is none": (_rewired("x"), ModelError, "a call is malformed"),
    "a tensor that is none": (_rewired([["x", -1, 0]]), ModelError, "a tensor is malformed"),
    "no outputs": (_functional(output_layers=[]), ModelError, "the model has no inputs or outputs"),
    "an output that is not there": (_functional(output_layers=[["b", 0, 4]]), ModelError, "an output is no result of a layer"),
    "lists without end": (_rewired([["x", 0, 0, {"mask": json.loads("[" * 600 + "]" * 600)}]]), ModelError, "the configuration is nested too deep|cannot be read"),
    "models without end": (_nested(20), ModelError, "lie too deep in each other"),
    "strings": ({"class_name": "Sequential", "config": {"layers": [{"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 1], "dtype": "string"}}]}}, UnsupportedError, "element type string is not supported"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations(name: str, tmp_path: Path) -> None:
    config, kind, message = CONFIGS[name]
    with pytest.raises(kind, match=message):
        reading(archive(config), tmp_path)


def test_all_that_is_not_supported_is_named(tmp_path: Path) -> None:
    layers = ({"class_name": "Swirl", "config": {"name": "s"}}, {"class_name": "ReLU", "config": {"name": "r"}}, {"class_name": "Twirl", "config": {"name": "t"}})
    with pytest.raises(UnsupportedError, match="2 of 3 nodes are not supported") as error:
        reading(archive(model(*layers)), tmp_path)
    assert "Swirl" in str(error.value) and "Twirl" in str(error.value)
    verdicts, graph = judge(tmp_path / "net.keras")
    assert [(v.name, v.supported, v.checked) for v in verdicts] == [("s", False, True), ("r", True, False), ("t", False, False)] and not graph.nodes


def test_another_version(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="this version of Keras is not supported"):
        reading(archive(model(), version="7.1"), tmp_path)


def test_a_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="the file holds weights and no model"):
        reading(weights(), tmp_path, "net.h5")


def test_bombs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a part of the file is too large"):
        reading(archive(b" " * (1 << 25)), tmp_path)


@pytest.mark.parametrize("part", ["net.keras", "net.h5"])
def test_truncated_files(part: str, tmp_path: Path) -> None:
    content = CASES["3/nested"][part]
    for size in range(0, len(content), len(content) // 23):
        path = tmp_path / part
        path.write_bytes(content[:size])
        with pytest.raises((ModelError, UnsupportedError)):
            read(path)


@pytest.mark.parametrize("part", ["net.keras", "net.h5"])
def test_lambda_layers_hold_code(part: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="layer Lambda holds code, which is not run"):
        read(saved("3/refused lambda", part, tmp_path))


def test_a_file_that_the_library_does_not_return_from(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the weights cannot be read"):
        reading(lzma.decompress(ENDLESS.read_bytes()), tmp_path, "net.h5")


#: Programs in the place of the one that tries a file, and what is said of it.
PROGRAMS: dict[str, tuple[str, type[Exception], str]] = {
    "crashes": ("import os; os.kill(os.getpid(), 9)", ModelError, f"the HDF5 library was ended by signal {int(signal.SIGKILL)}"),
    "waits": ("import time; time.sleep(600)", ModelError, "the HDF5 library does not return within"),
    "works without end": (f"import sys; sys.path[0] = {str(Path(walk.__file__).parent)!r}; import walk; walk._limit(1)\nwhile True: pass", ModelError, f"ended by signal {int(signal.SIGXCPU)}"),
    "fails": ("raise SystemExit('no room')", RuntimeFailure, "no room"),
}


@pytest.mark.parametrize("held", [True, False], ids=["bytes", "path"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_files_that_are_tried_first(name: str, held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, kind, message = PROGRAMS[name]
    program, path = tmp_path / "program.py", tmp_path / "net.h5"
    program.write_text(source)
    path.write_bytes(weights())
    monkeypatch.setattr(walk, "__file__", str(program))
    monkeypatch.setattr(hdf5, "PATIENCE", 0)
    monkeypatch.setattr(hdf5, "START", 3 if name == "waits" else 60)
    with pytest.raises(kind, match=message):
        hdf5.opened(weights() if held else path, path.stat().st_size, "net.h5")


def test_without_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    with pytest.raises(RuntimeFailure, match="HDF5 files cannot be read: Python does not start"):
        reading(archive(model()), tmp_path)
