"""ATen reductions, running sums and products, extremes with their indices."""

from __future__ import annotations

import math

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.registry import torch_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops.cumulative import CumProd, CumSum
from strop.ops.data import Slice
from strop.ops.index import TopK
from strop.ops.reduce import ArgReduce, Reduce


def reduce(node: NodeContext, kind: str, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    """One of the kinds of Reduce; a scalar is its own reduction."""
    if x.type.rank == 0:
        axes = ()
    return node.step(Reduce(kind, axes, keep), x)


def _reduced(node: NodeContext, kind: str, x: Value) -> Value:
    return reduce(node, kind, x, node.axes(), node.flag("keepdim"))


@torch_op("aten.sum.default", "aten.sum.dim_IntList", "aten.mean.default", "aten.mean.dim")
def total(node: NodeContext) -> Value:
    """Computed in the dtype of the result: integers and bools are summed as i64."""
    return _reduced(node, "sum" if ".sum." in node.op else "mean", node.cast(node.tensor(), node.result.dtype))


@torch_op("aten.prod.default", "aten.prod.dim_int")
def product(node: NodeContext) -> Value:
    x = node.cast(node.tensor(), node.result.dtype)
    axes = (node.axis(),) if node.op.endswith("dim_int") else tuple(range(x.type.rank))
    return reduce(node, "prod", x, axes, node.flag("keepdim"))


@torch_op("aten.amax.default", "aten.amin.default", "aten.max.default", "aten.min.default")
def extreme(node: NodeContext) -> Value:
    kind = "max" if "max" in node.op else "min"
    x = node.tensor()
    if x.dtype is dt.boolean:
        return node.cast(_reduced(node, kind, node.cast(x, dt.u8)), dt.boolean)
    return _reduced(node, kind, x)


@torch_op("aten.max.dim", "aten.min.dim")
def extreme_dim(node: NodeContext) -> tuple[Value | None, ...]:
    """Largest or smallest elements along an axis, and where they are."""
    kind, x, axis, keep = "max" if "max" in node.op else "min", node.tensor(), node.axis(), node.flag("keepdim")
    if x.type.rank == 0:
        return x, node.scalar(0, dt.i64)
    number = node.cast(x, dt.u8) if x.dtype is dt.boolean else x
    found = node.cast(reduce(node, kind, number, (axis,), keep), x.dtype) if node.wanted[0] else None
    return found, node.step(ArgReduce(kind, axis, keep), number) if node.wanted[1] else None


@torch_op("aten.aminmax.default")
def extremes(node: NodeContext) -> tuple[Value, ...]:
    x, keep = node.tensor(), node.flag("keepdim")
    axes = tuple(range(x.type.rank)) if node.arg("dim") is None else (node.axis(),)
    return reduce(node, "min", x, axes, keep), reduce(node, "max", x, axes, keep)


@torch_op("aten.argmax.default", "aten.argmin.default")
def arg_extreme(node: NodeContext) -> Value:
    """Without an axis: of the elements in row-major order."""
    kind, x, keep = "max" if "argmax" in node.op else "min", node.tensor(), node.flag("keepdim")
    if x.type.rank == 0:
        return node.scalar(0, dt.i64)
    if node.arg("dim") is not None:
        return node.step(ArgReduce(kind, node.axis(), keep), x)
    flat = node.reshape(x, (sh.volume(x.shape),))
    found = node.step(ArgReduce(kind, 0, False), flat)
    return node.reshape(found, (1,) * x.type.rank) if keep else found


@torch_op("aten.any.default", "aten.any.dim", "aten.any.dims", "aten.all.default", "aten.all.dim", "aten.all.dims")
def any_all(node: NodeContext) -> Value:
    """Whether any or all elements are not zero; of bytes the result is a byte."""
    kind, given = "max" if ".any." in node.op else "min", node.arg("dim")
    truth = node.cast(node.cast(node.tensor(), dt.boolean), dt.u8)
    axes = node.axes() if given is None or given == [] or isinstance(given, list) else (node.axis(),)
    return node.cast(reduce(node, kind, truth, axes, node.flag("keepdim")), node.result.dtype)


def moments(node: NodeContext, x: Value, axes: tuple[int, ...], correction: float, keep: bool) -> tuple[Value, Value]:
    """Variance and mean; the sum of squares is divided by the number of elements less the correction."""
    mean = reduce(node, "mean", x, axes, True)
    distance = node.apply("square", node.apply("sub", x, mean))
    if correction == 0:
        variance = reduce(node, "mean", distance, axes, keep)
        return variance, mean if keep else node.reshape(mean, variance.shape)
    squares = reduce(node, "sum", distance, axes, keep)
    count = math.prod(node.static([x.shape[a] for a in axes]))
    left = max(count - correction, 0.0)
    variance = node.apply("div", squares, node.like(left, x))
    return variance, mean if keep else node.reshape(mean, variance.shape)


def _correction(node: NodeContext) -> float:
    given = node.arg("correction")
    return 1.0 if given is None else float(given)


@torch_op("aten.var.correction", "aten.std.correction")
def variance(node: NodeContext) -> Value:
    found, _ = moments(node, node.tensor(), node.axes(), _correction(node), node.flag("keepdim"))
    return node.apply("sqrt", found) if ".std." in node.op else found


@torch_op("aten.var_mean.correction", "aten.std_mean.correction")
def variance_mean(node: NodeContext) -> tuple[Value, ...]:
    found, mean = moments(node, node.tensor(), node.axes(), _correction(node), node.flag("keepdim"))
    return node.apply("sqrt", found) if ".std_mean." in node.op else found, mean


@torch_op("aten.logsumexp.default")
def logsumexp(node: NodeContext) -> Value:
    return _reduced(node, "logsumexp", node.cast(node.tensor(), node.result.dtype))


@torch_op("aten.linalg_vector_norm.default")
def vector_norm(node: NodeContext) -> Value:
    """The root of the sum of powers; orders 0 and infinity count and take the extreme."""
    x, order = node.cast(node.tensor(), node.result.dtype), float(node.arg("ord", 2))
    if order == 2:
        return _reduced(node, "l2", x)
    if order == 1:
        return _reduced(node, "l1", x)
    size = node.apply("abs", x)
    if math.isinf(order):
        return _reduced(node, "max" if order > 0 else "min", size)
    if order == 0:
        return _reduced(node, "sum", node.cast(node.apply("ne", x, node.like(0, x)), x.dtype))
    powers = _reduced(node, "sum", node.apply("pow", size, node.like(order, x)))
    return node.apply("pow", powers, node.like(1 / order, x))


@torch_op("aten.cumsum.default", "aten.cumprod.default")
def running(node: NodeContext) -> Value:
    x = node.cast(node.tensor(), node.result.dtype)
    op = CumSum if "cumsum" in node.op else CumProd
    return x if x.type.rank == 0 else node.step(op(node.axis()), x)


@torch_op("aten.median.dim", "aten.kthvalue.default")
def kth(node: NodeContext) -> tuple[Value, ...]:
    """The k-th smallest element along an axis; the median is the lower one of the middle."""
    x, axis, keep = node.tensor(), node.axis(), node.flag("keepdim")
    (size,) = node.static([x.shape[axis]])
    k = node.integer("k") if "kthvalue" in node.op else (size + 1) // 2
    ordered = node.steps(TopK(axis, k, largest=False), x)
    cut = [last(node, value, axis, keep) for value in ordered]
    return cut[0], cut[1]


def last(node: NodeContext, x: Value, axis: int, keep: bool) -> Value:
    """The last element along an axis."""
    from_end = node.static([x.shape[axis]])[0] - 1
    picked = node.step(slice_of(axis, from_end, from_end + 1), x)
    return picked if keep else node.reshape(picked, (*x.shape[:axis], *x.shape[axis + 1 :]))


def slice_of(axis: int, start: int, stop: int) -> Slice:
    """Elements start to stop along an axis."""
    return Slice((start,), (stop,), (axis,), (1,))

