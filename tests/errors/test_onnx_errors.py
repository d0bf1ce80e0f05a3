"""Models that cannot be read: each gives one StropError that says what, where and what to try."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, StringStringEntryProto, TensorProto, helper, numpy_helper

from strop.errors import ModelError, StropError, UnsupportedError
from strop.frontend.onnx import read_onnx, survey
from tests.frontend.onnx_models import build, floats, longs, single

N = helper.make_node
X = {"x": (np.float32, [2, 3])}


def relu() -> ModelProto:
    return build([N("Relu", ["x"], ["y"], name="r")], X, ["y"])


def weighted() -> ModelProto:
    """One node with an initializer of 2400 bytes."""
    model = build([N("MatMul", ["x", "w"], ["y"], name="m")], X, ["y"], {"w": floats(3, 200)})
    return model


def refuse(
    source: Any, kind: type[StropError], *says: str, shapes: dict[str, Any] | None = None
) -> StropError:
    """Reads a model and checks class and words of the error."""
    with pytest.raises(StropError) as caught:
        read_onnx(source, shapes)
    assert type(caught.value) is kind, caught.value
    for words in says:
        assert words in str(caught.value), caught.value
    return caught.value


# ---- files


def test_missing_file(tmp_path: Path) -> None:
    refuse(tmp_path / "no.onnx", ModelError, "no such model file", "no.onnx", "try:")


def test_folder(tmp_path: Path) -> None:
    refuse(tmp_path, ModelError, "no such model file", "a folder")


def test_unusable_name() -> None:
    refuse("a\0b.onnx", ModelError, "model file")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    refuse(path, ModelError, "empty", "empty.onnx")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(relu(), path)
    path.chmod(0)
    refuse(path, ModelError, "cannot be read")


def test_pipe_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe.onnx"
    os.mkfifo(path)
    refuse(path, ModelError, "no such model file")


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        b"hello, world" * 9,
        bytes(100),
        b"{}",
    ],
    ids=["png", "text", "zeros", "json"],
)
def test_other_kinds_of_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    refuse(path, ModelError, "ONNX model", str(path), "try:")


def test_message_without_a_graph() -> None:
    refuse(ModelProto(ir_version=8).SerializeToString(), ModelError, "no graph")


def test_truncated_at_every_byte() -> None:
    data = weighted().SerializeToString()
    for length in range(0, len(data), 7):
        with pytest.raises(StropError):
            read_onnx(data[:length])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**9), st.integers(1, 255), st.integers(0, 10**9), st.integers(1, 255))
def test_changed_bytes_never_crash(at: int, mask: int, at2: int, mask2: int) -> None:
    data = bytearray(DAMAGED)
    data[at % len(data)] ^= mask
    data[at2 % len(data)] ^= mask2
    try:
        read_onnx(bytes(data))
        survey(bytes(data))
    except StropError as error:
        assert str(error)


def _damaged() -> bytes:
    """A model with many kinds of fields."""
    nodes = [
        N("Conv", ["x", "k", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        N("Shape", ["c"], ["s"]),
        N("Slice", ["s", "zero", "one"], ["n"]),
        N("Concat", ["n", "rest"], ["t"], axis=0),
        N("Reshape", ["c", "t"], ["r"]),
        N("Constant", [], ["v"], value=numpy_helper.from_array(floats(1, 3))),
        N("ConstantOfShape", ["one"], ["f"]),
        N("Tile", ["v", "two"], ["w"]),
        N("Local", ["r", "f"], ["y"], domain="local"),
        N("Resize", ["x", "", "scales"], ["z"], mode="linear"),
    ]
    body = [N("Mul", ["a", "b"], ["c"]), N("Softmax", ["c"], ["d"], axis=-1)]
    local = helper.make_function(
        "local", "Local", ["a", "b"], ["d"], body, [helper.make_opsetid("", 17)]
    )
    weights = {
        "k": floats(8, 3, 3, 3),
        "b": floats(8),
        "zero": longs(0),
        "one": longs(1),
        "two": longs(1, 2),
        "rest": longs(-1),
        "scales": np.float32([1, 1, 2, 2]),
    }
    inputs = {"x": (np.float32, [1, 3, 8, 8])}
    model = build(nodes, inputs, ["y", "z", "w"], weights, functions=[local], domains={"local": 1})
    return model.SerializeToString()


DAMAGED = _damaged()


def test_the_undamaged_model_is_fine() -> None:
    assert len(read_onnx(DAMAGED).outputs) == 3


# ---- opsets and ops


@pytest.mark.parametrize(("opset", "word"), [(5, "too old"), (29, "too new"), (0, "too old")])
def test_opset_out_of_range(opset: int, word: str) -> None:
    model = relu()
    model.opset_import[0].version = opset
    error = refuse(model, UnsupportedError, word, "6 to 28", "version_converter")
    assert error.where == "opset_import of ai.onnx"


def test_no_opset_at_all() -> None:
    model = relu()
    del model.opset_import[:]
    refuse(model, ModelError, "does not import the operator set", "node r (Relu)")


def test_unsupported_op_says_everything() -> None:
    model = build([N("ImageDecoder", ["x"], ["y"], name="u")], X, ["y"])
    error = refuse(model, UnsupportedError, "op type ImageDecoder is not supported")
    assert error.where == "node u (ImageDecoder)"
    assert error.got == "domain ai.onnx, opset 17"
    assert error.hint


def test_all_unsupported_nodes_are_named() -> None:
    nodes = [
        N("ImageDecoder", ["x"], ["a"], name="first"),
        N("Relu", ["x"], ["b"], name="fine"),
        N("Magic", ["b"], ["c"], name="second", domain="com.example"),
        N("Multinomial", ["b"], ["d"], name="third"),
    ]
    model = build(nodes, X, ["a", "c", "d"], domains={"com.example": 3})
    error = refuse(model, UnsupportedError, "3 of 4 nodes are not supported")
    for words in (
        "node first (ImageDecoder)",
        "node second (Magic)",
        "domain com.example, opset 3",
        "node third (Multinomial)",
    ):
        assert words in str(error)
    assert "fine" not in str(error)


def test_op_that_this_opset_does_not_have() -> None:
    refuse(single("Gelu", [floats(3)], 19)[0], UnsupportedError, "Gelu of opset 19", "opset 20-28")


# ---- attributes and operands

IMAGE = floats(1, 2, 5, 5)
SEQUENCE = floats(4, 2, 3)


@pytest.mark.parametrize(
    ("op_type", "operands", "attributes", "kind", "says"),
    [
        ("Relu", [IMAGE], {"slope": 1.0}, UnsupportedError, "attribute slope is not known"),
        ("Elu", [IMAGE], {"alpha": 1}, ModelError, "attribute alpha has the wrong type"),
        ("Concat", [IMAGE], {}, ModelError, "attribute axis is missing"),
        ("Concat", [], {"axis": 0}, ModelError, "no operands"),
        ("Concat", [IMAGE], {"axis": 7}, None, "axis out of range"),
        ("Gelu", [IMAGE], {"approximate": "cubic"}, UnsupportedError, "unknown value"),
        ("Conv", [IMAGE, floats(2, 2, 3, 3)], {"auto_pad": "SOME"}, UnsupportedError, "auto_pad"),
        ("Conv", [IMAGE, floats(2, 2, 3, 3)], {"pads": [1]}, ModelError, "attribute pads"),
        ("Conv", [IMAGE, floats(2, 2, 3, 3)], {"kernel_shape": [2, 2]}, ModelError, "kernel_shape"),
        ("Conv", [IMAGE, floats(2, 3, 3, 3)], {}, None, "channels"),
        ("Conv", [IMAGE], {}, ModelError, "operand 1 is missing"),
        ("Conv", [floats(1, 2, 3, 3, 3, 3), floats(2, 2, 1, 1, 1, 1)], {}, UnsupportedError, "3 spatial axes"),
        ("MaxPool", [IMAGE], {}, ModelError, "attribute kernel_shape is missing"),
        ("MaxPool", [IMAGE], {"kernel_shape": [0, 2]}, ModelError, "kernel_shape out of range"),
        ("BatchNormalization", [IMAGE, *[floats(2)] * 4], {"training_mode": 1}, UnsupportedError, "training_mode"),
        ("Dropout", [IMAGE, np.float32(0.5), np.bool_(True)], {}, UnsupportedError, "training_mode"),
        ("Transpose", [IMAGE], {"perm": [0, 0, 1, 2]}, None, "permutation"),
        ("Reshape", [IMAGE, longs(-1, -1)], {}, ModelError, "more than one -1"),
        ("Reshape", [IMAGE, longs(-1, 7)], {}, ModelError, "-1 has no solution"),
        ("Reshape", [IMAGE, longs(3, 3)], {}, None, "cannot become"),
        ("Reshape", [IMAGE, floats(2)], {}, ModelError, "no list of integers"),
        ("Squeeze", [IMAGE, longs(1)], {}, ModelError, "does not have size 1"),
        ("Split", [IMAGE], {"num_outputs": 0}, ModelError, "num_outputs"),
        ("Split", [IMAGE], {"num_outputs": 10**15}, ModelError, "too many parts"),
        ("Slice", [IMAGE, longs(0), longs(1), longs(0), longs(0)], {}, None, "step is zero"),
        ("Tile", [IMAGE, longs(1, 1, 1, -1)], {}, ModelError, "negative"),
        ("DepthToSpace", [IMAGE], {"blocksize": 0}, ModelError, "blocksize"),
        ("Resize", [IMAGE, None, np.float32([1, 1, -2, 1])], {}, ModelError, "scales must be positive"),
        ("Resize", [IMAGE], {}, ModelError, "either scales or sizes"),
        ("Resize", [IMAGE, None, np.float32([1, 1, 2, 2])], {"mode": "area"}, UnsupportedError, "mode"),
        ("Cast", [IMAGE], {"to": TensorProto.STRING}, UnsupportedError, "STRING"),
        ("Cast", [IMAGE], {"to": TensorProto.FLOAT8E4M3FN}, UnsupportedError, "FLOAT8E4M3FN"),
        ("Cast", [IMAGE], {"to": 99}, ModelError, "unknown element type"),
        ("Constant", [], {"value_string": "a"}, UnsupportedError, "value_string"),
        ("Constant", [], {}, ModelError, "exactly one value"),
        ("Range", [np.int64(0), np.int64(5), np.int64(0)], {}, ModelError, "delta is zero"),
        ("Gather", [longs(1, 2), longs(7)], {}, ModelError, "index is out of range"),
        ("LSTM", [SEQUENCE, floats(1, 16, 3)], {}, ModelError, "operand 2 is missing"),
        ("LSTM", [SEQUENCE, floats(1, 16, 3), floats(1, 16, 5)], {}, None, "operand w does not fit"),
        ("LSTM", [SEQUENCE, floats(1, 20, 3), floats(1, 20, 5), floats(1, 20)], {}, None, "operand b does not fit"),
        ("LSTM", [IMAGE, floats(1, 20, 3), floats(1, 20, 5)], {}, ModelError, "operand X has the wrong rank"),
        ("GRU", [SEQUENCE, floats(1, 15, 3), floats(1, 15, 5)], {"hidden_size": 4}, ModelError, "hidden_size"),
        ("GRU", [SEQUENCE, floats(1, 15, 3), floats(1, 15, 5)], {"direction": "bidirectional"}, None, "operand w"),
        ("GRU", [SEQUENCE, floats(1, 15, 3), floats(1, 15, 5), None, None, floats(4, 5)], {"layout": 1}, ModelError, "wrong rank"),
        ("RNN", [SEQUENCE, floats(1, 5, 3), floats(1, 5, 5)], {"direction": "up"}, ModelError, "direction"),
        ("RNN", [SEQUENCE, floats(1, 5, 3), floats(1, 5, 5)], {"clip": -1.0}, ModelError, "clip"),
        ("RNN", [SEQUENCE, floats(1, 5, 3), floats(1, 5, 5)], {"activations": ["Sine"]}, ModelError, "unknown name"),
        ("RNN", [SEQUENCE, floats(1, 5, 3), floats(1, 5, 5)], {"activations": ["Tanh"] * 2}, ModelError, "activations"),
    ],
)  # fmt: skip
def test_node_that_does_not_fit(
    op_type: str,
    operands: list[Any],
    attributes: dict[str, Any],
    kind: type[StropError] | None,
    says: str,
) -> None:
    known = range(0 if op_type in ("Gather", "Range") else 1, len(operands))
    model, _ = single(
        op_type, operands, 20, [i for i in known if operands[i] is not None], **attributes
    )
    with pytest.raises(StropError) as caught:
        read_onnx(model)
    assert kind is None or type(caught.value) is kind
    assert says in str(caught.value), caught.value
    assert f"node node ({op_type})" in str(caught.value.where)


def test_attribute_given_twice() -> None:
    model = single("Elu", [IMAGE], 17, alpha=1.0)[0]
    model.graph.node[0].attribute.append(helper.make_attribute("alpha", 2.0))
    refuse(model, ModelError, "given twice", "alpha")


def test_shape_operand_that_depends_on_the_input() -> None:
    model = single("Expand", [floats(4), longs(2, 4)], 17)[0]
    refuse(model, UnsupportedError, "nothing says how large it may become", "node node (Expand)", "try:", "--shape 'x1[]=1..100'")


# ---- names and structure


def test_value_that_nothing_defines() -> None:
    model = build([N("Add", ["x", "ghost"], ["y"], name="a")], X, ["y"])
    refuse(model, ModelError, "nothing defines", "ghost", "node a (Add)")


def test_output_that_nothing_defines() -> None:
    model = relu()
    model.graph.output[0].name = "ghost"
    refuse(model, ModelError, "nothing defines", "output ghost")


def test_no_outputs() -> None:
    model = relu()
    del model.graph.output[:]
    refuse(model, ModelError, "no outputs")


def test_cycle() -> None:
    nodes = [N("Add", ["x", "b"], ["a"], name="one"), N("Relu", ["a"], ["b"], name="two")]
    refuse(build(nodes, X, ["b"]), ModelError, "cycle", "one (Add)", "two (Relu)")


def _twice(part: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        entries = getattr(model.graph, part)
        entries.append(entries[0])

    return change


@pytest.mark.parametrize("part", ["input", "output", "initializer", "node"])
def test_duplicate_names(part: str) -> None:
    model = weighted()
    _twice(part)(model)
    refuse(model, ModelError, "defined twice" if part == "node" else "same name")


def test_node_result_with_the_name_of_an_input() -> None:
    refuse(build([N("Relu", ["x"], ["x"])], X, ["x"]), ModelError, "defined twice")


def test_name_that_is_no_text() -> None:
    data = relu().SerializeToString().replace(b"Relu", b"Re\xff\xfe")
    refuse(data, ModelError, "op_type is not UTF-8 text")


def test_name_that_is_empty() -> None:
    model = relu()
    model.graph.output[0].name = ""
    refuse(model, ModelError, "no name")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (TensorProto.STRING, "STRING"),
        (TensorProto.COMPLEX64, "COMPLEX64"),
        (TensorProto.INT4, "INT4"),
    ],
)
def test_element_types(code: int, name: str) -> None:
    model = relu()
    model.graph.input[0].type.tensor_type.elem_type = code
    refuse(model, UnsupportedError, name, "input x", "f32")


def test_input_that_is_no_tensor() -> None:
    model = relu()
    info = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    model.graph.input[0].CopyFrom(info)
    refuse(model, UnsupportedError, "no tensor", "sequence_type")


def test_input_without_a_shape() -> None:
    model = relu()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    refuse(model, ModelError, "declares no shape", "--shape x=")
    assert read_onnx(model, {"x": (2, 3)}).outputs[0].shape == (2, 3)


@pytest.mark.parametrize("dims", [(2, -5), (1,) * 40])
def test_impossible_input_shapes(dims: tuple[int, ...]) -> None:
    model = build([N("Relu", ["x"], ["y"])], {"x": (np.float32, dims)}, ["y"])
    refuse(model, ModelError, "impossible shape", "input x")


def test_output_of_another_type_than_declared() -> None:
    model = relu()
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.INT8, [2, 3]))
    refuse(model, ModelError, "another element type", "output y", "got: f32", "expected: i8")


# ---- tensors


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "2399 bytes"),
        (lambda t: t.dims.append(2), "does not fit its shape"),
        (lambda t: t.dims.__setitem__(0, -3), "impossible shape"),
        (lambda t: t.dims.__setitem__(0, 10**15), "impossible shape"),
        (lambda t: setattr(t, "data_type", 0), "unknown element type"),
        (lambda t: t.ClearField("raw_data"), "0 elements in float_data"),
        (lambda t: t.dims.extend([1] * 40), "impossible shape"),
        (lambda t: t.dims.extend([0, 2**62, 2**62]), "impossible shape"),
    ],
)
def test_broken_initializers(change: Callable[[TensorProto], None], says: str) -> None:
    model = weighted()
    change(model.graph.initializer[0])
    refuse(model, ModelError, says, "initializer w")
    refuse(model.SerializeToString(), ModelError, says, "initializer w")


def test_segmented_tensor() -> None:
    model = weighted()
    model.graph.initializer[0].segment.begin = 1
    refuse(model, UnsupportedError, "segments", "initializer w")


@pytest.mark.parametrize(
    ("dims", "indices", "says"),
    [
        ([2, 3], [1, 9], "do not fit"),
        ([2, 3], [1], "do not fit"),
        ([10**5, 10**5], [1, 2], "too large"),
    ],
)
def test_broken_sparse_tensors(dims: list[int], indices: list[int], says: str) -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [2], [1.0, 2.0])
    where = helper.make_tensor("", TensorProto.INT64, [len(indices)], indices)
    sparse = helper.make_sparse_tensor(values, where, [2, 3])
    sparse.dims[:] = dims
    model = build([N("Constant", [], ["y"], sparse_value=sparse)], {}, ["y"])
    refuse(model, ModelError, says)


# ---- external data


def external(tmp_path: Path) -> tuple[Path, ModelProto]:
    """A model beside weights.bin of 2400 bytes, saved with ``save``."""
    path = tmp_path / "net.onnx"
    onnx.save(
        weighted(), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    return path, onnx.load(path, load_external_data=False)


def save(path: Path, model: ModelProto, **entries: str) -> Path:
    """Writes a model with other external data entries."""
    tensor = model.graph.initializer[0]
    kept = {e.key: e.value for e in tensor.external_data} | entries
    del tensor.external_data[:]
    tensor.external_data.extend(StringStringEntryProto(key=k, value=v) for k, v in kept.items())
    path.write_bytes(model.SerializeToString())
    return path


def test_missing_external_data(tmp_path: Path) -> None:
    path, _ = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    refuse(path, ModelError, "missing", "weights.bin", "initializer w", "try:")


def test_external_data_that_is_too_short(tmp_path: Path) -> None:
    path, _ = external(tmp_path)
    os.truncate(tmp_path / "weights.bin", 2000)
    refuse(path, ModelError, "shorter", "got: 2000 bytes", "expected: at least 2400 bytes")


@pytest.mark.parametrize(
    "location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "", "link.bin", "a\0b"]
)
def test_external_data_outside_of_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path, model = external(folder)
    (tmp_path / "weights.bin").write_bytes(bytes(2400))
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    refuse(save(path, model, location=location), ModelError, "external data", "initializer w")


def test_external_data_that_is_no_file(tmp_path: Path) -> None:
    path, model = external(tmp_path)
    (tmp_path / "folder.bin").mkdir()
    refuse(save(path, model, location="folder.bin"), ModelError, "missing", "regular file")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"offset": "9999"}, "shorter"),
        ({"offset": "-4"}, "unusable offset"),
        ({"offset": "1e3"}, "unusable offset"),
        ({"length": "12"}, "does not fit its shape"),
        ({"length": "9" * 30}, "unusable length"),
    ],
)
def test_external_data_bounds(tmp_path: Path, entries: dict[str, str], says: str) -> None:
    path, model = external(tmp_path)
    refuse(save(path, model, **entries), ModelError, says, "initializer w")


def test_external_data_of_a_model_that_is_no_file(tmp_path: Path) -> None:
    path, model = external(tmp_path)
    refuse(path.read_bytes(), ModelError, "another file", "give the path")
    refuse(model, ModelError, "another file")


# ---- sizes


@pytest.mark.parametrize(
    ("op_type", "operands", "attributes"),
    [
        ("ConstantOfShape", [longs(10**6, 10**6)], {}),
        ("ConstantOfShape", [longs(2**62, 2**62)], {}),
        ("ConstantOfShape", [longs(-4)], {}),
        ("Range", [np.int64(0), np.int64(10**15), np.int64(1)], {}),
        ("Range", [np.float32(0), np.float32(3e38), np.float32(1e-38)], {}),
        ("Tile", [floats(9), longs(2**60)], {}),
        ("Expand", [floats(1), longs(2**50)], {}),
        ("Pad", [floats(9), longs(0, 2**50)], {}),
        ("Resize", [floats(1, 1, 9, 9), None, np.float32([1, 1, 1e9, 1e9])], {}),
    ],
)
def test_bombs_do_not_go_off(op_type: str, operands: list[Any], attributes: dict[str, Any]) -> None:
    known = [i for i, a in enumerate(operands) if a is not None]
    for fixed in (known, known[1:]):
        model, feeds = single(op_type, operands, 13, fixed, **attributes)
        if feeds and op_type in ("ConstantOfShape", "Range"):
            continue
        with pytest.raises(ModelError, match=r"large|negative|finite"):
            read_onnx(model)


def test_eye_bomb() -> None:
    inputs = {"x": (np.float32, [10**6, 10**6])}
    refuse(build([N("EyeLike", ["x"], ["y"])], inputs, ["y"]), ModelError, "too large")


def test_functions_that_call_themselves() -> None:
    body = [N("F", ["a"], ["b"], domain="local")]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "F", ["a"], ["b"], body, imports)
    model = build(
        [N("F", ["x"], ["y"], domain="local")], X, ["y"], functions=[function], domains={"local": 1}
    )
    refuse(model, ModelError, "too deeply")


def test_functions_that_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.frontend.onnx.importer.MAX_NODES", 1000)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    functions = []
    for level in range(12):
        inner = "Relu" if level == 0 else f"F{level - 1}"
        domain = "" if level == 0 else "local"
        body = [N(inner, ["a"], ["m"], domain=domain), N(inner, ["m"], ["b"], domain=domain)]
        functions.append(helper.make_function("local", f"F{level}", ["a"], ["b"], body, imports))
    model = build(
        [N("F11", ["x"], ["y"], domain="local")],
        X,
        ["y"],
        functions=functions,
        domains={"local": 1},
    )
    refuse(model, ModelError, "too many nodes")
