"""Unusable options, in Python and on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
import pytest

from strop.engine.build import build
from strop.errors import OptionError, StropError, TargetError, UnsupportedError
from tests import tiny_net
from tests.errors.command import run

BAD: dict[str, tuple[dict[str, Any], type[StropError], str]] = {
    "level below": ({"level": -1}, OptionError, "unusable level"),
    "level above": ({"level": 6}, OptionError, "unusable level"),
    "stage": ({"stop_after": "polish"}, OptionError, "unknown stage"),
    "target": ({"target": "pdp-11"}, TargetError, "unknown target"),
    "feature of the target": ({"target": "x86-64-v3+avx512vnni"}, TargetError, "unknown target"),
    "no threads": ({"threads": 0}, OptionError, "number of threads"),
    "too many threads": ({"threads": 1000}, OptionError, "number of threads"),
    "budget below": ({"budget": -1.0}, OptionError, "budget"),
    "budget that is no number": ({"budget": float("nan")}, OptionError, "budget"),
    "shape of nothing": ({"shapes": {"image": (1, 3, 8, 8)}}, OptionError, "no such input"),
}


@pytest.mark.parametrize("case", BAD)
def test_in_python(case: str) -> None:
    options, kind, message = BAD[case]
    with pytest.raises(kind, match=message) as error:
        build(tiny_net.model_file(), **{"level": 0, **options})
    assert error.value.expected is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--level", "6"], "unusable level"),
        (["--stop-after", "polish"], "unknown stage"),
        (["--target", "pdp-11"], "unknown target"),
        (["--threads", "0"], "number of threads"),
        (["--budget", "-1", "--level", "1"], "budget"),
        (["--shape", "image=1x3x8x8"], "no such input"),
        (["--shape", "x=1,3,8,8"], "unusable shape"),
        (["--shape", "1x3x8x8"], "unusable shape"),
        (["--shape", "x=1x3x8"], "rank"),
        (["--shape", "x=1x4x8x8"], ""),
    ],
)
def test_on_the_command_line(options: list[str], message: str, tmp_path: Path) -> None:
    done = run("build", tiny_net.model_file(), "-o", tmp_path / "net.strop", "--level", "0", *options)
    assert done.code == 1 and message in done.err, done.err
    assert done.out == ""
    assert os.listdir(tmp_path) == []


def test_free_dims_are_named_with_what_to_type(tmp_path: Path) -> None:
    model = tiny_net.model(batch="batch")
    with pytest.raises(UnsupportedError, match="symbolic") as error:
        build(model, level=0)
    assert "--shape x=" in str(error.value) and "batch" in str(error.value)
    onnx.save(model, tmp_path / "free.onnx")
    done = run("build", tmp_path / "free.onnx", "-o", tmp_path / "net.strop", "--level", "0")
    assert done.code == 1 and "--shape x=" in done.err
    assert not (tmp_path / "net.strop").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("STROP_DEBUG", "loud"), ("STROP_THREADS", "two"), ("STROP_JOBS", "1.5"), ("STROP_PATCHES", "x")]
)
def test_environment_variables(name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(name, value)
    if name == "STROP_JOBS":
        monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OptionError, match=name) as error:
        build(tiny_net.model_file(), level=0)
    assert error.value.got == repr(value)


def test_a_target_that_no_machine_of_the_table_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_ISA", "pdp-11")
    with pytest.raises(TargetError, match="unknown target"):
        build(tiny_net.model_file(), level=0)
