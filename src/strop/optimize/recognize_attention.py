"""Finds scaled dot-product attention where an exporter spells it out.

Before:
    y = matmul(softmax(scale * matmul(q, transpose(k)) + mask), v)
    with the scale as one factor on the product or on q and k each, and the mask added or chosen by
    where(condition, scores, very negative)
After:
    y = attention(q, k, v, mask) {scale}
    A constant mask that hides exactly what lies above the diagonal becomes ``causal``.
    Source: Vaswani et al., Attention Is All You Need, 2017, equation 1.
Unless:
    the softmax is not over the last axis, an inner result is read elsewhere or is a graph output, the
    leading axes of q, k and v differ (shared heads), or the mask is scaled too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strop.errors import ShapeError
from strop.ir.graph import Graph, Node, Value
from strop.ir.match import Match, New, Patch, any_value, op, rewrite, rule, uniform
from strop.ops.attention import Attention
from strop.ops.data import Transpose
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.optimize.base import Options, is_float
from strop.trace import Trace

NAME = "recognize_attention"

HIDDEN = -1e9  # a summand at most this large hides a score


@dataclass(frozen=True)
class _Scores:
    """The scores as found: scale * product + mask."""

    product: Node
    scale: float
    mask: Value | None
    condition: Value | None = None  # of a where: false hides
    fill: Value | None = None


def _once(graph: Graph, value: Value) -> bool:
    return len(value.uses) == 1 and not graph.is_output(value)


def _unscaled(graph: Graph, value: Value) -> tuple[Value, float]:
    """The value under multiplications by one number that only it passes through, and their product."""
    factor = 1.0
    while value.producer is not None and value.producer.op.label == "mul" and _once(graph, value):
        number = uniform(value.producer.operand(1))
        inner = value.producer.operand(0)
        if number is None or inner.type != value.type:
            break
        factor *= number
        value = inner
    return value, factor


def _product(graph: Graph, value: Value) -> tuple[Node, float] | None:
    """The matrix product under a value, which only the value needs, and the factor between them."""
    inner, factor = _unscaled(graph, value)
    node = inner.producer
    if node is None or not isinstance(node.op, MatMul) or not _once(graph, inner):
        return None
    return None if node.op.transpose_a else (node, factor)


def _scores(graph: Graph, value: Value) -> _Scores | None:
    found = _product(graph, value)
    if found is not None:
        return _Scores(*found, None)
    node = value.producer
    if node is None or not _once(graph, value):
        return None
    if node.op.label == "add":
        for here, other in ((0, 1), (1, 0)):
            found = _product(graph, node.operand(here))
            if found is not None and node.operand(here).type == value.type:
                return _Scores(*found, node.operand(other))
    if node.op.label == "where":
        found = _product(graph, node.operand(1))
        fill = uniform(node.operand(2))
        hides = fill is not None and fill <= HIDDEN and node.operand(1).type == value.type
        if found is not None and hides:
            return _Scores(*found, None, node.operand(0), node.operand(2))
    return None


def _swapped(rank: int) -> tuple[int, ...]:
    return (*range(rank - 2), rank - 1, rank - 2)


def _turned(patch: Patch, value: Value) -> Value | New:
    """The value with its last two axes swapped, merged with a transposition that made it."""
    swap = _swapped(len(value.shape))
    node = value.producer
    if node is None or not isinstance(node.op, Transpose):
        return patch.add(Transpose(swap), value)
    perm = tuple(node.op.perm[p] for p in swap)
    inner = node.operand(0)
    return inner if perm == tuple(range(len(perm))) else patch.add(Transpose(perm), inner)


def _is_causal(mask: Value | None, shape: tuple[object, ...]) -> bool:
    """Whether a constant mask hides exactly the keys after each query."""
    if mask is None or mask.const is None or mask.const.ndim < 2 or shape[-2] != shape[-1]:
        return False
    table = mask.const.astype(np.float64)
    if table.shape[-2:] != shape[-2:] or table.size != table.shape[-1] * table.shape[-2]:
        return False
    table = table.reshape(table.shape[-2:])
    above = np.triu(np.ones(table.shape, bool), 1)
    return bool((table[above] <= HIDDEN).all() and (table[~above] == 0).all())


@rule(
    op(
        "matmul",
        op("softmax", any_value("scores", is_float), name="probabilities", single_use=True),
        any_value("v"),
        where=lambda n: not n.op.attributes()["transpose_a"],
    )
)
def attention(m: Match) -> Patch | None:
    """The whole formula."""
    rank = len(m["scores"].shape)
    if m.node("probabilities").op.attributes()["axis"] % rank != rank - 1 or rank < 2:
        return None
    found = _scores(m.graph, m["scores"])
    if found is None:
        return None
    q, q_scale = _unscaled(m.graph, found.product.operand(0))
    k, k_scale = _unscaled(m.graph, found.product.operand(1))
    patch = Patch(m.graph)
    assert isinstance(found.product.op, MatMul)
    keys = k if found.product.op.transpose_b else _turned(patch, k) if len(k.shape) > 1 else None
    values = _turned(patch, m["v"]) if m.root.op.attributes()["transpose_b"] else m["v"]
    if keys is None or min(len(q.shape), len(values.shape)) < 2:
        return None
    if not q.shape[:-2] == keys.shape[:-2] == values.shape[:-2]:
        return None
    mask: Value | New | None = found.mask
    if found.condition is not None and found.fill is not None:
        zero = patch.const(np.zeros((), found.fill.dtype.numpy), "zero")
        mask = patch.add(make("where"), found.condition, zero, found.fill)
    causal = _is_causal(found.mask, m["scores"].shape)
    scale = found.scale * q_scale * k_scale
    try:
        result = patch.add(Attention(scale, causal), q, keys, values, None if causal else mask)
    except ShapeError:  # the mask would enlarge the scores
        return None
    return patch.replace_if_same(m.root.output, result)


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (attention,), trace, NAME)
