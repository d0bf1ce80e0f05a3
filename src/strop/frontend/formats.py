"""Names model files of other kinds than ONNX, so that they are refused by name."""

from __future__ import annotations

import zipfile
from pathlib import Path

from strop.errors import UnsupportedError

#: (place, bytes at that place, what such a file is)
_MAGIC = (
    (0, b"STROP\x00\r\n", "an engine file of Strop"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x89HDF\r\n\x1a\n", "a Keras model (HDF5)"),
)
_HEAD = 16


def refuse_other(model: str | Path | bytes) -> None:
    """Nothing for what may be an ONNX model.

    Args:
        model: path or bytes.

    Raises:
        UnsupportedError: it is a model of a known other kind, or an engine already.
    """
    kind = _kind_of_bytes(model[:_HEAD]) if isinstance(model, bytes) else _kind_of_path(Path(model))
    if kind is None:
        return
    is_engine = kind == _MAGIC[0][2]
    raise UnsupportedError(
        "only ONNX models can be built",
        where=None if isinstance(model, bytes) else str(model),
        got=kind,
        expected="an .onnx file",
        hint="strop run FILE, strop.load(FILE)" if is_engine else "export the network as ONNX",
    )


def _kind_of_bytes(head: bytes) -> str | None:
    return next((kind for at, magic, kind in _MAGIC if head[at : at + len(magic)] == magic), None)


def _kind_of_path(path: Path) -> str | None:
    """The kind of a file or folder; None when it is unknown or cannot be read, which its reader then tells."""
    try:
        if path.is_dir():
            return "a TensorFlow SavedModel" if (path / "saved_model.pb").is_file() else None
        if path.name == "saved_model.pb":
            return "a TensorFlow SavedModel"
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD)
        return _kind_of_archive(path) if head[:4] == b"PK\x03\x04" else _kind_of_bytes(head)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return None


def _kind_of_archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith(("data.pkl", "archive_format")) for name in names):
        return "a PyTorch model"
    if "metadata.json" in names and "config.json" in names:
        return "a Keras model"
    return None
