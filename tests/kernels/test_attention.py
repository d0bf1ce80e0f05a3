"""Attention on every instruction set the host has."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.attention import KERNEL
from strop.kernels.c.panels import Panels, balanced, with_tail
from strop.ops.attention import Attention
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import check_all, compiled, run

HERE = [t for t in TARGETS.values() if runs_here(t)]


def heads_inside(shape, slices=0):
    """[B, H, N, D] that lies in memory as [B, N, H, D], ``slices`` elements apart from the next
    token."""
    _, h, n, d = shape
    token = h * d + slices
    return View(shape, (n * token, d, token, 1), dt.f32)


def attention(
    rng, q, t, e=None, causal=False, mask=None, place=heads_inside, k_place=None, epilogue=True
):
    """A region: q [.., S, D], k [.., T, D], v [.., T, E]; ``mask`` is its shape."""
    *lead, s, d = q
    shapes = [tuple(q), (*lead, t, d), (*lead, t, e or d)]
    out = (*lead, s, e or d)
    operands = [Operand(p(x)) for p, x in zip((place, k_place or place, place), shapes)]
    arrays = [rng.standard_normal(x).astype(np.float32) for x in shapes]
    if mask is not None:
        operands.append(Operand(View.dense(mask, dt.f32)))
        arrays.append(
            np.where(rng.random(mask) < 0.2, -np.inf, rng.standard_normal(mask)).astype(np.float32)
        )
    anchors, expr = len(operands), Input(0)
    if epilogue:
        operands += [Operand(View.dense(out[-1:], dt.f32).broadcast(out)), Operand(place(out))]
        arrays += [
            rng.standard_normal(out[-1:]).astype(np.float32),
            rng.standard_normal(out).astype(np.float32),
        ]
        expr = call("max", Input(0) + Input(1), -0.5) + Input(2)
    op = Attention(float(d) ** -0.5, causal)
    return Region(
        f"{op} {q} t{t} e{e} mask{mask}", op, tuple(operands), anchors, expr, (place(out),)
    ), arrays


def dense(shape):
    return View.dense(shape, dt.f32)


def keys_innermost(shape):
    return View.dense(shape, dt.f32, (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2))


CASES = {
    "vit": dict(q=(1, 3, 50, 32), t=50),
    "sliced": dict(q=(2, 2, 13, 24), t=21, place=lambda s: heads_inside(s, 5)),
    "cross, other value size": dict(q=(1, 2, 9, 20), t=37, e=50),
    "keys transposed": dict(q=(2, 17, 16), t=33, place=dense, k_place=keys_innermost),
    "one query": dict(q=(1, 4, 1, 40), t=70, epilogue=False),
    "few keys": dict(q=(3, 11, 5), t=3, e=7, place=dense),
    "causal": dict(q=(1, 2, 45, 32), t=45, causal=True),
    "causal, fewer keys": dict(q=(30, 16), t=19, causal=True, place=dense, epilogue=False),
    "mask": dict(q=(1, 2, 19, 16), t=35, mask=(19, 35)),
    "mask per head": dict(q=(2, 3, 8, 16), t=20, mask=(3, 1, 20)),
    "mask per query and causal": dict(q=(1, 2, 25, 16), t=25, mask=(25, 1), causal=True),
    "chunks": dict(q=(1, 1, 20, 16), t=1100),
    "chunks, mask": dict(q=(2, 9, 12), t=805, e=20, mask=(2, 9, 805), place=dense),
    "chunks, causal": dict(q=(900, 8), t=900, causal=True, place=dense),
}


@pytest.mark.parametrize("target", HERE, ids=str)
def test_cases(target):
    rng = np.random.default_rng(1)
    cases = [attention(rng, **case) for case in CASES.values()]
    assert check_all(KERNEL, cases, target, every=False) == len(cases)


@pytest.mark.parametrize("target", HERE, ids=str)
def test_every_parameter_set(target):
    rng = np.random.default_rng(2)
    cases = [attention(rng, **CASES[name]) for name in ("vit", "chunks, mask", "causal")]
    assert check_all(KERNEL, cases, target) >= 9


@pytest.mark.parametrize("target", HERE, ids=str)
def test_queries_are_split_when_heads_are_few(target):
    rng = np.random.default_rng(3)
    wide = target.with_cores(3)
    case = attention(rng, (1, 2, 200, 16), 40)
    assert KERNEL.emit(case[0], KERNEL.space(case[0], wide)[0], wide).tasks > 3
    check_all(KERNEL, [case], wide, every=False)


@pytest.mark.parametrize("t, causal", [(40, False), (40, True), (900, False)])
def test_unusual_scores(t, causal):
    """Large scores do not overflow; a query that sees nothing gives zeros; NaN stays with its own
    query."""
    target = HERE[0]
    rng = np.random.default_rng(4)
    region, arrays = attention(
        rng, (7, 16), t, mask=(7, t), causal=causal, place=dense, epilogue=False
    )
    arrays[3][:] = 0
    arrays[0][0] *= 1000
    arrays[3][1] = -np.inf
    arrays[0][2, 3] = np.nan
    arrays[3][3, :600] = -np.inf if t > 600 else 0
    emitted = KERNEL.emit(region, KERNEL.space(region, target)[0], target)
    got = run(compiled([emitted], target)[0], emitted, region, arrays)[0]
    assert (got[1] == 0).all() and np.isnan(got[2]).all()
    rows = [0, 3, 4, 5, 6]
    want = region.op.reference(*arrays)[0]
    np.testing.assert_allclose(got[rows], want[rows], rtol=1e-4, atol=1e-4)


def test_scratch_does_not_grow_with_the_queries():
    """The scores of all queries are never held."""
    target, rng = HERE[0], np.random.default_rng(5)
    sizes = [
        KERNEL.emit(r, KERNEL.space(r, target)[0], target).scratch
        for r, _ in (attention(rng, (s, 16), 2048, place=dense) for s in (64, 2048))
    ]
    assert sizes[0] == sizes[1] < 4 * 2048 * 2048 // 8


def test_panels_are_balanced():
    assert balanced(13, 4, 16) == [Panels(0, 4, 1), Panels(64, 3, 3)]
    assert balanced(8, 4, 8) == [Panels(0, 4, 2)]
    assert balanced(1, 4, 8) == [Panels(0, 1, 1)]
    assert list(with_tail(balanced(13, 4, 16), 5, 16)) == [
        (Panels(0, 4, 1), 0),
        (Panels(64, 3, 2), 0),
        (Panels(160, 3, 1), 5),
    ]
    assert list(with_tail(balanced(4, 4, 8), 0, 8)) == [(Panels(0, 4, 1), 0)]


def test_result_may_overwrite_the_residual():
    target = HERE[0]
    region, arrays = attention(np.random.default_rng(6), **CASES["vit"])
    emitted = KERNEL.emit(region, KERNEL.space(region, target)[0], target)
    function = compiled([emitted], target)[0]
    assert KERNEL.in_place
    together = run(function, emitted, region, arrays, overwrite=4)[0]
    np.testing.assert_array_equal(run(function, emitted, region, arrays)[0], together)


def test_refusals():
    target = HERE[0]
    region, _ = attention(np.random.default_rng(7), (2, 9, 16), 9, place=dense, epilogue=False)

    def changed(**fields):
        return KERNEL.accepts(Region(**{**region.__dict__, **fields}), target)

    assert changed() is None
    assert changed(op=None) == "the anchor is not attention"
    assert "consecutive" in changed(outs=(keys_innermost((2, 9, 16)),))
    assert "f32" in changed(outs=(View.dense((2, 9, 16), dt.f64),))
    none = [Operand(dense((2, n, 16))) for n in (9, 0, 0)]
    assert "empty" in changed(operands=tuple(none))
