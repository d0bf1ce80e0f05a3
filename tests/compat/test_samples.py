"""Programs in the style of NVIDIA's samples run unchanged under the shim runner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).with_name("samples")
PROGRAMS = sorted(p.stem for p in SAMPLES.glob("*.py") if p.stem != "common")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "strop.compat", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)


@pytest.mark.parametrize("program", PROGRAMS)
def test_sample_runs(program: str) -> None:
    done = run("run", str(SAMPLES / f"{program}.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_usage() -> None:
    done = run("walk")
    assert done.returncode == 2 and "python -m strop.compat run SCRIPT" in done.stderr
