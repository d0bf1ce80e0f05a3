"""Quantized layers as integer kernels: what the portable form spells with floats between Dequantize and Quantize.

Before:
    Quantize(relu(Conv(Dequantize(x), Dequantize(w), Dequantize(bias))))
After:
    saturate(round(relu((IntegerConv(x, w, x_zero) + bias) * (x_scale * w_scale / y_scale))) + y_zero)
    The product is exact in i32, or with 16-bit activations or f8e4m3 in f32 as of WideConv; all behind it is elementwise and becomes its epilogue. Scales are combined in f32, as ONNX Runtime does.
Unless:
    activations have a scale per channel or weights one per input, something is not known that must be, centred weights do not fit i8, or sums
    might not fit i32: then the layer is computed in floats.

Products of floats with dequantized weights: see ``lower/mixed.py``.

Before:
    Quantize(reshape(Dequantize(x))), Quantize(Concat(Dequantize(x), ..)), Quantize(MaxPool(Dequantize(x)))
After:
    The same on integers. What only moves or picks values, or adds zeros, keeps scale and zero point; parts of a concat with others are requantized.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array, Op
from strop.lower.mixed import mix
from strop.lower.regions import anchors_of, read_later
from strop.ops.conv import Conv
from strop.ops.data import Concat, Identity, Pad, Reshape, Slice, Split, Transpose
from strop.ops.elementwise import Cast, Elementwise, make
from strop.ops.integer import FACTORS, IntegerConv, IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.pool import MaxPool
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.wide import WideConv, WideMatMul

#: Ops that move or pick values, which then mean what they meant.
MOVING = (Reshape, Transpose, Slice, Identity, MaxPool)
#: Elementwise functions f with f(s * x) = s * f(x) for s > 0.
_HOMOGENEOUS = ("relu", "clip", "leaky_relu")
#: Products of 8-bit numbers whose sum always fits i32.
_MOST = 1 << 16


def integrate(graph: Graph) -> None:
    """Rewrites the graph in place."""
    for node in list(graph.nodes):
        _turn_integers(graph, node)
        _pad_integers(graph, node)
    for node in list(graph.nodes):
        if isinstance(node.op, (Conv, MatMul)):
            _product(graph, node)
        if isinstance(node.op, (Conv, MatMul)) and node in graph.nodes:
            mix(graph, node)
    _sink(graph)
    for node in list(graph.nodes):
        if isinstance(node.op, Quantize) and node in graph.nodes:
            _quantize_parts(graph, node)
    for node in list(graph.nodes):
        if isinstance(node.op, Quantize) and node in graph.nodes:
            _cancel(graph, node) or _narrow(graph, node) or _absorb_scale(graph, node) or _reciprocal(graph, node)
    graph.prune()
    for node in list(graph.nodes):
        if isinstance(node.op, Dequantize) and node.operand(0).const is not None:
            _evaluate(graph, node)
    graph.prune()


# ---- products


@dataclass(frozen=True)
class _Stored:
    """What a Dequantize reads: integers with one scale, or one per output channel, and a zero point."""

    value: Value
    scale: Array
    zero: Value | None


def _stored(value: Value) -> _Stored | None:
    node = value.producer
    if node is None or not isinstance(node.op, Dequantize) or node.op.block or value.dtype is not dt.f32:
        return None
    scale = node.operand(1).const
    return None if scale is None else _Stored(node.operand(0), scale, node.operand(2) if node.has(2) else None)


def _product(graph: Graph, node: Node) -> None:
    """A product of dequantized factors; see the module's text."""
    x, w = _stored(node.operand(0)), _stored(node.operand(1))
    if x is None or w is None or w.value.const is None or x.scale.size != 1 or x.value.dtype not in (*FACTORS, dt.i16, dt.f8e4m3):
        return
    wide = x.value.dtype not in FACTORS
    if wide and x.zero is not None and (x.zero.const is None or np.any(x.zero.const)):
        return
    weights = w.value.const if x.value.dtype is w.value.dtype is dt.f8e4m3 else None if x.value.dtype is dt.f8e4m3 else _centred(w)
    factor = None if weights is None else _factor(node, w, x.scale)
    if weights is None or factor is None:
        return
    operands = [x.value, graph.add_const(weights, w.value.name)]
    if x.zero is not None and not wide:
        if x.zero.type.rank:
            x = _Stored(x.value, x.scale, _scalar(graph, node, x.zero))
        assert x.zero is not None
        operands.append(x.zero)
    op = node.op
    assert isinstance(op, (Conv, MatMul))
    exact: Op
    if isinstance(op, Conv):
        exact = WideConv.of(op) if wide else IntegerConv.of(op)
    else:
        exact = WideMatMul(op.transpose_a, op.transpose_b) if wide else IntegerMatMul(op.transpose_a, op.transpose_b)
    last = node
    bias = node.operand(2) if node.has(2) else None
    if bias is None and isinstance(op, MatMul) and not wide:
        last, bias = _added(graph, node)
    made = _Chain(graph, node, last)
    total = made.add(exact, *operands)
    given = None if bias is None else _stored(bias)
    channels = _channels(node)
    if bias is not None and given is not None and not wide and given.value.const is not None and _same_scale(given, factor, channels):
        total = made.add(make("add"), total, _aligned(graph, given.value.const, channels, bias.name))
        bias = None
    real = made.add(make("mul"), total if wide else made.add(Cast(dt.f32), total), graph.add_const(factor, f"{node.name}.scale"))
    if bias is not None:
        if isinstance(op, Conv) and bias.const is not None:
            bias = _aligned(graph, bias.const, channels, bias.name)
        elif isinstance(op, Conv):
            bias = made.add(Reshape((*bias.shape, *channels[1:])), bias)
        real = made.add(make("add"), real, bias)
    graph.replace_uses(last.output, real)
    if last is not node:
        graph.remove(last)
    graph.remove(node)


class _Chain:
    """Adds nodes that stand for others, before the last of them."""

    def __init__(self, graph: Graph, node: Node, before: Node) -> None:
        self.graph, self.node, self.before = graph, node, before

    def add(self, op: Op, *operands: Value) -> Value:
        """The result of a new node."""
        found = self.graph.add(op, list(operands), name=self.node.name, source=self.node.source, before=self.before)
        return found.output


def _scalar(graph: Graph, node: Node, value: Value) -> Value:
    if value.const is not None:
        return graph.add_const(value.const.reshape(()), value.name)
    return graph.add(Reshape(()), [value], name=value.name, source=node.source, before=node).output


def _centred(w: _Stored) -> Array | None:
    """Weights less their zero points as i8; None when they are no 8-bit integers or do not fit."""
    stored = w.value.const
    assert stored is not None
    if w.value.dtype not in FACTORS:
        return None
    if w.zero is None:
        whole = stored.astype(np.int16)
    elif w.zero.const is None:
        return None
    else:
        whole = stored.astype(np.int16) - w.zero.const.astype(np.int16)
    if whole.size and (whole.min() < -128 or whole.max() > 127):
        return None
    return whole.astype(np.int8)


def _channels(node: Node) -> tuple[int, ...]:
    """Shape of something that is known per output channel, next to the result."""
    shape = node.operand(1).type.static_shape
    if isinstance(node.op, Conv):
        spatial = len(shape) - 2 if node.op.layout == "NCHW" else 0
        return (shape[0], *(1,) * spatial)
    assert isinstance(node.op, MatMul)
    return (shape[-2] if node.op.transpose_b else shape[-1],)


def _factor(node: Node, w: _Stored, x_scale: Array) -> Array | None:
    """x_scale * w_scale next to the result; None when weights are scaled along another axis than their output channels."""
    op = node.op
    shape = w.value.type.static_shape
    if isinstance(op, Conv):
        depth, axis = int(np.prod(shape[1:])), 0
    else:
        assert isinstance(op, MatMul)
        if len(shape) != 2:
            return None
        axis = 0 if op.transpose_b else 1
        depth = shape[1 - axis]
    if depth > _MOST:
        return None
    scale = w.scale
    if scale.size != 1:
        whole = (1,) * (len(shape) - scale.ndim) + scale.shape
        if any(d != 1 for k, d in enumerate(whole) if k != axis):
            return None
        scale = scale.reshape(_channels(node))
    else:
        scale = scale.reshape(())
    return np.asarray(x_scale.reshape(()).astype(np.float32) * scale.astype(np.float32))


def _added(graph: Graph, node: Node) -> tuple[Node, Value | None]:
    """The addition of a known bias to a matrix product and the bias, or the product itself and None."""
    users = node.output.users
    if len(users) != 1 or graph.is_output(node.output) or not _is(users[0], "add"):
        return node, None
    add = users[0]
    other = add.operand(1) if add.operand(0) is node.output else add.operand(0)
    given = _stored(other)
    if given is None or given.value.const is None or add.output.shape != node.output.shape or other.shape != _channels(node):
        return node, None
    return add, other


def _same_scale(bias: _Stored, factor: Array, channels: tuple[int, ...]) -> bool:
    """True when the integers of a bias are in units of the product's."""
    if bias.value.dtype is not dt.i32 or bias.value.shape != channels[:1]:
        return False
    if bias.zero is not None and (bias.zero.const is None or np.any(bias.zero.const)):
        return False
    wide = bias.scale.astype(np.float64).reshape(-1)
    return bool(np.allclose(np.broadcast_to(wide, channels[0]), np.broadcast_to(factor.reshape(-1), channels[0]), rtol=1e-5, atol=0))


def _aligned(graph: Graph, bias: Array, channels: tuple[int, ...], name: str) -> Value:
    return graph.add_const(bias.reshape(channels), name)


def _is(node: Node, fn: str) -> bool:
    return isinstance(node.op, Elementwise) and node.op.fn == fn


# ---- what moves


def _sink(graph: Graph) -> None:
    """Moves Dequantize behind ops that only move or pick values, where a Quantize, or more such ops, follow."""
    for node in list(graph.nodes):
        if not isinstance(node.op, (*MOVING, Split)) or not _leads_to_quantize(node):
            continue
        maker = node.operand(0).producer
        if maker is None or not isinstance(maker.op, Dequantize) or maker.operand(1).type.rank or maker.op.block:
            continue
        made = graph.add(node.op, [maker.operand(0)], name=node.name, source=node.source, before=node)
        for old, new in zip(node.outputs, made.outputs, strict=True):
            real = graph.add(Dequantize(), [new, *maker.operands[1:]], name=maker.name, source=maker.source, before=node)
            graph.replace_uses(old, real.output)
        graph.remove(node)


def _turn_integers(graph: Graph, node: Node) -> None:
    """Transposes integers, not the reals they stand for: Transpose(Dequantize(x)) as Dequantize(Transpose(x)), which layers then read, and
    Quantize(Transpose(x)) as Transpose(Quantize(x))."""
    maker = node.operands[0].producer if node.operands else None
    if maker is None:
        return
    if isinstance(node.op, Transpose) and _one_number_of(maker, Dequantize) and maker.operand(0).const is None:
        turned = graph.add(node.op, [maker.operand(0)], name=node.name, source=node.source, before=node)
        made = graph.add(maker.op, [turned.output, *maker.operands[1:]], name=maker.name, source=maker.source, before=node)
    elif _one_number_of(node, Quantize) and isinstance(maker.op, Transpose) and len(maker.output.uses) == 1 and not graph.is_output(maker.output):
        stored = graph.add(node.op, [maker.operand(0), *node.operands[1:]], name=node.name, source=node.source, before=node)
        made = graph.add(maker.op, [stored.output], name=maker.name, source=maker.source, before=node)
    else:
        return
    graph.replace_uses(node.output, made.output)
    graph.remove(node)


def _pad_integers(graph: Graph, node: Node) -> None:
    """Pad(Dequantize(x)) with zeros as Dequantize(Pad(x)) with zero points, which layers then read."""
    maker = node.operands[0].producer if isinstance(node.op, Pad) else None
    if maker is None or not _one_number_of(maker, Dequantize) or maker.operand(0).const is not None:
        return
    zero = maker.operand(2).const if maker.has(2) else np.zeros(())
    assert isinstance(node.op, Pad)
    if zero is None or node.op.mode != "constant" or node.op.value != 0:
        return
    op = replace(node.op, value=float(zero.reshape(())[()]))
    padded = graph.add(op, [maker.operand(0)], name=node.name, source=node.source, before=node)
    real = graph.add(maker.op, [padded.output, *maker.operands[1:]], name=maker.name, source=maker.source, before=node)
    graph.replace_uses(node.output, real.output)
    graph.remove(node)


def _one_number_of(node: Node, op: type[Quantize] | type[Dequantize]) -> bool:
    return isinstance(node.op, op) and _one_number(node)


def _leads_to_quantize(node: Node, depth: int = 8) -> bool:
    users = [u for v in node.outputs for u in v.users]
    return bool(users) and depth > 0 and all(
        isinstance(u.op, Quantize) or (isinstance(u.op, (*MOVING, Split, Concat)) and _leads_to_quantize(u, depth - 1)) for u in users
    )


def _quantize_parts(graph: Graph, node: Node) -> None:
    """Quantize(Concat(a, b)) as Concat(Quantize(a), Quantize(b))."""
    whole = node.operand(0).producer
    if whole is None or not isinstance(whole.op, Concat) or not _one_number(node) or len(whole.output.uses) != 1 or graph.is_output(whole.output):
        return
    parts = [
        graph.add(node.op, [part, *node.operands[1:]], name=node.name, source=node.source, before=node) for part in whole.operands
    ]
    joined = graph.add(whole.op, [p.output for p in parts], name=whole.name, source=whole.source, before=node)
    graph.replace_uses(node.output, joined.output)
    graph.remove(node)
    for part in parts:
        _quantize_parts(graph, part)


def _one_number(node: Node) -> bool:
    return node.operand(1).type.rank == 0 and _spreads(node.op)


def _spreads(op: Op) -> bool:
    """True for a Quantize or Dequantize whose scale broadcasts."""
    return isinstance(op, (Quantize, Dequantize)) and op.block == 0


def _cancel(graph: Graph, node: Node) -> bool:
    """Quantize(Dequantize(x)) with equal scales and zero points is x."""
    maker = node.operand(0).producer
    if maker is None or not isinstance(maker.op, Dequantize) or maker.operand(0).dtype is not node.output.dtype:
        return False
    if maker.op.block or not _spreads(node.op) or len(maker.operands) != len(node.operands):
        return False
    if not all(_equal(a, b) for a, b in zip(maker.operands[1:], node.operands[1:], strict=True)):
        return False
    graph.replace_uses(node.output, maker.operand(0))
    graph.remove(node)
    return True


def _equal(a: Value, b: Value) -> bool:
    if a is b:
        return True
    return a.const is not None and b.const is not None and a.type == b.type and bool((a.const == b.const).all())


# ---- requantization


def _absorb_scale(graph: Graph, node: Node) -> bool:
    """Divides the factors of what is quantized by the scale that it is quantized with, which leaves rounding and clamping."""
    scale = node.operand(1).const
    value = node.operand(0)
    if scale is None or scale.size != 1 or not _spreads(node.op) or value.dtype is not dt.f32 or not _divides(graph, value):
        return False
    made = _Chain(graph, node, node)
    unit = np.float32(scale.reshape(())[()])
    zero = node.operand(2) if node.has(2) else None
    lowest, highest = _bounds(node, unit)
    if zero is None or zero.const is not None:
        value = _unbounded(value)
    _round_to_integers(graph, made, node, _divided(graph, made, value, unit), lowest, highest)
    return True


def _round_to_integers(graph: Graph, made: _Chain, node: Node, value: Value, lowest: float, highest: float) -> None:
    """Puts saturate(round(value) + zero point) in the place of a Quantize."""
    whole = made.add(make("round"), value)
    zero = node.operand(2) if node.has(2) else None
    if zero is not None:
        if zero.const is not None:
            known = graph.add_const(zero.const.astype(np.float32).reshape(()), f"{node.name}.zero")
        else:
            known = made.add(Cast(dt.f32), _scalar(graph, node, zero))
        whole = made.add(make("add"), whole, known)
    bounded = made.add(make("clip", lo=lowest, hi=highest), whole)
    graph.replace_uses(node.output, made.add(Cast(node.output.dtype), bounded))
    graph.remove(node)


def _reciprocal(graph: Graph, node: Node) -> bool:
    """Multiplies what an elementwise function gives by the scale's reciprocal: within one unit in the last place of the quotient, as ``canonicalize`` does."""
    scale, maker = node.operand(1).const, node.operand(0).producer
    if scale is None or scale.size != 1 or not _spreads(node.op) or node.operand(0).dtype is not dt.f32 or maker is None or not isinstance(maker.op, Elementwise):
        return False
    unit = np.float32(scale.reshape(())[()])
    with np.errstate(over="ignore", divide="ignore"):
        factor = np.float32(1) / unit
    if not np.isfinite(factor) or abs(factor) < np.finfo(np.float32).tiny:
        return False
    made = _Chain(graph, node, node)
    scaled = made.add(make("mul"), node.operand(0), graph.add_const(np.asarray(factor), node.operand(1).name))
    info = np.iinfo(str(node.output.dtype.numpy))
    _round_to_integers(graph, made, node, scaled, float(info.min), float(info.max))
    return True


def _narrow(graph: Graph, node: Node) -> bool:
    """Multiplies what becomes f8e4m3 by the scale's reciprocal, as ``_reciprocal``; the cast rounds and saturates. Inputs of the network are divided."""
    scale = node.operand(1).const
    if node.output.dtype is not dt.f8e4m3 or scale is None or not _spreads(node.op) or node.operand(0).dtype is not dt.f32 or node.operand(0).producer is None:
        return False
    made = _Chain(graph, node, node)
    factor = np.float32(1) / scale.astype(np.float32)
    scaled = made.add(make("mul"), node.operand(0), graph.add_const(np.asarray(factor), node.operand(1).name))
    graph.replace_uses(node.output, made.add(Cast(dt.f8e4m3), scaled))
    graph.remove(node)
    return True


def _unbounded(value: Value) -> Value:
    """What a last relu or clip limits, or the value itself."""
    node = value.producer
    return node.operand(0) if node is not None and (_is(node, "relu") or _is(node, "clip")) else value


def _bounds(node: Node, unit: np.float32) -> tuple[float, float]:
    """What a Quantize can give: its type's integers, and with a known zero point those that a last relu or clip leaves. Rounding keeps order, so
    that the limits of integers stand for those of reals."""
    info = np.iinfo(str(node.output.dtype.numpy))
    zero = node.operand(2).const if node.has(2) else np.zeros((), np.int64)
    last = node.operand(0).producer
    if zero is None or last is None or _unbounded(last.output) is last.output:
        return float(info.min), float(info.max)
    assert isinstance(last.op, Elementwise)
    limits = {"lo": 0.0, "hi": np.inf} if last.op.fn == "relu" else dict(last.op.params)
    lo, hi = (np.rint(np.float32(limits[name]) / unit) + np.float32(zero.reshape(-1)[0]) for name in ("lo", "hi"))
    return float(np.clip(lo, info.min, info.max)), float(np.clip(hi, info.min, info.max))


def _divides(graph: Graph, value: Value, inner: bool = False) -> bool:
    """True when a value can be divided in its constants: sums of products with constants, and functions that keep factors."""
    if value.const is not None:
        return inner
    node = value.producer
    if node is None or _rescales(node):
        return inner and node is not None
    if len(value.uses) != 1 or graph.is_output(value) or not isinstance(node.op, Elementwise):
        return False
    if node.op.fn == "mul" and node.operand(1).const is not None and _is_sum(node.operand(0)):
        return True
    if node.op.fn == "add":
        return all(_divides(graph, v, True) for v in node.operands)
    return node.op.fn in _HOMOGENEOUS and _divides(graph, node.operand(0), True)


def _rescales(node: Node) -> bool:
    """True for a Dequantize with a known scale, which any reader may have with another one."""
    return isinstance(node.op, Dequantize) and _spreads(node.op) and node.operand(1).const is not None


def _is_sum(value: Value) -> bool:
    node = value.producer
    if node is None:
        return False
    return isinstance(node.op, (WideConv, WideMatMul)) or (isinstance(node.op, Cast) and node.operand(0).dtype is dt.i32)


def _divided(graph: Graph, made: _Chain, value: Value, unit: np.float32) -> Value:
    """The value divided by ``unit``, which ``_divides`` allows."""
    if value.const is not None:
        return graph.add_const(np.asarray(value.const.astype(np.float32) / unit), value.name)
    node = value.producer
    assert node is not None
    op = node.op
    if isinstance(op, Dequantize):
        return made.add(op, node.operand(0), _divided(graph, made, node.operand(1), unit), *node.operands[2:])
    assert isinstance(op, Elementwise)
    if op.fn == "mul":
        return made.add(op, node.operand(0), _divided(graph, made, node.operand(1), unit))
    if op.fn == "clip":
        op = make("clip", **{name: float(np.float32(bound) / unit) for name, bound in op.params})
    return made.add(op, *(_divided(graph, made, v, unit) for v in node.operands))


# ---- what is quantized and at once dequantized


def shorten(graph: Graph) -> None:
    """Keeps in floats what one kernel quantizes and dequantizes again.

    Before: Dequantize(cast(clip(round(v) + zero, lo, hi)), scale, zero).
    After: clip(round(v), lo - zero, hi - zero) * scale, with the same values.
    Unless: the integers have other readers, or are stored for a later kernel.
    """
    anchored = anchors_of(graph)
    for node in [n for n in graph.nodes if isinstance(n.op, Dequantize) and not read_later(n, anchored)]:
        if not _spreads(node.op) or node.output.dtype is not dt.f32:
            continue
        found = _rounded(graph, node)
        if found is None:
            continue
        value, limits = found
        made = _Chain(graph, node, node)
        whole = made.add(make("clip", **limits), value)
        graph.replace_uses(node.output, made.add(make("mul"), whole, node.operand(1)))
        graph.remove(node)
    graph.prune()


def _rounded(graph: Graph, node: Node) -> tuple[Value, dict[str, float]] | None:
    """What a Dequantize reads before it was shifted by its zero point, clamped and narrowed, and the limits less the zero point."""
    zero = node.operand(2).const if node.has(2) else np.zeros((), np.int64)
    if zero is None or zero.size != 1:
        return None
    shift = int(zero.reshape(())[()])
    cast = _maker(graph, node.operand(0))
    clip = _maker(graph, cast.operand(0)) if cast is not None and isinstance(cast.op, Cast) else None
    last = _maker(graph, clip.operand(0)) if clip is not None and _is(clip, "clip") else None
    if last is not None and _is(last, "add"):
        known = last.operand(1).const
        if known is None or known.size != 1 or float(known.reshape(())[()]) != shift:
            return None
        last = _maker(graph, last.operand(0))
    elif shift:
        return None
    if clip is None or last is None or not _is(last, "round"):
        return None
    assert isinstance(clip.op, Elementwise)
    return last.output, {name: float(bound) - shift for name, bound in clip.op.params}


def _maker(graph: Graph, value: Value) -> Node | None:
    """The node that makes a value which is read once only."""
    return value.producer if len(value.uses) == 1 and not graph.is_output(value) else None


def _evaluate(graph: Graph, node: Node) -> None:
    """Known integers that no integer kernel reads become floats."""
    arrays = [v.const for v in node.operands]
    if any(a is None for a in arrays) or not sh.is_static(node.output.shape):
        return
    (real,) = node.op.reference(*(a for a in arrays if a is not None))
    graph.replace_uses(node.output, graph.add_const(real, node.output.name))
    graph.remove(node)
