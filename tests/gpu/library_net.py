"""A network whose layers are what cuBLASLt and cuDNN can do."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value
from strop.ir.op import Type
from strop.kernels.base import Candidate, Region
from strop.lower.pipeline import Step, lower
from strop.ops.conv import Conv
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.ops.pool import MaxPool
from strop.ops.softmax import Softmax
from strop.quantize.narrow import narrow
from strop.quantize.precision import decide
from strop.target.base import Target
from strop.trace import Trace


class _Net:
    """Layers of random weights."""

    def __init__(self) -> None:
        self.graph, self.rng = Graph("layers"), np.random.default_rng(2)

    def const(self, *shape: int, scale: float = 1.0) -> Value:
        return self.graph.add_const((self.rng.standard_normal(shape) * scale).astype(np.float32), f"c{len(self.graph.nodes)}_{len(shape)}")

    def add(self, op: Any, *values: Value) -> Value:
        return self.graph.add(op, list(values), name=f"n{len(self.graph.nodes)}").outputs[0]

    def conv(self, x: Value, outs: int, kernel: int, stride: int = 1, groups: int = 1) -> Value:
        ins, pad = int(x.shape[1]) // groups, kernel // 2
        w = self.const(outs, ins, kernel, kernel, scale=(ins * kernel * kernel) ** -0.5)
        return self.add(Conv((stride, stride), (pad, pad, pad, pad), (1, 1), groups), x, w, self.const(outs, scale=0.1))

    def dense(self, x: Value, outs: int) -> Value:
        ins = int(x.shape[-1])
        return self.add(make("add"), self.add(MatMul(), x, self.const(ins, outs, scale=ins**-0.5)), self.const(outs, scale=0.1))


def network() -> Graph:
    """Convolutions with ReLU and a residual sum, a strided and a grouped one; products with GELU of both kinds and a residual sum: 4 convolutions and one
    product for cuDNN, 3 products for cuBLASLt."""
    net = _Net()
    x = net.graph.add_input("x", Type(dt.f32, (2, 32, 20, 20)))
    a = net.add(make("relu"), net.conv(x, 64, 3))
    b = net.add(make("relu"), net.conv(a, 64, 1))
    c = net.add(make("relu"), net.add(make("add"), net.conv(b, 64, 3, groups=2), a))
    d = net.add(make("relu"), net.conv(c, 128, 3, stride=2))
    y = net.dense(net.graph.add_input("y", Type(dt.f32, (3, 40, 128))), 128)
    e = net.add(make("gelu"), net.dense(y, 256))
    f = net.add(make("gelu_tanh"), net.dense(e, 64))
    g = net.add(make("add"), net.dense(f, 128), y)
    net.graph.set_outputs([net.add(MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), d), net.add(Softmax(2), g)])
    return net.graph


def steps_of(target: Target, precision: str = "fp16") -> list[Step]:
    """The network's steps for a target."""
    graph = network()
    return lower(narrow(graph, decide(graph, precision)).graph if precision != "fp32" else graph, target, Trace()).steps


def calls_of(target: Target, precision: str = "fp16") -> list[tuple[Region, list[Candidate]]]:
    """The regions that libraries can do, with the candidates that are calls of them."""
    rows = [(s.region, [c for c in s.candidates if not c.kernel.estimated]) for s in steps_of(target, precision)]
    return [(region, found) for region, found in rows if found]
