"""Layers that move, pick and place elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from strop.errors import OptionError, ShapeError
from strop.frontend.network.layer import Emitter, Layer
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.data import Concat, Expand, Pad
from strop.ops.data import Slice as SliceOp
from strop.ops.elementwise import make
from strop.ops.index import Gather as GatherOp
from strop.ops.index import GatherElements, GatherND
from strop.ops.index import OneHot as OneHotOp
from strop.ops.scatter import ScatterElements, ScatterND

# ---- constants and shapes


@dataclass(eq=False)
class Constant(Layer):
    """A constant; without an implicit batch it has all axes, with one it is the same for all samples.

    Attributes:
        values: its elements.
        shape: sizes; None for those of ``values``.
    """

    kind: ClassVar[str] = "Constant"
    arity: ClassVar[tuple[int, int | None]] = (0, 0)

    values: Any
    shape: Sequence[int] | None = None

    def check(self) -> None:
        array = np.asarray(self.values)
        if self.shape is not None and array.size != sh.count(self.shape):
            raise ShapeError("shape does not fit the values", where=self.name, got=tuple(self.shape), expected=f"{array.size} elements")

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        array = np.asarray(self.values)
        shape = array.shape if self.shape is None else tuple(self.shape)
        return e.const(array.reshape((1,) * e.lead + shape))


@dataclass(eq=False)
class Shape(Layer):
    """The sizes of x, i64 of rank 1. It follows free axes, so what is computed from it may size other tensors."""

    kind: ClassVar[str] = "Shape"

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        dims = np.empty(len(x.shape), object)
        dims[:] = list(x.shape)
        if sh.is_static(x.shape):
            return e.const(np.asarray(x.shape, np.int64))
        value = e(make("mul"), e.const(np.asarray([d if isinstance(d, int) else 1 for d in x.shape], np.int64)), e.const(1, dt.i64))
        e.contents.set(value, dims)
        return value


# ---- joining and padding


@dataclass(eq=False)
class Concatenation(Layer):
    """Operands one after another along an axis.

    Attributes:
        axis: counted without an implicit batch; None for the third axis from the end (the first where there are fewer).
    """

    kind: ClassVar[str] = "Concatenation"
    arity: ClassVar[tuple[int, int | None]] = (1, None)

    axis: int | None = None

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        rank = inputs[0].type.rank
        axis = max(rank - e.lead - 3, 0) if self.axis is None else self.axis
        if not 0 <= axis < rank - e.lead:
            raise e.fail("axis out of range", axis, f"0..{rank - e.lead - 1}")
        if e.lead:
            batch = max((x.shape[0] for x in inputs), key=lambda d: d != 1)
            inputs = tuple(e(Expand((batch, *x.shape[1:])), x) if x.shape[0] != batch else x for x in inputs)
        return e(Concat(axis + e.lead), *inputs)


@dataclass(eq=False)
class Padding(Layer):
    """Zeros added around the last two axes; negative numbers cut off.

    Attributes:
        pre: before each of the two axes.
        post: after each of them.
    """

    kind: ClassVar[str] = "Padding"

    pre: Sequence[int]
    post: Sequence[int]

    def check(self) -> None:
        if len(self.pre) != 2 or len(self.post) != 2:
            raise ShapeError("padding does not fit", where=self.name, got=(tuple(self.pre), tuple(self.post)), expected="2 numbers each")

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        rank = x.type.rank
        if rank < 2:
            raise e.fail("input has the wrong rank", x.type, "rank 2 or more")
        zeros = (0,) * (rank - 2)
        return e(Pad((*zeros, *self.pre, *zeros, *self.post)), x)


# ---- shuffle


@dataclass(eq=False)
class Shuffle(Layer):
    """Transpose, reshape, transpose.

    Operands: x, optionally the shape as a tensor, which overrules ``reshape``.

    Attributes:
        first: permutation before the reshape, or None.
        reshape: sizes, or None to keep them; -1 is computed, 0 is taken from the input's axis of the same place.
        second: permutation after it, or None.
        zero_is_placeholder: 0 means what is said above; otherwise a size of zero.
    """

    kind: ClassVar[str] = "Shuffle"
    arity: ClassVar[tuple[int, int | None]] = (1, 2)

    first: Sequence[int] | None = None
    reshape: Sequence[int] | None = None
    second: Sequence[int] | None = None
    zero_is_placeholder: bool = True

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        x = inputs[0]
        x = self._turned(e, x, self.first)
        wanted: Sequence[Dim] | None = self.reshape
        if len(inputs) > 1 and inputs[1] is not None:
            wanted = e.dims(inputs[1], "the shape")
        if wanted is not None:
            lead = x.shape[: e.lead]
            x = e.reshape(x, (*lead, *self._resolved(e, x.shape[e.lead :], wanted)))
        return self._turned(e, x, self.second)

    def _turned(self, e: Emitter, x: Value, perm: Sequence[int] | None) -> Value:
        if perm is None:
            return x
        own = [*range(e.lead), *(int(p) + e.lead for p in perm)][: x.type.rank]
        own += range(len(own), x.type.rank)  # permutations may be longer than the rank, or shorter
        if sorted(own) != list(range(x.type.rank)):
            raise e.fail("not a permutation of the axes", list(perm), f"of 0..{x.type.rank - e.lead - 1}")
        return e.transpose(x, own)

    def _resolved(self, e: Emitter, have: Sequence[Dim], wanted: Sequence[Dim]) -> list[Dim]:
        found: list[Dim] = list(wanted)
        if self.zero_is_placeholder:
            if any(d == 0 and k >= len(have) for k, d in enumerate(found)):
                raise e.fail("0 stands where the input has no axis", list(map(str, wanted)), f"rank {len(have)}")
            found = [have[k] if d == 0 else d for k, d in enumerate(found)]
        if found.count(-1) > 1:
            raise e.fail("more than one size is to be computed", list(map(str, wanted)))
        if -1 in found:
            rest = sh.volume(tuple(d for d in found if d != -1))
            whole = sh.volume(tuple(have))
            found[found.index(-1)] = sh.floordiv(whole, rest) if rest != 0 else 0
        if sh.volume(tuple(found)) != sh.volume(tuple(have)):
            raise e.fail("the number of elements changes", f"{sh.show(have)} to {sh.show(found)}")
        return found


@dataclass(eq=False)
class Squeeze(Layer):
    """x without axes of size 1. Operands: x, axes (constant)."""

    kind: ClassVar[str] = "Squeeze"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        x = inputs[0]
        axes = {sh.normalize_axis(int(str(a)), x.type.rank, self.name) for a in e.dims(inputs[1], "the axes")}
        if any(x.shape[a] != 1 for a in axes):
            raise e.fail("an axis has another size than 1", x.type, f"size 1 at {sorted(axes)}")
        return e.reshape(x, [d for k, d in enumerate(x.shape) if k not in axes])


@dataclass(eq=False)
class Unsqueeze(Layer):
    """x with new axes of size 1. Operands: x, axes of the result (constant)."""

    kind: ClassVar[str] = "Unsqueeze"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        x = inputs[0]
        given = e.dims(inputs[1], "the axes")
        rank = x.type.rank + len(given)
        axes = {sh.normalize_axis(int(str(a)), rank, self.name) for a in given}
        rest = iter(x.shape)
        return e.reshape(x, [1 if k in axes else next(rest) for k in range(rank)])


# ---- slices


_SLICE_MODES = ("default", "strict_bounds", "wrap", "clamp", "fill", "reflect")


@dataclass(eq=False)
class Slice(Layer):
    """Elements start, start + stride, .. of every axis.

    Operands: x, optionally start, size and stride as tensors (operands 1 to 3, which overrule the parameters) and the value for
    ``fill`` (operand 4).

    Attributes:
        start, size, stride: one number per axis, without an implicit batch.
        mode: what lies outside x: an error (strict_bounds, default), ``fill``, the nearest element (clamp), or x repeated (wrap) or
            mirrored (reflect).
        axes: the axes that the numbers are for; None for all.
    """

    kind: ClassVar[str] = "Slice"
    arity: ClassVar[tuple[int, int | None]] = (1, 6)

    start: Sequence[int] = ()
    size: Sequence[int] = ()
    stride: Sequence[int] = ()
    mode: str = "strict_bounds"
    axes: Sequence[int] | None = None

    def check(self) -> None:
        if self.mode not in _SLICE_MODES:
            raise OptionError("unknown mode of slice", where=self.name, got=self.mode, expected=", ".join(_SLICE_MODES))

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        x = inputs[0]
        given = [*inputs[1:], None, None, None, None][:4]
        numbers = [
            tuple(own) if tensor is None else e.dims(tensor, what)
            for own, tensor, what in zip((self.start, self.size, self.stride), given[:3], ("start", "size", "stride"), strict=True)
        ]
        axes = tuple(range(x.type.rank - e.lead)) if self.axes is None else tuple(self.axes)
        if any(len(n) != len(axes) for n in numbers):
            raise e.fail("start, size and stride do not fit the input", [list(map(str, n)) for n in numbers], f"{len(axes)} numbers each")
        fill = self._fill(given[3])
        for axis, start, size, stride in zip(axes, *numbers, strict=True):
            x = self._cut(e, x, axis + e.lead, start, size, stride, fill)
        return x

    def _fill(self, value: Value | None) -> float:
        if value is None:
            return 0.0
        if value.const is None or value.const.size != 1:
            raise ShapeError("the fill value must be one constant", where=self.name, got=value.type)
        return float(value.const.reshape(()))

    def _cut(self, e: Emitter, x: Value, axis: int, start: Dim, size: Dim, stride: Dim, fill: float) -> Value:
        have = x.shape[axis]
        if not isinstance(stride, int) or (stride == 0 and size != 1):
            raise e.fail("stride must be a constant other than 0", stride)
        stop = sh.add(start, sh.mul(size, stride))
        if stride == 1 and (start, stop) == (0, have):
            return x
        last = sh.add(start, sh.mul(sh.sub(size, 1), stride))
        low, high = (start, last) if stride >= 0 else (last, start)
        inside = sh.bounds(low)[0] >= 0 and sh.bounds(sh.sub(sh.sub(have, 1), high))[0] >= 0
        if inside:
            if isinstance(size, int) and size == 1 and isinstance(start, int):
                stride, stop = 1, start + 1
            end: Dim = sh.add(last, 1) if stride > 0 else sh.sub(last, 1)
            return e(SliceOp((start,), (end,), (axis,), (stride,)), x)
        if self.mode in ("strict_bounds", "default"):
            raise e.fail(f"axis {axis - e.lead} is sliced outside its bounds", f"{start}:{last} of {have}", "within the axis, or another mode")
        if not all(isinstance(d, int) for d in (have, start, size)):
            raise e.unsupported("a slice outside a free axis", got=x.type)
        return self._outside(e, x, axis, int(str(have)), np.arange(int(str(size))) * stride + int(str(start)), fill)

    def _outside(self, e: Emitter, x: Value, axis: int, have: int, index: np.ndarray[Any, Any], fill: float) -> Value:
        valid = (index >= 0) & (index < have)
        if self.mode == "wrap":
            index = index % have
        elif self.mode == "reflect":
            period = max(2 * (have - 1), 1)
            index = np.abs((index + (have - 1)) % period - (have - 1)) if have > 1 else np.zeros_like(index)
        else:
            index = np.clip(index, 0, have - 1)
        y = e(GatherOp(axis), x, e.const(index.astype(np.int64)))
        if self.mode != "fill" or valid.all():
            return y
        shape = [1] * x.type.rank
        shape[axis] = len(index)
        return e.fn("where", e.const(valid.reshape(shape)), y, e.const(fill, x.dtype))


# ---- picking and placing


@dataclass(eq=False)
class Gather(Layer):
    """Elements or slices of x by index. Operands: x, indices (i32 or i64).

    Attributes:
        mode: default (slices along ``axis``), element (as numpy's take_along_axis) or nd (the last axis of indices names a place).
        axis: for default and element; counted without an implicit batch.
        batch_axes: leading axes that x and indices share.
    """

    kind: ClassVar[str] = "Gather"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    mode: str = "default"
    axis: int = 0
    batch_axes: int = 0

    def check(self) -> None:
        if self.mode not in ("default", "element", "nd"):
            raise OptionError("unknown mode of gather", where=self.name, got=self.mode, expected="default, element, nd")

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        x, indices = inputs
        axis = sh.normalize_axis(self.axis, x.type.rank - e.lead, self.name) + e.lead
        if self.mode == "element":
            return e(GatherElements(axis), x, indices)
        shared = self.batch_axes + (e.lead if indices.shape[:1] == x.shape[:1] and e.lead else 0)
        if self.mode == "nd":
            return e(GatherND(shared), x, indices)
        if shared == 0:
            if e.lead and indices.shape[0] == 1:
                indices = e.reshape(indices, indices.shape[1:])
            return e(GatherOp(axis), x, indices)
        return self._batched(e, x, indices, axis, shared)

    def _batched(self, e: Emitter, x: Value, indices: Value, axis: int, shared: int) -> Value:
        """Each sample by its own indices: the axis next to the shared ones, then GatherND."""
        if axis < shared:
            raise e.fail("the axis lies among the shared ones", axis, f"{shared} or more")
        rank, picked = x.type.rank, indices.type.rank - shared
        order = [*range(shared), axis, *(k for k in range(shared, rank) if k != axis)]
        y = e(GatherND(shared), e.transpose(x, order), e.reshape(indices, (*indices.shape, 1)))
        between = axis - shared  # axes of x before the picked one come before the indices' own
        own = list(range(shared, shared + picked))
        rest = list(range(shared + picked, y.type.rank))
        return e.transpose(y, [*range(shared), *rest[:between], *own, *rest[between:]])


@dataclass(eq=False)
class Scatter(Layer):
    """A copy of x with elements set. Operands: x, indices, updates.

    Attributes:
        mode: element (out[index[i][j]][j] for axis 0) or nd.
        axis: for element; counted without an implicit batch.
    """

    kind: ClassVar[str] = "Scatter"
    arity: ClassVar[tuple[int, int | None]] = (3, 3)

    mode: str = "element"
    axis: int = 0

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        if self.mode not in ("element", "nd"):
            raise OptionError("unknown mode of scatter", where=self.name, got=self.mode, expected="element, nd")
        if self.mode == "nd":
            return e(ScatterND(), *inputs)
        axis = sh.normalize_axis(self.axis, inputs[0].type.rank - e.lead, self.name) + e.lead
        return e(ScatterElements(axis), *inputs)


@dataclass(eq=False)
class OneHot(Layer):
    """values[1] at the index on a new axis, else values[0]. Operands: indices, values [2], depth (constant).

    Attributes:
        axis: of the result.
    """

    kind: ClassVar[str] = "OneHot"
    arity: ClassVar[tuple[int, int | None]] = (3, 3)

    axis: int = -1

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (depth,) = e.dims(inputs[2], "the depth")
        if not isinstance(depth, int):
            raise e.unsupported("a free depth", got=depth)
        return e(OneHotOp(depth, self.axis), inputs[0], inputs[1])


@dataclass(eq=False)
class ReverseSequence(Layer):
    """The first lengths[b] steps of every sample in reverse order, the rest as it is. Operands: x, lengths.

    Attributes:
        batch_axis, sequence_axis: 0 and 1 in some order.
    """

    kind: ClassVar[str] = "ReverseSequence"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    batch_axis: int = 1
    sequence_axis: int = 0

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        x, lengths = inputs
        if {self.batch_axis, self.sequence_axis} != {0, 1} or x.type.rank < 2:
            raise e.fail("axes do not fit", (self.batch_axis, self.sequence_axis), "0 and 1")
        steps = x.shape[self.sequence_axis]
        if not isinstance(steps, int):
            raise e.unsupported("a free number of steps", got=x.type)
        along = (-1, 1) if self.sequence_axis == 0 else (1, -1)
        samples = x.shape[self.batch_axis]
        step = e.const(np.arange(steps).reshape(along), lengths.dtype)
        length = e.reshape(lengths, (1, samples) if self.sequence_axis == 0 else (samples, 1))
        last = e.fn("sub", length, e.const(1, lengths.dtype))
        index = e.fn("where", e.fn("lt", step, length), e.fn("sub", last, step), step)
        index = e.reshape(index, (*index.shape, *(1,) * (x.type.rank - 2)))
        return e(GatherElements(self.sequence_axis), x, e(Expand(x.shape), index))


@dataclass(eq=False)
class Fill(Layer):
    """A tensor of an arithmetic sequence: start + sum of delta[k] * position[k].

    Operands, all optional: shape, start (a scalar), delta (one number per axis).

    Attributes:
        shape: sizes.
        start, delta: numbers of the sequence.
        dtype: of the result.
    """

    kind: ClassVar[str] = "Fill"
    arity: ClassVar[tuple[int, int | None]] = (0, 3)

    shape: Sequence[int] = ()
    start: float = 0.0
    delta: float | Sequence[float] = 1.0
    dtype: str = "f32"

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        given = [*inputs, None, None, None][:3]
        shape = tuple(self.shape) if given[0] is None else e.dims(given[0], "the shape")
        sizes = sh.static(shape, self.name)
        start: Any = self.start if given[1] is None else self._number(e, given[1])
        delta = np.reshape(self.delta if given[2] is None else self._number(e, given[2]), -1)
        if len(delta) != len(sizes):
            raise e.fail("delta does not fit", delta.tolist(), f"{len(sizes)} numbers")
        grid = np.indices(sizes, sparse=True) if sizes else []
        total = sum((g * d for g, d in zip(grid, delta, strict=True)), np.asarray(start))
        return e.const(np.broadcast_to(total, sizes).astype(dt.BY_NAME[self.dtype].numpy))

    def _number(self, e: Emitter, value: Value) -> np.ndarray[Any, Any]:
        if value.const is None:
            raise e.unsupported("a sequence whose numbers come from data", got=value.type)
        return value.const.reshape(-1) if value.const.ndim else value.const
