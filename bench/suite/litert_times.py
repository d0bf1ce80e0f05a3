"""Times every .tflite file of a folder on Strop and on LiteRT with XNNPACK: one thread each, in turns, agreement first.

    python -m bench.suite litert-times DIR --peers ENVIRONMENT [--level 1] [--json FILE] [--markdown docs/tflite.md] [--only TEXT] [--untimed]

Both are called from Python with inputs and results that stay where they are: ``invoke`` there, ``bind`` here. Variables of streaming models are kept from run to
run by both. Engines, and whether they agree, are kept below DIR/engines until the file, the level or Strop's sources change: ``--untimed`` makes them, so that
a later call only measures. With ``--json`` files that were measured by other calls keep their figures: a folder may be measured in parts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import strop
from bench import host
from bench.kept import sources
from bench.report import bullets, pipes, replace_section
from bench.results import write_text
from bench.suite.fetch import digest
from bench.suite.tflite_agreement import Outcome, agree, free_sizes, random_input
from strop.cli.output import table as print_table
from strop.engine.engine import Engine
from strop.engine.peer_process import find_peers, python_of
from strop.engine.ratios import geometric_mean
from strop.engine.versus import DISTURBED, Row, Settings, choose_cpus, compare
from strop.engine.versus_report import Table
from strop.errors import OptionError, StropError
from strop.frontend.tflite.importer import NEXT
from strop.frontend.tflite.model import Subgraph, load
from strop.frontend.tflite.reader import initial_state
from strop.ir.dtype import BY_NAME
from strop.target.detect import parse as parse_target

SECTION = "litert times"
#: What LiteRT should take at least by Strop's time, as a geometric mean, by the group of ``group``.
GOALS = {"float": 1.3, "int8": 1.2}
#: Operators whose operands say what a file computes in.
_PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV", "CONV_3D", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM")
#: Steps that are told of a file on which Strop is slower.
_TOLD = 3


@dataclass(frozen=True)
class Timed:
    """What was found on one file.

    Attributes:
        file: its name without the ending.
        computes: float, dynamic, int8 or int16x8.
        verdict: of the agreement: agrees, differs, refused or failed.
        detail: figures, or the error.
        status: ``timed``, or why there are no times.
        strop, litert: (median, least, greatest) of the rounds' medians in ms.
        ratio: LiteRT's time by Strop's, (median, least, greatest) of the rounds.
        disturbed: share of the turns' time in which a ready thread had no core.
        steps: (step, its share of the time), the longest first.
    """

    file: str
    computes: str
    verdict: str
    detail: str
    status: str = ""
    strop: tuple[float, ...] = ()
    litert: tuple[float, ...] = ()
    ratio: tuple[float, ...] = ()
    disturbed: float = 0.0
    steps: tuple[tuple[str, float], ...] = ()

    @property
    def group(self) -> str:
        """Which geometric mean it counts in."""
        return "float" if self.computes == "float" else "int8"


def computes(subgraph: Subgraph) -> str:
    """What the products of a file are of: float, dynamic (floats that the runtime quantizes), int8 or int16x8."""
    found = "float"
    for op in subgraph.operators:
        if op.code in _PRODUCTS:
            types = [subgraph.tensors[k].type for k in op.inputs if k >= 0]
            if "INT16" in types:
                return "int16x8"
            if types.count("INT8") + types.count("UINT8") >= 2:
                return "int8"
            if {"INT8", "INT4"} & set(types):
                found = "dynamic"
    return found


class _Kept:
    """Engines below a folder, with what their agreement was."""

    def __init__(self, folder: Path, level: int, tell: Callable[[str], None]) -> None:
        self._folder, self._level, self._tell = folder / "engines", level, tell

    def engine(self, path: Path, subgraph: Subgraph) -> Engine:
        """Of a file, for one thread."""
        place = self._place(path)
        if not place.exists():
            self._tell(f"{path.stem} is built at level {self._level}")
            place.parent.mkdir(parents=True, exist_ok=True)
            strop.build(path, level=self._level, threads=1, shapes=free_sizes(subgraph)).save(place)
        return strop.load(place, threads=1)

    def outcome(self, path: Path, find: Callable[[], Outcome]) -> Outcome:
        """What ``find`` says, or said when it was asked about this engine."""
        place = self._place(path).with_suffix(".json")
        if not place.exists():
            self._tell(f"{path.stem} on both")
            write_text(place, json.dumps(asdict(find())))
        return Outcome(**json.loads(place.read_text(encoding="utf-8")))

    def _place(self, path: Path) -> Path:
        what = (digest(path), self._level, parse_target("host").name, sources())
        return self._folder / f"{path.stem}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]}.strop"


def files(folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """The .tflite files below a folder, each content once, whose name has one of the texts.

    Raises:
        OptionError: there are none.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.tflite")):
        if not only or any(text in path.name for text in only):
            found.setdefault(digest(path), path)
    if not found:
        raise OptionError("no .tflite files", where=str(folder), got=", ".join(only) or "none", hint="python -m bench.suite fetch DIR")
    return list(found.values())


def measure(path: Path, kept: _Kept, environment: Path | None, settings: Settings | None, steps: tuple[int, int]) -> Timed:
    """One file: agreement over ``steps`` inputs (the second number for streaming models), then times unless ``settings`` is None."""
    subgraph = load(path).subgraphs[0]
    kind = computes(subgraph)
    try:
        engine = kept.engine(path, subgraph)
        state = initial_state(path, free_sizes(subgraph))
        outcome = kept.outcome(path, lambda: agree(path, engine, state, environment, *steps))
    except StropError as error:
        return Timed(path.stem, kind, "refused", " ".join(str(error).split())[:160])
    found = Timed(path.stem, kind, outcome.verdict, outcome.detail)
    if settings is None or outcome.verdict == "failed":
        return found
    rng = np.random.default_rng(2)
    inputs = {t.name: state.get(t.name, random_input(rng, BY_NAME[str(t.dtype)].numpy, (1, *t.shape))[0]) for t in engine.inputs}
    row = compare(
        engine, path, find_peers(["litert"]), python_of(environment), settings, name=path.stem, inputs=inputs, state={name: name + NEXT for name in state}
    )
    return _timed(found, row)


def _timed(found: Timed, row: Row) -> Timed:
    """With the figures of a comparison."""
    own, other = row.entries
    if row.ratio is None or own.ms is None or other.ms is None:
        return Timed(found.file, found.computes, found.verdict, found.detail, f"{row.status}: {other.reason or own.reason}")
    assert own.low is not None and own.high is not None and other.low is not None and other.high is not None
    whole = sum(ns for _, ns in row.steps) or 1
    steps = sorted(((name, ns / whole) for name, ns in row.steps), key=lambda step: -step[1])[:_TOLD]
    return Timed(
        found.file, found.computes, found.verdict, found.detail, "timed", (own.ms, own.low, own.high), (other.ms, other.low, other.high),
        (row.ratio.median, row.ratio.low, row.ratio.high), row.disturbed, tuple(steps),
    )  # fmt: skip


# ---- what is told


def times(found: Sequence[Timed]) -> Table:
    """A row per file."""
    rows = []
    for t in found:
        ours, theirs = _span(t.strop), _span(t.litert)
        ratio = f"{t.ratio[0]:.2f}" if t.ratio else ""
        spread = f"{t.ratio[1]:.2f} to {t.ratio[2]:.2f}" if t.ratio else t.status
        rows.append((t.file, t.computes, t.verdict, ours, theirs, ratio, spread))
    numbers = ("strop ms", "litert ms", "ratio")
    return Table(("file", "computes in", "outputs", *numbers, "rounds"), tuple(rows), numbers)


def _span(ms: Sequence[float]) -> str:
    return "" if not ms else "{} ({} to {})".format(*(_digits(x) for x in ms))


def _digits(ms: float) -> str:
    """Three significant digits."""
    return f"{ms:.{max(0, 2 - math.floor(math.log10(ms)))}f}"


def lines(found: Sequence[Timed]) -> list[str]:
    """Geometric means, the files on which Strop is slower with the steps that take the time, and what was not timed."""
    told = []
    for group, goal in GOALS.items():
        ratios = [t.ratio[0] for t in found if t.ratio and t.group == group]
        if ratios:
            slower = sum(r < 1 for r in ratios)
            told.append(
                f"{group}: LiteRT takes {geometric_mean(ratios):.2f} x Strop's time (geometric mean of {len(ratios)}; goal {goal}), least {min(ratios):.2f}, "
                f"greatest {max(ratios):.2f}; slower on {slower}"
            )
    for t in sorted((t for t in found if t.ratio and t.ratio[0] < 1), key=lambda t: t.ratio[0]):
        told.append(f"slower: {t.file} {t.ratio[0]:.2f}: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in t.steps))
    told += [f"{t.verdict}: {t.file}: {t.detail}" for t in found if t.verdict != "agrees"]
    disturbed = [t for t in found if t.disturbed > DISTURBED]
    if disturbed:
        worst = max(disturbed, key=lambda t: t.disturbed)
        told.append(f"disturbed by other processes: {len(disturbed)} of {len(found)}, {worst.file} the most ({100 * worst.disturbed:.0f} %)")
    return told


def main(given: Any, tell: Callable[[str], None]) -> int:
    """The verb; 1 when a file does not agree or Strop is slower on one."""
    known: dict[str, Timed] = {}
    facts = host.facts()
    if given.json is not None and given.json.exists():
        kept_rows = json.loads(given.json.read_text(encoding="utf-8"))["files"]
        known = {row["file"]: Timed(**{k: _tuples(v) for k, v in row.items()}) for row in kept_rows}
    kept = _Kept(given.folder, given.level, tell)
    settings = Settings(1, given.rounds, given.seconds, choose_cpus(1), profile=given.profile, tolerance=math.inf)
    paths = files(given.folder, [text for text in given.only.split(",") if text])
    for number, path in enumerate(paths):
        tell(f"{number + 1}/{len(paths)} {path.stem}")
        found = measure(path, kept, given.peers, None if given.untimed else settings, (given.steps, given.streaming_steps))
        if not given.untimed or found.file not in known:
            known[found.file] = found
        if given.json is not None:
            write_text(given.json, json.dumps({"host": facts, "files": [asdict(t) for t in known.values()]}, indent=1) + "\n")
    tell("")
    rows = [known[name] for name in sorted(known)]
    shown = times(rows)
    print_table(shown.columns, shown.rows, right=shown.numbers)
    print("\n".join(lines(rows)))
    if given.markdown:
        head = f"Machine: {host.describe(facts)}. One thread, pinned; engines built at level {given.level}; times are medians of {given.rounds} rounds in turns."
        replace_section(given.markdown, SECTION, "\n\n".join([head, pipes(shown), bullets(lines(rows))]))
    return int(any(t.verdict in ("differs", "failed") or (t.ratio and t.ratio[0] < 1) for t in rows))


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples they were."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value

