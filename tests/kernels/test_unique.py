"""The kernel unique over every sample of its op, in two layouts."""

from __future__ import annotations

import pytest

from tests.kernels.selections import problem


@pytest.mark.parametrize("turned", [False, True])
def test_every_sample(turned: bool) -> None:
    found = problem("unique", turned)
    steps = found.engine.manifest["steps"]
    kernels = [s["kernel"] for s in steps if not s["copy"]]
    assert kernels and set(kernels) == {"unique()"}
    for threads in (1, 3):
        found.check(threads)
