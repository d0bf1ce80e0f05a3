"""Arithmetic on sizes that are data: what stands between Shape and Reshape, evaluated while the model is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from strop.frontend.saved_model.context import NodeContext
from strop.frontend.tensorflow import slices
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.op import Array

#: Most elements of such an array.
MAX_SIZES = 1 << 12
MASKS = {"Begin": "begin_mask", "End": "end_mask", "Ellipsis": "ellipsis_mask", "NewAxis": "new_axis_mask", "ShrinkAxis": "shrink_axis_mask"}


def evaluated(node: NodeContext) -> Value | None:
    """The result of a node over sizes of which one is free; None for any other node."""
    rule = _RULES.get(node.op)
    if rule is None or not any(isinstance(o, Value) and o in node.symbolic for o in node.operands):
        return None
    known = [_held(node, k) for k in range(len(node))]
    if any(k is None for k in known):
        return None
    found = np.asarray(rule(node, *known), object)
    kind = next(o.dtype for o in node.operands if isinstance(o, Value) and o in node.symbolic)
    return node.held(found, node.dtype("DstT") if node.op == "Cast" else kind)


def _held(node: NodeContext, index: int) -> Array | None:
    """An operand's integers and Dims, if they are all known while the model is read."""
    value = node.operand(index)
    if not isinstance(value, Value):
        return None
    found = node.symbolic.get(value)
    if found is not None:
        return found
    if value.const is None or value.const.dtype.kind not in "iu" or value.const.size > MAX_SIZES:
        return None
    return np.asarray(value.const).astype(object)


def index_of(node: NodeContext, begin: list[Any], end: list[Any], step: list[Any]) -> tuple[Any, ...]:
    """A StridedSlice as numpy writes it."""
    return slices.index_of(begin, end, step, {name: int(node.attr(mask, "i", 0)) for name, mask in MASKS.items()})


def _binary(fn: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda node, a, b: np.frompyfunc(fn, 2, 1)(a, b)


def _product(node: NodeContext, x: Array, axes: Array) -> Any:
    total: Any = 1
    for dim in x.reshape(-1):
        total = sh.mul(total, dim)
    return np.asarray(total, object).reshape((1,) * x.ndim if node.attr("keep_dims", "b", False) else ())


def _slice(node: NodeContext, x: Array, begin: Array, size: Array) -> Any:
    return x[tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin.reshape(-1), size.reshape(-1), strict=True))]


def _cast(node: NodeContext, x: Array) -> Any:
    if node.dtype("DstT") not in (dt.i32, dt.i64):
        raise node.unsupported("sizes that only a run knows can only be used as sizes", got=node.dtype("DstT"), hint="give the inputs fixed shapes with --shape")
    return x


_RULES: dict[str, Callable[..., Any]] = {
    "Add": _binary(sh.add),
    "AddV2": _binary(sh.add),
    "Sub": _binary(sh.sub),
    "Mul": _binary(sh.mul),
    "FloorDiv": _binary(sh.floordiv),
    "FloorMod": _binary(sh.mod),
    "Maximum": _binary(sh.maximum),
    "Minimum": _binary(sh.minimum),
    "Pack": lambda node, *parts: np.stack(parts, int(node.attr("axis", "i", 0))),
    "ConcatV2": lambda node, *parts: np.concatenate(parts[:-1], int(parts[-1].reshape(-1)[0])),
    "StridedSlice": lambda node, x, begin, end, step: x[index_of(node, begin.tolist(), end.tolist(), step.tolist())],
    "Slice": _slice,
    "GatherV2": lambda node, x, at, axis: np.take(x, at.astype(np.int64), int(axis.reshape(-1)[0])),
    "Gather": lambda node, x, at: np.take(x, at.astype(np.int64), 0),
    "Reshape": lambda node, x, shape: x.reshape([int(d) for d in shape.reshape(-1)]),
    "Squeeze": lambda node, x: np.squeeze(x),
    "ExpandDims": lambda node, x, axis: np.expand_dims(x, int(axis.reshape(-1)[0])),
    "Cast": _cast,
    "Prod": _product,
}
