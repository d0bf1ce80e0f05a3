"""Follows integer tensors that are computed from shapes, so that they can size other tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Node, Value
from strop.ir.shape import Dim
from strop.ops.data import Concat, Expand, Identity, Reshape, Slice
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.index import Gather

Dims = np.ndarray[Any, np.dtype[np.object_]]

#: More elements than any shape computation holds.
_MOST = 1024

_FUNCTIONS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "add": sh.add,
    "sub": sh.sub,
    "mul": sh.mul,
    "div": sh.floordiv,
    "mod": sh.mod,
    "min": sh.minimum,
    "max": sh.maximum,
}

#: Of elements that are numbers.
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {"eq": operator.eq, "lt": operator.lt, "gt": operator.gt, "le": operator.le, "ge": operator.ge}


class Contents:
    """Elements of integer values as Dims, where they are known."""

    def __init__(self) -> None:
        self._known: dict[Value, Dims] = {}

    def set(self, value: Value, dims: Dims) -> None:
        """Says what a value holds."""
        self._known[value] = dims

    def of(self, value: Value) -> Dims | None:
        """What a value holds, or None."""
        if value.const is not None and value.dtype.is_int and value.const.size <= _MOST:
            return np.asarray(value.const.astype(np.int64).tolist(), dtype=object)
        return self._known.get(value)

    def follow(self, node: Node) -> None:
        """Notes what a node's result holds when all its operands are known."""
        if not (node.outputs[0].dtype.is_int or node.outputs[0].dtype is dt.boolean) or any(v is None for v in node.inputs):
            return
        operands = [self.of(v) for v in node.operands]
        if operands and all(o is not None for o in operands):
            found = _apply(node, [o for o in operands if o is not None])
            if found is not None:
                self._known[node.outputs[0]] = found


def _apply(node: Node, operands: list[Dims]) -> Dims | None:
    op, x = node.op, operands[0]
    match op:
        case Elementwise() if op.fn in _FUNCTIONS:
            made = np.frompyfunc(_FUNCTIONS[op.fn], 2, 1)(*operands)
            return np.asarray(made, dtype=object)
        case Elementwise() if op.fn in _COMPARISONS:
            if all(isinstance(d, int) for o in operands for d in o.reshape(-1).tolist()):
                return np.asarray(np.frompyfunc(_COMPARISONS[op.fn], 2, 1)(*operands), dtype=object)
        case Identity() | Cast():
            return x
        case Reshape() | Expand():
            shape = tuple(d for d in op.shape if isinstance(d, int))
            if len(shape) != len(op.shape):
                return None
            return x.reshape(shape) if isinstance(op, Reshape) else np.broadcast_to(x, shape)
        case Concat():
            return np.concatenate(operands, axis=op.axis)
        case Slice():
            cut = [slice(None)] * x.ndim
            for start, stop, axis, step in zip(op.starts, op.stops, op.axes, op.steps):
                if not isinstance(start, int) or not isinstance(stop, int):
                    return None
                cut[axis] = slice(start, None if stop < 0 else stop, step)
            return x[tuple(cut)]
        case Gather():
            index = operands[1]
            if all(isinstance(i, int) for i in index.reshape(-1).tolist()):
                return np.take(x, index.astype(np.int64), axis=op.axis)
    return None
