"""LRN, softmax, normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.errors import ShapeError
from strop.frontend.network.layer import Emitter, Layer, axes_of_mask
from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ir.shape import volume
from strop.ops import norm
from strop.ops.reduce import Reduce
from strop.ops.softmax import Softmax as SoftmaxOp


@dataclass(eq=False)
class LRN(Layer):
    """x / (k + alpha / window * sum of squares over ``window`` channels) ^ beta, channels being the third axis from the end.

    Attributes:
        window: odd, 1..15.
        alpha: up to 1e20 in size.
        beta: 0.01..1e5.
        k: 1e-5..1e10.
    """

    kind: ClassVar[str] = "LRN"

    window: int
    alpha: float
    beta: float
    k: float

    def check(self) -> None:
        if self.window % 2 == 0 or not 1 <= self.window <= 15:
            raise ShapeError("window is not odd or out of range", where=self.name, got=self.window, expected="1, 3 .. 15")
        if not (abs(self.alpha) <= 1e20 and 0.01 <= self.beta <= 1e5 and 1e-5 <= self.k <= 1e10):
            got = f"alpha {self.alpha}, beta {self.beta}, k {self.k}"
            raise ShapeError("a parameter is out of range", where=self.name, got=got, expected="|alpha| <= 1e20, beta 0.01..1e5, k 1e-5..1e10")

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        if x.type.rank < 3:
            raise e.fail("input has the wrong rank", x.type, "rank 3 or more")
        op = norm.LRN(self.window, self.alpha, self.beta, self.k)
        wanted = (volume(x.shape[:-3]), *x.shape[-3:])
        return e.reshape(e(op, e.reshape(x, wanted)), x.shape)


@dataclass(eq=False)
class Softmax(Layer):
    """Softmax along one axis.

    Attributes:
        axes: bit mask with one bit set, counted without an implicit batch; 0 for the default, the third axis from the end (the
            first where there are fewer).
    """

    kind: ClassVar[str] = "Softmax"

    axes: int = 0

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        rank = x.type.rank - e.lead
        mask = self.axes or 1 << max(rank - 3, 0)
        found = axes_of_mask(mask, rank)
        if len(found) != 1 or mask >> rank:
            raise e.fail("axes must name one axis", bin(mask), f"one bit of {rank}")
        return e(SoftmaxOp(found[0] + e.lead), x)


@dataclass(eq=False)
class RaggedSoftmax(Layer):
    """Softmax of the first ``bounds`` elements of every row; the rest is 0. Operands: x [.., Z, S], bounds i32 [.., Z, 1]."""

    kind: ClassVar[str] = "RaggedSoftmax"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        x, bounds = inputs
        size = x.shape[-1]
        if not isinstance(size, int):
            raise e.unsupported("rows of a free size", got=x.type)
        if bounds.type.rank != x.type.rank or not bounds.dtype.is_int:
            raise e.fail("bounds do not fit", f"{x.type}, {bounds.type}", "i32 [.., Z, 1]")
        inside = e.fn("lt", e.const(np.arange(size), bounds.dtype), bounds)
        low = e.const(np.finfo(np.float32).min / 2, x.dtype)
        masked = e.fn("where", inside, x, low)
        top = e(Reduce("max", (-1,), True), masked)
        power = e.fn("where", inside, e.fn("exp", e.fn("sub", masked, top)), e.const(0, x.dtype))
        total = e.fn("max", e(Reduce("sum", (-1,), True), power), e.const(np.finfo(np.float32).tiny, x.dtype))
        return e.fn("div", power, total)


@dataclass(eq=False)
class Normalization(Layer):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over ``axes``. Operands: x [N, C, ..], scale, bias.

    Attributes:
        axes: bit mask. Where it does not hold axis 1 and ``groups`` is above 1, each group of channels is normalized by itself.
        epsilon: added to the variance.
        groups: of channels.
        v2: scale and bias broadcast to x whatever the groups are; otherwise, with groups, they have one number per group.
    """

    kind: ClassVar[str] = "Normalization"
    arity: ClassVar[tuple[int, int | None]] = (3, 3)

    axes: int
    epsilon: float = 1e-5
    groups: int = 1
    v2: bool = False

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        x, scale, bias = inputs
        axes = tuple(a + e.lead for a in axes_of_mask(self.axes, x.type.rank - e.lead))
        if not axes:
            raise e.fail("axes name no axis", bin(self.axes))
        spatial = tuple(range(2, x.type.rank))
        channels = x.shape[1] if x.type.rank > 1 else None
        if axes == spatial and isinstance(channels, int) and spatial:
            return self._channels(e, x, scale, bias, channels)
        if self.groups != 1:
            raise e.unsupported("groups with axes that are not the spatial ones", got=f"axes {axes}, {self.groups} groups")
        dtype = x.dtype
        x, scale, bias = (e.cast(v, dt.f32) if dtype.size < 4 else v for v in (x, scale, bias))  # sums of squares need the range
        mean = e(Reduce("mean", axes, True), x)
        centered = e.fn("sub", x, mean)
        variance = e(Reduce("mean", axes, True), e.fn("mul", centered, centered))
        root = e.fn("sqrt", e.fn("add", variance, e.const(self.epsilon, x.dtype)))
        y = e.fn("div", centered, root)
        return e.cast(e.fn("add", e.fn("mul", y, scale), bias), dtype)

    def _channels(self, e: Emitter, x: Value, scale: Value, bias: Value, channels: int) -> Value:
        """Instance and group normalization with numbers per channel."""
        per_group = not self.v2 and self.groups > 1 and scale.type.static_shape[1:2] == (self.groups,)
        found = []
        for weights in (scale, bias):
            if per_group:
                weights = e.fn("mul", e.reshape(weights, (self.groups, 1)), e.const(np.ones((1, channels // self.groups)), x.dtype))
            found.append(e.reshape(weights, (channels,)))
        op = norm.InstanceNorm(self.epsilon) if self.groups == 1 else norm.GroupNorm(self.groups, self.epsilon)
        return e(op, x, *found)
