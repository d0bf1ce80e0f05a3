"""strop dump."""

from __future__ import annotations

import json
from pathlib import Path

from tests import tiny_net
from tests.cli.conftest import Strop


def test_a_models_graph_is_as_it_was_read(strop: Strop, model: Path) -> None:
    done = strop("dump", model)
    assert done.code == 0, done.err
    assert done.out.startswith('graph "tiny"\n') and "batch_norm(" in done.out


def test_an_engines_graph_is_optimized(strop: Strop, engine: Path) -> None:
    text = strop("dump", engine).out
    assert text.startswith('graph "tiny"\n') and "batch_norm(" not in text


def test_the_manifest(strop: Strop, engine: Path) -> None:
    assert json.loads(strop("dump", engine, "--part", "manifest").out) == tiny_net.engine().manifest


def test_sections(strop: Strop, engine: Path) -> None:
    lines = strop("dump", engine, "--part", "sections").out.splitlines()
    assert {line.split()[0] for line in lines[1:]} == {"manifest", "graph", "plan", "kernels", "runtime", "weights"}


def test_a_model_has_no_manifest(strop: Strop, model: Path) -> None:
    done = strop("dump", model, "--part", "manifest")
    assert done.code == 1 and "no such part" in done.err
