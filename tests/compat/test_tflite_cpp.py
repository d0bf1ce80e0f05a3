"""The C++ headers of TensorFlow Lite: the presentation's code compiles and prints the numbers that Python prints."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from strop.compat import tflite as lite
from strop.compat.tflite.interpreter import Interpreter
from strop.engine.build import build
from tests.compat.test_tflite_converter import MODELS
from tests.compat.test_tflite_interpreter import two_ops, two_signatures
from tests.frontend.tflite_nets import streaming
from tests.runtime import synthetic as syn

pytestmark = syn.needs_linux
PROGRAM = Path(__file__).with_name("tflite_program.cpp")
FOLDER = Path(lite.__file__).with_name("include")
INCLUDE = f"-I{FOLDER}"


@pytest.mark.parametrize("standard", ["c++14", "c++20"])
def test_headers_compile(standard: str) -> None:
    syn.compile_native([PROGRAM], f"tflite-{standard}.o", f"-std={standard}", INCLUDE, "-c", language="c++")


def test_every_header_compiles_alone(tmp_path: Path) -> None:
    source = tmp_path / "all.cpp"
    source.write_text("".join(f'#include "{path.relative_to(FOLDER)}"\n' for path in sorted(FOLDER.rglob("*.h"))))
    syn.compile_native([source], "tflite-all.o", "-std=c++17", INCLUDE, "-c", language="c++")
    common = tmp_path / "common.c"
    common.write_text('#include "tensorflow/lite/c/c_api_types.h"\nint rank(const TfLiteTensor *t) { return t->dims->size; }\n')
    syn.compile_native([common], "tflite-c.o", "-std=c11", INCLUDE, "-c")


def models(folder: Path) -> list[str]:
    """Files for the program: LeNet as it was converted, and small ones; one with an engine beside it."""
    paths = [folder / name for name in ("a.tflite", "q.tflite", "s.tflite", "two.tflite")]
    with tarfile.open(MODELS) as archive:
        archive.extractall(folder, filter="data")
    lenet = lite.TFLiteConverter.from_saved_model(folder / "lenet").convert()
    for path, data in zip(paths, (lenet, two_ops(), streaming(), two_signatures()), strict=True):
        path.write_bytes(data)
    build(streaming(), level=0, threads=1).save(folder / "s.tflite.strop")
    return list(map(str, paths))


@pytest.mark.slow  # the C++ standard library is built first
def test_program_prints_what_python_prints(tmp_path: Path) -> None:
    runtime = syn.runtime_path()
    link = [str(runtime), f"-Wl,-rpath,{runtime.parent}"]
    program = syn.compile_native([PROGRAM], "tflite-cpp", "-std=c++17", "-O1", INCLUDE, *link, language="c++")
    command = tmp_path / "strop"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m strop.cli.main "$@"\n')
    command.chmod(0o755)
    files = models(tmp_path)
    environment = {**os.environ, "STROP_COMMAND": str(command), "STROP_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([program, *files], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    interpreter = Interpreter(files[0])
    interpreter.allocate_tensors()
    (x,), (y,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(x["index"], (np.arange(784) % 7 / np.float32(7)).astype(np.float32).reshape(x["shape"]))
    interpreter.invoke()
    assert lines[:10] == [f"{v:.9g}" for v in interpreter.get_tensor(y["index"]).ravel()]
    interpreter = Interpreter(files[1])
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.array([[-5, 9]], np.int8))
    interpreter.invoke()
    assert lines[10] == lines[11] == "{} {}".format(*interpreter.get_tensor(3).ravel())
    assert lines[12] == "Interpreter has 4 tensors and 2 nodes" and "constant" in lines[14]
    assert lines[-3:] == ["14 8 3 6 14 8 3 6 ", "exp 1.0000 7.3891", "neg -0.0000 -2.0000"]
    again = subprocess.run([program, *files], capture_output=True, text=True, timeout=300, env={**environment, "STROP_COMMAND": "/nowhere/strop"})
    assert again.stdout == done.stdout  # engines were kept: no compiler is asked for
    missing = subprocess.run([program, *files], capture_output=True, text=True, timeout=300, env={**environment, "STROP_COMMAND": "/nowhere/strop", "STROP_CACHE": str(tmp_path / "other")})
    assert missing.returncode == 1 and f"/nowhere/strop build {files[0]} -o {files[0]}.strop" in missing.stderr
