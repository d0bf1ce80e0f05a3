"""Slices and ranges whose ends depend on free dims, and inputs that always have one value."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from strop.engine.build import build as build_engine
from strop.errors import OptionError, ShapeError
from strop.frontend.onnx import read_onnx
from strop.ir import shape as sh
from strop.ir.interp import run
from strop.ir.shape import Sym
from strop.ops.indexing import slice_bounds
from tests.frontend.onnx_models import build, floats, longs, reference

N = helper.make_node
SEQ = [N("Shape", ["x"], ["s"], start=1, end=2)]
CONSTANTS = {"zero": longs(0), "one": longs(1), "none": np.asarray(0), "step": np.asarray(1), "minus": longs(-1)}


def _embedding() -> list[object]:
    """x + table[range(0, seq)] + table[:, :seq] as exporters write positions; the second table is cut."""
    return [
        *SEQ,
        N("Squeeze", ["s"], ["n"]),
        N("Range", ["none", "n", "step"], ["r"]),
        N("Gather", ["table", "r"], ["a"]),
        N("Slice", ["table", "zero", "s", "zero"], ["b"]),
        N("Add", ["x", "a"], ["t"]),
        N("Add", ["t", "b"], ["y"]),
    ]


def test_positions_up_to_a_free_length() -> None:
    table = floats(40, 6, seed=3)
    model = build(_embedding(), {"x": (np.float32, ["batch", "seq", 6])}, ["y"], {**CONSTANTS, "table": table}, opset=17)
    graph = read_onnx(model, {"seq": "1..32(8)", "batch": "1..3(1)"})
    engine = build_engine(model, level=0, threads=1, shapes={"seq": "1..32(8)", "batch": "1..3(1)"})
    for batch, length in ((1, 8), (3, 32), (2, 1)):
        feeds = {"x": floats(batch, length, 6, seed=length)}
        wanted = reference(model, feeds)[0]
        np.testing.assert_allclose(run(graph, feeds)["y"], wanted, rtol=1e-6)
        np.testing.assert_allclose(engine.run(feeds)["y"], wanted, rtol=1e-6)
    assert not [s for s in engine.manifest["steps"] if s["copy"]], "a part of the table is read where it lies"


def test_a_range_counts_in_steps_from_a_start() -> None:
    nodes = [
        *SEQ, N("Squeeze", ["s"], ["n"]), N("Range", ["from", "n", "by"], ["r"]), N("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    ]  # fmt: skip
    model = build(nodes, {"x": (np.float32, [1, "seq"])}, ["y"], {"from": np.asarray(2), "by": np.asarray(3)}, opset=17)
    graph = read_onnx(model, {"seq": "3..20"})
    for length in (3, 4, 5, 6, 20):
        feeds = {"x": floats(1, length)}
        np.testing.assert_array_equal(run(graph, feeds)["y"], reference(model, feeds)[0])


def test_a_range_follows_a_free_size_up_and_down() -> None:
    for step, wanted in ((1, lambda n: np.arange(0, n)), (-1, lambda n: np.arange(0, n, -1))):
        nodes = [*SEQ, N("Squeeze", ["s"], ["n"]), N("Range", ["none", "n", "by"], ["y"])]
        model = build(nodes, {"x": (np.float32, [1, "seq"])}, ["y"], {**CONSTANTS, "by": np.asarray(step)}, opset=17)
        graph = read_onnx(model, {"seq": "1..9"})
        for n in (1, 5, 9):
            np.testing.assert_array_equal(run(graph, {"x": np.zeros((1, n), np.float32)})["y"], wanted(n))


N8 = Sym("n", 1, 4, 8)


def test_bounds_of_slices() -> None:
    assert slice_bounds(20, 0, N8, 1) == (0, N8), "never longer than the axis"
    assert [str(d) for d in slice_bounds(5, 0, N8, 1)] == ["0", "min(n,5)"]
    assert slice_bounds(N8, 0, N8, 1) == (0, N8)
    assert slice_bounds(20, 3, N8, 1)[0] == 3 and str(slice_bounds(20, 3, N8, 1)[1]) == "max(n,3)", "empty where the end is before"
    with pytest.raises(ShapeError, match="from the front or from the end"):
        slice_bounds(20, 0, sh.sub(N8, 4), 1)


# ---- inputs that always have one value


def _branches() -> object:
    """y = x * k, through a branch on k that would not fit x otherwise."""
    def branch(name: str, width: int) -> object:
        nodes = [N("Constant", [], [f"{name}_s"], value=helper.make_tensor(f"{name}_v", TensorProto.INT64, [2], [1, width])),
                 N("Reshape", ["x", f"{name}_s"], [name])]  # fmt: skip
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    nodes = [
        N("Equal", ["k", "sixteen"], ["c"]),
        N("If", ["c"], ["y"], then_branch=branch("wide", 6), else_branch=branch("narrow", 3)),
    ]
    return build(nodes, {"x": (np.float32, [2, 3]), "k": (np.int64, [])}, ["y"], {"sixteen": np.asarray(16)}, opset=17)


def test_a_branch_on_a_value_is_taken() -> None:
    graph = read_onnx(_branches(), {"k": "=16"})
    assert [v.name for v in graph.inputs] == ["x"]
    x = floats(2, 3)
    np.testing.assert_array_equal(run(graph, {"x": x})["y"], x.reshape(1, 6))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"k": "=sixteen"}, "not a number of the input's type"),
        ({"k": "=1.5"}, "not a number of the input's type"),
        ({"k": f"={2**63}"}, "not a number of the input's type"),
        ({"z": "=1"}, "no such input to give a value to"),
    ],
)
def test_values_that_do_not_fit(shapes: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_onnx(_branches(), shapes)


def test_a_value_needs_a_fixed_shape() -> None:
    model = build([N("Relu", ["x"], ["y"])], {"x": (np.float32, ["n", 3])}, ["y"], {}, opset=17)
    with pytest.raises(OptionError, match="only where its shape is fixed") as error:
        read_onnx(model, {"x": "=1"})
    assert "'n', 3" in str(error.value.got)


def test_every_element_has_the_value() -> None:
    model = build([N("Add", ["x", "z"], ["y"])], {"x": (np.float32, [2]), "z": (np.float32, [2])}, ["y"], {}, opset=17)
    np.testing.assert_array_equal(run(read_onnx(model, {"z": "=-0.5"}), {"x": np.zeros(2, np.float32)})["y"], [-0.5, -0.5])
