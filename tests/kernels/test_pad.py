"""Padding: every mode, layout and dtype, blocks, ends and axes that are cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.ir.shape import Sym
from strop.kernels.base import Candidate, Operand, Region
from strop.kernels.c.pad import KERNEL, plan_of
from strop.kernels.extent import at, extent, extents
from strop.kernels.oracle import expected, random_operands
from strop.kernels.table import candidates, refusal
from strop.ops.data import PAD_MODES, Pad
from strop.target.detect import TARGETS, runs_here
from tests.kernels import regions
from tests.kernels.harness import assert_agree, check_all, compiled, run

BEST = next(t for t in TARGETS.values() if runs_here(t))
IMAGE, AROUND = (2, 5, 6, 7), (0, 0, 1, 2, 0, 0, 3, 1)


def region_of(op, shape, layout="dense", dtype=dt.f32, out_layout=None):
    x = Operand(regions.view(extents(shape), dtype, layout))
    (out,) = op.infer([x.view.type])
    return Region(f"{op} {layout}", op, (x,), 1, Input(0), (regions.view(extents(out.shape), dtype, out_layout or layout),))


def test_samples_in_every_layout():
    cases = []
    for number, sample in enumerate(regions.samples("pad")):
        for layout in regions.LAYOUTS:
            case = regions.anchored(sample, layout, np.random.default_rng(number))
            if KERNEL.accepts(case[0], BEST) is None:
                cases.append(case)
    assert len(cases) > 80
    for cores in (1, 3):
        check_all(KERNEL, cases, BEST.with_cores(cores))


@pytest.mark.parametrize("mode", PAD_MODES)
def test_axes(mode):
    rng = np.random.default_rng(1)
    paddings = [AROUND, (0, 2, 1, 0, 1, 0, 0, 0), (0, 0, -1, 2, 0, -1, 3, -2), (0, 0, 0, 3, 0, 0, 0, 2), (1, 1, 1, 1, 1, 1, 1, 1)]
    found = []
    for pads in paddings:
        for layout, out in (("dense", "dense"), ("last", "last"), ("slice", "last"), ("last", "dense"), ("reversed", "slice")):
            region = region_of(Pad(pads, mode, -2.5), IMAGE, layout, out_layout=out)
            found.append((region, random_operands(region, rng)))
    check_all(KERNEL, found, BEST.with_cores(2))


@pytest.mark.parametrize("kind", [dt.f64, dt.f16, dt.bf16, dt.i64, dt.u8, dt.boolean], ids=str)
def test_dtypes(kind):
    region = region_of(Pad(AROUND, "constant", 3.0), IMAGE, "last", kind)
    check_all(KERNEL, [(region, random_operands(region, np.random.default_rng(2)))], BEST)


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("layout", ["dense", "last"])
def test_free_sizes(mode, layout):
    rng = np.random.default_rng(3)
    h, w = Sym("h", 5, 8, 40), Sym("w", 5, 9, 40)
    region = region_of(Pad((0, 0, 2, 1, 0, 0, 3, 4), mode), (2, 3, h, w), layout)
    assert refusal(KERNEL, region, BEST) is None
    emitted = Candidate(KERNEL, None).emit(region, BEST.with_cores(2))
    (function,) = compiled([emitted], BEST)
    for place in ((5, 5), (40, 40), (8, 9), (6, 33)):
        known = dict(zip("hw", place, strict=True))
        there = region.at(known)
        arrays = random_operands(there, rng)
        counted = replace(emitted, tasks=at(emitted.tasks, known))
        (got,) = run(function, counted, there, arrays, 3, sizes=[at(extent(d), known) for d in emitted.dims])
        assert_agree(got, expected(there, arrays)[0], 0.0, f"{mode} {layout} at {place}")


def test_what_is_not_padded_moves_as_one_block():
    assert plan_of(region_of(Pad(AROUND), IMAGE, "last")).block == 5
    dense = plan_of(region_of(Pad((0, 1, 0, 0, 0, 1, 0, 0)), IMAGE))
    assert (dense.outer, dense.inner, dense.block) == ((0,), 1, 42)
    assert "memcpy" in KERNEL.emit(region_of(Pad(AROUND), IMAGE), None, BEST).body


def test_it_is_chosen_before_the_naive_kernel():
    for layout in regions.LAYOUTS:
        assert candidates(region_of(Pad(AROUND), IMAGE, layout), BEST)[0].kernel is KERNEL


def test_refusals():
    region = region_of(Pad(AROUND), IMAGE)
    assert KERNEL.accepts(replace(region, epilogue=Input(0) + 1.0), BEST) == "no epilogue is applied here"
    assert KERNEL.accepts(replace(region, op=None), BEST) == "the anchor is not pad"
    assert KERNEL.accepts(region_of(Pad((0, 2)), (0,)), BEST) == "nothing is left of an axis"
    assert KERNEL.accepts(region_of(Pad((0, 0, 0, 1)), (0, 2)), BEST) == "the result is empty or a scalar"
