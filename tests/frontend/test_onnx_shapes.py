"""Shapes while a model is read: evaluated shape arithmetic, symbolic dims, shapes given by the caller."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from strop.errors import OptionError, ShapeError, UnsupportedError
from strop.frontend.onnx import read_onnx
from strop.frontend.onnx.ops_data import quotient
from strop.ir import shape as sh
from strop.ir.interp import run
from strop.ir.shape import Sym
from tests.frontend.onnx_models import build, check, floats, longs, reference

N = helper.make_node


def flatten_as_exporters_do() -> list[object]:
    """Reshape(x, Concat(Unsqueeze(Gather(Shape(x), 0)), [-1]))"""
    return [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "zero"], ["n"], axis=0),
        N("Unsqueeze", ["n", "axis0"], ["n1"]),
        N("Concat", ["n1", "rest"], ["target"], axis=0),
        N("Reshape", ["x", "target"], ["y"]),
    ]


INITIALIZERS = {"zero": np.asarray(0), "axis0": longs(0), "rest": longs(-1)}


def test_static_shape_arithmetic_leaves_no_node() -> None:
    model = build(flatten_as_exporters_do(), {"x": (np.float32, [2, 3, 4])}, ["y"], INITIALIZERS)
    graph = check(model, {"x": floats(2, 3, 4)})
    assert [n.op.label for n in graph.nodes] == ["reshape"]
    assert graph.outputs[0].shape == (2, 12)
    assert not list(graph.constants())


def test_symbolic_batch_flows_through_shape_arithmetic() -> None:
    model = build(
        flatten_as_exporters_do(), {"x": (np.float32, ["batch", 3, 4])}, ["y"], INITIALIZERS
    )
    graph = read_onnx(model)
    assert [n.op.label for n in graph.nodes] == ["reshape"]
    assert graph.inputs[0].shape == (Sym("batch"), 3, 4)
    assert graph.outputs[0].shape == (Sym("batch"), 12)
    for batch in (1, 5):
        feeds = {"x": floats(batch, 3, 4)}
        np.testing.assert_array_equal(run(graph, feeds)["y"], reference(model, feeds)[0])


def test_symbolic_expand_with_equal_and_where() -> None:
    """The pattern PyTorch writes for expand(batch, -1, -1)."""
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "zero"], ["n"], axis=0),
        N("Unsqueeze", ["n", "axis0"], ["n1"]),
        N("Concat", ["n1", "minus", "minus"], ["wanted"], axis=0),
        N("Shape", ["wanted"], ["rank"]),
        N("ConstantOfShape", ["rank"], ["ones"], value=helper.make_tensor("v", 7, [1], [1])),
        N("Mul", ["ones", "minus"], ["minuses"]),
        N("Equal", ["wanted", "minuses"], ["free"]),
        N("Where", ["free", "ones", "wanted"], ["shape"]),
        N("Expand", ["token", "shape"], ["tokens"]),
        N("Concat", ["tokens", "x"], ["y"], axis=1),
    ]
    token = floats(1, 1, 4)
    constants = {"zero": np.asarray(0), "axis0": longs(0), "minus": longs(-1), "token": token}
    model = build(nodes, {"x": (np.float32, ["N", 3, 4])}, ["y"], constants)
    graph = read_onnx(model)
    assert [n.op.label for n in graph.nodes] == ["expand", "concat"]
    assert graph.outputs[0].shape == (Sym("N"), 4, 4)
    feeds = {"x": floats(2, 3, 4)}
    np.testing.assert_array_equal(run(graph, feeds)["y"], reference(model, feeds)[0])


@pytest.mark.parametrize("height", [6, 7])
def test_halves_of_a_symbolic_axis(height: int) -> None:
    nodes = [
        N("Shape", ["x"], ["s"], start=2, end=3),
        N("Add", ["s", "one"], ["more"]),
        N("Div", ["more", "two"], ["half"]),
        N("Sub", ["s", "half"], ["other"]),
        N("Mul", ["half", "one"], ["h"]),
        N("Cast", ["h"], ["c"], to=6),
        N("Cast", ["c"], ["d"], to=7),
        N("Concat", ["one", "one", "d"], ["shape"], axis=0),
        N("Expand", ["v", "shape"], ["y"]),
        N("Concat", ["two", "one", "other"], ["shape2"], axis=0),
        N("Expand", ["v", "shape2"], ["z"]),
    ]
    constants = {"one": longs(1), "two": longs(2), "v": floats(1, 1, 1)}
    model = build(nodes, {"x": (np.float32, [1, 2, "h"])}, ["y", "z"], constants)
    graph = read_onnx(model)
    got = run(graph, {"x": floats(1, 2, height)})
    wanted = reference(model, {"x": floats(1, 2, height)})
    assert [a.shape for a in got.values()] == [a.shape for a in wanted]


def test_size_and_product_of_symbolic_dims() -> None:
    nodes = [
        N("Size", ["x"], ["size"]),
        N("Unsqueeze", ["size", "zero"], ["list"]),
        N("Reshape", ["x", "list"], ["y"]),
        N("Shape", ["x"], ["s"]),
        N("ReduceProd", ["s"], ["product"], keepdims=1),
        N("Reshape", ["x", "product"], ["z"]),
    ]
    model = build(nodes, {"x": (np.float32, ["N", 3])}, ["y", "z"], {"zero": longs(0)})
    graph = read_onnx(model)
    assert [v.shape for v in graph.outputs] == [(sh.mul(Sym("N"), 3),)] * 2


def test_unknown_dims_become_symbols() -> None:
    model = build(
        [N("Add", ["a", "b"], ["y"])],
        {"a": (np.float32, [None, "seq len", 3]), "b": (np.float32, [1, "seq len", 3])},
        ["y"],
    )
    graph = read_onnx(model)
    assert graph.inputs[0].shape == (Sym("a_0"), Sym("seq_len"), 3)
    assert graph.inputs[1].shape == (1, Sym("seq_len"), 3)
    assert graph.outputs[0].shape == graph.inputs[0].shape


def test_given_shapes_replace_declared_ones_and_bind_their_names() -> None:
    inputs = {"a": (np.float32, ["n", 3]), "b": (np.float32, ["n", 1])}
    model = build([N("Add", ["a", "b"], ["y"])], inputs, ["y"])
    graph = read_onnx(model, {"a": (4, 3)})
    assert [v.shape for v in graph.inputs] == [(4, 3), (4, 1)]
    bounded = Sym("n", 1, 2, 8)
    assert read_onnx(model, {"a": (bounded, 3)}).inputs[1].shape == (bounded, 1)
    static = build([N("Relu", ["a"], ["y"])], {"a": (np.float32, [1, 3])}, ["y"])
    assert read_onnx(static, {"a": (5, 3)}).outputs[0].shape == (5, 3)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"c": (1,)}, "no such input"),
        ({"a": (1,)}, "wrong rank"),
        ({"a": (0, 3)}, "must be positive"),
        ({"a": (2, 3), "b": (4, 1)}, "two values"),
    ],
)
def test_given_shapes_must_fit(shapes: dict[str, tuple[int, ...]], says: str) -> None:
    inputs = {"a": (np.float32, ["n", 3]), "b": (np.float32, ["n", 1])}
    model = build([N("Add", ["a", "b"], ["y"])], inputs, ["y"])
    with pytest.raises(OptionError, match=says):
        read_onnx(model, shapes)


def test_symbolic_values_are_read_as_data() -> None:
    nodes = [N("Shape", ["x"], ["s"]), N("Cast", ["s"], ["f"], to=1), N("Sqrt", ["f"], ["y"]), N("Size", ["x"], ["n"])]
    model = build(nodes, {"x": (np.float32, ["N", 3])}, ["y", "s", "n"])
    graph = check(model, {"x": floats(4, 3)})
    got = run(graph, {"x": floats(7, 3)})
    assert got["s"].tolist() == [7, 3] and got["n"] == 21
    assert read_onnx(model, {"x": (4, 3)}).outputs[0].shape == (2,)


def test_undecidable_shape_arithmetic_is_refused_by_name() -> None:
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Equal", ["s", "sizes"], ["same"]),
        N("Where", ["same", "s", "sizes"], ["target"]),
        N("Reshape", ["x", "target"], ["y"]),
    ]
    model = build(nodes, {"x": (np.float32, ["N", 3])}, ["y"], {"sizes": longs(7, 3)})
    with pytest.raises(UnsupportedError, match="nothing says how large it may become"):
        read_onnx(model)


@pytest.mark.parametrize(
    ("total", "part", "expected"),
    [
        (12, 4, 3),
        (sh.mul(Sym("n"), 150528), sh.mul(Sym("n"), 768), 196),
        (sh.mul(Sym("n"), 768), 768, Sym("n")),
        (sh.mul(Sym("n"), Sym("h")), Sym("h"), Sym("n")),
        (sh.mul(sh.add(Sym("n"), 1), 6), sh.add(Sym("n"), 1), 6),
    ],
)
def test_quotient_cancels_common_factors(total: sh.Dim, part: sh.Dim, expected: sh.Dim) -> None:
    assert quotient(total, part) == expected


def test_auto_pad_of_a_symbolic_axis_needs_stride_1() -> None:
    inputs = {"x": (np.float32, [1, 2, "h", 8])}
    weights = {"w": floats(3, 2, 3, 3)}
    conv = N("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")
    graph = read_onnx(build([conv], inputs, ["y"], weights))
    assert graph.outputs[0].shape[1:] == (3, Sym("h"), 8)
    strided = N("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])
    with pytest.raises(UnsupportedError, match="auto_pad"):
        read_onnx(build([strided], inputs, ["y"], weights))


def test_shape_error_names_the_node() -> None:
    model = build(
        [N("MatMul", ["a", "b"], ["y"], name="product")],
        {"a": (np.float32, [2, 3]), "b": (np.float32, [2, 3])},
        ["y"],
    )
    with pytest.raises(ShapeError, match=r"inner sizes differ[\s\S]*node product \(MatMul\)"):
        read_onnx(model)


def test_small_constants_are_evaluated_and_large_ones_are_not() -> None:
    nodes = [
        N("Add", ["i", "i"], ["j"]),
        N("Gather", ["x", "j"], ["y"]),
        N("Mul", ["w", "w"], ["w2"]),
        N("Add", ["y", "w2"], ["z"]),
    ]
    constants = {"i": longs(0, 1), "w": floats(32)}
    graph = read_onnx(build(nodes, {"x": (np.float32, [4, 32])}, ["z"], constants))
    assert [n.op.label for n in graph.nodes] == ["gather", "mul", "add"]
    assert graph.values["j"].const is not None
    np.testing.assert_array_equal(graph.values["j"].const, [0, 2])


def test_dims_named_with_a_question_mark_are_free_of_each_other() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["?", 3, "?", "?"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert read_onnx(model, {"x": (1, 3, 48, 192)}).inputs[0].shape == (1, 3, 48, 192)
    free = read_onnx(model, {"x": "1..2x3x32..64%32x8..16"}).inputs[0].shape
    assert [str(d) for d in free] == ["x_0", "3", "(x_2*32)", "x_3"]
