"""Transposed convolution on every instruction set the host has, and how it is taken apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Expr, Input, call
from strop.ir.shape import Shape, Sym
from strop.kernels.base import Candidate, Operand, Region, View
from strop.kernels.c import conv_depthwise, conv_direct
from strop.kernels.c.conv_transpose import KERNEL
from strop.kernels.c.transpose_phases import parts_of, phases_of
from strop.kernels.extent import at, extent, extents
from strop.kernels.oracle import expected, random_operands
from strop.kernels.table import candidates, refusal
from strop.ops.conv import ConvTranspose
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import assert_agree, check_all, compiled, run

HERE = [t for t in TARGETS.values() if runs_here(t)]
BEST = HERE[0]
N, H, W = Sym("n", 1, 1, 3), Sym("h", 3, 6, 30), Sym("w", 3, 7, 30)


@dataclass(frozen=True)
class Window:
    """A transposed convolution: channels in and out, and ONNX's attributes, per axis; a bias per channel and, with ``residual``, a value of
    the result's shape in the epilogue; ``room``: further channels of the buffer that holds the result."""

    c: int
    o: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1
    extra: tuple[int, ...] = ()
    residual: bool = True
    room: int = 0

    def region(self, rng: np.random.Generator, shape: Shape) -> Region:
        """Over an input N, spatial... with channels innermost."""
        rank = len(self.kernel)
        op = ConvTranspose(
            self.strides, self.pads or (0,) * 2 * rank, self.dilations or (1,) * rank, self.groups, self.extra or (0,) * rank
        )
        order = (0, *range(2, rank + 2), 1)
        x = View.dense(extents((shape[0], self.c, *shape[1:])), dt.f32, order)
        weight = rng.standard_normal((self.c, self.o // self.groups, *self.kernel)).astype(np.float32)
        anchors = [Operand(x), Operand(View.dense(weight.shape, dt.f32), weight)]
        results = extents(op.infer([o.view.type for o in anchors])[0].shape)
        wide = View.dense((results[0], results[1] + self.room, *results[2:]), dt.f32, order)
        out = View(results, wide.strides, dt.f32)
        bias = rng.standard_normal((self.o, *(1,) * rank)).astype(np.float32)
        extras = [Operand(View.dense(bias.shape, dt.f32).broadcast(results), bias)]
        total: Expr = Input(0) + Input(1)
        if self.residual:
            extras.append(Operand(out))
            total = total + Input(2)
        return Region(f"{self}", op, (*anchors, *extras), 2, call("max", total, -0.5), (out,))


WINDOWS = {
    "2x2 stride 2": Window(24, 20, (2, 2), (2, 2)),
    "2x2 stride 2 in a slice": Window(8, 20, (2, 2), (2, 2), room=4),
    "2x2 stride 2, 1 result": Window(24, 1, (2, 2), (2, 2), residual=False),
    "4x4 stride 2": Window(16, 17, (4, 4), (2, 2), (1, 1, 1, 1)),
    "3x3 stride 2, output padding": Window(9, 33, (3, 3), (2, 2), (1, 1, 1, 1), extra=(1, 1)),
    "3x3 stride 1": Window(16, 32, (3, 3), (1, 1), (1, 1, 1, 1)),
    "stride above the kernel": Window(8, 16, (1, 2), (2, 3), extra=(1, 2)),
    "unequal axes": Window(8, 16, (5, 2), (3, 2), (1, 0, 2, 1)),
    "dilated": Window(8, 16, (3, 3), (2, 2), (2, 1, 1, 2), (3, 2)),
    "dilated, reads outside": Window(8, 8, (2, 2), (3, 3), dilations=(5, 5)),
    "padded above the kernel": Window(8, 8, (2, 2), (2, 2), (3, 2, 2, 3)),
    "grouped": Window(12, 18, (3, 3), (2, 2), (0, 1, 1, 0), groups=3),
    "depthwise": Window(20, 20, (4, 4), (2, 2), (1, 1, 1, 1), groups=20),
    "depthwise, 2 results each": Window(16, 32, (2, 2), (2, 2), groups=16),
    "1-D": Window(16, 24, (4,), (3,), (1, 0), extra=(1,)),
    "1-D depthwise": Window(16, 16, (4,), (2,), (1, 1), groups=16),
}


@pytest.mark.parametrize("target", HERE, ids=str)
def test_windows(target):
    rng = np.random.default_rng(1)
    cases = []
    for window in WINDOWS.values():
        for shape in ((1, 5, 7), (2, 6, 16)):
            region = window.region(rng, (shape[0], *shape[-len(window.kernel) :]))
            cases.append((region, random_operands(region, rng)))
    for cores in (1, 3):
        check_all(KERNEL, cases, target.with_cores(cores), every=False)


def test_every_offered_way():
    rng = np.random.default_rng(2)
    regions = [WINDOWS[n].region(rng, (1, 9, 33)) for n in ("2x2 stride 2", "2x2 stride 2, 1 result", "depthwise")]
    regions.append(Window(64, 64, (3, 3), (1, 1), (1, 1, 1, 1)).region(rng, (1, 16, 16)))
    names = {p.phase.kernel.name for r in regions for p in KERNEL.space(r, BEST)}
    assert names == {"conv_direct", "conv_depthwise", "conv_dot", "conv_winograd"}
    assert check_all(KERNEL, [(r, random_operands(r, rng)) for r in regions], BEST) > 30


@pytest.mark.parametrize("name", ["2x2 stride 2", "3x3 stride 2, output padding", "4x4 stride 2", "depthwise", "1-D", "2x2 stride 2, 1 result"])
def test_free_sizes(name):
    rng = np.random.default_rng(3)
    window = WINDOWS[name]
    region = window.region(rng, (N, H, W)[: 1 + len(window.kernel)])
    assert refusal(KERNEL, region, BEST) is None
    candidate = Candidate(KERNEL, KERNEL.space(region.typical(), BEST)[0])
    emitted = candidate.emit(region, BEST.with_cores(2))
    (function,) = compiled([emitted], BEST)
    for place in ((1, 3, 3), (3, 30, 30), (2, 5, 17), (1, 6, 7)):
        known = dict(zip("nhw", place, strict=True))
        there = region.at(known)
        arrays = random_operands(there, rng)
        counted = replace(emitted, tasks=at(emitted.tasks, known))
        sizes = [at(extent(d), known) for d in emitted.dims]
        (wanted,) = expected(there, arrays)
        for overwrite in (None, len(there.operands) - 1) if window.residual else (None,):
            (got,) = run(function, counted, there, arrays, 3, overwrite, sizes)
            assert_agree(got, wanted, 1e-4, f"{candidate.label} of {name} at {place}")


def test_columns_that_read_the_same_inputs_are_one_convolution():
    rng = np.random.default_rng(4)
    phases = phases_of(WINDOWS["2x2 stride 2"].region(rng, (1, 5, 7)))
    assert [p.region.operand(1).view.shape for p in phases] == [(40, 24, 1, 1)] * 2
    assert [p.y for p in phases] == [0, 14 * 20]
    apart = phases_of(WINDOWS["2x2 stride 2 in a slice"].region(rng, (1, 5, 7)))
    assert [p.region.operand(1).view.shape for p in apart] == [(20, 8, 1, 1)] * 4


def test_no_multiplication_is_made_twice_or_for_nothing():
    rng = np.random.default_rng(5)
    phases = phases_of(WINDOWS["3x3 stride 2, output padding"].region(rng, (1, 5, 7)))
    assert sorted(p.region.operand(1).view.shape[2:] for p in phases) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_parts_of_an_axis():
    even, odd = parts_of(5, 10, 4, 2, 1, 1)
    assert (even.first, even.size, even.taps, even.start) == (0, 5, (3, 1), -1)
    assert (odd.first, odd.size, odd.taps, odd.start) == (1, 5, (2, 0), 0)
    assert [p.taps for p in parts_of(4, 12, 2, 3, 0, 1)] == [(0,), (1,), ()]


def test_refusals_have_reasons():
    rng = np.random.default_rng(6)
    region = WINDOWS["1-D"].region(rng, (1, 7))
    moving = replace(region, operands=(region.operands[0], replace(region.operand(1), const=None), *region.operands[2:]))
    assert KERNEL.accepts(moving, BEST) == "weights are not constant, or the bias is not in the epilogue"
    planar = replace(region, operands=(Operand(View.dense(region.operand(0).view.shape, dt.f32)), *region.operands[1:]))
    assert "not consecutive" in (KERNEL.accepts(planar, BEST) or "")
    narrow = WINDOWS["dilated, reads outside"].region(rng, (1, Sym("h", 1, 4, 9), 8))
    assert "for some sizes" in (refusal(KERNEL, narrow, BEST) or "")


def test_it_is_the_favourite():
    rng = np.random.default_rng(7)
    for window in WINDOWS.values():
        region = window.region(rng, (1, 8, 8)[: 1 + len(window.kernel)])
        first = candidates(region, BEST)[0]
        assert first.kernel is KERNEL
        wanted = conv_depthwise.KERNEL if window.groups == window.c else conv_direct.KERNEL
        assert first.params.phase.kernel is wanted or window.groups == 1
