"""Matrix product with numpy's broadcasting over leading axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ops import base


@dataclass(frozen=True)
class MatMul(Op):
    """numpy.matmul of a[.., M, K] and b[.., K, N], or of their transposes.

    Operands: a, b of one numeric dtype. A rank-1 operand is a row (a) or a column (b) whose axis
    leaves the result, as in numpy; it cannot be transposed. Result: [.., M, N].

    Attributes:
        transpose_a: a is [.., K, M].
        transpose_b: b is [.., N, K].
    """

    name: ClassVar[str] = "matmul"

    transpose_a: bool = False
    transpose_b: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2)
        dtype = base.numeric(self, inputs)
        a, b = inputs[0].shape, inputs[1].shape
        if not a or not b:
            raise self.fail("an operand is a scalar", inputs, "rank 1 or more")
        if (self.transpose_a and len(a) == 1) or (self.transpose_b and len(b) == 1):
            raise self.fail("a rank-1 operand cannot be transposed", inputs)
        rows = a[-1:-3:-1] if self.transpose_a else a[-2:]
        columns = b[-1:-3:-1] if self.transpose_b else b[-2:]
        if rows[-1] != columns[0]:
            raise self.fail("inner sizes differ", inputs, "a[.., M, K] and b[.., K, N]")
        lead = sh.broadcast(a[:-2], b[:-2], where=self.name)
        return (Type(dtype, (*lead, *rows[:-1], *columns[1:])),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        a, b = (base.wide(x) for x in inputs)
        a = a.swapaxes(-1, -2) if self.transpose_a else a
        b = b.swapaxes(-1, -2) if self.transpose_b else b
        shape = (*a.shape[:-1], b.shape[-1])
        flat = a.reshape(-1, a.shape[-1]) if b.ndim == 2 < a.ndim else a  # one product, not many
        with np.errstate(all="ignore"):
            product = np.matmul(flat, b)
        return (base.narrow(product if flat is a else product.reshape(shape), inputs[0]),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        inner = inputs[0].static_shape[-2 if self.transpose_a else -1]
        return Cost(2 * inner * outputs[0].count, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        a, b = inputs
        (out,) = outputs
        axes = loops(out.shape)
        inner = Loop("k", a.shape[-2 if self.transpose_a else -1])
        position = base.variables(axes)
        split = len(axes) - (a.rank > 1) - (b.rank > 1)
        lead, tail = position[:split], position[split:]
        left = [*tail[: a.rank > 1], inner.var]
        right = [inner.var, *tail[len(tail) - (b.rank > 1) :]]
        left = left[::-1] if self.transpose_a else left
        right = right[::-1] if self.transpose_b else right
        kind = base.compute_type(out.dtype)
        body = base.load(0, a.dtype, [*base.broadcast_index(lead, a.shape[:-2]), *left])
        body = body * base.load(1, b.dtype, [*base.broadcast_index(lead, b.shape[:-2]), *right])
        final = base.cast(ex.Acc(), kind, out.dtype)
        stage = Stage("out0", out.dtype, axes, body, (inner,), "add", ex.Const(0), final, kind)
        return Program((stage,))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for a, b, transpose_a, transpose_b in (
            ((3, 4), (4, 5), False, False),
            ((1, 16), (16, 33), False, False),
            ((17, 9), (17, 5), True, False),
            ((6, 7), (8, 7), False, True),
            ((7, 3), (5, 7), True, True),
            ((2, 3, 4), (4, 5), False, False),
            ((3, 4), (2, 4, 5), False, False),
            ((2, 1, 3, 4), (1, 5, 4, 2), False, False),
            ((2, 3, 5, 4), (2, 3, 6, 4), False, True),
            ((4,), (4, 3), False, False),
            ((3, 4), (4,), False, False),
            ((5,), (5,), False, False),
            ((2, 3, 4), (4,), False, False),
            ((4,), (2, 4, 3), False, False),
            ((3, 1), (1, 4), False, False),
            ((3, 0), (0, 4), False, False),
            ((19, 64), (64, 72), False, False),
            ((2, 9, 50), (50, 64), False, False),
        ):
            operands = (base.random_array(rng, a), base.random_array(rng, b))
            yield Sample(cls(transpose_a, transpose_b), operands)
        for dtype in (dt.f64, dt.f16, dt.bf16, dt.i32, dt.i64, dt.u8):
            shapes = ((3, 5), (5, 4))
            yield Sample(cls(), tuple(base.random_array(rng, s, dtype) for s in shapes))
