"""What ops mean in PyTorch, with gradients: those of networks that are trained for int8."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from strop.errors import UnsupportedError
from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir.expr import Expr
from strop.ir.graph import Node
from strop.ir.op import Op
from strop.ops.conv import Conv
from strop.ops.data import Concat, Expand, Identity, Pad, Reshape, Slice, Split, Transpose
from strop.ops.elementwise import Elementwise
from strop.ops.matmul import MatMul
from strop.ops.norm import LayerNorm
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.reduce import Reduce
from strop.ops.softmax import LogSoftmax, Softmax

Tensor = Any
Meaning = Callable[[Any, Sequence[Tensor]], Sequence[Tensor]]

#: PyTorch's name of each primitive where it has another one.
_NAMES = {
    "neg": "negative", "min": "minimum", "max": "maximum", "select": "where", "and": "logical_and", "or": "logical_or", "xor": "logical_xor",
    "not": "logical_not", "div": "true_divide", "atan2": "arctan2", "floormod": "remainder", "floordiv": "floor_divide", "le": "less_equal",
    "ge": "greater_equal", "lt": "less", "gt": "greater",
}  # fmt: skip
_CONVS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def supports(node: Node) -> bool:
    """True when ``compute`` knows what a node means."""
    op = node.op
    if isinstance(op, (Conv, MatMul, LayerNorm)) and any(v.dtype is not dt.f32 for v in node.operands):
        return False
    if isinstance(op, Conv):
        return op.layout == "NCHW"
    if isinstance(op, Reduce):
        return op.kind in ("mean", "sum", "max", "min")
    if isinstance(op, Pad):
        return op.mode == "constant" and len(node.operands) == 1
    if isinstance(op, AveragePool):
        symmetric = all(a == b for a, b in zip(op.pads[: len(op.kernel)], op.pads[len(op.kernel) :], strict=True))
        return symmetric and all(d == 1 for d in op.dilations)
    if isinstance(op, Elementwise):
        return all(not isinstance(e, ex.Call) or hasattr(torch, _NAMES.get(e.fn, e.fn)) or e.fn == "fma" for e in ex.walk(op.expr()))
    return type(op) in _MEANINGS


def compute(op: Op, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    """The results of an op without symbols, for a node that ``supports`` is true for."""
    return _MEANINGS[type(op)](op, operands)


def unsupported(node: Node) -> UnsupportedError:
    """The error for a node that ``supports`` is not true for."""
    return UnsupportedError(
        f"{node.op.label} has no meaning for training", where=node.source[0] if node.source else node.name,
        expected="convolutions, products, pools, elementwise ops and ops that move values",
        hint="train the part of the network before it, and calibrate the whole",
    )  # fmt: skip


def _evaluate(expr: Expr, operands: Sequence[Tensor]) -> Tensor:
    """An elementwise expression over tensors, as ``strop.ir.expr.evaluate`` over arrays."""
    done: dict[int, Tensor] = {}

    def visit(node: Expr) -> Tensor:
        if isinstance(node, ex.Const):
            return torch.tensor(node.value, dtype=torch.bool if isinstance(node.value, bool) else torch.float32)
        found = done.get(id(node))
        if found is None:
            found = done[id(node)] = _step(node)
        return found

    def _step(node: Expr) -> Tensor:
        if isinstance(node, ex.Input):
            return operands[node.index]
        if isinstance(node, ex.Cast):
            return visit(node.arg).to(torch.from_numpy(np.zeros(0, node.to.numpy)).dtype)
        assert isinstance(node, ex.Call), node
        values = [visit(a) for a in node.args]
        if node.fn == "fma":
            return values[0] * values[1] + values[2]
        return getattr(torch, _NAMES.get(node.fn, node.fn))(*values)

    return visit(expr)


def _padded(x: Tensor, pads: Sequence[int], value: float) -> Tensor:
    """``x`` with pads before and after each spatial axis."""
    rank = len(pads) // 2
    turned = [n for axis in reversed(range(rank)) for n in (pads[axis], pads[rank + axis])]
    return functional.pad(x, turned, value=value) if any(turned) else x


def _conv(op: Conv, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    x, w, *bias = operands
    made = _CONVS[len(op.strides)](_padded(x, op.pads, 0.0), w, bias[0] if bias else None, op.strides, 0, op.dilations, op.groups)
    return [made]


def _matmul(op: MatMul, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    a, b = operands
    return [torch.matmul(a.transpose(-1, -2) if op.transpose_a else a, b.transpose(-1, -2) if op.transpose_b else b)]


def _max_pool(op: MaxPool, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    x = _padded(operands[0], op.pads, -math.inf)
    return [_MAX_POOLS[len(op.kernel)](x, op.kernel, op.strides, 0, op.dilations, op.ceil_mode)]


def _average_pool(op: AveragePool, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    pads = op.pads[: len(op.kernel)]
    return [_AVERAGE_POOLS[len(op.kernel)](operands[0], op.kernel, op.strides, pads, op.ceil_mode, op.count_include_pad)]


def _reduce(op: Reduce, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    if not op.axes:
        return list(operands)
    meaning = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax, "min": torch.amin}[op.kind]
    return [meaning(operands[0], dim=op.axes, keepdim=op.keepdims)]


def _slice(op: Slice, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    (x,) = operands
    for start, stop, axis, step in zip(op.starts, op.stops, op.axes, op.steps, strict=True):
        places = torch.arange(start, stop, step, device=x.device)
        x = x.index_select(axis, places)
    return [x]


def _pad(op: Pad, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    return [_padded(operands[0], op.pads, op.value)]


def _layer_norm(op: LayerNorm, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    x, *params = operands
    shape = x.shape[op.axis % x.ndim :]
    return [functional.layer_norm(x, shape, *(p.expand(shape) for p in params), eps=op.epsilon)]


_MEANINGS: dict[type[Op], Meaning] = {
    Conv: _conv,
    MatMul: _matmul,
    MaxPool: _max_pool,
    AveragePool: _average_pool,
    Reduce: _reduce,
    Slice: _slice,
    Pad: _pad,
    LayerNorm: _layer_norm,
    Elementwise: lambda op, x: [_evaluate(op.expr(), x)],
    Identity: lambda op, x: [x[0]],
    Reshape: lambda op, x: [x[0].reshape(op.shape)],
    Transpose: lambda op, x: [x[0].permute(op.perm)],
    Concat: lambda op, x: [torch.cat(list(x), op.axis)],
    Split: lambda op, x: torch.split(x[0], list(op.sizes), op.axis),
    Expand: lambda op, x: [x[0].expand(op.shape)],
    Softmax: lambda op, x: [functional.softmax(x[0], op.axis)],
    LogSoftmax: lambda op, x: [functional.log_softmax(x[0], op.axis)],
}
