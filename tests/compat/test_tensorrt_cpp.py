"""The C++ headers: the presentation's Logger compiles, and programs build from models and by layers, load and run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.compat import tensorrt
from strop.demo_data import held_back_digits, lenet_path, lenet_weights
from strop.engine.build import build
from strop.frontend import network as nw
from strop.frontend.network import stored
from strop.frontend.onnx import read_onnx
from strop.ir.interp import run
from tests.runtime import synthetic as syn

pytestmark = syn.needs_linux
PROGRAM, LAYERS = (Path(__file__).with_name(name) for name in ("program.cpp", "layers.cpp"))
INCLUDE = f"-I{Path(tensorrt.__file__).with_name('include')}"


@pytest.mark.parametrize(("program", "standard"), [(PROGRAM, "c++20"), (LAYERS, "c++14")], ids=lambda v: getattr(v, "stem", v))
def test_headers_compile(program: Path, standard: str) -> None:
    syn.compile_native([program], f"tensorrt-{program.stem}-{standard}.o", f"-std={standard}", INCLUDE, "-c", language="c++")


def started(program: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Compiles and runs a program; the compiler is this one."""
    runtime = syn.runtime_path()
    link = [str(runtime), f"-Wl,-rpath,{runtime.parent}"]
    compiled = syn.compile_native([program], f"tensorrt-{program.stem}", "-std=c++17", "-O1", INCLUDE, *link, language="c++")
    command = folder / "strop"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m strop.cli.main "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "STROP_COMMAND": str(command)}
    return subprocess.run([compiled, *arguments], capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.slow  # the C++ standard library is built first
def test_program_builds_loads_and_runs(tmp_path: Path) -> None:
    done = started(PROGRAM, tmp_path, lenet_path())
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "the model cannot be opened: /nowhere.onnx" in lines[0]
    found = np.array([float(line) for line in lines[-10:]], np.float32)
    given = (np.arange(784) % 7 / 7).astype(np.float32).reshape(1, 1, 28, 28)
    np.testing.assert_allclose(found, np.ravel(build(lenet_path(), level=0)(given)), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_program_defines_networks_by_layers(tmp_path: Path) -> None:
    weights, images, every = tmp_path / "weights", tmp_path / "images", tmp_path / "every.layers"
    own, names = lenet_weights(), ("conv1", "conv2", "fc1", "fc2")
    weights.write_bytes(b"".join(own[f"{n}.{part}"].astype(np.float32).tobytes() for n in names for part in ("weight", "bias")))
    digits = held_back_digits()[0][:5].astype(np.float32)
    images.write_bytes(digits.tobytes())
    done = started(LAYERS, tmp_path, str(weights), str(images), str(every))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "input name is taken: data" in done.stdout and "the kernel is missing" in done.stdout + done.stderr
    found = np.array([float(line) for line in done.stdout.splitlines() if line.replace(".", "").replace("-", "").replace("e", "").isdigit()])
    wanted = np.concatenate([run(read_onnx(lenet_path()), {"input": image[None]})["logits"] for image in digits])
    np.testing.assert_allclose(found.reshape(5, 10), wanted, rtol=1e-4, atol=1e-4)
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((1, 3, 4, 4)).astype(np.float32), "bounds": np.array([[[1], [4], [16]]], np.int32)}
    results, own_results = run(stored.load(every)[0].to_graph(), feeds), run(by_hand().to_graph(), feeds)
    assert len(results) == 19 and results.keys() == own_results.keys()
    for name, array in results.items():
        np.testing.assert_array_equal(array, own_results[name], err_msg=name)


def by_hand() -> nw.Network:
    """What ``others`` in layers.cpp defines."""
    ramp = np.zeros(64, np.float32)
    ramp[:8] = 1, -2, 0.5, 3, -1, 2, 0.25, -0.5
    net = nw.Network()
    x, bounds = net.add_input("x", "f32", (1, 3, 4, 4)), net.add_input("bounds", "i32", (1, 3, 1))

    def out(name: str, layer: nw.Layer, *inputs: nw.Tensor) -> nw.Tensor:
        net.mark_output(net.add(layer, *inputs).output, name)
        return layer.output

    def constant(values: Any) -> nw.Tensor:
        return net.add(nw.Constant(np.asarray(values, np.int32))).output

    out("deconvolution", nw.Deconvolution(1, (2, 2), ramp[:12], stride=2), x)
    out("pooling", nw.Pooling("max_average_blend", (3, 3), 2, 0, 0, "same_upper", 0.25, False), x)
    out("lrn", nw.LRN(3, 0.5, 0.75, 2.0), x)
    leaky = out("activation", nw.Activation("leaky_relu", 0.125), x)
    out("softmax", nw.Softmax(1 << 3), x)
    out("scale", nw.Scale("channel", None, np.array([0.5, 2, -1], np.float32)), x)
    out("unary", nw.Unary("abs"), x)
    out("elementwise", nw.Elementwise("prod"), x, leaky)
    out("concatenation", nw.Concatenation(1), x, leaky)
    out("padding", nw.Padding((1, -1), (0, 2)), x)
    matrix = out("shuffle", nw.Shuffle((0, 2, 3, 1), (0, 16, -1), (0, 2, 1)), x)
    out("matrix", nw.MatrixMultiply("none", "transpose"), matrix, matrix)
    out("gather", nw.Gather(axis=1), x, constant([[2, 0]]))
    out("reduce", nw.Reduce("avg", 0b1100, True), x)
    top = nw.TopK("max", 2, 1 << 3)
    out("topk", top, x)
    net.mark_output(top.outputs[1], "places")
    out("squeeze", nw.Squeeze(), x, constant([0]))
    rnn = nw.RNN(1, 2, 8, "tanh")
    rnn.set_weights(0, "input", True, ramp[:32])
    rnn.set_weights(0, "input", False, ramp[:4])
    rnn.set_bias(0, "input", True, ramp[:2])
    out("rnn", rnn, matrix)
    out("ragged", nw.RaggedSoftmax(), matrix, bounds)
    return net
