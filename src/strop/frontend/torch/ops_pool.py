"""ATen pools: of fixed windows, and of windows that give a wanted size."""

from __future__ import annotations

import math

import numpy as np

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.ops_shape import cut, swapped
from strop.frontend.torch.registry import torch_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops.data import Concat
from strop.ops.matmul import MatMul
from strop.ops.pool import AveragePool, MaxPool, MaxPoolIndices
from strop.ops.reduce import Reduce
from strop.ops.scatter import ScatterElements

Ints = tuple[int, ...]


def _batched(node: NodeContext, x: Value, rank: int) -> Value:
    """x with a batch axis."""
    return node.reshape(x, (1, *x.shape)) if x.type.rank == rank + 1 else x


def _rank(node: NodeContext) -> int:
    """Spatial axes, as the op's name says."""
    return int(next(c for c in node.op.split(".")[1].split("pool")[1] if c.isdigit()))


def _window(node: NodeContext, rank: int) -> tuple[Ints, Ints, Ints]:
    """Kernel, strides (by default the kernel) and pads before and after."""
    kernel = node.ints("kernel_size", rank)
    strides = node.ints("stride", rank) if node.arg("stride") else kernel
    return kernel, strides, node.ints("padding", rank) * 2


@torch_op(*(f"aten.max_pool{k}d.default" for k in (1, 2, 3)), *(f"aten.max_pool{k}d_with_indices.default" for k in (1, 2, 3)))
def max_pool(node: NodeContext) -> tuple[Value | None, ...]:
    """Indices (result 1) count within one channel and are found by an op of their own where they are read."""
    rank = _rank(node)
    x = node.tensor()
    batch = _batched(node, x, rank)
    kernel, strides, pads = _window(node, rank)
    window = (kernel, strides, pads, node.ints("dilation", rank), node.flag("ceil_mode"))
    result = node.step(MaxPool(*window), batch)
    shape = result.shape if batch is x else result.shape[1:]
    indices = None
    if len(node.wanted) > 1 and node.wanted[1]:
        (plane,) = node.static([sh.volume(batch.shape[2:])])
        found = node.step(MaxPoolIndices(*window), batch)
        indices = node.reshape(node.apply("mod", found, node.scalar(plane, dt.i64)), shape)
    return node.reshape(result, shape), indices


@torch_op(*(f"aten.avg_pool{k}d.default" for k in (1, 2, 3)))
def avg_pool(node: NodeContext) -> Value:
    rank = _rank(node)
    x = node.tensor()
    batch = _batched(node, x, rank)
    kernel, strides, pads = _window(node, rank)
    ceil, include, divisor = node.flag("ceil_mode"), node.flag("count_include_pad"), node.arg("divisor_override")
    if divisor is not None:
        if ceil:
            raise node.unsupported("divisor_override with ceil_mode is not supported", got=divisor)
        include = True
    result = node.step(AveragePool(kernel, strides, pads, (1,) * rank, ceil, include), batch)
    if divisor is not None:
        result = node.apply("mul", result, node.like(math.prod(kernel) / divisor, result))
    return result if batch is x else node.reshape(result, result.shape[1:])


# ---- adaptive pools


@torch_op(*(f"aten.{kind}adaptive_avg_pool{k}d.default" for kind in ("", "_") for k in (1, 2, 3) if kind == "" or k > 1))
def adaptive_avg_pool(node: NodeContext) -> Value:
    """Window i goes from floor(i n / m) to ceil((i + 1) n / m) of n elements that become m."""
    return _adaptive(node, "mean")


@torch_op(*(f"aten.adaptive_max_pool{k}d.default" for k in (1, 2, 3)))
def adaptive_max_pool(node: NodeContext) -> tuple[Value | None, ...]:
    """As adaptive_avg_pool; indices are not supported."""
    return _adaptive(node, "max"), None


def _adaptive(node: NodeContext, kind: str) -> Value:
    rank = _rank(node)
    x, wanted = node.tensor(), node.result.shape[-rank:]
    if all(d == 1 for d in wanted):
        axes = tuple(range(x.type.rank - rank, x.type.rank))
        return node.step(Reduce(kind, axes, True), x)
    batch = _batched(node, x, rank)
    for k in range(rank):
        axis = 2 + k
        have = batch.shape[axis]
        if have == wanted[k]:
            continue
        if wanted[k] == 1:
            batch = node.step(Reduce(kind, (axis,), True), batch)
            continue
        size, parts = node.static([have, wanted[k]])
        batch = _evenly(node, batch, rank, k, size // parts, kind) if size % parts == 0 else _unevenly(node, batch, axis, parts, kind)
    return batch if batch.type.rank == x.type.rank else node.reshape(batch, batch.shape[1:])


def _evenly(node: NodeContext, x: Value, rank: int, k: int, length: int, kind: str) -> Value:
    """Windows of one length along one axis: a pool."""
    kernel = tuple(length if j == k else 1 for j in range(rank))
    op = AveragePool if kind == "mean" else MaxPool
    return node.step(op(kernel, kernel, (0,) * (2 * rank), (1,) * rank), x)


def _unevenly(node: NodeContext, x: Value, axis: int, parts: int, kind: str) -> Value:
    """Windows of several lengths along one axis: a product with their weights, or one reduction for each."""
    (size,) = node.static([x.shape[axis]])
    windows = [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
    if kind == "max":
        maxima = [node.step(Reduce("max", (axis,), True), cut(node, x, axis, low, high - low)) for low, high in windows]
        return node.step(Concat(axis), *maxima)
    weights = np.zeros((size, parts), x.dtype.numpy)
    for i, (low, high) in enumerate(windows):
        weights[low:high, i] = 1 / (high - low)
    last = x.type.rank - 1
    return swapped(node, node.step(MatMul(), swapped(node, x, axis, last), node.const(weights)), axis, last)


# ---- unpooling


@torch_op("aten.max_unpool2d.default", "aten.max_unpool3d.default")
def max_unpool(node: NodeContext) -> Value:
    """Every element at the place in its channel that its index names, zeros elsewhere."""
    x, indices, shape = node.tensor(), node.tensor("indices"), node.result.shape
    rank = 3 if "3d" in node.op else 2
    lead = shape[: len(shape) - rank]
    (plane,) = node.static([sh.volume(shape[len(shape) - rank :])])
    rows = sh.volume(lead)
    count = sh.volume(x.shape[x.type.rank - rank :])
    blank = node.filled((rows, plane), 0, x.dtype)
    placed = node.step(ScatterElements(1), blank, node.reshape(indices, (rows, count)), node.reshape(x, (rows, count)))
    return node.reshape(placed, shape)

