"""Graphs as ONNX models: valid by the standard, and read back they compute what they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import strop
from strop import demo_data
from strop.engine.convert import conversion
from strop.errors import UnsupportedError
from strop.frontend.onnx.written import WRITERS
from strop.frontend.table import read
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.interp import run
from strop.ir.op import REGISTRY, Type
from strop.ir.shape import Sym
from strop.ops.data import Expand, Reshape
from strop.ops.elementwise import make
from tests import tiny_net
from tests.frontend.one_op import graph_of

LENET = Path(demo_data.__file__).parent / "lenet.onnx"
CASES = 12


def _written_ops() -> list[str]:
    alone = {"sizes", "iota", "loop_begin", "loop_end", "non_zero", "unique", "non_max_suppression", "read_sizes"}
    return sorted({op.name for op in WRITERS} - alone)


@pytest.mark.parametrize("name", _written_ops())
def test_what_is_written_of_an_op_is_read_as_it_was(name: str) -> None:
    done = 0
    for sample in REGISTRY[name].samples(np.random.default_rng(5)):
        if done == CASES:
            break
        if any(a.dtype == np.float16 or a.dtype.name == "bfloat16" for a in sample.inputs) or 0 in sample.inputs[0].shape:
            continue
        graph, feed = graph_of(sample.op, sample)
        try:
            data = strop.convert(graph, "onnx")
        except UnsupportedError as error:
            assert error.where and error.hint
            continue
        onnx.checker.check_model(onnx.load_from_string(data))
        got = run(read(data), feed)
        for output, want in run(graph, feed).items():
            assert got[output].shape == want.shape and got[output].dtype == want.dtype
            np.testing.assert_allclose(got[output].astype(np.float64), want.astype(np.float64), rtol=2e-5, atol=2e-5)
        done += 1
    assert done


@pytest.mark.parametrize("model", ["lenet", "tiny"])
def test_onnx_runtime_computes_the_same(model: str) -> None:
    given = LENET.read_bytes() if model == "lenet" else tiny_net.model().SerializeToString()
    found = conversion(given, "onnx")
    onnx.checker.check_model(onnx.load_from_string(found.data), full_check=True)
    assert "BatchNormalization" not in found.summary["operators"]
    sessions = [onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]) for data in (given, found.data)]
    entry = sessions[0].get_inputs()[0]
    x = np.random.default_rng(0).standard_normal(entry.shape).astype(np.float32)
    want, got = (s.run(None, {entry.name: x})[0] for s in sessions)
    assert [o.name for o in sessions[1].get_outputs()] == [o.name for o in sessions[0].get_outputs()]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * float(np.abs(want).max()))


def test_free_sizes_stay_free_and_are_computed() -> None:
    graph = Graph("free")
    n, m = Sym("n", 1, 2, 9), Sym("m", 1, 2, 9)
    x = graph.add_input("x", Type(dt.f32, (n, m, 4)))
    cut = graph.add(Reshape((n, m, 2, 2)), [x]).output
    row = graph.add(Expand((n, m, 1, 2)), [graph.add_const(np.ones((1, 2), np.float32), "one")]).output
    graph.set_outputs([graph.add(make("add"), [cut, row]).output], ["y"])
    data = strop.convert(graph, "onnx")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["n", "m", 4]
    array = np.arange(60, dtype=np.float32).reshape(5, 3, 4)
    np.testing.assert_array_equal(session.run(None, {"x": array})[0], array.reshape(5, 3, 2, 2) + 1)


def test_types_that_the_standard_does_not_allow_are_refused() -> None:
    graph = Graph("types")
    x = graph.add_input("x", Type(dt.u8, (3,)))
    graph.set_outputs([graph.add(make("neg"), [x], source=("layer",)).output], ["y"])
    with pytest.raises(UnsupportedError, match="Neg takes no u8"):
        strop.convert(graph, "onnx")


def test_bytes_are_the_same_every_time() -> None:
    assert strop.convert(LENET, "onnx") == strop.convert(LENET, "onnx")
