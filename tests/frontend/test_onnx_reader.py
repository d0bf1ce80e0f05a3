"""Files, names, order, functions, weights and the survey."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop.frontend.onnx import read_onnx, survey, wire
from strop.ir.interp import run
from tests.frontend.onnx_models import build, check, floats, longs, reference

N = helper.make_node


def two_layers() -> onnx.ModelProto:
    nodes = [
        N("Gemm", ["x", "w", "b"], ["h"], name="dense", transB=1),
        N("Relu", ["h"], ["y"], name="relu"),
    ]
    weights = {"w": floats(40, 30), "b": floats(40)}
    return build(nodes, {"x": (np.float32, [2, 30])}, ["y"], weights)


# ---- files


def test_path_bytes_and_proto_give_the_same_graph(tmp_path: Path) -> None:
    model = two_layers()
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    feeds = {"x": floats(2, 30)}
    (expected,) = reference(model, feeds)
    for source in (path, str(path), path.read_bytes(), model):
        graph = read_onnx(source)
        np.testing.assert_allclose(run(graph, feeds)["y"], expected, rtol=1e-5)


def test_weights_in_the_file_are_views_of_it(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(two_layers(), path)
    graph = read_onnx(path)
    array = graph.values["w"].const
    assert array is not None and not array.flags.owndata and not array.flags.writeable
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    assert "mmap" in type(getattr(base, "obj", base)).__name__ or isinstance(base, memoryview)
    np.testing.assert_array_equal(array, floats(40, 30))


def test_split_takes_out_only_bulky_raw_data() -> None:
    model = two_layers()
    data = memoryview(model.SerializeToString())
    slim, spans = wire.split(data)
    assert list(spans) == [0]  # w has 4800 bytes, b has 160
    offset, length = spans[0]
    assert bytes(data[offset : offset + length]) == floats(40, 30).tobytes()
    rest = onnx.ModelProto.FromString(slim)
    assert rest.graph.initializer[1] == model.graph.initializer[1]
    assert not rest.graph.initializer[0].HasField("raw_data")
    assert len(slim) < len(data) - 4700


def test_split_leaves_other_storage_forms_alone() -> None:
    model = two_layers()
    typed = helper.make_tensor(
        "w", TensorProto.FLOAT, [40, 30], floats(40, 30).reshape(-1).tolist()
    )
    model.graph.initializer[0].CopyFrom(typed)
    slim, spans = wire.split(memoryview(model.SerializeToString()))
    assert not spans and onnx.ModelProto.FromString(slim) == model
    np.testing.assert_array_equal(read_onnx(model).values["w"].const, floats(40, 30))


DTYPES = [
    "float32",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "bool",
    "float16",
    "float64",
    "uint32",
    "uint64",
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("raw", [True, False])
def test_every_dtype_in_both_storage_forms(dtype: str, raw: bool) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    if raw:
        tensor = numpy_helper.from_array(array, "c")
    else:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = helper.make_tensor("c", kind, array.shape, array.reshape(-1).tolist())
        assert not tensor.raw_data
    model = build([N("Identity", ["c"], ["y"])], {}, ["y"])
    model.graph.initializer.append(tensor)
    got = run(read_onnx(model), {})["y"]
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


def test_external_data_is_memory_mapped(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    model = two_layers()
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    graph = read_onnx(path)
    array = graph.values["w"].const
    assert array is not None and not array.flags.owndata
    feeds = {"x": floats(2, 30)}
    np.testing.assert_allclose(run(graph, feeds)["y"], reference(two_layers(), feeds)[0], rtol=1e-5)


# ---- names, order, provenance


def test_names_and_provenance_are_the_models_own() -> None:
    model = two_layers()
    graph = check(model, {"x": floats(2, 30)})
    assert [n.op.label for n in graph.nodes] == ["matmul", "add", "relu"]
    assert [n.source for n in graph.nodes] == [("dense",), ("dense",), ("relu",)]
    assert {"x", "w", "b", "h", "y"} <= set(graph.values)
    assert graph.values["h"].producer is graph.nodes[1]
    assert graph.output_names == ["y"]


def test_unnamed_nodes_are_named_by_type_and_position() -> None:
    model = build(
        [N("Relu", ["x"], ["h"]), N("Neg", ["h"], ["y"])], {"x": (np.float32, [3])}, ["y"]
    )
    assert [n.source for n in read_onnx(model).nodes] == [("Relu_0",), ("Neg_1",)]


def test_equal_node_names_are_told_apart() -> None:
    nodes = [N("Relu", ["x"], ["h"], name="n"), N("Neg", ["h"], ["y"], name="n")]
    graph = read_onnx(build(nodes, {"x": (np.float32, [3])}, ["y"]))
    assert [n.source for n in graph.nodes] == [("n",), ("n.1",)]


def test_values_made_on_the_way_avoid_the_models_names() -> None:
    nodes = [
        N("Gemm", ["x", "w", "b"], ["y"], name="g"),
        N("Relu", ["y"], ["g:matmul"], name="r"),
        N("Neg", ["g:matmul"], ["g"], name="q"),
    ]
    weights = {"w": floats(3, 4), "b": floats(4)}
    graph = check(build(nodes, {"x": (np.float32, [2, 3])}, ["g"], weights), {"x": floats(2, 3)})
    assert graph.values["g:matmul"].producer is graph.nodes[2]


def test_nodes_out_of_order_are_sorted() -> None:
    nodes = [
        N("Add", ["b", "c"], ["y"]),
        N("Neg", ["a"], ["c"]),
        N("Relu", ["a"], ["b"]),
        N("Abs", ["x"], ["a"]),
    ]
    for seed in range(6):
        random.Random(seed).shuffle(nodes)
        model = build(nodes, {"x": (np.float32, [3])}, ["y"])
        graph = read_onnx(model)
        x = floats(3)
        np.testing.assert_array_equal(run(graph, {"x": x})["y"], np.abs(x) - np.abs(x))
        assert graph.nodes[0].op.label == "abs" and graph.nodes[-1].op.label == "add"


def test_outputs_may_be_inputs_initializers_or_repeated_results() -> None:
    nodes = [N("Identity", ["x"], ["same"]), N("Dropout", ["x"], ["again"])]
    model = build(nodes, {"x": (np.float32, [3])}, ["x", "c", "same", "again"], {"c": longs(5)})
    graph = read_onnx(model)
    got = run(graph, {"x": floats(3)})
    assert list(got) == ["x", "c", "same", "again"]
    np.testing.assert_array_equal(got["again"], floats(3))
    np.testing.assert_array_equal(got["c"], [5])


def test_initializers_that_are_also_inputs_are_constants() -> None:
    model = two_layers()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [40, 30]))
    graph = read_onnx(model)
    assert [v.name for v in graph.inputs] == ["x"]
    assert graph.values["w"].const is not None


def test_weights_made_by_constant_nodes() -> None:
    w = floats(2, 3, 3, 3)
    nodes = [
        N("Constant", [], ["w"], value=numpy_helper.from_array(w)),
        N("Conv", ["x", "w"], ["y"]),
    ]
    graph = check(
        build(nodes, {"x": (np.float32, [1, 3, 5, 5])}, ["y"]), {"x": floats(1, 3, 5, 5)}, rtol=1e-4
    )
    assert [n.op.label for n in graph.nodes] == ["conv"]
    np.testing.assert_array_equal(graph.values["w"].const, w)


def test_weights_made_by_constant_of_shape_take_no_memory() -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5])
    nodes = [
        N("ConstantOfShape", ["shape"], ["w"], value=value),
        N("MatMul", ["x", "w"], ["y"]),
    ]
    constants = {"shape": longs(4096, 25088)}
    graph = read_onnx(build(nodes, {"x": (np.float32, [1, 4096])}, ["y"], constants))
    array = graph.values["w"].const
    assert array is not None and array.shape == (4096, 25088) and array.strides == (0, 0)


def test_shared_and_unused_initializers() -> None:
    nodes = [N("Add", ["x", "w"], ["h"]), N("Mul", ["h", "w"], ["y"])]
    weights = {"w": floats(20), "unused": floats(20)}
    graph = check(build(nodes, {"x": (np.float32, [20])}, ["y"], weights), {"x": floats(20)})
    assert len(graph.values["w"].uses) == 2
    assert "unused" not in graph.values


def test_sparse_initializer() -> None:
    model = build([N("Add", ["x", "s"], ["y"])], {"x": (np.float32, [2, 3])}, ["y"])
    values = helper.make_tensor("s", TensorProto.FLOAT, [2], [1.0, 2.0])
    where = helper.make_tensor("", TensorProto.INT64, [2], [1, 5])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [2, 3]))
    got = run(read_onnx(model), {"x": np.zeros((2, 3), np.float32)})["y"]
    np.testing.assert_array_equal(got, [[0, 1, 0], [0, 0, 2]])


def test_unused_results_of_several_may_be_unsupported() -> None:
    """MaxPool's indices and Dropout's mask may be there as long as nothing reads them."""
    nodes = [
        N("MaxPool", ["x"], ["p", "indices"], kernel_shape=[2, 2]),
        N("Dropout", ["p"], ["y", "mask"]),
    ]
    graph = check(build(nodes, {"x": (np.float32, [1, 1, 4, 4])}, ["y"]), {"x": floats(1, 1, 4, 4)})
    assert [n.op.label for n in graph.nodes] == ["max_pool", "identity"]


# ---- local functions


def scaled() -> onnx.FunctionProto:
    """Scaled(x, w?; k) = x * k + w * k, of opset 18"""
    body = [
        N("Constant", [], ["k"]),
        N("Mul", ["x", "k"], ["h"], name="times"),
        N("Add", ["h", "w"], ["y"]),
    ]
    attribute = onnx.AttributeProto(name="value_float", type=onnx.AttributeProto.FLOAT)
    attribute.ref_attr_name = "factor"
    body[0].attribute.append(attribute)
    return helper.make_function(
        "local", "Scaled", ["x", "w"], ["y"], body, [helper.make_opsetid("", 18)], ["factor"]
    )


def test_local_functions_are_expanded() -> None:
    nodes = [
        N("Scaled", ["x", "w"], ["h"], name="first", domain="local", factor=2.0),
        N("Scaled", ["h", "w"], ["y"], name="second", domain="local", factor=3.0),
    ]
    x, w = floats(2, 20), floats(20, seed=3)
    model = build(
        nodes,
        {"x": (np.float32, [2, 20])},
        ["y"],
        {"w": w},
        functions=[scaled()],
        domains={"local": 1},
    )
    graph = check(model, {"x": x})
    assert [n.source for n in graph.nodes] == [
        ("first/times",),
        ("first/Add_2",),
        ("second/times",),
        ("second/Add_2",),
    ]
    assert {"h", "y"} <= set(graph.values)


def test_functions_call_functions_and_leave_operands_out() -> None:
    clip = helper.make_function(
        "local", "Lower", ["x", "lo", "hi"], ["y"], [N("Clip", ["x", "lo", "hi"], ["y"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    outer = helper.make_function(
        "local", "Outer", ["a", "b"], ["r", "a2"],
        [N("Lower", ["a", "b"], ["r"], domain="local"), N("Identity", ["a"], ["a2"])],
        [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)],
    )  # fmt: skip
    nodes = [N("Outer", ["x", "low"], ["y", "z"], name="o", domain="local")]
    model = build(
        nodes,
        {"x": (np.float32, [20])},
        ["y", "z"],
        {"low": np.float32(0.25)},
        functions=[clip, outer],
        domains={"local": 1},
    )
    got = run(read_onnx(model), {"x": floats(20)})
    np.testing.assert_array_equal(got["y"], np.maximum(floats(20), np.float32(0.25)))
    np.testing.assert_array_equal(got["z"], floats(20))


# ---- survey


def test_survey_judges_every_node() -> None:
    nodes = [
        N("Relu", ["x"], ["a"], name="r"),
        N("RandomUniformLike", ["a"], ["b"], name="u"),
        N("Neg", ["b"], ["c"], name="n"),
        N("NoSuchOp", ["c"], ["d"], name="m", domain="com.example"),
        N("Dropout", ["a"], ["y"], name="d"),
    ]
    model = build(nodes, {"x": (np.float32, [3])}, ["d", "y"], domains={"com.example": 1})
    verdicts = {v.name: v for v in survey(model)}
    assert list(verdicts) == ["r", "u", "n", "m", "d"]
    assert [v.supported for v in verdicts.values()] == [True, False, True, False, True]
    assert [v.checked for v in verdicts.values()] == [True, True, False, True, True]
    assert "RandomUniformLike" in verdicts["u"].reason and verdicts["u"].hint
    assert verdicts["m"].op_type == "com.example.NoSuchOp" and verdicts["m"].opset == 1
    assert verdicts["d"].reason == "" and verdicts["d"].opset == 17


def test_survey_goes_on_with_declared_types() -> None:
    nodes = [N("RandomUniformLike", ["x"], ["b"], name="u"), N("Gemm", ["b", "b"], ["y"], name="g")]
    model = build(nodes, {"x": (np.float32, [3])}, ["y"])
    model.graph.value_info.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [3]))
    verdicts = survey(model)
    assert [v.supported for v in verdicts] == [False, False]
    assert "matrices" in verdicts[1].reason


def test_survey_of_a_supported_net_is_all_green() -> None:
    verdicts = survey(two_layers())
    assert all(v.supported and v.checked and not v.reason for v in verdicts)
