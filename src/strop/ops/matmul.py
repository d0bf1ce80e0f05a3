"""Matrix product with numpy's broadcasting over leading axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from strop.ir import shape as sh
from strop.ir.op import Op, Type
from strop.ops import base


@dataclass(frozen=True)
class MatMul(Op):
    """numpy.matmul of a[.., M, K] and b[.., K, N], or of their transposes.

    Operands: a, b of one numeric dtype. A rank-1 operand is a row (a) or a column (b) whose axis leaves the result,
    as in numpy; it cannot be transposed. Result: [.., M, N].

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
