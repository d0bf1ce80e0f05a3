"""What verbs share in talking: errors, tables, JSON, numbers with units, and the progress bar of a build."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from strop.engine.stages import STAGES
from strop.errors import OptionError, StropError

_WIDE = 1000


def console(stream: TextIO) -> Console:
    """A console on a stream; wide when nobody looks, so that no table is cut."""
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _WIDE)


def show_error(error: StropError) -> None:
    """The error on stderr: a panel on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        body = escape(str(error))
        console(sys.stderr).print(Panel(body, title=type(error).__name__, title_align="left", border_style="red"))
    else:
        print(f"strop: {error}", file=sys.stderr)


def warn(text: str) -> None:
    """A line on stderr that does not end the command."""
    print(f"strop: {text}", file=sys.stderr)


def show_json(value: Any) -> None:
    """The value as JSON on stdout."""
    print(json.dumps(value, indent=2))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on stdout; columns named in ``right`` are right-aligned."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(str(cell)) for cell in row))
    if sys.stdout.isatty():
        console(sys.stdout).print(made)
        return
    text = io.StringIO()
    console(text).print(made)
    print("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def pairs(rows: Iterable[tuple[str, object]]) -> None:
    """Label and value per line on stdout, aligned."""
    items = list(rows)
    width = max((len(label) for label, _ in items), default=0)
    for label, value in items:
        print(f"{label:<{width}}  {value}")


def size(count: float) -> str:
    """Bytes for people: ``12.3 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def parse_size(text: str, where: str) -> int:
    """Bytes of a text such as ``64M``, ``1.5GiB`` or ``4096``; OptionError when it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise OptionError("unusable number of bytes", where=where, got=text, expected="a number with K, M or G behind it")
    return int(float(found[1]) * 1024 ** " KMG".index(found[2].upper() or " "))


def number(count: float) -> str:
    """A large count for people: ``4.1 G``."""
    for unit in ("", " k", " M", " G"):
        if abs(count) < 1000:
            return f"{count:.0f}" if unit == "" else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:.1f} T"


def micros(nanoseconds: float | None) -> str:
    """Nanoseconds as microseconds; empty for None."""
    return "" if nanoseconds is None else f"{nanoseconds / 1e3:.1f}"


class StageBar:
    """Progress of a build on stderr: the stage, how many stages are done, and the work inside it.

    Used as the ``progress`` of ``build``. Shows nothing when stderr is no terminal, or ``quiet``.
    """

    def __init__(self, quiet: bool = False, stages: Sequence[str] = STAGES) -> None:
        self._stages = list(stages)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console(sys.stderr),
            transient=True,
        )
        self._shown = not quiet and sys.stderr.isatty()
        self._whole = self._bar.add_task("build", total=len(self._stages))
        self._part = self._bar.add_task("", total=None, visible=False)

    def __enter__(self) -> StageBar:
        if self._shown:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tells how far a stage is; ``total`` 0 when that is not known."""
        if stage in self._stages:
            self._bar.update(self._whole, description=stage, completed=self._stages.index(stage))
        self._bar.update(self._part, description="", completed=done, total=total or None, visible=total > 0)


class Status:
    """A line on stderr that says what is being done. Shows nothing when stderr is no terminal, or ``quiet``."""

    def __init__(self, quiet: bool = False) -> None:
        self._status = None if quiet or not sys.stderr.isatty() else console(sys.stderr).status("")

    def __enter__(self) -> Status:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, text: str) -> None:
        """What comes next."""
        if self._status is not None:
            self._status.update(escape(text))
