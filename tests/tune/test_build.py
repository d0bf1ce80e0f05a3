"""The same records give the same engine, byte for byte, and a build that finds everything in the
records measures nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from strop.engine.build import build
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ops.conv import Conv
from strop.ops.elementwise import make
from strop.target.detect import host
from strop.tune.records import Records


def net() -> Graph:
    """A 3x3 convolution, a rectifier, and a 1x1 convolution with a residual."""
    rng = np.random.default_rng(0)
    graph = Graph("net")
    x = graph.add_input("x", Type(dt.f32, (1, 8, 14, 14)))
    first = graph.add_const(rng.standard_normal((16, 8, 3, 3)).astype(np.float32))
    second = graph.add_const(rng.standard_normal((16, 16, 1, 1)).astype(np.float32))
    a = graph.add(Conv((1, 1), (1, 1, 1, 1), (1, 1)), [x, first]).output
    b = graph.add(make("relu"), [a]).output
    c = graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), [b, second]).output
    graph.set_outputs([graph.add(make("add"), [c, b]).output], ["y"])
    return graph


def engine_bytes(folder: Path, level: int = 3, budget: float | None = 120.0) -> bytes:
    path = folder / "net.strop"
    build(net(), level=level, budget=budget, threads=1).save(path)
    return path.read_bytes()


def test_same_records_same_bytes(
    tmp_path: Path, records: Path, request: pytest.FixtureRequest
) -> None:
    first = engine_bytes(tmp_path)
    kept = records / f"{host()}.txt"
    text = kept.read_text()
    request.getfixturevalue("no_worker")
    assert engine_bytes(tmp_path) == first
    assert kept.read_text() == text
    kept.write_text(text + "# a comment changes nothing\n" + text)
    assert engine_bytes(tmp_path) == first


def test_manifest_tells_the_recorded_times(tmp_path: Path, records: Path) -> None:
    engine = build(net(), level=3, budget=120.0, threads=1)
    results = Records.read(records / f"{host()}.txt", pytest.fail).results
    for step in engine.manifest["steps"]:
        times = [r for key, r in results.items() if key.candidate == step["kernel"]]
        assert step["measured_ns"] in times and isinstance(step["measured_ns"], int)


@pytest.mark.parametrize(("level", "budget"), [(0, None), (3, 0.0)])
def test_engine_without_measuring_is_valid(
    level: int, budget: float | None, tmp_path: Path, no_worker: None
) -> None:
    first = engine_bytes(tmp_path, level, budget)
    assert engine_bytes(tmp_path, level, budget) == first
    engine = build(net(), level=level, budget=budget, threads=1)
    assert all(step["measured_ns"] is None for step in engine.manifest["steps"])
    assert len(engine.manifest["notes"]) == (1 if level else 0)


def test_interrupted_build_gives_a_valid_engine(records: Path) -> None:
    """Ctrl-C after the first region: the engine computes what an untuned one computes, and the next
    build goes on."""

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "tune" and done == 1:
            raise KeyboardInterrupt

    x = np.random.default_rng(1).standard_normal((1, 8, 14, 14)).astype(np.float32)
    plain = build(net(), level=0, threads=1)(x)
    engine = build(net(), level=3, budget=120.0, threads=1, progress=progress)
    np.testing.assert_allclose(engine(x), plain, rtol=1e-4, atol=1e-4)
    assert "interrupted" in engine.manifest["notes"][0]
    before = len(Records.read(records / f"{host()}.txt", pytest.fail))
    assert build(net(), level=3, budget=120.0, threads=1).manifest["notes"] == []
    assert len(Records.read(records / f"{host()}.txt", pytest.fail)) > before > 0
