"""Kernels that promise it may store their result over an epilogue's operand."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.kernels.base import Region
from strop.kernels.oracle import expected
from strop.kernels.table import KERNELS, refusal
from strop.target.detect import TARGETS, runs_here
from tests.kernels import regions
from tests.kernels.halves import Case, narrowed
from tests.kernels.harness import assert_agree, compiled, run

TARGET = next(t for t in TARGETS.values() if runs_here(t))
#: Kernels whose epilogue no sample suits, and why.
UNSUITED = {"elementwise": "see its own tests"}


def _cases(kernel) -> list[Case]:
    """Samples with an epilogue whose last operand lies as the result does."""
    rng = np.random.default_rng(12)
    found: list[Case] = []
    for name in regions.all_names():
        taken = 0
        for sample in regions.samples(name):
            ways: list[Case] = []
            for turn in range(4):
                layout = regions.LAYOUTS[(len(found) + turn) % 4]
                ways += [regions.anchored(sample, layout, rng, True, constants) for constants in (False, True)]
                if name in ("conv", "conv_transpose") and len(sample.inputs) == 3:
                    ways.append(regions.bias_in_epilogue(ways[-1]))
            ways += [narrowed(way, dt.bf16) for way in ways if way[0].all_f32()]
            good = [c for c in ways if c[0].has_epilogue and _lies_alike(c[0]) and refusal(kernel, c[0], TARGET) is None]
            found += good[:1]
            taken += len(good[:1])
            if taken == 4:
                break
    return found


def _lies_alike(region: Region) -> bool:
    return region.operand(-1).view == region.out and region.out.count > 0


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.in_place], ids=lambda k: k.name)
def test_the_last_operand_may_be_overwritten(kernel):
    cases = _cases(kernel)
    if kernel.name in UNSUITED:
        assert not cases, f"{kernel.name} is no longer unsuited"
        pytest.skip(UNSUITED[kernel.name])
    assert cases
    work = [(r, a, p, kernel.emit(r, p, TARGET)) for r, a in cases for p in kernel.space(r, TARGET)[:6]]
    for (region, arrays, params, emitted), function in zip(work, compiled([e for *_, e in work], TARGET)):
        got = run(function, emitted, region, arrays, splits=2, overwrite=len(region.operands) - 1)
        assert_agree(got[0], expected(region, arrays)[0], 1e-4, f"{kernel.name} {params} on {region.name}")
