"""What a call costs besides the network: from C and from Python, on nets so small that it shows.

    python bench/overhead.py [--level 3] [--json FILE] [--markdown docs/performance.md]

LeNet and nets under 1 MFLOP run on one thread: from a C program that is compiled here against strop.h, and from this process in
every way that Python offers. Rounds of C and Python take turns. A figure is the median over all blocks of calls; the steps'
share is the sum of their least times in a profile, and what a call takes beyond that is its overhead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import host, nets, report
from bench.results import write_text
from strop import knobs
from strop.cli.output import table as print_table
from strop.codegen import toolchain
from strop.engine.build import build
from strop.engine.describe import describe
from strop.engine.engine import Engine
from strop.engine.versus import choose_cpus
from strop.engine.versus_report import Table
from strop.errors import StropError, ToolchainError
from strop.runtime import sources
from strop.target.base import Target
from strop.target.detect import host as host_target

_SOURCE = Path(__file__).resolve().parent / "overhead.c"
#: Time of a block of calls, blocks per round, and rounds.
_BLOCK_NS, BLOCKS, ROUNDS = 2e6, 10, 5
_PROFILE_RUNS = 200
#: The ways to call, in the order of the table.
WAYS = ("C run", "C call", "Python bind()", "Python context()", "Python run(out=)", "Python engine()")


@dataclass(frozen=True)
class Calls:
    """Medians for one net, in nanoseconds.

    Attributes:
        net: its name.
        flops: of an inference.
        steps: their number.
        in_steps: sum of their least times.
        ns: per inference, by way of calling.
    """

    net: str
    flops: int
    steps: int
    in_steps: int
    ns: dict[str, float]


def program(folder: Path, target: Target) -> Path:
    """The C program, compiled with the runtime's sources; ToolchainError when that fails."""
    files = [_SOURCE, *sources.source_files()]
    include = f"-I{sources.INCLUDE_DIR.parent / 'src'}"
    objects = toolchain.compile_all([f.read_text(encoding="utf-8") for f in files], target, extra=(include,))
    compiler = toolchain.find()
    out = folder / "overhead"
    cache = str(knobs.cache_dir() / "zig")
    command = [*compiler.command, *compiler.machine_flags(target), *map(str, objects), "-lpthread", "-ldl", "-lm", "-o", str(out)]
    environment = knobs.environment({"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache})
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ToolchainError("the C program cannot be linked", got=done.stderr.strip()[-2000:], where=str(_SOURCE))
    return out


def measure(net: nets.Net, executable: Path, level: int, cpu: int | None, rounds: int = ROUNDS, blocks: int = BLOCKS) -> Calls:
    """Builds a net for one thread and times its calls."""
    engine = build(net.path, level=level, threads=1)
    inputs = engine.random_inputs()
    context = engine.context(threads=1)
    steps = context.profile(inputs, runs=_PROFILE_RUNS)
    ways = _python_ways(engine)
    block = max(1, round(_BLOCK_NS / (sum(s.nanoseconds for s in steps) + 1000)))
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, times in _from_c(executable, engine.path, block, blocks, cpu).items():
            found[way] += times
        for way, call in ways.items():
            found[way] += _blocks(call, block, blocks)
    totals = describe(engine).totals
    return Calls(net.name, totals.flops, totals.steps, sum(s.nanoseconds for s in steps), {w: median(t) for w, t in found.items()})


def _python_ways(engine: Engine) -> dict[str, Callable[[], object]]:
    """The same inference, called in every way that Python has."""
    inputs = engine.random_inputs()
    arrays = [inputs[t.name] for t in engine.inputs]
    out = {t.name: np.empty(t.shape, t.dtype.numpy) for t in engine.outputs}
    context = engine.context(threads=1)
    return {
        "Python bind()": context.bind(inputs, out),
        "Python context()": lambda: context(*arrays),
        "Python run(out=)": lambda: context.run(inputs, out=out),
        "Python engine()": lambda: engine(*arrays),
    }


def _blocks(call: Callable[[], object], block: int, blocks: int) -> list[float]:
    """Nanoseconds per call, the mean of each block; the first block is not counted."""
    clock, numbers, times = time.perf_counter_ns, range(block), []
    for _ in range(blocks + 1):
        before = clock()
        for _ in numbers:
            call()
        times.append((clock() - before) / block)
    return times[1:]


def _from_c(executable: Path, engine: Path, block: int, blocks: int, cpu: int | None) -> dict[str, list[float]]:
    command = [str(executable), str(engine), str(block), str(blocks), str(-1 if cpu is None else cpu)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ToolchainError("the C program fails", where=str(engine), got=done.stderr.strip() or f"code {done.returncode}")
    return {f"C {line.split()[0]}": list(map(float, line.split()[1:])) for line in done.stdout.splitlines()}


def as_table(found: Sequence[Calls]) -> Table:
    """Microseconds per inference, and the overhead from C and from Python at its least."""
    rows = []
    for calls in found:
        c, python = calls.ns["C run"], calls.ns["Python bind()"]
        cells = [calls.net, f"{calls.flops / 1e6:.3f}", str(calls.steps), f"{calls.in_steps / 1e3:.2f}"]
        cells += [f"{calls.ns[way] / 1e3:.2f}" for way in WAYS]
        rows.append((*cells, f"{(c - calls.in_steps) / 1e3:.2f}", f"{(python - c) / 1e3:.2f}"))
    numbers = ("MFLOP", "steps", "in steps", *WAYS, "C run - in steps", "bind() - C run")
    return Table(("net", *numbers), tuple(rows), numbers)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description="Measures what a call costs from C and from Python.")
    parser.add_argument("--level", type=int, default=3, help="effort of the builds")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", metavar="NAMES")
    parser.add_argument("--no-pin", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table between the markers in a file")
    parser.add_argument("--section", default="overhead", metavar="NAME", help="name of the markers")
    given = parser.parse_args(arguments)
    facts = host.facts()
    for warning in host.warnings(facts):
        print(f"overhead.py: {warning}", file=sys.stderr)
    cpus = None if given.no_pin else choose_cpus(1)
    try:
        with tempfile.TemporaryDirectory(prefix="strop-overhead-") as text:
            folder = Path(text)
            executable = program(folder, host_target())
            nets.write_small(folder / "nets")
            chosen = nets.find(folder / "nets", [name for name in given.only.split(",") if name])
            if cpus is not None:
                with suppress(OSError):
                    os.sched_setaffinity(0, cpus)
            found = [measure(net, executable, given.level, cpus[0] if cpus else None, max(1, given.rounds)) for net in chosen]
        shown = as_table(found)
        print(f"{host.describe(facts)}\nus per inference on one thread")
        print_table(shown.columns, shown.rows, right=shown.numbers)
        if given.json:
            write_text(given.json, json.dumps({"host": facts, "calls": [asdict(c) for c in found]}, indent=1) + "\n")
        if given.markdown:
            lines = f"Machine: {host.describe(facts)}.\n\nMicroseconds per inference on one thread, built at level {given.level}."
            report.replace_section(given.markdown, given.section, f"{lines}\n\n{report.pipes(shown)}")
    except StropError as error:
        print(f"overhead.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
