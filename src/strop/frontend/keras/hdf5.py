"""Weights of layers out of HDF5 files: per layer a list of arrays in the order in which Keras makes them."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from h5py import Dataset, File, Group, HardLink

from strop.errors import ModelError, RuntimeFailure, UnsupportedError
from strop.frontend.keras import walk
from strop.frontend.keras.walk import BROKEN
from strop.frontend.keras.weights import Weights
from strop.ir.op import Array

#: Seconds of work that the HDF5 library may take for a file, and bytes of the file per further second.
PATIENCE, RATE = 2, 20_000_000
#: How many times longer that may take on a busy machine, and seconds for Python to start.
BUSY, START = 10, 60
#: Where Keras puts the layers of a model, newest first, and the parts of layers that have some, in the order of their weights.
_LAYERS = ("layers", "_layer_checkpoint_dependencies")
_ATTENTION = ("query_dense", "key_dense", "value_dense", "output_dense")
_PARTS = (*_ATTENTION, *(f"_{name}" for name in _ATTENTION), "forward_layer", "backward_layer", "cell", "layer")
#: Parts without weights of the network.
_OTHERS = ("vars", "seed_generator", "optimizer", *_LAYERS)
#: Deepest part of a layer.
MAX_DEPTH = 16


class Tree(Weights):
    """``model.weights.h5`` of a ``.keras`` file: groups named after the classes of layers, ``vars`` in them.

    Args:
        file: the file.
        path: of the group.
        size: bytes of the file.
    """

    def __init__(self, file: File, path: str, size: int, depth: int = 0) -> None:
        self._file, self._path, self._size, self._depth = file, path, size, depth
        if depth > MAX_DEPTH:
            raise ModelError("weights lie too deep in each other", where=f"weights {path}")

    def children(self, layers: Sequence[tuple[str, str]]) -> dict[str, Weights]:
        home = next((name for name in _LAYERS if group(self._file, f"{self._path}/{name}") is not None), _LAYERS[0])
        used: dict[str, int] = {}
        found: dict[str, Weights] = {}
        for kind, name in layers:
            stem = snake(kind)
            count = used.get(stem, 0)
            used[stem] = count + 1
            found[name] = Tree(self._file, f"{self._path}/{home}/{stem}_{count}" if count else f"{self._path}/{home}/{stem}", self._size, self._depth + 1)
        return found

    def inner(self) -> Weights:
        return Tree(self._file, f"{self._path}/layer", self._size, self._depth + 1)

    def arrays(self) -> list[Array]:
        held = group(self._file, self._path)
        if held is None:
            return []
        found: list[Array] = []
        own = group(self._file, f"{self._path}/vars")
        if own is not None:
            every = names_in(own, self._path)
            names = sorted((name for name in every if name.isascii() and name.isdigit() and len(name) < 6), key=int)
            if len(names) != len(every):
                raise ModelError("weights of a layer are not numbered", where=f"weights {self._path}", got=every[:4])
            found += [array(self._file, f"{self._path}/vars/{name}", self._size) for name in names]
        inside = names_in(held, self._path)
        for part in _PARTS:
            if part in inside:
                found += Tree(self._file, f"{self._path}/{part}", self._size, self._depth + 1).arrays()
        unknown = [name for name in inside if name not in (*_PARTS, *_OTHERS) and _holds(self._file, f"{self._path}/{name}", self._depth + 1)]
        if unknown:
            raise UnsupportedError("a layer has weights of a part that is not known", where=f"weights {self._path}", got=unknown[0], expected=", ".join(_PARTS))
        return found


class Flat(Weights):
    """A whole ``.h5`` file: a list of named arrays per layer of the outermost model.

    Args:
        file: the file.
        arrays: names and paths.
        size: bytes of the file.
    """

    def __init__(self, file: File, arrays: Sequence[tuple[str, str]], size: int) -> None:
        self._file, self._given, self._size = file, list(arrays), size

    def children(self, layers: Sequence[tuple[str, str]]) -> dict[str, Weights]:
        """An array belongs to the layer whose name is a part of the array's, the last such part."""
        names = {name for _, name in layers}
        parts: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
        for name, path in self._given:
            home = next((part for part in name.split("/") if part in names), None)
            if home is None:
                raise ModelError("an array belongs to no layer", where=f"weights {path}", got=name, expected=", ".join(sorted(names)[:9]))
            parts[home].append((name, path))
        return {name: Flat(self._file, given, self._size) for name, given in parts.items()}

    def inner(self) -> Weights:
        return self

    def arrays(self) -> list[Array]:
        return [array(self._file, path, self._size) for _, path in self._given]


class Groups(Weights):
    """The outermost model of a ``.h5`` file."""

    def __init__(self, file: File, size: int) -> None:
        self._file, self._size = file, size

    def children(self, layers: Sequence[tuple[str, str]]) -> dict[str, Weights]:
        found: dict[str, Weights] = {}
        for _, name in layers:
            home = f"/model_weights/{name}"
            held = group(self._file, home)
            names = [] if held is None else _texts(held, "weight_names", home)
            found[name] = Flat(self._file, [(text, f"{home}/{text}") for text in names], self._size)
        return found

    def inner(self) -> Weights:
        return self

    def arrays(self) -> list[Array]:
        return []


def opened(data: Path | bytes, size: int, where: str) -> File:
    """An HDF5 file that the library has read to its end once, in a process of its own, since it never returns from some damaged files.

    Args:
        data: path or bytes of a file of ``size`` bytes.
        where: what to call it in errors.

    Raises:
        ModelError: the library does not return from reading the file, or crashes.
        RuntimeFailure: the other process cannot do its work.
        OSError: the file is no HDF5 file.
    """
    seconds = PATIENCE + size // RATE
    words = [sys.executable, str(walk.__file__), "-" if isinstance(data, bytes) else str(data.resolve()), str(seconds), str(size)]
    source: dict[str, Any] = {"input": data} if isinstance(data, bytes) else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(words, **source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=START + BUSY * seconds, check=False)
    except subprocess.TimeoutExpired:
        raise _unreadable(where, f"the HDF5 library does not return within {START + BUSY * seconds} s") from None
    except OSError as error:
        raise RuntimeFailure("HDF5 files cannot be read: Python does not start", where=where, got=error) from None
    if done.returncode < 0:
        raise _unreadable(where, f"the HDF5 library was ended by signal {-done.returncode}, within {seconds} s of work")
    if done.returncode:
        raise RuntimeFailure("HDF5 files cannot be read: the process that tries them failed", where=where, got=done.stderr.decode("utf-8", "replace").strip()[-2000:])
    return File(io.BytesIO(data) if isinstance(data, bytes) else data, "r")


def snake(name: str) -> str:
    """A class as Keras names its groups: ``DepthwiseConv2D`` is ``depthwise_conv2d``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def entry(file: File, path: str) -> Any:
    """What lies at a path; None when there is nothing.

    Raises:
        UnsupportedError: a link to another place or file.
        ModelError: the file is damaged.
    """
    at: Any = file
    try:
        for part in path.strip("/").split("/"):
            if part in ("", ".", "..") or not isinstance(at, Group) or part not in at:
                return None
            if not isinstance(at.get(part, getlink=True), HardLink):
                raise UnsupportedError("links in weights are not followed", where=f"weights {path}")
            at = at[part]
    except BROKEN as error:
        raise _damaged(path, error) from error
    return at


def names_in(held: Group, path: str) -> list[str]:
    """What lies in a group; ModelError when the file is damaged."""
    try:
        return list(held)
    except BROKEN as error:
        raise _damaged(path, error) from error


def group(file: File, path: str) -> Group | None:
    """The group at a path, if there is one."""
    found = entry(file, path) if path.strip("/") else file
    return found if isinstance(found, Group) else None


def array(file: File, path: str, size: int) -> Array:
    """The elements of a dataset.

    Raises:
        ModelError: it is missing, damaged, or larger than its file can hold.
        UnsupportedError: a type that is not supported, or elements that lie in other files.
    """
    found, where = entry(file, path), f"weights {path}"
    if not isinstance(found, Dataset):
        raise ModelError("weights of a layer are missing", where=where, hint="save the whole model: model.save(path)")
    try:
        if not walk.local(found):
            raise UnsupportedError("weights that lie in other files are not supported", where=where)
        if found.dtype.kind not in "fiub" or found.shape is None:
            raise UnsupportedError("weights of this type are not supported", where=where, got=found.dtype, expected="floats, integers or bool")
        if not walk.fits(found, size):
            raise ModelError("weights are larger than their file can hold", where=where, got=f"{found.nbytes} bytes in a file of {size}")
        return np.asarray(found[()])
    except BROKEN as error:
        raise _damaged(path, error) from error


def text_of(held: Any, name: str, where: str) -> str | None:
    """An attribute that is a string; None when it is not there."""
    try:
        if name not in held.attrs:
            return None
        found = held.attrs[name]
    except BROKEN as error:
        raise _damaged(where, error) from error
    if isinstance(found, bytes):
        return found.decode("utf-8", "replace")
    if not isinstance(found, str):
        raise ModelError("an attribute is no text", where=f"{where}, {name}", got=type(found).__name__)
    return found


def _texts(held: Any, name: str, where: str) -> list[str]:
    """An attribute that is a list of strings; long ones are cut into ``name0``, ``name1`` and so on."""
    found: list[str] = []
    try:
        names = [name] if name in held.attrs else []
        while not names or (names[0] != name and len(names) < 1 << 12 and f"{name}{len(names)}" in held.attrs):
            if f"{name}{len(names)}" not in held.attrs:
                break
            names.append(f"{name}{len(names)}")
        for part in names:
            for text in np.asarray(held.attrs[part]).reshape(-1):
                found.append(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text))
    except BROKEN as error:
        raise _damaged(where, error) from error
    return found


def _holds(file: File, path: str, depth: int) -> bool:
    """Whether there is any array below a path."""
    found = entry(file, path)
    if isinstance(found, Dataset):
        return True
    return depth < MAX_DEPTH and isinstance(found, Group) and any(_holds(file, f"{path}/{name}", depth + 1) for name in names_in(found, path))


def _damaged(path: str, error: Exception) -> ModelError:
    return _unreadable(f"weights {path}", error)


def _unreadable(where: str, got: object) -> ModelError:
    return ModelError("the weights cannot be read", where=where, got=got, hint="check that the file was copied completely")
