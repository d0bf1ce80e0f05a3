"""Defects of Strop itself: they say so, and name what was met."""

from __future__ import annotations

import pytest

from strop.errors import KernelError
from strop.ir import dtype as dt
from strop.ir.expr import Size
from strop.ir.shape import Sym
from strop.kernels.c.writer import ScalarC


def test_a_symbolic_size_in_a_kernel_for_fixed_shapes() -> None:
    with pytest.raises(KernelError, match="a symbolic size reaches a kernel") as error:
        ScalarC([], lambda operand, index: "x").print(Size(Sym("batch", 1, 8)), dt.i64)
    assert error.value.got == "batch"
