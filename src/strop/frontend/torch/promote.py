"""PyTorch's type promotion: which dtype operands of several dtypes are computed in.

The rules are those of "Tensor Attributes, torch.dtype" in PyTorch's documentation: tensors with dims come before scalars in
tensors, these before plain numbers, unless the latter are of a higher category (bool, integer, float).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

from strop.errors import UnsupportedError
from strop.frontend.torch.context import NodeContext
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.graph import Value


def promote(a: DType, b: DType) -> DType:
    """The dtype that two dtypes of equal standing meet in.

    Raises:
        UnsupportedError: an unsigned integer of 16 bits or more meets another integer.
    """
    if a == b:
        return a
    if a is dt.boolean or b is dt.boolean:
        return b if a is dt.boolean else a
    if a.is_float != b.is_float:
        return a if a.is_float else b
    if a.is_float:
        wide = max(a, b, key=lambda d: d.size)
        return wide if a.size != b.size else dt.f32
    signed = [d for d in (a, b) if d.is_signed]
    if len(signed) == 2:
        return max(signed, key=lambda d: d.size)
    if dt.u8 not in (a, b) or not signed:
        raise UnsupportedError("PyTorch does not promote these dtypes", got=f"{a} and {b}")
    return dt.i16 if signed[0] is dt.i8 else signed[0]


def result_type(operands: Iterable[Any]) -> DType:
    """The dtype that tensors and numbers are computed in together."""
    tiers: list[list[DType]] = [[], [], []]
    for operand in operands:
        if isinstance(operand, Value):
            tiers[0 if operand.shape else 1].append(operand.dtype)
        else:
            tiers[2].append(dt.boolean if isinstance(operand, bool) else dt.f32 if isinstance(operand, float) else dt.i64)
    found = [reduce(promote, tier) for tier in tiers if tier]
    return reduce(_over, found)


def _over(high: DType, low: DType) -> DType:
    """What a dtype becomes that meets one of lesser standing."""
    if high.is_float or (not low.is_float and high is not dt.boolean):
        return high
    return promote(high, low)


def values(node: NodeContext, operands: Sequence[Any], dtype: DType) -> list[Value]:
    """Operands as values of a dtype; numbers become constants."""
    return [node.cast(o, dtype) if isinstance(o, Value) else node.scalar(_known(node, o), dtype) for o in operands]


def _known(node: NodeContext, number: Any) -> float | int | bool:
    if not isinstance(number, (bool, int, float)):
        raise node.unsupported(
            "a number that depends on a dynamic dim is computed with", got=number, hint="make the dim static when the module is exported"
        )
    return number
