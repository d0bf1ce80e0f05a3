"""Samples for calibration and evaluation: arrays, files, folders of images, generators; one batch in memory at a time."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from strop.errors import InputError, OptionError
from strop.ir.dtype import DType
from strop.ir.op import Array

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
#: What is done to the bytes of a picture: (factor, mean per channel, deviation per channel).
PREPROCESSING: Mapping[str, tuple[float, tuple[float, ...], tuple[float, ...]]] = {
    "unit": (1 / 255, (0.0,), (1.0,)),
    "raw": (1.0, (0.0,), (1.0,)),
    "signed": (1 / 127.5, (1.0,), (1.0,)),
    "imagenet": (1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
#: Names of arrays in an .npz file that hold labels.
LABELS = ("labels", "label", "y_true")
#: Random batches of the data-free mode.
SYNTHETIC = 16


class Port(Protocol):
    """An input of the model: a graph's Value or an engine's TensorInfo."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def shape(self) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Batch:
    """Arrays by input name, and the labels of their samples where there are some."""

    inputs: dict[str, Array]
    labels: Array | None = None


@dataclass(frozen=True)
class Samples:
    """A stream of batches that fit a model.

    Attributes:
        make: starts the stream; anew at each call, or once if ``once``.
        once: True for an iterator that cannot be walked again.
        note: what a user should know of how samples are made, or empty.
    """

    make: Callable[[], Iterator[Batch]]
    once: bool = False
    note: str = ""

    def __iter__(self) -> Iterator[Batch]:
        return self.make()

    def first(self, count: int) -> Samples:
        """The first batches."""
        return replace(self, make=lambda: islice(self.make(), count))


def samples(
    source: Any, ports: Sequence[Port], *, limit: int | None = None, preprocess: str = "unit", labels: str | Path | None = None
) -> Samples:
    """Batches for a model's inputs.

    Args:
        source: an array [N, ...] for an only input; a mapping from input names to such arrays; a path of an .npy or .npz file or of
            a folder of images (in folders named after their classes, or with ``labels``) or .npy files; an iterable of arrays, of
            sequences of arrays in the order of inputs, or of mappings; a callable that returns one; None for random samples.
        ports: the model's inputs. A first dim that is an int is the batch; samples that do not fill the last batch are left out.
        limit: batches to use at most.
        preprocess: a row of PREPROCESSING, for images.
        labels: a .csv of ``file or index,label`` rows.

    Raises:
        InputError: names what does not fit: a file, a name, a dtype, a shape.
        OptionError: unknown preprocessing, or images without the package Pillow.
    """
    if preprocess not in PREPROCESSING:
        raise OptionError("unknown preprocessing", got=preprocess, expected=", ".join(PREPROCESSING))
    given = _read_labels(Path(labels)) if labels is not None else None
    found = _open(source, ports, preprocess, given)

    def limited() -> Iterator[Batch]:
        count = 0
        for batch in found:
            if limit is not None and count >= limit:
                return
            count += 1
            yield Batch({p.name: _fit(batch.inputs, p, ports) for p in ports}, batch.labels)
        if count == 0:
            raise InputError("there are no samples", where=_name(source), expected=f"at least one batch of {_shown(ports)}")

    return Samples(limited, found.once, found.note)


def _open(source: Any, ports: Sequence[Port], preprocess: str, labels: dict[str, int] | None) -> Samples:
    if source is None:
        note = f"no data: ranges come from {SYNTHETIC} batches of random inputs and may be far from those of real ones; give calibration data"
        return Samples(lambda: _random(ports), note=note)
    if isinstance(source, (str, Path)):
        return _open_path(Path(source), ports, preprocess, labels)
    if isinstance(source, np.ndarray):
        return Samples(lambda: _sliced({_only(ports, "an array").name: source}, ports, labels))
    if isinstance(source, Mapping):
        arrays = {name: np.asarray(array) for name, array in source.items()}
        return Samples(lambda: _sliced(arrays, ports, labels))
    if callable(source):
        return Samples(lambda: _items(source(), ports))
    if isinstance(source, Iterable):
        return Samples(lambda: _items(source, ports), once=iter(source) is source)
    raise InputError("these are no samples", got=type(source).__name__, expected="an array, a mapping, a path, an iterable or a callable")


def _open_path(path: Path, ports: Sequence[Port], preprocess: str, labels: dict[str, int] | None) -> Samples:
    if path.is_dir():
        return _open_folder(path, ports, preprocess, labels)
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        arrays = {_only(ports, str(path)).name: loaded} if isinstance(loaded, np.ndarray) else {n: loaded[n] for n in loaded.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        got = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise InputError("the samples cannot be read", where=str(path), got=got, expected="an .npy or .npz file, or a folder") from error
    if len(ports) == 1 and ports[0].name not in arrays:
        others = [n for n in arrays if n not in LABELS]
        if len(others) == 1:
            arrays[ports[0].name] = arrays.pop(others[0])
    return Samples(lambda: _sliced(arrays, ports, labels))


def _sliced(arrays: Mapping[str, Array], ports: Sequence[Port], labels: Mapping[str, int] | None) -> Iterator[Batch]:
    """Batches cut from arrays whose first axis counts samples."""
    missing = [p.name for p in ports if p.name not in arrays]
    if missing:
        raise InputError("an input has no samples", where=missing[0], got=", ".join(arrays), expected=_shown(ports))
    truth = next((arrays[name] for name in LABELS if name in arrays and name not in [p.name for p in ports]), None)
    sizes = {p.name: _batch_of(p) for p in ports}
    counts = {name: arrays[name].shape[0] // size if arrays[name].ndim else 0 for name, size in sizes.items()}
    for k in range(min(counts.values())):
        parts = {name: np.asarray(arrays[name][k * size : (k + 1) * size]) for name, size in sizes.items()}
        size = next(iter(sizes.values()))
        rows: Array | None = None
        if truth is not None:
            rows = np.asarray(truth[k * size : (k + 1) * size])
        elif labels is not None:
            rows = np.array([_label(labels, str(i), "--labels") for i in range(k * size, (k + 1) * size)])
        yield Batch(parts, rows)


def _items(source: Any, ports: Sequence[Port]) -> Iterator[Batch]:
    """Batches from what a generator yields."""
    for item in source:
        if isinstance(item, Mapping):
            yield Batch({name: np.asarray(array) for name, array in item.items()})
        elif isinstance(item, (list, tuple)):
            if len(item) != len(ports):
                raise InputError("a sample has another number of arrays than the model has inputs", got=len(item), expected=_shown(ports))
            yield Batch({p.name: np.asarray(array) for p, array in zip(ports, item, strict=True)})
        else:
            yield Batch({_only(ports, "a sample").name: np.asarray(item)})


def _random(ports: Sequence[Port]) -> Iterator[Batch]:
    rng = np.random.default_rng(0)
    for _ in range(SYNTHETIC):
        made: dict[str, Array] = {}
        for port in ports:
            shape = tuple(_extent(d) for d in port.shape)
            drawn = rng.standard_normal(shape) if port.dtype.is_float else rng.integers(0, 2, shape)
            made[port.name] = drawn.astype(port.dtype.numpy)
        yield Batch(made)


# ---- folders


def _open_folder(path: Path, ports: Sequence[Port], preprocess: str, labels: dict[str, int] | None) -> Samples:
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (*IMAGES, ".npy") and p.is_file())
    if not files:
        raise InputError("the folder holds no samples", where=str(path), expected=f"files ending in {', '.join((*IMAGES, '.npy'))}")
    port = _only(ports, str(path))
    if labels is None and all(f.parent != path for f in files):
        classes = sorted({f.relative_to(path).parts[0] for f in files})
        numbers = {c: int(c) for c in classes} if all(c.isdigit() for c in classes) else {c: k for k, c in enumerate(classes)}
        labels = {str(f): numbers[f.relative_to(path).parts[0]] for f in files}
    pictures = any(f.suffix.lower() != ".npy" for f in files)
    size = _batch_of(port)

    def stream() -> Iterator[Batch]:
        for start in range(0, len(files) - size + 1, size):
            part = files[start : start + size]
            arrays = [_read_file(f, port, preprocess) for f in part]
            truth = None if labels is None else np.array([_file_label(labels, f, path) for f in part])
            yield Batch({port.name: np.stack(arrays)}, truth)

    return Samples(stream, note=f"images are scaled, cropped in the middle and preprocessed as '{preprocess}'" * pictures)


def _file_label(labels: Mapping[str, int], file: Path, folder: Path) -> int:
    for name in (str(file), file.relative_to(folder).as_posix(), file.name, file.stem):
        if name in labels:
            return labels[name]
    raise InputError("a file has no label", where=str(file), expected="a row in the table of labels")


def _read_file(file: Path, port: Port, preprocess: str) -> Array:
    if file.suffix.lower() == ".npy":
        try:
            return np.asarray(np.load(file, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise InputError("the sample cannot be read", where=str(file), got=error, expected="an array written by numpy.save") from error
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise OptionError("images are read with the package Pillow, which is not installed", where=str(file), hint="pip install 'strop[images]'") from None
    dims = [_extent(d) for d in port.shape]
    last = len(dims) == 4 and dims[3] in (1, 3) and dims[1] not in (1, 3)
    if len(dims) != 4 or dims[3 if last else 1] not in (1, 3):
        raise InputError("the model's input is no picture", where=port.name, got=list(port.shape), expected="[N, 1 or 3, H, W] or [N, H, W, 1 or 3]")
    channels, height, width = (dims[3], dims[1], dims[2]) if last else (dims[1], dims[2], dims[3])
    try:
        with Image.open(file) as opened:
            picture = opened.convert("RGB" if channels == 3 else "L")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError("the picture cannot be read", where=str(file), got=error) from error
    factor = max(height / picture.height, width / picture.width)
    scaled = picture.resize((max(width, round(picture.width * factor)), max(height, round(picture.height * factor))), Image.Resampling.BILINEAR)
    left, top = (scaled.width - width) // 2, (scaled.height - height) // 2
    pixels = np.asarray(scaled.crop((left, top, left + width, top + height))).reshape(height, width, channels)
    if port.dtype.name == "u8":
        array = pixels
    else:
        scale, mean, deviation = PREPROCESSING[preprocess]
        shifted = pixels.astype(np.float32) * scale - np.asarray(mean, np.float32)
        array = (shifted / np.asarray(deviation, np.float32)).astype(port.dtype.numpy)
    return np.ascontiguousarray(array if last else array.transpose(2, 0, 1))


def _read_labels(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if len(row) < 2 or not row[1].strip().lstrip("-").isdigit():
                    if number == 1:
                        continue  # a head line
                    raise InputError("a row of the labels does not fit", where=f"{path}:{number}", got=row, expected="file,number")
                found[row[0].strip()] = int(row[1])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("the labels cannot be read", where=str(path), got=getattr(error, "strerror", None) or error) from error
    return found


# ---- fitting


def _fit(arrays: Mapping[str, Array], port: Port, ports: Sequence[Port]) -> Array:
    """The array of one input, with the batch axis that it may lack; InputError when dtype or shape differ."""
    if port.name not in arrays:
        raise InputError("an input has no sample", where=port.name, got=", ".join(arrays), expected=_shown(ports))
    array = arrays[port.name]
    if array.ndim == len(port.shape) - 1:
        array = array[None]
    fits = array.ndim == len(port.shape) and all(not isinstance(d, int) or d == n for d, n in zip(port.shape, array.shape))
    if array.dtype != port.dtype.numpy or not fits:
        raise InputError("a sample does not fit an input", where=port.name, got=f"{array.dtype}{list(array.shape)}", expected=f"{port.dtype.numpy}{list(port.shape)}")
    return np.asarray(array, order="C")


def _batch_of(port: Port) -> int:
    first = port.shape[0] if len(port.shape) else 1
    return first if isinstance(first, int) and first > 0 else 1


def _extent(dim: Any) -> int:
    return dim if isinstance(dim, int) else int(dim.opt)


def _only(ports: Sequence[Port], where: str) -> Port:
    if len(ports) != 1:
        raise InputError("which input are the samples for?", where=where, got="one array", expected=_shown(ports))
    return ports[0]


def _label(labels: Mapping[str, int], name: str, where: str) -> int:
    if name not in labels:
        raise InputError("a sample has no label", where=where, got=name)
    return labels[name]


def _shown(ports: Sequence[Port]) -> str:
    return ", ".join(f"{p.name}: {p.dtype.numpy}[{','.join(map(str, p.shape))}]" for p in ports)


def _name(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) else type(source).__name__
