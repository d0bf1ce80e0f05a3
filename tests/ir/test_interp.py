"""The numpy oracle: results, freeing, type checks, symbols, and what it says about bad inputs."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from strop.errors import GraphError, InputError, VerifyError
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import REGISTRY, Array, Op, Type
from strop.ir.shape import DimExpr, Sym
from strop.ops.conv import Conv
from strop.ops.data import Reshape, Split
from strop.ops.elementwise import make

N = Sym("n", 1, 2, 4)


@pytest.fixture
def lying_op() -> Any:
    """An op whose reference gives what the test wants."""

    @dataclass(frozen=True)
    class Lying(Op):
        name: ClassVar[str] = "test_lying"
        mode: str

        def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
            return (inputs[0],)

        def reference(self, *inputs: Array) -> tuple[Array, ...]:
            if self.mode == "dtype":
                return (inputs[0].astype(np.float64),)
            if self.mode == "count":
                return inputs[0], inputs[0]
            raise ValueError("boom")

    yield Lying
    del REGISTRY["test_lying"]


def test_values_and_output_names() -> None:
    graph = Graph()
    x = graph.add_input("x", Type(dt.f32, (2, 3)))
    c = graph.add_const(np.float32(2), "c")
    y = graph.add(make("mul"), [x, c]).output
    z = graph.add(make("relu"), [y]).output
    graph.set_outputs([z, y, x], ["z", "y", "x again"])
    data = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
    got = interp.run(graph, {"x": data})
    assert list(got) == ["z", "y", "x again"]
    np.testing.assert_array_equal(got["y"], data * 2)
    np.testing.assert_array_equal(got["z"], np.maximum(data * 2, 0))
    assert got["x again"] is data


def test_optional_operand_and_several_results() -> None:
    graph = Graph()
    x = graph.add_input("x", Type(dt.f32, (1, 1, 2, 2)))
    w = graph.add_const(np.ones((4, 1, 2, 2), np.float32))
    y = graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), [x, w, None]).output
    a, b = graph.add(Split(1, (1, 3)), [y]).outputs
    graph.set_outputs([b, a])
    got = list(interp.run(graph, {"x": np.ones((1, 1, 2, 2), np.float32)}).values())
    assert got[0].shape == (1, 3, 1, 1) and got[1].shape == (1, 1, 1, 1)
    assert (got[0] == 4).all() and (got[1] == 4).all()


def test_dead_values_are_freed() -> None:
    graph = Graph()
    value = graph.add_input("x", Type(dt.f32, (4,)))
    for _ in range(3):
        value = graph.add(make("neg"), [value]).output
    graph.set_outputs([value])
    seen: list[weakref.ref[Array]] = []
    alive: list[int] = []

    def watch(_: object, array: Array) -> None:
        alive.append(sum(ref() is not None for ref in seen))
        seen.append(weakref.ref(array))

    result = interp.run(graph, {"x": np.ones(4, np.float32)}, watch)
    assert len(seen) == 4
    assert alive[-1] <= 2  # the input, which the caller holds, and the last operand
    assert sum(ref() is not None for ref in seen) <= 2
    assert next(iter(result.values())).tolist() == [-1] * 4


def test_watch_sees_every_value_in_order() -> None:
    graph = Graph()
    x = graph.add_input("x", Type(dt.f32, (2,)))
    c = graph.add_const(np.ones(2, np.float32), "c")
    y = graph.add(make("add"), [x, c], name="y").output
    graph.set_outputs([y])
    seen: list[str] = []
    interp.run(graph, {"x": np.ones(2, np.float32)}, lambda v, a: seen.append(v.name))
    assert seen == ["x", "c", "y"]


def test_symbols_reach_attributes() -> None:
    graph = Graph()
    x = graph.add_input("x", Type(dt.f32, (N, 6)))
    y = graph.add(Reshape((N, 2, 3)), [x]).output
    graph.set_outputs([y])
    for n in (1, 4):
        got = interp.run(graph, {"x": np.zeros((n, 6), np.float32)})
        assert got["reshape"].shape == (n, 2, 3)


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({}, "missing"),
        ({"x": np.zeros((2, 6), np.float32), "w": np.zeros(1)}, "no such input"),
        ({"x": np.zeros((2, 6))}, "dtype"),
        ({"x": np.zeros((2, 6, 1), np.float32)}, "rank"),
        ({"x": np.zeros((2, 7), np.float32)}, "shape"),
        ({"x": np.zeros((5, 6), np.float32)}, "shape"),
    ],
)
def test_bad_inputs(feed: dict[str, Array], message: str) -> None:
    graph = Graph()
    x = graph.add_input("x", Type(dt.f32, (N, 6)))
    graph.set_outputs([x])
    with pytest.raises(InputError, match=message):
        interp.run(graph, feed)


def test_inputs_that_share_a_symbol_must_agree() -> None:
    graph = Graph()
    half = DimExpr("floordiv", (N, 2))
    inputs = [graph.add_input("h", Type(dt.f32, (half,))), graph.add_input("a", Type(dt.f32, (N,)))]
    graph.set_outputs(inputs)
    fine = {"h": np.zeros(2, np.float32), "a": np.zeros(4, np.float32)}
    assert len(interp.run(graph, fine)) == 2
    with pytest.raises(InputError, match="derived"):
        interp.run(graph, {**fine, "a": np.zeros(2, np.float32)})


@pytest.mark.parametrize(
    ("mode", "message"), [("dtype", "another type"), ("count", "number of"), ("raise", "boom")]
)
def test_a_wrong_reference_is_found(lying_op: Any, mode: str, message: str) -> None:
    graph = Graph()
    x = graph.add_input("x", Type(dt.f32, (2,)))
    graph.set_outputs(graph.add(lying_op(mode), [x]).outputs)
    with pytest.raises(VerifyError, match=message):
        interp.run(graph, {"x": np.zeros(2, np.float32)})


def test_nodes_out_of_order_are_refused() -> None:
    graph = Graph()
    x = graph.add_input("x", Type(dt.f32, (2,)))
    y = graph.add(make("neg"), [x]).output
    graph.set_outputs(graph.add(make("abs"), [y]).outputs)
    graph.nodes.reverse()
    with pytest.raises(GraphError, match="not been computed"):
        interp.run(graph, {"x": np.zeros(2, np.float32)})
