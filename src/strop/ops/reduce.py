"""Reductions over axes (ONNX Reduce*, ArgMax, ArgMin)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Shape
from strop.ops import base

KINDS = ("sum", "mean", "max", "min", "prod", "l1", "l2", "sumsq", "logsum", "logsumexp")
FLOAT_KINDS = ("l2", "logsum", "logsumexp")


def reduced_shape(shape: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """The shape with axes gone or made 1."""
    kept = [1 if k in axes else dim for k, dim in enumerate(shape) if keepdims or k not in axes]
    return tuple(kept)


def reduction(
    shape: Shape, axes: Sequence[int], keepdims: bool
) -> tuple[tuple[Loop, ...], tuple[Loop, ...], list[Expr]]:
    """Loops over the result, loops over the reduced axes, and x's index made of their variables."""
    outer = loops(reduced_shape(shape, axes, keepdims))
    folded = tuple(Loop(f"r{k}", shape[k]) for k in axes)
    kept = iter(base.variables(outer))
    inner = iter(base.variables(folded))
    index: list[Expr] = []
    for k in range(len(shape)):
        if k in axes:
            index.append(next(inner))
            if keepdims:
                next(kept)
        else:
            index.append(next(kept))
    return outer, folded, index


def _log_sum_exp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """log(sum(exp(x))) around the largest finite element."""
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    total = np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True)) + top
    return np.asarray(total if keepdims else np.squeeze(total, axes))


def _mean(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    if x.dtype.kind == "f":
        return np.asarray(np.mean(x, axis=axes, keepdims=keepdims))
    total = np.sum(x, axis=axes, keepdims=keepdims)
    return np.asarray(np.sign(total) * (np.abs(total) // sh.count([x.shape[a] for a in axes])))


#: kind: numpy meaning of (x as float64 or integer, axes, keepdims).
_MEANINGS: dict[str, Callable[[Array, tuple[int, ...], bool], Array]] = {
    "sum": lambda x, a, k: np.asarray(np.sum(x, axis=a, keepdims=k)),
    "mean": _mean,
    "max": lambda x, a, k: np.asarray(np.max(x, axis=a, keepdims=k)),
    "min": lambda x, a, k: np.asarray(np.min(x, axis=a, keepdims=k)),
    "prod": lambda x, a, k: np.asarray(np.prod(x, axis=a, keepdims=k)),
    "l1": lambda x, a, k: np.asarray(np.sum(np.abs(x), axis=a, keepdims=k)),
    "l2": lambda x, a, k: np.asarray(np.sqrt(np.sum(x * x, axis=a, keepdims=k))),
    "sumsq": lambda x, a, k: np.asarray(np.sum(x * x, axis=a, keepdims=k)),
    "logsum": lambda x, a, k: np.asarray(np.log(np.sum(x, axis=a, keepdims=k))),
    "logsumexp": _log_sum_exp,
}
_COMBINE = {"max": "max", "min": "min", "prod": "mul"}  # the rest add


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

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        axes = base.axes_of(self, self.axes, x.ndim)
        with np.errstate(all="ignore"):
            result = _MEANINGS[self.kind](base.wide(x), axes, self.keepdims)
        return (base.narrow(result, x),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (x,), (out,) = inputs, outputs
        axes = base.axes_of(self, self.axes, x.rank)
        wide = self.kind == "mean" and x.dtype.is_int  # the sum must not wrap before it is divided
        kind = dt.i64 if wide else base.compute_type(x.dtype)
        outer, folded, index = reduction(x.shape, axes, self.keepdims)
        folded = folded or (Loop("r", 1),)
        element = base.load(0, x.dtype, index, kind)
        if self.kind == "logsumexp":
            return self._log_sum_exp(x, out, outer, folded, element)
        body: Expr = element
        final: Expr = ex.Acc()
        if self.kind == "l1":
            body = call("abs", element)
        elif self.kind in ("l2", "sumsq"):
            body = element * element
        if self.kind == "mean":
            count = base.size(sh.volume(tuple(x.shape[a] for a in axes)))
            final = ex.Acc() / base.cast(count, dt.i64, kind)
        elif self.kind in ("l2", "logsum"):
            final = call("sqrt" if self.kind == "l2" else "log", ex.Acc())
        init: float | int | bool = 1 if self.kind == "prod" else 0
        if self.kind in ("max", "min"):
            init = base.lowest(kind) if self.kind == "max" else base.highest(kind)
        stage = Stage(
            "out0",
            out.dtype,
            outer,
            body,
            folded,
            _COMBINE.get(self.kind, "add"),
            ex.Const(init),
            base.cast(final, kind, out.dtype),
            kind,
        )
        return Program((stage,))

    def _log_sum_exp(
        self, x: Type, out: Type, outer: tuple[Loop, ...], folded: tuple[Loop, ...], element: Expr
    ) -> Program:
        kind = base.compute_type(x.dtype)
        least = ex.Const(base.lowest(kind))
        finite = call("abs", ex.Acc()) < ex.Const(base.highest(kind))
        top = base.select(finite, ex.Acc(), ex.Const(0.0, kind))
        first = Stage("top", kind, outer, element, folded, "max", least, top)
        loaded = ex.Load("top", tuple(base.variables(outer)))
        body = call("exp", element - loaded)
        final = base.cast(call("log", ex.Acc()) + loaded, kind, out.dtype)
        second = Stage("out0", out.dtype, outer, body, folded, "add", ex.Const(0.0), final, kind)
        return Program((first, second))

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        per_element = {"l1": 2, "l2": 2, "sumsq": 2, "logsumexp": 4}.get(self.kind, 1)
        return Cost(per_element * inputs[0].count, base.moved((*inputs, *outputs)).bytes)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for kind in KINDS:
            low = 0.1 if kind == "logsum" else -2
            for shape, axes, keepdims in (
                ((2, 3, 5, 4), (2, 3), True),
                ((2, 3, 4), (-1,), False),
                ((3, 4, 5), (0, 2), False),
                ((4, 33), (1,), True),
                ((3, 4), (0, 1), False),
                ((3, 2), (), True),
                ((), (), False),
            ):
                yield Sample(
                    cls(kind, axes, keepdims), (base.random_array(rng, shape, dt.f32, low),)
                )
            floats = kind in FLOAT_KINDS
            for dtype in (dt.f64, dt.f16, dt.bf16, *(() if floats else (dt.i32, dt.i64, dt.u8))):
                x = base.random_array(rng, (3, 6), dtype, low, 3)
                yield Sample(cls(kind, (1,), True), (x,))
        yield Sample(cls("mean", (1,), True), (base.random_array(rng, (3, 40), dt.i8, -120, 120),))
        yield Sample(cls("sum", (1,), True), (base.random_array(rng, (2, 0)),))


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

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        axis = base.axis_of(self, self.axis, x.ndim)
        pick = np.argmax if self.kind == "max" else np.argmin
        found = pick(np.flip(x, axis) if self.last else x, axis=axis)
        found = x.shape[axis] - 1 - found if self.last else found
        result = np.expand_dims(found, axis) if self.keepdims else found
        return (np.asarray(result, np.int64),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (x,) = inputs
        axis = base.axis_of(self, self.axis, x.rank)
        outer, folded, index = reduction(x.shape, (axis,), self.keepdims)
        combine = f"arg{self.kind}_last" if self.last else f"arg{self.kind}"
        body = base.load(0, x.dtype, index)
        kind = base.compute_type(x.dtype)
        stage = Stage("out0", dt.i64, outer, body, folded, combine, acc_dtype=kind)
        return Program((stage,))

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return Cost(inputs[0].count, base.moved((*inputs, *outputs)).bytes)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for kind in ("max", "min"):
            for shape, axis, keepdims in (
                ((3, 7), 1, True),
                ((3, 7), 0, False),
                ((2, 3, 4), -2, False),
                ((9,), 0, False),
            ):
                yield Sample(cls(kind, axis, keepdims), (base.random_array(rng, shape),))
            for last in (False, True):  # few distinct values, so that there are ties
                for dtype in (dt.i32, dt.u8, dt.f32, dt.bf16):
                    x = np.round(base.random_array(rng, (4, 9), dt.f32, 0, 3))
                    yield Sample(cls(kind, 1, True, last), (x.astype(dtype.numpy),))
