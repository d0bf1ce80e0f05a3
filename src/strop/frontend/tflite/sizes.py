"""Arithmetic on sizes that are data: what converters write between SHAPE and RESHAPE, evaluated while the model is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from strop.frontend.tensorflow import slices
from strop.frontend.tflite.context import NodeContext
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.op import Array

#: Most elements of such an array.
MAX_SIZES = 1 << 12


def held(node: NodeContext, index: int) -> Array | None:
    """An operand's integers and Dims, if they are all known while the model is read."""
    if not node.has(index) or node.number(index) in node.scope.handles:
        return None
    value = node.stored(index)
    found = node.session.symbolic.get(value)
    if found is not None:
        return found
    if value.const is None or value.const.dtype.kind not in "iu" or value.const.size > MAX_SIZES:
        return None
    return np.asarray(value.const).astype(object)


def evaluated(node: NodeContext) -> Value | None:
    """The result of an operator over sizes of which one is free; None for any other operator."""
    rule = _RULES.get(node.operator.code)
    if rule is None or not any(node.has(i) and node.number(i) in node.scope.stored and node.stored(i) in node.session.symbolic for i in range(len(node))):
        return None
    operands = [held(node, i) for i in range(len(node))]
    known = [o for o in operands if o is not None]
    return node.sizes(np.asarray(rule(node, *known), object)) if len(known) == len(operands) else None


def _binary(fn: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda node, a, b: np.frompyfunc(fn, 2, 1)(a, b)


def _strided(node: NodeContext, x: Array, begin: Array, end: Array, step: Array) -> Any:
    return x[index_of(node, begin.tolist(), end.tolist(), step.tolist())]


def index_of(node: NodeContext, begin: list[Any], end: list[Any], step: list[Any]) -> tuple[Any, ...]:
    """A strided slice as numpy writes it."""
    masks = {name: node.option(f"{name}Mask", 0) for name in ("Begin", "End", "Ellipsis", "NewAxis", "ShrinkAxis")}
    return slices.index_of(begin, end, step, masks, bool(node.option("Offset", False)))


def _reshaped(node: NodeContext, x: Array, *shape: Array) -> Any:
    return x.reshape([int(d) for d in shape[0].reshape(-1)] if shape else list(node.option_ints("NewShape")))


def _slice(node: NodeContext, x: Array, begin: Array, size: Array) -> Any:
    return x[tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin.reshape(-1), size.reshape(-1), strict=True))]


def _product(node: NodeContext, x: Array, axes: Array) -> Any:
    total: Any = 1
    for dim in x.reshape(-1):
        total = sh.mul(total, dim)
    return np.asarray(total, object).reshape((1,) * x.ndim if node.option("KeepDims", False) else ())


_RULES: dict[str, Callable[..., Any]] = {
    "ADD": _binary(sh.add),
    "SUB": _binary(sh.sub),
    "MUL": _binary(sh.mul),
    "FLOOR_DIV": _binary(sh.floordiv),
    "FLOOR_MOD": _binary(sh.mod),
    "MAXIMUM": _binary(sh.maximum),
    "MINIMUM": _binary(sh.minimum),
    "PACK": lambda node, *parts: np.stack(parts, node.option("Axis", 0)),
    "CONCATENATION": lambda node, *parts: np.concatenate(parts, node.option("Axis", 0)),
    "STRIDED_SLICE": _strided,
    "SLICE": _slice,
    "GATHER": lambda node, x, at: np.take(x, at.astype(np.int64), node.option("Axis", 0)),
    "RESHAPE": _reshaped,
    "SQUEEZE": lambda node, x: np.squeeze(x),
    "EXPAND_DIMS": lambda node, x, axis: np.expand_dims(x, int(axis.reshape(-1)[0])),
    "CAST": lambda node, x: x,
    "REDUCE_PROD": _product,
}
