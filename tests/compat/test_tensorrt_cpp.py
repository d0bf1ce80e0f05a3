"""The C++ headers: the presentation's Logger compiles, and a program builds, loads and runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from strop.compat import tensorrt
from strop.demo_data import lenet_path
from strop.engine.build import build
from tests.runtime import synthetic as syn

pytestmark = syn.needs_linux
PROGRAM = Path(__file__).with_name("program.cpp")
INCLUDE = f"-I{Path(tensorrt.__file__).with_name('include')}"


@pytest.mark.parametrize("standard", ["c++14", "c++20"])
def test_headers_compile(standard: str) -> None:
    syn.compile_native([PROGRAM], f"tensorrt-{standard}.o", f"-std={standard}", INCLUDE, "-c", language="c++")


@pytest.mark.slow  # the C++ standard library is built first
def test_program_builds_loads_and_runs(tmp_path: Path) -> None:
    runtime = syn.runtime_path()
    link = [str(runtime), f"-Wl,-rpath,{runtime.parent}"]
    program = syn.compile_native([PROGRAM], "tensorrt-cpp", "-std=c++17", "-O1", INCLUDE, *link, language="c++")
    command = tmp_path / "strop"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m strop.cli.main "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "STROP_COMMAND": str(command)}
    done = subprocess.run([program, lenet_path()], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "the model cannot be opened: /nowhere.onnx" in lines[0]
    found = np.array([float(line) for line in lines[-10:]], np.float32)
    given = (np.arange(784) % 7 / 7).astype(np.float32).reshape(1, 1, 28, 28)
    np.testing.assert_allclose(found, np.ravel(build(lenet_path(), level=0)(given)), rtol=1e-5, atol=1e-5)
