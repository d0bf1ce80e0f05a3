"""Range tables: text that comes back, merging, TensorRT's caches."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from strop.errors import ModelError, OptionError
from strop.quantize.table import Entry, Table, load, of, parse

NAMES = ["x", "a name: with / signs", '"quoted"', " padded ", "two\nlines", "ümlaut"]


def table() -> Table:
    return Table({name: Entry(-k - 0.1, k / 3, "mse", k) for k, name in enumerate(NAMES)})


def test_text_comes_back(tmp_path: Path) -> None:
    assert parse(table().text()) == table()
    table().save(tmp_path / "t.txt")
    assert load(tmp_path / "t.txt") == table() and [p.name for p in tmp_path.iterdir()] == ["t.txt"]


def test_merging_holds_both_ranges() -> None:
    one = Table({"x": Entry(-1, 2, "mse", 5), "y": Entry(0, 1, "mse", 5)})
    one.merge(Table({"x": Entry(-3, 1, "mse", 7), "z": Entry(0, 9, "minmax", 1)}))
    assert one.entries == {"x": Entry(-3, 2, "mse", 12), "y": Entry(0, 1, "mse", 5), "z": Entry(0, 9, "minmax", 1)}
    one.merge(Table({"y": Entry(0, 2, "minmax", 1)}))
    assert one["y"] == Entry(0, 2, "merged", 6)


def test_tensorrt_caches_are_read_and_written() -> None:
    text = "TRT-8601-EntropyCalibration2\ninput: 3c010a14\n(Unnamed Layer* 3) [Convolution]_output: 3d000000\n"
    found = parse(text)
    most = struct.unpack(">f", bytes.fromhex("3c010a14"))[0] * 127
    assert found["input"] == Entry(-most, most, "EntropyCalibration2")
    assert found["(Unnamed Layer* 3) [Convolution]_output"].high == 0.03125 * 127
    assert parse(found.tensorrt_text()).entries.keys() == found.entries.keys()
    again = parse(Table({"input": Entry(-0.5, most, "entropy2")}).tensorrt_text())
    assert again["input"].high == pytest.approx(most, rel=1e-6)
    assert Table({"x": Entry(0, 1, "minmax")}).tensorrt_text().startswith("TRT-8601-MinMaxCalibration\n")


def test_ranges_by_hand() -> None:
    assert of({"x": (-1, 2)})["x"] == Entry(-1.0, 2.0)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None), ("strop ranges 2\n", None),
        ("strop ranges 1\n0 1 mse 3\n", 2), ("strop ranges 1\n\nx 1 mse 3 a\n", 3), ("strop ranges 1\n2 1 mse 3 a\n", 2),
        ("strop ranges 1\n0 nan mse 3 a\n", 2), ("strop ranges 1\n0 1 mse 3 a\n0 1 mse 3 a\n", 3), ('strop ranges 1\n0 1 mse 3 "a\n', 2),
        ("TRT-8601-EntropyCalibration2\nx: 3c01\n", 2), ("TRT-8601-EntropyCalibration2\nx: 7f800000\n", 2),
    ],
)  # fmt: skip
def test_damaged_tables_are_refused(text: str, line: int | None) -> None:
    with pytest.raises(ModelError) as error:
        parse(text, "t.txt")
    assert error.value.where == ("t.txt" if line is None else f"t.txt:{line}")


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"\xff\xfe\x00")
    for name in ("t", "none"):
        with pytest.raises(ModelError):
            load(tmp_path / name)
    with pytest.raises(OptionError, match="cannot write"):
        table().save(tmp_path / "no folder" / "t.txt")
