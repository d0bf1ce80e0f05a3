"""The talk with a runtime in another process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.engine.peer_process import PEERS, Peer, PeerError, PeerProcess, find_peers, python_of
from strop.errors import OptionError
from tests import tiny_net
from tests.bench.conftest import MakePeer

PYTHON = Path(sys.executable)


@pytest.fixture
def task(tmp_path: Path) -> dict[str, Any]:
    """The fields of a load request."""
    np.save(tmp_path / "x.npy", np.ones(tiny_net.INPUT_SHAPE, np.float32))
    model = str(tiny_net.model_file())
    inputs = [[tiny_net.INPUT, str(tmp_path / "x.npy")]]
    return {"model": model, "original": model, "threads": 1, "inputs": inputs, "cpus": None, "work": str(tmp_path)}


@pytest.fixture
def process(make_peer: MakePeer) -> Iterator[PeerProcess]:
    with PeerProcess(make_peer("fake"), PYTHON, {}) as started:
        yield started


def test_a_whole_conversation(process: PeerProcess, task: dict[str, Any], tmp_path: Path) -> None:
    loaded = process.ask("load", **task)
    assert (loaded["version"], loaded["call"]) == ("1.2.3", "fast way")
    assert 1e6 <= loaded["ns"] == loaded["calls"]["fast way"] < loaded["calls"]["slow way"]
    ran = process.ask("run", n=4, warm=2)
    assert len(ran["ns"]) == 4 and min(ran["ns"]) >= 1e6
    assert ran["waited"] >= 0
    files = process.ask("output", folder=str(tmp_path))["files"]
    assert [np.load(f).shape for f in files] == [tiny_net.OUTPUT_SHAPE]
    memory = process.ask("memory")
    if sys.platform == "linux":
        assert memory["peak"] >= memory["resident"] > 1 << 20
    with pytest.raises(PeerError, match="not profiled") as error:
        process.ask("profile", runs=3)
    assert error.value.kind == "cannot"
    assert process.ask("run", n=1)["ns"]  # it is still there


def test_nothing_is_timed_before_it_is_loaded(process: PeerProcess) -> None:
    with pytest.raises(PeerError, match="no model is loaded") as error:
        process.ask("run", n=1)
    assert error.value.kind == "failed"


def test_an_unknown_request(process: PeerProcess) -> None:
    with pytest.raises(PeerError, match="do_polish"):
        process.ask("polish")


@pytest.mark.parametrize(
    ("mode", "kind", "message"),
    [
        ("cannot", "cannot", "^no such file format$"),
        ("broken", "failed", "^ValueError: the graph is cyclic$"),
        ("absent", "cannot", "a_package_that_is_not_installed is not installed in "),
        ("crash", "failed", "ended by signal 6: about to fall"),
    ],
)
def test_what_does_not_load(mode: str, kind: str, message: str, make_peer: MakePeer, task: dict[str, Any]) -> None:
    with PeerProcess(make_peer("fake", mode), PYTHON, {}) as process:
        with pytest.raises(PeerError, match=message) as error:
            process.ask("load", **task)
        assert error.value.kind == kind


def test_a_silent_runtime_is_ended(process: PeerProcess, task: dict[str, Any]) -> None:
    with pytest.raises(PeerError, match=r"no answer to load in 0.001 s"):
        process.ask("load", timeout=0.001, **task)
    with pytest.raises(PeerError, match="has been ended"):
        process.ask("memory")


def test_a_runtime_that_talks_nonsense(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nread line\necho hello\nread line\necho '[1]'\n", encoding="utf-8")
    program.chmod(0o755)
    with PeerProcess(Peer("fake", tmp_path, "", None, ""), program, {}) as process:
        with pytest.raises(PeerError, match="no JSON: b'hello'"):
            process.ask("memory")
        with pytest.raises(PeerError, match=r"\[1\]"):
            process.ask("memory")


def test_an_interpreter_that_does_not_start(tmp_path: Path, make_peer: MakePeer) -> None:
    with pytest.raises(PeerError, match="does not start"):
        PeerProcess(make_peer("fake"), tmp_path / "nothing", {})


def test_peers_are_found_once_and_in_order() -> None:
    assert [p.name for p in find_peers(["ncnn", "openvino", "ncnn"])] == ["ncnn", "openvino"]
    for peer in PEERS.values():
        assert peer.script.exists() and peer.avx2_note


@pytest.mark.parametrize("names", [[], ["openvino", "tensorrt"]])
def test_unknown_peers(names: list[str]) -> None:
    with pytest.raises(OptionError, match="unknown runtime"):
        find_peers(names)


def test_the_environment_of_the_others(tmp_path: Path) -> None:
    assert python_of(None) == PYTHON
    with pytest.raises(OptionError, match=r"setup_peers\.sh"):
        python_of(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert python_of(tmp_path) == tmp_path / "bin" / "python"


def test_runners_do_not_import_strop() -> None:
    for peer in PEERS.values():
        text = peer.script.read_text(encoding="utf-8")
        assert "strop" not in text.split('"""', 2)[2]
