"""Every kernel that serves symbolic sizes, over regions made of the ops' samples with one size left free: one emission, run at several
values of the symbol and compared with the oracle there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from strop.errors import StropError
from strop.ir import dtype as dt
from strop.ir.expr import Expr, Input, call
from strop.ir.op import Sample, Type
from strop.ir.shape import Sym
from strop.kernels.base import Candidate, Emitted, Kernel, Operand, Region, View
from strop.kernels.extent import at, extent, extents
from strop.kernels.oracle import expected, random_operands
from strop.kernels.table import KERNELS, candidates, refusal, refusals
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.mixed import MixedConv, MixedMatMul
from strop.ops.recurrent import Recurrent
from strop.ops.wide import WideConv, WideMatMul
from strop.target.detect import host
from tests.kernels import regions
from tests.kernels.harness import assert_agree, compiled, run

BEST = host()
#: Those left out have tests of their own.
SERVING = [k for k in KERNELS if k.symbolic and k.name not in ("custom", "custom_callback", "custom_library", "non_zero", "unique", "nms")]
#: Cases per kernel.
MOST = 36


def freed(sample: Sample, size: int, layout: str, epilogue: bool, constants: bool) -> Region | None:
    """The sample's op with every dim of this size free from a little below it; None where the op then has no types."""
    symbol = Sym("size", max(1, size - 1), size, 3 * size + 40)
    arrays = [np.asarray(a) for a in sample.inputs]
    operands: list[Operand] = []
    for k, array in enumerate(arrays):
        kind = dt.from_numpy(array.dtype)
        if constants and k > 0:
            operands.append(Operand(View.dense(array.shape, kind), np.ascontiguousarray(array)))
            continue
        shape = tuple(symbol if d == size else d for d in array.shape)
        operands.append(Operand(regions.view(extents(shape), kind, layout)))
    try:
        results = sample.op.infer([o.view.type for o in operands])
    except StropError:
        return None
    if any(size in (d for d in t.shape if isinstance(d, int)) for t in results):
        return None  # an attribute that repeats the size
    outs = tuple(regions.view(extents(t.shape), t.dtype, layout) for t in results)
    anchors, expression = len(operands), Input(0)
    combined: Expr = expression
    if epilogue and len(outs) == 1 and outs[0].dtype is dt.f32:
        combined = call("max", call("add", expression, Input(1)), 0.0)
        operands.append(Operand(outs[0]))
    region = Region(f"{sample.op.label} {layout}", sample.op, tuple(operands), anchors, combined, outs)
    return region if region.symbols else None


def scalar(sample: Sample, size: int, layout: str) -> Region:
    """An elementwise sample as a region without an anchor."""
    symbol = Sym("size", max(1, size - 1), size, 3 * size + 40)
    shapes = [tuple(symbol if d == size else d for d in np.shape(a)) for a in sample.inputs]
    (out,) = sample.op.infer([Type(dt.from_numpy(np.asarray(a).dtype), s) for a, s in zip(sample.inputs, shapes, strict=True)])
    full = regions.view(extents(out.shape), out.dtype, layout)
    views = [regions.view(extents(s), dt.from_numpy(np.asarray(a).dtype), layout) for a, s in zip(sample.inputs, shapes, strict=True)]
    operands = tuple(Operand(v.broadcast(full.shape)) for v in views)
    assert isinstance(sample.op, Elementwise)
    return Region(sample.op.label, None, operands, 0, sample.op.expr(), (full,))


def all_cases() -> Iterator[Region]:
    for name in regions.all_names():
        for number, sample in enumerate(regions.samples(name)):
            layout = regions.LAYOUTS[number % 4]
            sizes = sorted({d for a in sample.inputs for d in np.shape(a) if d > 1})
            for k, size in enumerate(sizes):
                if isinstance(sample.op, Cast):
                    continue
                if isinstance(sample.op, Elementwise):
                    yield scalar(sample, size, layout)
                    continue
                known = (Conv, ConvTranspose, IntegerConv, IntegerMatMul, MixedConv, MixedMatMul, WideConv, WideMatMul, Recurrent)
                constants = isinstance(sample.op, known) or (isinstance(sample.op, MatMul) and k % 2 == 0)
                found = freed(sample, size, layout, (number + k) % 2 == 1, constants)
                if found is not None:
                    yield found


N, H, W = Sym("n", 1, 1, 3), Sym("h", 5, 9, 40), Sym("w", 5, 12, 40)


@dataclass(frozen=True)
class Window:
    """A convolution: channels per group in and out, kernel, stride, pads before and after, dilation, groups; channels innermost or not."""

    c: int
    o: int
    k: int
    stride: int = 1
    pad: tuple[int, int] = (0, 0)
    dilation: int = 1
    groups: int = 1
    last: bool = True

    def region(self, rng: np.random.Generator) -> Region:
        """With a bias and a residual in the epilogue, over free batch, height and width."""
        channels, results = self.c * self.groups, self.o * self.groups
        order = (0, 2, 3, 1)
        x = View.dense(extents((N, channels, H, W)), dt.f32, order if self.last else None)
        weight = rng.standard_normal((results, self.c, self.k, self.k), np.float32)
        op = Conv((self.stride,) * 2, (self.pad[0],) * 2 + (self.pad[1],) * 2, (self.dilation,) * 2, self.groups)
        anchors = [Operand(x), Operand(View.dense(weight.shape, dt.f32), weight)]
        (result,) = op.infer([o.view.type for o in anchors])
        out = View.dense(extents(result.shape), dt.f32, order)
        bias = rng.standard_normal((results, 1, 1), np.float32)
        extra = [Operand(View.dense(bias.shape, dt.f32).broadcast(out.shape), bias), Operand(out)]
        epilogue = call("max", call("add", call("add", Input(0), Input(1)), Input(2)), 0.0)
        return Region(f"conv {self}", op, (*anchors, *extra), 2, epilogue, (out,))


WINDOWS = (
    Window(24, 40, 1), Window(24, 40, 1, 2), Window(16, 20, 3, 1, (1, 1)), Window(16, 20, 3, 2, (1, 1)), Window(16, 33, 3, 2, (0, 1)),
    Window(3, 16, 3, 2, (1, 1), last=False), Window(3, 16, 5, 1, (2, 2)), Window(8, 9, 3, 1, (2, 2), 2), Window(8, 8, 3, 1, (1, 1), 1, 4),
    Window(17, 16, 2), Window(1, 1, 3, 1, (1, 1), 1, 40), Window(1, 1, 3, 2, (1, 1), 1, 16), Window(1, 1, 5, 2, (2, 2), 1, 24),
    Window(8, 1, 5, 1, (2, 2)), Window(17, 2, 3, 2, (0, 1)), Window(24, 1, 1), Window(16, 3, 3), Window(9, 2, 3, 1, (1, 0)),
    Window(30, 4, 1, 2), Window(8, 40, 5, 1, (2, 2)), Window(9, 16, 3), Window(16, 24, 3, 1, (2, 0)), Window(8, 16, 7, 2, (3, 3)), Window(1, 2, 3, 1, (0, 0), 1, 16), Window(1, 1, 3, 1, (2, 2), 2, 16), Window(1, 1, 5, 1, (0, 3), 1, 7),
)  # fmt: skip
#: Batch, height and width: the least, the largest, and what leaves rests of tiles.
PLACES = ((1, 5, 5), (3, 40, 40), (2, 7, 13), (1, 9, 12), (2, 33, 6), (1, 6, 31))


@pytest.mark.parametrize("kernel", [k for k in SERVING if k.name in ("conv_direct", "conv_dot", "conv_depthwise", "conv_winograd")], ids=lambda k: k.name)
def test_convolutions_at_any_batch_height_and_width(kernel: Kernel) -> None:
    rng = np.random.default_rng(3)
    target = BEST.with_cores(2)
    work = []
    for region in (window.region(rng) for window in WINDOWS):
        if refusal(kernel, region, target) is None:
            params = kernel.space(region.typical(), target)
            work += [(region, c, c.emit(region, target)) for c in (Candidate(kernel, p) for p in params[::3])]
    assert len({region for region, *_ in work}) >= 6
    functions = compiled([emitted for *_, emitted in work], target)
    for (region, candidate, emitted), function in zip(work, functions, strict=True):
        for place in PLACES:
            known = dict(zip("nhw", place, strict=True))
            there = region.at(known)
            arrays = random_operands(there, rng)
            counted = replace(emitted, tasks=at(emitted.tasks, known))
            sizes = [at(extent(d), known) for d in emitted.dims]
            over = len(there.operands) - 1 if kernel.in_place else None
            (wanted,) = expected(there, arrays)
            for overwrite in (None, over):
                (got,) = run(function, counted, there, arrays, 3, overwrite, sizes)
                assert_agree(got, wanted, 1e-4, f"{candidate.label} on {region.name} at {place}")


def suits(region: Region, value: int) -> bool:
    """Whether the op has the result types that the region says where the symbol has this value."""
    there = region.at({"size": value})
    if there.op is None:
        return True
    types = [o.view.type for o in there.operands[: there.anchors] if o is not None]
    try:
        return tuple(there.op.infer(types)) == tuple(v.type for v in there.outs) and all(d > 0 for v in there.outs for d in v.shape)
    except StropError:
        return False


def at_size(emitted: Emitted, value: int) -> tuple[Emitted, list[int]]:
    """The code with its tasks counted, and what it reads as sym."""
    known = {"size": value}
    return replace(emitted, tasks=at(emitted.tasks, known)), [at(extent(d), known) for d in emitted.dims]


def check(kernel: Kernel, cases: list[Region]) -> int:
    """Runs one emission per case at several sizes; returns how many runs were compared."""
    rng = np.random.default_rng(5)
    work = []
    for region in cases:
        for params in kernel.space(region.typical(), BEST):
            candidate = Candidate(kernel, params)
            try:
                work.append((region, candidate, candidate.emit(region, BEST)))
            except Exception as error:
                assert type(error).__name__ == "SymbolicError", error
                continue
            break
    done = 0
    functions = compiled([emitted for *_, emitted in work], BEST)
    for (region, candidate, emitted), function in zip(work, functions, strict=True):
        low, size, high = next((s.min, s.opt, s.max) for s in region.symbols)
        for value in sorted({low, size, size + 1, size + 6, 2 * size + 17, high}):
            if not suits(region, value):
                continue
            there = region.at({"size": value})
            arrays = random_operands(there, rng)
            counted, sizes = at_size(emitted, value)
            got = run(function, counted, there, arrays, 2, sizes=sizes)
            for g, w in zip(got, expected(there, arrays), strict=True):
                tolerance = 3e-3 if isinstance(there.op, Recurrent) else 1e-4  # many steps amplify the rounding of the first
                assert_agree(g, w, tolerance, f"{candidate.label} on {region.signature()} at {value}")
            done += 1
    return done


@pytest.fixture(scope="module")
def cases() -> list[Region]:
    return [c for c in all_cases() if suits(c, next(s.opt for s in c.symbols))]


def small(region: Region) -> Region:
    """With weights of 7 bits."""
    operands = list(region.operands)
    if isinstance(region.op, (IntegerConv, IntegerMatMul)) and operands[1] is not None and operands[1].const is not None:
        operands[1] = Operand(operands[1].view, operands[1].const // 2)
    return replace(region, operands=tuple(operands))


@pytest.mark.parametrize("kernel", SERVING, ids=lambda k: k.name)
def test_one_emission_serves_every_size(kernel: Kernel, cases: list[Region]) -> None:
    cases = [small(c) for c in cases] if kernel.name == "conv_int8_small" else cases
    accepted = [c for c in cases if refusal(kernel, c, BEST) is None]
    step = max(1, len(accepted) // MOST)
    reasons = {refusal(kernel, c, BEST) for c in cases}
    if not accepted and all(r is not None and r.startswith("no instructions") for r in reasons):
        pytest.skip(f"this machine has {reasons.pop()}")
    assert accepted, f"{kernel.name} serves no symbolic region"
    assert check(kernel, accepted[::step]) >= 2


def test_others_refuse_with_a_reason(cases: list[Region]) -> None:
    reasons = refusals(cases[0], BEST)
    for kernel in KERNELS:
        if not kernel.symbolic:
            assert reasons[kernel.name] == "its code is made for fixed shapes"


def test_a_symbolic_region_has_candidates_that_are_all_emitted(cases: list[Region]) -> None:
    for region in cases[::40]:
        for candidate in candidates(region, BEST):
            emitted = candidate.emit(region, BEST)
            assert "a->sym" in emitted.body or not emitted.dims
            assert all(f"dim{k}" not in emitted.body for k in range(200, 300))
