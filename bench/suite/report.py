"""Results of the suite as tables and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench.suite.compare import TOLERANCE, TaskResult
from bench.suite.table import TASKS
from strop.engine.ratios import geometric_mean
from strop.engine.versus import Row
from strop.engine.versus_report import Table, milliseconds


def figures(results: Sequence[TaskResult]) -> Table:
    """A row per figure of every task: what is known, what the other runtime reaches, what Strop reaches."""
    references = {task.name: task.references for task in TASKS}
    rows = []
    for result in results:
        known = references.get(result.task, {})
        for name in result.theirs:
            reference = known.get(name)
            ours = result.ours.get(name)
            verdict = "" if ours is None or reference is None else "yes" if reference.met(ours) else "NO"
            rows.append(
                (
                    result.task,
                    name,
                    "" if reference is None else f"{reference.value:.4g}",
                    "" if reference is None else f"[{reference.low:.4g}, {reference.high:.4g}]",
                    f"{result.theirs[name]:.4f}",
                    "" if ours is None else f"{ours:.4f}",
                    verdict,
                )
            )
    numbers = ("reference", "accepted", "stock", "strop")
    return Table(("task", "figure", *numbers, "reached"), tuple(rows), numbers)


def agreement(results: Sequence[TaskResult]) -> Table:
    """A row per network: how far its outputs lie from the other runtime's at most, over all calls."""
    rows = tuple(
        (r.task, n.net, r.peer, str(n.calls), str(n.shapes), "" if n.reason else f"{n.error:.1e}", "yes" if n.agrees else "NO")
        for r in results
        for n in r.nets
    )
    numbers = ("calls", "shapes", "largest error")
    return Table(("task", "network", "against", *numbers, "agrees"), rows, numbers)


def times(rows: Sequence[Row]) -> Table:
    """A row per network: time of one inference on one thread, and the other runtime's time by Strop's."""
    cells = []
    for row in rows:
        others = list(row.entries[1:])
        peer = others[0] if others else None
        found = row.ratio
        cells.append(
            (
                row.net,
                milliseconds(row.entries[0]),
                milliseconds(peer),
                "" if peer is None else peer.name,
                row.reason or row.status if found is None else f"{found.median:.2f}",
                "" if found is None else f"[{found.low:.2f}, {found.high:.2f}]",
            )
        )
    return Table(("network", "strop ms", "other ms", "other", "ratio", "range"), tuple(cells), ("strop ms", "other ms", "ratio", "range"))


def notes(results: Sequence[TaskResult], rows: Sequence[Row]) -> list[str]:
    """What a reader must know beside the tables."""
    lines = [f"{task.name}: {task.about}." for task in TASKS if any(task.name == r.task for r in results)]
    sources: dict[str, None] = {}
    for task in TASKS:
        if any(task.name == r.task for r in results):
            sources.update(dict.fromkeys(f"{task.name}, reference: {r.source}." for r in task.references.values()))
    lines += sources
    lines.append(
        "Error: the largest difference by the largest value of an output, over all outputs and calls; an output of one element is "
        f"set against the largest that it has in all calls; at most {TOLERANCE:g} agrees."
    )
    ratios = [row.ratio.median for row in rows if row.ratio is not None]
    if ratios:
        slower = [row.net for row in rows if row.ratio is not None and row.ratio.median < 1]
        lines.append(
            f"Geometric mean of {len(ratios)} ratios on one thread: {geometric_mean(ratios):.2f}; "
            f"slower than the other runtime: {', '.join(slower) or 'none'}."
        )
    return lines


def failures(results: Sequence[TaskResult]) -> list[str]:
    """One text per thing that is not as it should be."""
    found = []
    for result in results:
        if result.reason:
            found.append(f"{result.task}: {result.reason}")
        found += [f"{result.task}: {net.net}: {net.reason}" for net in result.nets if net.reason]
        found += [f"{result.task}: {n.net} was never called" for n in result.nets if not n.reason and not n.calls]
        found += [
            f"{result.task}: {n.net} differs from {result.peer} by {n.error:.1e}, at most {TOLERANCE:g} is accepted"
            for n in result.nets
            if not n.reason and n.calls and not n.agrees
        ]
        found += [f"{result.task}: {name} is {result.ours[name]:.4f}, out of what is accepted" for name in result.missed]
    return found
