"""Defects of Strop itself: they say so, and name what was met."""

from __future__ import annotations

import pytest

from strop.errors import KernelError
from strop.ir import dtype as dt
from strop.ir.expr import Expr, Size
from strop.ir.shape import Sym
from strop.kernels.c.writer import ScalarC


@pytest.mark.parametrize(
    ("expr", "message"), [(Size(Sym("batch", 1, 8)), "a symbolic size reaches a kernel"), (Expr(), "no scalar C")]
)
def test_expressions_that_cannot_be_printed(expr: Expr, message: str) -> None:
    with pytest.raises(KernelError, match=message) as error:
        ScalarC([], lambda operand, index: "x").print(expr, dt.i64)
    assert error.value.got
