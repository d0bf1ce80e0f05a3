"""Normalizations: BatchNorm (inference), LayerNorm, RMSNorm, GroupNorm, InstanceNorm, LRN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, call
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim, Shape
from strop.ops import base


def _per_channel(op: Op, inputs: Sequence[Type]) -> None:
    """ShapeError unless x has a channel axis 1 and every other operand is [C]."""
    if inputs[0].rank < 2:
        raise op.fail("x has no channel axis", inputs, "x[N, C, ...]")
    channels = inputs[0].shape[1]
    if any(t.shape != (channels,) for t in inputs[1:]):
        raise op.fail("per-channel operands do not fit", inputs, f"[{channels}]")


def _trailing(op: Op, axis: int, inputs: Sequence[Type]) -> Shape:
    """The normalized shape; ShapeError unless the other operands broadcast to it."""
    axis = base.axis_of(op, axis, inputs[0].rank)
    inner = inputs[0].shape[axis:]
    for type in inputs[1:]:
        if sh.broadcast(inner, type.shape, where=op.label) != inner:
            raise op.fail(
                "scale or bias does not fit", inputs, f"broadcastable to {sh.show(inner)}"
            )
    return inner


def _standardize(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """(x - mean) / sqrt(variance + epsilon) over axes, in float64."""
    centered = x - np.mean(x, axis=axes, keepdims=True)
    variance = np.mean(centered * centered, axis=axes, keepdims=True)
    return np.asarray(centered / np.sqrt(variance + epsilon))


def _along_channels(vector: Array, rank: int) -> Array:
    """[C] as float64 [C, 1, ...] that broadcasts along axis 1."""
    return base.wide(vector).reshape(-1, *[1] * (rank - 2))


def _moments(
    x: Type, rows: tuple[Loop, ...], folded: tuple[Loop, ...], index: Sequence[Expr]
) -> tuple[Stage, Stage]:
    """Stages ``mean`` and ``variance`` over ``folded`` for every row; two passes, for accuracy."""
    kind = base.compute_type(x.dtype)
    extents: Shape = tuple(loop.extent for loop in folded)
    average = ex.Acc() / ex.Cast(kind, base.size(sh.volume(extents)))
    element = base.load(0, x.dtype, index)
    zero = ex.Const(0.0)
    mean = Stage("mean", kind, rows, element, folded, "add", zero, average)
    centered = element - ex.Load("mean", tuple(base.variables(rows)))
    variance = Stage("variance", kind, rows, centered * centered, folded, "add", zero, average)
    return mean, variance


def _standardized(value: Expr, row: Sequence[Expr], epsilon: float, kind: DType) -> Expr:
    """(value - mean) / sqrt(variance + epsilon) with the stages of _moments."""
    centered = value - ex.Load("mean", tuple(row))
    return centered / call("sqrt", ex.Load("variance", tuple(row)) + ex.Const(epsilon, kind))


def _norm_cost(inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
    """8 operations per element: mean 1, centre 1, variance 2, quotient 2, scale 1, bias 1."""
    return Cost(8 * inputs[0].count, base.moved((*inputs, *outputs)).bytes)


def _channel_samples(
    rng: np.random.Generator, op: Op, vectors: int, shapes: Sequence[tuple[int, ...]]
) -> Iterator[Sample]:
    """Every shape with per-channel operands, the first also in the other float dtypes."""
    cases = [(s, dt.f32) for s in shapes] + [(shapes[0], d) for d in (dt.f64, dt.f16, dt.bf16)]
    for shape, dtype in cases:
        x = base.random_array(rng, shape, dtype)
        rest = [base.random_array(rng, shape[1:2], dtype, 0.5, 2) for _ in range(vectors)]
        yield Sample(op, (x, *rest))


@dataclass(frozen=True)
class BatchNorm(Op):
    """(x - mean) / sqrt(var + epsilon) * scale + bias per channel (ONNX BatchNormalization).

    Operands: x[N, C, ...], scale[C], bias[C], mean[C], var[C]; one float dtype. Result: as x.

    Attributes:
        epsilon: added to the variance.
    """

    name: ClassVar[str] = "batch_norm"

    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 5)
        base.floating(self, inputs)
        _per_channel(self, inputs)
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x = inputs[0]
        scale, bias, mean, var = (_along_channels(v, x.ndim) for v in inputs[1:])
        result = (base.wide(x) - mean) / np.sqrt(var + self.epsilon) * scale + bias
        return (base.narrow(result, x),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        flops = 2 * inputs[0].count + 4 * inputs[1].count
        return Cost(flops, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (out,) = outputs
        axes = loops(out.shape)
        position = base.variables(axes)
        kind = base.compute_type(out.dtype)
        x = base.load(0, out.dtype, position)
        scale, bias, mean, var = (base.load(i, out.dtype, position[1:2]) for i in range(1, 5))
        body = (x - mean) / call("sqrt", var + ex.Const(self.epsilon, kind)) * scale + bias
        return Program((Stage("out0", out.dtype, axes, base.cast(body, kind, out.dtype)),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        shapes = ((2, 3, 4, 5), (1, 16, 7, 3), (3, 5), (2, 4, 9))
        yield from _channel_samples(rng, cls(), 4, shapes)
        yield from _channel_samples(rng, cls(1e-3), 4, shapes[:1])


@dataclass(frozen=True)
class LayerNorm(Op):
    """Zero mean and unit variance over the last axes, scale and bias (ONNX LayerNormalization).

    Operands: x, scale and optional bias that broadcast to x.shape[axis:]; one float dtype. Result:
    as x.

    Attributes:
        axis: first normalized axis; negative counts from the end.
        epsilon: added to the variance.
    """

    name: ClassVar[str] = "layer_norm"

    axis: int = -1
    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2, 3)
        base.floating(self, inputs)
        _trailing(self, self.axis, inputs)
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x = base.wide(inputs[0])
        axes = tuple(range(base.axis_of(self, self.axis, x.ndim), x.ndim))
        result = _standardize(x, axes, self.epsilon) * base.wide(inputs[1])
        if len(inputs) == 3:
            result = result + base.wide(inputs[2])
        return (base.narrow(result, inputs[0]),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return _norm_cost(inputs, outputs)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x = inputs[0]
        axes = loops(x.shape)
        axis = base.axis_of(self, self.axis, x.rank)
        rows, folded = axes[:axis], axes[axis:]
        position = base.variables(axes)
        kind = base.compute_type(x.dtype)
        body = _standardized(base.load(0, x.dtype, position), position[:axis], self.epsilon, kind)
        body = body * _inner(1, inputs, position)
        if len(inputs) == 3:
            body = body + _inner(2, inputs, position)
        last = Stage("out0", x.dtype, axes, base.cast(body, kind, x.dtype))
        return Program((*_moments(x, rows, folded, position), last))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, axis, scale, bias in _TRAILING_SAMPLES:
            shapes = (shape, scale) if bias is None else (shape, scale, bias)
            yield Sample(cls(axis), tuple(base.random_array(rng, s) for s in shapes))
        for dtype in (dt.f64, dt.f16, dt.bf16):
            shapes = ((4, 12), (12,), (12,))
            yield Sample(cls(-1, 1e-3), tuple(base.random_array(rng, s, dtype) for s in shapes))
        far = base.random_array(rng, (2, 64), dt.f32, 8, 9)
        yield Sample(cls(-1), (far, np.ones(64, np.float32)), "small variance far from zero")


def _inner(number: int, inputs: Sequence[Type], position: Sequence[Expr]) -> Expr:
    """An operand that broadcasts to the last axes of x, at a position of x."""
    given = inputs[number]
    return base.load(number, given.dtype, base.broadcast_index(position, given.shape))


#: x, axis, scale, bias.
_TRAILING_SAMPLES: tuple[
    tuple[tuple[int, ...], int, tuple[int, ...], tuple[int, ...] | None], ...
] = (
    ((3, 8), -1, (8,), (8,)),
    ((2, 5, 33), -1, (33,), None),
    ((2, 3, 4, 5), 2, (4, 5), (4, 5)),
    ((2, 3, 4), 0, (2, 3, 4), (4,)),
    ((2, 3, 4), -2, (4,), (3, 1)),
    ((1, 17), 1, (), (17,)),
)


@dataclass(frozen=True)
class RMSNorm(Op):
    """x / sqrt(mean(x * x) + epsilon) * scale over axes ``axis..end`` (ONNX RMSNormalization).

    Operands: x, scale that broadcasts to x.shape[axis:]; one float dtype. Result: as x.

    Attributes:
        axis: first normalized axis; negative counts from the end.
        epsilon: added to the mean square.
    """

    name: ClassVar[str] = "rms_norm"

    axis: int = -1
    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        base.floating(self, inputs)
        _trailing(self, self.axis, inputs)
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, scale = (base.wide(a) for a in inputs)
        axes = tuple(range(base.axis_of(self, self.axis, x.ndim), x.ndim))
        mean = np.mean(x * x, axis=axes, keepdims=True)
        return (base.narrow(x / np.sqrt(mean + self.epsilon) * scale, inputs[0]),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return Cost(4 * inputs[0].count, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x = inputs[0]
        axes = loops(x.shape)
        axis = base.axis_of(self, self.axis, x.rank)
        rows, folded = axes[:axis], axes[axis:]
        position = base.variables(axes)
        kind = base.compute_type(x.dtype)
        element = base.load(0, x.dtype, position)
        mean = ex.Acc() / ex.Cast(kind, base.size(sh.volume(x.shape[axis:])))
        root = call("sqrt", mean + ex.Const(self.epsilon, kind))
        square = element * element
        first = Stage("root", kind, rows, square, folded, "add", ex.Const(0.0), root)
        body = element / ex.Load("root", tuple(position[:axis])) * _inner(1, inputs, position)
        return Program((first, Stage("out0", x.dtype, axes, base.cast(body, kind, x.dtype))))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for shape, axis, scale, _ in _TRAILING_SAMPLES:
            yield Sample(cls(axis), tuple(base.random_array(rng, s) for s in (shape, scale)))
        for dtype in (dt.f64, dt.f16, dt.bf16):
            shapes = ((4, 12), (12,))
            yield Sample(cls(-1, 1e-3), tuple(base.random_array(rng, s, dtype) for s in shapes))


@dataclass(frozen=True)
class GroupNorm(Op):
    """Zero mean and unit variance per sample and group of channels, then scale and bias.

    Operands: x[N, C, ...], scale[C], bias[C]; one float dtype (ONNX GroupNormalization 21). Result:
    as x.

    Attributes:
        groups: divides C.
        epsilon: added to the variance.
    """

    name: ClassVar[str] = "group_norm"

    groups: int
    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 3)
        base.floating(self, inputs)
        _per_channel(self, inputs)
        (channels,) = sh.static(inputs[0].shape[1:2], self.name)
        if self.groups < 1 or channels % self.groups:
            raise self.fail(f"{self.groups} groups do not divide {channels} channels", inputs)
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x = inputs[0]
        grouped = base.wide(x).reshape(x.shape[0], self.groups, -1)
        normal = _standardize(grouped, (2,), self.epsilon).reshape(x.shape)
        scale, bias = (_along_channels(v, x.ndim) for v in inputs[1:])
        return (base.narrow(normal * scale + bias, x),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return _norm_cost(inputs, outputs)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (channels,) = sh.static(inputs[0].shape[1:2], self.name)
        return _grouped(inputs, self.groups, channels // self.groups, self.epsilon)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        yield from _channel_samples(rng, cls(2), 2, ((2, 6, 4, 5), (1, 8, 3)))
        yield from _channel_samples(rng, cls(4, 1e-3), 2, ((1, 4, 3, 3), (2, 12), (1, 8, 2, 3, 2)))
        yield from _channel_samples(rng, cls(1), 2, ((2, 5, 7),))


def _grouped(inputs: Sequence[Type], groups: Dim, width: int, epsilon: float) -> Program:
    """Loop program of a normalization per sample and group of ``width`` channels."""
    x = inputs[0]
    axes = loops(x.shape)
    position = base.variables(axes)
    kind = base.compute_type(x.dtype)
    rows = (axes[0], Loop("g", groups))
    within = Loop("c", width)
    channel = rows[1].var if width == 1 else base.scale(rows[1].var, width) + within.var
    folded = (within, *axes[2:]) if width > 1 else axes[2:] or (within,)
    moments = _moments(x, rows, folded, [position[0], channel, *position[2:]])
    row = [position[0], base.floor_div(position[1], width)]
    body = _standardized(base.load(0, x.dtype, position), row, epsilon, kind)
    body = body * base.load(1, x.dtype, position[1:2]) + base.load(2, x.dtype, position[1:2])
    return Program((*moments, Stage("out0", x.dtype, axes, base.cast(body, kind, x.dtype))))


@dataclass(frozen=True)
class InstanceNorm(Op):
    """Zero mean and unit variance per sample and channel (ONNX InstanceNormalization).

    Operands: x[N, C, ...], scale[C], bias[C]; one float dtype. Result: as x.

    Attributes:
        epsilon: added to the variance.
    """

    name: ClassVar[str] = "instance_norm"

    epsilon: float = 1e-5

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 3)
        base.floating(self, inputs)
        _per_channel(self, inputs)
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x = inputs[0]
        normal = _standardize(base.wide(x), tuple(range(2, x.ndim)), self.epsilon)
        scale, bias = (_along_channels(v, x.ndim) for v in inputs[1:])
        return (base.narrow(normal * scale + bias, x),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return _norm_cost(inputs, outputs)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        return _grouped(inputs, inputs[0].shape[1], 1, self.epsilon)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        shapes = ((2, 3, 4, 5), (1, 4, 9), (1, 2, 3, 3, 3))
        yield from _channel_samples(rng, cls(), 2, shapes)
        yield from _channel_samples(rng, cls(1e-2), 2, shapes[:1])


@dataclass(frozen=True)
class LRN(Op):
    """x / (bias + alpha / size * s) ** beta, s the sum of squares over near channels (ONNX LRN).

    Operand: x[N, C, ...] of a float dtype. Result: as x. Near c are the channels
    c - (size - 1) // 2 to c + size // 2.

    Attributes:
        size: channels summed.
        alpha, beta, bias: see the formula.
    """

    name: ClassVar[str] = "lrn"

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        base.floating(self, inputs)
        _per_channel(self, inputs)
        if self.size < 1:
            raise self.fail(f"size {self.size} is not positive", inputs)
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x = base.wide(inputs[0])
        before = (self.size - 1) // 2
        margins = [(0, 0)] * x.ndim
        margins[1] = (before, self.size - 1 - before)
        squares = np.pad(x * x, margins)
        channels = x.shape[1]
        total = sum(squares[:, k : k + channels] for k in range(self.size))
        result = x / (self.bias + self.alpha / self.size * total) ** self.beta
        return (base.narrow(result, inputs[0]),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        flops = (2 * self.size + 4) * inputs[0].count
        return Cost(flops, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (x,) = inputs
        axes = loops(x.shape)
        position = base.variables(axes)
        near = Loop("s", self.size)
        kind = base.compute_type(x.dtype)
        guards: list[Expr] = []
        at = base.window_index(position[1], near.var, 1, 1, (self.size - 1) // 2)
        at = base.guarded(at, x.shape[1], guards)
        element = base.padded_load(0, x, [position[0], at, *position[2:]], guards, 0.0)
        factor = ex.Const(self.alpha / self.size, kind)
        power = ex.call("pow", ex.Const(self.bias, kind) + factor * ex.Acc(), self.beta)
        final = base.cast(base.load(0, x.dtype, position) / power, kind, x.dtype)
        body = element * element
        stage = Stage("out0", x.dtype, axes, body, (near,), "add", ex.Const(0.0), final, kind)
        return Program((stage,))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        yield from _channel_samples(rng, cls(5), 0, ((2, 8, 3, 4), (1, 3, 5, 2)))
        yield from _channel_samples(rng, cls(4, 0.3, 0.5, 2.0), 0, ((1, 7, 2, 2), (2, 9)))
        yield from _channel_samples(rng, cls(1, 0.5), 0, ((1, 4, 3),))
