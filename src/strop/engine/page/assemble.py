"""Data and the files of this folder to one HTML page that needs nothing else.

What the data say comes from engine files, which are not trusted. It stands in the page as JSON in which no character can end the
element that it is in, and scripts put it into the document as text only. A content security policy allows the page's own
script, by its hash, and no connection, so that whatever else might slip in neither runs nor talks.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

#: In the order in which they depend on each other.
SCRIPTS = ("dom.js", "graph.js", "charts.js", "tables.js", "main.js")
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def page(data: dict[str, Any]) -> str:
    """The page of a report's data."""
    script = '"use strict";\n(() => {\n' + "\n".join(_read(name) for name in SCRIPTS) + "\n})();\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    parts = {"POLICY": policy, "STYLE": _read("page.css"), "DATA": embedded(data), "SCRIPT": script}
    text = _read("page.html")
    before, *rest = text.split("{{")
    made = [before]
    for piece in rest:
        name, _, tail = piece.partition("}}")
        made += [parts[name], tail]
    return "".join(made)


def embedded(data: Any) -> str:
    """JSON that may stand in a script element; numbers that JSON does not have are null."""
    text = json.dumps(_plain(data), separators=(",", ":"), allow_nan=False)
    return "".join(_UNSAFE.get(c, c) for c in text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else None
    return value


def _read(name: str) -> str:
    return files("strop.engine.page").joinpath(name).read_text(encoding="utf-8")
