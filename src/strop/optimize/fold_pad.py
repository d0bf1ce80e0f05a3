"""Lets convolutions and pools pad by themselves.

Before:
    y = conv(pad(x, p), w)          zeros
    y = average_pool(pad(x, p))     zeros
    y = max_pool(pad(x, p))         -inf, or zeros when x is never negative
After:
    y = conv(x, w) {pads = pads + p};  y = average_pool(x) {pads = pads + p, count_include_pad};
    y = max_pool(x) {pads = pads + p}
Unless:
    the pad crops, is not constant, pads batch or channels, or is read elsewhere; the pool has ceil_mode
    or a window that could lie in the padding alone; the average pool has uncounted pads of its own.
"""

from __future__ import annotations

import math

from strop.ir import dtype as dt
from strop.ir.graph import Graph, Node, Value
from strop.ir.match import Match, Patch, any_value, op, rewrite, rule
from strop.ops.conv import Conv
from strop.ops.data import Pad
from strop.ops.pool import AveragePool, MaxPool
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "fold_pad"


def _pads_constant(node: Node) -> bool:
    assert isinstance(node.op, Pad)
    return node.op.mode == "constant" and min(node.op.pads, default=0) >= 0


PADDED = op("pad", any_value("x"), name="pad", where=_pads_constant, single_use=True)


def _summed(m: Match, own: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The reader's pads plus the pad node's along ``axes``; None when it pads other axes too."""
    pad = m.node("pad").op
    assert isinstance(pad, Pad)
    rank = len(m["x"].shape)
    if any(pad.pads[k] or pad.pads[rank + k] for k in range(rank) if k not in axes):
        return None
    added = [pad.pads[k] for k in axes] + [pad.pads[rank + k] for k in axes]
    return tuple(a + b for a, b in zip(own, added, strict=True))


def _value(m: Match) -> float:
    pad = m.node("pad").op
    assert isinstance(pad, Pad)
    return pad.value


@rule(op("conv", PADDED, any_value("w"), ...))
def into_conv(m: Match) -> Patch | None:
    """Convolutions pad with zeros."""
    assert isinstance(m.root.op, Conv)
    pads = _summed(m, m.root.op.pads, m.root.op.spatial_axes(len(m["x"].shape)))
    if pads is None or _value(m) != 0:
        return None
    return m.becomes(m.root.op.replace(pads=pads), m["x"], *m.root.inputs[1:])


def _spatial(m: Match) -> tuple[int, ...]:
    return tuple(range(2, len(m["x"].shape)))


@rule(op("average_pool", PADDED))
def into_average_pool(m: Match) -> Patch | None:
    """Zeros that count in the mean."""
    old = m.root.op
    assert isinstance(old, AveragePool)
    pads = _summed(m, old.pads, _spatial(m))
    counted = old.count_include_pad or not any(old.pads)
    if pads is None or _value(m) != 0 or old.ceil_mode or not counted:
        return None
    return m.becomes(old.replace(pads=pads, count_include_pad=True), m["x"])


@rule(op("max_pool", PADDED))
def into_max_pool(m: Match) -> Patch | None:
    """Padding that never wins, in windows that always hold an element."""
    old = m.root.op
    assert isinstance(old, MaxPool)
    pads = _summed(m, old.pads, _spatial(m))
    if pads is None or old.ceil_mode or not _never_wins(_value(m), m["x"]):
        return None
    rank = len(old.kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(old.kernel, old.dilations, strict=True)]
    if any(pads[k] >= reach[k] or pads[rank + k] >= reach[k] for k in range(rank)):
        return None
    if any(d > 1 for d in old.dilations):  # a dilated window can straddle a small x
        return None
    return m.becomes(old.replace(pads=pads), m["x"])


NOT_NEGATIVE = ("relu", "sigmoid", "hard_sigmoid", "abs", "square", "exp", "softplus", "softmax")


def _never_wins(value: float, x: Value) -> bool:
    if value == -math.inf and x.dtype in (dt.f64, dt.f32, dt.f16, dt.bf16):
        return True
    node = x.producer
    if value != 0 or node is None:
        return False
    if node.op.label == "clip":
        return bool(dict(node.op.attributes()["params"])["lo"] >= 0)
    return node.op.label in NOT_NEGATIVE


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (into_conv, into_average_pool, into_max_pool), trace, NAME)
