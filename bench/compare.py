"""Strop against other CPU runtimes, in f32, in int8, or where both may in 16-bit floats: agreement first, then time in turns, as a table, JSON, a chart
and Markdown.

    bench/setup_peers.sh ~/peers
    python bench/compare.py --models DIR --peers ~/peers --json out.json --chart out.svg --markdown docs/performance.md

Without --models the nets are exported from torchvision, where that is installed. docs/performance.md tells the method.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import batch as rebatch
from bench import chart, host, int8, nets, report
from bench.results import Layer, Peaks, Result, Results, load, merge, save, write_text
from strop import knobs
from strop.cli.output import table as print_table
from strop.engine import roofline
from strop.engine.build import build
from strop.engine.describe import describe
from strop.engine.engine import Engine
from strop.engine.peer_process import PEERS, Peer, find_peers, python_of
from strop.engine.versus import Row, Settings, choose_cpus, compare
from strop.errors import OptionError, StropError
from strop.target.base import Target
from strop.target.detect import parse as parse_target

#: Runs of a profile for --layers.
PROFILE_RUNS = 30
#: Largest error of an output in int8, against the first of the others: what rounds differently is no mistake, classes are compared apart.
_INT8_TOLERANCE = 1.0


@dataclass(frozen=True)
class Plan:
    """What a run measures."""

    nets: tuple[nets.Net, ...]
    peers: tuple[Peer, ...]
    python: Path
    target: Target
    threads: tuple[int, ...]
    batches: tuple[int, ...]
    level: int
    budget: float | None
    settings: Settings
    pin: bool
    roofline: bool
    precision: str = "fp32"
    data: Path | None = None
    preprocess: str = "unit"


def run(plan: Plan, folder: Path) -> Iterator[Result]:
    """Measures; yields every result as it is there. A net that cannot be built or changed has a row that says so."""
    peaks: dict[int, Peaks | None] = {}
    kind = "int8" if plan.precision in int8.PRECISIONS else plan.settings.precision
    for threads in plan.threads:
        cpus = choose_cpus(threads) if plan.pin else None
        peaks[threads] = roofline.measure(plan.target, threads, cpus, kind) if plan.roofline else None
    for net in plan.nets:
        for batch in plan.batches:
            try:
                model = _model(plan, net, batch, folder)
            except StropError as error:
                yield from (Result(_failed(net, n, error), batch, plan.target.name, plan.level) for n in plan.threads)
                continue
            for threads in plan.threads:
                yield _result(plan, net, batch, threads, model, folder, peaks[threads])
            if model != net.path:
                model.unlink()


def _model(plan: Plan, net: nets.Net, batch: int, folder: Path) -> Path:
    """The model file with this batch, proved to be the same net."""
    _tell(f"{net.name}: batch {batch}")
    model = rebatch.with_batch(net, batch, folder)
    if model != net.path:
        rebatch.check(net, model, batch, plan.peers[0], plan.python)
    return model


def _result(
    plan: Plan, net: nets.Net, batch: int, threads: int, model: Path, folder: Path, peaks: Peaks | None
) -> Result:
    _tell(f"{net.name}: build for {threads} threads at level {plan.level}")
    base = Result(_failed(net, threads, None), batch, plan.target.name, plan.level, precision=plan.precision)
    started = time.perf_counter()
    options: dict[str, Any] = {"target": plan.target, "threads": threads, "level": plan.level, "budget": plan.budget}
    settings = replace(plan.settings, threads=threads, cpus=choose_cpus(threads) if plan.pin else None)
    original, inputs, prepared = net.path, None, None
    try:
        if plan.precision in int8.PRECISIONS:
            prepared = int8.prepare(model, build(model, threads=threads, level=0), plan.data, plan.preprocess, plan.python, folder)
            if prepared.model is None:
                raise OptionError("no QDQ model of this net can be made", where=net.name, got=prepared.reason)
            options |= {"calibration": prepared.calibration, "calibrator": int8.CALIBRATOR}
            settings, inputs = replace(settings, tolerance=_INT8_TOLERANCE), {key: array[0] for key, array in prepared.tests.items()}
            started = time.perf_counter()
        engine = build(model, precision=plan.precision, **options)
    except StropError as error:
        return replace(base, row=_failed(net, threads, error))
    built = time.perf_counter() - started
    if prepared is not None and prepared.model is not None:
        original = model = prepared.model
        names = [peer.name for peer in plan.peers]
        base = replace(base, agreement=int8.agreement(prepared, engine, names, plan.python, folder, net.name))
    row = compare(
        engine, model, plan.peers, plan.python, settings, name=net.name, original=original, inputs=inputs, work=folder,
        progress=lambda text: _tell(f"{net.name}: {text}"),
    )  # fmt: skip
    totals = describe(engine).totals
    return replace(
        base, row=row, build_s=built, flops=totals.flops, bytes=totals.bytes, peaks=peaks, layers=_layers(engine, row)
    )


def _layers(engine: Engine, row: Row) -> tuple[Layer, ...]:
    if not row.steps:
        return ()
    steps = describe(engine).steps
    return tuple(Layer(s.name, s.kind, s.kernel, s.flops, s.bytes, ns) for s, (_, ns) in zip(steps, row.steps))


def _failed(net: nets.Net, threads: int, error: StropError | None) -> Row:
    return Row(net.name, threads, "failed", "" if error is None else " ".join(str(error).split()), ())


def _tell(text: str) -> None:
    """Progress, on one line of a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# ---- command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measures Strop against other CPU runtimes.")
    add = parser.add_argument
    add("--models", type=Path, metavar="DIR", help="folder of .onnx nets; exported from torchvision by default")
    add("--only", default="", metavar="NAMES", help="some of the nets, separated by commas")
    add("--small", action="store_true", help="also LeNet and nets under 1 MFLOP")
    add("--peers", type=Path, metavar="DIR", help="virtual environment of bench/setup_peers.sh; this one by default")
    add("--vs", default="onnxruntime,openvino,ncnn,litert", metavar="NAMES", help=f"of {', '.join(PEERS)}")
    add("--threads", default="1", metavar="N,...", help="numbers of threads")
    add("--batch", default="1", metavar="N,...", help="samples per inference")
    add("--target", default="host", help="machine that Strop builds for; others are limited to AVX2 with it: x86-64-v3")
    add(
        "--precision", default="fp32", choices=("fp32", "bf16", "fp16", *int8.PRECISIONS),
        help="that Strop builds in and the others may compute in, those that cannot are left out; int8 is calibrated on the same samples, int8x7 is int8 for the others",
    )  # fmt: skip
    add("--unlimited", action="store_true", help="do not limit the others")
    add("--calibrate", type=Path, metavar="DATA", help="samples for int8: .npy, .npz, or a folder of images; random pictures by default")
    add("--preprocess", default="imagenet", help="of images: unit, imagenet, signed or raw")
    add("--level", type=int, default=3, help="effort of Strop's builds")
    add("--budget", type=float, help="seconds that tuning may take")
    add("--rounds", type=int, default=Settings.rounds)
    add("--seconds", type=float, default=Settings.seconds, help="of a turn")
    add("--no-pin", action="store_true", help="leave the choice of cores to the system")
    add("--no-roofline", action="store_true", help="do not measure the peaks")
    add("--layers", action="store_true", help="also every step of Strop's engines")
    add("--from", dest="files", nargs="+", type=Path, metavar="JSON", help="do not measure: show what --json wrote")
    add("--json", type=Path, metavar="FILE", help="write the results, after every net")
    add("--chart", type=Path, metavar="FILE", help="write a chart, .svg")
    add("--markdown", type=Path, metavar="FILE", help="write the tables between the markers in a file")
    add("--section", default="compare", metavar="NAME", help="name of the markers")
    return parser


def _numbers(option: str, text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise OptionError("unusable numbers", where=option, got=text, expected="positive numbers separated by commas")
    return tuple(dict.fromkeys(map(int, parts)))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _plan(given: argparse.Namespace, folder: Path) -> Plan:
    peers, python = find_peers(_names(given.vs)), python_of(given.peers)
    target = parse_target(given.target)
    limit = target.isa == "avx2" and parse_target("host").isa != "avx2" and not given.unlimited
    computed = "fp32" if given.precision in int8.PRECISIONS else given.precision
    settings = Settings(
        rounds=given.rounds, seconds=given.seconds, avx2=limit, profile=PROFILE_RUNS if given.layers else 0, precision=computed
    )
    threads, batches = _numbers("--threads", given.threads), _numbers("--batch", given.batch)
    for count in threads:
        replace(settings, threads=count)  # refuses what cannot be, before anything long begins
    found = _nets(given, folder)
    if given.precision in int8.PRECISIONS and batches != (1,):
        raise OptionError("int8 is compared with a batch of 1", where="--batch", got=given.batch, expected="1")
    pin = not given.no_pin
    return Plan(
        tuple(found), tuple(peers), python, target, threads, batches, given.level, given.budget, settings, pin,
        not given.no_roofline, given.precision, given.calibrate, given.preprocess,
    )  # fmt: skip


def _nets(given: argparse.Namespace, folder: Path) -> list[nets.Net]:
    only = _names(given.only)
    found: list[nets.Net] = []
    if given.small:
        (folder / "small").mkdir()
        nets.write_small(folder / "small")
        found = [net for net in nets.find(folder / "small") if not only or net.name in only]
    rest = [name for name in only if name not in {net.name for net in found}]
    if only and not rest:
        return found
    models = given.models
    if models is None:
        models = knobs.cache_dir() / "nets"
        missing = [name for name in rest or nets.TORCHVISION if not (models / f"{name}.onnx").exists()]
        if missing:
            nets.export(models, missing)
    return [*nets.find(models, rest), *found]


def _measure(given: argparse.Namespace) -> Results:
    with tempfile.TemporaryDirectory(prefix="strop-compare-") as text:
        plan = _plan(given, Path(text))
        facts = {**host.facts(), "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")}
        for warning in host.warnings(facts):
            print(f"compare.py: {warning}", file=sys.stderr)
        settings = {"rounds": given.rounds, "seconds": given.seconds, "level": given.level, "pin": plan.pin,
                    "avx2": plan.settings.avx2, "precision": given.precision, "limits": _limits(plan)}  # fmt: skip
        results = Results(facts, settings)
        try:
            for result in run(plan, Path(text)):
                results = replace(results, results=(*results.results, result))
                if given.json:
                    save(results, given.json)
        finally:
            _tell("")
    return results


def _limits(plan: Plan) -> dict[str, str]:
    """How each other runtime is limited to AVX2, where that is asked for."""
    limited = [peer for peer in plan.peers if plan.settings.avx2 and peer.avx2 is not None]
    return {peer.name: peer.avx2_note for peer in limited}


def _show(results: Results) -> None:
    print(host.describe(results.host))
    print(f"{report.settings_line(results)}\n{report.versions(results)}")
    for key, group in results.groups().items():
        print(f"\n{report.heading(key)}: ms per inference; ratio: the best other runtime's time by Strop's")
        found = report.result_table(group)
        print_table(found.columns, found.rows, right=found.numbers)
        print("\n".join(report.group_lines(group)))
        for result in group:
            if result.layers:
                print(f"\nsteps of {result.row.net}")
                layers = report.layer_table(result)
                print_table(layers.columns, layers.rows, right=layers.numbers)
    speedups = report.scaling(results)
    if speedups:
        print("\nStrop's own speed-up over one thread")
        print_table(speedups.columns, speedups.rows, right=speedups.numbers)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 when something is wrong with the request or with Strop's results."""
    given = _parser().parse_args(arguments)
    try:
        results = merge([load(file) for file in given.files]) if given.files else _measure(given)
        _show(results)
        if given.files and given.json:
            save(results, given.json)
        if given.chart:
            write_text(given.chart, chart.chart(results))
        if given.markdown:
            name = _relative(given.chart, given.markdown) if given.chart else None
            report.replace_section(given.markdown, given.section, report.markdown(results, name))
    except StropError as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 1
    return int(any(result.row.status in ("wrong", "failed") for result in results.results))


def _relative(file: Path, beside: Path) -> str:
    """The path of a file as a link in another names it."""
    target, folder = file.resolve(), beside.resolve().parent
    return target.relative_to(folder).as_posix() if target.is_relative_to(folder) else str(file)


if __name__ == "__main__":
    sys.exit(main())
