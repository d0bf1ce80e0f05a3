"""``strop knobs``: every environment variable that Strop reads."""

from __future__ import annotations

from typing import Annotated

import typer

from strop.cli.output import show_json, table
from strop.knobs import inventory


def command(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Lists the environment variables, their values and defaults."""
    rows = [(knob.name, knob.get(), knob.default, knob.doc) for knob in inventory()]
    if json:
        keys = ("name", "value", "default", "doc")
        show_json([{k: v if isinstance(v, (int, str)) or v is None else str(v) for k, v in zip(keys, row)} for row in rows])
        return
    table(("variable", "value", "default", "meaning"), ([n, _text(v), _text(d), doc] for n, v, d, doc in rows))


def _text(value: object) -> str:
    return "(unset)" if value in ("", None) else str(value)
