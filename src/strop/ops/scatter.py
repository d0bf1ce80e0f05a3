"""Ops that place elements by index (ONNX ScatterND, ScatterElements)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim
from strop.ops import base, indexing

REDUCTIONS = ("none", "add", "mul", "max", "min")

#: reduction: numpy's unbuffered update.
_UPDATES = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter(x: Array, places: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    """x with updates set or combined at places; floats are combined in float64."""
    if reduction == "none":
        out = x.copy()
        out[places] = updates
        return out
    total = base.wide(x).copy()
    _UPDATES[reduction].at(total, places, base.wide(updates))
    return base.narrow(total, x)


def _neutral(reduction: str, kind: dt.DType) -> Expr:
    """What a reduction leaves alone."""
    value = {"add": 0, "mul": 1, "max": base.lowest(kind), "min": base.highest(kind)}[reduction]
    return base.literal(value, kind)


def _scatter_program(
    x: Type,
    axes: tuple[Loop, ...],
    walk: Loop,
    match: Expr,
    update: Sequence[Expr],
    last: Sequence[Expr],
    reduction: str,
) -> Program:
    """Every element of x looks through the updates that may be meant for it.

    Args:
        x: operand 0 and result.
        axes: loops over x.
        walk: loop over the candidate updates of an element.
        match: whether the candidate is meant for the element.
        update: index of the candidate in operand 2.
        last: the same for the candidate ``Load("last", variables of axes)``.
        reduction: how they combine.
    """
    position = base.variables(axes)
    if reduction == "none":
        body = base.select(match, walk.var, base.integer(-1))
        found = Stage("last", dt.i64, axes, body, (walk,), "max", ex.Const(-1))
        hit = ex.Load("last", tuple(position)) >= base.integer(0)
        value = base.select(hit, ex.Load(2, tuple(last)), ex.Load(0, tuple(position)))
        return Program((found, Stage("out0", x.dtype, axes, value)))
    kind = base.compute_type(x.dtype)
    neutral = _neutral(reduction, kind)
    assert isinstance(neutral, ex.Const)
    body = base.select(match, base.load(2, x.dtype, update), neutral)
    final = call(reduction, base.load(0, x.dtype, position), ex.Acc())
    final = base.cast(final, kind, x.dtype)
    stage = Stage("out0", x.dtype, axes, body, (walk,), reduction, neutral, final, kind)
    return Program((stage,))


def _last_of(axes: Sequence[Loop], extent: Dim) -> Expr:
    """The stage ``last`` of _scatter_program as an index that is in range also where it is -1."""
    return base.clamp(ex.Load("last", tuple(base.variables(axes))), extent)


def _copied(x: Type) -> Program:
    """x as it is."""
    axes = loops(x.shape)
    return Program((Stage("out0", x.dtype, axes, ex.Load(0, tuple(base.variables(axes)))),))


@dataclass(frozen=True)
class ScatterND(Op):
    """A copy of x with slices set or combined at indices (ONNX ScatterND).

    Operands: x, indices[.., L] (i32 or i64), updates[indices.shape[:-1] + x.shape[L:]]. Result: as
    x.

    Attributes:
        reduction: none (of repeated indices the last one counts), add, mul, max or min.
    """

    name: ClassVar[str] = "scatter_nd"

    reduction: str = "none"

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 3)
        base.choice(self, "reduction", self.reduction, REDUCTIONS)
        indexing.check_indices(self, inputs)
        x, indices, updates = inputs
        if x.rank == 0 or indices.rank == 0:
            raise self.fail("x or indices are scalars", inputs, "rank 1 or more")
        (depth,) = sh.static(indices.shape[-1:], self.name)
        if not 1 <= depth <= x.rank:
            raise self.fail("last axis of indices does not fit", inputs, f"1..{x.rank}")
        wanted = Type(x.dtype, (*indices.shape[:-1], *x.shape[depth:]))
        if updates != wanted:
            raise self.fail("updates do not fit", inputs, str(wanted))
        if self.reduction != "none" and x.dtype is dt.boolean:
            raise self.fail(f"bool has no {self.reduction}", inputs)
        return (x,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, indices, updates = inputs
        depth = indices.shape[-1]
        places = tuple(indexing.resolved(self, indices[..., k], x.shape[k]) for k in range(depth))
        return (_scatter(x, places, updates, self.reduction),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return Cost(inputs[2].count, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x, indices, updates = inputs
        if 0 in updates.shape or 0 in x.shape:
            return _copied(x)
        axes = loops(x.shape)
        position = base.variables(axes)
        lead = indices.shape[:-1]
        (depth,) = sh.static(indices.shape[-1:], self.name)
        walk = Loop("u", sh.volume(lead))
        number = base.unflatten(walk.var, lead)
        matches = []
        for k in range(depth):
            at = indexing.counted_from_end(
                indexing.load_index(indices, 1, [*number, base.integer(k)]), x.shape[k]
            )
            matches.append(call("eq", at, position[k]))
        match = base.all_of(matches)
        assert match is not None
        last = base.unflatten(_last_of(axes, walk.extent), lead)
        rest = position[depth:]
        return _scatter_program(
            x, axes, walk, match, [*number, *rest], [*last, *rest], self.reduction
        )

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, indices in (
            ((6, 3), (4, 1)),
            ((4, 5), (2, 3, 2)),
            ((3, 4, 5), (7, 2)),
            ((5,), (3, 1)),
            ((4, 2), (0, 1)),
        ):
            for reduction in REDUCTIONS:
                yield cls._sample(rng, shape, indices, reduction, dt.f32)
        for dtype in (dt.i64, dt.f16, dt.bf16):
            for reduction in REDUCTIONS:
                yield cls._sample(rng, (5, 2), (3, 1), reduction, dtype)
        yield cls._sample(rng, (5, 2), (3, 1), "none", dt.boolean)

    @classmethod
    def _sample(
        cls,
        rng: np.random.Generator,
        shape: tuple[int, ...],
        indices: tuple[int, ...],
        reduction: str,
        dtype: dt.DType,
    ) -> Sample:
        depth = indices[-1]
        picked = indexing.random_indices(rng, indices, min(shape[:depth]))
        updates = base.random_array(rng, (*indices[:-1], *shape[depth:]), dtype)
        return Sample(cls(reduction), (base.random_array(rng, shape, dtype), picked, updates))


@dataclass(frozen=True)
class ScatterElements(Op):
    """A copy of x with out[index[i][j]][j] set or combined (ONNX ScatterElements; axis 0 shown).

    Operands: x, indices (i32 or i64), updates of the shape of indices. Result: as x.

    Attributes:
        axis: negative counts from the end.
        reduction: none (of repeated indices the last one counts), add, mul, max or min.
    """

    name: ClassVar[str] = "scatter_elements"

    axis: int = 0
    reduction: str = "none"

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 3)
        base.choice(self, "reduction", self.reduction, REDUCTIONS)
        indexing.check_indices(self, inputs)
        x, indices, updates = inputs
        indexing.check_aligned(self, inputs, self.axis, indices)
        if updates != Type(x.dtype, indices.shape):
            raise self.fail("updates do not fit", inputs, str(Type(x.dtype, indices.shape)))
        if self.reduction != "none" and x.dtype is dt.boolean:
            raise self.fail(f"bool has no {self.reduction}", inputs)
        return (x,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, indices, updates = inputs
        places = indexing.element_places(self, x, indices, self.axis)
        return (_scatter(x, places, updates, self.reduction),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return Cost(inputs[2].count, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x, indices, _ = inputs
        if 0 in indices.shape or 0 in x.shape:
            return _copied(x)
        axes = loops(x.shape)
        axis = base.axis_of(self, self.axis, x.rank)
        walk = Loop("u", indices.shape[axis])
        matches: list[Expr] = []
        number = base.variables(axes)
        for k in range(x.rank):
            if k == axis:
                number[k] = walk.var
            elif x.shape[k] != indices.shape[k]:
                number[k] = base.guarded(number[k], indices.shape[k], matches)
        at = indexing.counted_from_end(indexing.load_index(indices, 1, number), x.shape[axis])
        matches.append(call("eq", at, axes[axis].var))
        match = base.all_of(matches)
        assert match is not None
        last = [*number[:axis], _last_of(axes, walk.extent), *number[axis + 1 :]]
        return _scatter_program(x, axes, walk, match, number, last, self.reduction)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, axis, indices in (
            ((5, 4), 0, (3, 4)),
            ((5, 4), 1, (2, 6)),
            ((2, 3, 4), -2, (2, 5, 3)),
            ((6,), 0, (4,)),
        ):
            for reduction in REDUCTIONS:
                for dtype in (dt.f32, dt.i32, dt.bf16):
                    picked = indexing.random_indices(rng, indices, shape[axis])
                    data = base.random_array(rng, shape, dtype)
                    updates = base.random_array(rng, indices, dtype)
                    yield Sample(cls(axis, reduction), (data, picked, updates))
