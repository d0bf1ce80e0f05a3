"""Range tables: per value the range that its integers cover, as text that people read, edit, merge and keep.

::

    strop ranges 1
    # low high calibrator samples name
    0.0 1.0 entropy2 500 input
    -3.25 4.125 mse 500 conv1

A name with a line break is a JSON string. Tables of TensorRT (``IInt8Calibrator.write_calibration_cache``) are read too, and written
on request: ``TRT-8601-EntropyCalibration2``, then ``name: 3c010a14``, the bits of the float32 scale of a symmetric
8-bit range.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from strop.errors import ModelError, OptionError
from strop.files import replacing
from strop.quantize.grid import SYMMETRIC

_HEAD = "strop ranges 1"
_TRT_HEAD = re.compile(r"TRT-\d+-\w+\Z")
#: The largest table that is read.
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Entry:
    """The range of one value.

    Attributes:
        low, high: finite; integers outside saturate.
        calibrator: what chose the range.
        samples: how many were looked at; 0 where the table does not say.
    """

    low: float
    high: float
    calibrator: str = "manual"
    samples: int = 0


@dataclass
class Table:
    """Ranges by the name of the value in the portable graph.

    Attributes:
        entries: range per value.
        notes: what a user should know of how they were found; not part of the text.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list, compare=False)

    def __getitem__(self, name: str) -> Entry:
        return self.entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def covers_as(self, other: Table) -> bool:
        """Whether both have the same ranges of the same values."""
        return {name: (e.low, e.high) for name, e in self.entries.items()} == {name: (e.low, e.high) for name, e in other.entries.items()}

    def merge(self, other: Table) -> None:
        """Takes in another table: of a value that both have, the range that holds both, and the sum of the samples."""
        for name, entry in other.entries.items():
            mine = self.entries.get(name)
            if mine is None:
                self.entries[name] = entry
                continue
            kind = mine.calibrator if mine.calibrator == entry.calibrator else "merged"
            low, high = min(mine.low, entry.low), max(mine.high, entry.high)
            self.entries[name] = replace(mine, low=low, high=high, calibrator=kind, samples=mine.samples + entry.samples)

    def text(self) -> str:
        """The table as text; ``parse`` gives it back exactly."""
        lines = [_HEAD, "# low high calibrator samples name"]
        for name, entry in self.entries.items():
            shown = name if re.fullmatch(r"[^\s\"](.*[^\s])?", name) else json.dumps(name)
            lines.append(f"{entry.low!r} {entry.high!r} {entry.calibrator} {entry.samples} {shown}")
        return "\n".join(lines) + "\n"

    def tensorrt_text(self, version: int = 8601) -> str:
        """The table as a TensorRT calibration cache: symmetric, so that the larger side of each range counts.

        Args:
            version: of TensorRT, as in the cache's first line.
        """
        kinds = {entry.calibrator.partition(":")[0] for entry in self.entries.values()}
        kind = {"minmax": "MinMaxCalibration", "entropy": "EntropyCalibration", "legacy": "LegacyCalibration"}.get(
            next(iter(kinds), ""), "EntropyCalibration2"
        )
        lines = [f"TRT-{version}-{kind if len(kinds) == 1 else 'EntropyCalibration2'}"]
        for name, entry in self.entries.items():
            scale = max(-entry.low, entry.high) / SYMMETRIC
            lines.append(f"{name}: {struct.pack('>f', scale).hex()}")
        return "\n".join(lines) + "\n"

    def save(self, path: str | os.PathLike[str], *, tensorrt: bool = False) -> None:
        """Writes the table, whole or not at all; OptionError when the file cannot be written."""
        target = Path(path)
        try:
            with replacing(target) as temporary:
                temporary.write_text(self.tensorrt_text() if tensorrt else self.text(), encoding="utf-8")
        except OSError as error:
            raise OptionError("cannot write the range table", where=str(target), got=error.strerror or error, hint="write elsewhere") from error


def load(path: str | os.PathLike[str]) -> Table:
    """Reads a table, Strop's or TensorRT's.

    Raises:
        ModelError: the file cannot be read or is no range table; names the line.
    """
    try:
        if os.path.getsize(path) > _MOST_BYTES:
            raise ModelError("the range table is too large", where=str(path), expected=f"up to {_MOST_BYTES} bytes")
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError("the range table cannot be read", where=str(path), got=getattr(error, "strerror", None) or error) from error
    return parse(text, str(path))


def parse(text: str, where: str = "range table") -> Table:
    """A table from its text; ModelError names the line that does not fit."""
    lines = text.splitlines()
    head = lines[0].strip() if lines else ""
    if head != _HEAD and not _TRT_HEAD.match(head):
        raise ModelError("this is no range table", where=where, got=head[:80], expected=f"{_HEAD}, or the first line of a TensorRT cache")
    read = _own_line if head == _HEAD else _tensorrt_line
    table = Table()
    for number, line in enumerate(lines[1:], 2):
        if not line.strip() or line.startswith("#"):
            continue
        found = read(line, head)
        if found is None or not (math.isfinite(found[1].low) and math.isfinite(found[1].high) and found[1].low <= found[1].high):
            expected = "low high calibrator samples name" if read is _own_line else "name: 8 hexadecimal digits"
            raise ModelError("a line of a range table does not fit", where=f"{where}:{number}", got=line[:80], expected=expected)
        if found[0] in table.entries:
            raise ModelError("a value has two ranges", where=f"{where}:{number}", got=found[0][:80])
        table.entries[found[0]] = found[1]
    return table


def _own_line(line: str, head: str) -> tuple[str, Entry] | None:
    parts = line.split(maxsplit=4)
    try:
        low, high, samples = float(parts[0]), float(parts[1]), int(parts[3])
        name = json.loads(parts[4]) if parts[4].startswith('"') else parts[4].rstrip()
    except (ValueError, IndexError):
        return None
    return (name, Entry(low, high, parts[2], samples)) if isinstance(name, str) and samples >= 0 else None


def _tensorrt_line(line: str, head: str) -> tuple[str, Entry] | None:
    name, _, digits = line.rpartition(":")
    digits = digits.strip()
    if not name or not re.fullmatch(r"[0-9a-fA-F]{8}", digits):
        return None
    most = struct.unpack(">f", bytes.fromhex(digits))[0] * SYMMETRIC
    return name, Entry(-most, most, head.rpartition("-")[2])


def of(entries: Mapping[str, tuple[float, float]]) -> Table:
    """A table of ranges that a user gives by hand."""
    return Table({name: Entry(float(low), float(high)) for name, (low, high) in entries.items()})
