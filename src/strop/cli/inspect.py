"""``strop inspect ENGINE``: every step of an engine, with totals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.build import copies, placement_table
from strop.cli.output import micros, number, pairs, show_json, size, table
from strop.cli.source import open_any_engine
from strop.engine.describe import Description, StepReport, describe


def command(
    engine: Annotated[Path, typer.Argument(help="Engine file.")],
    time: Annotated[bool, typer.Option("--time", help="Run it and show the least time of every step.")] = False,
    runs: Annotated[int, typer.Option(min=1, max=1_000_000, help="Runs for --time.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tells what an engine does, step by step.

    Without --time it works for an engine of another machine as well.
    """
    opened = open_any_engine(engine)
    found = describe(opened, opened.profile(runs=runs) if time else ())
    if json:
        show_json(found.to_json())
        return
    pairs(_head(found))
    steps_table(found)
    pairs(_foot(found))
    placement_table(found)
    for note in found.notes:
        print(f"note: {note}")


def steps_table(found: Description) -> None:
    """The steps on stdout, one row each."""
    timed = found.totals.time_ns is not None
    columns = ["#", "step", "kind", "kernel", "output", "flops", "bytes", "tasks", "rounding", "est. us", "tuned us"]
    right = ["#", "flops", "bytes", "tasks", "rounding", "est. us", "tuned us", "us"]
    rows = [_row(index, step, timed) for index, step in enumerate(found.steps)]
    table(columns + ["us"] * timed + ["nodes"], rows, right=right)


def _row(index: int, step: StepReport, timed: bool) -> list[object]:
    kind = step.kind + " + epilogue" * step.fused
    nodes = ", ".join(step.source[:4]) + f" and {len(step.source) - 4} more" * (len(step.source) > 4)
    output = " ".join(text.split(":")[0] for text in step.outputs)
    row: list[object] = [index, step.name, kind, step.kernel, output, number(step.flops), size(step.bytes), step.tasks]
    row.append("" if step.rounding is None else f"{step.rounding:.1e}")
    row += [micros(step.estimated_ns), micros(step.measured_ns)]
    return row + [micros(step.time_ns)] * timed + [nodes]


def _head(found: Description) -> list[tuple[str, object]]:
    return [
        ("network", found.model),
        ("target", f"{found.target} ({found.isa}), {found.threads} thread{'s' * (found.threads != 1)}"),
        ("inputs", "; ".join(found.inputs)),
        ("outputs", "; ".join(found.outputs)),
    ]


def _foot(found: Description) -> list[tuple[str, object]]:
    totals, memory = found.totals, found.memory
    rows: list[tuple[str, object]] = [
        *([("placement", f"{len(found.placement)} of {totals.steps} steps run on the processor {found.placement[0].target}")] if found.placement else []),
        *([("libraries", ", ".join(f"{name} {version}" for name, version in found.libraries.items()) + ": the engine needs them")] if found.libraries else []),
        ("steps", f"{totals.steps} for {totals.nodes} nodes ({totals.fused_nodes} fused into others)"),
        ("copies", copies(found)),
        ("work", f"{number(totals.flops)}flop, {size(totals.bytes)} read and written"),
        ("memory", f"weights {size(memory.weights)}, code {size(memory.code)}, arena {size(memory.arena)} "
                   f"(at least {size(memory.live_peak)} alive at once), scratch {size(memory.scratch_per_thread)} per thread"),
    ]  # fmt: skip
    rows += [("custom", f"{step.name}: {step.custom}") for step in found.steps if step.custom]
    if totals.time_ns is not None:
        rate = totals.flops / max(1, totals.time_ns)
        rows.append(("time", f"{totals.time_ns / 1e6:.3f} ms in steps, {rate:.1f} Gflop/s"))
    return rows
