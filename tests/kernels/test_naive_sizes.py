"""Sizes as data and data as sizes, by the naive kernel."""

from __future__ import annotations

import pytest

from tests.kernels.selections import problem


@pytest.mark.parametrize("name", ["read_sizes", "sizes", "iota"])
def test_every_sample(name: str) -> None:
    problem(name).check()
