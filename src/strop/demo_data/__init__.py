"""The demonstration's data: a LeNet trained on MNIST and the digits held back from its training.

`examples/lenet/train.py` in the source repository makes both files; NOTICE says where the digits
come from.
"""

import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from numpy.typing import NDArray
from onnx import numpy_helper

from strop.errors import ModelError

_FOLDER = Path(__file__).parent
_WEIGHTS: dict[str, tuple[int, ...]] = {
    "conv1.weight": (20, 1, 5, 5),
    "conv1.bias": (20,),
    "conv2.weight": (50, 20, 5, 5),
    "conv2.bias": (50,),
    "fc1.weight": (500, 800),
    "fc1.bias": (500,),
    "fc2.weight": (10, 500),
    "fc2.bias": (10,),
}
_DIGITS = "uint8 images [N, 28, 28] and int64 labels [N] in an .npz file"
_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    SyntaxError,
    RuntimeError,
    TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile and numpy's header parser raise on a damaged .npz file."""
_HINT = "install strop again, or make the file with examples/lenet/train.py"


def lenet_path() -> Path:
    """Return the path of the trained LeNet, an ONNX file of opset 17.

    Input ``input``: float32 [1, 1, 28, 28], ink 1 on background 0. Output ``logits``: float32
    [1, 10], the largest at the digit's place. Layers: conv1 (5x5x20), pool1 (2x2), conv2
    (5x5x50), pool2 (2x2), flatten, fc1 (500), relu1, fc2 (10); the convolutions are not padded.
    Raises ModelError where the installation lacks the file.
    """
    return _installed("lenet.onnx")


def lenet_weights() -> dict[str, NDArray[np.float32]]:
    """Return the trained weights, float32, by name.

    conv1.weight [20, 1, 5, 5], conv1.bias [20], conv2.weight [50, 20, 5, 5], conv2.bias [50],
    fc1.weight [500, 800], fc1.bias [500], fc2.weight [10, 500], fc2.bias [10]; convolutions are
    [out, in, height, width] and dense layers [out, in]. The arrays are the caller's own.
    Raises ModelError where the file is missing or damaged.
    """
    path = lenet_path()
    try:
        stored = onnx.load(path).graph.initializer
        weights = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in stored}
    except (DecodeError, ValueError, TypeError) as error:
        raise _damaged(path, error, "an ONNX file with weights") from error
    found = {name: weight.shape for name, weight in weights.items()}
    if found != _WEIGHTS or any(weight.dtype != np.float32 for weight in weights.values()):
        raise _damaged(path, found, f"float32 weights {_WEIGHTS}")
    return weights


def held_back_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return (images, labels) of real digits that the LeNet was not trained on.

    Images are float32 [N, 1, 28, 28] in 0..1, ready for the LeNet's input; labels are int64 [N],
    0..9. Raises ModelError where the file is missing or damaged.
    """
    path = _installed("digits.npz")
    try:
        with np.load(path, allow_pickle=False) as stored:
            images, labels = stored["images"], stored["labels"]
    except _UNREADABLE as error:
        raise _damaged(path, error, _DIGITS) from error
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise _damaged(path, f"labels {labels.dtype} {labels.shape}", _DIGITS)
    if images.dtype != np.uint8 or images.shape != (len(labels), 28, 28):
        raise _damaged(path, f"images {images.dtype} {images.shape}", _DIGITS)
    return images[:, np.newaxis].astype(np.float32) / np.float32(255), labels


def _installed(name: str) -> Path:
    path = _FOLDER / name
    if not path.is_file():
        raise ModelError(
            "a file of the demonstration is missing", where=str(path), expected=name, hint=_HINT
        )
    return path


def _damaged(path: Path, got: object, expected: str) -> ModelError:
    return ModelError(
        "a file of the demonstration cannot be read",
        where=str(path),
        got=got,
        expected=expected,
        hint=_HINT,
    )
