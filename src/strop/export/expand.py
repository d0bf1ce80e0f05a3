"""Ops that TensorFlow Lite has no operator for, as ops that it has: normalizations, attention, some reductions, softmax along other axes.

Before: layer_norm(x, scale, bias).
After: (x - mean(x)) * rsqrt(mean(square(x - mean(x))) + epsilon) * scale + bias.

Nodes keep the names of the model's nodes that they stand for. ``strop.ir.interp`` gives the same before and after, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import cast_array
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array, Op
from strop.ir.shape import Dim
from strop.ops.attention import Attention
from strop.ops.data import Expand, Reshape, Transpose
from strop.ops.elementwise import Cast, make
from strop.ops.index import OneHot, TopK, Trilu
from strop.ops.integer import MixedMatMul
from strop.ops.matmul import MatMul
from strop.ops.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from strop.ops.quantize import Dequantize
from strop.ops.reduce import Reduce
from strop.ops.sizes import Iota
from strop.ops.softmax import LogSoftmax, Softmax


def expand(graph: Graph) -> Graph:
    """A copy of the graph with such ops taken apart."""
    result = graph.clone()
    _apply(result, _FIRST)
    return result


def expand_softmax(graph: Graph) -> None:
    """Takes apart what is left along other axes than the last one, when layouts are chosen; edits the graph."""
    _apply(graph, {Softmax: _softmax, LogSoftmax: _log_softmax})


def _apply(graph: Graph, rules: dict[type[Op], Callable[[_Apart], Sequence[Value] | Value | None]]) -> None:
    for node in list(graph.nodes):
        rule = rules.get(type(node.op))
        found = None if rule is None else rule(_Apart(graph, node))
        if found is None:
            continue
        results = list(found) if isinstance(found, Sequence) else [found]
        names = [v.name for v in node.outputs]
        for old, new in zip(node.outputs, results, strict=True):
            graph.replace_uses(old, new)
        graph.remove(node)
        for name, new in zip(names, results, strict=True):
            if new.producer is not None:
                graph.rename(new, name)


@dataclass
class _Apart:
    """One node that is taken apart."""

    graph: Graph
    node: Node

    def step(self, op: Op, *operands: Value) -> Value:
        """Another op in the node's place."""
        made = self.graph.add(op, operands, name=f"{self.node.name}.{op.label}", source=self.node.source, before=self.node)
        return made.outputs[0]

    def apply(self, fn: str, *operands: Value | float, **params: float) -> Value:
        """An elementwise function; numbers are constants of the first value's type."""
        typed = next(v for v in operands if isinstance(v, Value) and v.dtype is not dt.boolean)
        values = [v if isinstance(v, Value) else self.number(v, typed.dtype) for v in operands]
        return self.step(make(fn, **params), *values)

    def number(self, number: float, dtype: DType) -> Value:
        """A scalar constant."""
        return self.const(cast_array(np.asarray(number), dtype))

    def const(self, array: Array) -> Value:
        """A constant."""
        return self.graph.add_const(array, f"{self.node.name}.const")

    def reshape(self, value: Value, shape: Sequence[Dim]) -> Value:
        """A value under another shape."""
        if value.const is not None and sh.is_static(tuple(shape)):
            return self.const(value.const.reshape(sh.static(tuple(shape))))
        return value if value.shape == tuple(shape) else self.step(Reshape(tuple(shape)), value)

    def reduce(self, kind: str, value: Value, axes: Sequence[int], keepdims: bool = True) -> Value:
        """A reduction."""
        return self.step(Reduce(kind, tuple(axes), keepdims), value)

    def standardized(self, x: Value, axes: Sequence[int], epsilon: float) -> Value:
        """Zero mean and unit variance over axes."""
        centred = self.apply("sub", x, self.reduce("mean", x, axes))
        variance = self.reduce("mean", self.apply("square", centred), axes)
        return self.apply("mul", centred, self.apply("rsqrt", self.apply("add", variance, epsilon)))

    def scaled(self, x: Value, scale: Value, bias: Value | None) -> Value:
        """x * scale + bias."""
        made = self.apply("mul", x, scale)
        return made if bias is None else self.apply("add", made, bias)

    def channels(self, index: int) -> Value:
        """An operand of one number per channel, aligned with x[N, C, ...]."""
        value, rank = self.node.operand(index), self.node.operand(0).type.rank
        return self.reshape(value, (*value.shape, *(1,) * (rank - 2)))


def _batch_norm(a: _Apart) -> Value:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, BatchNorm)
    scale, bias, mean, variance = (a.channels(k) for k in range(1, 5))
    factor = a.apply("mul", scale, a.apply("rsqrt", a.apply("add", variance, op.epsilon)))
    return a.scaled(a.apply("sub", x, mean), factor, bias)


def _instance_norm(a: _Apart) -> Value:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, InstanceNorm)
    return a.scaled(a.standardized(x, range(2, x.type.rank), op.epsilon), a.channels(1), a.channels(2))


def _group_norm(a: _Apart) -> Value | None:
    """Moments per channel first, so that no axis of the image is cut."""
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, GroupNorm)
    batch, channels, *spatial = x.shape
    if not isinstance(channels, int):
        return None
    axes = tuple(range(2, x.type.rank))

    def shared(value: Value) -> Value:
        """The mean over each group of a mean per channel, aligned with x."""
        groups = a.reshape(a.reduce("mean", value, axes, False) if axes else value, (batch, op.groups, channels // op.groups))
        spread = a.step(Expand((batch, op.groups, channels // op.groups)), a.reduce("mean", groups, (2,)))
        return a.reshape(spread, (batch, channels, *(1,) * len(spatial)))

    centred = a.apply("sub", x, shared(x))
    factor = a.apply("rsqrt", a.apply("add", shared(a.apply("square", centred)), op.epsilon))
    return a.scaled(a.apply("mul", centred, factor), a.channels(1), a.channels(2))


def _layer_norm(a: _Apart) -> Value:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, LayerNorm)
    axes = range(op.axis % x.type.rank, x.type.rank)
    return a.scaled(a.standardized(x, axes, op.epsilon), a.node.operand(1), a.node.operand(2) if a.node.has(2) else None)


def _rms_norm(a: _Apart) -> Value:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, RMSNorm)
    axes = range(op.axis % x.type.rank, x.type.rank)
    mean = a.reduce("mean", a.apply("square", x), axes)
    return a.scaled(a.apply("mul", x, a.apply("rsqrt", a.apply("add", mean, op.epsilon))), a.node.operand(1), None)


def _attention(a: _Apart) -> Value | None:
    op, (q, k, v) = a.node.op, [a.node.operand(i) for i in range(3)]
    assert isinstance(op, Attention)
    scores = a.step(MatMul(transpose_b=True), a.apply("mul", q, op.scale), k)
    if a.node.has(3):
        scores = a.apply("add", scores, a.node.operand(3))
    if op.causal:
        if not sh.is_static(scores.shape[-2:]):
            return None
        rows, columns = np.indices(sh.static(scores.shape[-2:]))
        scores = a.step(make("where"), a.const(columns > rows), a.number(-1e30, scores.dtype), scores)
    return a.step(MatMul(), a.step(Softmax(-1), scores), v)


def _mixed_matmul(a: _Apart) -> Value | None:
    """Whole numbers as floats, which they are exactly."""
    op, w = a.node.op, a.node.operand(1)
    assert isinstance(op, MixedMatMul)
    if w.const is None:
        return None
    return a.step(op.plain(), a.node.operand(0), a.const(w.const.astype(np.float32)))


def _dequantize(a: _Apart) -> Value | None:
    """Known integers as the floats that they stand for."""
    known = [v.const for v in a.node.operands]
    if any(array is None for array in known):
        return None
    return a.const(a.node.op.reference(*(array for array in known if array is not None))[0])


def _reduce(a: _Apart) -> Value | None:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Reduce)
    axes, keep = op.axes, op.keepdims
    if op.kind == "l1":
        return a.reduce("sum", a.apply("abs", x), axes, keep)
    if op.kind == "sumsq":
        return a.reduce("sum", a.apply("square", x), axes, keep)
    if op.kind == "l2":
        return a.apply("sqrt", a.reduce("sum", a.apply("square", x), axes, keep))
    if op.kind == "logsum":
        return a.apply("log", a.reduce("sum", x, axes, keep))
    if op.kind == "logsumexp":
        top = a.reduce("max", x, axes)
        total = a.apply("add", a.apply("log", a.reduce("sum", a.apply("exp", a.apply("sub", x, top)), axes)), top)
        return total if keep else a.reshape(total, a.node.output.shape)
    return None


def _trilu(a: _Apart) -> Value | None:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Trilu)
    if not sh.is_static(x.shape[-2:]):
        return None
    (kept,) = op.reference(np.ones(sh.static(x.shape[-2:]), np.bool_))
    return a.step(make("where"), a.const(kept), x, a.number(0, x.dtype))


def _one_hot(a: _Apart) -> Value | None:
    """An index beside all positions."""
    op, (at, values) = a.node.op, (a.node.operand(0), a.node.operand(1))
    assert isinstance(op, OneHot)
    if values.const is None or not isinstance(op.depth, int):
        return None
    axis = op.axis % (at.type.rank + 1)
    places = np.arange(op.depth).astype(at.dtype.numpy).reshape(-1, *(1,) * (at.type.rank - axis))
    wrapped = a.step(make("where"), a.apply("lt", at, 0), a.apply("add", at, op.depth), at)
    found = a.apply("eq", a.reshape(wrapped, (*at.shape[:axis], 1, *at.shape[axis:])), a.const(places))
    return a.step(make("where"), found, a.const(values.const[1]), a.const(values.const[0]))


def _top_k(a: _Apart) -> Sequence[Value] | None:
    """Along the last axis, the largest of negative numbers for the smallest."""
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, TopK)
    axis, rank = op.axis % x.type.rank, x.type.rank
    if (axis == rank - 1 and op.largest) or (not op.largest and not x.dtype.is_float):
        return None
    perm = [k for k in range(rank) if k != axis] + [axis]
    given = x if axis == rank - 1 else a.step(Transpose(tuple(perm)), x)
    given = given if op.largest else a.apply("neg", given)
    made = a.graph.add(TopK(rank - 1, op.k), [given], name=f"{a.node.name}.top_k", source=a.node.source, before=a.node)
    found = [made.outputs[0] if op.largest else a.apply("neg", made.outputs[0]), made.outputs[1]]
    back = tuple(perm.index(k) for k in range(rank))
    return [v if axis == rank - 1 else a.step(Transpose(back), v) for v in found]


def _iota(a: _Apart) -> Value | None:
    op = a.node.op
    assert isinstance(op, Iota)
    return a.const(op.reference()[0]) if isinstance(op.attributes()["size"], int) else None


def _cast(a: _Apart) -> Value | None:
    """A float as a bool is whether it is not zero."""
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Cast)
    return a.apply("ne", x, 0.0) if op.to is dt.boolean and x.dtype is dt.f32 else None


def _softmax(a: _Apart) -> Value | None:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Softmax)
    axis = op.axis % x.type.rank
    if axis == x.type.rank - 1:
        return None
    powers = a.apply("exp", a.apply("sub", x, a.reduce("max", x, (axis,))))
    return a.apply("div", powers, a.reduce("sum", powers, (axis,)))


def _log_softmax(a: _Apart) -> Value | None:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, LogSoftmax)
    axis = op.axis % x.type.rank
    if axis == x.type.rank - 1:
        return None
    lowered = a.apply("sub", x, a.reduce("max", x, (axis,)))
    return a.apply("sub", lowered, a.apply("log", a.reduce("sum", a.apply("exp", lowered), (axis,))))


_FIRST: dict[type[Op], Callable[[_Apart], Sequence[Value] | Value | None]] = {
    Attention: _attention,
    BatchNorm: _batch_norm,
    Cast: _cast,
    Dequantize: _dequantize,
    GroupNorm: _group_norm,
    InstanceNorm: _instance_norm,
    Iota: _iota,
    LayerNorm: _layer_norm,
    MixedMatMul: _mixed_matmul,
    OneHot: _one_hot,
    RMSNorm: _rms_norm,
    Reduce: _reduce,
    TopK: _top_k,
    Trilu: _trilu,
}
