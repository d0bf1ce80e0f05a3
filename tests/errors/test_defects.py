"""Defects of Strop itself: they say so, and name the place."""

from __future__ import annotations

import pytest

from strop.errors import KernelError
from strop.ir import dtype as dt
from strop.ir.expr import Call, Input
from strop.kernels.c.writer import ScalarC


def test_scalar_code_that_is_not_there() -> None:
    printer = ScalarC([dt.f16], lambda operand, index: "x")
    with pytest.raises(KernelError, match="scalar C of exp on f16") as error:
        printer.print(Call("exp", (Input(0),)), dt.f16)
    assert error.value.got == "f16"
