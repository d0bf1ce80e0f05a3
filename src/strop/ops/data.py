"""Ops that move data: views, transposition, joining, cutting, padding, repeating."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.errors import ShapeError
from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.expr import Expr, call
from strop.ir.loops import Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim, Shape
from strop.ops import base
from strop.ops.indexing import slice_bounds

PAD_MODES = ("constant", "reflect", "edge", "wrap")
_DTYPES = (dt.f32, dt.i64, dt.u8, dt.boolean, dt.f16, dt.bf16)  # of samples


def _copy(out: Type, index: Sequence[Expr], number: int = 0) -> Stage:
    """Result ``number``: operand 0 at an index made of the variables of ``loops(out.shape)``."""
    return Stage(f"out{number}", out.dtype, loops(out.shape), ex.Load(0, tuple(index)))


def _position(out: Type) -> list[Expr]:
    """The variables of ``loops(out.shape)``."""
    return base.variables(loops(out.shape))


@dataclass(frozen=True)
class Identity(base.View):
    """The operand itself."""

    name: ClassVar[str] = "identity"

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0],)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape in ((3, 4), (), (2, 0, 3)):
            yield Sample(cls(), (base.random_array(rng, shape),))


@dataclass(frozen=True)
class Reshape(base.View):
    """The same elements in row-major order under another shape.

    Attributes:
        shape: result shape, fully resolved: no 0 that copies and no -1.
    """

    name: ClassVar[str] = "reshape"

    shape: tuple[Dim, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        if any(isinstance(dim, int) and dim < 0 for dim in self.shape):
            raise self.fail("negative size", inputs, "a fully resolved shape")
        if not base.same_volume(inputs[0].shape, self.shape):
            raise self.fail(f"cannot become {sh.show(self.shape)}", inputs, "equal element counts")
        return (Type(inputs[0].dtype, self.shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return (inputs[0].reshape(sh.static(self.shape, self.name)),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, target in (
            ((2, 3, 4), (6, 4)),
            ((2, 3, 4), (24,)),
            ((6,), (1, 2, 3)),
            ((1,), ()),
            ((), (1, 1)),
            ((2, 0), (0, 5)),
        ):
            yield Sample(cls(target), (base.random_array(rng, shape),))


@dataclass(frozen=True)
class Transpose(base.Mover):
    """Axes in another order: axis k of the result is axis perm[k] of x.

    Attributes:
        perm: a permutation of 0..rank-1.
    """

    name: ClassVar[str] = "transpose"

    perm: tuple[int, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        x = inputs[0]
        if sorted(self.perm) != list(range(x.rank)):
            raise self.fail(f"perm {self.perm} is no permutation of the axes", inputs)
        return (Type(x.dtype, tuple(x.shape[p] for p in self.perm)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.asarray(np.transpose(inputs[0], self.perm), order="C"),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        position = _position(outputs[0])
        index = [position[self.perm.index(k)] for k in range(len(self.perm))]
        return Program((_copy(outputs[0], index),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, perm in (
            ((2, 3, 4, 5), (0, 2, 3, 1)),
            ((2, 3, 4, 5), (0, 3, 1, 2)),
            ((7, 5), (1, 0)),
            ((2, 3, 4), (2, 0, 1)),
            ((33, 17), (1, 0)),
            ((4,), (0,)),
            ((2, 3, 2, 2, 3), (0, 1, 4, 2, 3)),
        ):
            yield Sample(cls(perm), (base.random_array(rng, shape),))
        for dtype in _DTYPES:
            yield Sample(cls((2, 1, 0)), (base.random_array(rng, (3, 4, 2), dtype),))


@dataclass(frozen=True)
class Concat(base.Mover):
    """Operands one after the other along an axis; all other sizes agree.

    Attributes:
        axis: negative counts from the end.
    """

    name: ClassVar[str] = "concat"

    axis: int

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1, 1 << 20)
        dtype = base.same_dtype(self, inputs)
        shape = list(inputs[0].shape)
        if not shape:
            raise self.fail("operands are scalars", inputs, "rank 1 or more")
        axis = base.axis_of(self, self.axis, len(shape))
        for type in inputs[1:]:
            others = type.shape[:axis] + type.shape[axis + 1 :]
            if type.rank != len(shape) or others != (*shape[:axis], *shape[axis + 1 :]):
                raise self.fail(f"operands differ beside axis {axis}", inputs)
            shape[axis] = sh.add(shape[axis], type.shape[axis])
        return (Type(dtype, tuple(shape)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.concatenate(inputs, axis=self.axis),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (out,) = outputs
        axes = loops(out.shape)
        axis = base.axis_of(self, self.axis, out.rank)
        along = axes[axis].var
        body: Expr | None = None
        start = out.shape[axis]
        for number in range(len(inputs) - 1, -1, -1):
            given = inputs[number]
            end, start = start, sh.sub(start, given.shape[axis])
            if number == 0:
                start = 0
            if 0 in given.shape:
                continue
            index = base.variables(axes)
            offset = along if start == 0 else along - base.size(start)
            index[axis] = base.clamp(offset, given.shape[axis]) if len(inputs) > 1 else offset
            element = ex.Load(number, tuple(index))
            body = element if body is None else base.select(along < base.size(end), element, body)
        if body is None:
            body = base.literal(0, out.dtype)
        return Program((Stage("out0", out.dtype, axes, body),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for axis, shapes in (
            (1, ((1, 3, 4), (1, 5, 4), (1, 1, 4))),
            (0, ((2, 3), (1, 3))),
            (-1, ((2, 3, 2), (2, 3, 7))),
            (1, ((2, 4),)),
            (1, ((2, 0), (2, 3), (2, 0))),
            (2, ((1, 2, 3, 3), (1, 2, 2, 3), (1, 2, 1, 3), (1, 2, 4, 3))),
        ):
            yield Sample(cls(axis), tuple(base.random_array(rng, s) for s in shapes))
        for dtype in _DTYPES:
            operands = tuple(base.random_array(rng, (2, n), dtype) for n in (3, 4))
            yield Sample(cls(1), operands)


@dataclass(frozen=True)
class Slice(Op):
    """Elements start, start + step, ... before stop along some axes. ``Slice.of`` normalizes.

    Attributes:
        starts: per axis, 0..size (step > 0) or -1..size-1 (step < 0).
        stops: per axis, start..size (step > 0) or -1..start (step < 0; -1 stops after element 0).
        axes: distinct, not negative.
        steps: not zero.
    """

    name: ClassVar[str] = "slice"

    starts: tuple[Dim, ...]
    stops: tuple[Dim, ...]
    axes: tuple[int, ...]
    steps: tuple[int, ...]

    @classmethod
    def of(
        cls,
        shape: Shape,
        starts: Sequence[Dim],
        stops: Sequence[Dim],
        axes: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
    ) -> Slice:
        """The slice with ONNX's (and numpy's) meaning of negative and overlong numbers.

        Args:
            shape: of x. On a symbolic axis a start from the front is taken as it is, a start or
                stop from the end is relative to the symbol, and a stop of 2**31 - 1 or more is the
                axis' end.
            starts, stops: per axis in ``axes``; a symbolic one must be known to count from the front, or from the end.
            axes: None means 0, 1, ...
            steps: None means 1.
        """
        axes = list(range(len(starts))) if axes is None else axes
        steps = [1] * len(starts) if steps is None else steps
        if not len(starts) == len(stops) == len(axes) == len(steps):
            raise ShapeError("slice: starts, stops, axes and steps differ in number")
        if 0 in steps:
            raise ShapeError("slice: a step is zero")
        whole = tuple(sh.normalize_axis(a, len(shape), cls.name) for a in axes)
        found = [
            slice_bounds(shape[a], start, stop, step)
            for a, start, stop, step in zip(whole, starts, stops, steps, strict=True)
        ]
        return cls(tuple(b for b, _ in found), tuple(e for _, e in found), whole, tuple(steps))

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        x = inputs[0]
        if not len(self.starts) == len(self.stops) == len(self.axes) == len(self.steps):
            raise self.fail("starts, stops, axes and steps differ in number", inputs)
        if base.axes_of(self, self.axes, x.rank) != tuple(sorted(self.axes)) or 0 in self.steps:
            raise self.fail("axes or steps out of range", inputs)
        shape = list(x.shape)
        for axis, start, stop, step in zip(
            self.axes, self.starts, self.stops, self.steps, strict=True
        ):
            size = shape[axis]
            if not any(within(start, stop, size, step, known) for known in base.probes((start, stop, size))):
                raise self.fail(f"{start}:{stop} leaves axis {axis}", inputs, "see Slice.of")
            if step > 0:
                length = sh.ceildiv(sh.sub(stop, start), step)
            else:
                length = sh.ceildiv(sh.sub(start, stop), -step)
            shape[axis] = sh.maximum(length, 0)
        return (Type(x.dtype, tuple(shape)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        starts = sh.static(self.starts, self.name)
        stops = sh.static(self.stops, self.name)
        cut = [slice(None)] * inputs[0].ndim
        for axis, start, stop, step in zip(self.axes, starts, stops, self.steps, strict=True):
            empty = start == -1  # before the first element of a walk to the front
            cut[axis] = slice(0, 0) if empty else slice(start, None if stop < 0 else stop, step)
        return (np.asarray(inputs[0][tuple(cut)], order="C"),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return base.moved((*outputs, *outputs))

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        index = _position(outputs[0])
        for axis, start, step in zip(self.axes, self.starts, self.steps, strict=True):
            walked = base.scale(index[axis], step)
            index[axis] = walked if start == 0 else walked + base.size(start)
        return Program((_copy(outputs[0], index),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        big = 1 << 40
        for shape, starts, stops, axes, steps in (
            ((5, 6), (1,), (4,), (0,), (1,)),
            ((5, 6), (1, 0), (5, 6), (0, 1), (2, 3)),
            ((2, 7), (-3,), (big,), (1,), (1,)),
            ((2, 7), (-1,), (-big,), (-1,), (-1,)),
            ((2, 7), (5,), (1,), (1,), (-2,)),
            ((3, 4, 5), (0, 1), (2, -1), (2, 0), (1, 1)),
            ((4,), (3,), (1,), (0,), (1,)),
            ((4, 2), (2,), (-9,), (0,), (-1,)),
        ):
            op = cls.of(shape, starts, stops, axes, steps)
            yield Sample(op, (base.random_array(rng, shape),))
        for dtype in _DTYPES:
            x = base.random_array(rng, (6, 4), dtype)
            yield Sample(cls((1, 3), (6, -1), (0, 1), (2, -1)), (x,))


def within(start: Dim, stop: Dim, size: Dim, step: int, known: dict[str, int]) -> bool:
    """Whether a range of a Slice lies on its axis at these values of the symbols."""
    first, last, extent = (sh.evaluate(d, known) for d in (start, stop, size))
    low, high = (0, extent) if step > 0 else (-1, extent - 1)
    return low <= first <= high and low <= last <= high


@dataclass(frozen=True)
class Split(base.Mover):
    """x cut into consecutive parts along an axis; one result per part.

    Attributes:
        axis: negative counts from the end.
        sizes: of the parts; they add up to the axis.
    """

    name: ClassVar[str] = "split"

    axis: int
    sizes: tuple[Dim, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        x = inputs[0]
        if x.rank == 0:
            raise self.fail("needs an axis", inputs, "rank 1 or more")
        axis = base.axis_of(self, self.axis, x.rank)
        total: Dim = 0
        for part in self.sizes:
            total = sh.add(total, part)
        if not base.same_volume((total,), (x.shape[axis],)):
            raise self.fail(f"parts {sh.show(self.sizes)} do not add up to axis {axis}", inputs)
        return tuple(Type(x.dtype, (*x.shape[:axis], s, *x.shape[axis + 1 :])) for s in self.sizes)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        ends = np.cumsum(sh.static(self.sizes, self.name))
        parts = np.split(inputs[0], ends[:-1], axis=self.axis)
        return tuple(np.ascontiguousarray(part) for part in parts)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        axis = base.axis_of(self, self.axis, inputs[0].rank)
        start: Dim = 0
        stages = []
        for number, out in enumerate(outputs):
            index = _position(out)
            if start != 0:
                index[axis] = index[axis] + base.size(start)
            stages.append(_copy(out, index, number))
            start = sh.add(start, self.sizes[number])
        return Program(tuple(stages))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, axis, sizes in (
            ((2, 9), 1, (3, 3, 3)),
            ((2, 9), -1, (1, 8)),
            ((6, 2, 3), 0, (2, 0, 4)),
            ((1, 8, 3, 3), 1, (4, 4)),
            ((5,), 0, (5,)),
        ):
            yield Sample(cls(axis, sizes), (base.random_array(rng, shape),))
        for dtype in _DTYPES:
            yield Sample(cls(1, (2, 3)), (base.random_array(rng, (2, 5), dtype),))


@dataclass(frozen=True)
class Pad(base.Mover):
    """x with elements added before and after its axes (ONNX Pad); negative numbers cut off.

    Attributes:
        pads: before every axis, then after every axis.
        mode: constant, reflect (mirror without repeating the edge), edge (repeat the edge) or wrap.
        value: the constant, converted to the dtype.
    """

    name: ClassVar[str] = "pad"

    pads: tuple[int, ...]
    mode: str = "constant"
    value: float = 0.0

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.choice(self, "mode", self.mode, PAD_MODES)
        x = inputs[0]
        if len(self.pads) != 2 * x.rank:
            raise self.fail(f"pads {self.pads} do not fit", inputs, f"{2 * x.rank} numbers")
        shape = []
        for k, size in enumerate(x.shape):
            before, after = self.pads[k], self.pads[x.rank + k]
            grown = sh.add(size, before + after)
            if isinstance(grown, int) and grown < 0:
                raise self.fail(f"cuts off more than axis {k} has", inputs)
            if isinstance(size, int) and self.mode != "constant":
                kept = size + min(before, 0) + min(after, 0)
                room = kept - 1 if self.mode == "reflect" else kept
                wanted = max(before, after)
                if wanted > 0 and (room < 1 or (self.mode == "reflect" and wanted > room)):
                    raise self.fail(f"axis {k} is too short for mode {self.mode}", inputs)
            shape.append(grown)
        return (Type(x.dtype, tuple(shape)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        if x.ndim == 0:
            return (x.copy(),)
        both = [(self.pads[k], self.pads[x.ndim + k]) for k in range(x.ndim)]
        cut = tuple(
            slice(max(-before, 0), size - max(-after, 0))
            for size, (before, after) in zip(x.shape, both, strict=True)
        )
        grown = [(max(before, 0), max(after, 0)) for before, after in both]
        if self.mode != "constant":
            return (np.pad(x[cut], grown, mode=self.mode),)  # type: ignore[call-overload]
        value = np.asarray(self.value).astype(x.dtype)
        return (np.pad(x[cut], grown, constant_values=value),)

    def _kept(self, size: Dim, k: int) -> Dim:
        """What is left of axis k after cutting, before padding."""
        return sh.add(size, min(self.pads[k], 0) + min(self.pads[len(self.pads) // 2 + k], 0))

    def _index(self, var: Expr, size: Dim, k: int, guards: list[Expr]) -> Expr:
        """Index into axis k of x; for mode constant whether it is in range goes to ``guards``."""
        before, after = self.pads[k], self.pads[len(self.pads) // 2 + k]
        if before == after == 0:
            return var
        kept = self._kept(size, k)
        at = base.scale(var, 1, -max(before, 0))
        if before <= 0 and after <= 0:
            pass
        elif self.mode == "constant":
            at = base.guarded(at, kept, guards)
        elif self.mode == "edge":
            at = base.clamp(at, kept)
        elif self.mode == "reflect":
            mirrored = call("abs", at)
            mirrored = call("min", mirrored, base.size(sh.mul(sh.sub(kept, 1), 2)) - mirrored)
            at = base.clamp(mirrored, kept)
        else:
            at = base.floor_mod(at, kept)
        return base.scale(at, 1, max(-before, 0))

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (x,), (out,) = inputs, outputs
        axes = loops(out.shape)
        guards: list[Expr] = []
        index = [self._index(loop.var, x.shape[k], k, guards) for k, loop in enumerate(axes)]
        kept = Type(x.dtype, tuple(self._kept(size, k) for k, size in enumerate(x.shape)))
        body = base.padded_load(0, kept, index, guards, self.value)
        body = base.cast(body, base.compute_type(x.dtype), x.dtype)
        return Program((Stage("out0", out.dtype, axes, body),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for mode in PAD_MODES:
            for shape, pads in (
                ((2, 3, 4, 5), (0, 0, 1, 2, 0, 0, 2, 1)),
                ((4, 5), (0, 0, 0, 0)),
                ((5, 6), (1, -2, 3, 2)),
                ((5, 6), (-1, -1, -1, -2)),
                ((4,), (3, 3)),
            ):
                yield Sample(cls(pads, mode, 1.5), (base.random_array(rng, shape),))
        for dtype in _DTYPES:
            yield Sample(
                cls((1, 0, 0, 2), "constant", 3.0), (base.random_array(rng, (3, 2), dtype),)
            )
        yield Sample(cls((0, 2, 0, 1)), (base.random_array(rng, (2, 0)),), "empty")


@dataclass(frozen=True)
class Expand(base.Mover):
    """Broadcast to a shape; x and the shape broadcast both ways, as ONNX Expand.

    Attributes:
        shape: fully resolved.
    """

    name: ClassVar[str] = "expand"

    shape: tuple[Dim, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        shape = sh.broadcast(inputs[0].shape, self.shape, where=self.name)
        return (Type(inputs[0].dtype, shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        shape = np.broadcast_shapes(x.shape, sh.static(self.shape, self.name))
        return (np.ascontiguousarray(np.broadcast_to(x, shape)).reshape(shape),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        index = base.broadcast_index(_position(outputs[0]), inputs[0].shape)
        return Program((_copy(outputs[0], index),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, target in (
            ((3, 1), (3, 4)),
            ((3,), (2, 4, 3)),
            ((2, 3, 1), (1, 5)),
            ((), (2, 2)),
            ((1, 4), (4,)),
        ):
            yield Sample(cls(target), (base.random_array(rng, shape),))
        for dtype in _DTYPES:
            yield Sample(cls((2, 3)), (base.random_array(rng, (2, 1), dtype),))


@dataclass(frozen=True)
class Tile(base.Mover):
    """x repeated along its axes.

    Attributes:
        repeats: per axis.
    """

    name: ClassVar[str] = "tile"

    repeats: tuple[Dim, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        x = inputs[0]
        if len(self.repeats) != x.rank or any(isinstance(r, int) and r < 0 for r in self.repeats):
            raise self.fail(f"repeats {self.repeats} do not fit", inputs, f"{x.rank} numbers")
        shape = tuple(sh.mul(d, r) for d, r in zip(x.shape, self.repeats, strict=True))
        return (Type(x.dtype, shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.tile(inputs[0], sh.static(self.repeats, self.name)),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        index = [
            var if repeat == 1 else base.floor_mod(var, dim)
            for var, dim, repeat in zip(
                _position(outputs[0]), inputs[0].shape, self.repeats, strict=True
            )
        ]
        return Program((_copy(outputs[0], index),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, repeats in (
            ((2, 3), (2, 2)),
            ((3,), (4,)),
            ((2, 1, 3), (1, 5, 1)),
            ((2, 2), (0, 3)),
            ((), ()),
        ):
            yield Sample(cls(repeats), (base.random_array(rng, shape),))
        for dtype in _DTYPES:
            yield Sample(cls((1, 2)), (base.random_array(rng, (3, 2), dtype),))
