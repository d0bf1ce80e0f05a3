"""How Strop's objects look in notebooks: small tables of HTML, and a progress bar where there is no terminal.

Everything that is shown is escaped: names come from files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_CELL = "padding:2px 12px 2px 0;text-align:left;vertical-align:top;border:0"
_NUMBER = "padding:2px 12px 2px 0;text-align:right;white-space:nowrap;border:0"


def pairs_html(title: str, rows: Iterable[tuple[str, object]]) -> str:
    """A title, and a label and a value per line."""
    cells = "".join(f'<tr><td style="{_CELL};opacity:.65">{escape(label)}</td><td style="{_CELL}">{escape(str(value))}</td></tr>' for label, value in rows)
    return f'<div style="font-variant-numeric:tabular-nums"><b>{escape(title)}</b><table style="border-collapse:collapse">{cells}</table></div>'


def table_html(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> str:
    """A table; columns named in ``right`` are right-aligned; a float in the column ``share`` is drawn as a bar."""
    style = [_NUMBER if column in right else _CELL for column in columns]
    head = "".join(f'<th style="{s};opacity:.65">{escape(column)}</th>' for s, column in zip(style, columns))
    body = "".join(
        "<tr>" + "".join(f'<td style="{s}">{_cell(column, value)}</td>' for s, column, value in zip(style, columns, row)) + "</tr>" for row in rows
    )
    return f'<table style="border-collapse:collapse;font-variant-numeric:tabular-nums"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(column: str, value: object) -> str:
    if column == "share" and isinstance(value, float):
        width = max(1, round(120 * value))
        return f'<span style="display:inline-block;width:{width}px;height:9px;border-radius:3px;background:#4273a8"></span> {100 * value:.1f} %'
    return escape(str(value))


def bar_of_notebook() -> NotebookBar | None:
    """A progress bar when this process is the kernel of a notebook, else None."""
    module = sys.modules.get("IPython")
    shell: Any = None if module is None else module.get_ipython()
    return None if shell is None or getattr(shell, "kernel", None) is None else NotebookBar()


class NotebookBar:
    """Progress of a build in the output of a notebook's cell; goes away when the last stage has begun and ended."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tells how far a stage is; ``total`` 0 when that is not known."""
        from IPython.display import HTML, display

        share = f' max="{total}" value="{done}"' if total > 0 else ""
        text = f'<label style="font-variant-numeric:tabular-nums">{escape(stage)} <progress{share}></progress> {f"{done} of {total}" if total else ""}</label>'
        if text == self._shown:
            return
        self._shown = text
        if self._handle is None:
            self._handle = display(HTML(text), display_id=True)
        else:
            self._handle.update(HTML(text))

    def close(self) -> None:
        """Takes the bar away."""
        from IPython.display import HTML

        if self._handle is not None:
            self._handle.update(HTML(""))
            self._handle = None
