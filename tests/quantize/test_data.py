"""Sources of samples: every form gives the same batches, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.errors import InputError, OptionError
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.quantize.data import SYNTHETIC, samples

X = np.arange(5 * 6, dtype=np.float32).reshape(5, 6)


def ports(*types: Type) -> list[Any]:
    graph = Graph()
    return [graph.add_input(f"x{k}", t) for k, t in enumerate(types)]


ONE = ports(Type(dt.f32, (2, 6)))
TWO = ports(Type(dt.f32, (1, 6)), Type(dt.i64, (1,)))


def collected(source: Any, into: list[Any] = ONE, **options: Any) -> list[dict[str, np.ndarray]]:
    return [batch.inputs for batch in samples(source, into, **options)]


def files(folder: Path) -> dict[str, Any]:
    np.save(folder / "x.npy", X)
    np.savez(folder / "x.npz", other=X)
    (folder / "many").mkdir()
    for k, row in enumerate(X):
        np.save(folder / "many" / f"{k}.npy", row)
    batches = [X[0:2], X[2:4]]
    return {
        "array": X, "mapping": {"x0": X}, "list": batches, "generator": (b for b in batches), "mappings": [{"x0": b} for b in batches],
        "sequences": [[b] for b in batches], "callable": lambda: iter(batches), "npy": folder / "x.npy", "npz": str(folder / "x.npz"),
        "folder": folder / "many",
    }  # fmt: skip


@pytest.mark.parametrize(
    "form", ["array", "mapping", "list", "generator", "mappings", "sequences", "callable", "npy", "npz", "folder"]
)
def test_every_form_gives_the_same_batches(form: str, tmp_path: Path) -> None:
    source = files(tmp_path)[form]
    found = samples(source, ONE)
    got = [b.inputs["x0"] for b in found]
    assert len(got) == 2 and found.once == (form == "generator") and found.note == ""
    np.testing.assert_array_equal(np.concatenate(got), X[:4])
    if not found.once:
        assert len(list(found)) == 2


def test_several_inputs_and_labels() -> None:
    given = {"x0": X, "x1": np.arange(5), "labels": np.arange(5) % 2}
    found = list(samples(given, TWO))
    assert [int(b.inputs["x1"][0]) for b in found] == [0, 1, 2, 3, 4]
    assert [int(b.labels[0]) for b in found if b.labels is not None] == [0, 1, 0, 1, 0]
    assert len(collected([(X[:1], np.array([3]))], TWO)) == 1


def test_limit_and_a_batch_axis_that_samples_lack() -> None:
    assert len(collected(X, limit=1)) == 1
    assert [b["x0"].shape for b in collected([X[0], X[1]], ports(Type(dt.f32, (1, 6))))] == [(1, 6), (1, 6)]


def test_without_data_inputs_are_random_and_it_is_said() -> None:
    found = samples(None, TWO)
    assert "no data" in found.note and len(list(found)) == SYNTHETIC
    first, second = list(found), list(found)
    assert first[0].inputs["x1"].dtype == np.int64
    np.testing.assert_array_equal(first[3].inputs["x0"], second[3].inputs["x0"])


def pictures(folder: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    for label, colour in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
        (folder / label).mkdir(parents=True)
        image.new("RGB", (20, 12), colour).save(folder / label / "1.png")
    return folder


def test_folders_of_images(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    found = samples(folder, ports(Type(dt.f32, (1, 3, 8, 8))))
    batches = list(found)
    assert "preprocessed as 'unit'" in found.note
    assert [int(b.labels[0]) for b in batches if b.labels is not None] == [0, 1]
    np.testing.assert_allclose(batches[0].inputs["x0"][0, :, 4, 4], [1, 0, 0])
    (last,) = list(samples(folder, ports(Type(dt.f32, (2, 8, 8, 3))), preprocess="signed"))
    np.testing.assert_allclose(last.inputs["x0"][1, 4, 4], [-1, -1, 1])
    (raw,) = list(samples(folder, ports(Type(dt.u8, (2, 3, 8, 8)))))
    assert raw.inputs["x0"].dtype == np.uint8 and raw.inputs["x0"][0, 0].min() == 255
    first = next(iter(samples(folder, ports(Type(dt.f32, (1, 3, 8, 8))), preprocess="imagenet")))
    np.testing.assert_allclose(first.inputs["x0"][0, :, 0, 0], [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5)


def test_labels_from_a_table(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    (tmp_path / "labels.csv").write_text("file,label\ncat/1.png,7\ndog/1.png,9\n")
    found = samples(folder, ports(Type(dt.f32, (2, 3, 8, 8))), labels=tmp_path / "labels.csv")
    assert [b.labels.tolist() for b in found if b.labels is not None] == [[7, 9]]
    (tmp_path / "rows.csv").write_text("0,3\n1,4\n2,5\n3,6\n4,0\n")
    assert [b.labels.tolist() for b in samples(X, ONE, labels=tmp_path / "rows.csv") if b.labels is not None] == [[3, 4], [5, 6]]


def generator() -> Iterator[np.ndarray]:
    yield X[0:3]


@pytest.mark.parametrize(
    ("source", "into"),
    [
        (X.astype(np.float64), ONE), (X[:, :5], ONE), (generator, ONE), ([X[:2], X[:1, :3]], ONE), ({"y": X}, ONE), (X, TWO),
        ([[X[:1]]], TWO), (X[:1], ONE), ([], ONE), (3, ONE), ({"x0": X}, TWO), ([{"y": X[:2]}], ONE),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit(source: Any, into: list[Any]) -> None:
    with pytest.raises(InputError) as error:
        collected(source, into)
    assert error.value.expected or error.value.got


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"no array")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "x.png").write_bytes(b"no picture")
    (tmp_path / "bad.csv").write_text("0,one\n1,two\n")
    image = ports(Type(dt.f32, (1, 3, 8, 8)))
    for source, into in ((tmp_path / "x.npy", ONE), (tmp_path / "none.npz", ONE), (tmp_path / "empty", ONE), (tmp_path / "mixed", image), (tmp_path / "mixed", ONE)):
        with pytest.raises(InputError):
            collected(source, [into[0].__class__(into[0].name, Type(dt.f32, (1, *into[0].shape[1:])))])
    with pytest.raises(InputError, match="labels"):
        collected(X, labels=tmp_path / "bad.csv")
    with pytest.raises(InputError, match="no label"):
        (tmp_path / "short.csv").write_text("0,1\n")
        collected(X, labels=tmp_path / "short.csv")
    with pytest.raises(OptionError, match="preprocessing"):
        collected(X, preprocess="best")


def test_inputs_without_axes() -> None:
    """A number beside an image stays a number."""
    into = ports(Type(dt.f32, (1, 3)), Type(dt.f32, ()))
    (batch,) = collected([{"x0": np.ones((1, 3), np.float32), "x1": np.asarray(2, np.float32)}], into)
    assert batch["x1"].shape == () and batch["x0"].shape == (1, 3)
