"""``tf.lite.TFLiteConverter``: TensorFlow models to .tflite files by ``strop.convert``, without TensorFlow."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from strop.compat.tflite.options import (
    OpsSet,
    Optimize,
    RepresentativeDataset,
    TargetSpec,
    dtype_name,
)
from strop.engine.convert import conversion
from strop.errors import OptionError, StropError
from strop.frontend.table import read

log = logging.getLogger("strop.compat.tflite")

_NO_DATA = "For full integer quantization, a `representative_dataset` must be specified."
_INT16X8 = OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
#: Settings that change nothing here, and their defaults.
_NO_EFFECT = {
    "allow_custom_ops": False, "experimental_new_converter": True, "experimental_new_quantizer": True, "experimental_enable_resource_variables": True,
    "experimental_new_dynamic_range_quantizer": True, "exclude_conversion_metadata": False, "unfold_batchmatmul": False,
    "legalize_custom_tensor_list_ops": False, "experimental_lower_to_saved_model": True, "canonicalizing_inf_as_min_max_float": True,
    "serialize_debug_metadata": False, "model_origin_framework": "UNSET", "experimental_mlir_quantizer": False,
}  # fmt: skip
#: Settings that ask for what is not there.
_REFUSED = {
    "experimental_use_stablehlo_quantizer": False, "experimental_stablehlo_quantizer_config": None, "ir_dump_dir": None, "ir_dump_pass_regex": None,
    "ir_dump_func_regex": None, "enable_timing": None, "print_ir_before": None, "print_ir_after": None, "print_ir_module_scope": None,
    "elide_elementsattrs_if_larger": None,
}  # fmt: skip


class ConverterError(Exception):
    """A model cannot be converted: the text says what and where."""


class TFLiteConverter:
    """Converts one model.

    Attributes:
        optimizations: a collection of ``Optimize``; none: weights stay in 32-bit floats.
        representative_dataset: samples, see ``RepresentativeDataset``, or its function itself.
        target_spec: see ``TargetSpec``.
        inference_input_type, inference_output_type: element types of float inputs and outputs of integer models.
    """

    def __init__(self, funcs: Any = None, trackable_obj: Any = None) -> None:
        self._model: Any = funcs
        self._signature: str | None = None
        self._shapes: Mapping[str, Any] | None = None
        self.optimizations: Any = set()
        self.representative_dataset: Any = None
        self.target_spec = TargetSpec()
        self.inference_input_type: Any = np.float32
        self.inference_output_type: Any = np.float32
        for name, default in {**_NO_EFFECT, **_REFUSED}.items():
            setattr(self, name, default)

    # ---- where models come from

    @classmethod
    def from_saved_model(cls, saved_model_dir: Any, signature_keys: Sequence[str] | None = None, tags: Any = None) -> TFLiteConverter:
        """A SavedModel's folder.

        Args:
            saved_model_dir: the folder.
            signature_keys: one key; None for ``serving_default`` or the only signature.
            tags: of the MetaGraph: ``{"serve"}``.

        Raises:
            OSError: there is no SavedModel.
            ValueError: several signatures, which one file has not here, or other tags.
        """
        folder = Path(saved_model_dir)
        if not (folder / "saved_model.pb").is_file():
            raise OSError(f"SavedModel file does not exist at: {saved_model_dir}{{saved_model.pbtxt|saved_model.pb}}")
        if tags is not None and set([tags] if isinstance(tags, str) else tags) != {"serve"}:
            raise ValueError(f"only the MetaGraph with the tag 'serve' is read, not {tags}")
        if signature_keys is not None and len(signature_keys) != 1:
            raise ValueError("Only support a single signature key.")
        converter = cls(folder)
        converter._signature = None if signature_keys is None else signature_keys[0]
        return converter

    @classmethod
    def from_keras_model(cls, model: Any) -> TFLiteConverter:
        """A Keras model, or the path of a .keras or .h5 file."""
        return cls(model)

    @classmethod
    def from_concrete_functions(cls, funcs: Sequence[Any], trackable_obj: Any = None) -> TFLiteConverter:
        """A list with one ConcreteFunction.

        Raises:
            ValueError: none, or several.
        """
        if not funcs:
            raise ValueError("No ConcreteFunction is specified.")
        if len(funcs) > 1:
            raise ValueError("This converter can only convert a single ConcreteFunction. Converting multiple functions is under development.")
        return cls(funcs[0], trackable_obj)

    @classmethod
    def from_frozen_graph(
        cls, graph_def_file: Any, input_arrays: Sequence[str], output_arrays: Sequence[str], input_shapes: Mapping[str, Any] | None = None
    ) -> TFLiteConverter:
        """A frozen graph of TensorFlow 1.

        Args:
            graph_def_file: the .pb file.
            input_arrays, output_arrays: names of all its inputs and outputs.
            input_shapes: shapes by input.

        Raises:
            OSError: there is no such file.
            ValueError: the graph has other inputs or outputs.
        """
        if not Path(graph_def_file).is_file():
            raise OSError(f"File '{graph_def_file}' does not exist.")
        converter = cls(Path(graph_def_file))
        converter._shapes = {name: tuple(shape) for name, shape in (input_shapes or {}).items()} or None
        with _as_converter_error():
            graph = read(converter._model, converter._shapes)
        for what, given, known in (("input", input_arrays, [v.name for v in graph.inputs]), ("output", output_arrays, graph.output_names)):
            if {name.removesuffix(":0") for name in given} != {name.removesuffix(":0") for name in known}:
                raise ValueError(f"the {what}s of the graph are {', '.join(known)}, not {', '.join(given)}; parts of a graph are not converted")
        return converter

    @classmethod
    def from_keras_model_file(cls, model_file: Any, **parts: Any) -> TFLiteConverter:
        """A Keras model's file, as version 1 names it; ValueError for parts of a model."""
        if any(parts.values()):
            raise ValueError(f"parts of a model are not converted: {', '.join(k for k, v in parts.items() if v)}")
        return cls.from_keras_model(model_file)

    @classmethod
    def from_session(cls, sess: Any, input_tensors: Any, output_tensors: Any) -> TFLiteConverter:
        """Refused: sessions of TensorFlow 1 are not read."""
        raise ValueError("sessions are not read: freeze the graph and use from_frozen_graph, or save a SavedModel")

    @classmethod
    def experimental_from_jax(cls, serving_funcs: Any, inputs: Any) -> TFLiteConverter:
        """Refused: Jax functions are not read."""
        raise ValueError("Jax functions are not read: write them as a SavedModel with jax2tf, or export ONNX")

    # ---- conversion

    def get_input_arrays(self) -> list[str]:
        """Names of the model's inputs."""
        with _as_converter_error():
            return [value.name for value in read(self._model, self._shapes, signature=self._signature).inputs]

    def convert(self) -> bytes:
        """The .tflite file.

        Raises:
            ValueError: settings that contradict each other.
            ConverterError: the model is not read, or has what TensorFlow Lite has no operators for.
            RuntimeError: an operator without an integer form where nothing else is allowed.
        """
        precision = self._precision()
        types = self._io_types(precision)
        self._note()
        is_integer = precision in ("int8", "int16x8")
        with _as_converter_error():
            try:
                made = conversion(
                    self._model, "tflite", precision=precision, calibration=self._samples if is_integer else None, shapes=self._shapes,
                    signature=self._signature, input_dtype=types[0], output_dtype=types[1],
                )  # fmt: skip
            except OptionError as error:
                if "signature" in str(error):
                    raise ValueError(f"Invalid signature key '{self._signature}' found. Valid keys are '{error.expected}'.") from error
                raise
        for note in made.notes:
            log.info("%s", note)
        floats = made.summary.get("floats") or ()
        if is_integer and floats and not self._allows_floats():
            raise RuntimeError(f"Quantization not yet supported for op: {', '.join(map(repr, floats))}")
        return made.data

    def _allows_floats(self) -> bool:
        ops = set(self.target_spec.supported_ops)
        return (OpsSet.TFLITE_BUILTINS in ops or OpsSet.SELECT_TF_OPS in ops) and self._types() != {"int8"}

    def _types(self) -> set[str]:
        return {dtype_name(t) for t in self.target_spec.supported_types}

    def _precision(self) -> str:
        """As TensorFlow chooses it: by optimizations, samples, ops and types."""
        ops, types = set(self.target_spec.supported_ops), self._types()
        for old in (Optimize.OPTIMIZE_FOR_SIZE, Optimize.OPTIMIZE_FOR_LATENCY):
            if old in self.optimizations:
                log.warning("Optimization option %s is deprecated, please use optimizations=[Optimize.DEFAULT] instead.", old)
        if OpsSet.TFLITE_BUILTINS_INT8 in ops or types == {"int8"}:
            if ops == {OpsSet.TFLITE_BUILTINS_INT8} and types not in (set(), {"int8"}):
                raise ValueError(
                    "As full integer quantization has been enabled by setting `target_spec.supported_ops`={tf.lite.OpsSet.TFLITE_BUILTINS_INT8}, "
                    "thus `target_spec.supported_types` should be left uninitizalized or set to {tf.int8}."
                )
            if not self.representative_dataset:
                raise ValueError(_NO_DATA)
        if not set(self.optimizations) & {Optimize.DEFAULT, Optimize.OPTIMIZE_FOR_SIZE, Optimize.OPTIMIZE_FOR_LATENCY}:
            return "fp32"
        smallest = min((np.dtype(t).itemsize for t in types if t != "bfloat16"), default=1)
        if types == {"bfloat16"}:
            raise ValueError("files with weights in bfloat16 are not written: use tf.float16")
        if "float16" in types and smallest == 2:
            return "fp16"
        if types and smallest > 1:
            return "fp32"
        if self.representative_dataset is None:
            return "dynamic"
        return "int16x8" if _INT16X8 in ops else "int8"

    def _io_types(self, precision: str) -> tuple[str | None, str | None]:
        """Element types of inputs and outputs, None for floats."""
        names = [dtype_name(t) for t in (self.inference_input_type, self.inference_output_type)]
        allowed = {"int8": ("float32", "int8", "uint8"), "int16x8": ("float32", "int16")}.get(precision, ("float32",))
        if any(name not in allowed for name in names):
            wanted = "tf.float32" if len(allowed) == 1 else f"in {[f'tf.{name}' for name in allowed]}"
            raise ValueError(f"The inference_input_type and inference_output_type must be {wanted}.")
        found = [None if name == "float32" else name for name in names]
        return found[0], found[1]

    def _samples(self) -> Iterator[Any]:
        """What the representative dataset gives, as arrays; of pairs of a signature's key and a dict, the dict."""
        given = self.representative_dataset
        make = given.input_gen if isinstance(given, RepresentativeDataset) else given
        for sample in make():
            if isinstance(sample, tuple) and len(sample) == 2 and isinstance(sample[0], str):
                sample = sample[1]
            yield {k: np.asarray(v) for k, v in sample.items()} if isinstance(sample, Mapping) else [np.asarray(v) for v in sample]

    def _note(self) -> None:
        for name, usual in _REFUSED.items():
            if getattr(self, name) != usual:
                raise ValueError(f"{name} is refused: there is no such part of Strop's converter")
        for name, default in _NO_EFFECT.items():
            if getattr(self, name) != default:
                log.info("%s has no effect", name)
        if Optimize.EXPERIMENTAL_SPARSITY in self.optimizations:
            log.warning("EXPERIMENTAL_SPARSITY has no effect: weights are written dense")
        if OpsSet.SELECT_TF_OPS in set(self.target_spec.supported_ops):
            log.info("SELECT_TF_OPS has no effect: ops are written as builtin operators, or refused")


class _as_converter_error:
    """What Strop refuses or finds wrong as the exception of TensorFlow's converter."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, StropError):
            raise ConverterError(str(error)) from error
