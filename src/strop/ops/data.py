"""Ops that move data: views, transposition, joining, cutting, padding, repeating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.errors import ShapeError
from strop.ir import shape as sh
from strop.ir.op import Op, Type
from strop.ir.shape import Dim, Shape
from strop.ops import base

PAD_MODES = ("constant", "reflect", "edge", "wrap")


@dataclass(frozen=True)
class Identity(Op):
    """The operand itself."""

    name: ClassVar[str] = "identity"

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        return (inputs[0],)


@dataclass(frozen=True)
class Reshape(Op):
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


@dataclass(frozen=True)
class Transpose(Op):
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


@dataclass(frozen=True)
class Concat(Op):
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
        starts: Sequence[int],
        stops: Sequence[int],
        axes: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
    ) -> Slice:
        """The slice with ONNX's (and numpy's) meaning of negative and overlong numbers.

        Args:
            shape: of x. On a symbolic axis a start from the front is taken as it is, a start or
                stop from the end is relative to the symbol, and a stop of 2**31 - 1 or more is the
                axis' end.
            starts, stops: per axis in ``axes``.
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
            _bounds(shape[a], start, stop, step)
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
            if all(isinstance(d, int) for d in (start, stop, size)):
                low, high = (0, size) if step > 0 else (-1, sh.sub(size, 1))
                if not (low <= start <= high and low <= stop <= high):  # type: ignore[operator]
                    raise self.fail(f"{start}:{stop} leaves axis {axis}", inputs, "see Slice.of")
            if step > 0:
                length = sh.ceildiv(sh.sub(stop, start), step)
            else:
                length = sh.ceildiv(sh.sub(start, stop), -step)
            shape[axis] = max(length, 0) if isinstance(length, int) else length
        return (Type(x.dtype, tuple(shape)),)


def _bounds(size: Dim, start: int, stop: int, step: int) -> tuple[Dim, Dim]:
    """Normalized start and stop on one axis."""
    if isinstance(size, int):
        begin, end, _ = slice(start, stop, step).indices(size)
        return begin, end
    far = (1 << 31) - 1
    if step > 0:
        first = start if start >= 0 else 0 if start <= -far else sh.add(size, start)
        last = stop if 0 <= stop < far else size if stop >= far else sh.add(size, stop)
        return first, last
    first = sh.sub(size, 1) if start >= far else start if start >= 0 else sh.add(size, start)
    last = -1 if stop <= -far else stop if stop >= 0 else sh.add(size, stop)
    return first, last


@dataclass(frozen=True)
class Split(Op):
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


@dataclass(frozen=True)
class Pad(Op):
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


@dataclass(frozen=True)
class Expand(Op):
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


@dataclass(frozen=True)
class Tile(Op):
    """x repeated along its axes.

    Attributes:
        repeats: per axis.
    """

    name: ClassVar[str] = "tile"

    repeats: tuple[int, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        x = inputs[0]
        if len(self.repeats) != x.rank or any(r < 0 for r in self.repeats):
            raise self.fail(f"repeats {self.repeats} do not fit", inputs, f"{x.rank} numbers")
        shape = tuple(sh.mul(d, r) for d, r in zip(x.shape, self.repeats, strict=True))
        return (Type(x.dtype, shape),)


@dataclass(frozen=True)
class Trilu(Op):
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
