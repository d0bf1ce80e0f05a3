"""Networks defined layer by layer: ``Network``, and one class per kind of layer. ``strop.layers`` is this module.

    net = strop.Network("lenet")
    x = net.add_input("data", "f32", (1, 1, 28, 28))
    x = net.add(layers.Convolution(20, (5, 5), kernel, bias), x).output
    x = net.add(layers.Pooling("max", (2, 2)), x).output
    net.mark_output(x, "prob")
    engine = strop.build(net)

Layers follow the semantics of TensorRT's layers of the same name and keep their parameters as attributes that may be changed until
the network is built.
"""

from strop.frontend.network.attention import Attention, KVCacheUpdate, RotaryEmbedding
from strop.frontend.network.control import (
    Assertion,
    Condition,
    Conditional,
    ConditionalInput,
    ConditionalOutput,
    Loop,
    LoopIterator,
    LoopResult,
    Recurrence,
    TripLimit,
)
from strop.frontend.network.conv import Convolution, Deconvolution, FullyConnected
from strop.frontend.network.data import (
    Concatenation,
    Constant,
    Fill,
    Gather,
    OneHot,
    Padding,
    ReverseSequence,
    Scatter,
    Shape,
    Shuffle,
    Slice,
    Squeeze,
    Unsqueeze,
)
from strop.frontend.network.elementwise import (
    Activation,
    Cast,
    Elementwise,
    Identity,
    ParametricRelu,
    Scale,
    Select,
    Unary,
)
from strop.frontend.network.imported import CustomNode, ImportedNode, import_graph
from strop.frontend.network.layer import Layer, Tensor
from strop.frontend.network.matrix import Einsum, MatrixMultiply
from strop.frontend.network.network import Network
from strop.frontend.network.norm import LRN, Normalization, RaggedSoftmax, Softmax
from strop.frontend.network.pool import Pooling
from strop.frontend.network.quantize import Dequantize, Quantize
from strop.frontend.network.recurrent import RNN
from strop.frontend.network.reduce import Cumulative, Reduce, TopK
from strop.frontend.network.resize import GridSample, Resize
from strop.frontend.network.select import NMS, NonZero

__all__ = [
    "LRN",
    "NMS",
    "RNN",
    "Activation",
    "Assertion",
    "Attention",
    "Cast",
    "Concatenation",
    "Condition",
    "Conditional",
    "ConditionalInput",
    "ConditionalOutput",
    "Constant",
    "Convolution",
    "Cumulative",
    "CustomNode",
    "Deconvolution",
    "Dequantize",
    "Einsum",
    "Elementwise",
    "Fill",
    "FullyConnected",
    "Gather",
    "GridSample",
    "Identity",
    "ImportedNode",
    "KVCacheUpdate",
    "Layer",
    "Loop",
    "LoopIterator",
    "LoopResult",
    "MatrixMultiply",
    "Network",
    "NonZero",
    "Normalization",
    "OneHot",
    "Padding",
    "ParametricRelu",
    "Pooling",
    "Quantize",
    "RaggedSoftmax",
    "Recurrence",
    "Reduce",
    "Resize",
    "ReverseSequence",
    "RotaryEmbedding",
    "Scale",
    "Scatter",
    "Select",
    "Shape",
    "Shuffle",
    "Slice",
    "Softmax",
    "Squeeze",
    "Tensor",
    "TopK",
    "TripLimit",
    "Unary",
    "Unsqueeze",
    "import_graph",
]
