"""Removes operations that give back their operand.

Before:
    identity(x), x * 1, x / 1, x + 0, x - 0, pow(x, 1), reshape to the same shape, transposes that cancel,
    cast to the same dtype, cast to a wider float and back, pad by nothing, slice of everything, concat
    or split of one part, expand or tile to the same shape, clip without bounds, a pool over single
    elements, a reduction over axes of size 1.
After:
    x
Unless:
    the constant operand's broadcasting enlarges the result. With ``strict_nans`` also ``x + 0.0`` and
    ``x - -0.0`` stay: they turn -0.0 into 0.0. ``x + -0.0`` and ``x - 0.0`` are exact and always go.
"""

from __future__ import annotations

import math

import numpy as np

from strop.ir.graph import Graph, Node, Value
from strop.ir.match import Match, Patch, any_value, op, rewrite, rule, scalar
from strop.ir.op import Array
from strop.ops.elementwise import Cast, Elementwise
from strop.optimize.base import Options, is_float
from strop.trace import Trace

NAME = "eliminate_noops"

X = any_value("x")


def _zeros(value: Value, negative: bool | None) -> bool:
    """Whether a constant is all zeros, of the given sign unless None; integers have both signs."""
    array: Array | None = value.const
    if array is None or bool((array != 0).any()):
        return False
    if negative is None or not value.dtype.is_float:
        return True
    signs = np.signbit(array.astype(np.float64))
    return bool(signs.all() if negative else not signs.any())


NEGATIVE_ZERO = any_value(None, lambda v: _zeros(v, negative=True))
POSITIVE_ZERO = any_value(None, lambda v: _zeros(v, negative=False))
ANY_ZERO = any_value(None, lambda v: _zeros(v, negative=None))


def _inverse(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    return tuple(first[p] for p in second) == tuple(range(len(first)))


def _widens(node: Node) -> bool:
    """A cast of a float to a float type that holds all its values."""
    sizes = {"bf16": 8, "f16": 11, "f32": 24, "f64": 53}
    given, to = node.operand(0).dtype, node.output.dtype
    exponents = {"bf16": 8, "f16": 5, "f32": 8, "f64": 11}
    if not (given.is_float and to.is_float):
        return False
    return sizes[to.name] >= sizes[given.name] and exponents[to.name] >= exponents[given.name]


@rule(
    op("identity", X),
    op("mul", X, scalar(1, 0.0)),
    op("div", X, scalar(1, 0.0)),
    op("pow", X, scalar(1, 0.0)),
    op("add", X, NEGATIVE_ZERO),
    op("sub", X, POSITIVE_ZERO),
    op("reshape", X),
    op("cast", X),
    op("expand", X),
    op("tile", X),
    op("pad", X, where=lambda n: not any(n.op.attributes()["pads"])),
    op("slice", X, where=lambda n: all(s > 0 for s in n.op.attributes()["steps"])),
    op("transpose", X, where=lambda n: _ordered(n.op.attributes()["perm"])),
    op("concat", X),
    op("split", X, where=lambda n: len(n.outputs) == 1),
    op("clip", X, where=lambda n: _unbounded(n)),
)
def no_effect(m: Match) -> Patch | None:
    """The operand itself, when it has the result's type."""
    return m.is_just(m["x"])


def _ordered(perm: tuple[int, ...]) -> bool:
    return perm == tuple(range(len(perm)))


def _unbounded(node: Node) -> bool:
    assert isinstance(node.op, Elementwise)
    param = node.op.param
    return param["lo"] == -math.inf and param["hi"] == math.inf


@rule(op("add", X, ANY_ZERO), op("sub", X, ANY_ZERO))
def add_zero(m: Match) -> Patch | None:
    """x + 0.0 is x but for the sign of zero."""
    return m.is_just(m["x"])


@rule(op("transpose", op("transpose", X, name="inner")))
def inverse_transposes(m: Match) -> Patch | None:
    """Two transpositions that cancel."""
    first = m.node("inner").op.attributes()["perm"]
    return m.is_just(m["x"]) if _inverse(first, m.root.op.attributes()["perm"]) else None


@rule(op(Cast, op(Cast, any_value("x", is_float), where=_widens)))
def cast_and_back(m: Match) -> Patch | None:
    """Widening loses nothing, so casting back gives the same number."""
    return m.is_just(m["x"])


@rule(op(("max_pool", "average_pool"), X))
def pool_of_one(m: Match) -> Patch | None:
    """A window of one element, moved by one."""
    attributes = m.root.op.attributes()
    small = all(n == 1 for n in (*attributes["kernel"], *attributes["strides"]))
    return m.is_just(m["x"]) if small and not any(attributes["pads"]) else None


@rule(op("reduce", X))
def reduce_of_one(m: Match) -> Patch | None:
    """The sum, mean, product or extreme of one element is the element."""
    attributes = m.root.op.attributes()
    shape = m["x"].shape
    single = all(shape[axis] == 1 for axis in attributes["axes"])
    plain = attributes["kind"] in ("sum", "mean", "max", "min", "prod")
    return m.is_just(m["x"]) if single and plain else None


EXACT = (
    no_effect,
    inverse_transposes,
    cast_and_back,
    pool_of_one,
    reduce_of_one,
)


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rules = EXACT if options.strict_nans else (*EXACT, add_zero)
    rewrite(graph, rules, trace, NAME)
