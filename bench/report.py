"""Results as text: tables, and sections of Markdown files between markers that only tools write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench import host
from bench.results import Result, Results, write_text
from strop.engine.versus_report import Table, mean_lines, notes, table
from strop.errors import OptionError


def result_table(group: Sequence[Result]) -> Table:
    """The comparison, with how much of the measured peaks Strop uses."""
    found = table([result.row for result in group])
    rows = tuple((*cells, _percent(r.flops_share), _percent(r.bandwidth_share)) for cells, r in zip(found.rows, group))
    added = ("% of peak flops", "% of bandwidth")
    return Table((*found.columns, *added), rows, (*found.numbers, *added))


def layer_table(result: Result) -> Table:
    """Every step of one net: its time and how much of the peaks it uses."""
    whole = max(1, sum(layer.ns for layer in result.layers))
    rows = []
    for layer in result.layers:
        rate, bandwidth = layer.flops / max(1, layer.ns), layer.bytes / max(1, layer.ns)  # per ns: G per second
        peaks = result.peaks
        rows.append(
            (
                layer.name,
                layer.kind,
                layer.kernel,
                f"{layer.ns / 1e3:.1f}",
                f"{100 * layer.ns / whole:.1f}",
                f"{rate:.1f}",
                _percent(rate * 1e9 / peaks.flops if peaks else None),
                f"{bandwidth:.1f}",
                _percent(bandwidth * 1e9 / peaks.bandwidth if peaks else None),
            )
        )
    numbers = ("us", "% of time", "Gflop/s", "% of peak", "GB/s", "% of bandwidth")
    return Table(("step", "kind", "kernel", *numbers), tuple(rows), numbers)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}"


def heading(key: tuple[str, int, int]) -> str:
    """A group in words."""
    target, threads, batch = key
    return f"{target}, {threads} thread{'s' * (threads != 1)}, batch {batch}"


def group_lines(group: Sequence[Result]) -> list[str]:
    """What is said below a table: means, peaks, and who was left out and why."""
    rows = [result.row for result in group]
    lines = mean_lines(rows)
    peaks = next((result.peaks for result in group if result.peaks), None)
    if peaks:
        lines.append(f"measured peaks: {peaks.flops / 1e9:.0f} Gflop/s, {peaks.bandwidth / 1e9:.1f} GB/s copied")
    return lines + [_agreement(result) for result in group if result.agreement] + notes(rows)


def _agreement(result: Result) -> str:
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in result.agreement.items())
    return f"{result.row.net} in {result.precision}: same class as in f32: {shares}"


def scaling(results: Results) -> Table | None:
    """Strop's own speed-up over one thread; None when it was not measured with several numbers of threads."""
    times: dict[tuple[str, str, int], dict[int, float]] = {}
    for result in results.results:
        if result.ms is not None:
            times.setdefault((result.row.net, result.target, result.batch), {})[result.row.threads] = result.ms
    counts = sorted({count for found in times.values() for count in found if 1 in found and count != 1})
    if not counts:
        return None
    names = tuple(f"{count} threads" for count in counts)
    rows = []
    for (net, target, batch), found in times.items():
        if 1 in found and len(found) > 1:
            rows.append((net, target, str(batch), *(f"{found[1] / found[c]:.2f}" if c in found else "" for c in counts)))
    return Table(("net", "target", "batch", *names), tuple(rows), ("batch", *names))


def versions(results: Results) -> str:
    """Every runtime with its release."""
    found: dict[str, str] = {}
    for result in results.results:
        for entry in result.row.entries:
            if entry.version:
                found.setdefault(entry.name, entry.version)
    return ", ".join(f"{name} {version}" for name, version in found.items())


def settings_line(results: Results) -> str:
    """How it was measured."""
    s = results.settings
    limits = "; ".join(f"{name}: {how}" for name, how in s.get("limits", {}).items())
    pinned = "every process on the same cores" if s.get("pin") else "not pinned"
    narrow = f"all may compute in {s['precision']}; " if s.get("precision", "fp32") != "fp32" else ""
    return f"{narrow}{s.get('rounds')} rounds of {s.get('seconds')} s per runtime; {pinned}; built at level {s.get('level')}" + (
        f"; the others limited to AVX2 ({limits})" if limits else ""
    )


# ---- Markdown


def markdown(results: Results, chart: str | None = None) -> str:
    """A section: the machine, a table per group, the notes, and the chart when its file is named."""
    parts = [f"Machine: {host.describe(results.host)}.", f"Measured: {results.host.get('date', '')}; {settings_line(results)}.",
             f"Releases: {versions(results)}."]  # fmt: skip
    if chart:
        parts.append(f"![Time of every runtime by Strop's]({chart})")
    for key, group in results.groups().items():
        parts += [f"### {heading(key)}", pipes(result_table(group)), bullets(group_lines(group))]
    speedups = scaling(results)
    if speedups:
        parts += ["### Strop's own speed-up over one thread", pipes(speedups)]
    layered = [result for result in results.results if result.layers]
    for result in layered:
        title = f"### Steps of {result.row.net}: {heading((result.target, result.row.threads, result.batch))}"
        parts += [title, pipes(layer_table(result))]
    return "\n\n".join(part for part in parts if part) + "\n"


def pipes(found: Table) -> str:
    """A table in Markdown."""
    marks = ["---:" if column in found.numbers else "---" for column in found.columns]
    rows = [found.columns, marks, *found.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def bullets(lines: Sequence[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def replace_section(path: Path, name: str, text: str) -> None:
    """Puts a text between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; makes the file when there is none.

    Raises:
        OptionError: the file has no such markers, or cannot be read or written.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n\n{text.strip()}\n\n{end}"
    if not path.exists():
        write_text(path, section + "\n")
        return
    try:
        old = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OptionError("cannot read the Markdown file", where=str(path), got=error) from None
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        known = ", ".join(re.findall(r"<!-- begin (\S+) -->", old)) or "no markers"
        raise OptionError("the section is not marked in the file", where=str(path), got=known, expected=f"{begin} and {end}, once")
    write_text(path, old[: old.index(begin)] + section + old[old.index(end) + len(end) :])
