"""Running sums and products along an axis (ONNX CumSum, CumProd)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Op, Sample, Type
from strop.ops import base


@dataclass(frozen=True)
class _Running(Op):
    """Shared by both: element i of the result combines all elements up to i.

    Operand: x of a numeric dtype. Result: as x.

    Attributes:
        axis: negative counts from the end.
        exclusive: the element itself does not count.
        reverse: from the end.
    """

    combine: ClassVar[str]
    neutral: ClassVar[int]
    accumulate: ClassVar[Any]

    axis: int
    exclusive: bool = False
    reverse: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.numeric(self, inputs)
        if inputs[0].rank == 0:
            raise self.fail("needs an axis", inputs, "rank 1 or more")
        base.axis_of(self, self.axis, inputs[0].rank)
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x = base.wide(inputs[0])
        x = np.flip(x, self.axis) if self.reverse else x
        with np.errstate(all="ignore"):
            total = type(self).accumulate(x, axis=self.axis, dtype=x.dtype)
        if self.exclusive and x.shape[self.axis]:
            first = np.full_like(np.take(total, [0], axis=self.axis), self.neutral)
            rest = np.take(total, np.arange(x.shape[self.axis] - 1), axis=self.axis)
            total = np.concatenate([first, rest], axis=self.axis)
        total = np.flip(total, self.axis) if self.reverse else total
        return (base.narrow(np.ascontiguousarray(total), inputs[0]),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        """Combines pairs at distances 1, 2, 4, ... (Hillis and Steele 1986); over a symbolic axis every element walks the axis."""
        (x,) = inputs
        axes = loops(x.shape)
        axis = base.axis_of(self, self.axis, x.rank)
        kind = base.compute_type(x.dtype)
        size = x.shape[axis]
        if not isinstance(size, int):
            return self._walk(x, axes, axis)
        position = base.variables(axes)
        first: Expr = base.load(0, x.dtype, position)
        if self.exclusive:
            first = self._before(0, x.dtype, position, axis, 1, size)
        stages = [Stage("s0", kind, axes, first)]
        distance = 1
        while distance < size:
            name = stages[-1].name
            here = ex.Load(name, tuple(position))
            there = self._before(name, kind, position, axis, distance, size)
            stages.append(Stage(f"s{len(stages)}", kind, axes, call(self.combine, there, here)))
            distance *= 2
        last = stages[-1]
        body = base.cast(last.body, kind, x.dtype)
        return Program((*stages[:-1], Stage("out0", x.dtype, axes, body)))

    def _before(
        self, source: int | str, given: dt.DType, position: list[Expr], axis: int, distance: int, size: int
    ) -> Expr:
        """The element ``distance`` before a position in the direction of the sum; the neutral one before the first."""
        step = base.integer(distance)
        at = position[axis] + step if self.reverse else position[axis] - step
        index = [*position[:axis], base.clamp(at, size), *position[axis + 1 :]]
        element = base.load(source, given, index)
        return base.select(
            base.inside(at, size), element, base.literal(self.neutral, base.compute_type(given))
        )

    def _walk(self, x: Type, axes: tuple[Loop, ...], axis: int) -> Program:
        """Every element folds over the whole axis."""
        other = Loop("j", x.shape[axis])
        index = base.variables(axes)
        first, second = (index[axis], other.var) if self.reverse else (other.var, index[axis])
        counts = first < second if self.exclusive else first <= second
        index[axis] = other.var
        kind = base.compute_type(x.dtype)
        neutral = ex.Const(self.neutral)
        body = base.select(counts, base.load(0, x.dtype, index), base.literal(self.neutral, kind))
        final = base.cast(ex.Acc(), kind, x.dtype)
        return Program(
            (Stage("out0", x.dtype, axes, body, (other,), self.combine, neutral, final, kind),)
        )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for exclusive in (False, True):
            for reverse in (False, True):
                for shape, axis in (((3, 5), 1), ((3, 5), 0), ((2, 3, 4), -2), ((1,), 0), ((9,), 0)):
                    x = base.random_array(rng, shape)
                    yield Sample(cls(axis, exclusive, reverse), (x,))
                for dtype in (dt.i32, dt.i64, dt.f16):
                    x = base.random_array(rng, (2, 6), dtype)
                    yield Sample(cls(1, exclusive, reverse), (x,))


@dataclass(frozen=True)
class CumSum(_Running):
    """Running sum along an axis; see ``_Running``."""

    name: ClassVar[str] = "cum_sum"
    combine: ClassVar[str] = "add"
    neutral: ClassVar[int] = 0
    accumulate: ClassVar[Any] = staticmethod(np.cumsum)


@dataclass(frozen=True)
class CumProd(_Running):
    """Running product along an axis; see ``_Running``."""

    name: ClassVar[str] = "cum_prod"
    combine: ClassVar[str] = "mul"
    neutral: ClassVar[int] = 1
    accumulate: ClassVar[Any] = staticmethod(np.cumprod)
