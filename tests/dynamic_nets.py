"""Small networks with free dims, as exporters write them: shapes are computed by Shape, Gather and Concat nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


class _Net:
    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(len(name))

    def node(self, op: str, inputs: str, output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs.split(","), [output], name=output, **attributes))

    def weight(self, name: str, *shape: int) -> None:
        scale = np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 1.0)
        self.constant(name, (self.rng.standard_normal(shape) / scale).astype(np.float32))

    def constant(self, name: str, value: Any) -> None:
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))

    def model(self, shape: list[int | str], *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, self.name, [helper.make_tensor_value_info("x", FLOAT, shape)], infos, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv_net() -> onnx.ModelProto:
    """[N, 3, H, W]: strides, pads, a depthwise convolution, pools, resizes by scales and to another value's size, a concat of two scales,
    squeeze and excite, global pooling, a classifier, and transposed convolutions to a map of twice the input's size."""
    net = _Net("conv net")
    for name, shape in {
        "w1": (16, 3, 3, 3), "b1": (16,), "w2": (32, 16, 3, 3), "w3": (32, 32, 1, 1), "wd": (32, 1, 5, 5), "w4": (8, 48, 1, 1),
        "fc": (10, 48), "se1": (8, 32, 1, 1), "se2": (32, 8, 1, 1), "wt": (8, 12, 4, 4), "bt": (12,), "w5": (10, 12, 3, 3), "w6": (10, 3, 2, 2),
    }.items():  # fmt: skip
        net.weight(name, *shape)
    net.constant("twice", np.array([1, 1, 2, 2], np.float32))
    net.constant("head", np.array([0], np.int64))
    net.constant("two", np.array([2], np.int64))
    net.constant("four", np.array([4], np.int64))
    net.node("Conv", "x,w1,b1", "c1", pads=[1] * 4, strides=[2, 2])
    net.node("Relu", "c1", "r1")
    net.node("Conv", "r1,w2", "c2", pads=[1] * 4, strides=[2, 2])
    net.node("Conv", "c2,wd", "d2", pads=[2] * 4, group=32)
    net.node("Sigmoid", "d2", "s2")
    net.node("Mul", "d2,s2", "m2")
    net.node("GlobalAveragePool", "m2", "g2")
    net.node("Conv", "g2,se1", "e1")
    net.node("Conv", "e1,se2", "e2")
    net.node("HardSigmoid", "e2", "e3")
    net.node("Mul", "m2,e3", "m3")
    net.node("Conv", "m3,w3", "c3")
    net.node("Add", "c3,c2", "a3")
    net.node("MaxPool", "a3", "p3", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    net.node("AveragePool", "p3", "p4", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    net.node("Resize", "p4,,twice", "u3", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    net.node("Shape", "r1", "shape1")
    net.node("Slice", "shape1,two,four,head", "size1")
    net.node("Shape", "u3", "shape3")
    net.node("Slice", "shape3,head,two,head", "size3")
    net.node("Concat", "size3,size1", "sizes", axis=0)
    net.node("Resize", "u3,,,sizes", "u4", mode="linear", coordinate_transformation_mode="half_pixel")
    net.node("Concat", "u4,r1", "cat", axis=1)
    net.node("GlobalAveragePool", "cat", "g")
    net.node("Flatten", "g", "f")
    net.node("Gemm", "f,fc", "logits", transB=1)
    net.node("Conv", "cat,w4", "map")
    net.node("ConvTranspose", "map,wt,bt", "t1", strides=[2, 2], pads=[1] * 4)
    net.node("Relu", "t1", "t2")
    net.node("Conv", "t2,w5", "t3", pads=[1] * 4)
    net.node("ConvTranspose", "t3,w6", "full", strides=[2, 2])
    return net.model(["N", 3, "H", "W"], "logits", "map", "full")


def transformer(width: int = 64, heads: int = 4) -> onnx.ModelProto:
    """[batch, seq, width]: a block whose heads are split by shape arithmetic, a masked softmax written out, and all pairs' products."""
    net = _Net("transformer")
    for name, shape in {"wq": (width, width), "wk": (width, width), "wv": (width, width), "wo": (width, width), "w1": (width, 4 * width),
                        "w2": (4 * width, width), "b1": (4 * width,), "g": (width,), "b": (width,)}.items():  # fmt: skip
        net.weight(name, *shape)
    net.constant("zero", np.array(0, np.int64))
    net.constant("one", np.array(1, np.int64))
    net.constant("axis", np.array([0], np.int64))
    net.constant("heads", np.array([heads, width // heads], np.int64))
    net.constant("width", np.array([width], np.int64))
    net.constant("scale", np.array((width / heads) ** -0.5, np.float32))
    net.node("Shape", "x", "shape")
    for what, index in (("batch", "zero"), ("seq", "one")):
        net.node("Gather", f"shape,{index}", what)
        net.node("Unsqueeze", f"{what},axis", f"{what}1")
    net.node("Concat", "batch1,seq1,heads", "split", axis=0)
    net.node("Concat", "batch1,seq1,width", "joined", axis=0)
    net.node("LayerNormalization", "x,g,b", "ln", axis=-1)
    for k in "qkv":
        net.node("MatMul", f"ln,w{k}", f"{k}0")
        net.node("Reshape", f"{k}0,split", f"{k}1")
        net.node("Transpose", f"{k}1", k, perm=[0, 2, 3, 1] if k == "k" else [0, 2, 1, 3])
    net.node("MatMul", "q,k", "qk")
    net.node("Mul", "qk,scale", "scores")
    net.node("Softmax", "scores", "p", axis=-1)
    net.node("MatMul", "p,v", "a")
    net.node("Transpose", "a", "at", perm=[0, 2, 1, 3])
    net.node("Reshape", "at,joined", "ar")
    net.node("MatMul", "ar,wo", "o")
    net.node("Add", "o,x", "r1")
    net.node("MatMul", "r1,w1", "h0")
    net.node("Add", "h0,b1", "h1")
    net.node("Relu", "h1", "h2")
    net.node("MatMul", "h2,w2", "h3")
    net.node("Add", "h3,r1", "y")
    net.node("Transpose", "x", "xt", perm=[0, 2, 1])
    net.node("MatMul", "x,xt", "products")
    net.node("Softmax", "products", "pairs", axis=-1)
    net.node("ReduceMean", "y", "mean", axes=[1], keepdims=0)
    return net.model(["batch", "seq", width], "y", "pairs", "mean")


def sequences() -> onnx.ModelProto:
    """[batch, seq, 8]: slices, pads, concats along a free axis, flattening, transposes, reductions over it, and recurrent layers along it."""
    net = _Net("sequences")
    for name, shape in {"w": (8, 12), "lw": (2, 80, 8), "lr": (2, 80, 20), "lb": (2, 160), "gw": (1, 51, 8), "gr": (1, 51, 17)}.items():
        net.weight(name, *shape)
    net.constant("last", np.array([-1], np.int64))
    net.constant("end", np.array([1 << 62], np.int64))
    net.constant("three", np.array([3], np.int64))
    net.constant("head", np.array([0], np.int64))
    net.constant("axis", np.array([1], np.int64))
    net.constant("step", np.array([2], np.int64))
    net.constant("pads", np.array([0, 2, 0, 0, 1, 0], np.int64))
    net.constant("flat", np.array([0, -1], np.int64))
    net.node("Slice", "x,last,end,axis", "tail")
    net.node("Slice", "x,head,three,axis", "start")
    net.node("Slice", "x,head,end,axis,step", "even")
    net.node("Pad", "x,pads", "padded")
    net.node("Concat", "tail,x,start", "longer", axis=1)
    net.node("MatMul", "longer,w", "wide")
    net.node("Tanh", "wide", "t")
    net.node("Transpose", "t", "turned", perm=[0, 2, 1])
    net.node("ReduceMax", "turned", "most", axes=[2], keepdims=0)
    net.node("ReduceMean", "turned", "means", axes=[2], keepdims=1)
    net.node("Sub", "turned,means", "centered")
    net.node("Reshape", "padded,flat", "flattened")
    net.node("Transpose", "x", "steps", perm=[1, 0, 2])
    net.node("LSTM", "steps,lw,lr,lb", "both", hidden_size=20, direction="bidirectional")
    net.node("GRU", "steps,gw,gr", "one", hidden_size=17)
    return net.model(["batch", "seq", 8], "even", "most", "centered", "flattened", "both", "one")
