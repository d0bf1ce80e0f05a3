"""``precision="auto"`` against fp32: never slower beyond noise.

    python -m bench.auto --models DIR --json out.json

Both engines of a net are built at one level, auto calibrated on random pictures (or ``--calibrate``), and timed in turns, each in a process of its own. A net is slower
when the whole range of ratios lies above ``SLOWER``; the exit code is 1 then. The table says what was gained; below it stands what auto refused, and why.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench import host, int8, nets
from bench.kept import kept
from bench.report import pipes, replace_section
from bench.results import write_text
from strop.cli.output import table as print_table
from strop.engine.build import build
from strop.engine.engine import Engine
from strop.engine.peer_process import PeerError
from strop.engine.ratios import Ratio, geometric_mean, ratio
from strop.engine.versus import Settings, choose_cpus, engines_in_turns
from strop.engine.versus_report import Table
from strop.errors import StropError

#: Auto's time by that of fp32 above which a net is slower.
SLOWER = 1.02


@dataclass(frozen=True)
class Found:
    """One net.

    Attributes:
        net: its name.
        fp32: milliseconds of the engine in fp32, median of the turns; 0 where it was not timed.
        auto: of auto's.
        share: auto's time by that of fp32.
        layers: precision to the number of layers in it.
        same: whether auto left everything in fp32.
        notes: what auto said of the whole.
        reason: why it was not measured; empty when it was.
    """

    net: str
    fp32: float = 0.0
    auto: float = 0.0
    share: Ratio | None = None
    layers: dict[str, int] = field(default_factory=dict)
    same: bool = False
    notes: tuple[str, ...] = ()
    reason: str = ""

    @property
    def slower(self) -> bool:
        """Whether all turns say so."""
        return self.share is not None and self.share.low > SLOWER


def engines(net: nets.Net, level: int, budget: float | None, max_drop: float, data: Path | None, preprocess: str, folder: Path | None) -> tuple[Engine, Engine]:
    """The net in fp32 and in auto, for one thread.

    Raises:
        StropError: it cannot be built, or samples do not fit.
    """
    what = [net.path.stat().st_size, net.path.stat().st_mtime_ns, level, budget]
    floats = kept(folder, f"{net.name}-fp32", what, 1, lambda: build(net.path, level=level, budget=budget, threads=1))

    def auto() -> Engine:
        calibration, _ = int8.split(int8.samples_of(net.path, floats, data, preprocess))
        return build(net.path, level=level, budget=budget, threads=1, precision="auto", max_drop=max_drop, calibration=calibration)

    return floats, kept(folder, f"{net.name}-auto", [*what, max_drop, str(data), preprocess], 1, auto)


def measure(net: nets.Net, floats: Engine, auto: Engine, settings: Settings) -> Found:
    """Times both in turns."""
    facts = auto.manifest["precision"]
    layers = {kind: len(names) for kind, names in facts["layers"].items()}
    notes = tuple(note for note in auto.manifest["notes"] if note.startswith(("auto: ", "accuracy: ")))
    counts = {kind: count for kind, count in layers.items() if count}
    try:
        slow, fast = engines_in_turns([floats, auto], settings)
    except PeerError as error:
        return Found(net.name, layers=counts, notes=notes, reason=str(error))
    return Found(net.name, median(slow), median(fast), ratio(fast, slow), counts, set(counts) <= {"fp32"}, notes)


def table(found: Sequence[Found]) -> Table:
    """A row per net."""
    rows = []
    for each in found:
        layers = ", ".join(f"{count} {kind}" for kind, count in sorted(each.layers.items()))
        if each.share is None:
            rows.append((each.net, "", "", each.reason.splitlines()[0][:80], "", layers, "NO"))
            continue
        verdict = "SLOWER" if each.slower else "the same" if each.same else "faster" if each.share.high < 1 else "no slower"
        share = each.share
        rows.append((each.net, f"{each.fp32:.3f}", f"{each.auto:.3f}", f"{share.median:.3f}", f"[{share.low:.3f}, {share.high:.3f}]", layers, verdict))
    numbers = ("fp32 ms", "auto ms", "auto by fp32")
    return Table(("net", *numbers, "range", "layers", "verdict"), tuple(rows), numbers)


def lines(found: Sequence[Found], level: int, most: int = 4) -> list[str]:
    """The mean, and per net what auto gained and what it refused, reasons of single layers counted beyond ``most``."""
    shares = [each.share.median for each in found if each.share is not None]
    told = [f"built at level {level}, one thread; slower: the whole range above {SLOWER:g}"]
    if shares:
        told.append(f"auto takes {geometric_mean(shares):.3f} x the time of fp32 (geometric mean of {len(shares)} nets)")
    for each in found:
        single = [note for note in each.notes if " stays in fp32: " in note or " is lifted " in note]
        whole = [note for note in each.notes if note not in single]
        told += [f"{each.net}: {note}" for note in (*whole, *single[:most])]
        if single[most:]:
            kinds = Counter(note.split(":")[0] for note in single[most:])
            told.append(f"{each.net}: and {', '.join(f'{count} more by {kind}' for kind, count in kinds.items())}")
    return told


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.auto", description="precision auto against fp32.")
    add = parser.add_argument
    add("--models", type=Path, required=True, metavar="DIR", help="folder of .onnx nets")
    add("--only", default="", metavar="NAMES", help="some of the nets, separated by commas")
    add("--calibrate", type=Path, metavar="DATA", help="samples: .npy, .npz, or a folder of images; random pictures by default")
    add("--preprocess", default="imagenet", help="of images: unit, imagenet, signed or raw")
    add("--max-drop", type=float, default=1.0, metavar="POINTS", help="that agreement with fp32 may lose")
    add("--level", type=int, default=1, help="effort of the builds")
    add("--budget", type=float, help="seconds that tuning may take")
    add("--engines", type=Path, metavar="DIR", help="keep engines there, and take those that an earlier run has kept")
    add("--build-only", action="store_true", help="build and keep engines, do not measure")
    add("--rounds", type=int, default=Settings.rounds)
    add("--seconds", type=float, default=Settings.seconds, help="of a turn")
    add("--json", type=Path, metavar="FILE", help="write the results, after every net")
    add("--markdown", type=Path, metavar="FILE", help="write the table between the markers 'auto' in a file")
    return parser


def _run(given: argparse.Namespace, folder: Path) -> int:
    settings = Settings(1, given.rounds, given.seconds, choose_cpus(1))
    facts, found = host.facts(), []
    for net in nets.find(given.models, [name for name in given.only.split(",") if name]):
        if sys.stderr.isatty():
            print(net.name, file=sys.stderr)
        try:
            pair = engines(net, given.level, given.budget, given.max_drop, given.calibrate, given.preprocess, folder)
        except StropError as error:
            found.append(Found(net.name, reason=str(error)))
            continue
        if not given.build_only:
            found.append(measure(net, *pair, settings))
        if given.json is not None:
            results: list[dict[str, Any]] = [asdict(each) for each in found]
            write_text(given.json, json.dumps({"host": facts, "level": given.level, "nets": results}, indent=1) + "\n")
    if given.build_only and not found:
        return 0
    shown, told = table(found), lines(found, given.level)
    print_table(shown.columns, shown.rows, right=shown.numbers)
    print("\n".join(told))
    if given.markdown is not None:
        page = [f"Machine: {host.describe(facts)}.", pipes(shown), "\n".join(f"- {line}" for line in told)]
        replace_section(given.markdown, "auto", "\n\n".join(page))
    return int(any(each.slower or each.reason for each in found))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    given = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="strop-auto-") as text:
            return _run(given, given.engines or Path(text))
    except StropError as error:
        print(f"bench.auto: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
