"""``--signature``: which entry of a model with several a verb reads."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from strop.demo_data import lenet_path
from strop.engine.engine import load
from tests.compat.test_tflite_interpreter import two_signatures
from tests.errors.command import run
from tests.frontend.tflite_nets import free_net


def test_verbs_read_the_signature_that_is_named(tmp_path: Path) -> None:
    model, engine = tmp_path / "m.tflite", tmp_path / "e.strop"
    model.write_bytes(two_signatures())
    assert run("build", model, "-o", engine, "--level", 0, "--signature", "neg").code == 0
    assert [t.name for t in load(engine).outputs] == ["result"]
    assert "neg" in run("dump", model, "--signature", "neg").out and "exp" in run("dump", model, "--signature", "exp").out
    assert "NEG" in run("check", model, "--signature", "neg").out
    for verb, more in (("run", ("--random",)), ("bench", ("--runs", 2, "--warmup", 1))):
        done = run(verb, model, "--signature", "neg", *more)
        assert done.code == 0, done.err
    done = run("calibrate", model, "--signature", "neg", "--json")
    assert done.code == 0, done.err


def test_what_has_no_such_signature_is_told(tmp_path: Path) -> None:
    model, engine = tmp_path / "m.tflite", tmp_path / "e.strop"
    model.write_bytes(two_signatures())
    done = run("run", model, "--random", "--signature", "nothing")
    assert done.code == 1 and "the model has no such signature" in done.err and "exp, neg" in done.err
    assert run("build", model, "-o", engine, "--level", 0).code == 0
    done = run("run", engine, "--random", "--signature", "neg")
    assert done.code == 1 and "an engine has one signature" in done.err


def test_sizes_that_the_file_leaves_open_are_those_that_it_stores(tmp_path: Path) -> None:
    model, engine = tmp_path / "m.tflite", tmp_path / "e.strop"
    model.write_bytes(free_net())
    assert run("build", model, "-o", engine, "--level", 0).code == 1
    assert run("build", model, "-o", engine, "--level", 0, "--stored-shapes").code == 0
    assert load(engine).inputs[0].shape == (1, 4)
    assert run("build", model, "-o", engine, "--level", 0, "--stored-shapes", "--shape", "x=3x4").code == 0
    assert load(engine).inputs[0].shape == (3, 4)
    done = run("build", lenet_path(), "-o", engine, "--stored-shapes")
    assert done.code == 1 and "only a TensorFlow Lite file stores shapes" in done.err
