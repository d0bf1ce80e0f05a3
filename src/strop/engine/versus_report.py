"""Comparisons as a table: cells of text, geometric means, and the reasons for what is not in the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from strop.engine.peer_process import OWN
from strop.engine.ratios import geometric_mean
from strop.engine.versus import DISTURBED, Entry, Row


@dataclass(frozen=True)
class Table:
    """Texts: a heading per column, the cells of every row, and which columns hold numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...]


def runtimes(rows: Sequence[Row]) -> list[str]:
    """Names of the others, in the order of their first appearance."""
    return [n for n in dict.fromkeys(e.name for row in rows for e in row.entries) if n != OWN.name]


def table(rows: Sequence[Row]) -> Table:
    """One row per net; times in ms, the ratio of the fastest other runtime to Strop with its least and greatest round."""
    others = runtimes(rows)
    columns = ("net", OWN.name, *others, "best", "ratio", "range", "error")
    cells = tuple(_cells(row, others) for row in rows)
    return Table(columns, cells, (OWN.name, *others, "ratio", "range", "error"))


def _cells(row: Row, others: Sequence[str]) -> tuple[str, ...]:
    own = row.entry(OWN.name)
    times = (milliseconds(own), *(milliseconds(row.entry(name)) for name in others))
    error = "" if own is None or own.error is None else f"{own.error:.0e}"
    if row.ratio is None:
        return (row.net, *times, "", "", row.status, error)
    found = row.ratio
    return (row.net, *times, row.best or "", f"{found.median:.2f}", f"[{found.low:.2f}, {found.high:.2f}]", error)


def milliseconds(entry: Entry | None) -> str:
    """Three significant digits, or why there is no time."""
    if entry is None:
        return ""
    if entry.ms is None:
        return entry.status
    return f"{entry.ms:.4f}" if entry.ms < 0.1 else f"{entry.ms:.3f}" if entry.ms < 10 else f"{entry.ms:.1f}"


def means(rows: Sequence[Row]) -> dict[str, float]:
    """Geometric means of the ratios: under ``best`` of the fastest other runtime per net, and per other runtime of the nets
    that it ran; those without any are left out."""
    found = {"best": [row.ratio.median for row in rows if row.ratio is not None]}
    for name in runtimes(rows):
        found[name] = [row.ratios[name].median for row in rows if name in row.ratios]
    return {name: geometric_mean(values) for name, values in found.items() if values}


def mean_lines(rows: Sequence[Row]) -> list[str]:
    """The geometric means in words."""
    lines = []
    for name, mean in means(rows).items():
        count = sum(row.ratio is not None if name == "best" else name in row.ratios for row in rows)
        whose = "the fastest other runtime" if name == "best" else name
        lines.append(f"{whose} takes {mean:.2f} x Strop's time (geometric mean of {count} net{'s' * (count != 1)})")
    return lines


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader of the table must know: who was left out and why, what was wrong, which figures were disturbed."""
    reasons = Counter((e.name, e.status, e.reason) for row in rows for e in row.entries if e.reason)
    lines = [f"{name}: {status} on {count} of {len(rows)}: {reason}" for (name, status, reason), count in reasons.items()]
    lines += [f"{row.net}: {row.status}: {row.reason}" for row in rows if row.status == "alone" or not row.entries]
    disturbed = [row for row in rows if row.disturbed > DISTURBED]
    if disturbed:
        worst = max(disturbed, key=lambda row: row.disturbed)
        lines.append(
            f"disturbed by other processes: {len(disturbed)} of {len(rows)}, {worst.net} the most "
            f"({100 * worst.disturbed:.0f} % of the time in its turns was spent waiting for a core)"
        )
    return lines
