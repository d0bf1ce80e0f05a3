"""``strop profile ENGINE|MODEL``: where time, bytes and energy go, by the model's own layers."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import StageBar, micros, number, pairs, show_json, size, table, warn
from strop.cli.source import SHAPE_HELP, check_output, open_engine, read_inputs, write_text
from strop.engine.peaks import peaks_of
from strop.engine.provenance import FREE, LayerProfile, Profile, chrome_trace, profile


def command(
    source: Annotated[Path, typer.Argument(metavar="ENGINE|MODEL", help="Engine file, or model to build at level 0.")],
    threads: Annotated[int | None, typer.Option(help="Threads; by default what the engine was built for.")] = None,
    runs: Annotated[int, typer.Option(min=3, max=100_000, help="Runs at most; the fastest is divided.")] = 100,
    input: Annotated[
        list[str] | None, typer.Option("-i", "--input", help="name=file.npy or file.npz; random arrays otherwise.")
    ] = None,
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    sort: Annotated[bool, typer.Option("--sort", help="The slowest layer first; else in the model's order.")] = False,
    all: Annotated[bool, typer.Option("--all", help="Also the layers that cost nothing.")] = False,
    roofline: Annotated[bool, typer.Option("--roofline/--no-roofline", help="Measure what the machine can do at most; needs the compiler.")] = True,
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a trace for chrome://tracing or Perfetto.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tells where the time goes, by the model's own layers: every microsecond, byte and joule.

    What a fused kernel takes is divided among its layers by their operations, its bytes by what each reads and writes outside of it.
    """
    if trace is not None:
        check_output(trace, "--trace")
    with StageBar(quiet=json) as bar:
        engine = open_engine(source, threads=threads, shapes=shape or (), progress=bar)
    inputs = {**engine.random_inputs(), **read_inputs(engine, input or [])}
    peaks, why = peaks_of(engine, threads) if roofline else (None, "")
    found = profile(engine, inputs, threads=threads, runs=runs, peaks=peaks)
    if why:
        warn(f"no roofline: {why}")
    if trace is not None:
        write_text(trace, json_module.dumps(chrome_trace(found)))
    if json:
        show_json(found.to_json())
        return
    _show(found, sort, all)


def _show(found: Profile, sort: bool, everything: bool) -> None:
    layers = [layer for layer in found.layers if everything or layer.fate != FREE]
    if sort:
        layers.sort(key=lambda layer: -layer.ns)
    columns = ["layer", "op", "", "precision", "kernel", "us", "%", "bytes", "flops", "flop/B", "Gflop/s"]
    columns += ["% of roof"] * (found.peaks is not None) + ["mJ"] * (found.joules is not None)
    table(columns, [_row(layer, found) for layer in layers], right=columns[5:])
    hidden = len(found.layers) - len(layers)
    rows: list[tuple[str, object]] = [
        ("layers", f"{len(found.layers)}, {hidden} of them cost nothing" + " (--all lists them)" * bool(hidden)),
        ("time", f"{found.ns / 1e3:.1f} us in steps, {found.calling_ns / 1e3:.1f} us in the call, {found.latency.min * 1e3:.1f} us the fastest whole run"),
    ]
    if found.peaks is not None:
        rows.append(("roofline", f"{found.peaks.flops / 1e9:.1f} Gflop/s in f32, {found.peaks.bandwidth / 1e9:.1f} GB/s, measured"))
    unavailable = f"unavailable: {found.energy.reason}"
    rows.append(("energy", unavailable if found.joules is None else f"{found.joules:.4g} J per inference ({found.energy.meter}), divided by time"))
    pairs(rows)


def _row(layer: LayerProfile, found: Profile) -> list[object]:
    row: list[object] = [layer.name, layer.op, layer.fate, layer.precision, layer.kernel.partition("(")[0], micros(layer.ns)]
    row += [f"{100 * layer.share:.1f}", size(layer.bytes), number(layer.flops), f"{layer.intensity:.1f}", f"{layer.flops_per_s / 1e9:.1f}"]
    if found.peaks is not None:
        row.append("" if layer.of_roof is None else f"{100 * layer.of_roof:.0f}")
    if found.joules is not None:
        row.append("" if layer.joules is None else f"{1e3 * layer.joules:.3f}")
    return row
