"""What a run of compare.py found, and its file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from strop.engine.peer_process import OWN
from strop.engine.ratios import Ratio
from strop.engine.roofline import Peaks
from strop.engine.versus import Entry, Row
from strop.errors import OptionError
from strop.files import replacing

FORMAT = 1


@dataclass(frozen=True)
class Layer:
    """A step of an engine: operations, bytes read and written, least nanoseconds."""

    name: str
    kind: str
    kernel: str
    flops: int
    bytes: int
    ns: int


@dataclass(frozen=True)
class Result:
    """One net at one number of threads and one batch.

    Attributes:
        row: the comparison.
        batch: samples per inference.
        target: Strop's.
        level: effort of the build.
        build_s: seconds of the build.
        flops: operations of an inference as the layers define them, whatever algorithm computes them.
        bytes: that its steps read and write, from memory or a cache.
        peaks: of the cores used, or None.
        layers: steps with their times, when asked for.
        precision: that all runtimes compute in.
        agreement: in int8, runtime to the share of samples of which it names the class that the net names in f32.
    """

    row: Row
    batch: int
    target: str
    level: int
    build_s: float = 0.0
    flops: int = 0
    bytes: int = 0
    peaks: Peaks | None = None
    layers: tuple[Layer, ...] = ()
    precision: str = "fp32"
    agreement: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What identifies it in another run."""
        return f"{self.row.net} threads={self.row.threads} batch={self.batch} target={self.target}{'' if self.precision == 'fp32' else ' ' + self.precision}"

    @property
    def ms(self) -> float | None:
        """Strop's time."""
        own = self.row.entry(OWN.name)
        return own.ms if own else None

    @property
    def flops_share(self) -> float | None:
        """Operations per second by the peak; above 1 where an algorithm needs fewer operations than the layers define."""
        return self.flops / (self.ms / 1e3) / self.peaks.flops if self.ms and self.peaks else None

    @property
    def bandwidth_share(self) -> float | None:
        """Bytes per second by the measured bandwidth; above 1 where bytes come from caches."""
        return self.bytes / (self.ms / 1e3) / self.peaks.bandwidth if self.ms and self.peaks else None


@dataclass(frozen=True)
class Results:
    """A run: facts about the machine, how it was measured, and the results in order."""

    host: dict[str, Any]
    settings: dict[str, Any]
    results: tuple[Result, ...] = ()

    def groups(self) -> dict[tuple[str, int, int], list[Result]]:
        """Results by target, threads and batch, in the order of their first appearance."""
        found: dict[tuple[str, int, int], list[Result]] = {}
        for result in self.results:
            found.setdefault((result.target, result.row.threads, result.batch), []).append(result)
        return found


def save(results: Results, path: Path) -> None:
    """Writes the file, whole or not at all; OptionError when that fails."""
    write_text(path, json.dumps({"format": FORMAT, **asdict(results)}, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all; OptionError when that fails."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError("cannot write the file", where=str(path), got=error.strerror or error) from None


def load(path: Path) -> Results:
    """Reads a file that ``save`` wrote; OptionError when it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}")
        return Results(dict(found["host"]), dict(found["settings"]), tuple(map(_result, found["results"])))
    except OSError as error:
        raise OptionError("cannot read the results", where=str(path), got=error.strerror or error) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise OptionError(
            "not a file of results", where=str(path), got=f"{type(error).__name__}: {error}",
            expected=f"what compare.py --json wrote, format {FORMAT}",
        ) from None  # fmt: skip


def _result(found: dict[str, Any]) -> Result:
    row = dict(found["row"])
    row["entries"] = tuple(
        Entry(**{**e, "rounds": tuple(map(float, e["rounds"])), "notes": tuple(e["notes"])}) for e in row["entries"]
    )
    row["ratio"] = _ratio(row["ratio"]) if row["ratio"] else None
    row["ratios"] = {str(name): _ratio(r) for name, r in row["ratios"].items()}
    row["steps"] = tuple((str(name), int(ns)) for name, ns in row["steps"])
    peaks = found["peaks"]
    return Result(
        **{
            **found,
            "row": Row(**row),
            "peaks": Peaks(float(peaks["flops"]), float(peaks["bandwidth"])) if peaks else None,
            "layers": tuple(Layer(**layer) for layer in found["layers"]),
        }
    )


def _ratio(found: dict[str, Any]) -> Ratio:
    made = Ratio(**{name: float(value) for name, value in found.items()})
    if not 0 < made.low <= made.median <= made.high < float("inf") or not made.noise >= 0:
        raise ValueError(f"no ratio: {found}")
    return made


def merge(runs: Sequence[Results]) -> Results:
    """All results of several runs; later ones replace earlier ones of the same key.

    Raises:
        OptionError: they were made on different processors.
    """
    cpus = {str(run.host.get("cpu")) for run in runs}
    if len(cpus) != 1:
        raise OptionError("results of different machines are not one table", got=", ".join(sorted(cpus)) or "no results")
    found = {result.key: result for run in runs for result in run.results}
    return Results(runs[0].host, runs[0].settings, tuple(found.values()))
