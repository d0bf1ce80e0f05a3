"""Softmax and its logarithm along one axis (ONNX 13 and later)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir.dtype import DType
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ops import base


@dataclass(frozen=True)
class _Softmax(Op):
    """What both ops share."""

    axis: int = -1

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.floating(self, inputs)
        if inputs[0].rank == 0:
            raise self.fail("needs an axis", inputs, "rank 1 or more")
        base.axis_of(self, self.axis, inputs[0].rank)
        return (inputs[0],)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return Cost(5 * inputs[0].count, base.moved((*inputs, *outputs)).bytes)

    def _sums(self, x: Type) -> tuple[tuple[Stage, Stage], tuple[Loop, ...], Expr, Expr, DType]:
        """Stages ``top`` (largest element) and ``total`` (sum of exponentials), the result's loops,
        x - top, total, and the compute type."""
        axis = base.axis_of(self, self.axis, x.rank)
        kind = base.compute_type(x.dtype)
        axes = loops(x.shape)
        along = axes[axis]
        others = tuple(loop for loop in axes if loop is not along)
        element = base.load(0, x.dtype, base.variables(axes))
        least = ex.Const(base.lowest(kind))
        top = Stage("top", kind, others, element, (along,), "max", least)
        shifted = element - ex.Load("top", tuple(base.variables(others)))
        total = Stage("total", kind, others, call("exp", shifted), (along,), "add", ex.Const(0.0))
        return (top, total), axes, shifted, ex.Load("total", tuple(base.variables(others))), kind

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, axis in (
            ((3, 10), -1),
            ((1, 1000), 1),
            ((2, 5, 7), 1),
            ((2, 3, 4, 5), 0),
            ((4, 1), -1),
            ((7,), 0),
            ((2, 3, 17), -1),
        ):
            yield Sample(cls(axis), (base.random_array(rng, shape, dt.f32, -4, 4),))
        yield Sample(cls(-1), (base.random_array(rng, (2, 9), dt.f32, 900, 1000),), "large")
        for dtype in (dt.f64, dt.f16, dt.bf16):
            yield Sample(cls(-1), (base.random_array(rng, (3, 6), dtype),))


@dataclass(frozen=True)
class Softmax(_Softmax):
    """exp(x - max) / sum(exp(x - max)) along an axis.

    Operand: x of a float dtype, rank 1 or more. Result: as x.

    Attributes:
        axis: negative counts from the end.
    """

    name: ClassVar[str] = "softmax"

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x = base.wide(inputs[0])
        with np.errstate(all="ignore"):
            powers = np.exp(x - np.max(x, axis=self.axis, keepdims=True))
            result = powers / np.sum(powers, axis=self.axis, keepdims=True)
        return (base.narrow(result, inputs[0]),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (x,) = inputs
        stages, axes, shifted, total, kind = self._sums(x)
        body = base.cast(call("exp", shifted) / total, kind, x.dtype)
        return Program((*stages, Stage("out0", x.dtype, axes, body)))


@dataclass(frozen=True)
class LogSoftmax(_Softmax):
    """x - max - log(sum(exp(x - max))) along an axis.

    Operand: x of a float dtype, rank 1 or more. Result: as x.

    Attributes:
        axis: negative counts from the end.
    """

    name: ClassVar[str] = "log_softmax"

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x = base.wide(inputs[0])
        with np.errstate(all="ignore"):
            shifted = x - np.max(x, axis=self.axis, keepdims=True)
            result = shifted - np.log(np.sum(np.exp(shifted), axis=self.axis, keepdims=True))
        return (base.narrow(result, inputs[0]),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (x,) = inputs
        stages, axes, shifted, total, kind = self._sums(x)
        body = base.cast(shifted - call("log", total), kind, x.dtype)
        return Program((*stages, Stage("out0", x.dtype, axes, body)))
