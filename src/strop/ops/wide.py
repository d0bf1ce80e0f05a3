"""Products whose exact sums are given as f32: of 16-bit activations with 8-bit weights (TensorFlow Lite's int16x8), and of f8e4m3 with f8e4m3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir.expr import Load
from strop.ir.loops import Program
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ops import base
from strop.ops.conv import ConvAttributes
from strop.ops.matmul import MatMul

#: Types of x and w.
FACTORS = ((dt.i16, dt.i8), (dt.f8e4m3, dt.f8e4m3))


@dataclass(frozen=True)
class _Wide(Op):
    """What both have in common: operands x and w of a row of FACTORS, a sum of products in i64, or of floats in f64, that is rounded to f32."""

    def plain(self) -> Op:
        """The same product of numbers of one type."""
        raise NotImplementedError(f"{self.name}.plain")

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        if (inputs[0].dtype, inputs[1].dtype) not in FACTORS:
            raise self.fail("operands do not fit", inputs, "i16 and i8, or f8e4m3 and f8e4m3")
        (out,) = self.plain().infer([Type(dt.i32, t.shape) for t in inputs])
        return (Type(dt.f32, out.shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (total,) = self.plain().reference(*(a.astype(np.float64) for a in inputs))  # exact up to 2**53
        return (total.astype(np.float32),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        return Cost(self.plain().cost(inputs, outputs).flops, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program | None:
        sums = dt.f64 if inputs[0].dtype.is_float else dt.i64
        program = self.plain().loops([Type(sums, t.shape) for t in inputs], [Type(sums, outputs[0].shape)])
        assert program is not None
        (stage,) = program.stages
        body = ex.substitute(stage.body, lambda e: ex.Cast(sums, e) if isinstance(e, Load) and isinstance(e.source, int) else None)
        return Program((replace(stage, dtype=dt.f32, body=body, final=ex.Cast(dt.f32, ex.Acc()), acc_dtype=sums),))


@dataclass(frozen=True)
class WideMatMul(_Wide):
    """matmul(x, w).

    Operands: x[.., M, K] and w[.., K, N] of FACTORS, or transposes as in MatMul. Result: f32[.., M, N].

    Attributes:
        transpose_a: x is [.., K, M].
        transpose_b: w is [.., N, K].
    """

    name: ClassVar[str] = "wide_matmul"

    transpose_a: bool = False
    transpose_b: bool = False

    def plain(self) -> MatMul:
        return MatMul(self.transpose_a, self.transpose_b)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for x, w, turned in (((3, 8), (8, 5), False), ((2, 9, 21), (33, 21), True), ((5, 700), (700, 20), False), ((7,), (7, 3), False)):
            yield Sample(cls(transpose_b=turned), (base.random_array(rng, x, dt.i16, -32768, 32767), base.random_array(rng, w, dt.i8, -128, 127)))


@dataclass(frozen=True)
class WideConv(ConvAttributes, _Wide):
    """Conv(x, w).

    Operands: x[N, C, *spatial] and w[O, C/groups, *kernel] of FACTORS. Result: f32, shaped as that of Conv.

    Attributes: as of Conv.
    """

    name: ClassVar[str] = "wide_conv"

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for x, w, op in (
            ((1, 8, 6, 5), (20, 8, 1, 1), cls((1, 1), (0,) * 4, (1, 1))),
            ((2, 5, 7, 7), (6, 5, 3, 3), cls((2, 1), (1,) * 4, (1, 1))),
            ((1, 12, 6, 6), (12, 1, 3, 3), cls((1, 1), (1,) * 4, (1, 1), 12)),
            ((1, 4, 13), (4, 4, 5), cls((2,), (2, 1), (1,))),
        ):
            yield Sample(op, (base.random_array(rng, x, dt.i16, -32768, 32767), base.random_array(rng, w, dt.i8, -128, 127)))
