"""Golden text: a file under tests/golden that a result must equal, rewritten by ``--update-golden``."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent / "golden"


def check(name: str, text: str, config: pytest.Config) -> None:
    """Fails with a diff unless ``tests/golden/<name>`` holds exactly ``text``.

    With ``--update-golden`` the file is written instead and the test passes.
    """
    path = ROOT / name
    if config.getoption("--update-golden", default=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    if not path.exists():
        pytest.fail(f"there is no golden file {name}; write it with --update-golden")
    wanted = path.read_text(encoding="utf-8")
    if wanted != text:
        diff = difflib.unified_diff(
            wanted.splitlines(), text.splitlines(), f"golden/{name}", "now", lineterm=""
        )
        pytest.fail("\n".join([f"{name} differs from its golden text", *diff]))
