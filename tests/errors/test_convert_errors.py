"""What cannot be converted says so by name: the op, the layer, what to try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.errors import OptionError, UnsupportedError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Graph
from strop.ir.op import Op, Type
from strop.ir.shape import Sym
from strop.ops.cumulative import CumProd
from strop.ops.data import Expand, Identity, Slice
from strop.ops.elementwise import make
from strop.ops.pool import MaxPool
from strop.ops.scatter import ScatterElements
from tests import tiny_net
from tests.errors.command import run


def graph_of(op: Op, *operands: Any, kind: dt.DType = dt.f32) -> Graph:
    """A graph of one op named ``layer``; shapes are inputs, arrays constants."""
    graph = Graph("one")
    values = [graph.add_const(o, "c") if isinstance(o, np.ndarray) else graph.add_input(f"x{k}", Type(kind, o)) for k, o in enumerate(operands)]
    graph.set_outputs(graph.add(op, values, name="layer", source=("model/layer",)).outputs[:1], ["y"])
    return graph


N = Sym("n", 1, 2, 4)
ZEROS = np.zeros((2, 3), np.int64)
REFUSED = [
    (graph_of(CumProd(0), (2, 3)), "tflite", "cum_prod: this op has no counterpart in TensorFlow Lite"),
    (graph_of(ScatterElements(0), (2, 3), ZEROS, ZEROS.astype(np.float32)), "tflite", "scatter_elements: this op has no counterpart"),
    (graph_of(MaxPool((2, 2, 2), (1,) * 3, (0,) * 6, (1,) * 3), (1, 2, 4, 4, 4)), "tflite", "pools in three spatial axes"),
    (graph_of(make("bitand"), (2, 3), (2, 3), kind=dt.i32), "tflite", "bitand: there is no operator for these types"),
    (graph_of(make("add"), (2, 3), (2, 3), kind=dt.u8), "tflite", "add: there is no operator for these types"),
    (graph_of(Expand((2, N, 3)), (N, 3)), "tflite", "a free size cannot be written here"),
    (graph_of(CumProd(0), (2, 3)), "onnx", "cum_prod: this op has no counterpart in ONNX"),
    (graph_of(make("shl"), (2, 3), (2, 3), kind=dt.i32), "onnx", "there is no operator for this function over these types"),
    (graph_of(Slice((0,), (N,), (0,), (1,)), (sh.mul(N, 2), 3)), "onnx", "a free size is no size of an input"),
]


@pytest.mark.parametrize(("graph", "to", "what"), REFUSED, ids=[f"{to} {what[:30]}" for _, to, what in REFUSED])
def test_refused_ops_are_named(graph: Graph, to: str, what: str) -> None:
    with pytest.raises(UnsupportedError, match=what) as error:
        strop.convert(graph, to)
    assert error.value.hint
    assert "model/layer" in str(error.value.where) or "dim n" in str(error.value.where)


def test_all_refused_layers_are_told_at_once() -> None:
    graph = Graph("two")
    x = graph.add_input("x", Type(dt.f32, (2, 3)))
    a = graph.add(CumProd(0), [x], name="first", source=("first",)).output
    graph.set_outputs([graph.add(CumProd(1), [a], name="second", source=("second",)).output], ["y"])
    with pytest.raises(UnsupportedError, match="2 of 2 nodes") as error:
        strop.convert(graph)
    assert "first" in str(error.value) and "second" in str(error.value)


def test_types_without_a_place_in_the_file_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="values of type bf16"):
        strop.convert(graph_of(make("relu"), (2, 3), kind=dt.bf16))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"to": "coreml"}, "unknown to"),
        ({"precision": "int4"}, "unknown precision"),
        ({"layout": "nchw"}, "unknown layout"),
        ({"to": "onnx", "precision": "int8"}, "an ONNX file is written as the model is"),
        ({"to": "onnx", "layout": "channels_last"}, "an ONNX file is written as the model is"),
        ({"input_dtype": "i8"}, "only files of integers"),
        ({"precision": "int8", "output_dtype": "f64"}, "cannot have this type"),
        ({"precision": "int16x8", "input_dtype": "u8"}, "cannot have this type"),
        ({"precision": "int8", "input_dtype": "nonsense"}, "cannot have this type"),
        ({"precision": "int8", "calibrator": "guess"}, "calibrator"),
    ],
)
def test_options_are_checked(options: dict[str, Any], what: str) -> None:
    with pytest.raises(OptionError, match=what):
        strop.convert(tiny_net.model(), **options)


def test_an_output_with_two_free_sizes_that_is_an_input() -> None:
    graph = Graph("ends")
    x = graph.add_input("x", Type(dt.f32, (Sym("n", 1, 2, 4), Sym("m", 1, 2, 4))))
    graph.set_outputs([graph.add(Identity(), [x]).output, x], ["y", "z"])
    with pytest.raises(UnsupportedError, match="two free sizes"):
        strop.convert(graph)


def test_the_command_names_what_is_missing(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes(tiny_net.model().SerializeToString())
    done = run("convert", model)
    assert done.code == 1 and "no output file" in done.err
    done = run("convert", model, "-o", tmp_path / "net.bin")
    assert done.code == 1 and "unknown to" in done.err and "tflite, onnx" in done.err
