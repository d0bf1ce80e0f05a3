"""``tf.lite.experimental.QuantizationDebugger``: how far each layer of an integer model departs from floats.

A layer's difference is what TensorFlow's NumericVerify operator measures: the dequantized result of the quantized operator minus the result of
the same operator in floats on the dequantized operands.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from strop.compat.tflite.options import OpsSet
from strop.engine.build import build
from strop.engine.engine import Engine
from strop.frontend.tflite.model import load
from strop.frontend.tflite.reader import read
from strop.frontend.tflite.sheets import sheet_of
from strop.frontend.tflite_sheet import SHEET, Sheet, parse
from strop.ir.graph import Value
from strop.ops.quantize import Quantize

Array = NDArray[Any]
_METRICS: dict[str, Callable[[Array], Any]] = {
    "num_elements": lambda diffs: diffs.size,
    "stddev": np.std,
    "mean_error": np.average,
    "max_abs_error": lambda diffs: np.max(np.abs(diffs)),
    "mean_squared_error": lambda diffs: np.average(diffs**2),
}
_DENIED = "layers are not left out of quantization one by one; target_spec.supported_ops with TFLITE_BUILTINS lets operators without an integer form stay floats"


class QuantizationDebugOptions:
    """What is measured beside the figures that are always there.

    Attributes:
        layer_debug_metrics: name to a function of a layer's differences.
        model_debug_metrics: name to a function of the float and the quantized model's outputs.
        layer_direct_compare_metrics: name to a function of a layer's floats, integers, scale and zero point.
        fully_quantize: inputs and outputs are integers too.
    """

    def __init__(
        self, layer_debug_metrics: Mapping[str, Callable[..., float]] | None = None, model_debug_metrics: Mapping[str, Callable[..., float]] | None = None,
        layer_direct_compare_metrics: Mapping[str, Callable[..., float]] | None = None, denylisted_ops: Sequence[str] | None = None,
        denylisted_nodes: Sequence[str] | None = None, fully_quantize: bool = False,
    ) -> None:  # fmt: skip
        """ValueError when two metrics have one name, or layers are to stay floats."""
        keys = [k for metrics in (layer_debug_metrics, model_debug_metrics, layer_direct_compare_metrics) for k in metrics or ()]
        if len(keys) != len(set(keys)):
            raise ValueError("Provided metrics have duplicate keys.")
        if denylisted_ops or denylisted_nodes:
            raise ValueError(_DENIED)
        self.layer_debug_metrics, self.model_debug_metrics = layer_debug_metrics, model_debug_metrics
        self.layer_direct_compare_metrics = layer_direct_compare_metrics
        self.denylisted_ops, self.denylisted_nodes, self.fully_quantize = denylisted_ops, denylisted_nodes, fully_quantize


class QuantizationDebugger:
    """Runs an integer model on samples and tells how far each layer departs.

    Attributes:
        layer_statistics: layer (``NumericVerify/TENSOR:NUMBER``) to metric to its mean over the samples; None before ``run``.
        model_statistics: metric to its mean over the samples; None where none is asked for.
    """

    def __init__(
        self, quant_debug_model_path: Any = None, quant_debug_model_content: bytes | None = None, float_model_path: Any = None,
        float_model_content: bytes | None = None, debug_dataset: Callable[[], Iterable[Sequence[Array]]] | None = None,
        debug_options: QuantizationDebugOptions | None = None, converter: Any = None,
    ) -> None:  # fmt: skip
        """Any integer model will do: it needs no debugging operators.

        Raises:
            ValueError: the model has no quantized layers, or the converter would make none.
        """
        self._dataset = debug_dataset
        self.options = debug_options or QuantizationDebugOptions()
        self.converter = converter
        self.layer_statistics: dict[str, dict[str, Any]] | None = None
        self.model_statistics: dict[str, float] | None = None
        floats = float_model_content or (None if float_model_path is None else str(float_model_path))
        if converter is not None:
            if not converter.optimizations:
                raise ValueError("converter object must set optimizations to lite.Optimize.DEFAULT")
            if not converter.representative_dataset:
                raise ValueError("converter object must set representative_dataset")
            self.quant_model: Any = self._converted()
            if self.options.model_debug_metrics:
                kept, converter.optimizations = converter.optimizations, []
                ops, converter.target_spec.supported_ops = converter.target_spec.supported_ops, {OpsSet.TFLITE_BUILTINS}
                floats = converter.convert()
                converter.optimizations, converter.target_spec.supported_ops = kept, ops
        else:
            self.quant_model = quant_debug_model_content or (None if quant_debug_model_path is None else str(quant_debug_model_path))
            if self.quant_model is None:
                raise ValueError("neither a quantized model nor a converter is given")
        self._float_model = floats
        self._layers = _Layers(self.quant_model)
        if not self._layers.layers:
            raise ValueError("Please check if the quantized model is in debug mode: it has no quantized layers")

    def _converted(self) -> bytes:
        if not self.options.fully_quantize:
            return bytes(self.converter.convert())
        kept = self.converter.inference_input_type, self.converter.inference_output_type
        self.converter.inference_input_type = self.converter.inference_output_type = np.int8
        try:
            return bytes(self.converter.convert())
        finally:
            self.converter.inference_input_type, self.converter.inference_output_type = kept

    def get_nondebug_quantized_model(self) -> bytes:
        """The integer model; ValueError without a converter."""
        if self.converter is None:
            raise ValueError("No converter found, use this function with the converter option in the constructor.")
        return bytes(self.quant_model)

    def get_debug_quantized_model(self) -> bytes:
        """The same model: layers are compared outside of it."""
        return self.get_nondebug_quantized_model()

    def run(self) -> None:
        """Goes over the samples.

        Raises:
            ValueError: samples have another number of arrays than the model has inputs.
        """
        if self._dataset is None:
            raise ValueError("no debug_dataset is given")
        metrics = {**_METRICS, **(self.options.layer_debug_metrics or {})}
        found: dict[str, dict[str, list[float]]] = {}
        totals: dict[str, list[float]] = {}
        reference: _Layers | None = None
        for sample in self._dataset():
            arrays = [np.asarray(a) for a in sample]
            for layer in self._layers.run(arrays):
                row = found.setdefault(layer.name, {})
                for name, metric in metrics.items():
                    row.setdefault(name, []).append(float(metric(layer.difference)))
                for name, metric in (self.options.layer_direct_compare_metrics or {}).items():
                    row.setdefault(name, []).append(float(metric(layer.real, layer.stored, layer.scale, layer.zero)))
            for name, metric in (self.options.model_debug_metrics or {}).items():
                if self._float_model is None:
                    raise ValueError("model_debug_metrics need a float model")
                reference = reference or _Layers(self._float_model, only_outputs=True)
                totals.setdefault(name, []).append(float(metric(reference.outputs(arrays), self._layers.outputs(arrays))))
        self.layer_statistics = {layer: {name: float(np.nanmean(values)) for name, values in row.items()} for layer, row in found.items()}
        self.model_statistics = {name: float(np.mean(values)) for name, values in totals.items()} or None

    def layer_statistics_dump(self, file: IO[str]) -> None:
        """Writes the statistics of layers as CSV: op_name, tensor_idx, the metrics, scale, zero_point, tensor_name."""
        metrics = [*_METRICS, *(self.options.layer_debug_metrics or {}), *(self.options.layer_direct_compare_metrics or {})]
        out = csv.DictWriter(file, ["op_name", "tensor_idx", *dict.fromkeys(metrics), "scale", "zero_point", "tensor_name"])
        out.writeheader()
        sheet = self._layers.sheet
        makers = {k: op.code for op in sheet.operators for k in op.outputs}
        for name, row in (self.layer_statistics or {}).items():
            number = int(name.rpartition(":")[2])
            tensor = sheet.tensors[number]
            out.writerow({**row, "op_name": makers[number], "tensor_idx": number, "scale": tensor.scales[0], "zero_point": tensor.zeros[0], "tensor_name": tensor.name})


class _Layer:
    """What one quantized layer gave: integers, their grid, and the floats before they were rounded."""

    def __init__(self, name: str, stored: Array, real: Array, scale: float, zero: int) -> None:
        self.name, self.stored, self.real, self.scale, self.zero = name, stored, real, scale, zero
        self.difference = (stored.astype(np.float32) - np.float32(zero)) * np.float32(scale) - real


class _Layers:
    """A model whose quantized layers can be looked at."""

    def __init__(self, model: Any, only_outputs: bool = False) -> None:
        self._model, self._keep = model, not only_outputs
        self._engine: Engine | None = None
        self._shapes: list[tuple[int, ...]] = []
        self.sheet: Sheet = sheet_of(load(model))
        #: Numbers of quantized results of operators.
        made = {k for op in self.sheet.operators if op.code != "QUANTIZE" for k in op.outputs}
        self.layers = [k for k in sorted(made) if len(self.sheet.tensors[k].scales) == 1 and self.sheet.tensors[k].type in ("INT8", "UINT8", "INT16")]

    def _run(self, arrays: Sequence[Array]) -> dict[str, Array]:
        if len(arrays) != len(self.sheet.inputs):
            raise ValueError(f"Number of inputs provided ({len(arrays)}) does not match number of inputs to the model ({len(self.sheet.inputs)})")
        shapes = [a.shape for a in arrays]
        if self._engine is None or shapes != self._shapes:
            self._engine, self._shapes = self._built(shapes), shapes
        feeds = {}
        for number, array in zip(self.sheet.inputs, arrays, strict=True):
            tensor = self.sheet.tensors[number]
            if array.dtype == np.float32 and tensor.type in ("INT8", "UINT8", "INT16") and tensor.scales:
                info = np.iinfo(tensor.type.lower())
                array = np.clip(np.round(array / tensor.scales[0]) + tensor.zeros[0], info.min, info.max).astype(info.dtype)
            feeds[tensor.place.partition(":")[2]] = np.ascontiguousarray(array)
        return self._engine.run(feeds)

    def _built(self, shapes: Sequence[tuple[int, ...]]) -> Engine:
        names = [v.name for v in read(self._model).inputs]
        graph = read(self._model, dict(zip(names, shapes, strict=True)), keep=self._keep)
        if self._keep:
            values: list[Value] = list(graph.outputs)
            given = list(graph.output_names)
            for value, name in list(zip(graph.outputs, graph.output_names, strict=True)):
                if value.producer is not None and isinstance(value.producer.op, Quantize):
                    values.append(value.producer.operand(0))
                    given.append(f"real:{name}")
            graph.set_outputs(values, given)
        engine = build(graph, level=0, threads=1)
        carried = engine.attachment(SHEET)
        assert carried is not None, "the reader of .tflite files gives every graph a sheet"
        self.sheet = parse(carried.decode(), "the model")
        return engine

    def run(self, arrays: Sequence[Array]) -> list[_Layer]:
        """The layers whose integers come from floats that are rounded; others only move integers."""
        found, layers = self._run(arrays), []
        for number in self.layers:
            tensor = self.sheet.tensors[number]
            name = tensor.place.partition(":")[2]
            if f"real:{name}" in found:
                layers.append(_Layer(f"NumericVerify/{tensor.name}:{number}", found[name], found[f"real:{name}"], tensor.scales[0], tensor.zeros[0]))
        return layers

    def outputs(self, arrays: Sequence[Array]) -> list[Array]:
        """The model's outputs, as real numbers."""
        found, outputs = self._run(arrays), []
        for number in self.sheet.outputs:
            tensor = self.sheet.tensors[number]
            array = found[tensor.place.partition(":")[2]]
            if tensor.scales and array.dtype.kind in "iu":
                array = (array.astype(np.float32) - np.float32(tensor.zeros[0])) * np.float32(tensor.scales[0])
            outputs.append(array)
        return outputs
