"""Ops that pick, mask or order elements: gathers, one-hot, top-k, triangles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.expr import call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim
from strop.ops import base, indexing


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
        indexing.check_indices(self, inputs)
        x, indices = inputs
        if x.rank == 0:
            raise self.fail("x is a scalar", inputs, "rank 1 or more")
        axis = base.axis_of(self, self.axis, x.rank)
        if x.shape[axis] == 0 and 0 not in indices.shape:
            raise self.fail(f"axis {axis} is empty", inputs)
        return (Type(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, indices = inputs
        axis = base.axis_of(self, self.axis, x.ndim)
        return (np.take(x, indexing.resolved(self, indices, x.shape[axis]), axis=axis),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return base.moved((inputs[1], *outputs, *outputs))

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x, indices = inputs
        (out,) = outputs
        axes = loops(out.shape)
        axis = base.axis_of(self, self.axis, x.rank)
        position = base.variables(axes)
        picked = indexing.load_index(indices, 1, position[axis : axis + indices.rank])
        at = base.wrap_negative(picked, x.shape[axis])
        body = ex.Load(0, (*position[:axis], at, *position[axis + indices.rank :]))
        return Program((Stage("out0", out.dtype, axes, body),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, axis, indices, dtype in (
            ((5, 4), 0, (3,), dt.i64),
            ((5, 4), 1, (2, 3), dt.i32),
            ((2, 3, 6), -1, (), dt.i64),
            ((7,), 0, (2, 2), dt.i64),
            ((2, 3, 4), 1, (5,), dt.i32),
            ((3, 2), 0, (0,), dt.i64),
        ):
            picked = indexing.random_indices(rng, indices, shape[axis], dtype)
            yield Sample(cls(axis), (base.random_array(rng, shape), picked))
        for data in (dt.i64, dt.u8, dt.boolean, dt.bf16):
            picked = indexing.random_indices(rng, (3,), 5)
            yield Sample(cls(0), (base.random_array(rng, (5, 2), data), picked))


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
        indexing.check_indices(self, inputs)
        indexing.check_aligned(self, inputs, self.axis, inputs[1])
        return (Type(inputs[0].dtype, inputs[1].shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, indices = inputs
        return (x[indexing.element_places(self, x, indices, self.axis)],)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return base.moved((inputs[1], *outputs, *outputs))

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x, indices = inputs
        (out,) = outputs
        axes = loops(out.shape)
        axis = base.axis_of(self, self.axis, x.rank)
        index = base.variables(axes)
        index[axis] = base.wrap_negative(indexing.load_index(indices, 1, index), x.shape[axis])
        return Program((Stage("out0", out.dtype, axes, ex.Load(0, tuple(index))),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, axis, indices in (
            ((4, 5), 0, (6, 5)),
            ((4, 5), 1, (3, 2)),
            ((2, 3, 4), -2, (2, 7, 3)),
            ((6,), 0, (3,)),
        ):
            for dtype in (dt.i64, dt.i32):
                picked = indexing.random_indices(rng, indices, shape[axis], dtype)
                yield Sample(cls(axis), (base.random_array(rng, shape), picked))


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
        indexing.check_indices(self, inputs)
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

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, indices = inputs
        batch = self.batch_dims
        lead = np.indices(indices.shape[:batch], sparse=True)
        missing = indices.ndim - 1 - batch
        places = [axis.reshape(*axis.shape, *[1] * missing) for axis in lead]
        places += [
            indexing.resolved(self, indices[..., k], x.shape[batch + k])
            for k in range(indices.shape[-1])
        ]
        return (np.asarray(x[tuple(places)]),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return base.moved((inputs[1], *outputs, *outputs))

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x, indices = inputs
        (out,) = outputs
        axes = loops(out.shape)
        position = base.variables(axes)
        lead = position[: indices.rank - 1]
        (depth,) = sh.static(indices.shape[-1:], self.name)
        index = position[: self.batch_dims]
        for k in range(depth):
            picked = indexing.load_index(indices, 1, [*lead, base.integer(k)])
            index.append(base.wrap_negative(picked, x.shape[self.batch_dims + k]))
        index += position[indices.rank - 1 :]
        return Program((Stage("out0", out.dtype, axes, ex.Load(0, tuple(index))),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, batch, indices in (
            ((4, 5), 0, (3, 2)),
            ((4, 5), 0, (3, 1)),
            ((4, 5, 2), 0, (2, 3, 2)),
            ((3, 4, 5), 1, (3, 1)),
            ((2, 3, 4, 5), 2, (2, 3, 6, 1)),
            ((6,), 0, (1,)),
        ):
            low = min(shape[batch : batch + indices[-1]])
            picked = indexing.random_indices(rng, indices, low)
            yield Sample(cls(batch), (base.random_array(rng, shape), picked))


@dataclass(frozen=True)
class OneHot(base.Mover):
    """values[1] where the position on a new axis equals the index, else values[0] (ONNX OneHot).

    Operands: indices (i32 or i64; negative ones count from the end, those out of range match
    nothing), values[2].
    Result: shape of indices with ``depth`` inserted at ``axis``, dtype of values.

    Attributes:
        depth: size of the new axis.
        axis: of the result; negative counts from the end.
    """

    name: ClassVar[str] = "one_hot"

    depth: Dim
    axis: int = -1

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        indexing.check_indices(self, inputs, 0)
        indices, values = inputs
        if values.shape != (2,) or (isinstance(self.depth, int) and self.depth < 1):
            raise self.fail("values or depth do not fit", inputs, "values[2], depth 1 or more")
        axis = base.axis_of(self, self.axis, indices.rank + 1)
        return (Type(values.dtype, (*indices.shape[:axis], self.depth, *indices.shape[axis:])),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        indices, values = inputs
        axis = base.axis_of(self, self.axis, indices.ndim + 1)
        whole = indices.astype(np.int64)
        (depth,) = sh.static((self.depth,), self.name)
        whole = np.expand_dims(np.where(whole < 0, whole + depth, whole), axis)
        numbers = np.arange(depth).reshape(-1, *[1] * (indices.ndim - axis))
        return (np.where(whole == numbers, values[1], values[0]),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        indices = inputs[0]
        (out,) = outputs
        axes = loops(out.shape)
        axis = base.axis_of(self, self.axis, out.rank)
        position = base.variables(axes)
        at = indexing.load_index(indices, 0, [*position[:axis], *position[axis + 1 :]])
        hit = call("eq", indexing.counted_from_end(at, self.depth), position[axis])
        on, off = (ex.Load(1, (base.integer(k),)) for k in (1, 0))
        return Program((Stage("out0", out.dtype, axes, base.select(hit, on, off)),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, axis, dtype in (
            ((4,), -1, dt.f32),
            ((2, 3), 0, dt.f32),
            ((2, 3), 1, dt.i64),
            ((2, 3), -2, dt.bf16),
            ((), 0, dt.boolean),
        ):
            picked = indexing.random_indices(rng, shape, 7, dt.i32)  # beyond the depth of 5, too
            values = np.asarray([0, 1]).astype(dtype.numpy)
            yield Sample(cls(5, axis), (picked, values))


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
    k: Dim
    largest: bool = True

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.numeric(self, inputs)
        x = inputs[0]
        if x.rank == 0:
            raise self.fail("needs an axis", inputs, "rank 1 or more")
        axis = base.axis_of(self, self.axis, x.rank)
        size = x.shape[axis]
        if isinstance(self.k, int) and (self.k < 0 or (isinstance(size, int) and self.k > size)):
            raise self.fail(f"k {self.k} does not fit axis {axis}", inputs, f"0..{size}")
        shape = (*x.shape[:axis], self.k, *x.shape[axis + 1 :])
        return Type(x.dtype, shape), Type(dt.i64, shape)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        axis = base.axis_of(self, self.axis, x.ndim)
        wide = base.wide(x)
        if self.largest:  # ascending and stable from the end, then turned round
            order = np.flip(np.argsort(np.flip(wide, axis), axis=axis, kind="stable"), axis)
            order = x.shape[axis] - 1 - order
        else:
            order = np.argsort(wide, axis=axis, kind="stable")
        (k,) = sh.static((self.k,), self.name)
        kept = np.take(order, np.arange(k), axis=axis).astype(np.int64)
        return np.take_along_axis(x, kept, axis), kept

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        size = inputs[0].static_shape[self.axis]
        flops = inputs[0].count * max(1, size.bit_length())  # comparisons of a sort
        return Cost(flops, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (x,) = inputs
        axis = base.axis_of(self, self.axis, x.rank)
        axes, results = loops(x.shape), loops(outputs[0].shape)
        other = Loop("j", x.shape[axis])
        here, there = base.variables(axes), base.variables(axes)
        there[axis] = other.var
        mine, theirs = base.load(0, x.dtype, here), base.load(0, x.dtype, there)
        beats = theirs > mine if self.largest else theirs < mine
        tied = call("eq", theirs, mine) & (other.var < here[axis])
        one, zero = base.integer(1), base.integer(0)
        before = base.select(beats | tied, one, zero)
        rank = Stage("rank", dt.i64, axes, before, (other,), "add", ex.Const(0))
        place = base.variables(results)
        candidate = [*place[:axis], other.var, *place[axis + 1 :]]
        ranked = call("eq", ex.Load("rank", tuple(candidate)), place[axis])
        number = base.select(ranked, other.var, zero)
        indices = Stage("out1", dt.i64, results, number, (other,), "max", ex.Const(0))
        found = [*place[:axis], ex.Load("out1", tuple(place)), *place[axis + 1 :]]
        values = Stage("out0", x.dtype, results, ex.Load(0, tuple(found)))
        return Program((rank, indices, values))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for largest in (True, False):
            for shape, axis, k in (
                ((3, 9), 1, 4),
                ((3, 9), 0, 1),
                ((2, 5, 3), -2, 5),
                ((6,), 0, 0),
            ):
                yield Sample(cls(axis, k, largest), (base.random_array(rng, shape),))
            for dtype in (dt.i64, dt.u8, dt.bf16, dt.f32):  # few distinct values, so there are ties
                x = np.round(base.random_array(rng, (2, 12), dt.f32, 0, 4)).astype(dtype.numpy)
                yield Sample(cls(1, 7, largest), (x,))


@dataclass(frozen=True)
class Trilu(base.Mover):
    """Keeps a triangle of the last two axes and sets the rest to zero.

    Attributes:
        upper: keep column - row >= k; otherwise keep column - row <= k.
        k: diagonal.
    """

    name: ClassVar[str] = "trilu"

    upper: bool = True
    k: int = 0

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        if inputs[0].rank < 2:
            raise self.fail("rank below 2", inputs)
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        cut = np.triu if self.upper else np.tril
        return (cut(inputs[0], self.k),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (out,) = outputs
        position = base.variables(loops(out.shape))
        distance = position[-1] - position[-2]
        bound = base.integer(self.k)
        kept = distance >= bound if self.upper else distance <= bound
        body = base.padded_load(0, inputs[0], position, [kept], 0)
        body = base.cast(body, base.compute_type(out.dtype), out.dtype)
        return Program((Stage("out0", out.dtype, loops(out.shape), body),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for upper in (False, True):
            for k in (0, 2, -1, 9):
                yield Sample(cls(upper, k), (base.random_array(rng, (2, 4, 5)),))
            for dtype in (dt.f32, dt.i64, dt.u8, dt.boolean, dt.bf16):
                yield Sample(cls(upper), (base.random_array(rng, (4, 3), dtype),))
