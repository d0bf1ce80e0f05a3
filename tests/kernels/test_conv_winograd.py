"""Winograd convolutions: matrices by exact arithmetic, cuts, kernels against the oracle on every instruction set the host has."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c import conv_winograd
from strop.kernels.c.conv_winograd import ERROR_LIMIT, KERNEL
from strop.kernels.c.positions import geometry_of
from strop.kernels.c.winograd_cuts import cut, cuts_of
from strop.kernels.c.winograd_emit import Params, pieces_of
from strop.kernels.c.winograd_matrices import filtering, points_of
from strop.kernels.c.winograd_transform import transform_c
from strop.kernels.oracle import expected
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import assert_agree, check_all, compiled, run
from tests.kernels.test_conv_direct import conv_region

HERE = [t for t in TARGETS.values() if runs_here(t)]
BEST = HERE[0]

CASES = {
    "even": dict(n=1, c=16, h=8, w=12, o=32, k=3, pad=1),
    "odd": dict(n=2, c=19, h=13, w=10, o=35, k=3, pad=1),
    "small": dict(n=1, c=24, h=7, w=7, o=64, k=3, pad=1),
    "one tile": dict(n=1, c=8, h=2, w=3, o=16, k=3, pad=1),
    "valid": dict(n=1, c=32, h=9, w=9, o=20, k=3),
    "padded wide": dict(n=1, c=16, h=6, w=5, o=16, k=3, pad=2),
    "5x5": dict(n=1, c=16, h=9, w=11, o=24, k=5, pad=2),
    "1x3": dict(n=1, c=16, h=5, w=13, o=24, k=(1, 3), pad=(0, 1)),
    "3x1": dict(n=2, c=17, h=10, w=5, o=24, k=(3, 1), pad=(1, 0)),
    "1x5": dict(n=1, c=16, h=3, w=15, o=24, k=(1, 5), pad=(0, 2)),
    "1x7": dict(n=1, c=16, h=6, w=17, o=40, k=(1, 7), pad=(0, 3)),
    "7x1": dict(n=1, c=16, h=17, w=6, o=16, k=(7, 1), pad=(3, 0)),
    "3x5": dict(n=1, c=16, h=9, w=7, o=16, k=(3, 5), pad=(1, 2)),
    "slices": dict(n=1, c=8, h=6, w=14, o=16, k=3, pad=1, slices=5),
    "plain": dict(n=1, c=16, h=14, w=14, o=48, k=3, pad=1, epilogue=False),
    "stride 2": dict(n=2, c=19, h=17, w=14, o=35, k=3, pad=1, stride=2),
    "stride 2 valid": dict(n=1, c=16, h=15, w=12, o=32, k=3, stride=2),
    "5x5 stride 2": dict(n=1, c=16, h=15, w=14, o=24, k=5, pad=2, stride=2),
    "7x7 stride 2": dict(n=1, c=8, h=15, w=11, o=16, k=7, pad=3, stride=2),
    "1x3 stride 2": dict(n=1, c=16, h=5, w=13, o=16, k=(1, 3), pad=(0, 1), stride=2),
}


@pytest.mark.parametrize(
    ("sizes", "taps", "stride"),
    [
        ((2,), 3, 1), ((6, 4), 3, 1), ((6, 2), 3, 1), ((4, 3), 3, 1), ((3, 1), 3, 1), ((4, 2), 5, 1), ((2, 1), 7, 1),
        ((4, 3), 3, 2), ((2, 1), 3, 2), ((4, 2), 5, 2), ((3,), 7, 2), ((3, 2), 5, 3), ((3,), 1, 1), ((2,), 1, 2),
    ],
)  # fmt: skip
def test_matrices_correlate_exactly(sizes, taps, stride):
    rng = np.random.default_rng(0)
    f = filtering(sizes, taps, stride)
    w = [int(v) for v in rng.integers(-9, 9, taps)]
    u = [sum(a * b for a, b in zip(row, w)) for row in f.g]
    for m, form in zip(sizes, f.forms):
        d = [int(v) for v in rng.integers(-9, 9, form.inputs)]
        v = [sum(a * b for a, b in zip(row, d)) for row in form.bt]
        y = [sum(a * u[k] * b for a, k, b in zip(row, form.filters, v)) for row in form.at]
        assert y == [sum(d[stride * i + k] * w[k] for k in range(taps)) for i in range(m)]
        assert form.points == points_of(m, taps, stride) == len(form.bt)


def test_strides_need_fewer_products():
    assert [points_of(m, 3, 2) for m in (1, 2, 3, 4)] == [3, 5, 7, 9]
    assert len(filtering((4,), 3, 2).g) == 6, "the taps of a phase of one tap are stored once"
    assert points_of(2, 5, 2) == 7


@pytest.mark.parametrize(("largest", "taps", "stride"), [(6, 3, 1), (4, 3, 1), (3, 3, 1), (4, 5, 1), (4, 3, 2), (1, 1, 1)])
def test_cuts_cover_every_extent_once(largest, taps, stride):
    for extent in range(1, 70):
        segments = cut(extent, largest, taps, stride)
        at = 0
        for s in segments:
            assert s.start == at and s.count > 0 and 0 <= s.over < s.m <= largest
            at += s.m * s.count - s.over
        assert at == extent and not any(s.over for s in segments[:-1])
        equal = min(-(-extent // m) * points_of(m, taps, stride) for m in range(1, largest + 1) if m != 5)
        assert sum(s.count * points_of(s.m, taps, stride) for s in segments) <= equal


@pytest.mark.parametrize(("extent", "largest", "want"), [(28, 6, [(6, 4), (4, 1)]), (14, 6, [(6, 2), (2, 1)]), (7, 4, [(4, 1), (3, 1)]), (56, 4, [(4, 14)])])
def test_cuts_mix_sizes_where_it_saves(extent, largest, want):
    assert [(s.m, s.count) for s in cut(extent, largest, 3, 1)] == want


def test_register_tiles_share_rows_evenly():
    for rows in range(1, 60):
        found = pieces_of(rows, 6)
        assert sum(h * n for h, n in found.items()) == rows
        assert max(found) <= 6 and max(found) - min(found) <= 1


def test_shares_are_whole_and_even():
    region, _ = conv_region(np.random.default_rng(0), n=3, c=16, h=28, w=14, o=16, k=3, pad=1)
    cuts = cuts_of(geometry_of(region), 6, 6)
    for blocks in (1, 2, 5, cuts.tiles):
        shares = [cuts.counts(b, blocks) for b in range(blocks)]
        assert [sum(k) for k in zip(*shares)] == [3 * t.count for t in cuts.types]
        assert all(max(k) - min(k) <= 1 for k in zip(*shares))
    assert sum(cuts.filter_rows(cuts.counts(0, 1)).values()) == cuts.products


def test_transform_text_shares_sums():
    f = filtering((6,), 3)
    lines = transform_c(f.forms[0].at, [f"x{i}" for i in range(8)], [f"y{i}" for i in range(6)], "t")
    assert sum(line.count("tp") > 1 for line in lines), "sums of mirrored columns are used again"
    rng = np.random.default_rng(0)
    for matrix in (f.forms[0].at, f.forms[0].bt):
        x = rng.standard_normal(8)
        names = {f"x{i}": v for i, v in enumerate(x)} | {"vset1": float, "vfma": lambda a, b, c: a * b + c}
        outputs = [f"y{i}" for i in range(len(matrix))]
        text = "\n".join(transform_c(matrix, [f"x{i}" for i in range(8)], outputs, "t"))
        exec(re.sub(r"(?<=[0-9])f\b", "", text.replace("const vf ", "")), {}, names)
        np.testing.assert_allclose([names[o] for o in outputs], np.array(matrix, float) @ x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("target", HERE, ids=str)
@pytest.mark.parametrize("cores", [1, 3])
def test_conv(target, cores, monkeypatch):
    monkeypatch.setattr(conv_winograd, "_OFFERED", 1)  # once per tile size
    cases = [conv_region(np.random.default_rng(3), **case) for case in CASES.values()]
    check_all(KERNEL, cases, target.with_cores(cores), every=cores == 1 and target is BEST)


#: Region, tile sizes, register tiles and numbers of shares that no cost model chooses for such small problems.
FORCED = [
    (dict(n=2, c=19, h=28, w=14, o=35, k=3, pad=1), (6, 6), [(6, 2), (3, 1)], (1, 2, 7, 30)),
    (dict(n=1, c=24, h=17, w=10, o=70, k=3, pad=1), (6, 4), [(5, 4), (14, 2)], (1, 3)),
    (dict(n=3, c=16, h=7, w=7, o=40, k=3, pad=1), (4, 4), [(4, 2)], (1, 4)),
    (dict(n=1, c=32, h=15, w=27, o=33, k=3, pad=1, stride=2), (4, 3), [(6, 3)], (1, 5)),
    (dict(n=2, c=8, h=11, w=13, o=16, k=5, pad=2), (4, 4), [(2, 1)], (1, 2)),
]


@pytest.mark.parametrize("target", HERE, ids=str)
def test_all_ways_to_share_work(target):
    small = dataclasses.replace(target, l2=1 << 12)  # everything comes from far and is fetched ahead
    work = []
    for case, (mh, mw), register_tiles, shares in FORCED:
        region, arrays = conv_region(np.random.default_rng(5), **case)
        ways = [(t, b, m) for t in register_tiles for b in shares for m in (target, small.with_cores(2))]
        for (mr, nv), blocks, machine in ways[1::3] if target is BEST else ways[-1:]:
            work.append((region, arrays, KERNEL.emit(region, Params(mh, mw, mr, nv, blocks), machine)))
    for (region, arrays, emitted), function in zip(work, compiled([e for *_, e in work], target)):
        got = run(function, emitted, region, arrays, splits=min(3, emitted.tasks))
        assert_agree(got[0], expected(region, arrays)[0], 1e-4, region.name)


def test_epilogue_may_overwrite_its_operand():
    for stride in (1, 2):
        region, arrays = conv_region(np.random.default_rng(3), n=1, c=16, h=14, w=14, o=40, k=3, pad=1, stride=stride)
        emitted = KERNEL.emit(region, Params(4, 4, 4, 1, 2), BEST)
        got = run(compiled([emitted], BEST)[0], emitted, region, arrays, overwrite=3)
        assert_agree(got[0], expected(region, arrays)[0], 1e-4, "in place")


def test_epilogue_operands_of_any_layout():
    rng = np.random.default_rng(3)
    base, arrays = conv_region(rng, n=2, c=16, h=9, w=9, o=20, k=3, pad=1, epilogue=False)
    shape = base.out.shape
    planar = Operand(View.dense(shape, dt.f32))
    scalar = Operand(View.dense((1, 1, 1, 1), dt.f32).broadcast(shape))
    rows = Operand(View.dense((1, 1, 9, 1), dt.f32).broadcast(shape))
    expr = call("max", Input(0) * Input(2) + Input(1), Input(3))
    region = Region("conv", base.op, (*base.operands, planar, scalar, rows), 2, expr, base.outs)
    more = [rng.standard_normal(shape), np.full(shape, 0.5), np.broadcast_to(rng.standard_normal((1, 1, 9, 1)), shape)]
    check_all(KERNEL, [(region, [*arrays, *(m.astype(np.float32) for m in more)])], BEST)


def test_refuses_what_it_cannot_do():
    rng = np.random.default_rng(0)
    for case in (dict(c=16, k=9), dict(c=16, k=3, stride=3), dict(c=16, k=1), dict(c=16, k=3, dilation=2), dict(c=3, k=3)):
        region, _ = conv_region(rng, n=1, h=12, w=12, o=16, **case)
        assert KERNEL.accepts(region, BEST) is not None


def test_reports_its_rounding():
    for case in (dict(k=3, pad=1), dict(k=3, pad=1, stride=2), dict(k=5, pad=2), dict(k=(1, 7), pad=(0, 3))):
        region, _ = conv_region(np.random.default_rng(3), n=1, c=256, h=14, w=14, o=64, **case)
        errors = {(p.mh, p.mw): KERNEL.error(region, p) for p in KERNEL.space(region, BEST)}
        assert len(errors) > 1 or case["k"] == (1, 7)
        assert all(1e-8 < e < ERROR_LIMIT for e in errors.values()), errors


def test_offers_only_what_rounds_little(monkeypatch):
    region, _ = conv_region(np.random.default_rng(3), n=1, c=64, h=14, w=14, o=16, k=3, pad=1)
    monkeypatch.setattr(conv_winograd, "ERROR_LIMIT", 1e-6)
    kept = {(p.mh, p.mw): KERNEL.error(region, p) for p in KERNEL.space(region, BEST)}
    assert (2, 2) in kept and (6, 6) not in kept and max(kept.values()) <= 1e-6
    monkeypatch.setattr(conv_winograd, "ERROR_LIMIT", 1e-9)
    assert "rounding" in KERNEL.accepts(region, BEST)
