"""Convolution as an implicit matrix product: rows are places of the result, columns its channels, terms the window's taps times input channels.

Values lie channels-last. A round multiplies ``bk`` channels of one tap; a window of few channels is walked as one run of terms instead.
Weights are stored as [channels out][taps][channels in], padded to whole tiles with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir.op import Array
from strop.kernels.base import Operand, Packed, Region, View
from strop.kernels.triton import mixed, product
from strop.kernels.triton.emit import (
    Block,
    GpuEmitted,
    Tile,
    Writer,
    ceil_div,
    masked,
    power_of_two,
    wide_of,
)
from strop.kernels.triton.integers import (
    corrections,
    inside,
    is_integer,
    shift_of,
    usual_way,
    way_of,
    ways_of,
    why_not,
    zero_of,
)
from strop.kernels.triton.parts import GpuKernel, Pointers, is_float, standard
from strop.kernels.triton.product import Params, Problem
from strop.ops.conv import Conv
from strop.ops.integer import IntegerConv
from strop.ops.mixed import MixedConv
from strop.ops.wide import WideConv
from strop.target.base import Target

#: Input channels up to which the window is one run of terms.
_FEW = 8


@dataclass(frozen=True)
class _Window:
    """A convolution in numbers. Spatial tuples have one entry per axis."""

    op: Conv | IntegerConv | WideConv
    x: View
    out: View
    kernel: tuple[int, ...]
    per_group: int
    outs: int
    halves: int

    @staticmethod
    def of(region: Region) -> _Window:
        op = region.op.plain() if isinstance(region.op, MixedConv) else region.op
        assert isinstance(op, (Conv, IntegerConv, WideConv))
        x, view = region.operand(0).view, region.operand(1).view
        w = view.shape
        return _Window(op, x, region.out, w[2:], w[1], w[0] // op.groups, product.halves_of(x.dtype, view.dtype))

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def few(self) -> bool:
        """Whether all of the window is one run of terms."""
        return self.taps > 1 and self.per_group <= _FEW

    @property
    def run(self) -> int:
        """Terms that are kept for a row of the window where its elements follow each other in memory, a power of two; 0 where they do not."""
        channels = self.per_group
        x = self.x
        dense = x.strides[1] == 1 and x.strides[-1] == channels and channels & (channels - 1) == 0 and self.op.dilations[-1] == 1
        dense = dense and self.rank <= 2 and all(s % channels == 0 for s in x.strides[2:])
        return power_of_two(self.kernel[-1] * channels) if self.few and dense and self.op.groups == 1 else 0

    def leaves(self, k: int) -> bool:
        """Whether windows reach outside along spatial axis k."""
        op = self.op
        last = (self.out.shape[2 + k] - 1) * op.strides[k] - op.pads[k] + (self.kernel[k] - 1) * op.dilations[k]
        return op.pads[k] > 0 or last >= self.x.shape[2 + k]

    def problem(self) -> Problem:
        rows = self.out.shape[0] * math.prod(self.out.shape[2:])
        dtype = self.x.dtype
        if self.run:
            return Problem(rows, self.outs, self.taps // self.kernel[-1] * self.run, 1, 1, dtype, self.halves)
        if self.few:
            return Problem(rows, self.outs, self.taps * self.per_group, 1, self.op.groups, dtype, self.halves)
        return Problem(rows, self.outs, self.per_group, self.taps, self.op.groups, dtype, self.halves)


def convolution(region: Region) -> str | None:
    """None for a convolution of N, C, ... with known weights, of floats or of 8-bit integers, without a bias; else what it is not."""
    op = region.op
    if not isinstance(op, (Conv, IntegerConv, WideConv)):
        return "it is no convolution"
    if op.layout != "NCHW" or region.operand(1).const is None:
        return "its weights are not known"
    if isinstance(op, IntegerConv):
        return why_not(region, math.prod(region.operand(1).view.shape[1:]))
    if region.anchors > 2 and region.operands[2] is not None:
        return "its bias is no part of the epilogue"
    return None if is_float(region.operand(0).view, region.operand(1).view, *region.outs) else "it is not a product of floats"


class ConvGemm(GpuKernel[Params]):
    """See the module's text."""

    name = "conv_gemm"

    def takes(self, region: Region, target: Target) -> str | None:
        if isinstance(region.op, MixedConv):
            return mixed.why_not(region) if region.op.layout == "NCHW" else "its channels are not the second axis"
        reason = convolution(region)
        if reason is not None:
            return reason
        if region.operand(1).view.shape[1] == 1 and _Window.of(region).op.groups > 1:
            return "every channel has a window of its own"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        return product.space(_Window.of(region).problem(), target)

    def cost(self, region: Region, params: Params, target: Target) -> float:
        window = _Window.of(region)
        slow = 1.2 if window.run else 2.5 if window.few else 1.15 if window.taps > 1 else 1.0
        return slow * product.cost(region, window.problem(), params, target)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        return _Emitter(region, params, target).emitted()


class _Emitter:
    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region, self.p, self.target = region, params, target
        self.window = _Window.of(region)
        self.problem = self.window.problem()
        self.w = Writer()
        self.outside = "0" if is_integer(self.problem.dtype) else "0.0"

    def emitted(self) -> GpuEmitted:
        window, p, problem = self.window, self.p, self.problem
        shape = window.out.shape
        places = (0, *range(2, len(shape)))
        m = Block("m", places, tuple(shape[a] for a in places), p.bm, product.checked(problem.rows, p.bm))
        n = Block("n", (1,), (window.outs,), p.bn, product.checked(window.outs, p.bn))
        groups = window.op.groups
        region = self.region if groups == 1 else _grouped(self.region, groups)
        rank = len(shape)
        b = Block("b", (rank,), (groups,), 0, False) if groups > 1 else None
        if groups > 1:
            n = Block("n", (1,), (window.outs,), p.bn, n.checked)
        weights = region.operand(1)
        pointers = standard(region, [("x", 0)])
        pointers.packed("w", problem.dtype if window.halves > 1 else weights.view.dtype, Packed(lambda: _packed(weights, window, p)))
        mixed.add_groups(pointers, self.region, p)
        launch, workspace, locks = product.write(
            self.w, region, problem, p, self.target, (m, n), b, self._start,
            self._runs if window.run else self._few if window.few else self._round, self._correct(pointers),
        )  # fmt: skip
        return pointers.emitted([launch], workspace, locks)

    def _correct(self, pointers: Pointers) -> Callable[[Tile], str] | None:
        """What zero points add to sums, see ``integers``; None where they add nothing. The table's row of windows that leave x nowhere is whole, others are
        what is added to it."""
        window, dtype = self.window, self.problem.dtype
        zero, shift = (zero_of(self.region), shift_of(dtype)) if is_integer(dtype) else (0, 0)
        sides = ways_of(self.region) if is_integer(dtype) else []
        ways = math.prod(side.ways for side in sides)
        inner = usual_way(sides)
        if zero == shift and (shift == 0 or ways == 1):
            return None
        columns, weights, region = ceil_div(window.outs, self.p.bn) * self.p.bn, self.region.operand(1), self.region
        groups = window.op.groups

        def table() -> Array:
            array = weights.logical
            assert array is not None
            sums = array.astype(np.int64).sum(axis=1).reshape(groups * window.outs, window.taps)
            found = corrections(sums, zero, dtype, inside(region, sides) if ways > 1 else None)
            found[:inner] -= found[inner]
            found[inner + 1 :] -= found[inner]
            found = found.reshape(ways, groups, window.outs).transpose(1, 0, 2)
            return np.pad(found, ((0, 0), (0, 0), (0, columns - window.outs)))

        pointers.packed("corrections", dt.i32, Packed(table))

        def text(tile: Tile) -> str:
            group = f" + b * {ways * columns}" if groups > 1 else ""
            way = way_of(self.w, sides, tile.blocks[0])
            if not way:
                return f"tl.load(corrections{group} + n)[None, :]"
            self.w(f"way = {way}")
            usual = f"tl.load(corrections{group} + {inner * columns} + n)[None, :]"
            return f"{usual} + tl.load(corrections{group} + way[:, None] * {columns} + n[None, :], mask=(way != {inner})[:, None], other=0)"

        return text

    def _rows(self, tile: Tile) -> None:
        """Offsets of the windows' first elements, and the windows' places along axes that they may leave."""
        window, w, op = self.window, self.w, self.window.op
        m = tile.blocks[0]
        strides = [window.x.strides[0], *(s * t for s, t in zip(op.strides, window.x.strides[2:], strict=True))]
        shift = sum(pad * s for pad, s in zip(op.pads, window.x.strides[2:], strict=False))
        text = m.offset(w, strides, wide_of(window.x)) or "m * 0"
        for k in range(window.rank):
            if window.leaves(k):
                w(f"at{k} = {m.axis(w, 1 + k)} * {op.strides[k]} - {op.pads[k]}")
        group = f" + b * {window.per_group * window.x.strides[1]}" if op.groups > 1 else ""
        w(f"rows = {text}{group}{f' - {shift}' if shift else ''}")

    def _start(self, tile: Tile) -> None:
        window, w, p = self.window, self.w, self.p
        self._rows(tile)
        w(f"k = tl.arange(0, {p.bk})")
        length = self._terms()
        columns = ceil_div(window.outs, p.bn) * p.bn
        group = f" + b * {columns * length}" if window.op.groups > 1 else ""
        w(f"w_tile = w{group} + n[None, :] * {length} + k[:, None]")
        if not window.few:
            step = window.x.strides[1]
            w(f"x_tile = x + rows[:, None] + {'k[None, :]' if step == 1 else f'k[None, :] * {step}'}")

    def _terms(self) -> int:
        """Terms of a column of weights as they are stored."""
        return self.problem.rounds(self.p.bk) * self.p.bk

    def _weights(self, step: str) -> list[str]:
        """Loads a round's weights."""
        names = ["c", "d"][: self.window.halves]
        whole = self.window.op.groups * ceil_div(self.window.outs, self.p.bn) * self.p.bn * self._terms()
        for half, name in enumerate(names):
            self.w(f"{name} = tl.load(w_tile + {step} * {self.p.bk}{f' + {half * whole}' if half else ''})")
        if isinstance(self.region.op, MixedConv):
            mixed.made_real(self.w, self.region, self.p, step, "c")
        return names

    def _round(self, tile: Tile, step: str) -> tuple[str, ...]:
        window, w, p = self.window, self.w, self.p
        op, per_tap = window.op, ceil_div(window.per_group, p.bk)
        masks = [f"(m < {self.problem.rows})[:, None]"] if tile.blocks[0].checked else []
        stride = window.x.strides[1]
        shift, channel = f"{step} * {p.bk * stride}", f"{step} * {p.bk}"
        if window.taps > 1:
            tap = step
            if per_tap > 1:
                w(f"tap = {step} // {per_tap}", f"channel = ({step} % {per_tap}) * {p.bk}")
                tap, channel = "tap", "channel"
            else:
                channel = "0"
            terms = [] if channel == "0" else [f"{channel} * {stride}" if stride != 1 else channel]
            inside = []
            inner = window.taps
            for k in range(window.rank):
                inner //= window.kernel[k]
                if window.kernel[k] == 1:
                    continue
                name = f"k{k}"
                whole = k == 0 or math.prod(window.kernel[:k]) == 1
                text = tap if inner == 1 else f"{tap} // {inner}"
                w(f"{name} = {text}{'' if whole else f' % {window.kernel[k]}'}")
                terms.append(f"{name} * {op.dilations[k] * window.x.strides[2 + k]}")
            for k in range(window.rank):
                if window.leaves(k):
                    moved = f"(at{k} + k{k} * {op.dilations[k]})" if window.kernel[k] > 1 else f"at{k}"
                    inside.append(f"({moved} >= 0) & ({moved} < {window.x.shape[2 + k]})")
            if inside:
                w(f"inside = {' & '.join(inside)}")
                masks.append("inside[:, None]")
            shift = " + ".join(terms)
        elif any(window.leaves(k) for k in range(window.rank)):
            masks.append(f"({' & '.join(f'(at{k} >= 0) & (at{k} < {window.x.shape[2 + k]})' for k in range(window.rank) if window.leaves(k))})[:, None]")
        if window.per_group % p.bk:
            masks.append(f"({channel} + k < {window.per_group})[None, :]")
        mask = masked(masks, self.outside)
        w(f"a = tl.load(x_tile + {shift}{mask})" if shift else f"a = tl.load(x_tile{mask})")
        return "a", *self._weights(step)

    def _runs(self, tile: Tile, step: str) -> tuple[str, ...]:
        """A round over rows of the window whose elements follow each other in memory."""
        window, w, p = self.window, self.w, self.p
        channels, run, last = window.per_group, window.run, window.rank - 1
        used = window.kernel[-1] * channels
        w(f"term = {step} * {p.bk} + k", f"within = term % {run}")
        masks = [f"(within < {used})[None, :]"] if used != run else []
        masks += [f"(term < {self.problem.terms})[None, :]"] if self.problem.terms % p.bk else []
        masks += [f"(m < {self.problem.rows})[:, None]"] if tile.blocks[0].checked else []
        shift = ""
        if window.rank == 2:
            w(f"k0 = term // {run}")
            shift = f" + (k0 * {window.op.dilations[0] * window.x.strides[2]})[None, :]"
            if window.leaves(0):
                w(f"across = at0[:, None] + (k0 * {window.op.dilations[0]})[None, :]")
                masks.append(f"(across >= 0) & (across < {window.x.shape[2]})")
        if window.leaves(last):
            w(f"along = at{last}[:, None] + (within // {channels})[None, :]")
            masks.append(f"(along >= 0) & (along < {window.x.shape[2 + last]})")
        w(f"a = tl.load(x + rows[:, None] + within[None, :]{shift}{masked(masks, self.outside)})")
        return "a", *self._weights(step)

    def _few(self, tile: Tile, step: str) -> tuple[str, ...]:
        """A round over terms that are taken apart into tap and channel one by one."""
        window, w, p = self.window, self.w, self.p
        op, inner = window.op, window.taps * window.per_group
        w(f"term = {step} * {p.bk} + k")
        moved = []
        terms = []
        channels = window.per_group
        for k in range(window.rank):
            inner //= window.kernel[k]
            text = f"term // {inner}" if inner > 1 else "term"
            w(f"k{k} = {text}{'' if k == 0 else f' % {window.kernel[k]}'}")
            terms.append(f"k{k} * {op.dilations[k] * window.x.strides[2 + k]}")
            if window.leaves(k):
                place = f"(at{k}[:, None] + (k{k} * {op.dilations[k]})[None, :])"
                moved.append(f"({place} >= 0) & ({place} < {window.x.shape[2 + k]})")
        if channels > 1:
            terms.append(f"term % {channels} * {window.x.strides[1]}")
        masks = [f"(term < {self.problem.terms})[None, :]", *moved]
        if tile.blocks[0].checked:
            masks.append(f"(m < {self.problem.rows})[:, None]")
        w(f"a = tl.load(x + rows[:, None] + ({' + '.join(terms)})[None, :]{masked(masks, self.outside)})")
        return "a", *self._weights(step)


def _packed(weights: Operand, window: _Window, p: Params) -> Array:
    """[halves][groups][columns, a multiple of bn][terms, each tap a multiple of bk]."""
    array = weights.logical
    assert array is not None
    groups, outs = window.op.groups, window.outs
    array = array.reshape(groups, outs, window.per_group, window.taps).transpose(0, 1, 3, 2)
    taps, terms = (1, window.taps * window.per_group) if window.few else (window.taps, window.per_group)
    if window.run:
        rows = window.taps // window.kernel[-1]
        array = array.reshape(outs, rows, window.kernel[-1] * window.per_group)
        array = np.pad(array, ((0, 0), (0, 0), (0, window.run - array.shape[2])))
        terms = rows * window.run
    array = array.reshape(groups, outs, taps, terms)
    grown = np.zeros((groups, ceil_div(outs, p.bn) * p.bn, taps, ceil_div(terms, p.bk) * p.bk), array.dtype)
    grown[:, :outs, :, :terms] = array
    return product.halved(grown, window.halves)


def _grouped(region: Region, groups: int) -> Region:
    """The region with a last logical axis of groups; the channel axis counts within a group."""

    def turn(view: View) -> View:
        count = view.shape[1] // groups if view.shape[1] > 1 else 1
        shape = (view.shape[0], count, *view.shape[2:], groups)
        return View(shape, (*view.strides, view.strides[1] * count), view.dtype)

    operands = tuple(
        operand if operand is None or k < region.anchors else Operand(turn(operand.view), operand.const, operand.name)
        for k, operand in enumerate(region.operands)
    )
    return Region(region.name, region.op, operands, region.anchors, region.epilogue, tuple(map(turn, region.outs)), region.source, region.work)


KERNEL = ConvGemm()
