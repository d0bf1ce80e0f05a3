"""Fails when a net has become slower, against other runtimes, by more than its own noise.

    python bench/compare.py ... --json new.json
    python bench/gate.py new.json                          compares with bench/recorded.json
    python bench/gate.py --update new.json [again.json]    records; several runs of the same nets tell their noise better

A ratio to the fastest other runtime, measured in turns with it, moves much less between runs than a time does. What is recorded
is the ratio of every net, and its noise: the spread of its rounds, or of the runs that were recorded where that is larger. A net
fails when its ratio has fallen by more than 3 % and by more than three times its noise, when its output is wrong, when it could
not be measured, or when it is missing. Ratios hold for one kind of processor; another one is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.results import FORMAT, Result, Results, load, merge, write_text
from strop.cli.output import table as print_table
from strop.engine.versus import DISTURBED
from strop.errors import OptionError, StropError

RECORDED = Path(__file__).resolve().parent / "recorded.json"

#: A net noisier than this is not recorded: a gate that allows three times as much lets anything through.
MOST_NOISE = 0.05
#: A ratio may fall by the larger of this share and so many times its noise.
LEAST_LOSS, NOISES = 0.03, 3.0


@dataclass(frozen=True)
class Record:
    """The ratio of a net to the fastest other runtime, and its relative noise."""

    ratio: float
    noise: float

    @property
    def allowed(self) -> float:
        """The share that the ratio may fall by."""
        return max(LEAST_LOSS, NOISES * self.noise)


@dataclass(frozen=True)
class Verdict:
    """What became of a recorded net: ``ok``, ``slower``, ``wrong``, ``failed``, ``alone`` or ``missing``.

    ``change`` is the relative change of the ratio; None where there is no new one.
    """

    key: str
    record: Record
    ratio: float | None
    change: float | None
    verdict: str
    disturbed: bool = False


def judge(results: Results, records: Mapping[str, Record]) -> list[Verdict]:
    """A verdict for every recorded net."""
    found = {result.key: result for result in results.results}
    return [_verdict(key, record, found.get(key)) for key, record in records.items()]


def _verdict(key: str, record: Record, result: Result | None) -> Verdict:
    if result is None:
        return Verdict(key, record, None, None, "missing")
    if result.row.ratio is None:
        return Verdict(key, record, None, None, result.row.status)
    ratio = result.row.ratio.median
    change = ratio / record.ratio - 1
    verdict = "slower" if change < -record.allowed else "ok"
    return Verdict(key, record, ratio, change, verdict, result.row.disturbed > DISTURBED)


def record(runs: Sequence[Results]) -> dict[str, Record]:
    """A record of every net that was compared in any of the runs.

    Raises:
        OptionError: a run holds a net that is wrong or failed, or one is too noisy to be judged later.
    """
    ratios: dict[str, list[Any]] = {}
    for run in runs:
        for result in run.results:
            if result.row.status in ("wrong", "failed"):
                raise OptionError("a bad result is not recorded", where=result.key, got=f"{result.row.status}: {result.row.reason}")
            if result.row.ratio is not None:
                ratios.setdefault(result.key, []).append(result.row.ratio)
    made = {}
    for key, found in ratios.items():
        medians = [r.median for r in found]
        middle = median(medians)
        between = (max(medians) - min(medians)) / 2 / middle
        made[key] = Record(middle, max(between, median(r.noise for r in found)))
    noisy = [f"{key} ({100 * r.noise:.0f} %)" for key, r in made.items() if r.noise > MOST_NOISE]
    if noisy:
        raise OptionError(
            "too noisy to record", got=", ".join(noisy), expected=f"at most {100 * MOST_NOISE:.0f} % from round to round",
            hint="end other processes, measure more rounds, or longer turns",
        )  # fmt: skip
    return made


def read(path: Path) -> tuple[str, dict[str, Record]]:
    """(processor, records) of a file; OptionError when it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}")
        records = {str(k): Record(float(r["ratio"]), float(r["noise"])) for k, r in found["records"].items()}
        if any(not (r.ratio > 0 and r.noise >= 0) for r in records.values()):
            raise ValueError("a ratio or noise out of range")
        return str(found["cpu"]), records
    except OSError as error:
        raise OptionError(
            "nothing is recorded", where=str(path), got=error.strerror or error, hint="bench/gate.py --update RESULTS.json"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise OptionError("not a file of recorded ratios", where=str(path), got=f"{type(error).__name__}: {error}") from None


def update(path: Path, files: Sequence[Path]) -> int:
    """Records what the files hold, beside what is recorded for other nets on the same processor; returns how many."""
    runs = [load(file) for file in files]
    cpu = str(merge(runs).host.get("cpu"))  # refuses files of different machines
    made = record(runs)
    kept = {}
    if path.exists():
        old_cpu, old = read(path)
        kept = old if old_cpu == cpu else {}
    records = {key: asdict(r) for key, r in sorted({**kept, **made}.items())}
    write_text(path, json.dumps({"format": FORMAT, "cpu": cpu, "records": records}, indent=1) + "\n")
    return len(made)


def _check_cpu(cpu: str, results: Results, path: Path) -> None:
    if cpu != str(results.host.get("cpu")):
        raise OptionError(
            "ratios of another processor are recorded", where=str(path), got=results.host.get("cpu"), expected=cpu,
            hint="record this machine's: --recorded OTHER.json --update RESULTS.json",
        )  # fmt: skip


def _cells(v: Verdict) -> tuple[str, ...]:
    now = "" if v.ratio is None else f"{v.ratio:.3f}"
    change = "" if v.change is None else f"{100 * v.change:+.1f}"
    return (v.key, f"{v.record.ratio:.3f}", now, change, f"-{100 * v.record.allowed:.1f}", v.verdict + ", disturbed" * v.disturbed)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 when every net holds, 1 when one does not, 2 when nothing could be judged."""
    parser = argparse.ArgumentParser(description="Fails when a net lost more than its own noise.")
    parser.add_argument("files", nargs="+", type=Path, metavar="RESULTS.json", help="what compare.py --json wrote")
    parser.add_argument("--recorded", type=Path, default=RECORDED, metavar="FILE")
    parser.add_argument("--update", action="store_true", help="record instead of judging")
    given = parser.parse_args(arguments)
    try:
        if given.update:
            count = update(given.recorded, given.files)
            print(f"recorded {count} ratios in {given.recorded}")
            return 0
        results = merge([load(file) for file in given.files])
        cpu, records = read(given.recorded)
        _check_cpu(cpu, results, given.recorded)
    except StropError as error:
        print(f"gate.py: {error}", file=sys.stderr)
        return 2
    verdicts = judge(results, records)
    numbers = ("recorded", "now", "change %", "allowed %")
    print_table(("net", *numbers, "verdict"), map(_cells, verdicts), right=numbers)
    bad = [v for v in verdicts if v.verdict != "ok"]
    print(f"{len(bad)} of {len(verdicts)} do not hold" if bad else f"all {len(verdicts)} hold")
    return int(bool(bad) or not verdicts)


if __name__ == "__main__":
    sys.exit(main())
