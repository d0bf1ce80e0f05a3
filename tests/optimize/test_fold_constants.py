"""What depends on constants only is computed once, within bounds."""

from __future__ import annotations

import numpy as np

from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ir.shape import Sym
from strop.ops.conv import Conv
from strop.ops.data import Expand, Reshape, Split, Transpose
from strop.ops.elementwise import Cast, make
from strop.ops.index import Gather
from strop.ops.matmul import MatMul
from strop.ops.quantize import Dequantize, Quantize
from strop.optimize import fold_constants
from strop.optimize.base import Options
from strop.trace import Trace
from tests.optimize.harness import Case, constant, labels, only


def test_chains_to_the_weights() -> None:
    b = Case(1, 2, 4, 4)
    w = b.add(Transpose((1, 0)), b.const(np.arange(6.0).reshape(2, 3)))
    w = b.add(Cast(dt.f32), b.add(Reshape((3, 2, 1, 1)), b.fn("mul", b.add(Cast(dt.f32), w), 0.5)))
    graph = b.after(fold_constants, b.add(Conv((1, 1), (0,) * 4, (1, 1)), b.x, w))
    assert labels(graph) == ["conv"]
    wanted = (np.arange(6.0).reshape(2, 3).T * 0.5).reshape(3, 2, 1, 1)
    np.testing.assert_array_equal(constant(only(graph, "conv"), 1), wanted)
    assert len(list(graph.constants())) == 1


def test_several_results() -> None:
    b = Case(2)
    parts = b.add_several(Split(0, (2, 2)), b.normal(4))
    graph = b.after(fold_constants, b.fn("add", b.fn("add", b.x, parts[0]), parts[1]))
    assert labels(graph) == ["add", "add"]


def test_a_constant_output() -> None:
    b = Case(2)
    graph = b.after(fold_constants, b.fn("tanh", b.normal(3)))
    assert not graph.nodes and graph.outputs[0].const is not None


def test_unless_the_result_is_large() -> None:
    b = Case(2)
    big = b.add(Expand((1 << 12, 1 << 8)), b.const(1.0))
    b.graph.set_outputs([big])
    for limit, count in ((1 << 20, 1), (1 << 23, 0)):
        copy = b.graph.clone()
        fold_constants.run(copy, Trace(), Options(fold_bytes=limit))
        assert len(copy.nodes) == count


def test_large_results_no_larger_than_their_constants_are_computed() -> None:
    b = Case(2)
    b.graph.set_outputs([b.add(Transpose((1, 0)), b.normal(1 << 10, 1 << 9))])
    fold_constants.run(b.graph, Trace(), Options(fold_bytes=8))
    assert not b.graph.nodes


def test_unless_the_reference_refuses() -> None:
    b = Case(2)
    y = b.add(Gather(0), b.normal(3), b.const(np.array([5])))
    b.graph.set_outputs([y])
    fold_constants.run(b.graph, Trace(), Options())
    assert labels(b.graph) == ["gather"]


def test_unless_the_shape_is_symbolic() -> None:
    graph = Graph()
    n = Sym("n", 1, 2, 8)
    x = graph.add_input("x", Type(dt.f32, (n,)))
    one = graph.add_const(np.ones(1, np.float32))
    y = graph.add(make("add"), [x, graph.add(Expand((n,)), [one]).output]).output
    graph.set_outputs([y])
    fold_constants.run(graph, Trace(), Options())
    assert labels(graph) == ["expand", "add"]


def test_known_weights_stay_integers() -> None:
    b = Case(2, 3)
    scale = b.const(np.asarray(0.5, np.float32))
    stored = b.add(Quantize(dt.i8), b.const(np.ones((3, 4), np.float32)), scale)
    graph = b.after(fold_constants, b.add(MatMul(), b.x, b.add(Dequantize(), stored, scale)))
    assert labels(graph) == ["dequantize", "matmul"]
    np.testing.assert_array_equal(constant(only(graph, "dequantize"), 0), np.full((3, 4), 2, np.int8))
