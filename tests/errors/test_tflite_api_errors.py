"""What the TensorFlow Lite API refuses, in the exceptions and words of TensorFlow and LiteRT."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.compat import tflite as lite
from strop.compat.tflite import source, tensorflow
from strop.compat.tflite.converter import ConverterError
from strop.compat.tflite.interpreter import Interpreter
from strop.frontend.tflite_sheet import parse
from tests.compat.test_tflite_converter import converter, lenet, samples
from tests.compat.test_tflite_interpreter import fails, two_ops
from tests.frontend.tflite_models import Maker

__all__ = ["lenet"]  # a fixture


def test_errors_have_the_types_and_texts_of_litert() -> None:
    file = two_ops()
    interpreter = Interpreter(model_content=file)
    fails(RuntimeError, "Invoke called on model that is not ready.", interpreter.invoke)
    fails(ValueError, "Tensor data is null. Run allocate_tensors() first", lambda: interpreter.get_tensor(0))
    fails(ValueError, "Cannot set tensor: Tensor is unallocated. Try calling allocate_tensors() first", lambda: interpreter.set_tensor(0, np.zeros((1, 2), np.int8)))
    interpreter.allocate_tensors()
    for value, text in (
        (np.zeros((1, 2), np.float32), "Cannot set tensor: Got value of type FLOAT32 but expected type INT8 for input 0, name: x "),
        ([[1, 2]], "Cannot set tensor: Got value of type INT64 but expected type INT8 for input 0, name: x "),
        (np.zeros((2, 2), np.int8), "Cannot set tensor: Dimension mismatch. Got 2 but expected 1 for dimension 0 of input 0."),
        (np.zeros(2, np.int8), "Cannot set tensor: Dimension mismatch. Got 1 but expected 2 for input 0."),
        ("text", "Cannot set tensor: Got value of type STRING but expected type INT8"),
    ):
        fails(ValueError, text, lambda value=value: interpreter.set_tensor(0, value))  # type: ignore[misc]
    fails(ValueError, "is a constant of the model", lambda: interpreter.set_tensor(1, np.zeros((1, 2), np.int8)))
    fails(ValueError, "Invalid tensor index 99999 exceeds max tensor index 4", lambda: interpreter.get_tensor(99999))
    fails(ValueError, "Invalid tensor index -1 exceeds max tensor index 4", lambda: interpreter.set_tensor(-1, np.zeros(1, np.int8)))
    fails(ValueError, "Invalid subgraph index 9 exceeds max subgraph index 1", lambda: interpreter.get_tensor(0, 9))
    fails(TypeError, "incompatible function arguments", lambda: interpreter.get_tensor(1.0))  # type: ignore[arg-type]
    fails(ValueError, "experimental_preserve_all_tensors", lambda: interpreter.get_tensor(2))
    fails(RuntimeError, "tensor_index >= 0 was not true", lambda: interpreter.resize_tensor_input(99, [1]))
    fails(RuntimeError, "Attempting to resize a fixed-size tensor.", lambda: interpreter.resize_tensor_input(1, [1]))
    fails(
        RuntimeError, "Attempting to resize dimension 0 of tensor 0 with value 1 to 2. ResizeInputTensorStrict only allows mutating unknown dimensions identified by -1.",
        lambda: interpreter.resize_tensor_input(0, [2, 2], strict=True),
    )  # fmt: skip


def test_models_that_cannot_be_opened(tmp_path: Path) -> None:
    fails(ValueError, "`model_path` or `model_content` must be specified.", Interpreter)
    fails(ValueError, "Can't both provide `model_path` and `model_content`", lambda: Interpreter("a", b"b"))
    fails(ValueError, "Could not open '/nowhere.tflite'", lambda: Interpreter("/nowhere.tflite"))
    fails(ValueError, "The model is not a valid Flatbuffer buffer", lambda: Interpreter(model_content=b"junk" * 9))
    fails(TypeError, "model_content must be bytes", lambda: Interpreter(model_content="text"))  # type: ignore[arg-type]
    for options, text in (({"num_threads": 0}, "num_threads should >= 1"), ({"num_threads": "a"}, "type of num_threads should be int"), ({"experimental_op_resolver_type": 5}, "Unrecognized passed in op resolver type: 5")):
        fails(ValueError, text, lambda options=options: Interpreter(model_content=two_ops(), **options))  # type: ignore[misc]
    cut = tmp_path / "cut.strop"
    strop.build(two_ops(), level=0).save(cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    fails(ValueError, "truncated", lambda: Interpreter(cut))


def test_what_cannot_be_compiled_is_told_when_tensors_are_allocated() -> None:
    maker = Maker()
    maker.main.outputs = [maker.main.tensor("y", (2,))]
    maker.main.op("CUSTOM", [maker.main.input("x", (2,))], maker.main.outputs, custom="Unheard")
    interpreter = Interpreter(model_content=maker.bytes())
    fails(RuntimeError, "custom op Unheard is not supported", interpreter.allocate_tensors)
    fails(RuntimeError, "Invoke called on model that is not ready.", interpreter.invoke)


def test_settings_that_contradict_each_other_are_refused(lenet: Path) -> None:
    int8 = lite.TargetSpec(supported_ops=[lite.OpsSet.TFLITE_BUILTINS_INT8])
    quantized = {"optimizations": [lite.Optimize.DEFAULT]}
    for settings, text in (
        ({**quantized, "target_spec": int8}, "For full integer quantization, a `representative_dataset` must be specified."),
        ({**quantized, "target_spec": lite.TargetSpec(supported_ops=[lite.OpsSet.TFLITE_BUILTINS_INT8], supported_types=[np.float16])}, "should be left uninitizalized or set to {tf.int8}"),
        ({"inference_input_type": np.int8}, "The inference_input_type and inference_output_type must be tf.float32."),
        ({**quantized, "representative_dataset": samples, "inference_output_type": np.int16}, "must be in ['tf.float32', 'tf.int8', 'tf.uint8']."),
        ({**quantized, "target_spec": lite.TargetSpec(supported_types=[tensorflow.bfloat16])}, "bfloat16 are not written"),
        ({"ir_dump_dir": "/tmp"}, "ir_dump_dir is refused"),
    ):  # fmt: skip
        fails(ValueError, text, converter(lenet, **settings).convert)  # type: ignore[arg-type]


def test_models_that_cannot_be_converted(lenet: Path, tmp_path: Path) -> None:
    fails(OSError, "SavedModel file does not exist at: /nowhere", lambda: lite.TFLiteConverter.from_saved_model("/nowhere"))
    fails(ValueError, "Only support a single signature key.", lambda: lite.TFLiteConverter.from_saved_model(lenet, signature_keys=["a", "b"]))
    fails(ValueError, "only the MetaGraph with the tag 'serve' is read", lambda: lite.TFLiteConverter.from_saved_model(lenet, tags={"train"}))
    fails(ValueError, "Invalid signature key 'bad' found. Valid keys are 'serving_default'.", lite.TFLiteConverter.from_saved_model(lenet, signature_keys=["bad"]).convert)
    fails(ValueError, "No ConcreteFunction is specified.", lambda: lite.TFLiteConverter.from_concrete_functions([]))
    fails(ValueError, "can only convert a single ConcreteFunction", lambda: lite.TFLiteConverter.from_concrete_functions([1, 2]))
    fails(ValueError, "Jax functions are not read", lambda: lite.TFLiteConverter.experimental_from_jax([1], [2]))
    fails(OSError, "does not exist", lambda: lite.TFLiteConverter.from_frozen_graph("/nowhere.pb", [], []))
    fails(ConverterError, "this kind of model is not read", lite.TFLiteConverter.from_keras_model(SimpleNamespace()).convert)
    (tmp_path / "saved_model.pb").write_bytes(b"junk")
    fails(ConverterError, "", lite.TFLiteConverter.from_saved_model(tmp_path).convert)


def test_what_the_debugger_refuses(lenet: Path) -> None:
    debugger, options = lite.experimental.QuantizationDebugger, lite.experimental.QuantizationDebugOptions
    fails(ValueError, "Provided metrics have duplicate keys.", lambda: options(layer_debug_metrics={"a": np.sum}, model_debug_metrics={"a": np.sum}))  # type: ignore[dict-item]
    fails(ValueError, "layers are not left out of quantization", lambda: options(denylisted_ops=["CONV_2D"]))
    fails(ValueError, "Please check if the quantized model is in debug mode", lambda: debugger(quant_debug_model_content=two_ops("FLOAT32")))
    fails(ValueError, "neither a quantized model nor a converter is given", debugger)
    fails(ValueError, "must set optimizations", lambda: debugger(converter=converter(lenet)))
    fails(ValueError, "must set representative_dataset", lambda: debugger(converter=converter(lenet, optimizations=[lite.Optimize.DEFAULT])))
    own = debugger(quant_debug_model_content=two_ops(), debug_dataset=lambda: [[np.zeros((1, 2), np.float32)] * 2], debug_options=options(model_debug_metrics={"m": lambda a, b: 0.0}))
    fails(ValueError, "Number of inputs provided (2) does not match number of inputs to the model (1)", own.run)
    fails(ValueError, "No converter found", own.get_nondebug_quantized_model)
    own = debugger(quant_debug_model_content=two_ops(), debug_dataset=lambda: [[np.zeros((1, 2), np.float32)]], debug_options=options(model_debug_metrics={"m": lambda a, b: 0.0}))
    fails(ValueError, "model_debug_metrics need a float model", own.run)
    fails(ValueError, "no debug_dataset is given", debugger(quant_debug_model_content=two_ops()).run)


def test_sheets_that_cannot_be_read() -> None:
    for broken in ("", "tflite 2 1 0 %\nend", "tflite 1 1 0 %", "tflite 1 1 0 %\ninput 0\noutput\nend", "tflite 1 1 0 %\ntensor 0 FLOAT32 - x 99999999999 1\nend", "tflite 1 1 0 %\nwhat\nend"):
        with pytest.raises(strop.EngineFileError, match="cannot be read"):
            parse(broken, "here")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "find_spec", lambda name: None)
    fails(strop.OptionError, "the package tflite is not installed", lambda: Interpreter(model_content=two_ops()))


def test_engines_whose_variables_do_not_fit(tmp_path: Path) -> None:
    engine = strop.build(two_ops(), level=0)
    text = engine.attachment("tflite")
    assert text is not None
    engine.attach("tflite", text.replace(b"end\n", b"variable x x.next 4\nend\n")).save(tmp_path / "e.strop")
    fails(ValueError, "the engine's variables do not fit it", lambda: Interpreter(tmp_path / "e.strop"))
