"""Maximum and average over sliding windows (ONNX MaxPool, AveragePool)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim, Shape
from strop.ops import base


@dataclass(frozen=True)
class _Pool(Op):
    """Shared attributes of the pools."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    ceil_mode: bool = False

    def _shape(self, inputs: Sequence[Type]) -> Shape:
        x = inputs[0].shape
        rank = len(x) - 2
        if not 1 <= rank <= 3:
            raise self.fail("rank does not fit", inputs, "x[N, C, 1 to 3 spatial axes]")
        base.check_window(
            self,
            rank,
            kernel=self.kernel,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
        )
        return (*x[:2], *(self._extent(x[2 + k], k) for k in range(rank)))

    def _extent(self, size: Dim, k: int) -> Dim:
        """Result size along spatial axis k."""
        return base.window_extent(
            size,
            self.kernel[k],
            self.strides[k],
            self.pads[k],
            self.pads[len(self.kernel) + k],
            self.dilations[k],
            self.ceil_mode,
        )

    def _taps(self, x: Array, fill: Any) -> Iterator[Array]:
        """Per tap of the window its element at every window position; ``fill`` outside x."""
        rank = len(self.kernel)
        out = sh.static(tuple(self._extent(x.shape[2 + k], k) for k in range(rank)))
        margins = [(0, 0), (0, 0)]
        for k in range(rank):
            reach = (out[k] - 1) * self.strides[k] + (self.kernel[k] - 1) * self.dilations[k] + 1
            margins.append((self.pads[k], max(0, reach - x.shape[2 + k] - self.pads[k])))
        if any(after or before for before, after in margins):
            x = np.pad(x, margins, constant_values=fill)
        for tap in np.ndindex(*self.kernel):
            place = tuple(
                slice(t * d, t * d + (size - 1) * s + 1, s)
                for t, d, size, s in zip(tap, self.dilations, out, self.strides, strict=True)
            )
            yield x[(slice(None), slice(None), *place)]

    def _padded(self, k: int) -> bool:
        """Whether a window can leave spatial axis k."""
        return self.ceil_mode or self.pads[k] > 0 or self.pads[len(self.kernel) + k] > 0

    def _element(
        self, x: Type, position: Sequence[Expr], taps: Sequence[Loop], value: float | int
    ) -> Expr:
        """The element under a tap in the compute type; ``value`` outside x."""
        index = list(position)
        guards: list[Expr] = []
        for k, tap in enumerate(taps):
            at = base.window_index(
                position[2 + k], tap.var, self.strides[k], self.dilations[k], self.pads[k]
            )
            index[2 + k] = base.guarded(at, x.shape[2 + k], guards) if self._padded(k) else at
        return base.padded_load(0, x, index, guards, value)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        flops = sh.count(self.kernel) * outputs[0].count
        return Cost(flops, base.moved((*inputs, *outputs)).bytes)


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The largest element of each window; padding never wins.

    Operand: x[N, C, *spatial] of a numeric dtype. Result: [N, C, *out], see
    ``strop.ops.base.window_extent``.

    Attributes:
        kernel, strides, dilations: per spatial axis.
        pads: before every spatial axis, then after every spatial axis.
        ceil_mode: a last partial window counts.
    """

    name: ClassVar[str] = "max_pool"

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        return (Type(base.numeric(self, inputs), self._shape(inputs)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        best: Array | None = None
        for element in self._taps(x, base.lowest(dt.from_numpy(x.dtype))):
            best = element.copy() if best is None else np.maximum(best, element)
        assert best is not None
        return (best,)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (out,) = outputs
        axes, taps = loops(out.shape), loops(self.kernel, "k")
        kind = base.compute_type(out.dtype)
        least = base.lowest(kind)
        body = self._element(inputs[0], base.variables(axes), taps, least)
        final = base.cast(ex.Acc(), kind, out.dtype)
        stage = Stage("out0", out.dtype, axes, body, taps, "max", ex.Const(least), final, kind)
        return Program((stage,))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, attributes in _SAMPLES:
            op = cls(**_filled(attributes))  # type: ignore[arg-type]
            yield Sample(op, (base.random_array(rng, shape),))
        for dtype in (dt.u8, dt.i8, dt.i32, dt.f16, dt.bf16, dt.f64):
            op = cls((3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
            yield Sample(op, (base.random_array(rng, (1, 2, 6, 5), dtype, -9, 9),))


@dataclass(frozen=True)
class MaxPoolIndices(_Pool):
    """Where MaxPool finds the largest element of each window; of equal ones the first.

    Operand: x[N, C, *spatial] of a numeric dtype. Result: i64 [N, C, *out], numbers of elements of x in row-major order.

    Attributes: as MaxPool, and
        column_major: the spatial axes count in reverse order, the first one fastest.
    """

    name: ClassVar[str] = "max_pool_indices"

    column_major: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.numeric(self, inputs)
        return (Type(dt.i64, self._shape(inputs)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        order = "F" if self.column_major else "C"
        planes = np.arange(sh.count(x.shape[:2])) * sh.count(x.shape[2:])
        inner = np.arange(sh.count(x.shape[2:])).reshape(x.shape[2:], order=order)  # type: ignore[call-overload]
        numbers = planes.reshape(*x.shape[:2], *[1] * (x.ndim - 2)) + inner
        best: Array | None = None
        at: Array | None = None
        least = base.lowest(dt.from_numpy(x.dtype))
        for element, number in zip(self._taps(x, least), self._taps(numbers, -1), strict=True):
            if best is None or at is None:
                best, at = element.copy(), number.copy()
                continue
            better = (number >= 0) & ((at < 0) | (element > best))
            best, at = np.where(better, element, best), np.where(better, number, at)
        assert at is not None
        return (at.astype(np.int64),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        """A window's taps are one loop, whose best place is turned into the element's number; padding is never better."""
        (x,), (out,) = inputs, outputs
        axes, tap = loops(out.shape), Loop("t", sh.count(self.kernel))
        position = base.variables(axes)

        def index(number: Expr, guards: list[Expr]) -> list[Expr]:
            found = list(position)
            for k, part in enumerate(base.unflatten(number, self.kernel)):
                at = base.window_index(
                    position[2 + k], part, self.strides[k], self.dilations[k], self.pads[k]
                )
                found[2 + k] = base.guarded(at, x.shape[2 + k], guards)
            return found

        kind = base.compute_type(x.dtype)
        guards: list[Expr] = []
        where = index(tap.var, guards)
        body = base.padded_load(0, x, where, guards, base.lowest(kind))
        best = index(ex.Acc(), [])
        inner = list(range(2, x.rank))
        number = best[0] * base.size(x.shape[1]) + best[1]
        for axis in reversed(inner) if self.column_major else inner:
            number = number * base.size(x.shape[axis]) + best[axis]
        stage = Stage(
            "out0", dt.i64, axes, body, (tap,), "argmax", ex.Const(0), number, kind
        )
        return Program((stage,))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for column_major in (False, True):
            for shape, attributes in _SAMPLES:
                op = cls(**_filled(attributes), column_major=column_major)  # type: ignore[arg-type]
                yield Sample(op, (base.random_array(rng, shape),))
        for dtype in (dt.u8, dt.i32, dt.bf16):
            op = cls((3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
            yield Sample(op, (base.random_array(rng, (1, 2, 6, 5), dtype, -9, 9),))


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of each window.

    Operand: x[N, C, *spatial] of a float dtype. Result: [N, C, *out], see
    ``strop.ops.base.window_extent``.

    Attributes:
        kernel, strides, dilations: per spatial axis.
        pads: before every spatial axis, then after every spatial axis.
        ceil_mode: a last partial window counts.
        count_include_pad: padding counts as zeros that are averaged; what ceil_mode adds past it
            never counts.
    """

    name: ClassVar[str] = "average_pool"

    count_include_pad: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        return (Type(base.floating(self, inputs), self._shape(inputs)),)

    def _counted(self, size: int, k: int) -> Array:
        """Number of taps that count at every window position along spatial axis k, at least 1."""
        out = sh.static((self._extent(size, k),))[0]
        starts = np.arange(out)[:, None] * self.strides[k] - self.pads[k]
        at = starts + np.arange(self.kernel[k])[None, :] * self.dilations[k]
        low, high = self._bounds(size, k)
        counted = (at >= low) & (at < int(sh.evaluate(high, {})))
        return np.asarray(np.maximum(counted.sum(axis=1), 1))

    def _bounds(self, size: Dim, k: int) -> tuple[int, Dim]:
        """First position and position after the last one that count along spatial axis k."""
        if not self.count_include_pad:
            return 0, size
        return -self.pads[k], sh.add(size, self.pads[len(self.kernel) + k])

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        total: Array | float = 0.0
        for element in self._taps(base.wide(x), 0.0):
            total = total + element
        for k in range(len(self.kernel)):
            counts = self._counted(x.shape[2 + k], k)
            total = total / counts.reshape(-1, *[1] * (len(self.kernel) - 1 - k))
        return (base.narrow(np.asarray(total), x),)

    def _count(self, position: Expr, size: Dim, k: int) -> Expr:
        """``_counted`` as an expression over a window position."""
        step = self.dilations[k]
        start = base.scale(position, self.strides[k], -self.pads[k])
        low, high = self._bounds(size, k)

        def first_at(bound: Expr) -> Expr:  # first tap at or after a bound
            return base.floor_div(bound - start + base.integer(step - 1), step)

        end = call("min", first_at(base.size(high)), base.integer(self.kernel[k]))
        begin = call("max", first_at(base.integer(low)), base.integer(0))
        return call("max", end - begin, base.integer(1))

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (x,), (out,) = inputs, outputs
        axes, taps = loops(out.shape), loops(self.kernel, "k")
        position = base.variables(axes)
        kind = base.compute_type(out.dtype)
        counts = [
            self._count(position[2 + k], x.shape[2 + k], k)
            for k in range(len(self.kernel))
            if self._padded(k)
        ]
        plain = [self.kernel[k] for k in range(len(self.kernel)) if not self._padded(k)]
        divisor: Expr = base.integer(sh.count(plain))
        for count in counts:
            divisor = divisor * count
        final = base.cast(ex.Acc() / ex.Cast(kind, divisor), kind, out.dtype)
        body = self._element(x, position, taps, 0.0)
        stage = Stage("out0", out.dtype, axes, body, taps, "add", ex.Const(0.0), final, kind)
        return Program((stage,))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, attributes in _SAMPLES:
            for include in (False, True):
                op = cls(**_filled(attributes), count_include_pad=include)  # type: ignore[arg-type]
                yield Sample(op, (base.random_array(rng, shape),))
        for dtype in (dt.f16, dt.bf16, dt.f64):
            op = cls((3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
            yield Sample(op, (base.random_array(rng, (1, 2, 6, 5), dtype),))


def _filled(attributes: dict[str, object]) -> dict[str, object]:
    """The attributes with those left out set to what changes nothing."""
    kernel = attributes["kernel"]
    assert isinstance(kernel, tuple)
    rank = len(kernel)
    plain = {"strides": (1,) * rank, "pads": (0,) * (2 * rank), "dilations": (1,) * rank}
    return {**plain, **attributes}


_SAMPLES: tuple[tuple[tuple[int, ...], dict[str, object]], ...] = (
    ((1, 3, 6, 6), {"kernel": (2, 2), "strides": (2, 2)}),
    ((2, 2, 7, 5), {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
    ((1, 2, 6, 7), {"kernel": (3, 3), "strides": (2, 2), "ceil_mode": True}),
    (
        (1, 2, 6, 7),
        {"kernel": (3, 2), "strides": (2, 3), "pads": (1, 0, 1, 1), "ceil_mode": True},
    ),
    ((1, 1, 9, 8), {"kernel": (3, 3), "dilations": (2, 3), "pads": (2, 3, 1, 2)}),
    ((1, 2, 5, 5), {"kernel": (5, 5), "pads": (2, 2, 2, 2)}),
    ((1, 3, 8), {"kernel": (4,), "strides": (3,), "pads": (1, 2)}),
    ((1, 2, 4, 5, 3), {"kernel": (2, 3, 2), "strides": (2, 1, 1), "pads": (0, 1, 0, 1, 1, 1)}),
    ((1, 2, 5, 6), {"kernel": (1, 1), "strides": (2, 2)}),
    ((1, 2, 5, 4), {"kernel": (2, 2), "strides": (3, 3), "dilations": (2, 2), "ceil_mode": True}),
)
