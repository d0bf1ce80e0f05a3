"""Ops that TensorFlow Lite has no operator for, as ops that it has: normalizations, attention, some reductions, softmax along other axes.

Before: layer_norm(x, scale, bias).
After: (x - mean(x)) * rsqrt(mean(square(x - mean(x))) + epsilon) * scale + bias.

Nodes keep the names of the model's nodes that they stand for. ``strop.ir.interp`` gives the same before and after, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import partial

import numpy as np

from strop.export.apart import Apart, apply
from strop.export.functions import Direct, function
from strop.export.unroll import recurrent
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Graph, Value
from strop.ir.op import Op
from strop.ops.attention import Attention
from strop.ops.data import Expand, Pad, Transpose
from strop.ops.elementwise import Cast, Elementwise, make
from strop.ops.index import Gather, OneHot, TopK, Trilu
from strop.ops.matmul import MatMul
from strop.ops.mixed import MixedConv, MixedMatMul
from strop.ops.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from strop.ops.quantize import Dequantize
from strop.ops.recurrent import GRU, LSTM, RNN
from strop.ops.reduce import Reduce
from strop.ops.resize import Resize
from strop.ops.sizes import Iota
from strop.ops.softmax import LogSoftmax, Softmax

#: A score that counts nothing beside others.
_UNSEEN = -1e30


def expand(graph: Graph, direct: Direct, kept: Container[type[Op]] = ()) -> Graph:
    """A copy of the graph with such ops taken apart, but for those that are ``kept``, and elementwise functions and resizing that are not
    ``direct``."""
    result = graph.clone()
    apply(result, {op: rule for op, rule in _FIRST.items() if op not in kept})
    apply(result, {Elementwise: partial(function, direct=direct), Resize: partial(_resize, direct=direct)})
    return result


def expand_softmax(graph: Graph) -> None:
    """Takes apart what is left along other axes than the last one, when layouts are chosen; edits the graph."""
    apply(graph, {Softmax: _softmax, LogSoftmax: _log_softmax})


def _batch_norm(a: Apart) -> Value:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, BatchNorm)
    scale, bias, mean, variance = (a.channels(k) for k in range(1, 5))
    factor = a.apply("mul", scale, a.apply("rsqrt", a.apply("add", variance, op.epsilon)))
    return a.scaled(a.apply("sub", x, mean), factor, bias)


def _instance_norm(a: Apart) -> Value:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, InstanceNorm)
    return a.scaled(a.standardized(x, range(2, x.type.rank), op.epsilon), a.channels(1), a.channels(2))


def _group_norm(a: Apart) -> Value | None:
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


def _layer_norm(a: Apart) -> Value:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, LayerNorm)
    axes = range(op.axis % x.type.rank, x.type.rank)
    return a.scaled(a.standardized(x, axes, op.epsilon), a.node.operand(1), a.node.operand(2) if a.node.has(2) else None)


def _rms_norm(a: Apart) -> Value:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, RMSNorm)
    axes = range(op.axis % x.type.rank, x.type.rank)
    mean = a.reduce("mean", a.apply("square", x), axes)
    return a.scaled(a.apply("mul", x, a.apply("rsqrt", a.apply("add", mean, op.epsilon))), a.node.operand(1), None)


def _attention(a: Apart) -> Value | None:
    """A query that sees no key gives zeros."""
    op, (q, k, v) = a.node.op, [a.node.operand(i) for i in range(3)]
    assert isinstance(op, Attention)
    scores = a.step(MatMul(transpose_b=True), a.apply("mul", q, op.scale), k)
    if a.node.has(3):
        scores = a.apply("add", scores, a.node.operand(3))
    if op.causal:
        if not sh.is_static(scores.shape[-2:]):
            return None
        rows, columns = np.indices(sh.static(scores.shape[-2:]))
        scores = a.step(make("where"), a.const(columns > rows), a.number(_UNSEEN, scores.dtype), scores)
    if not a.node.has(3):
        return a.step(MatMul(), a.step(Softmax(-1), scores), v)
    scores = a.apply("max", scores, _UNSEEN)
    sees = a.apply("gt", a.reduce("max", scores, (scores.type.rank - 1,)), 0.1 * _UNSEEN)
    return a.step(make("where"), sees, a.step(MatMul(), a.step(Softmax(-1), scores), v), a.number(0.0, v.dtype))


def _mixed(a: Apart) -> Value | None:
    """The product with the weights as the floats that they stand for."""
    op = a.node.op
    assert isinstance(op, (MixedMatMul, MixedConv))
    known = [v.const for v in a.node.operands[1:]]
    if any(array is None for array in known):
        return None
    return a.step(op.plain(), a.node.operand(0), a.const(op.real(*(array for array in known if array is not None))))


def _dequantize(a: Apart) -> Value | None:
    """Known integers as the floats that they stand for; others, whose scale is computed, times it."""
    op, known = a.node.op, [v.const for v in a.node.operands]
    assert isinstance(op, Dequantize)
    if known[1] is None and op.block == 0 and a.node.output.dtype is dt.f32:
        whole, *zero = (a.step(Cast(dt.f32), v) for v in (a.node.operand(0), *a.node.operands[2:]))
        return a.apply("mul", a.apply("sub", whole, *zero) if zero else whole, a.node.operand(1))
    if any(array is None for array in known):
        return None
    return a.const(a.node.op.reference(*(array for array in known if array is not None))[0])


def _reduce(a: Apart) -> Value | None:
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


def _trilu(a: Apart) -> Value | None:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Trilu)
    if not sh.is_static(x.shape[-2:]):
        return None
    (kept,) = op.reference(np.ones(sh.static(x.shape[-2:]), np.bool_))
    return a.step(make("where"), a.const(kept), x, a.number(0, x.dtype))


def _one_hot(a: Apart) -> Value | None:
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


def _top_k(a: Apart) -> Sequence[Value] | None:
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


def _iota(a: Apart) -> Value | None:
    op = a.node.op
    assert isinstance(op, Iota)
    return a.const(op.reference()[0]) if isinstance(op.count, int) else None


def _cast(a: Apart) -> Value | None:
    """A float as a bool is whether it is not zero."""
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Cast)
    return a.apply("ne", x, 0.0) if op.to is dt.boolean and x.dtype is dt.f32 else None


def _pad(a: Apart) -> Value | None:
    """Edges repeated, or taken from the other side, joined to what they belong to."""
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Pad)
    rank = x.type.rank
    if op.mode not in ("edge", "wrap") or not sh.is_static(x.shape) or any(p < 0 for p in op.pads):
        return None
    for axis in range(rank):
        before, after = op.pads[axis], op.pads[rank + axis]
        size = x.type.static_shape[axis]
        if op.mode == "wrap":
            at = np.arange(-before, size + after) % size
        else:
            at = np.clip(np.arange(-before, size + after), 0, size - 1)
        x = x if before == after == 0 else a.step(Gather(axis), x, a.const(at.astype(np.int32)))
    return x


def _resize(a: Apart, direct: Direct) -> Value | None:
    """Picked by index, or a product with the matrix of the interpolation, axis by axis."""
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Resize)
    if direct(op, a.node.operands) or op.coordinates == "tf_crop_and_resize" or not sh.is_static((*x.shape, *op.sizes)) or 0 in x.shape:
        return None
    sizes = sh.static(op.sizes)
    for axis, size in enumerate(sizes):
        given = x.type.static_shape
        one = op.replace(sizes=(size,), scales=(op.scales[axis],))
        if size == given[axis] and op.scales[axis] == 1.0:
            continue
        if op.mode != "nearest" and x.dtype is not dt.f32:
            return None
        if op.mode == "nearest":
            (at,) = one.reference(np.arange(given[axis], dtype=np.int32))
            x = a.step(Gather(axis), x, a.const(at))
            continue
        rows = [one.reference(row)[0] for row in np.eye(given[axis], dtype=np.float32)]
        lead, tail = sh.count(given[:axis]), sh.count(given[axis + 1 :])
        flat = a.reshape(x, (lead, given[axis], tail))
        x = a.reshape(a.step(MatMul(), a.const(np.stack(rows, axis=1)[None]), flat), (*given[:axis], size, *given[axis + 1 :]))
    return x


def _softmax(a: Apart) -> Value | None:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Softmax)
    axis = op.axis % x.type.rank
    if axis == x.type.rank - 1:
        return None
    powers = a.apply("exp", a.apply("sub", x, a.reduce("max", x, (axis,))))
    return a.apply("div", powers, a.reduce("sum", powers, (axis,)))


def _log_softmax(a: Apart) -> Value | None:
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, LogSoftmax)
    axis = op.axis % x.type.rank
    if axis == x.type.rank - 1:
        return None
    lowered = a.apply("sub", x, a.reduce("max", x, (axis,)))
    return a.apply("sub", lowered, a.apply("log", a.reduce("sum", a.apply("exp", lowered), (axis,))))


_FIRST: dict[type[Op], Callable[[Apart], Sequence[Value] | Value | None]] = {
    Attention: _attention,
    BatchNorm: _batch_norm,
    Cast: _cast,
    Dequantize: _dequantize,
    GroupNorm: _group_norm,
    InstanceNorm: _instance_norm,
    Iota: _iota,
    GRU: recurrent,
    LSTM: recurrent,
    LayerNorm: _layer_norm,
    MixedConv: _mixed,
    MixedMatMul: _mixed,
    OneHot: _one_hot,
    Pad: _pad,
    RMSNorm: _rms_norm,
    RNN: recurrent,
    Reduce: _reduce,
    TopK: _top_k,
    Trilu: _trilu,
}

#: What ONNX has operators for.
IN_ONNX = frozenset(_FIRST) - {Attention, RMSNorm}
