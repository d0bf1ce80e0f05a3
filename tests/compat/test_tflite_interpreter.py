"""``strop.compat.tflite.interpreter``: what LiteRT's interpreter does, and the exceptions that it raises."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.compat.tflite.interpreter import (
    Interpreter,
    InterpreterWithCustomOps,
    OpResolverType,
    SignatureRunner,
    load_delegate,
)
from strop.frontend.tflite_sheet import parse
from tests import tiny_net
from tests.frontend.tflite_models import Maker
from tests.frontend.tflite_nets import branch, free_net, quantized_net, sparse_net, streaming

GRID = {"scale": 0.05, "zero": -3}


def two_ops(kind: str = "INT8") -> bytes:
    """(x + c) * c, a tensor between; quantized unless ``kind`` is FLOAT32."""
    maker = Maker()
    main = maker.main
    grid, last = (GRID, {"scale": 0.1, "zero": 1}) if kind == "INT8" else ({}, {})
    x = main.input("x", (1, 2), kind, **grid)
    c = main.const([[1, 2]], np.int8 if kind == "INT8" else np.float32, "c", **grid)
    a, y = main.tensor("a", (1, 2), kind, **grid), main.tensor("y", (1, 2), kind, **last)
    main.op("ADD", [x, c], [a], "AddOptions")
    main.op("MUL", [a, c], [y], "MulOptions")
    main.outputs = [y]
    return maker.bytes()


def two_signatures() -> bytes:
    maker = Maker()
    for number, op in ((0, "EXP"), (1, "NEG")):
        function = maker.main if number == 0 else maker.function()
        function.outputs = [function.tensor("StatefulPartitionedCall:0", (2,))]
        function.op(op, [function.input("serving_default_x:0", (2,))], function.outputs)
        maker.signatures[op.lower()] = (number, {"x": function.inputs[0]}, {"result": function.outputs[0]})
    return maker.bytes()


def allocated(model: bytes | str | Path, **options: Any) -> Interpreter:
    found = Interpreter(model_content=model, **options) if isinstance(model, bytes) else Interpreter(model, **options)
    found.allocate_tensors()
    return found


def fails(kind: type[Exception], text: str, call: Callable[[], object]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)


def test_details() -> None:
    """Before and after allocation: names, numbers, shapes, types, grids, as LiteRT gives them."""
    interpreter = Interpreter(model_content=quantized_net()[0])
    (x,), (y,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (x["name"], x["index"], x["shape"].tolist(), x["shape"].dtype, x["dtype"]) == ("x", 0, [1, 8, 8, 4], np.int32, np.int8)
    assert x["quantization"] == (float(np.float32(0.05)), -3) and x["sparsity_parameters"] == {}
    grid = y["quantization_parameters"]
    assert grid["scales"].dtype == np.float32 and grid["zero_points"].tolist() == [5] and grid["quantized_dimension"] == 0
    weights = interpreter.get_tensor_details()[1]
    assert weights["quantization"] == (0.0, 0) and len(weights["quantization_parameters"]["scales"]) == 8
    ops = interpreter._get_ops_details()
    assert [op["op_name"] for op in ops] == ["CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MAX_POOL_2D", "MEAN", "FULLY_CONNECTED"]
    assert ops[0]["inputs"].tolist() == [0, 1, 2] and ops[0]["operand_types"] == [np.int8, np.int8, np.int32]
    assert interpreter.get_tensor(1).shape == (8, 3, 3, 4)  # a constant, before allocation
    sparsity = Interpreter(model_content=sparse_net()[0]).get_tensor_details()[0]["sparsity_parameters"]
    assert sparsity["traversal_order"].tolist() == [0, 1, 2] and sparsity["dim_metadata"][1]["array_segments"].tolist() == [0, 1, 1, 3, 3]


def test_runs_as_the_engine_does() -> None:
    file, _ = quantized_net()
    interpreter = allocated(file, num_threads=1)
    (x,), (y,) = interpreter.get_input_details(), interpreter.get_output_details()
    given = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 4)).astype(np.int8)
    assert not interpreter.get_tensor(y["index"]).any()
    interpreter.set_tensor(x["index"], given)
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(y["index"]), strop.build(file, level=0, threads=1)(given))


def test_views_must_be_let_go_before_a_run() -> None:
    interpreter = allocated(two_ops("FLOAT32"))
    x, y = interpreter.tensor(0), interpreter.tensor(3)
    x()[:] = [[3, 5]]
    interpreter.invoke()
    assert y().tolist() == [[4, 14]]
    view = x()
    part = view[0]
    for call in (interpreter.invoke, interpreter.allocate_tensors, lambda: interpreter.resize_tensor_input(0, [2, 2])):
        fails(RuntimeError, "There is at least 1 reference to internal data", call)
    del view
    fails(RuntimeError, "There is at least 1 reference to internal data", interpreter.invoke)
    del part
    interpreter.invoke()


def test_intermediate_tensors_are_kept_when_that_is_asked_for() -> None:
    with pytest.warns(UserWarning, match="experimental_preserve_all_tensors"):
        interpreter = allocated(two_ops("FLOAT32"), experimental_preserve_all_tensors=True)
    interpreter.set_tensor(0, np.array([[3, 5]], np.float32))
    interpreter.invoke()
    assert [interpreter.get_tensor(k).tolist() for k in range(4)] == [[[3, 5]], [[1, 2]], [[4, 7]], [[4, 14]]]


def test_inputs_are_resized() -> None:
    interpreter = allocated(two_ops("FLOAT32"))
    interpreter.resize_tensor_input(0, [3, 2])
    assert interpreter.get_input_details()[0]["shape"].tolist() == [3, 2]
    fails(RuntimeError, "Invoke called on model that is not ready.", interpreter.invoke)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.ones((3, 2), np.float32))
    interpreter.invoke()
    assert interpreter.get_tensor(3).tolist() == [[2, 6]] * 3 and interpreter.get_output_details()[0]["shape"].tolist() == [3, 2]
    interpreter.resize_tensor_input(0, [1, 5])
    fails(RuntimeError, "shapes cannot be broadcast together", interpreter.allocate_tensors)
    free = Interpreter(model_content=free_net())
    assert free.get_input_details()[0]["shape_signature"].tolist() == [-1, 4]
    free.resize_tensor_input(0, [3, 4], strict=True)
    free.allocate_tensors()
    free.invoke()
    assert free.get_tensor(free.get_output_details()[0]["index"]).shape == (3, 2, 2)


def test_state_lasts_until_it_is_reset(tmp_path: Path) -> None:
    """Of a file and of an engine that was built from it."""
    path = tmp_path / "s.strop"
    strop.build(streaming(), level=0).save(path)
    for interpreter in (allocated(streaming()), allocated(path)):
        for _ in range(2):
            history = [7.0, 7.0, 7.0]
            for step in range(6):
                history = [*history[1:], float(step)]
                interpreter.set_tensor(0, np.full((1, 1), step, np.float32))
                interpreter.invoke()
                assert interpreter.get_tensor(5).item() == sum(history)
            interpreter.reset_all_variables()
        assert [op["op_name"] for op in interpreter._get_ops_details()][:2] == ["CALL_ONCE", "VAR_HANDLE"]


def test_signatures() -> None:
    interpreter = Interpreter(model_content=two_signatures())
    assert interpreter.get_signature_list() == {"exp": {"inputs": ["x"], "outputs": ["result"]}, "neg": {"inputs": ["x"], "outputs": ["result"]}}
    assert interpreter._get_full_signature_list()["neg"] == {"inputs": {"x": 1}, "outputs": {"result": 0}}
    neg, exp = interpreter.get_signature_runner("neg"), interpreter.get_signature_runner("exp")
    assert neg(x=np.array([1, 2], np.float32))["result"].tolist() == [-1, -2]
    np.testing.assert_allclose(exp(x=np.array([1, 2], np.float32))["result"], np.exp([1, 2]), 1e-6)
    assert neg(x=np.ones(5, np.float32))["result"].shape == (5,) and neg.get_output_details()["result"]["shape"].tolist() == [5]
    assert neg.get_input_details()["x"]["name"] == "serving_default_x:0" and interpreter.get_tensor(0, 1).shape == (5,)
    assert interpreter.num_subgraphs() == 2 and len(interpreter.get_tensor_details(1)) == 2
    fails(ValueError, "subgraph_index is out of range: 7 for the model, which has 2 subgraphs.", lambda: interpreter.get_tensor_details(7))
    fails(ValueError, "SignatureDef signature_key is None and model has 2 Signatures.", interpreter.get_signature_runner)
    fails(ValueError, 'Invalid signature_key provided: "bad".', lambda: interpreter.get_signature_runner("bad"))
    fails(ValueError, "expected 1 vs provided 0", neg)
    fails(ValueError, "Invalid Input name (z) for SignatureDef", lambda: neg(z=np.ones(2, np.float32)))
    fails(ValueError, "Got value of type INT32 but expected type FLOAT32", lambda: neg(x=np.ones(2, np.int32)))
    fails(ValueError, "None interpreter provided.", SignatureRunner)
    fails(ValueError, "None signature_key provided.", lambda: SignatureRunner(interpreter))


def test_an_engine_in_place_of_a_file(tmp_path: Path) -> None:
    """It has the file's numbers, names and grids; free sizes within the range that it was built for."""
    path = tmp_path / "q.strop"
    strop.build(two_ops(), level=0).save(path)
    for interpreter in (Interpreter(path), Interpreter(model_content=path.read_bytes())):
        file = Interpreter(model_content=two_ops())
        for own, other in zip(interpreter.get_tensor_details(), file.get_tensor_details(), strict=True):
            assert str(own) == str(other)
        for one in (interpreter, file):
            one.allocate_tensors()
            one.set_tensor(0, np.array([[-5, 9]], np.int8))
            one.invoke()
        np.testing.assert_array_equal(interpreter.get_tensor(3), file.get_tensor(3))
    with pytest.warns(UserWarning):
        fails(RuntimeError, "an engine does not keep intermediate tensors", lambda: allocated(path, experimental_preserve_all_tensors=True))
    strop.build(free_net(), level=0, shapes={"x_0": "1..5"}).save(path)
    interpreter = Interpreter(path)
    interpreter.resize_tensor_input(0, [4, 4])
    interpreter.allocate_tensors()
    interpreter.invoke()
    assert interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).shape == (4, 2, 2)
    interpreter.resize_tensor_input(0, [6, 4])
    fails(RuntimeError, "6", interpreter.allocate_tensors)


def test_an_engine_of_another_model_has_its_inputs_and_outputs() -> None:
    engine = tiny_net.engine()
    interpreter = allocated(engine.path)
    feeds = engine.random_inputs()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], feeds[detail["name"]])
    interpreter.invoke()
    for detail in interpreter.get_output_details():
        np.testing.assert_array_equal(interpreter.get_tensor(detail["index"]), engine.run(feeds)[detail["name"]])


def test_engines_of_one_signature(tmp_path: Path) -> None:
    path = tmp_path / "n.strop"
    strop.build(two_signatures(), level=0, signature="neg").save(path)
    interpreter = Interpreter(path)
    assert interpreter.get_signature_runner("neg")(x=np.ones(2, np.float32))["result"].tolist() == [-1, -1]
    fails(RuntimeError, "the engine was built of another signature", lambda: interpreter.get_signature_runner("exp")(x=np.ones(2, np.float32)))


def test_sheets_are_read_as_they_were_written() -> None:
    for file in (quantized_net()[0], streaming(), branch("IF"), two_signatures()):
        text = strop.build(file, level=0).attachment("tflite")
        assert text is not None and parse(text.decode(), "").text().encode() == text



def test_delegates() -> None:
    delegate = load_delegate("libtensorflowlite_gpu_delegate.so", {"a": 1})
    interpreter = allocated(two_ops("FLOAT32"), experimental_delegates=[delegate], experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.invoke()
    fails(ValueError, "Failed to load delegate from libedgetpu.so.1\nmodels compiled for an Edge TPU", lambda: load_delegate("libedgetpu.so.1"))
    fails(ValueError, "Failed to load delegate from mine.so\ndelegates that are known are", lambda: load_delegate("mine.so"))
    fails(ValueError, "strop.custom.layer", lambda: InterpreterWithCustomOps(custom_op_registerers=["Register"], model_content=two_ops()))
    InterpreterWithCustomOps(model_content=two_ops())


SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
import tflite_runtime.interpreter as runtime
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.python.interpreter import Interpreter as Old
assert tf.lite.Interpreter is Interpreter is Old is runtime.Interpreter
interpreter = tf.lite.Interpreter(model_path=sys.argv[1])
interpreter.allocate_tensors()
interpreter.invoke()
print(interpreter.get_tensor(3), getattr(tf, "mark", "none"))
try:
    tf.keras
except AttributeError as error:
    print(error)
"""


@pytest.mark.parametrize("with_tensorflow", [False, True])
def test_scripts_find_it_under_the_original_names(tmp_path: Path, with_tensorflow: bool) -> None:
    """Where TensorFlow is installed, all of it but ``lite`` is its own."""
    (tmp_path / "s.py").write_text(SCRIPT)
    (tmp_path / "m.tflite").write_bytes(two_ops("FLOAT32"))
    if with_tensorflow:
        (tmp_path / "tensorflow").mkdir()
        (tmp_path / "tensorflow" / "__init__.py").write_text("mark, keras, lite = 'real', 1, 2")
    done = subprocess.run([sys.executable, "-m", "strop.compat", "run", str(tmp_path / "s.py"), str(tmp_path / "m.tflite")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[[1. 4.]] real\n" if with_tensorflow else "[[1. 4.]] none\ntensorflow.keras is not there")


def test_no_warning_without_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Interpreter(model_content=two_ops())
