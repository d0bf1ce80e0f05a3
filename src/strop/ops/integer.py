"""Products of 8-bit integers, exact in i32 (ONNX MatMulInteger and ConvInteger)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, Load
from strop.ir.loops import Program, Stage
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ops import base
from strop.ops.conv import ConvAttributes
from strop.ops.matmul import MatMul

#: Types of the factors.
FACTORS = (dt.u8, dt.i8)


@dataclass(frozen=True)
class _Product(Op):
    """What both have in common: operands a, b and, optionally, their zero points, each broadcasting to its factor."""

    def plain(self) -> Op:
        """The same product of i32 values."""
        raise NotImplementedError(f"{self.name}.plain")

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2, 4)
        for factor in inputs[:2]:
            if factor.dtype not in FACTORS:
                raise self.fail("a factor is no 8-bit integer", inputs, "u8 or i8")
        for factor, zero in zip(inputs, inputs[2:], strict=False):
            if zero.shape == (0,):
                continue  # left out
            if zero.dtype != factor.dtype:
                raise self.fail("a zero point has another dtype than its factor", inputs)
            if zero.rank > factor.rank or sh.broadcast(factor.shape, zero.shape, where=self.name) != factor.shape:
                raise self.fail("a zero point does not broadcast to its factor", inputs)
        return self.plain().infer([Type(dt.i32, t.shape) for t in inputs[:2]])

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        factors = [a.astype(np.int64) for a in inputs[:2]]
        for k, zero in enumerate(inputs[2:]):
            if zero.size:
                factors[k] = factors[k] - zero.astype(np.int64)
        with np.errstate(all="ignore"):  # exact in f64, whose products are faster than those of integers
            (total,) = self.plain().reference(*(f.astype(np.float64) for f in factors))
        return (total.astype(np.int64).astype(np.int32),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        flops = self.plain().cost(inputs[:2], outputs).flops
        return Cost(flops, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program | None:
        wide = [Type(dt.i32, t.shape) for t in inputs[:2]]
        program = self.plain().loops(wide, outputs)
        assert program is not None
        (stage,) = program.stages
        done: dict[int, Expr] = {}

        def centred(node: Expr) -> Expr | None:
            if not isinstance(node, Load) or not isinstance(node.source, int) or node.source > 1:
                return None
            found = done.get(id(node))
            if found is None:
                found = done[id(node)] = self._centred(node, inputs)
            return found

        body = ex.substitute(stage.body, centred)
        return Program((Stage(stage.name, dt.i32, stage.axes, body, stage.reduce, stage.combine, stage.init, stage.final, dt.i32),))

    @staticmethod
    def _centred(node: Load, inputs: Sequence[Type]) -> Expr:
        assert isinstance(node.source, int)
        value: Expr = ex.Cast(dt.i32, node)
        at = node.source + 2
        if at < len(inputs) and inputs[at].shape != (0,):
            index = base.broadcast_index(node.index, inputs[at].shape)
            value = value - ex.Cast(dt.i32, ex.Load(at, tuple(index)))
        return value


@dataclass(frozen=True)
class IntegerMatMul(_Product):
    """matmul(a - a_zero, b - b_zero) in i32, which wraps.

    Operands: a[.., M, K] and b[.., K, N] of u8 or i8, or transposes as in MatMul; optional zero points in the dtypes of a and b
    that broadcast to them. Result: i32[.., M, N].

    Attributes:
        transpose_a: a is [.., K, M].
        transpose_b: b is [.., N, K].
    """

    name: ClassVar[str] = "integer_matmul"

    transpose_a: bool = False
    transpose_b: bool = False

    def plain(self) -> MatMul:
        return MatMul(self.transpose_a, self.transpose_b)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for a, b, a_zero, b_zero, kinds, turned in _MATMULS:
            yield _sample(cls(*turned), a, b, a_zero, b_zero, kinds, rng)


@dataclass(frozen=True)
class IntegerConv(ConvAttributes, _Product):
    """Conv(x - x_zero, w - w_zero) in i32, which wraps; x is padded with its zero point.

    Operands: x[N, C, *spatial] and w[O, C/groups, *kernel] of u8 or i8; optional zero points in their dtypes: one for x, one or [O, 1, ..]
    for w. Result: i32, shaped as that of Conv.

    Attributes: as of Conv.
    """

    name: ClassVar[str] = "integer_conv"

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        if len(inputs) > 2 and inputs[2].shape != (0,) and any(d != 1 for d in inputs[2].shape):
            raise self.fail("x has several zero points", inputs, "one")
        return super().infer(inputs)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for x, w, x_zero, w_zero, kinds, attributes in _CONVS:
            rank = len(x) - 2
            plain = {"strides": (1,) * rank, "pads": (0,) * (2 * rank), "dilations": (1,) * rank}
            op = cls(**{**plain, **attributes})  # type: ignore[arg-type]
            yield _sample(op, x, w, x_zero, w_zero, kinds, rng)


Dims = tuple[int, ...]


def _sample(
    op: Op, a: Dims, b: Dims, a_zero: Dims | None, b_zero: Dims | None, kinds: tuple[DType, DType], rng: np.random.Generator
) -> Sample:
    def made(shape: Dims, kind: DType) -> Array:
        return base.random_array(rng, shape, kind, int(base.lowest(kind)), int(base.highest(kind)))

    operands = [made(a, kinds[0]), made(b, kinds[1])]
    if a_zero is not None or b_zero is not None:
        operands.append(np.zeros((), kinds[0].numpy) if a_zero is None else made(a_zero, kinds[0]))
    if b_zero is not None:
        operands.append(made(b_zero, kinds[1]))
    return Sample(op, tuple(operands))


_US, _SS, _UU, _SU = (dt.u8, dt.i8), (dt.i8, dt.i8), (dt.u8, dt.u8), (dt.i8, dt.u8)
#: a, b, shapes of their zero points, dtypes, transposes.
_MATMULS: tuple[tuple[Dims, Dims, Dims | None, Dims | None, tuple[DType, DType], tuple[bool, bool]], ...] = (
    ((3, 8), (8, 5), None, None, _US, (False, False)),
    ((17, 64), (64, 40), (), None, _US, (False, False)),
    ((2, 9, 20), (20, 33), (), None, _SS, (False, False)),
    ((7, 12), (16, 12), (), None, _US, (False, True)),
    ((5, 7), (7, 6), (), (), _UU, (False, False)),
    ((5, 7), (7, 6), (5, 1), (6,), _SU, (False, False)),
    ((2, 3, 5), (2, 5, 4), None, (), _US, (False, False)),
    ((6, 1), (1, 18), (), None, _SS, (False, False)),
    ((7,), (7, 3), None, None, _US, (False, False)),
    ((9, 4), (9, 5), None, None, _US, (True, False)),
)
#: x, w, shapes of their zero points, dtypes, attributes that differ from the plain ones.
_CONVS: tuple[tuple[Dims, Dims, Dims | None, Dims | None, tuple[DType, DType], dict[str, object]], ...] = (
    ((1, 8, 6, 5), (20, 8, 1, 1), (), None, _US, {}),
    ((1, 3, 11, 9), (6, 3, 7, 7), (), None, _US, {"strides": (2, 2), "pads": (3, 3, 3, 3)}),
    ((2, 4, 7, 7), (5, 4, 3, 3), (), None, _SS, {"pads": (1, 1, 1, 1)}),
    ((1, 6, 7, 6), (7, 6, 3, 3), (), (7, 1, 1, 1), _UU, {"strides": (1, 2)}),
    ((1, 20, 7, 6), (20, 1, 3, 3), (), None, _US, {"groups": 20, "pads": (1, 1, 1, 1)}),
    ((1, 8, 9, 8), (8, 1, 5, 5), (), None, _SS, {"groups": 8, "pads": (2, 2, 2, 2), "strides": (2, 2)}),
    ((1, 8, 5, 5), (12, 2, 3, 2), (), None, _US, {"groups": 4, "pads": (1, 0, 1, 1)}),
    ((1, 2, 9, 8), (3, 2, 3, 3), None, None, _US, {"dilations": (2, 3), "pads": (2, 3, 2, 3)}),
    ((2, 3, 13), (4, 3, 5), (), None, _US, {"pads": (2, 1), "strides": (2,)}),
    ((2, 4, 6, 5), (4, 4, 3, 3), (), (), _SU, {"pads": (1, 1, 1, 1)}),
)
