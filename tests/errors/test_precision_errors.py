"""Unusable precisions, calibrators, samples and metrics, in Python and on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.engine.build import build
from strop.engine.versus import Settings
from strop.engine.watch import observe
from strop.errors import InputError, ModelError, OptionError, StropError, UnsupportedError
from strop.frontend.onnx.reader import read_onnx
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.lower.pipeline import lower
from strop.ops.elementwise import BitCast
from strop.ops.quantize import Dequantize, Quantize
from strop.optimize.pipeline import optimize
from strop.quantize.data import samples
from strop.target.detect import parse
from strop.trace import Trace
from tests import tiny_net
from tests.engine.test_loops import collatz
from tests.errors.command import run

X = np.zeros((4, *tiny_net.INPUT_SHAPE[1:]), np.float32)

BAD: dict[str, tuple[dict[str, Any], type[StropError], str]] = {
    "precision": ({"precision": "int9"}, OptionError, "unknown precision"),
    "8 and 16 bits": ({"precision": "int16x8", "layer_precision": {"conv1": "int8"}}, OptionError, "layers of int16x8 has none of int8"),
    "bytes of two kinds": ({"precision": "auto", "layer_precision": {"conv1": "fp8"}, "target": "cuda:sm_90"}, OptionError, "layers of int8 has none of fp8"),
    "the best calibrator of floats": ({"precision": "fp8", "calibration": X, "calibrator": "best", "target": "cuda:sm_90"}, OptionError, "compares ranges of integers"),
    "8-bit floats": ({"precision": "fp8", "calibration": X}, OptionError, "no products of 8-bit floats"),
    "8-bit floats of a layer": ({"layer_precision": {"conv1": "fp8"}, "target": "cuda:sm_80"}, OptionError, "no products of 8-bit floats"),
    "16 bits of a layer": ({"layer_precision": {"conv1": "int16x8"}}, OptionError, "unknown precision of a layer"),
    "group of weights": ({"precision": "w4:many"}, OptionError, "unusable group of weights"),
    "layer": ({"layer_precision": {"conv7": "int8"}}, OptionError, "no layer matches"),
    "precision of a layer": ({"layer_precision": {"conv1": "auto"}}, OptionError, "unknown precision of a layer"),
    "calibrator": ({"precision": "int8", "calibrator": "median"}, OptionError, "unknown calibrator"),
    "max_drop below": ({"precision": "int8", "calibration": X, "max_drop": -1.0}, OptionError, "max_drop"),
    "max_drop that is no number": ({"precision": "int8", "calibration": X, "max_drop": float("nan")}, OptionError, "max_drop"),
    "metric": ({"precision": "int8", "calibration": X, "max_drop": 1.0, "metric": "f1"}, OptionError, "unknown metric"),
    "metric without a drop": ({"precision": "int8", "calibration": X, "max_drop": 1.0, "metric": "sqnr"}, OptionError, "drop of this metric"),
    "labels": ({"precision": "int8", "calibration": X, "max_drop": 1.0, "metric": "top1"}, InputError, "needs labels"),
    "samples once": ({"precision": "int8", "calibration": iter([X[:1]]), "max_drop": 1.0}, OptionError, "only once"),
    "samples of another shape": ({"precision": "int8", "calibration": X[:, :2]}, InputError, "does not fit"),
    "no such file": ({"precision": "int8", "calibration": "nowhere.txt"}, OptionError, "no such calibration data"),
    "a table that is none": ({"precision": "int8", "calibration": __file__}, ModelError, "no range table"),
    "a table without a value": ({"precision": "int8", "ranges": {"x": (0, 1)}}, OptionError, "no range"),
    "a table of another network": ({"precision": "int8", "ranges": {"x": (0, 1)}, "equalize": True}, OptionError, "equalized"),
    "preprocessing": ({"precision": "int8", "calibration": X, "preprocess": "best"}, OptionError, "preprocessing"),
}


@pytest.mark.parametrize("case", BAD)
def test_in_python(case: str) -> None:
    options, kind, message = BAD[case]
    with pytest.raises(kind, match=message) as error:
        build(tiny_net.model_file(), **{"level": 0, "threads": 1, **options})
    assert error.value.expected is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "MODEL", "-o", "OUT", "--precision", "int9"], "unknown precision"),
        (["build", "MODEL", "-o", "OUT", "--precision", "fp8", "--target", "cuda:sm_87"], "fp8 for cuda:sm_87"),
        (["build", "MODEL", "-o", "OUT", "--layer-precision", "conv1"], "unusable precision of layers"),
        (["build", "MODEL", "-o", "OUT", "--precision", "int8", "--max-drop", "1", "--metric", "nowhere:f"], "plug-in cannot be loaded"),
        (["build", "MODEL", "-o", "OUT", "--precision", "int8", "--max-drop", "1", "--metric", "math:pi"], "plug-in is no function"),
        (["calibrate", "MODEL"], "no output file"),
        (["calibrate", "MODEL", "-o", "OUT", "--calibrator", "median"], "unknown calibrator"),
        (["calibrate", "MODEL", "-o", "OUT", "--data", "nowhere.npz"], "cannot be read"),
        (["eval", "MODEL", "--data", "nowhere.npz"], "cannot be read"),
        (["eval", "MODEL", "--data", "DATA", "--metric", "f1"], "unknown metric"),
        (["eval", "MODEL", "--data", "DATA", "--metric", "agreement"], "compares with another network"),
        (["eval", "MODEL", "--data", "DATA"], "needs labels"),
        (["debug", "precision", "MODEL", "--data", "DATA", "--plot", "no folder/p.svg"], "cannot write the output file"),
        (["debug", "precision", "MODEL", "--data", "DATA", "--precision", "fp32"], "nothing to compare"),
    ],
)  # fmt: skip
def test_on_the_command_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    np.save(tmp_path / "data.npy", X)
    places = {"MODEL": tiny_net.model_file(), "OUT": out / "file", "DATA": tmp_path / "data.npy"}
    done = run(*(places.get(a, a) for a in arguments))
    assert done.code == 1 and message in done.err, done.err
    assert done.out == "" and os.listdir(out) == []


def test_floats_of_8_bits_run_where_kernels_have_them() -> None:
    graph = Graph("g")
    x = graph.add_input("x", Type(dt.f32, (2, 3)))
    stored = graph.add(Quantize(dt.f8e4m3), [x, graph.add_const(np.ones((), np.float32))], name="stored").output
    read = graph.add(Dequantize(), [stored, graph.add_const(np.ones((), np.float32))]).output
    graph.set_outputs([read], ["y"])
    for target in ("x86-64-v3", "cuda:sm_80"):
        with pytest.raises(UnsupportedError, match="no 8-bit floats") as told:
            lower(graph, parse(target), Trace())
        assert "stored" in str(told.value) and target in str(told.value) and "int8" in str(told.value)
    bits = graph.add(BitCast(dt.u8), [stored], name="bits").output
    graph.set_outputs([read, bits], ["y", "bits"])
    with pytest.raises(UnsupportedError, match="8-bit floats does not run on the processor") as told:
        lower(graph, parse("cuda:sm_90"), Trace())
    assert "bits" in str(told.value)


def test_precision_of_a_comparison() -> None:
    with pytest.raises(OptionError) as caught:
        Settings(precision="int4")
    assert "unknown precision to compare in" in str(caught.value) and "fp32, bf16, fp16" in str(caught.value)


def test_networks_with_loops_are_not_calibrated() -> None:
    graph = optimize(read_onnx(collatz(), {"all[]": "1..200(20)"}), Trace())
    with pytest.raises(OptionError, match="a network with loops is not calibrated") as told:
        observe(graph, [], samples(None, graph.inputs), lambda graph: pytest.fail("nothing is compiled"), Trace())
    assert "loops: 1" in str(told.value)
    engine = build(collatz(), level=0, threads=1, shapes={"all[]": "1..200(20)"}, precision="auto")
    assert "auto: all 0 layers stay in fp32: a network with loops is not calibrated" in engine.manifest["notes"]
    assert engine.manifest["precision"]["asked"] == "auto" and not engine.manifest["precision"]["why"]
