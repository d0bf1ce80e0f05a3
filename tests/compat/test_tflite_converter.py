"""``strop.compat.tflite``'s converter, analyzer and quantization debugger, on a SavedModel of LeNet and without TensorFlow."""

from __future__ import annotations

import csv
import io
import logging
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.compat import tflite as lite
from tests.compat.test_tflite_interpreter import fails, two_ops, two_signatures

MODELS = Path(__file__).parents[1] / "frontend" / "tensorflow" / "saved_models.tar.xz"
INT16X8 = lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a SavedModel."""
    folder = tmp_path_factory.mktemp("lenet")
    with tarfile.open(MODELS) as archive:
        archive.extractall(folder, filter="data")
    return folder / "lenet"


def samples() -> Iterator[list[Any]]:
    rng = np.random.default_rng(0)
    for _ in range(4):
        yield [rng.uniform(-1, 1, (1, 28, 28, 1)).astype(np.float32)]


def converter(folder: Path, **settings: Any) -> Any:
    found = lite.TFLiteConverter.from_saved_model(str(folder))
    for name, value in settings.items():
        setattr(found, name, value)
    return found


def outputs(model: bytes, folder: Path) -> Any:
    """Of the model on what TensorFlow was given, as floats; and what TensorFlow gave."""
    with np.load(folder / "serving_default.in.npz") as given, np.load(folder / "serving_default.out.npz") as wanted:
        x, y = given["inputs"], wanted["output_0"]
    runner = lite.Interpreter(model_content=model).get_signature_runner()
    (detail,) = runner.get_input_details().values()
    if detail["dtype"] is not np.float32:
        scale, zero = detail["quantization"]
        x = np.clip(np.rint(x / scale) + zero, -128, 127).astype(detail["dtype"])
    (found,) = runner(inputs=x).values()
    (detail,) = runner.get_output_details().values()
    scale, zero = detail["quantization"]
    return (found.astype(np.float32) - zero) * scale if found.dtype != np.float32 else found, y


#: Settings, how far outputs may be, the type of inputs and outputs, and types of other tensors.
KINDS = (
    ({}, 1e-6, np.float32, set()),
    ({"optimizations": [lite.Optimize.DEFAULT], "target_spec": lite.TargetSpec(supported_types=[np.float16])}, 1e-3, np.float32, {np.float16}),
    ({"optimizations": [lite.Optimize.DEFAULT]}, 5e-3, np.float32, {np.int8}),
    ({"optimizations": {lite.Optimize.DEFAULT}, "representative_dataset": samples}, 5e-2, np.float32, {np.int8}),
    (
        {"optimizations": [lite.Optimize.DEFAULT], "representative_dataset": lite.RepresentativeDataset(samples), "inference_input_type": np.int8, "inference_output_type": np.int8,
         "target_spec": lite.TargetSpec(supported_ops=[lite.OpsSet.TFLITE_BUILTINS_INT8])}, 5e-2, np.int8, {np.int8},
    ),
    ({"optimizations": [lite.Optimize.DEFAULT], "representative_dataset": samples, "target_spec": lite.TargetSpec(supported_ops=[INT16X8])}, 1e-2, np.float32, {np.int8, np.int16}),
)  # fmt: skip


@pytest.mark.parametrize(("settings", "tolerance", "kind", "stored"), KINDS)
def test_precisions(settings: dict[str, Any], tolerance: float, kind: Any, stored: set[Any], lenet: Path) -> None:
    """As TensorFlow's converter chooses them; outputs lie near TensorFlow's own, and the batch stays free."""
    model = converter(lenet, **settings).convert()
    (detail,) = lite.Interpreter(model_content=model).get_input_details()
    assert detail["dtype"] is kind and detail["shape_signature"].tolist() == [-1, 28, 28, 1]
    found, wanted = outputs(model, lenet)
    assert np.abs(found - wanted).max() < tolerance
    types = {d["dtype"] for d in lite.Interpreter(model_content=model).get_tensor_details()}
    assert stored == types & {np.float16, np.int8, np.int16}


DECK = """
import os, sys
saved_model_dir, folder = sys.argv[1:]
os.chdir(folder)
import numpy as np
np.random.seed(7)
{}
"""
#: The presentation's code, but for the name of the variable that it writes (tflite_quantized_model there).
CONVERT = """
import tensorflow as tf

converter = tf.lite.TFLiteConverter.from_saved_model(saved_model_dir)
tflite_model = converter.convert()
open("converted_model.tflite", "wb").write(tflite_model)
"""
QUANTIZE = """
import tensorflow as tf

converter = tf.lite.TFLiteConverter.from_saved_model(saved_model_dir)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
tflite_quant_model = converter.convert()
open("converted_model.tflite", "wb").write(tflite_quant_model)
"""
INFER = """
import numpy as np
import tensorflow as tf

# Load TFLite model and allocate tensors.
interpreter = tf.lite.Interpreter(model_path="converted_model.tflite")
interpreter.allocate_tensors()

# Get input and output tensors.
input_details = interpreter.get_input_details()
output_details = interpreter.get_output_details()

# Test model on random input data.
input_shape = input_details[0]['shape']
input_data = np.array(np.random.random_sample(input_shape), dtype=np.float32)
interpreter.set_tensor(input_details[0]['index'], input_data)

interpreter.invoke()

# The function 'get_tensor()' returns a copy of the tensor data.
# Use 'tensor()' in order to get a pointer to the tensor.
output_data = interpreter.get_tensor(output_details[0]['index'])
print(output_data)
"""


def test_the_presentations_code_runs_verbatim(lenet: Path, tmp_path: Path) -> None:
    """Convert, quantize, run: no TensorFlow is imported, outputs agree with the SavedModel."""
    (tmp_path / "deck.py").write_text(DECK.format(CONVERT + INFER + QUANTIZE + INFER) + "assert not any(m.startswith('tensorflow.python') for m in sys.modules)\n")
    done = subprocess.run([sys.executable, "-m", "strop.compat", "run", str(tmp_path / "deck.py"), str(lenet), str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    printed = np.array(done.stdout.replace("[", " ").replace("]", " ").split(), np.float32).reshape(2, 1, 10)
    rng = np.random.RandomState(7)
    engine = strop.build(lenet, level=0, shapes={"inputs": (1, 28, 28, 1)})
    for found, tolerance in zip(printed, (1e-6, 5e-3), strict=True):
        wanted = engine(rng.random_sample((1, 28, 28, 1)).astype(np.float32))
        np.testing.assert_allclose(found, wanted, atol=tolerance)
    sizes = [len(converter(lenet, optimizations=o).convert()) for o in ([], [lite.Optimize.DEFAULT])]
    assert (tmp_path / "converted_model.tflite").stat().st_size == sizes[1] < sizes[0]


def test_keras_files(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="the package h5py is not installed: pip install 'strop[keras]'")
    with tarfile.open(MODELS.with_name("keras.tar.xz")) as archive:
        files = {part: archive.extractfile(f"3/Dense/{part}").read() for part in ("net.keras", "io.npz")}  # type: ignore[union-attr]
    (tmp_path / "net.keras").write_bytes(files["net.keras"])
    with np.load(io.BytesIO(files["io.npz"])) as arrays:
        x, wanted = (next(arrays[k] for k in arrays.files if k.startswith(side)) for side in ("in", "out"))
    for make in (lite.TFLiteConverter.from_keras_model, lite.TFLiteConverter.from_keras_model_file):
        interpreter = lite.Interpreter(model_content=make(tmp_path / "net.keras").convert())
        interpreter.resize_tensor_input(0, x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, x)
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), wanted, 1e-5, 1e-5)
    fails(ValueError, "parts of a model are not converted: input_arrays", lambda: lite.TFLiteConverter.from_keras_model_file("m.h5", input_arrays=["x"]))
    fails(ValueError, "sessions are not read", lambda: lite.TFLiteConverter.from_session(None, [], []))


def field(number: int, value: bytes | str | int) -> bytes:
    """A field of a protobuf message; all lengths here are below 128."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(data)]) + data


def graph_def() -> bytes:
    """x: Placeholder f32[1, 2]; y = Relu(x). GraphDef, NodeDef and AttrValue of tensorflow/core/framework."""

    def attr(name: str, value: bytes) -> bytes:
        return field(5, field(1, name) + field(2, value))

    kind, shape = field(6, 1), field(7, field(2, field(1, 1)) + field(2, field(1, 2)))
    x = field(1, "x") + field(2, "Placeholder") + attr("dtype", kind) + attr("shape", shape)
    y = field(1, "y") + field(2, "Relu") + field(3, "x") + attr("T", kind)
    return field(1, x) + field(1, y)


def test_frozen_graphs(tmp_path: Path) -> None:
    path = tmp_path / "g.pb"
    path.write_bytes(graph_def())
    made = lite.TFLiteConverter.from_frozen_graph(path, ["x"], ["y"], {"x": [3, 2]})
    assert made.get_input_arrays() == ["x"]
    interpreter = lite.Interpreter(model_content=made.convert())
    assert interpreter.get_input_details()[0]["shape"].tolist() == [3, 2] and interpreter._get_op_details(0)["op_name"] == "RELU"
    fails(ValueError, "the inputs of the graph are x, not z; parts of a graph are not converted", lambda: lite.TFLiteConverter.from_frozen_graph(path, ["z"], ["y"]))
    fails(ValueError, "the outputs of the graph are y, not x", lambda: lite.TFLiteConverter.from_frozen_graph(path, ["x"], ["x"]))


def test_what_has_no_effect_is_noted(lenet: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = converter(lenet, allow_custom_ops=True, optimizations=[lite.Optimize.EXPERIMENTAL_SPARSITY, lite.Optimize.OPTIMIZE_FOR_SIZE])
    settings.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS, lite.OpsSet.SELECT_TF_OPS]
    with caplog.at_level(logging.INFO, "strop.compat.tflite"):
        settings.convert()
    for text in ("allow_custom_ops has no effect", "EXPERIMENTAL_SPARSITY has no effect", "SELECT_TF_OPS has no effect", "OPTIMIZE_FOR_SIZE is deprecated"):
        assert text in caplog.text


def test_samples_by_name(lenet: Path) -> None:
    """Dicts, and pairs of a signature's key and a dict, are the samples that lists are."""
    makers: tuple[Callable[[], Iterator[Any]], ...] = (
        samples, lambda: ({"inputs": s[0]} for s in samples()), lambda: (("serving_default", {"inputs": s[0]}) for s in samples()),
    )  # fmt: skip
    made = {converter(lenet, optimizations=[lite.Optimize.DEFAULT], representative_dataset=make).convert() for make in makers}
    assert len(made) == 1


def test_the_analyzer_prints_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lite.experimental.Analyzer.analyze(model_content=two_ops("FLOAT32"), gpu_compatibility=True)
    out = capsys.readouterr().out
    for line in ("=== TFLite ModelAnalyzer ===", "Subgraph#0 main(T#0) -> [T#3]", "  Op#0 ADD(T#0, T#1) -> [T#2]", "  T#1(c) shape:[1, 2], type:FLOAT32 RO 8 bytes, data:[1, 2]", "is not judged"):
        assert line in out
    (tmp_path / "m.tflite").write_bytes(two_signatures())
    lite.experimental.Analyzer.analyze(str(tmp_path / "m.tflite"))
    out = capsys.readouterr().out
    assert f"=== {tmp_path / 'm.tflite'} ===" in out and "Op#0 NEG(T#1_1) -> [T#1_0]" in out and "Signature#1 key: 'neg'" in out and "'x' : T#1_1" in out
    fails(ValueError, "neither `model_path` nor `model_content` is provided", lite.experimental.Analyzer.analyze)
    fails(ValueError, "experimental_use_mlir is refused", lambda: lite.experimental.Analyzer.analyze(model_content=two_ops(), experimental_use_mlir=True))


def test_the_quantization_debugger_measures_layers(lenet: Path) -> None:
    """A layer's difference: the integer result against the same layer in floats, on the same operands."""
    experimental = lite.experimental
    options = experimental.QuantizationDebugOptions(
        layer_debug_metrics={"l1": lambda d: np.abs(d).sum()}, layer_direct_compare_metrics={"range": lambda real, stored, scale, zero: real.max() - real.min()},
        model_debug_metrics={"worst": lambda a, b: np.abs(a[0] - b[0]).max()},
    )  # fmt: skip
    settings = converter(lenet, optimizations=[lite.Optimize.DEFAULT], representative_dataset=samples)
    debugger = experimental.QuantizationDebugger(converter=settings, debug_dataset=samples, debug_options=options)
    debugger.run()
    text = io.StringIO()
    debugger.layer_statistics_dump(text)
    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert list(rows[0]) == ["op_name", "tensor_idx", "num_elements", "stddev", "mean_error", "max_abs_error", "mean_squared_error", "l1", "range", "scale", "zero_point", "tensor_name"]
    assert [row["op_name"] for row in rows] == ["CONV_2D", "CONV_2D", "FULLY_CONNECTED", "FULLY_CONNECTED", "SOFTMAX"]
    for row in rows:  # nearly all values are rounded to the next integer
        assert 0 < float(row["stddev"]) < float(row["scale"]) and float(row["l1"]) > 0 and float(row["range"]) > float(row["scale"])
    assert debugger.model_statistics is not None and 0 < debugger.model_statistics["worst"] < 0.05
    again = experimental.QuantizationDebugger(quant_debug_model_content=debugger.get_nondebug_quantized_model(), debug_dataset=samples)
    again.run()
    assert again.layer_statistics is not None and debugger.layer_statistics is not None
    for layer, row in again.layer_statistics.items():
        assert row["max_abs_error"] == pytest.approx(debugger.layer_statistics[layer]["max_abs_error"])
    whole = experimental.QuantizationDebugger(converter=settings, debug_dataset=samples, debug_options=experimental.QuantizationDebugOptions(fully_quantize=True))
    assert lite.Interpreter(model_content=whole.get_debug_quantized_model()).get_input_details()[0]["dtype"] is np.int8


