"""How often runtimes name in int8 the class that a net names in f32, without timing anything.

    python -m bench.int8_agreement --models DIR --peers ~/peers --json out.json --markdown docs/performance.md

Samples and models are those of ``bench/compare.py --precision int8`` (``int8.py``); Strop's engines are built at level 0, which changes no bit of their
results. Nets that the JSON file has already are taken from it. The exit code is 1 when Strop names fewer classes of a net than another runtime.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import int8
from bench.report import pipes, replace_section
from bench.results import write_text
from strop.cli.output import table as print_table
from strop.engine.build import build
from strop.engine.peer_process import python_of
from strop.engine.versus_report import Table
from strop.errors import OptionError, StropError

RUNTIMES = ("onnxruntime", "openvino", "litert")


def measure(model: Path, python: Path, folder: Path, threads: int = 1, precision: str = "int8") -> tuple[dict[str, float], int]:
    """The share of tests in which each runtime names the class of f32, and how many tests there are.

    Args:
        model: the net in f32.
        python: of the environment with the other runtimes.
        folder: for what is made.
        precision: of Strop's engine.

    Raises:
        StropError: the net cannot be built.
    """
    prepared = int8.prepare(model, build(model, threads=threads, level=0), None, "unit", python, folder)
    engine = build(model, threads=threads, level=0, precision=precision, calibration=prepared.calibration, calibrator=int8.CALIBRATOR)
    return int8.agreement(prepared, engine, RUNTIMES, python, folder, model.stem), len(prepared.floats)


def table(found: Mapping[str, Mapping[str, float]]) -> Table:
    """A row per net, in percent."""
    names = ("strop", *RUNTIMES)
    rows = [(net, *(f"{100 * shares[name]:.1f}" if name in shares else "does not run" for name in names)) for net, shares in found.items()]
    return Table(("net", *names), tuple(rows), names)


def behind(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Nets of which another runtime names more classes than Strop."""
    return [net for net, shares in found.items() if shares["strop"] < max(shares.values())]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.int8_agreement", description="Agreement of runtimes in int8 with f32.")
    add = parser.add_argument
    add("--models", type=Path, required=True, metavar="DIR", help="folder of .onnx files")
    add("--only", default="", metavar="NAMES", help="some of the nets, separated by commas")
    add("--peers", type=Path, metavar="DIR", help="virtual environment with the other runtimes (bench/setup_peers.sh)")
    add("--precision", default="int8", choices=int8.PRECISIONS, help="of Strop's engines")
    add("--json", type=Path, metavar="FILE", help="take nets from it, and write the results after every net")
    add("--markdown", type=Path, metavar="FILE", help="write the table between the markers 'int8-agreement' in a file")
    given = parser.parse_args(arguments)
    try:
        paths = [given.models / f"{name}.onnx" for name in given.only.split(",")] if given.only else sorted(given.models.glob("*.onnx"))
        if absent := [str(path) for path in paths if not path.exists()]:
            raise OptionError("no such nets", got=", ".join(absent), hint="bench/nets.py --export DIR makes them where torchvision is installed")
        python = python_of(given.peers)
        found: dict[str, dict[str, float]] = {}
        if given.json is not None and given.json.exists():
            found = json.loads(given.json.read_text(encoding="utf-8"))["nets"]
        for path in paths:
            if path.stem not in found:
                with tempfile.TemporaryDirectory(prefix="strop-int8-") as folder:
                    found[path.stem], tests = measure(path, python, Path(folder), precision=given.precision)
                print(f"{path.stem}: {tests} tests", file=sys.stderr)
                if given.json is not None:
                    write_text(given.json, json.dumps({"nets": found}, indent=1) + "\n")
    except StropError as error:
        print(f"bench.int8_agreement: {error}", file=sys.stderr)
        return 1
    shown = table(found)
    print_table(shown.columns, shown.rows, right=shown.numbers)
    if given.markdown is not None:
        replace_section(given.markdown, "int8-agreement", pipes(shown))
    return int(bool(behind(found)))


if __name__ == "__main__":
    sys.exit(main())
