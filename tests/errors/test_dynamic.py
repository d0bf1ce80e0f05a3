"""Free dims that cannot be served: what is said at a build. What is said at a run is in tests/runtime/test_resize.py."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop.engine.build import build
from strop.errors import OptionError, ShapeError, UnsupportedError
from strop.kernels.extent import SymbolicError
from strop.lower import pipeline
from tests import tiny_net
from tests.errors.command import run


def one_node(op: str, shape: list[int | str], *arrays: np.ndarray, **attributes: object) -> onnx.ModelProto:
    """y = op(x, arrays...)"""
    weights = [numpy_helper.from_array(a, f"w{k}") for k, a in enumerate(arrays)]
    node = helper.make_node(op, ["x", *(w.name for w in weights)], ["y"], name="only", **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "net", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_name_without_a_range() -> None:
    with pytest.raises(UnsupportedError, match="nothing says in which range") as error:
        build(tiny_net.model(batch="batch"), level=0)
    assert error.value.got == "batchx3x8x8" and "batch" in str(error.value.hint) and "1..8" in str(error.value.hint)


@pytest.mark.parametrize(
    ("shapes", "message", "got"),
    [
        ({"x": "0..8x3x8x8"}, "a range is out of order", "0..8"),
        ({"x": "2..8%4x3x8x8"}, "does not fit its step", "2..8%4"),
        ({"x": "1..8(9)x3x8x8"}, "a range is out of order", "1..8(9)"),
        ({"x": "1..8x3x8"}, "wrong rank", "3 dims"),
        ({"x": ("1..x", 3, 8, 8)}, "unusable dim", "1..x"),
        ({"x": "1..8x3x8x8", "batch": "1..9"}, "dim batch is given two values", None),
        ({"n": "1..8"}, "no such input", "n"),
        ({"batch": "1..8x3"}, "a dim is given a shape", "2 dims"),
        ({"x": "batch:1..8,3,n:4..8,n:4..9"}, "dim n is given two ranges", "n"),
        ({"n[]": "1..8"}, "no such value whose elements", "n"),
        ({"x[]": "1..8x3"}, "the elements of a value are given a shape", "2 dims"),
    ],
)
def test_ranges_that_do_not_fit(shapes: dict[str, str], message: str, got: str | None) -> None:
    with pytest.raises(OptionError, match=message) as error:
        build(tiny_net.model(batch="batch"), level=0, shapes=shapes)
    assert got is None or error.value.got == got


def test_a_size_that_data_decides_and_that_may_be_below_0() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], name="places"),
        helper.make_node("Shape", ["places"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "one"], ["count"], name="count"),
        helper.make_node("Sub", ["count", "three"], ["less"], name="less"),
        helper.make_node("Unsqueeze", ["less", "zero"], ["size"], name="size"),
        helper.make_node("ConstantOfShape", ["size"], ["y"], name="y"),
    ]
    known = [numpy_helper.from_array(np.array(v), n) for n, v in (("one", 1), ("three", 3), ("zero", [0]))]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])
    graph = helper.make_graph(nodes, "net", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], known)
    with pytest.raises(UnsupportedError, match="a size may be below 1") as error:
        build(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), level=0)
    assert "places_count" in str(error.value.got)


def test_dims_that_are_equal_for_some_sizes_only() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["half"], name="half", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["half", "", "twice"], ["whole"], name="whole", mode="nearest"),
        helper.make_node("Add", ["whole", "x"], ["y"], name="sum"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "H", 16])
    twice = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice")
    graph = helper.make_graph(nodes, "net", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [twice])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ShapeError, match="cannot be broadcast") as error:
        build(model, level=0, shapes={"H": "8..64"})
    assert "node sum" in str(error.value.where) and "((H//2)*2)" in str(error.value.got)
    assert "%32" in str(error.value.hint) and "%32" in str(error.value)
    build(model, level=0, shapes={"H": "8..64%2"})


def test_a_window_that_may_be_larger_than_its_image() -> None:
    model = one_node("Conv", [1, 3, "H", 16], np.ones((4, 3, 5, 5), np.float32))
    with pytest.raises(UnsupportedError, match="below 1 within the range") as error:
        build(model, level=0, shapes={"H": "2..32"})
    assert error.value.where == "only" and "H" in str(error.value.got)
    build(model, level=0, shapes={"H": "5..32"})


def test_a_value_that_may_be_too_large() -> None:
    with pytest.raises(UnsupportedError, match="too large within the range") as error:
        build(one_node("Relu", ["N", "H"]), level=0, shapes={"N": "1..2000000000(1)", "H": "1..2000000000(1)"})
    assert error.value.where == "only" and "lower" in str(error.value.hint)


def test_a_size_that_no_scale_makes() -> None:
    model = one_node(
        "Resize", [1, 3, "H", 16], np.array([], np.float32), np.array([], np.float32), np.array([1, 3, 48, 32], np.int64), mode="nearest"
    )
    with pytest.raises(UnsupportedError, match="a symbolic dim cannot be resized to a size") as error:
        build(model, level=0, shapes={"H": "8..32"})
    assert error.value.got == "H to 48" and "only" in str(error.value.where)


def test_a_layout_that_depends_on_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def layout(*_: object) -> None:
        raise SymbolicError("it depends on whether batch is above 3")

    monkeypatch.setattr(pipeline, "Layout", layout)
    with pytest.raises(UnsupportedError, match="cannot be arranged for symbolic dims") as error:
        build(tiny_net.model(batch="batch"), level=0, shapes={"batch": "1..8"})
    assert error.value.got == "it depends on whether batch is above 3" and error.value.hint


def test_on_the_command_line(tmp_path) -> None:
    onnx.save(tiny_net.model(batch="batch"), tmp_path / "free.onnx")
    done = run("build", tmp_path / "free.onnx", "-o", tmp_path / "net.strop", "--level", "0", "--shape", "x=1..8%3x3x8x8")
    assert done.code != 0 and "multiples of 3" in done.err and "x=1..8%3x3x8x8" in done.err
    done = run("build", tmp_path / "free.onnx", "-o", tmp_path / "net.strop", "--level", "0", "--shape", "x=1..8(2)x3x8x8")
    assert done.code == 0, done.err
    done = run("inspect", tmp_path / "net.strop")
    assert "x: f32[1..8, 3, 8, 8]" in done.out and "y: f32[1..8, 10]" in done.out
