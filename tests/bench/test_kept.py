"""Engines kept between runs: one that depends on the same is taken, no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import kept
from strop import demo_data
from strop.engine.build import build
from strop.engine.engine import Engine


def test_an_engine_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def make() -> Engine:
        built.append(1)
        return build(demo_data.lenet_path(), level=0, threads=1)

    for what in ("a", "a", "b"):
        engine = kept.kept(tmp_path / "engines", "lenet", [what], 1, make)
        assert engine.outputs[0].name == "logits"
    assert len(built) == 2 == len(list((tmp_path / "engines").glob("lenet-*.strop")))
    monkeypatch.setattr(kept, "sources", lambda: "others")
    kept.kept(tmp_path / "engines", "lenet", ["a"], 1, make)
    kept.kept(None, "lenet", ["a"], 1, make)
    assert len(built) == 4 and len(list((tmp_path / "engines").iterdir())) == 3
