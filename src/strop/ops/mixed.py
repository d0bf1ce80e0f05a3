"""Products of floats with weights that are stored as integers of 8 or 4 bits, alone or with a scale per group of the summed axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir.expr import Expr, Load
from strop.ir.loops import Program
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ops import base
from strop.ops.conv import Conv
from strop.ops.matmul import MatMul

#: Least and greatest weight by its number of bits.
LIMITS = {8: (-128, 127), 4: (-8, 7)}


@dataclass(frozen=True)
class _Mixed(Op):
    """What both have in common: operands x, w and, with groups, their scales and optional zero points, both f32[ceil(K / group), N]: entry
    i of a column counts for the weights i * group and following of that column. What is multiplied is (w - zero) * scale.
    """

    bits: int = 8
    group: int = 0

    def plain(self) -> Op:
        """The same product with f32 weights."""
        raise NotImplementedError(f"{self.name}.plain")

    def axes(self) -> tuple[int, int]:
        """Axes of w that count k and columns."""
        raise NotImplementedError(f"{self.name}.axes")

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 3 if self.group else 2, 4 if self.group else 2)
        if inputs[0].dtype is not dt.f32 or inputs[1].dtype is not dt.i8 or any(t.dtype is not dt.f32 for t in inputs[2:]):
            raise self.fail("operands do not fit", inputs, "f32, i8 and, for groups, f32 scales and zero points")
        if self.bits not in LIMITS or self.group < 0:
            raise self.fail("no such weights", inputs, f"{' or '.join(map(str, LIMITS))} bits")
        (out,) = self.plain().infer([inputs[0], Type(dt.f32, inputs[1].shape)])
        k, n = (inputs[1].static_shape[axis] for axis in self.axes())
        if any(t.shape != (-(-k // self.group), n) for t in inputs[2:]):
            raise self.fail("scales or zero points do not fit groups", inputs, f"f32[{-(-k // self.group)}, {n}]")
        return (out,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return self.plain().reference(inputs[0], self.real(*inputs[1:]))

    def real(self, w: Array, *params: Array) -> Array:
        """The weights as floats, in the order of ``w``."""
        real = w.astype(np.float32)
        if not self.group:
            return real
        k, n = self.axes()
        shape = [1] * w.ndim
        shape[k], shape[n] = w.shape[k], w.shape[n]
        spread = [np.repeat(p, self.group, 0)[: w.shape[k]] for p in params]
        scale, *zero = [(p if k < n else p.T).reshape(shape) for p in spread]
        return np.asarray((real - zero[0]) * scale if zero else real * scale)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        bytes = base.moved((*inputs, *outputs)).bytes - (inputs[1].count // 2 if self.bits == 4 else 0)
        return Cost(self.plain().cost(inputs[:2], outputs).flops, bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program | None:
        program = self.plain().loops([inputs[0], Type(dt.f32, inputs[1].shape)], outputs)
        assert program is not None
        (stage,) = program.stages
        axes = self.axes()

        def real(node: Expr) -> Expr | None:
            if not isinstance(node, Load) or node.source != 1:
                return None
            value: Expr = ex.Cast(dt.f32, node)
            if not self.group:
                return value
            k, n = (node.index[axis] for axis in axes)
            where = (base.floor_div(k, self.group), n)
            if len(inputs) == 4:
                value = value - base.load(3, dt.f32, where)
            return value * base.load(2, dt.f32, where)

        return Program((replace(stage, body=ex.substitute(stage.body, real)),))


@dataclass(frozen=True)
class MixedMatMul(_Mixed):
    """matmul(x, w) of floats with weights that are whole numbers.

    Operands: f32 x[.., M, K] and i8 w[K, N], with groups f32 scale[ceil(K / group), N] and optionally zero point of the same shape. Result:
    f32[.., M, N].

    Attributes:
        bits: 8, or 4 for weights from -8 to 7, which kernels store in half the room.
        group: weights of a column that share a scale; 0: there are no scales.
        transpose_b: w is [N, K].
    """

    name: ClassVar[str] = "mixed_matmul"

    transpose_b: bool = False

    def plain(self) -> MatMul:
        return MatMul(transpose_b=self.transpose_b)

    def axes(self) -> tuple[int, int]:
        return (1, 0) if self.transpose_b else (0, 1)

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        if len(inputs) > 1 and inputs[1].rank != 2:
            raise self.fail("the weights are no matrix", inputs)
        return super().infer(inputs)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for x, w, turned, bits, group, zero in _MATMULS:
            k = w[1] if turned else w[0]
            operands = [base.random_array(rng, x), base.random_array(rng, w, dt.i8, *LIMITS[bits])]
            yield Sample(cls(bits, group, turned), (*operands, *_params(rng, k, w[0] if turned else w[1], group, zero)))


@dataclass(frozen=True)
class MixedConv(_Mixed):
    """Convolution of floats with a kernel of one tap whose weights are whole numbers.

    Operands: f32 x[N, C, *spatial] and i8 w[O, C, 1, ..]; scales and zero points as of ``MixedMatMul``, K being C. Result: as that of Conv.

    Attributes:
        bits, group: as of ``MixedMatMul``.
        strides: per spatial axis.
        layout: as of Conv.
    """

    name: ClassVar[str] = "mixed_conv"

    strides: tuple[int, ...] = (1, 1)
    layout: str = "NCHW"

    def plain(self) -> Conv:
        rank = len(self.strides)
        return Conv(self.strides, (0,) * (2 * rank), (1,) * rank, 1, self.layout)

    def axes(self) -> tuple[int, int]:
        return 1, 0

    @staticmethod
    def of(op: Conv, weights: tuple[int, ...], bits: int, group: int) -> MixedConv | None:
        """The product that stands for a Conv with weights of a shape; None when it has groups, padding or several taps."""
        if op.groups != 1 or any(op.pads) or any(t != 1 for t in weights[2:]):
            return None
        return MixedConv(bits, group, op.strides, op.layout)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for x, o, strides, bits, group, zero in _CONVS:
            w = (o, x[1], *(1,) * (len(x) - 2))
            operands = [base.random_array(rng, x), base.random_array(rng, w, dt.i8, *LIMITS[bits])]
            yield Sample(cls(bits, group, strides), (*operands, *_params(rng, x[1], o, group, zero)))


def _params(rng: np.random.Generator, k: int, n: int, group: int, zero: bool) -> list[Array]:
    """Random scales and zero points."""
    if not group:
        return []
    shape = (-(-k // group), n)
    found = [base.random_array(rng, shape, dt.f32, 0.05, 0.4)]
    return [*found, np.round(base.random_array(rng, shape, dt.f32, -8, 7))] if zero else found


#: x, w, transposed, bits, group, with zero points.
_MATMULS: tuple[tuple[tuple[int, ...], tuple[int, int], bool, int, int, bool], ...] = (
    ((3, 8), (8, 5), False, 8, 0, False),
    ((2, 9, 20), (33, 20), True, 8, 0, False),
    ((16, 64), (64, 40), False, 8, 0, False),
    ((7,), (7, 3), False, 8, 0, False),
    ((1, 64), (64, 40), False, 8, 16, False),
    ((5, 40), (33, 40), True, 8, 16, True),
    ((1, 96), (96, 150), False, 4, 32, False),
    ((2, 3, 50), (18, 50), True, 4, 16, True),
    ((9, 7), (7, 20), False, 4, 3, True),
)
#: x, output channels, strides, bits, group, with zero points.
_CONVS: tuple[tuple[tuple[int, ...], int, tuple[int, ...], int, int, bool], ...] = (
    ((1, 32, 5, 7), 20, (1, 1), 4, 16, False),
    ((2, 24, 6, 5), 33, (2, 2), 8, 24, True),
    ((1, 10, 9), 6, (1,), 4, 4, True),
)
