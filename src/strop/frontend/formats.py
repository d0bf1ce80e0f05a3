"""Tells model files apart by their first bytes and, where those are an archive's, by what lies in it."""

from __future__ import annotations

import zipfile
from pathlib import Path

ENGINE = "an engine file of Strop"
EXPORTED = "a PyTorch exported program"
SCRIPT = "a TorchScript model"
CHECKPOINT = "a PyTorch checkpoint: a state dict or a pickled module"
INDUCTOR = "a PyTorch package compiled by AOTInductor"
TFLITE = "a TensorFlow Lite model"
HDF5 = "a Keras model (HDF5)"
KERAS = "a Keras model"
LAYERS = "a network of layers"
SAVED_MODEL = "a TensorFlow SavedModel"
GRAPH_DEF = "a frozen TensorFlow graph"

#: (place, bytes at that place, what such a file is)
_MAGIC = (
    (0, b"STROP\x00\r\n", ENGINE),
    (4, b"TFL3", TFLITE),
    (0, b"STROPNET", LAYERS),
    (0, b"\x89HDF\r\n\x1a\n", HDF5),
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", CHECKPOINT),  # torch.save before 1.6
)
_HEAD = 16


def kind_of(model: str | Path | bytes) -> str | None:
    """What a model file is; None when it is none of the kinds above: an ONNX model, or nothing that is known.

    Args:
        model: path or bytes.
    """
    return _kind_of_bytes(model[:_HEAD]) if isinstance(model, bytes) else _kind_of_path(Path(model))


def _kind_of_bytes(head: bytes) -> str | None:
    return next((kind for at, magic, kind in _MAGIC if head[at : at + len(magic)] == magic), None)


def _kind_of_path(path: Path) -> str | None:
    """The kind of a file or folder; None when it is unknown or cannot be read, which its reader then tells."""
    try:
        if path.is_dir():
            return SAVED_MODEL if (path / "saved_model.pb").is_file() else None
        if path.name == "saved_model.pb":
            return SAVED_MODEL
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if path.suffix == ".pb" and head[:1] == b"\n":  # its first field is a node; an ONNX model begins with its version
            return GRAPH_DEF
        return _kind_of_archive(path) if head[:4] == b"PK\x03\x04" else _kind_of_bytes(head)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return None


def _kind_of_archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = [name.partition("/")[2] for name in names]  # PyTorch writes everything into one folder
    if any(name.endswith("archive_format") for name in names) or "serialized_exported_program.json" in names:
        exported = any(Path(name).suffix == ".json" and "models" in Path(name).parts for name in names)
        return EXPORTED if exported or "serialized_exported_program.json" in names else INDUCTOR
    if any(name.endswith("data.pkl") for name in names):
        return SCRIPT if "constants.pkl" in inner or any(name.startswith("code/") for name in inner) else CHECKPOINT
    if "metadata.json" in names and "config.json" in names:
        return KERAS
    return None
