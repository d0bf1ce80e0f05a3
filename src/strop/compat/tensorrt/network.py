"""INetworkDefinition: every ``add_*`` of all versions. A wrong call logs why and answers None, as TensorRT's does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from strop.compat.tensorrt import enums
from strop.compat.tensorrt.adding import adds, name_in
from strop.compat.tensorrt.basics import (
    ILogger,
    Managed,
    array_of,
    failed,
    note,
    own_dtype,
)
from strop.compat.tensorrt.later import LaterLayers
from strop.compat.tensorrt.layers import CLASSES, ILayer
from strop.compat.tensorrt.plugin import op_of
from strop.compat.tensorrt.tensor import ITensor
from strop.errors import UnsupportedError
from strop.frontend import network as nw
from strop.ir.dtype import DType


class INetworkDefinition(LaterLayers, Managed):
    """A network under construction."""

    def __init__(self, logger: ILogger, flags: int, implicit_batch: bool | None) -> None:
        """``implicit_batch`` None: decided by the first layer that takes samples of a known rank."""
        self.logger = logger
        self.flags = flags
        self.own = nw.Network(implicit_batch=bool(implicit_batch))
        self._undecided = implicit_batch is None
        self.output_types: dict[nw.Tensor, DType] = {}
        self.error_recorder: Any = None
        self.builder: Any = None
        self.debug_tensors: set[nw.Tensor] = set()
        self.plugins: dict[str, Any] = {}
        self.loops: dict[Any, Any] = {}
        self._tensors: dict[nw.Tensor, ITensor] = {}
        self._layers: dict[int, ILayer] = {}
        self._weight_names: dict[int, str] = {}

    # ---- wrapping

    def failed(self, error: Exception | str) -> None:
        """Logs an error and records it."""
        failed(self.logger, error)
        if self.error_recorder is not None:
            self.error_recorder.report_error(enums.ErrorCodeTRT.INVALID_ARGUMENT, str(error))

    def tensor(self, own: nw.Tensor) -> ITensor:
        """The one ITensor of a tensor."""
        if own not in self._tensors:
            self._tensors[own] = ITensor(self, own)
        return self._tensors[own]

    def known_tensors(self) -> list[ITensor]:
        """Tensors that were asked for."""
        return list(self._tensors.values())

    def layer(self, own: nw.Layer) -> ILayer:
        """The one ILayer of a layer."""
        if id(own) not in self._layers:
            self._layers[id(own)] = CLASSES.get(type(own), ILayer)(self, own)
        return self._layers[id(own)]

    def _add(self, own: nw.Layer, *inputs: ITensor | None) -> Any:
        if self._undecided and type(own) in _PER_SAMPLE and isinstance(inputs[0], ITensor):
            self._decide(len(inputs[0].shape) == _PER_SAMPLE[type(own)])
        for index, tensor in enumerate(inputs):
            if tensor is not None and not isinstance(tensor, ITensor):
                raise TypeError(f"operand {index} is a {type(tensor).__name__}, not an ITensor")
        self.own.add(own, *(None if t is None else t.own for t in inputs))
        return self.layer(own)

    def _decide(self, implicit: bool) -> None:
        """Says whether the batch is implicit, where ``create_network`` was not told."""
        self._undecided = False
        if implicit:
            self.own.implicit_batch = True
            self.own.forget()

    # ---- inputs and outputs

    @adds
    def add_input(self, name: str, dtype: Any, shape: Sequence[int]) -> Any:
        """Declares an input; -1 for free sizes."""
        return self.tensor(self.own.add_input(name, own_dtype(dtype), tuple(shape)))

    @adds
    def mark_output(self, tensor: ITensor) -> None:
        """Makes a tensor an output."""
        if tensor is None:
            raise TypeError("the tensor is None: an earlier call failed")
        self.own.mark_output(tensor.own)

    @adds
    def unmark_output(self, tensor: ITensor) -> None:
        """Makes a tensor no output."""
        self.own.unmark_output(tensor.own)

    def mark_output_for_shapes(self, tensor: ITensor) -> bool:
        """Makes a tensor of sizes an output."""
        self.mark_output(tensor)
        return True

    def unmark_output_for_shapes(self, tensor: ITensor) -> bool:
        """Makes a tensor of sizes no output."""
        self.unmark_output(tensor)
        return True

    def mark_debug(self, tensor: ITensor) -> bool:
        """Makes a tensor visible to a debug listener."""
        self.debug_tensors.add(tensor.own)
        return True

    def unmark_debug(self, tensor: ITensor) -> bool:
        """The opposite of ``mark_debug``."""
        self.debug_tensors.discard(tensor.own)
        return True

    def is_debug_tensor(self, tensor: ITensor) -> bool:
        """Whether a debug listener sees a tensor."""
        return tensor.own in self.debug_tensors

    @adds
    def remove_tensor(self, tensor: ITensor) -> None:
        """Tensors that no output needs are left out anyway."""
        note(self.logger, "remove_tensor")

    # ---- convolution and pooling

    @adds
    def add_convolution_nd(self, input: ITensor, num_output_maps: int, kernel_shape: Any, kernel: Any = None, bias: Any = None) -> Any:
        """Convolution of 2 or 3 axes."""
        return self._add(nw.Convolution(num_output_maps, _window(kernel_shape), array_of(kernel), array_of(bias)), input)

    @adds
    def add_deconvolution_nd(self, input: ITensor, num_output_maps: int, kernel_shape: Any, kernel: Any = None, bias: Any = None) -> Any:
        """Transposed convolution of 2 or 3 axes."""
        return self._add(nw.Deconvolution(num_output_maps, _window(kernel_shape), array_of(kernel), array_of(bias)), input)

    add_convolution = add_convolution_nd
    add_deconvolution = add_deconvolution_nd

    @adds
    def add_pooling_nd(self, input: ITensor, type: Any, window_size: Any) -> Any:
        """Pooling over 2 or 3 axes."""
        window = _window(window_size)
        return self._add(nw.Pooling(name_in(enums.PoolingType, type), window, stride=window), input)

    add_pooling = add_pooling_nd

    @adds
    def add_fully_connected(self, input: ITensor, num_outputs: int, kernel: Any, bias: Any = None) -> Any:
        """A product with the last three axes taken as one."""
        return self._add(nw.FullyConnected(num_outputs, array_of(kernel), array_of(bias)), input)

    # ---- element by element

    @adds
    def add_activation(self, input: ITensor, type: Any) -> Any:
        """An activation function."""
        kind = name_in(enums.ActivationType, type)
        alpha, beta, _ = nw.elementwise.ACTIVATIONS[kind]
        return self._add(nw.Activation(kind, alpha, beta), input)

    @adds
    def add_lrn(self, input: ITensor, window: int, alpha: float, beta: float, k: float) -> Any:
        """Local response normalization."""
        return self._add(nw.LRN(window, alpha, beta, k), input)

    @adds
    def add_scale(self, input: ITensor, mode: Any, shift: Any = None, scale: Any = None, power: Any = None) -> Any:
        """(x * scale + shift) ^ power."""
        return self.add_scale_nd(input, mode, shift, scale, power, max(len(input.own.shape) - 3, 0))

    @adds
    def add_scale_nd(self, input: ITensor, mode: Any, shift: Any = None, scale: Any = None, power: Any = None, channel_axis: int = 0) -> Any:
        """(x * scale + shift) ^ power with channels along an axis."""
        arrays = array_of(shift), array_of(scale), array_of(power)
        return self._add(nw.Scale(name_in(enums.ScaleMode, mode), *arrays, channel_axis), input)

    @adds
    def add_elementwise(self, input1: ITensor, input2: ITensor, op: Any) -> Any:
        """A function of two operands."""
        return self._add(nw.Elementwise(name_in(enums.ElementWiseOperation, op)), input1, input2)

    @adds
    def add_unary(self, input: ITensor, op: Any) -> Any:
        """A function of one operand."""
        return self._add(nw.Unary(name_in(enums.UnaryOperation, op)), input)

    @adds
    def add_parametric_relu(self, input: ITensor, slopes: ITensor) -> Any:
        """x, or slope * x below 0."""
        return self._add(nw.ParametricRelu(), input, slopes)

    @adds
    def add_select(self, condition: ITensor, then_input: ITensor, else_input: ITensor) -> Any:
        """One of two operands per element."""
        return self._add(nw.Select(), condition, then_input, else_input)

    @adds
    def add_identity(self, input: ITensor) -> Any:
        """The operand."""
        return self._add(nw.Identity(), input)

    @adds
    def add_cast(self, input: ITensor, to_type: Any) -> Any:
        """The operand in another dtype."""
        return self._add(nw.Cast(own_dtype(to_type).name), input)

    # ---- normalization

    @adds
    def add_softmax(self, input: ITensor) -> Any:
        """Softmax along ``axes``."""
        rank = len(input.own.shape)
        return self._add(nw.Softmax(1 << max(rank - 3, 0)), input)

    @adds
    def add_ragged_softmax(self, input: ITensor, bounds: ITensor) -> Any:
        """Softmax of rows of different lengths."""
        return self._add(nw.RaggedSoftmax(), input, bounds)

    @adds
    def add_normalization(self, input: ITensor, scale: ITensor, bias: ITensor, axesMask: int) -> Any:
        """Normalization over axes."""
        return self._add(nw.Normalization(axesMask), input, scale, bias)

    @adds
    def add_normalization_v2(self, input: ITensor, scale: ITensor, bias: ITensor, axesMask: int) -> Any:
        """Normalization over axes, with scales that broadcast."""
        return self._add(nw.Normalization(axesMask, v2=True), input, scale, bias)

    # ---- data

    @adds
    def add_concatenation(self, inputs: Sequence[ITensor]) -> Any:
        """Operands one after another."""
        axis = max(len(inputs[0].own.shape) - 3, 0)
        return self._add(nw.Concatenation(axis), *inputs)

    @adds
    def add_padding_nd(self, input: ITensor, pre_padding: Any, post_padding: Any) -> Any:
        """Zeros around the last two axes."""
        return self._add(nw.Padding(_window(pre_padding), _window(post_padding)), input)

    add_padding = add_padding_nd

    @adds
    def add_shuffle(self, input: ITensor) -> Any:
        """Transpose, reshape, transpose."""
        return self._add(nw.Shuffle(), input)

    @adds
    def add_slice(self, input: ITensor, start: Any, shape: Any, stride: Any) -> Any:
        """Elements at regular places."""
        return self._add(nw.Slice(tuple(start), tuple(shape), tuple(stride)), input)

    @adds
    def add_squeeze(self, input: ITensor, axes: ITensor) -> Any:
        """Without axes of size 1."""
        return self._add(nw.Squeeze(), input, axes)

    @adds
    def add_unsqueeze(self, input: ITensor, axes: ITensor) -> Any:
        """With new axes of size 1."""
        return self._add(nw.Unsqueeze(), input, axes)

    @adds
    def add_constant(self, shape: Any, weights: Any) -> Any:
        """A constant."""
        array = array_of(weights)
        if array is None:
            raise ValueError("a constant without elements")
        return self._add(nw.Constant(array, tuple(shape)))

    @adds
    def add_shape(self, input: ITensor) -> Any:
        """The sizes of the operand."""
        return self._add(nw.Shape(), input)

    @adds
    def add_fill(self, shape: Any, op: Any, output_type: Any = enums.DataType.FLOAT) -> Any:
        """An arithmetic sequence."""
        if op != enums.FillOperation.LINSPACE:
            raise UnsupportedError("random numbers are not supported", where="add_fill", got=op)
        return self._add(nw.Fill(tuple(shape), dtype=own_dtype(output_type).name))

    @adds
    def add_gather(self, input: ITensor, indices: ITensor, axis: int) -> Any:
        """Slices by index."""
        return self._add(nw.Gather(axis=axis), input, indices)

    @adds
    def add_gather_v2(self, input: ITensor, indices: ITensor, mode: Any) -> Any:
        """Slices or elements by index."""
        return self._add(nw.Gather(name_in(enums.GatherMode, mode)), input, indices)

    @adds
    def add_scatter(self, data: ITensor, indices: ITensor, updates: ITensor, mode: Any) -> Any:
        """A copy with elements set."""
        return self._add(nw.Scatter(name_in(enums.ScatterMode, mode)), data, indices, updates)

    @adds
    def add_one_hot(self, indices: ITensor, values: ITensor, depth: ITensor, axis: int) -> Any:
        """One-hot vectors."""
        return self._add(nw.OneHot(axis), indices, values, depth)

    @adds
    def add_reverse_sequence(self, input: ITensor, sequence_lens: ITensor) -> Any:
        """Sequences in reverse order."""
        return self._add(nw.ReverseSequence(), input, sequence_lens)

    @adds
    def add_resize(self, input: ITensor) -> Any:
        """Another size."""
        return self._add(nw.Resize(), input)

    @adds
    def add_grid_sample(self, input: ITensor, grid: ITensor) -> Any:
        """Interpolation at the places of a grid."""
        return self._add(nw.GridSample(), input, grid)

    # ---- folding

    @adds
    def add_reduce(self, input: ITensor, op: Any, axes: int, keep_dims: bool) -> Any:
        """One number per slice."""
        return self._add(nw.Reduce(name_in(enums.ReduceOperation, op), axes, keep_dims), input)

    @adds
    def add_topk(self, input: ITensor, op: Any, k: int, axes: int, indices_type: Any = enums.DataType.INT32) -> Any:
        """The largest or smallest elements."""
        return self._add(nw.TopK(name_in(enums.TopKOperation, op), k, axes, own_dtype(indices_type).name), input)

    @adds
    def add_cumulative(self, input: ITensor, axis: ITensor, op: Any, exclusive: bool, reverse: bool) -> Any:
        """Running sums."""
        return self._add(nw.Cumulative(name_in(enums.CumulativeOperation, op), exclusive, reverse), input, axis)

    @adds
    def add_matrix_multiply(self, input0: ITensor, op0: Any, input1: ITensor, op1: Any) -> Any:
        """Products of matrices."""
        names = [("transpose" if op else "none") if isinstance(op, bool) else name_in(enums.MatrixOperation, op) for op in (op0, op1)]
        return self._add(nw.MatrixMultiply(*names), input0, input1)

    @adds
    def add_einsum(self, inputs: Sequence[ITensor], equation: str) -> Any:
        """Sums of products."""
        return self._add(nw.Einsum(equation), *inputs)

    # ---- quantization

    @adds
    def add_quantize(self, input: ITensor, scale: ITensor, output_type: Any = enums.DataType.INT8) -> Any:
        """Integers of floats."""
        return self._add(nw.Quantize(own_dtype(output_type).name), input, scale)

    @adds
    def add_dequantize(self, input: ITensor, scale: ITensor, output_type: Any = enums.DataType.FLOAT) -> Any:
        """Floats of integers."""
        if output_type != enums.DataType.FLOAT:
            raise UnsupportedError("dequantizing to another dtype than FLOAT", where="add_dequantize", got=output_type)
        return self._add(nw.Dequantize(), input, scale)

    # ---- recurrent

    @adds
    def add_rnn_v2(self, input: ITensor, layer_count: int, hidden_size: int, max_seq_length: int, op: Any) -> Any:
        """A stack of recurrent layers."""
        return self._add(nw.RNN(layer_count, hidden_size, max_seq_length, name_in(enums.RNNOperation, op)), input)

    # ---- plugins

    @adds
    def add_plugin_v2(self, inputs: Sequence[ITensor], plugin: Any) -> Any:
        """A plugin of version 2."""
        op = op_of(plugin, len(self.own.layers))
        self.plugins[op.name] = plugin
        return self._add(nw.CustomNode(op, plugin.num_outputs), *inputs)

    @adds
    def add_plugin_v3(self, inputs: Sequence[ITensor], shape_inputs: Sequence[ITensor], plugin: Any) -> Any:
        """A plugin of version 3."""
        if shape_inputs:
            raise UnsupportedError("operands that hold sizes of a plugin's results are not supported", where="add_plugin_v3")
        op = op_of(plugin, len(self.own.layers))
        self.plugins[op.name] = plugin
        count = plugin.get_capability_interface(enums.PluginCapabilityType.BUILD).num_outputs
        return self._add(nw.CustomNode(op, count), *inputs)

    @adds
    def add_plugin(self, func: Any, aot: Any = None) -> Any:
        """A plugin that is a function, applied by ``tensorrt.plugin.op``."""
        op = func.op(len(self.own.layers))
        self.plugins[op.name] = func
        count = len(op.infer([t.own.type for t in func.inputs]))
        return self._add(nw.CustomNode(op, count), *func.inputs)

    # ---- questions

    name = property(lambda self: self.own.name, lambda self, value: setattr(self.own, "name", value))
    num_layers = property(lambda self: len(self.own.layers))
    num_inputs = property(lambda self: len(self.own.inputs))
    num_outputs = property(lambda self: len(self.own.outputs))
    has_implicit_batch_dimension = property(lambda self: self.own.implicit_batch)
    has_explicit_precision = property(lambda self: False)

    def __len__(self) -> int:
        return len(self.own.layers)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, index: int) -> ILayer:
        return self.layer(self.own.layers[index])

    def __iter__(self) -> Iterator[ILayer]:
        return (self.layer(own) for own in self.own.layers)

    def get_layer(self, index: int) -> Any:
        """A layer, in the order in which they were added; None out of range."""
        return self[index] if 0 <= index < len(self) else None

    def get_input(self, index: int) -> Any:
        """An input; None out of range."""
        return self.tensor(self.own.inputs[index]) if 0 <= index < self.num_inputs else None

    def get_output(self, index: int) -> Any:
        """An output; None out of range."""
        return self.tensor(self.own.outputs[index]) if 0 <= index < self.num_outputs else None

    def get_flag(self, flag: Any) -> bool:
        """Whether a flag of ``create_network`` was given."""
        return bool(self.flags >> int(flag) & 1)

    def set_weights_name(self, weights: Any, name: str) -> bool:
        """Names weights for refitting."""
        array = array_of(weights)
        self._weight_names[0 if array is None else array.__array_interface__["data"][0]] = name
        return array is not None

    def weights_name(self, array: Any) -> str | None:
        """The name that weights were given."""
        return None if array is None else self._weight_names.get(np.asarray(array).__array_interface__["data"][0])

    def mark_weights_refittable(self, name: str) -> bool:
        """All weights of a refittable engine may be changed."""
        return True

    def unmark_weights_refittable(self, name: str) -> bool:
        """Not supported: all weights of a refittable engine may be changed."""
        return False

    def are_weights_marked_refittable(self, name: str) -> bool:
        """True."""
        return True


#: Kinds of layer and the rank of what they take where the batch is implicit.
_PER_SAMPLE = {nw.Convolution: 3, nw.Deconvolution: 3, nw.Pooling: 3, nw.FullyConnected: 3, nw.LRN: 3, nw.RNN: 2}


def _window(value: Any) -> tuple[int, ...]:
    return (int(value),) * 2 if isinstance(value, int) else tuple(int(v) for v in value)
