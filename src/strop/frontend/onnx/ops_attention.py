"""ONNX Attention (opset 23 and later), RotaryEmbedding and SwiGLU."""

from __future__ import annotations

from math import sqrt

import numpy as np

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Operand
from strop.frontend.onnx.ops_data import quotient
from strop.frontend.onnx.registry import onnx_op
from strop.frontend.onnx.tensors import element_type
from strop.ir import shape as sh
from strop.ir.shape import Dim
from strop.ops.attention import Attention
from strop.ops.data import Concat, Expand, Pad, Reshape, Slice, Transpose
from strop.ops.elementwise import Cast, make
from strop.ops.index import Gather
from strop.ops.matmul import MatMul
from strop.ops.reduce import Reduce
from strop.ops.softmax import Softmax


@onnx_op("Attention", since=23)
def attention(node: NodeContext) -> tuple[Operand, ...]:
    """One Attention when no query can be left without keys and no score is asked for; else spelled out.

    A query that sees no key gives zeros in ONNX, which is why masks that are not known are spelled out.
    """
    scale_given = node.number("scale", 0.0) if node.has("scale") else None
    softcap, mode = node.number("softcap", 0.0), node.integer("qk_matmul_output_mode", 0)
    precision = node.integer("softmax_precision") if node.has("softmax_precision") else None
    frontier, flat = _frontier(node), node.rank(0) == 3
    q, k, v = (_heads(node, i, "q_num_heads" if i == 0 else "kv_num_heads") for i in range(3))
    past = node.optional(4) is not None
    if past != (node.optional(5) is not None):
        raise node.malformed("past_key and past_value come together")
    present = tuple(
        node.step(Concat(2), node.operand(4 + i), x) if past else x for i, x in enumerate((k, v))
    )
    heads = q.type.shape[1]
    keys, values = (_repeat_heads(node, x, heads) for x in present)
    (head_size,) = sh.static(q.type.shape[3:], node.where)
    if not (q.type.dtype.is_float and values.type.dtype.is_float) or head_size < 1:
        raise node.malformed("operands do not fit", got=f"{q.type}, {values.type}")
    scale = 1.0 / sqrt(head_size) if scale_given is None else scale_given
    asked = len(node.wanted) > 3 and node.wanted[3]
    if softcap == 0.0 and precision is None and not asked and q.type.dtype == values.type.dtype:
        if frontier == [("le", 0)] and not any(node.optional(i) for i in (3, 4, 6)):
            out = node.step(Attention(scale, causal=True), q, keys, values)
            return (_joined(node, out, flat), *present)
        bias = _bias(node, q, keys, frontier)
        if bias is None or (isinstance(bias, Known) and _every_row(bias.array)):
            out = node.step(Attention(scale), q, keys, values, bias)
            return (_joined(node, out, flat), *present)
    else:
        bias = _bias(node, q, keys, frontier)
    weights, stages = _weights(node, q, keys, bias, scale, softcap, precision)
    if weights.type.dtype != values.type.dtype:
        weights = node.step(Cast(values.type.dtype), weights)
    if not 0 <= mode < 4:
        raise node.malformed(
            "attribute qk_matmul_output_mode out of range", got=mode, expected="0 to 3"
        )
    out = node.step(MatMul(), weights, values)
    return (_joined(node, out, flat), *present, (*stages, weights)[mode])


def _weights(
    node: NodeContext,
    q: Operand,
    keys: Operand,
    bias: Operand | None,
    scale: float,
    softcap: float,
    precision: int | None,
) -> tuple[Operand, list[Operand]]:
    """Softmax of the scores, zero for a query that sees no key; and the scores after scaling, softcap and masking."""
    scores = node.step(
        make("mul"), node.step(MatMul(transpose_b=True), q, keys), node.like(scale, q)
    )
    stages = [scores]
    if softcap != 0.0:
        capped = node.step(make("tanh"), node.step(make("div"), scores, node.like(softcap, q)))
        scores = node.step(make("mul"), capped, node.like(softcap, q))
    stages.append(scores)
    if bias is not None:
        scores = node.step(make("add"), scores, bias)
    stages.append(scores)
    if precision is not None:
        scores = node.step(Cast(element_type(precision, node.where)), scores)
    weights = node.step(Softmax(-1), scores)
    if bias is not None:
        most = node.step(Reduce("max", (bias.type.rank - 1,), True), bias)
        blind = node.step(make("eq"), most, node.like(-np.inf, most))
        weights = node.step(make("where"), blind, node.like(0, weights), weights)
    return weights, stages


def _heads(node: NodeContext, index: int, attribute: str) -> Operand:
    """An operand as [batch, heads, sequence, size]."""
    x = node.operand(index)
    count = node.integer(attribute, 0)
    if x.type.rank == 4:
        return x
    if x.type.rank != 3:
        raise node.malformed(
            f"operand {index} has the wrong rank", got=x.type, expected="rank 3 or 4"
        )
    batch, length, width = x.type.shape
    if count < 1 or (isinstance(width, int) and width % count):
        raise node.malformed(
            f"attribute {attribute} does not fit", got=count, expected=f"a divisor of {width}"
        )
    split = node.step(Reshape((batch, length, count, quotient(width, count))), x)
    return node.step(Transpose((0, 2, 1, 3)), split)


def _joined(node: NodeContext, x: Operand, flat: bool) -> Operand:
    """[batch, heads, sequence, size] back to what the operands look like."""
    if not flat:
        return x
    batch, heads, length, size = x.type.shape
    return node.step(
        Reshape((batch, length, sh.mul(heads, size))), node.step(Transpose((0, 2, 1, 3)), x)
    )


def _repeat_heads(node: NodeContext, x: Operand, heads: Dim) -> Operand:
    """Every key or value head as often as query heads share it."""
    batch, have, length, size = x.type.shape
    if have == heads:
        return x
    if not (isinstance(have, int) and isinstance(heads, int)) or have < 1 or heads % have:
        raise node.malformed("heads of query and key do not fit", got=f"{heads} and {have}")
    spread: tuple[Dim, ...] = (batch, have, heads // have, length, size)
    lone = node.step(Reshape((batch, have, 1, length, size)), x)
    return node.step(Reshape((batch, heads, length, size)), node.step(Expand(spread), lone))


def _every_row(bias: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bool:
    """Whether every query sees a key."""
    return bool(np.all(np.any(bias > np.asarray(-np.inf, bias.dtype), axis=-1)))


def _frontier(node: NodeContext) -> list[tuple[str, int]]:
    """Which keys a query at position p sees: comparisons of the key's position with p plus a distance."""
    left, right = node.integer("left_window_size", -1), node.integer("right_window_size", -1)
    found = [("le", 0)] if node.flag("is_causal") else []
    if left >= 0:
        found.append(("ge", -left))
    if right >= 0:
        found.append(("le", right))
    return found


def _positions(node: NodeContext, queries: Dim, seen: Operand | None) -> Operand:
    """Positions of the queries among the keys: they are the last of those seen, or follow the past ones."""
    (rows,) = sh.static((queries,), node.where)
    node.check_size((rows,), 8)
    row = node.const(np.arange(rows).reshape(-1, 1))
    if seen is not None:
        return node.step(
            make("add"), row, node.step(make("sub"), seen, node.const(np.asarray(rows)))
        )
    if node.optional(4) is None:
        return row
    (past,) = sh.static(node.shape(4)[2:3], node.where)
    return node.const(np.arange(past, past + rows).reshape(-1, 1))


def _bias(
    node: NodeContext, q: Operand, keys: Operand, frontier: list[tuple[str, int]]
) -> Operand | None:
    """What is added to the scores: the mask, the frontier and the padding of an external cache; or None."""
    queries, total = q.type.shape[2], keys.type.shape[2]
    valid = node.optional(6)
    allowed: Operand | None = None
    bias: Operand | None = None
    mask = node.optional(3)
    if mask is not None:
        mask = _padded(node, mask, total)
        if mask.type.dtype.name == "bool":
            allowed = mask
        else:
            bias = mask
    (length,) = sh.static((total,), node.where) if valid is not None or frontier else (0,)
    node.check_size((length,), 8)
    column = node.const(np.arange(length))
    if valid is not None:
        seen = node.step(Reshape((*valid.type.shape, 1, 1, 1)), valid)
        allowed = _both(node, allowed, node.step(make("lt"), column, seen))
    if frontier:
        position = _positions(node, queries, seen if valid is not None else None)
        for compare, distance in frontier:
            edge = node.step(make("add"), position, node.const(np.asarray(distance)))
            allowed = _both(node, allowed, node.step(make(compare), column, edge))
    if allowed is None:
        return bias
    if isinstance(allowed, Known):
        hidden: Operand = node.const(
            np.where(allowed.array, 0.0, -np.inf).astype(q.type.dtype.numpy)
        )
    else:
        hidden = node.step(make("where"), allowed, node.like(0, q), node.like(-np.inf, q))
    return hidden if bias is None else node.step(make("add"), bias, hidden)


def _both(node: NodeContext, a: Operand | None, b: Operand) -> Operand:
    return b if a is None else node.step(make("and"), a, b)


def _padded(node: NodeContext, mask: Operand, total: Dim) -> Operand:
    """A mask whose last axis is shorter than the keys hides the rest."""
    have = mask.type.shape[-1] if mask.type.rank else 1
    if have == total or have == 1 or not (isinstance(have, int) and isinstance(total, int)):
        return mask
    pads = (0,) * (2 * mask.type.rank - 1) + (total - have,)
    return node.step(
        Pad(pads, "constant", 0.0 if mask.type.dtype.name == "bool" else -np.inf), mask
    )


@onnx_op("RotaryEmbedding", since=23)
def rotary_embedding(node: NodeContext) -> Operand:
    """Rotates pairs of channels by the angles in the caches (RoPE, https://arxiv.org/abs/2104.09864)."""
    x, count = node.operand(0), node.integer("num_heads", 0)
    flat = x.type.rank == 3
    interleaved, part = node.flag("interleaved"), node.integer("rotary_embedding_dim", 0)
    if flat:
        batch, length, width = x.type.shape
        if count < 1 or (isinstance(width, int) and width % count):
            raise node.malformed(
                "attribute num_heads does not fit", got=count, expected=f"a divisor of {width}"
            )
        split = node.step(Reshape((batch, length, count, quotient(width, count))), x)
    elif x.type.rank == 4:
        split = node.step(Transpose((0, 2, 1, 3)), x)
    else:
        raise node.malformed("operand 0 has the wrong rank", got=x.type, expected="rank 3 or 4")
    (size,) = sh.static(split.type.shape[3:], node.where)
    part = part or size
    if part % 2 or not 0 < part <= size:
        raise node.malformed(
            "attribute rotary_embedding_dim does not fit", got=part, expected=f"even, up to {size}"
        )
    angles = []
    for index in (1, 2):
        cache = node.operand(index)
        if node.optional(3) is not None:
            cache = node.step(Gather(0), cache, node.operand(3))
        if cache.type.rank != 3:
            raise node.malformed("the angles have the wrong rank", got=cache.type)
        batch, length, half = cache.type.shape
        angles.append(node.step(Reshape((batch, length, 1, half)), cache))
    turned = _rotated(node, _cut(node, split, 0, part), angles[0], angles[1], part, interleaved)
    if part < size:
        turned = node.step(Concat(3), turned, _cut(node, split, part, size))
    return (
        node.step(Reshape(x.type.shape), turned)
        if flat
        else node.step(Transpose((0, 2, 1, 3)), turned)
    )


def _cut(node: NodeContext, x: Operand, start: int, stop: int, step: int = 1) -> Operand:
    """x[..., start:stop:step]"""
    axis = x.type.rank - 1
    if (start, stop, step) == (0, x.type.shape[axis], 1):
        return x
    return node.step(Slice.of(x.type.shape, [start], [stop], [axis], [step]), x)


def _rotated(
    node: NodeContext, x: Operand, cos: Operand, sin: Operand, part: int, interleaved: bool
) -> Operand:
    """(x1 cos - x2 sin, x1 sin + x2 cos), the pair being the halves or every other channel."""
    half = part // 2
    if interleaved:
        x1, x2 = _cut(node, x, 0, part, 2), _cut(node, x, 1, part, 2)
    else:
        x1, x2 = _cut(node, x, 0, half), _cut(node, x, half, part)
    mul, add, sub = make("mul"), make("add"), make("sub")
    real = node.step(sub, node.step(mul, cos, x1), node.step(mul, sin, x2))
    imaginary = node.step(add, node.step(mul, sin, x1), node.step(mul, cos, x2))
    if not interleaved:
        return node.step(Concat(3), real, imaginary)
    shape = real.type.shape
    pair = node.step(Concat(4), *(node.step(Reshape((*shape, 1)), p) for p in (real, imaginary)))
    return node.step(Reshape((*shape[:3], part)), pair)


@onnx_op("SwiGLU", since=28)
def swiglu(node: NodeContext) -> Operand:
    gate = node.step(make("swish", alpha=node.number("alpha", 1.0)), node.operand(0))
    return node.step(make("mul"), gate, node.operand(1))
