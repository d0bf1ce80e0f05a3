"""Programs in the style of NVIDIA's samples run unchanged under the shim runner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strop import custom
from strop.compat import shims

SAMPLES = Path(__file__).with_name("samples")
PROGRAMS = sorted(p.stem for p in SAMPLES.glob("*.py") if p.stem != "common")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "strop.compat", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, env=os.environ)


@pytest.mark.parametrize("program", PROGRAMS)
def test_sample_runs(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(custom.declared())
    try:
        shims.run(str(SAMPLES / f"{program}.py"))
    finally:
        for name in set(custom.declared()) - before:
            custom.forget(name)
    assert capsys.readouterr().out
    assert "tensorrt" not in sys.modules and "pycuda" not in sys.modules


def test_the_runner_is_a_command() -> None:
    done = command("run", str(SAMPLES / "mnist_7.py"))
    assert done.returncode == 0 and "accuracy" in done.stdout, done.stdout + done.stderr


def test_usage() -> None:
    done = command("walk")
    assert done.returncode == 2 and "python -m strop.compat run SCRIPT" in done.stderr
