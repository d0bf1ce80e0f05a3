"""Shape arithmetic over symbolic dims: what exporters write between a Shape and the Reshape that reads it.

Each rule computes a node whose operands are all Known or Symbolic, at least one of them Symbolic, as numpy would compute it
with arrays of Dims. A rule answers None when it cannot, and the node is then imported like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Symbolic, from_dims
from strop.frontend.onnx.tensors import element_type
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.op import Array
from strop.ir.shape import Dim

Result = Known | Symbolic
Rule = Callable[[NodeContext, Sequence[Array], DType], "Result | None"]

RULES: dict[str, Rule] = {}


def _rule(*op_types: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(op_types, rule))
        return rule

    return register


def evaluate(node: NodeContext) -> Result | None:
    """The node's only result, or None when it is not shape arithmetic that can be done symbolically."""
    rule = RULES.get(node.op_type) if node.domain == "" else None
    operands = [o for o in node.operands if isinstance(o, (Known, Symbolic))]
    if rule is None or len(operands) != len(node.operands):
        return None
    if any(isinstance(o, Known) and o.array.dtype.kind not in "iub" for o in operands):
        return None  # dims and floats have no arithmetic
    arrays = [o.dims if isinstance(o, Symbolic) else o.array.astype(object) for o in operands]
    first = next(o for o in operands if isinstance(o, Symbolic))
    return rule(node, arrays, first.dtype)


def _elementwise(function: Callable[..., Any], *arrays: Array) -> Array:
    out = np.frompyfunc(function, len(arrays), 1)(*arrays)
    return np.asarray(out, dtype=object)


class _UndecidedError(Exception):
    """The result depends on what values the symbols have."""


def _div(a: Dim, b: Dim) -> Dim:
    """ONNX integer division truncates; it is floor division while both are non-negative."""
    if isinstance(a, int) and isinstance(b, int) and b != 0:
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    if sh.bounds(a)[0] < 0 or sh.bounds(b)[0] < 1:
        raise _UndecidedError(f"{a} / {b}")
    return sh.floordiv(a, b)


def _equal(a: Dim, b: Dim) -> bool:
    if a == b:
        return True
    low, high = sh.bounds(sh.sub(a, b))
    if low > 0 or high < 0:
        return False
    raise _UndecidedError(f"{a} == {b}")


_BINARY: dict[str, Callable[[Dim, Dim], Dim]] = {
    "Add": sh.add,
    "Sub": sh.sub,
    "Mul": sh.mul,
    "Div": _div,
    "Max": sh.maximum,
    "Min": sh.minimum,
}


@_rule(*_BINARY)
def _binary(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    try:
        out = arrays[0]
        for other in arrays[1:]:
            out = _elementwise(_BINARY[node.op_type], out, other)
    except _UndecidedError:
        return None
    return from_dims(out, dtype) if out.ndim <= 1 else None


@_rule("Equal")
def _equal_rule(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    try:
        return Known("", _elementwise(_equal, *arrays).astype(np.bool_))
    except _UndecidedError:
        return None


@_rule("Where")
def _where(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    if not isinstance(node.operand(0), Known):
        return None
    return from_dims(np.where(arrays[0].astype(np.bool_), arrays[1], arrays[2]), dtype)


@_rule("Identity")
def _identity(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    return from_dims(arrays[0], dtype)


@_rule("Cast")
def _cast(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    node.ignore("saturate", "round_mode")
    to = element_type(node.integer("to"), node.where)
    return from_dims(arrays[0], to) if to in (dt.i32, dt.i64) else None


@_rule("Concat")
def _concat(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    if node.integer("axis") not in (0, -1) or any(a.ndim != 1 for a in arrays):
        return None
    return from_dims(np.concatenate(arrays), dtype)


@_rule("Gather")
def _gather(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    indices = node.operand(1)
    if (
        node.integer("axis", 0) not in (0, -1)
        or arrays[0].ndim != 1
        or not isinstance(indices, Known)
    ):
        return None
    if indices.array.ndim > 1 or np.any(
        (indices.array < -arrays[0].size) | (indices.array >= arrays[0].size)
    ):
        return None
    return from_dims(np.asarray(np.take(arrays[0], indices.array), dtype=object), dtype)


@_rule("Squeeze", "Unsqueeze", "Reshape", "Flatten")
def _reshape(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    """One element or a list of them stays as it is; only the rank changes between 0 and 1."""
    if arrays[0].size != 1 or not isinstance(node.operand(0), Symbolic):
        return None
    node.ignore("axes", "allowzero")
    rank = arrays[0].ndim
    match node.op_type:
        case "Squeeze":
            return from_dims(arrays[0].reshape(()), dtype)
        case "Unsqueeze" if rank == 0:
            return from_dims(arrays[0].reshape(1), dtype)
        case "Reshape" if arrays[1].size <= 1:
            return from_dims(arrays[0].reshape((1,) * arrays[1].size), dtype)
    return None


@_rule("Slice")
def _slice(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    if arrays[0].ndim != 1 or any(isinstance(o, Symbolic) for o in node.operands[1:]):
        return None
    steps: tuple[int, ...] = (1,)
    if len(arrays) == 1:
        starts, ends = node.integers("starts"), node.integers("ends")
        node.ignore("axes")
    else:
        starts, ends = node.ints(1, "starts"), node.ints(2, "ends")
        steps = node.ints(4, "steps") if len(arrays) > 4 else steps
    if len(starts) != 1 or len(ends) != 1 or len(steps) != 1 or steps[0] == 0:
        return None
    low = None if steps[0] < 0 and ends[0] < -arrays[0].size else ends[0]
    return from_dims(arrays[0][slice(starts[0], low, steps[0])], dtype)


@_rule("ReduceMin", "ReduceMax")
def _extreme(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    """Over the only axis of a list."""
    node.ignore("axes")
    if arrays[0].ndim != 1 or arrays[0].size == 0 or not isinstance(node.operand(0), Symbolic) or node.flag("noop_with_empty_axes"):
        return None
    pick = sh.minimum if node.op_type == "ReduceMin" else sh.maximum
    first, *others = arrays[0].tolist()
    for dim in others:
        first = pick(first, dim)
    out = np.empty((1,) if node.flag("keepdims", True) else (), dtype=object)
    out[...] = first
    return from_dims(out, dtype)


@_rule("ReduceProd", "ReduceSum")
def _reduce(node: NodeContext, arrays: Sequence[Array], dtype: DType) -> Result | None:
    """Over the only axis, as for the number of elements of a shape."""
    node.ignore("axes")
    if (
        arrays[0].ndim != 1
        or not isinstance(node.operand(0), Symbolic)
        or node.flag("noop_with_empty_axes")
    ):
        return None
    keep = node.flag("keepdims", True)
    total: Dim = 1 if node.op_type == "ReduceProd" else 0
    for dim in arrays[0].tolist():
        total = sh.mul(total, dim) if node.op_type == "ReduceProd" else sh.add(total, dim)
    out = np.empty((1,) if keep else (), dtype=object)
    out[...] = total
    return from_dims(out, dtype)
