"""The interpreter against LiteRT's own: details, values and exceptions of the same calls. Needs --peers DIR or ai-edge-litert installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from tests.compat.test_tflite_interpreter import two_ops, two_signatures
from tests.frontend.tflite_nets import branch, free_net, sparse_net, streaming

SESSION = Path(__file__).with_name("tflite_session.py")


def session(python: str, module: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run([python, str(SESSION), module, str(folder)], capture_output=True, text=True, timeout=100, env=os.environ)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> str:
    """A Python that has LiteRT."""
    folder = request.config.getoption("--peers")
    if folder is not None:
        return str(Path(folder) / "bin" / "python")
    if find_spec("ai_edge_litert") is None:
        pytest.skip("needs ai-edge-litert: --peers DIR names an environment that has it (bench/setup_peers.sh)")
    return sys.executable


def test_agrees_with_litert(peer: str, tmp_path: Path) -> None:
    files = {
        "two": two_ops(), "float": two_ops("FLOAT32"), "signatures": two_signatures(), "state": streaming(), "branch": branch("IF"),
        "free": free_net(), "sparse": sparse_net()[0],
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / f"{name}.tflite").write_bytes(data)
    own, other = session(sys.executable, "strop.compat.tflite.interpreter", tmp_path), session(peer, "ai_edge_litert.interpreter", tmp_path)
    assert own.keys() == other.keys()
    for name in files:
        mine, theirs = own[f"{name}.tflite"], other[f"{name}.tflite"]
        for part in ("inputs", "outputs", "tensors", "ops", "signatures", "subgraphs"):
            assert mine[part] == theirs[part], (name, part)
        for a, b in zip(mine["values"], theirs["values"], strict=True):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_allclose(x, y, 1e-5, 1e-5 if mine["outputs"][0]["dtype"] == "float32" else 1, err_msg=name)
    for call, wanted in other["calls"].items():
        mine = own["calls"][call]
        if call == "resized":  # LiteRT repeats what it said before
            wanted = [wanted[0], wanted[1][-len(mine[1]) :]]
        assert mine == wanted, call
