"""Brings equal meanings to one form, so that later passes and kernels see few spellings.

Before -> After:
    sub(x, c)                       -> add(x, -c)
    div(x, c)                       -> mul(x, 1/c)
    add(c, x), mul(c, x), ...       -> add(x, c), mul(x, c), ...
    pow(x, 2), mul(x, x)            -> square(x);  pow(x, 0.5) -> sqrt(x);  pow(x, -0.5) -> rsqrt(x)
    div(1, x)                       -> reciprocal(x);  reciprocal(sqrt(x)) -> rsqrt(x)
    mul(x, reciprocal(y))           -> div(x, y)
    add(x, x)                       -> mul(x, 2)
    min(max(x, lo), hi), clip(relu(x)), ... -> clip(x);  clip(x, 0, inf), max(x, 0) -> relu(x)
    negative axes                   -> counted from the front
    reshape of reshape              -> one reshape;  transpose of transpose -> one transpose
    transpose that only moves axes of size 1 -> reshape
    elementwise of expand           -> elementwise that broadcasts
    gather by constant, evenly spaced indices -> slice (and reshape)
    matmul of a transpose           -> matmul with transpose_a or transpose_b
    pool whose one window is the whole -> reduce
Unless:
    the result type would differ; c is not finite or its reciprocal overflows or is denormal. With
    ``strict_nans``, also unless 1/c is exact; pow to sqrt, reciprocal to div stay as they are.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from strop.ir.graph import Graph, Node, Value
from strop.ir.match import Match, Patch, any_value, const, op, rewrite, rule, scalar, splat, uniform
from strop.ir.op import Array
from strop.ir.shape import Dim
from strop.ops.data import Reshape, Slice, Transpose
from strop.ops.elementwise import Elementwise, make
from strop.ops.matmul import MatMul
from strop.ops.reduce import Reduce
from strop.optimize import eliminate_noops
from strop.optimize.base import Options, is_float, narrow, wide
from strop.trace import Trace

NAME = "canonicalize"

X = any_value("x")
FLOAT = any_value("x", is_float)
VARIABLE = any_value("x", lambda v: v.const is None)


# ---- arithmetic


@rule(op("sub", X, const("c")))
def subtract_constant(m: Match) -> Patch | None:
    """x - c is x + -c, bit for bit; integers wrap the same way."""
    patch = Patch(m.graph)
    with np.errstate(over="ignore"):
        negated = np.negative(m.array("c")).astype(m.array("c").dtype)
    shifted = patch.add(make("add"), m["x"], patch.const(negated, m["c"].name))
    return patch.replace_if_same(m.root.output, shifted)


def _reciprocal(m: Match) -> Array | None:
    """1 / c when it is a normal number everywhere."""
    c = wide(m.array("c"))
    if not np.isfinite(c).all() or (c == 0).any():
        return None
    found = narrow(1.0 / c, m["c"].dtype)
    if found is None or (np.abs(wide(found)) < _tiny(m["c"])).any():
        return None
    return found


def _tiny(value: Value) -> float:
    return {"bf16": 2.0**-126, "f16": 2.0**-14, "f32": 2.0**-126}.get(value.dtype.name, 2.0**-1022)


@rule(op("div", FLOAT, const("c")))
def divide_by_exact(m: Match) -> Patch | None:
    """x / c is x * (1/c) bit for bit when c is a power of two."""
    found = _reciprocal(m)
    if found is None or not (np.abs(np.frexp(wide(m.array("c")))[0]) == 0.5).all():
        return None
    return _times(m, found)


@rule(op("div", FLOAT, const("c")))
def divide_by_constant(m: Match) -> Patch | None:
    """x / c is x * (1/c) within one unit in the last place."""
    found = _reciprocal(m)
    return None if found is None else _times(m, found)


def _times(m: Match, factor: Array) -> Patch | None:
    patch = Patch(m.graph)
    scaled = patch.add(make("mul"), m["x"], patch.const(factor, m["c"].name))
    return patch.replace_if_same(m.root.output, scaled)


@rule(op(Elementwise, const("c"), VARIABLE, where=lambda n: n.op.commutative and _first_const(n)))
def constant_second(m: Match) -> Patch | None:
    """Constants stand second in commutative ops."""
    return m.becomes(m.root.op, m["x"], m["c"])


def _first_const(node: Node) -> bool:
    return node.operand(0).const is not None and node.operand(1).const is None


@rule(op("pow", FLOAT, scalar(2, 0.0)))
def power_of_two(m: Match) -> Patch | None:
    """pow(x, 2) is x * x."""
    return m.becomes(make("square"), m["x"])


@rule(op("mul", X, X))
def times_itself(m: Match) -> Patch | None:
    """x * x is the square."""
    return m.becomes(make("square"), m["x"])


@rule(op("pow", FLOAT, splat("c")))
def power_of_root(m: Match) -> Patch | None:
    """pow(x, 0.5) is sqrt(x) but for -0.0 and -inf; pow(x, -0.5) and pow(x, -1) likewise."""
    fn = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}.get(uniform(m["c"]) or 0.0)
    return None if fn is None else m.becomes(make(fn), m["x"])


@rule(op("div", scalar(1, 0.0), FLOAT))
def one_over(m: Match) -> Patch | None:
    """1 / x is the reciprocal."""
    return m.becomes(make("reciprocal"), m["x"])


@rule(op("reciprocal", op("sqrt", X, single_use=True)))
def one_over_root(m: Match) -> Patch | None:
    """1 / sqrt(x) is rsqrt(x)."""
    return m.becomes(make("rsqrt"), m["x"])


@rule(op("mul", X, op("reciprocal", any_value("y"), single_use=True)))
def times_reciprocal(m: Match) -> Patch | None:
    """x * (1 / y) is x / y within one unit in the last place."""
    return m.becomes(make("div"), m["x"], m["y"])


@rule(op("add", FLOAT, FLOAT))
def twice(m: Match) -> Patch | None:
    """x + x is 2 x, exactly."""
    patch = Patch(m.graph)
    two = patch.const(np.asarray(2, m["x"].dtype.numpy), "two")
    return patch.replace_if_same(m.root.output, patch.add(make("mul"), m["x"], two))


# ---- bounds: everything is a clip, and a clip to [0, inf) is a relu


def _bounds(node: Node) -> tuple[float, float] | None:
    """Lower and upper bound of a relu, a clip, or a max or min with a uniform constant."""
    if node.op.label == "relu":
        return 0.0, math.inf
    if isinstance(node.op, Elementwise) and node.op.fn == "clip":
        return node.op.param["lo"], node.op.param["hi"]
    if node.op.label not in ("max", "min"):
        return None
    bound = uniform(node.operand(1))
    if bound is None or math.isnan(bound):
        return None
    return (bound, math.inf) if node.op.label == "max" else (-math.inf, bound)


CLIPS = ("relu", "clip", "max", "min")


@rule(op(CLIPS, op(CLIPS, FLOAT, ..., name="inner", where=lambda n: _bounds(n) is not None), ...))
def clip_of_clip(m: Match) -> Patch | None:
    """Two clips one after the other are one."""
    inner, outer = _bounds(m.node("inner")), _bounds(m.root)
    if inner is None or outer is None or m.root.operand(0) is not m["inner"]:
        return None
    lo, hi = (min(max(bound, outer[0]), outer[1]) for bound in inner)
    return _clip(m, lo, hi) if lo <= hi else None


@rule(op(("max", "min"), FLOAT, splat("c")))
def bound_by_constant(m: Match) -> Patch | None:
    """max or min with a constant is a clip."""
    bounds = _bounds(m.root)
    return None if bounds is None else _clip(m, *bounds)


@rule(op("clip", X))
def clip_at_zero(m: Match) -> Patch | None:
    """clip(x, 0, inf) is relu(x)."""
    bounds = _bounds(m.root)
    return m.becomes(make("relu"), m["x"]) if bounds is not None and _is_relu(*bounds) else None


def _is_relu(lo: float, hi: float) -> bool:
    return lo == 0 and math.copysign(1.0, lo) > 0 and hi == math.inf


def _clip(m: Match, lo: float, hi: float) -> Patch | None:
    fn = make("relu") if _is_relu(lo, hi) else make("clip", lo=lo, hi=hi)
    return m.becomes(fn, m["x"])


# ---- shapes and axes

#: Ops whose ``axis`` counts axes of operand 0.
AXIS_OPS = (
    "arg_reduce",
    "concat",
    "cum_sum",
    "gather",
    "gather_elements",
    "layer_norm",
    "log_softmax",
    "rms_norm",
    "scatter_elements",
    "softmax",
    "split",
    "top_k",
)


@rule(op(AXIS_OPS, X, ..., where=lambda n: n.op.attributes()["axis"] < 0))
def positive_axis(m: Match) -> Patch | None:
    """Axes count from the front."""
    axis = m.root.op.attributes()["axis"] + len(m["x"].shape)
    patch = Patch(m.graph)
    results = patch.add_several(m.root.op.replace(axis=axis), *m.root.inputs)
    for old, new in zip(m.root.outputs, results, strict=True):
        patch.replace(old, new)
    return patch


@rule(op("reduce", X))
def sorted_axes(m: Match) -> Patch | None:
    """Reduced axes count from the front and are in order."""
    rank = len(m["x"].shape)
    axes: tuple[int, ...] = m.root.op.attributes()["axes"]
    wanted = tuple(sorted(axis % rank for axis in axes)) if rank else axes
    return None if wanted == axes else m.becomes(m.root.op.replace(axes=wanted), m["x"])


@rule(op("reshape", op("reshape", X)))
def reshape_of_reshape(m: Match) -> Patch | None:
    """Only the last shape counts."""
    return m.is_just(m["x"]) or m.becomes(m.root.op, m["x"])


@rule(op("transpose", op("transpose", X, name="inner")))
def transpose_of_transpose(m: Match) -> Patch | None:
    """One permutation after the other is one."""
    inner = m.node("inner").op.attributes()["perm"]
    perm = tuple(inner[p] for p in m.root.op.attributes()["perm"])
    return m.becomes(Transpose(perm), m["x"])


@rule(op("transpose", X))
def transpose_of_ones(m: Match) -> Patch | None:
    """Moving axes of size 1 leaves the elements in order."""
    moved = [p for p in m.root.op.attributes()["perm"] if m["x"].shape[p] != 1]
    if moved != sorted(moved):
        return None
    return m.is_just(m["x"]) or m.becomes(Reshape(m.root.output.shape), m["x"])


@rule(
    op(Elementwise, op("expand", X, name="big"), any_value("y")),
    op(Elementwise, any_value("y"), op("expand", X, name="big")),
)
def elementwise_of_expand(m: Match) -> Patch | None:
    """Elementwise ops broadcast by themselves."""
    operands = [m["x"] if v is m["big"] else v for v in m.root.operands]
    return m.becomes(m.root.op, *operands)


@rule(op("gather", X, const("indices")))
def gather_of_range(m: Match) -> Patch | None:
    """Evenly spaced constant indices are a slice; a single index also drops its axis."""
    axis: int = m.root.op.attributes()["axis"]
    size = m["x"].shape[axis]
    indices = m.array("indices")
    if not isinstance(size, int) or indices.ndim > 1 or indices.size == 0 or axis < 0:
        return None
    flat = [int(i) + (size if i < 0 else 0) for i in indices.reshape(-1)]
    steps = {b - a for a, b in itertools.pairwise(flat)} or {1}
    step = steps.pop()
    if steps or step == 0 or not all(0 <= i < size for i in flat):
        return None
    stop: Dim = flat[-1] + (1 if step > 0 else -1)
    patch = Patch(m.graph)
    part = patch.add(Slice((flat[0],), (stop,), (axis,), (step,)), m["x"])
    if indices.ndim == 0:
        part = patch.add(Reshape(m.root.output.shape), part)
    return patch.replace_if_same(m.root.output, part)


def _swaps_last(node: Node) -> bool:
    perm: tuple[int, ...] = node.op.attributes()["perm"]
    rank = len(perm)
    return rank >= 2 and perm == (*range(rank - 2), rank - 1, rank - 2)


SWAPPED = op("transpose", X, where=_swaps_last)


@rule(op("matmul", SWAPPED, any_value("b")))
def transposed_left(m: Match) -> Patch | None:
    """A product can read its first operand transposed."""
    old = m.root.op
    assert isinstance(old, MatMul)
    return m.becomes(old.replace(transpose_a=not old.transpose_a), m["x"], m["b"])


@rule(op("matmul", any_value("a"), SWAPPED))
def transposed_right(m: Match) -> Patch | None:
    """A product can read its second operand transposed."""
    old = m.root.op
    assert isinstance(old, MatMul)
    return m.becomes(old.replace(transpose_b=not old.transpose_b), m["a"], m["x"])


@rule(op("matmul", X, const("w"), where=lambda n: n.op.attributes()["transpose_b"]))
def transposed_constant(m: Match) -> Patch | None:
    """A constant second operand is stored as [.., K, N]."""
    patch = Patch(m.graph)
    w = patch.const(np.swapaxes(m.array("w"), -1, -2), m["w"].name)
    product = patch.add(m.root.op.replace(transpose_b=False), m["x"], w)
    return patch.replace_if_same(m.root.output, product)


@rule(op(("max_pool", "average_pool"), X))
def pool_of_everything(m: Match) -> Patch | None:
    """A pool with one window, the whole, is a reduction."""
    attributes: dict[str, Any] = m.root.op.attributes()
    spatial, pads = m["x"].shape[2:], attributes["pads"]
    if any(d != 1 for d in (*attributes["dilations"], *m.root.output.shape[2:])):
        return None
    if any(pads) and attributes.get("count_include_pad", False):
        return None
    reaches = zip(spatial, attributes["kernel"], pads, strict=False)
    if not all(isinstance(n, int) and size - before >= n for n, size, before in reaches):
        return None
    kind = "max" if m.root.op.label == "max_pool" else "mean"
    axes = tuple(range(2, 2 + len(spatial)))
    return m.becomes(Reduce(kind, axes, True), m["x"])


EXACT = (
    constant_second,
    subtract_constant,
    divide_by_exact,
    power_of_two,
    times_itself,
    one_over,
    one_over_root,
    twice,
    clip_of_clip,
    bound_by_constant,
    clip_at_zero,
    positive_axis,
    sorted_axes,
    reshape_of_reshape,
    transpose_of_transpose,
    transpose_of_ones,
    elementwise_of_expand,
    gather_of_range,
    transposed_left,
    transposed_right,
    transposed_constant,
    pool_of_everything,
)
LOOSE = (divide_by_constant, power_of_root, times_reciprocal)


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass. What becomes a no-op on the way goes at once."""
    rules = (*eliminate_noops.EXACT, *EXACT)
    rewrite(graph, rules if options.strict_nans else (*rules, *LOOSE), trace, NAME)
