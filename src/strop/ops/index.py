"""Ops that pick, place or order elements: gathers, scatters, one-hot, top-k, running sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.op import Op, Type
from strop.ops import base

REDUCTIONS = ("none", "add", "mul", "max", "min")


def _indices(op: Op, inputs: Sequence[Type], number: int = 1) -> None:
    """ShapeError unless an operand is i32 or i64."""
    if inputs[number].dtype not in (dt.i32, dt.i64):
        raise op.fail(f"operand {number} holds no indices", inputs, "i32 or i64")


@dataclass(frozen=True)
class Gather(Op):
    """Slices of x along an axis, picked by index; negative indices count from the end.

    Operands: x of any dtype and rank 1 or more, indices (i32 or i64) of any shape.
    Result: x.shape[:axis] + indices.shape + x.shape[axis + 1:]. The reference raises InputError on
    an index out of range; kernels force it into range.

    Attributes:
        axis: negative counts from the end.
    """

    name: ClassVar[str] = "gather"

    axis: int = 0

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        _indices(self, inputs)
        x, indices = inputs
        if x.rank == 0:
            raise self.fail("x is a scalar", inputs, "rank 1 or more")
        axis = base.axis_of(self, self.axis, x.rank)
        return (Type(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])),)


@dataclass(frozen=True)
class GatherElements(Op):
    """out[i][j] = x[index[i][j]][j] for axis 0, and likewise for other axes (ONNX GatherElements).

    Operands: x, indices (i32 or i64) of the same rank and, beside the axis, no larger. Result:
    shape of indices.

    Attributes:
        axis: negative counts from the end.
    """

    name: ClassVar[str] = "gather_elements"

    axis: int = 0

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        _indices(self, inputs)
        _aligned(self, inputs, self.axis, inputs[1])
        return (Type(inputs[0].dtype, inputs[1].shape),)


def _aligned(op: Op, inputs: Sequence[Type], axis: int, indices: Type) -> None:
    """ShapeError unless indices have x's rank and fit into x beside the axis."""
    x = inputs[0]
    if x.rank != indices.rank or x.rank == 0:
        raise op.fail("x and indices differ in rank", inputs, "equal rank, 1 or more")
    axis = base.axis_of(op, axis, x.rank)
    for k, (have, wanted) in enumerate(zip(x.shape, indices.shape, strict=True)):
        if k != axis and isinstance(have, int) and isinstance(wanted, int) and wanted > have:
            raise op.fail(f"indices are longer than x along axis {k}", inputs)


@dataclass(frozen=True)
class GatherND(Op):
    """Slices of x addressed by the last axis of indices (ONNX GatherND).

    Operands: x, indices[.., L] (i32 or i64) with L constant; the first batch_dims axes of both
    agree.
    Result: indices.shape[:-1] + x.shape[batch_dims + L:].

    Attributes:
        batch_dims: leading axes that are walked together.
    """

    name: ClassVar[str] = "gather_nd"

    batch_dims: int = 0

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        _indices(self, inputs)
        x, indices = inputs
        batch = self.batch_dims
        if x.rank == 0 or indices.rank == 0 or not 0 <= batch < min(x.rank, indices.rank):
            raise self.fail("ranks do not fit", inputs, f"rank above batch_dims {batch}")
        (depth,) = sh.static(indices.shape[-1:], self.name)
        if not 1 <= depth <= x.rank - batch:
            raise self.fail("last axis of indices does not fit", inputs, f"1..{x.rank - batch}")
        if x.shape[:batch] != indices.shape[:batch]:
            raise self.fail("batch axes differ", inputs)
        return (Type(x.dtype, (*indices.shape[:-1], *x.shape[batch + depth :])),)


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
        _indices(self, inputs)
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
        _indices(self, inputs)
        x, indices, updates = inputs
        _aligned(self, inputs, self.axis, indices)
        if updates != Type(x.dtype, indices.shape):
            raise self.fail("updates do not fit", inputs, str(Type(x.dtype, indices.shape)))
        if self.reduction != "none" and x.dtype is dt.boolean:
            raise self.fail(f"bool has no {self.reduction}", inputs)
        return (x,)


@dataclass(frozen=True)
class OneHot(Op):
    """values[1] where the position on a new axis equals the index, else values[0] (ONNX OneHot).

    Operands: indices (i32 or i64; negative ones count from the end, those out of range match
    nothing), values[2].
    Result: shape of indices with ``depth`` inserted at ``axis``, dtype of values.

    Attributes:
        depth: size of the new axis.
        axis: of the result; negative counts from the end.
    """

    name: ClassVar[str] = "one_hot"

    depth: int
    axis: int = -1

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        _indices(self, inputs, 0)
        indices, values = inputs
        if values.shape != (2,) or self.depth < 1:
            raise self.fail("values or depth do not fit", inputs, "values[2], depth 1 or more")
        axis = base.axis_of(self, self.axis, indices.rank + 1)
        return (Type(values.dtype, (*indices.shape[:axis], self.depth, *indices.shape[axis:])),)


@dataclass(frozen=True)
class TopK(Op):
    """The k largest or smallest elements along an axis in order, and their indices.

    Operand: x of a numeric dtype. Results: values of x's dtype, indices i64. Of equal elements the
    first comes first.

    Attributes:
        axis: negative counts from the end.
        k: how many.
        largest: largest first; otherwise smallest first.
    """

    name: ClassVar[str] = "top_k"

    axis: int
    k: int
    largest: bool = True

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.numeric(self, inputs)
        x = inputs[0]
        if x.rank == 0:
            raise self.fail("needs an axis", inputs, "rank 1 or more")
        axis = base.axis_of(self, self.axis, x.rank)
        size = x.shape[axis]
        if self.k < 0 or (isinstance(size, int) and self.k > size):
            raise self.fail(f"k {self.k} does not fit axis {axis}", inputs, f"0..{size}")
        shape = (*x.shape[:axis], self.k, *x.shape[axis + 1 :])
        return Type(x.dtype, shape), Type(dt.i64, shape)


@dataclass(frozen=True)
class CumSum(Op):
    """Running sum along an axis.

    Operand: x of a numeric dtype. Result: as x.

    Attributes:
        axis: negative counts from the end.
        exclusive: the element itself does not count.
        reverse: from the end.
    """

    name: ClassVar[str] = "cum_sum"

    axis: int
    exclusive: bool = False
    reverse: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.numeric(self, inputs)
        base.axis_of(self, self.axis, inputs[0].rank)
        return (inputs[0],)
