"""Samples of ops as regions for GPU kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from strop.kernels.base import Kernel, Region
from strop.kernels.table import refusal
from strop.ops.elementwise import Cast, Elementwise
from strop.target.base import Target
from tests.kernels import regions

#: Samples of an op that one kernel is run on.
MOST = 6


def cases(kernel: Kernel, name: str, target: Target, suits: Callable[[Kernel, Region], bool], most: int = MOST) -> list[regions.Case]:
    """Samples of an op that a kernel accepts, each in one of the layouts, every other one with an epilogue."""
    rng = np.random.default_rng(11)
    found: list[regions.Case] = []
    for number, sample in enumerate(regions.samples(name)):
        layout = regions.LAYOUTS[number % 4]
        ways = [regions.anchored(sample, layout, rng, number % 2 == 1, constants) for constants in (False, True)]
        if sample.op.name in ("conv", "conv_transpose") and len(sample.inputs) == 3:
            ways.append(regions.bias_in_epilogue(ways[1]))
        if isinstance(sample.op, (Elementwise, Cast)):
            ways.insert(0, regions.elementwise(sample, layout))
        found += [c for c in ways if refusal(kernel, c[0], target) is None and c[0].out.count and suits(kernel, c[0])][:1]
        if len(found) == most:
            break
    return found
