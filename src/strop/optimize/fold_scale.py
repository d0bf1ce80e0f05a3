"""Folds multiplications and additions by constants into the constants beside them.

Before -> After:
    mul(conv(x, w, b), s)     -> conv(x, w * s, b * s)     s per output channel; conv_transpose alike
    add(conv(x, w, b), t)     -> conv(x, w, b + t)         t per output channel
    conv(mul(x, s), w, b)     -> conv(x, w * s, b)         s per input channel
    conv(add(x, t), w, b)     -> conv(x, w, b + w . t)     t per input channel, no padding
    mul(matmul(x, w), s)      -> matmul(x, w * s)          s per column
    matmul(mul(x, s), w)      -> matmul(x, s * w)          s per row of w
    mul(mul(x, a), b)         -> mul(x, a * b)
    add(add(x, a), b)         -> add(x, a + b)
    mul(add(x, a), b)         -> add(mul(x, b), a * b)     x comes from a matmul or a mul by a constant
    Products and sums of constants are taken in float64 and rounded once.
Unless:
    the inner result is read elsewhere or is a graph output, the constant varies along another axis, a
    constant would become infinite or grow by broadcasting, or the values are integers.
"""

from __future__ import annotations

import numpy as np

from strop.ir.graph import Graph, Node, Value
from strop.ir.match import (
    Match,
    OpPattern,
    Patch,
    any_value,
    const,
    op,
    optional,
    rewrite,
    rule,
)
from strop.ir.op import Array
from strop.ops.conv import Conv
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.optimize.base import Options, along_axis, is_float, narrow, wide
from strop.optimize.weights import scaled_conv, scaled_matmul
from strop.trace import Trace

NAME = "fold_scale"

X = any_value("x", is_float)
CONV = op(
    ("conv", "conv_transpose"),
    any_value("x"),
    const("w"),
    optional(const("b")),
    name="inner",
    single_use=True,
)
MATMUL = op("matmul", X, const("w"), name="inner", single_use=True)


def _channel_axis(node: Node) -> int:
    rank = len(node.output.shape)
    return node.op.channel_axis(rank) if isinstance(node.op, Conv) else 1


def _per_result_channel(m: Match) -> Array | None:
    """The constant ``c`` per output channel of the convolution ``inner``."""
    node = m.node("inner")
    return along_axis(m.array("c"), node.output.shape, _channel_axis(node))


# ---- after a convolution or product


@rule(op("mul", CONV, const("c")))
def scale_after_conv(m: Match) -> Patch | None:
    """The weights and the bias are scaled."""
    s = _per_result_channel(m)
    return None if s is None else scaled_conv(m, m.node("inner"), s, 0.0)


@rule(op("add", CONV, const("c")))
def shift_after_conv(m: Match) -> Patch | None:
    """The bias is shifted."""
    t = _per_result_channel(m)
    if t is None:
        return None
    node, patch = m.node("inner"), Patch(m.graph)
    old = 0.0 if m.get("b") is None else wide(m.array("b"))
    bias = narrow(old + t, node.output.dtype)
    if bias is None:
        return None
    name = f"{node.name}.bias" if m.get("b") is None else m["b"].name
    result = patch.add(node.op, m["x"], m["w"], patch.const(bias, name))
    return patch.replace_if_same(m.root.output, result)


@rule(op("mul", MATMUL, const("c")))
def scale_after_matmul(m: Match) -> Patch | None:
    """The columns of the constant operand are scaled."""
    shape = m["inner"].shape
    if len(m["w"].shape) < 2 or not shape:
        return None
    s = along_axis(m.array("c"), shape, len(shape) - 1)
    return None if s is None else scaled_matmul(m, m.node("inner"), s)


# ---- before a convolution or product


def _conv_after(fn: str) -> OpPattern:
    inner = op(fn, X, const("c"), name="inner", single_use=True)
    return op("conv", inner, const("w"), optional(const("b")))


def _per_input_channel(m: Match) -> Array | None:
    """The constant ``c`` per index of w's axis 1, in a form [O, C/groups] that w is multiplied by."""
    node = m.root
    assert isinstance(node.op, Conv)
    shape = m["inner"].shape
    if m["x"].shape != shape:
        return None
    c = along_axis(m.array("c"), shape, node.op.channel_axis(len(shape)))
    if c is None:
        return None
    per_group = c.reshape(node.op.groups, -1)
    return np.repeat(per_group, m.array("w").shape[0] // node.op.groups, axis=0)


@rule(_conv_after("mul"))
def scale_before_conv(m: Match) -> Patch | None:
    """The weights are scaled per input channel; padding stays zero."""
    s = _per_input_channel(m)
    if s is None:
        return None
    w = wide(m.array("w"))
    weights = narrow(w * s.reshape(*s.shape, *[1] * (w.ndim - 2)), m["w"].dtype)
    if weights is None:
        return None
    patch = Patch(m.graph)
    result = patch.add(m.root.op, m["x"], patch.const(weights, m["w"].name), m.get("b"))
    return patch.replace_if_same(m.root.output, result)


@rule(_conv_after("add"))
def shift_before_conv(m: Match) -> Patch | None:
    """What the shift adds goes into the bias; padding would not be shifted, so there must be none."""
    t = _per_input_channel(m)
    assert isinstance(m.root.op, Conv)
    if t is None or any(m.root.op.pads):
        return None
    w = wide(m.array("w"))
    added = (w * t.reshape(*t.shape, *[1] * (w.ndim - 2))).reshape(w.shape[0], -1).sum(axis=1)
    old = 0.0 if m.get("b") is None else wide(m.array("b"))
    bias = narrow(old + added, m["w"].dtype)
    if bias is None:
        return None
    name = f"{m.root.name}.bias" if m.get("b") is None else m["b"].name
    patch = Patch(m.graph)
    result = patch.add(m.root.op, m["x"], m["w"], patch.const(bias, name))
    return patch.replace_if_same(m.root.output, result)


@rule(op("matmul", op("mul", X, const("c"), name="inner", single_use=True), const("w")))
def scale_before_matmul(m: Match) -> Patch | None:
    """The rows of the constant operand are scaled."""
    assert isinstance(m.root.op, MatMul)
    shape, old = m["inner"].shape, m.root.op
    if m["x"].shape != shape or len(shape) < 2 or len(m["w"].shape) < 2 or old.transpose_a:
        return None
    s = along_axis(m.array("c"), shape, len(shape) - 1)
    if s is None:
        return None
    weights = narrow(wide(m.array("w")) * (s if old.transpose_b else s[:, None]), m["w"].dtype)
    if weights is None:
        return None
    patch = Patch(m.graph)
    result = patch.add(old, m["x"], patch.const(weights, m["w"].name))
    return patch.replace_if_same(m.root.output, result)


# ---- among themselves


def _combined(m: Match, fn: str) -> Patch | None:
    a, b = wide(m.array("a")), wide(m.array("b"))
    with np.errstate(all="ignore"):
        merged = narrow(a * b if fn == "mul" else a + b, m["x"].dtype)
    if merged is None or merged.size > max(a.size, b.size):
        return None
    patch = Patch(m.graph)
    result = patch.add(make(fn), m["x"], patch.const(merged, m["a"].name))
    return patch.replace_if_same(m.root.output, result)


@rule(op("mul", op("mul", X, const("a"), single_use=True), const("b")))
def scales(m: Match) -> Patch | None:
    """Two factors are one."""
    return _combined(m, "mul")


@rule(op("add", op("add", X, const("a"), single_use=True), const("b")))
def shifts(m: Match) -> Patch | None:
    """Two summands are one."""
    return _combined(m, "add")


def _takes_scales(value: Value) -> bool:
    """Whether a scale of the value can go into constants: a product, or a scaled value."""
    node = value.producer
    if node is None or node.op.label not in ("matmul", "mul") or not value.dtype.is_float:
        return False
    return len(value.uses) == 1 and node.operand(1).const is not None


@rule(
    op(
        "mul",
        op("add", any_value("x", _takes_scales), const("a"), single_use=True),
        const("b"),
    )
)
def scale_of_shift(m: Match) -> Patch | None:
    """(x + a) * b is x * b + a * b; the scale moves towards the constants that can take it."""
    if m.graph.is_output(m["x"]):
        return None
    with np.errstate(all="ignore"):
        shift = narrow(wide(m.array("a")) * wide(m.array("b")), m["x"].dtype)
    if shift is None or shift.size > max(m.array("a").size, m.array("b").size):
        return None
    patch = Patch(m.graph)
    scaled = patch.add(make("mul"), m["x"], m["b"])
    result = patch.add(make("add"), scaled, patch.const(shift, m["a"].name))
    return patch.replace_if_same(m.root.output, result)


RULES = (
    scale_after_conv,
    shift_after_conv,
    scale_after_matmul,
    scale_before_conv,
    shift_before_conv,
    scale_before_matmul,
    scales,
    shifts,
    scale_of_shift,
)


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, RULES, trace, NAME)
