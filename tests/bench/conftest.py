"""Fake runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from strop.engine.peer_process import Peer

MakePeer = Callable[..., Peer]


@pytest.fixture
def make_peer(tmp_path: Path) -> MakePeer:
    """``make_peer("name", "mode")`` is a runtime that behaves as ``tests/bench/fake_peer.py`` tells."""
    text = (Path(__file__).parent / "fake_peer.py").read_text(encoding="utf-8")

    def make(name: str, mode: str = "right", avx2: dict[str, str] | None = None) -> Peer:
        script = tmp_path / f"peer_{name}.py"
        script.write_text(text.replace('MODE = "right"', f"MODE = {mode!r}"), encoding="utf-8")
        return Peer(name, script, f"{name}-package", avx2, "by a variable" if avx2 else "has no switch")

    return make
