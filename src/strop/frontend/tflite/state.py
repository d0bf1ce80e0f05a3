"""State of TFLite's recurrent layers: a variable tensor that is an operand, which lasts from one run to the next."""

from __future__ import annotations

import math

import numpy as np

from strop.frontend.names import free_name
from strop.frontend.tflite.context import NodeContext, Variable
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.op import Type

#: Most elements of a state.
MAX_STATE = 1 << 26


def state_of(node: NodeContext, index: int, dtype: DType = dt.f32) -> Variable:
    """The variable that an operand is: zeros before the first run, of integers those that stand for zero."""
    tensor, number = node.tensor(index), node.number(index)
    if not tensor.variable:
        raise node.unsupported("a state that is no variable is not supported", got=tensor.name)
    if tensor.dtype is not dtype:
        raise node.unsupported("a state of this type is not supported", got=tensor.type, expected=dtype)
    if math.prod(tensor.shape) > MAX_STATE:
        raise node.malformed("a state is too large", got=list(tensor.shape), expected=f"at most {MAX_STATE} elements")
    session, handles = node.session, node.scope.handles
    if number not in handles:
        zero = tensor.grid.zero[0] if dtype.is_int and tensor.grid is not None else 0
        handles[number] = free_name(node.scope.label + (tensor.name or f"state_{number}"), session.variables, mark=".", first=2)
        session.initial[handles[number]] = np.full(tensor.shape, zero, dtype.numpy)
    return session.variable(handles[number], Type(dtype, tensor.shape))
