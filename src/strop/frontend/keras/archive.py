"""Keras files: the configuration of the model, and its weights."""

from __future__ import annotations

import io
import json
import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import ModelError, UnsupportedError
from strop.frontend.keras.hdf5 import Groups, Tree, names_in, opened, text_of
from strop.frontend.keras.walk import BROKEN
from strop.frontend.keras.weights import Weights

#: Most bytes of a configuration, and of the weights of a ``.keras`` file.
MAX_CONFIG, MAX_WEIGHTS = 1 << 27, 1 << 34
#: How much smaller than itself a part may be packed, from 16 MiB on.
PACKED = 200
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


@dataclass(frozen=True)
class Archive:
    """A model as it is saved.

    Attributes:
        config: class and configuration of the model.
        weights: of its layers.
        major: version of Keras, which decides what some words mean.
    """

    config: dict[str, Any]
    weights: Weights
    major: int


def load(model: str | Path | bytes) -> Archive:
    """Reads a ``.keras`` or whole-model ``.h5`` file.

    Args:
        model: path, or the bytes of a file.

    Raises:
        ModelError: the file is damaged or inconsistent.
        UnsupportedError: it holds weights and no model.
    """
    where = "the given bytes" if isinstance(model, bytes) else str(model)
    try:
        data = model if isinstance(model, bytes) else Path(model)
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        head = data[:4] if isinstance(data, bytes) else _head(data)
        return _zipped(data, where) if head == b"PK\x03\x04" else _whole(data, size, where)
    except (*BROKEN, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error) as error:
        raise ModelError("the Keras model cannot be read", where=where, got=error, hint="check that the file was copied completely") from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _zipped(data: Path | bytes, where: str) -> Archive:
    with zipfile.ZipFile(io.BytesIO(data) if isinstance(data, bytes) else data) as archive:
        names = archive.namelist()
        config = _json(_member(archive, _CONFIG, MAX_CONFIG, where), f"{where}, {_CONFIG}")
        metadata = _json(_member(archive, _METADATA, MAX_CONFIG, where), f"{where}, {_METADATA}") if _METADATA in names else {}
        if _WEIGHTS not in names:
            raise UnsupportedError("the model has no weights in one HDF5 file", where=where, got=names[:8], expected=_WEIGHTS, hint="save it with model.save('net.keras')")
        raw = _member(archive, _WEIGHTS, MAX_WEIGHTS, where)
    file = opened(raw, len(raw), f"{where}, {_WEIGHTS}")
    return Archive(_model(config, where), Tree(file, "", len(raw)), _major(metadata.get("keras_version"), where))


def _member(archive: zipfile.ZipFile, name: str, most: int, where: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > most or info.file_size > max(PACKED * info.compress_size, 1 << 24):
        raise ModelError("a part of the file is too large", where=f"{where}, {name}", got=f"{info.file_size} bytes", expected=f"at most {most}")
    with archive.open(info) as file:
        return file.read(info.file_size)


def _whole(data: Path | bytes, size: int, where: str) -> Archive:
    file = opened(data, size, where)
    text = text_of(file, "model_config", where)
    if text is None:
        raise UnsupportedError(
            "the file holds weights and no model", where=where, got=names_in(file, where)[:8], expected="a whole model", hint="save it with model.save(path), not save_weights"
        )
    return Archive(_model(_json(text.encode(), where), where), Groups(file, size), _major(text_of(file, "keras_version", where), where))


def _json(data: bytes, where: str) -> dict[str, Any]:
    if len(data) > MAX_CONFIG:
        raise ModelError("the configuration is too large", where=where, got=f"{len(data)} bytes", expected=f"at most {MAX_CONFIG}")
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ModelError("the configuration is malformed", where=where, got=type(found).__name__, expected="an object")
    return found


def _model(config: dict[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(config.get("class_name"), str) or not isinstance(config.get("config"), (dict, list)):
        raise ModelError("the configuration is no model's", where=where, got=sorted(config)[:8], expected="class_name and config")
    return config


def _major(version: Any, where: str) -> int:
    """The first number of a version; files that do not say it are Keras 2's."""
    first = str(version or "2").split(".")[0].removesuffix("-tf")
    if first not in ("1", "2", "3"):
        raise UnsupportedError("this version of Keras is not supported", where=where, got=version, expected="1, 2 or 3")
    return int(first)
