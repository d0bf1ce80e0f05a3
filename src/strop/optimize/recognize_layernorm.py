"""Finds layer and RMS normalization where an exporter spells them out.

Before:
    d = x - mean(x); y = d / sqrt(mean(d * d) + epsilon) * scale + bias
    y = x / sqrt(mean(x * x) + epsilon) * scale
    with means over the last axes, keeping them; squares as pow, mul or square; division by sqrt or
    multiplication by its reciprocal; scale and bias may be missing.
After:
    y = layer_norm(x, scale, bias);  y = rms_norm(x, scale)
    Sources: Ba et al., Layer Normalization, 2016; Zhang and Sennrich, Root Mean Square Layer
    Normalization, 2019.
Unless:
    the means are not over the last axes, epsilon is not one positive number, or an inner result is a
    graph output or read elsewhere (d and mean are read inside, as often as the formula says). A scale
    or bias is only taken in when it is constant and varies along the normalized axes alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.ir import shape as sh
from strop.ir.graph import Graph, Node
from strop.ir.match import (
    Match,
    Patch,
    Pattern,
    any_value,
    const,
    either,
    op,
    optional,
    rewrite,
    rule,
    splat,
    uniform,
)
from strop.ir.op import Array
from strop.ir.shape import Shape
from strop.ops.norm import LayerNorm, RMSNorm
from strop.optimize.base import Options, is_float, narrow, wide
from strop.trace import Trace

NAME = "recognize_layernorm"

X = any_value("x", is_float)


def _trailing_mean(node: Node) -> bool:
    attributes: dict[str, Any] = node.op.attributes()
    rank = len(node.operand(0).shape)
    axes = sorted(axis % rank for axis in attributes["axes"]) if rank else []
    return (
        attributes["kind"] == "mean"
        and attributes["keepdims"]
        and axes == list(range(rank - len(axes), rank))
    )


def _square(inner: Pattern) -> Pattern:
    two = any_value(None, lambda v: uniform(v) == 2.0)
    return either(
        op("square", inner, single_use=True),
        op("pow", inner, two, single_use=True),
        op("mul", inner, inner, single_use=True),
    )


def _normalized(value: Pattern) -> tuple[Pattern, ...]:
    """``value`` over the root of its mean square plus epsilon."""
    mean_square = op(
        "reduce", _square(value), name="variance", where=_trailing_mean, single_use=True
    )
    shifted = op("add", mean_square, splat("epsilon"), single_use=True)
    root = op("sqrt", shifted, single_use=True)
    inverse = either(op("rsqrt", shifted, single_use=True), op("reciprocal", root, single_use=True))
    return op("div", value, root), op("mul", value, inverse)


MEAN = op("reduce", X, name="mean", where=_trailing_mean, single_use=True)
CENTERED = op("sub", X, MEAN, name="centered")


def _axis(m: Match) -> int:
    """The first normalized axis."""
    return len(m["x"].shape) - len(m.node("variance").op.attributes()["axes"])


def _full(array: Array, shape: Shape) -> Array:
    """A scale or bias in the normalized shape, which is the last axis alone when a dim is symbolic."""
    inner = shape if sh.is_static(shape) else (*(1 for _ in shape[1:]), shape[-1])
    return np.array(np.broadcast_to(array, np.broadcast_shapes(array.shape, sh.static(inner))))


def _epsilon(m: Match) -> float | None:
    found = uniform(m["epsilon"])
    return found if found is not None and found > 0 else None


@rule(*_normalized(CENTERED))
def layer_norm(m: Match) -> Patch | None:
    """The core, with a scale of ones that ``scale_of_norm`` may replace."""
    centered, readers = m["centered"], {m.root, m.node("variance").operand(0).producer, None}
    if set(centered.users) - readers or m.graph.is_output(centered):
        return None
    return _norm(m, LayerNorm)


@rule(*_normalized(X))
def rms_norm(m: Match) -> Patch | None:
    """The core without the mean."""
    return _norm(m, RMSNorm)


def _norm(m: Match, kind: type[LayerNorm] | type[RMSNorm]) -> Patch | None:
    epsilon, axis, shape = _epsilon(m), _axis(m), m["x"].shape
    if epsilon is None or not isinstance(shape[-1], int):
        return None
    patch = Patch(m.graph)
    ones = _full(np.ones(1, m["x"].dtype.numpy), shape[axis:])
    scale = patch.const(ones, f"{m.root.name}.scale")
    return patch.replace_if_same(m.root.output, patch.add(kind(axis, epsilon), m["x"], scale))


def _inner(m: Match) -> Array | None:
    """The constant ``c`` when it varies along the normalized axes alone, without leading ones."""
    axis: int = m.node("norm").op.attributes()["axis"]
    shape = m["x"].shape
    c, rank = m.array("c"), len(shape) - axis % len(shape)
    if any(extent != 1 for extent in c.shape[: max(c.ndim - rank, 0)]):
        return None
    if c.ndim > len(shape):
        return None
    own = c.shape[max(c.ndim - rank, 0) :]
    if any(extent not in (1, dim) for extent, dim in zip(reversed(own), reversed(shape))):
        return None  # it makes the result larger than x
    return _full(c.reshape(own), shape[len(shape) - rank :])


@rule(
    op("mul", op("layer_norm", X, const("s"), name="norm", single_use=True), const("c")),
    op("mul", op("rms_norm", X, const("s"), name="norm", single_use=True), const("c")),
)
def scale_of_norm(m: Match) -> Patch | None:
    """A constant factor goes into the scale."""
    factor = _inner(m)
    scale = None if factor is None else narrow(wide(m.array("s")) * wide(factor), m["x"].dtype)
    if scale is None:
        return None
    patch = Patch(m.graph)
    scaled = patch.add(m.node("norm").op, m["x"], patch.const(scale, m["c"].name))
    return patch.replace_if_same(m.root.output, scaled)


@rule(
    op(
        "add",
        op("layer_norm", X, const("s"), optional(const("b")), name="norm", single_use=True),
        const("c"),
    )
)
def shift_of_norm(m: Match) -> Patch | None:
    """A constant summand goes into the bias."""
    added = _inner(m)
    if added is None:
        return None
    old = 0.0 if m.get("b") is None else wide(m.array("b"))
    bias = narrow(wide(added) + old, m["x"].dtype)
    if bias is None:
        return None
    patch = Patch(m.graph)
    shifted = patch.add(m.node("norm").op, m["x"], m["s"], patch.const(bias, m["c"].name))
    return patch.replace_if_same(m.root.output, shifted)


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (layer_norm, rms_norm, scale_of_norm, shift_of_norm), trace, NAME)
