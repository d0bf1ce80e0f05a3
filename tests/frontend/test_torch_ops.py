"""Every ATen op that is read, against PyTorch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'strop[torch]'")

from tests.frontend.torch_cases import CASES, Together  # noqa: E402
from tests.frontend.torch_models import check  # noqa: E402


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    check(Together(case.functions).eval(), case.inputs, case.rtol, case.atol)
