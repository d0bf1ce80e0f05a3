"""An average pool and a 1x1 convolution change places where that leaves less to compute; both are linear, in different axes.

Before:
    y = average_pool(conv(x, w, b))                 the pool strides: as between the blocks of a DenseNet
    y = conv(average_pool(x), w, b)                 the pool keeps every position, o < c: as in Inception blocks
After:
    y = conv(average_pool(x), w, b)
    y = add(average_pool(conv(x, w)), b)
Unless:
    the value in between is read elsewhere, the convolution strides, pads or has groups, or it has a bias
    and the pool counts zeros that it pads with.
"""

from __future__ import annotations

from strop.ir import shape as sh
from strop.ir.graph import Graph, Value
from strop.ir.match import Match, New, Patch, any_value, op, optional, rewrite, rule
from strop.ir.shape import Dim
from strop.ops.conv import Conv
from strop.ops.data import Reshape
from strop.ops.elementwise import make
from strop.ops.pool import AveragePool
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "commute_pools"


def _pointwise(conv: Conv, weight: Value) -> bool:
    """True for a convolution that reads one position, each once."""
    ones = all(extent == 1 for extent in (*weight.shape[2:], *conv.strides))
    return ones and not any(conv.pads) and conv.groups == 1 and conv.layout == "NCHW" and weight.dtype.is_float


def _keeps_constants(pool: AveragePool) -> bool:
    """True when the mean of a constant is the constant everywhere."""
    return not pool.count_include_pad or not (any(pool.pads) or pool.ceil_mode)


def _positions(value: Value) -> Dim:
    return sh.volume(value.shape[2:])


@rule(op("average_pool", op("conv", any_value("x"), any_value("w"), optional(any_value("b")), name="conv", single_use=True)))
def pool_first(m: Match) -> Patch | None:
    """A pool that leaves fewer positions comes first when that saves more products than it adds sums."""
    pool, conv = m.root.op, m.node("conv").op
    assert isinstance(pool, AveragePool) and isinstance(conv, Conv)
    if not _pointwise(conv, m["w"]) or (m.get("b") is not None and not _keeps_constants(pool)):
        return None
    many, few = _positions(m.node("conv").output), _positions(m.root.output)
    c, o = m["x"].shape[1], m["w"].shape[0]
    if not all(isinstance(size, int) for size in (many, few, c, o)):
        return None
    assert isinstance(many, int) and isinstance(few, int) and isinstance(c, int) and isinstance(o, int)
    if 2 * c * o * (many - few) <= sh.count(pool.kernel) * max(0, c - o) * few:
        return None
    patch = Patch(m.graph)
    mean = patch.add(pool, m["x"], name=m.root.name, source=m.root.source)
    operands: list[Value | New | None] = [mean, *m.node("conv").inputs[1:]]
    return patch.replace(m.root.output, patch.add(conv, *operands, name=m.node("conv").name, source=m.node("conv").source))


@rule(op("conv", op("average_pool", any_value("x"), name="pool", single_use=True), any_value("w"), optional(any_value("b"))))
def conv_first(m: Match) -> Patch | None:
    """A convolution to at most half the channels comes before a pool that keeps all positions."""
    pool, conv = m.node("pool").op, m.root.op
    assert isinstance(pool, AveragePool) and isinstance(conv, Conv)
    c, o = m["x"].shape[1], m["w"].shape[0]
    if not isinstance(c, int) or not isinstance(o, int) or 2 * o > c or sh.count(pool.kernel) == 1:
        return None
    if not _pointwise(conv, m["w"]) or m["x"].shape[2:] != m.root.output.shape[2:]:
        return None
    patch = Patch(m.graph)
    product = patch.add(conv, m["x"], m["w"], name=m.root.name, source=m.root.source)
    mean = patch.add(pool, product, name=m.node("pool").name, source=m.node("pool").source)
    bias = m.get("b")
    if bias is None:
        return patch.replace(m.root.output, mean)
    aligned = patch.add(Reshape((o, *(1 for _ in m["x"].shape[2:]))), bias)
    return patch.replace(m.root.output, patch.add(make("add"), mean, aligned, source=m.root.source))


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (pool_first, conv_first), trace, NAME)
