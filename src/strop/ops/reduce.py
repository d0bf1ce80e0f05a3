"""Reductions over axes (ONNX Reduce*, ArgMax, ArgMin)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.ir import dtype as dt
from strop.ir.op import Op, Type
from strop.ir.shape import Shape
from strop.ops import base

KINDS = ("sum", "mean", "max", "min", "prod", "l1", "l2", "sumsq", "logsum", "logsumexp")
FLOAT_KINDS = ("l2", "logsum", "logsumexp")


def reduced_shape(shape: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """The shape with axes gone or made 1."""
    kept = [1 if k in axes else dim for k, dim in enumerate(shape) if keepdims or k not in axes]
    return tuple(kept)


@dataclass(frozen=True)
class Reduce(Op):
    """One number per slice over ``axes``.

    Operand: x of a numeric dtype; l2, logsum and logsumexp need a float dtype. An integer mean
    truncates.
    Result: same dtype.

    Attributes:
        kind: sum, mean, max, min, prod, l1 (sum of magnitudes), l2 (root of sumsq), sumsq (sum of
            squares), logsum (log of sum), logsumexp (log of the sum of exponentials).
        axes: axes to reduce; negative ones count from the end; none leaves every element by itself.
        keepdims: reduced axes stay with size 1.
    """

    name: ClassVar[str] = "reduce"

    kind: str
    axes: tuple[int, ...]
    keepdims: bool = True

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.choice(self, "kind", self.kind, KINDS)
        check = base.floating if self.kind in FLOAT_KINDS else base.numeric
        dtype = check(self, inputs)
        x = inputs[0]
        axes = base.axes_of(self, self.axes, x.rank)
        if self.kind in ("max", "min", "mean") and any(x.shape[a] == 0 for a in axes):
            raise self.fail(f"{self.kind} over an empty axis", inputs)
        return (Type(dtype, reduced_shape(x.shape, axes, self.keepdims)),)


@dataclass(frozen=True)
class ArgReduce(Op):
    """Index of the largest or smallest element along an axis.

    Operand: x of a numeric dtype. Result: i64.

    Attributes:
        kind: ``max`` or ``min``.
        axis: negative counts from the end.
        keepdims: the axis stays with size 1.
        last: of equal elements the last wins instead of the first.
    """

    name: ClassVar[str] = "arg_reduce"

    kind: str
    axis: int
    keepdims: bool = True
    last: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.choice(self, "kind", self.kind, ("max", "min"))
        base.numeric(self, inputs)
        x = inputs[0]
        if x.rank == 0:
            raise self.fail("needs an axis", inputs, "rank 1 or more")
        axis = base.axis_of(self, self.axis, x.rank)
        if x.shape[axis] == 0:
            raise self.fail("empty axis", inputs)
        return (Type(dt.i64, reduced_shape(x.shape, (axis,), self.keepdims)),)
