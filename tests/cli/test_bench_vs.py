"""strop bench --vs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strop.engine import peer_process
from strop.engine.peer_process import Peer
from tests import bench
from tests.cli.conftest import Strop

QUICK = ("--rounds", 2, "--seconds", 0.01, "--level", 0)


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runtimes ``fake``, which is right, and ``liar``, which is not."""
    text = (Path(bench.__file__).parent / "fake_peer.py").read_text("utf-8")
    for name, mode in (("fake", "right"), ("liar", "wrong")):
        script = tmp_path / f"{name}.py"
        script.write_text(text.replace('MODE = "right"', f"MODE = {mode!r}"), encoding="utf-8")
        monkeypatch.setitem(peer_process.PEERS, name, Peer(name, script, "", None, ""))


def test_table(strop: Strop, model: Path, fakes: None) -> None:
    done = strop("bench", model, "--vs", "fake,liar", *QUICK)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].startswith("ms per inference on 1 thread;")
    assert done.out.splitlines()[1].split() == ["net", "strop", "fake", "liar", "best", "ratio", "range", "error"]
    assert "wrong" in done.out.splitlines()[2]
    assert "the fastest other runtime takes" in done.out and "liar: wrong on 1 of 1: differs from fake" in done.out


def test_json(strop: Strop, model: Path, fakes: None) -> None:
    done = strop("bench", model, "--vs", "fake", *QUICK, "--json", "--threads", 2)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["threads"], found["status"], found["best"]) == (2, "compared", "fake")
    assert len(found["entries"][1]["rounds"]) == 2


def test_figures_that_are_wrong_are_an_error(strop: Strop, model: Path, fakes: None) -> None:
    done = strop("bench", model, "--vs", "liar,fake", *QUICK)
    assert done.code == 1
    assert "Strop has no figures: wrong" in done.err and "differs from liar" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--vs", "nobody"), "unknown runtime"),
        (("--vs", ""), "unknown runtime"),
        (("--vs", "fake", "--peers", "/nonexistent"), "no virtual environment"),
        (("--vs", "fake", "--runs", 3), "do not go together"),
        (("--vs", "fake", "--layers"), "do not go together"),
        (("--vs", "fake", "--rounds", 0), "unusable number of rounds"),
        (("--peers", "x"), "do not go together"),
        (("--level", 3), "do not go together"),
    ],
)
def test_unusable_options(arguments: tuple[object, ...], message: str, strop: Strop, model: Path, fakes: None) -> None:
    done = strop("bench", model, *arguments)
    assert done.code == 1
    assert message in done.err


def test_engines_are_not_for_others(strop: Strop, engine: Path, fakes: None) -> None:
    done = strop("bench", engine, "--vs", "fake")
    assert done.code == 1 and "other runtimes do not read engines" in done.err
