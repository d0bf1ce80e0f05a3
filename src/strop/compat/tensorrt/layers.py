"""ILayer and one class per kind of layer: attributes of TensorRT's names over the parameters of Strop's layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.compat.tensorrt import enums
from strop.compat.tensorrt.attributes import Attribute, choice, number, sizes, weights
from strop.compat.tensorrt.basics import (
    Dims,
    DimsHW,
    Permutation,
    array_of,
    note,
    own_dtype,
    their_dtype,
)
from strop.compat.tensorrt.enums import DataType, LayerType
from strop.compat.tensorrt.tensor import ITensor
from strop.frontend import network as nw
from strop.ir.dtype import BY_NAME


class ILayer:
    """A layer of a network."""

    layer_type: Any = None
    own: Any

    def __init__(self, network: Any, own: nw.Layer) -> None:
        self.network, self.own = network, own
        self.metadata = ""
        self.wanted_precision: Any = None
        self._types: dict[int, Any] = {}

    @property
    def name(self) -> str:
        return str(self.own.name)

    @name.setter
    def name(self, value: str) -> None:
        self.own.name = value

    @property
    def type(self) -> Any:
        return type(self).layer_type

    num_inputs = property(lambda self: len(self.own.inputs))
    num_outputs = property(lambda self: len(self.own.outputs))

    def get_input(self, index: int) -> Any:
        """An operand; None where there is none."""
        found = self.own.inputs[index] if 0 <= index < len(self.own.inputs) else None
        return None if found is None else self.network.tensor(found)

    def get_output(self, index: int) -> Any:
        """A result; None where there is none."""
        return self.network.tensor(self.own.outputs[index]) if 0 <= index < len(self.own.outputs) else None

    def set_input(self, index: int, tensor: ITensor) -> None:
        """Makes the layer read another tensor."""
        self.own.set_input(index, tensor.own)

    # precision: a wish

    @property
    def precision(self) -> Any:
        return DataType.FLOAT if self.wanted_precision is None else self.wanted_precision

    @precision.setter
    def precision(self, value: Any) -> None:
        self.wanted_precision = value

    precision_is_set = property(lambda self: self.wanted_precision is not None)

    def reset_precision(self) -> None:
        """Forgets the precision."""
        self.wanted_precision = None

    def set_output_type(self, index: int, dtype: Any) -> None:
        """Gives a result another dtype."""
        self._types[index] = dtype
        self.network.output_types[self.own.outputs[index]] = own_dtype(dtype)

    def get_output_type(self, index: int) -> Any:
        """The dtype of a result."""
        return self._types.get(index, self.get_output(index).dtype)

    def output_type_is_set(self, index: int) -> bool:
        """Whether the dtype of a result was set."""
        return index in self._types

    def reset_output_type(self, index: int) -> None:
        """Forgets the dtype of a result."""
        self._types.pop(index, None)
        self.network.output_types.pop(self.own.outputs[index], None)


class _Window(ILayer):
    """Layers with a window that slides."""

    stride = sizes("stride", DimsHW)
    stride_nd = sizes("stride")
    padding_mode = choice("padding_mode", enums.PaddingMode)
    pre_padding = sizes("pre_padding")
    post_padding = sizes("post_padding")

    @property
    def padding(self) -> Any:
        """Symmetric pads."""
        return DimsHW(_pair(self.own.pre_padding))

    @padding.setter
    def padding(self, value: Any) -> None:
        self.own.pre_padding = self.own.post_padding = _pair(value)

    @property
    def padding_nd(self) -> Any:
        """Symmetric pads."""
        return Dims(_pair(self.own.pre_padding, len(self.own.window)))

    @padding_nd.setter
    def padding_nd(self, value: Any) -> None:
        self.own.pre_padding = self.own.post_padding = tuple(value)


def _pair(value: Any, count: int = 2) -> tuple[int, ...]:
    return (int(value),) * count if isinstance(value, int) else tuple(int(v) for v in value)


class IConvolutionLayer(_Window):
    layer_type = LayerType.CONVOLUTION
    num_output_maps = number("maps", int)
    num_groups = number("groups", int)
    kernel_size = sizes("window", DimsHW)
    kernel_size_nd = sizes("window")
    dilation = sizes("dilation", DimsHW)
    dilation_nd = sizes("dilation")
    kernel = weights("kernel")
    bias = weights("bias")


class IDeconvolutionLayer(IConvolutionLayer):
    layer_type = LayerType.DECONVOLUTION


class IFullyConnectedLayer(ILayer):
    layer_type = LayerType.FULLY_CONNECTED
    num_output_channels = number("maps", int)
    kernel = weights("kernel")
    bias = weights("bias")


class IPoolingLayer(_Window):
    layer_type = LayerType.POOLING
    type = pool_type = choice("type", enums.PoolingType)
    window_size = sizes("window", DimsHW)
    window_size_nd = sizes("window")
    blend_factor = number("blend_factor")
    average_count_excludes_padding = number("average_count_excludes_padding", bool)


class IActivationLayer(ILayer):
    layer_type = LayerType.ACTIVATION
    type = choice("type", enums.ActivationType)
    alpha = number("alpha")
    beta = number("beta")


class ILRNLayer(ILayer):
    layer_type = LayerType.LRN
    window_size = number("window", int)
    alpha = number("alpha")
    beta = number("beta")
    k = number("k")


class IScaleLayer(ILayer):
    layer_type = LayerType.SCALE
    mode = choice("mode", enums.ScaleMode)
    shift = weights("shift")
    scale = weights("scale")
    power = weights("power")
    channel_axis = number("channel_axis", int)


class ISoftMaxLayer(ILayer):
    layer_type = LayerType.SOFTMAX
    axes = number("axes", int)


class IRaggedSoftMaxLayer(ILayer):
    layer_type = LayerType.RAGGED_SOFTMAX


class IConcatenationLayer(ILayer):
    layer_type = LayerType.CONCATENATION
    axis = number("axis", int)


class IElementWiseLayer(ILayer):
    layer_type = LayerType.ELEMENTWISE
    op = choice("op", enums.ElementWiseOperation)


class IUnaryLayer(ILayer):
    layer_type = LayerType.UNARY
    op = choice("op", enums.UnaryOperation)


class IPaddingLayer(ILayer):
    layer_type = LayerType.PADDING
    pre_padding = sizes("pre", DimsHW)
    post_padding = sizes("post", DimsHW)
    pre_padding_nd = sizes("pre")
    post_padding_nd = sizes("post")


class IShuffleLayer(ILayer):
    layer_type = LayerType.SHUFFLE
    first_transpose = sizes("first", Permutation)
    second_transpose = sizes("second", Permutation)
    reshape_dims = sizes("reshape")
    zero_is_placeholder = number("zero_is_placeholder", bool)


class ISliceLayer(ILayer):
    layer_type = LayerType.SLICE
    start = sizes("start")
    shape = sizes("size")
    stride = sizes("stride")
    axes = sizes("axes")
    mode = choice("mode", enums.SampleMode)


class IShapeLayer(ILayer):
    layer_type = LayerType.SHAPE


class IReduceLayer(ILayer):
    layer_type = LayerType.REDUCE
    op = choice("op", enums.ReduceOperation)
    axes = number("axes", int)
    keep_dims = number("keep_dims", bool)


class ITopKLayer(ILayer):
    layer_type = LayerType.TOPK
    op = choice("op", enums.TopKOperation)
    k = number("k", int)
    axes = number("axes", int)
    indices_type = Attribute("indices", lambda v: their_dtype(BY_NAME[v]), lambda v: own_dtype(v).name)


class IGatherLayer(ILayer):
    layer_type = LayerType.GATHER
    axis = number("axis", int)
    num_elementwise_dims = number("batch_axes", int)
    mode = choice("mode", enums.GatherMode)


class IScatterLayer(ILayer):
    layer_type = LayerType.SCATTER
    axis = number("axis", int)
    mode = choice("mode", enums.ScatterMode)


class IMatrixMultiplyLayer(ILayer):
    layer_type = LayerType.MATRIX_MULTIPLY
    op0 = choice("op0", enums.MatrixOperation)
    op1 = choice("op1", enums.MatrixOperation)
    transpose0 = Attribute("op0", lambda v: v == "transpose", lambda v: "transpose" if v else "none")
    transpose1 = Attribute("op1", lambda v: v == "transpose", lambda v: "transpose" if v else "none")


class IConstantLayer(ILayer):
    layer_type = LayerType.CONSTANT
    weights = weights("values")
    shape = sizes("shape")


class IIdentityLayer(ILayer):
    layer_type = LayerType.IDENTITY


class ICastLayer(ILayer):
    layer_type = LayerType.CAST
    to_type = Attribute("to", lambda v: their_dtype(own_dtype(v) if isinstance(v, DataType) else BY_NAME[v]), lambda v: own_dtype(v).name)


class IParametricReLULayer(ILayer):
    layer_type = LayerType.PARAMETRIC_RELU


class ISelectLayer(ILayer):
    layer_type = LayerType.SELECT


class IResizeLayer(ILayer):
    layer_type = LayerType.RESIZE
    shape = sizes("shape")
    scales = Attribute("scales", lambda v: [] if v is None else list(v), lambda v: tuple(float(x) for x in v) or None)
    resize_mode = choice("mode", enums.InterpolationMode)
    coordinate_transformation = choice("coordinates", enums.ResizeCoordinateTransformation)
    nearest_rounding = choice("rounding", enums.ResizeRoundMode)
    exclude_outside = number("exclude_outside", bool)
    cubic_coeff = number("cubic_coeff")
    selector_for_single_pixel = Attribute(
        "upper_selector", lambda v: enums.ResizeSelector(int(v)), lambda v: v == enums.ResizeSelector.UPPER
    )
    align_corners = Attribute(
        "coordinates", lambda v: v == "align_corners", lambda v: "align_corners" if v else "asymmetric"
    )


class IFillLayer(ILayer):
    layer_type = LayerType.FILL
    shape = sizes("shape")
    alpha = number("start")
    beta = Attribute("delta")
    operation = property(lambda self: enums.FillOperation.LINSPACE)
    to_type = Attribute("dtype", lambda v: their_dtype(BY_NAME[v]), lambda v: own_dtype(v).name)

    def is_alpha_beta_int64(self) -> bool:
        """Whether alpha and beta are counted as integers."""
        return isinstance(self.own.start, int)


class IEinsumLayer(ILayer):
    layer_type = LayerType.EINSUM
    equation = Attribute("equation")


class IOneHotLayer(ILayer):
    layer_type = LayerType.ONE_HOT
    axis = number("axis", int)


class IReverseSequenceLayer(ILayer):
    layer_type = LayerType.REVERSE_SEQUENCE
    batch_axis = number("batch_axis", int)
    sequence_axis = number("sequence_axis", int)


class INormalizationLayer(ILayer):
    layer_type = LayerType.NORMALIZATION
    axes = number("axes", int)
    epsilon = number("epsilon")
    num_groups = number("groups", int)
    is_v2 = property(lambda self: self.own.v2)
    compute_precision = property(lambda self: DataType.FLOAT, lambda self, value: note(self.network.logger, "compute_precision"))


class ICumulativeLayer(ILayer):
    layer_type = LayerType.CUMULATIVE
    op = choice("op", enums.CumulativeOperation)
    exclusive = number("exclusive", bool)
    reverse = number("reverse", bool)


class ISqueezeLayer(ILayer):
    layer_type = LayerType.SQUEEZE


class IUnsqueezeLayer(ILayer):
    layer_type = LayerType.UNSQUEEZE


class IGridSampleLayer(ILayer):
    layer_type = LayerType.GRID_SAMPLE
    interpolation_mode = choice("mode", enums.InterpolationMode)
    align_corners = number("align_corners", bool)
    sample_mode = Attribute(
        "padding",
        lambda v: {"zeros": enums.SampleMode.FILL, "border": enums.SampleMode.CLAMP}.get(v, enums.SampleMode.REFLECT),
        lambda v: {enums.SampleMode.FILL: "zeros", enums.SampleMode.CLAMP: "border"}.get(v, enums.SampleMode(v).name.lower()),
    )


class IQuantizeLayer(ILayer):
    layer_type = LayerType.QUANTIZE
    axis = number("axis", int)
    to_type = Attribute("to", lambda v: their_dtype(BY_NAME[v]), lambda v: own_dtype(v).name)


class IDequantizeLayer(ILayer):
    layer_type = LayerType.DEQUANTIZE
    axis = number("axis", int)
    to_type = property(lambda self: DataType.FLOAT)


class IRNNv2Layer(ILayer):
    layer_type = LayerType.RNN_V2
    op = choice("op", enums.RNNOperation)
    num_layers = number("layers", int)
    hidden_size = number("hidden", int)
    max_seq_length = number("steps", int)
    direction = Attribute("bidirectional", lambda v: enums.RNNDirection(int(v)), lambda v: v == enums.RNNDirection.BIDIRECTION)
    input_mode = Attribute("skip_input", lambda v: enums.RNNInputMode(int(v)), lambda v: v == enums.RNNInputMode.SKIP)
    data_length = property(lambda self: self.own.inputs[0].shape[-1])

    def _role(self, role: str) -> Any:
        index = ("x", "lengths", "state", "cell").index(role)
        return self.get_input(index)

    seq_lengths = property(lambda self: self._role("lengths"), lambda self, t: self.own.set_operand("lengths", t.own))
    hidden_state = property(lambda self: self._role("state"), lambda self, t: self.own.set_operand("state", t.own))
    cell_state = property(lambda self: self._role("cell"), lambda self, t: self.own.set_operand("cell", t.own))

    def set_weights_for_gate(self, layer_index: int, gate: Any, is_w: bool, weights: Any) -> None:
        """Weights of a gate: of the input (``is_w``) or of the state."""
        self.own.set_weights(layer_index, _gate(self.own.op, gate), is_w, array_of(weights))

    def set_bias_for_gate(self, layer_index: int, gate: Any, is_w: bool, bias: Any) -> None:
        """Biases of a gate."""
        self.own.set_bias(layer_index, _gate(self.own.op, gate), is_w, np.empty(0) if array_of(bias) is None else array_of(bias))

    def get_weights_for_gate(self, layer_index: int, gate: Any, is_w: bool) -> Any:
        """Weights that were set."""
        return self.own._weights[layer_index, _gate(self.own.op, gate), is_w]

    def get_bias_for_gate(self, layer_index: int, gate: Any, is_w: bool) -> Any:
        """Biases that were set."""
        return self.own._biases[layer_index, _gate(self.own.op, gate), is_w]


class IPluginV3Layer(ILayer):
    layer_type = LayerType.PLUGIN_V3
    plugin = property(lambda self: self.network.plugins.get(self.own.op.name))


IPluginV2Layer = IPluginV3Layer


class IImportedLayer(ILayer):
    """A node of a parsed model."""

    @property
    def type(self) -> Any:
        """The LayerType that comes closest."""
        return _IMPORTED.get(self.own.op.name, LayerType.ELEMENTWISE)


_IMPORTED = {
    "conv": LayerType.CONVOLUTION,
    "conv_transpose": LayerType.DECONVOLUTION,
    "max_pool": LayerType.POOLING,
    "average_pool": LayerType.POOLING,
    "matmul": LayerType.MATRIX_MULTIPLY,
    "reshape": LayerType.SHUFFLE,
    "transpose": LayerType.SHUFFLE,
    "concat": LayerType.CONCATENATION,
    "softmax": LayerType.SOFTMAX,
    "reduce": LayerType.REDUCE,
    "gather": LayerType.GATHER,
    "slice": LayerType.SLICE,
    "resize": LayerType.RESIZE,
    "lrn": LayerType.LRN,
    "top_k": LayerType.TOPK,
    "cast": LayerType.CAST,
    "layer_norm": LayerType.NORMALIZATION,
}


def _gate(op: str, gate: Any) -> str:
    return str(enums.RNNGateType(gate).name.lower())


#: Strop's class to TensorRT's.
CLASSES: dict[type, type[ILayer]] = {
    nw.Activation: IActivationLayer,
    nw.Cast: ICastLayer,
    nw.Concatenation: IConcatenationLayer,
    nw.Constant: IConstantLayer,
    nw.Convolution: IConvolutionLayer,
    nw.Cumulative: ICumulativeLayer,
    nw.CustomNode: IPluginV3Layer,
    nw.Deconvolution: IDeconvolutionLayer,
    nw.Einsum: IEinsumLayer,
    nw.Elementwise: IElementWiseLayer,
    nw.Fill: IFillLayer,
    nw.FullyConnected: IFullyConnectedLayer,
    nw.Gather: IGatherLayer,
    nw.GridSample: IGridSampleLayer,
    nw.Identity: IIdentityLayer,
    nw.ImportedNode: IImportedLayer,
    nw.LRN: ILRNLayer,
    nw.MatrixMultiply: IMatrixMultiplyLayer,
    nw.Normalization: INormalizationLayer,
    nw.OneHot: IOneHotLayer,
    nw.Padding: IPaddingLayer,
    nw.ParametricRelu: IParametricReLULayer,
    nw.Pooling: IPoolingLayer,
    nw.Dequantize: IDequantizeLayer,
    nw.Quantize: IQuantizeLayer,
    nw.RNN: IRNNv2Layer,
    nw.RaggedSoftmax: IRaggedSoftMaxLayer,
    nw.Reduce: IReduceLayer,
    nw.Resize: IResizeLayer,
    nw.ReverseSequence: IReverseSequenceLayer,
    nw.Scale: IScaleLayer,
    nw.Scatter: IScatterLayer,
    nw.Select: ISelectLayer,
    nw.Shape: IShapeLayer,
    nw.Shuffle: IShuffleLayer,
    nw.Slice: ISliceLayer,
    nw.Softmax: ISoftMaxLayer,
    nw.Squeeze: ISqueezeLayer,
    nw.TopK: ITopKLayer,
    nw.Unary: IUnaryLayer,
    nw.Unsqueeze: IUnsqueezeLayer,
}
