"""A transposed convolution taken apart into ordinary convolutions of stride 1, one per phase.

Result ``o`` along an axis reads input ``i`` through tap ``t`` where ``i * stride + t * dilation - pad = o`` (ONNX ConvTranspose, the gradient of
Conv). Results with equal remainder ``o % stride``, a *phase*, use the same taps, and the inputs they read move by one from a result to the next:
a phase is a convolution with a part of the filter, whose results lie ``stride`` apart. Nothing is copied: the phase's result is a strided
view, and an input that begins later is a view too.

Phases of neighbouring columns that read the same inputs, as all do where the filter is as wide as the stride, become one convolution with their
channels side by side, if that is how the results lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import gcd
from weakref import WeakKeyDictionary

import numpy as np

from strop.ir.op import Array
from strop.kernels.base import Operand, Region, View
from strop.kernels.extent import SymbolicError, highest, is_symbolic, lowest, may_reach
from strop.ops.conv import Conv, ConvTranspose


@dataclass(frozen=True)
class Part:
    """The results ``first``, ``first + stride``, ... of one axis.

    Attributes:
        first: the first result.
        size: how many there are.
        taps: indices into the filter in the order of the inputs they meet; empty when no input is met.
        dilation: inputs between neighbouring taps.
        start: input that the first tap of the first result meets; may be negative.
    """

    first: int
    size: int
    taps: tuple[int, ...]
    dilation: int
    start: int


@dataclass(frozen=True, eq=False)
class Phase:
    """A convolution of stride 1 over NCHW.

    Attributes:
        region: what it computes, with the epilogue of the whole.
        x: elements from the input's first to the phase's first.
        y: the same for the result.
        extras: the same for each operand of the epilogue.
        made: arrays that stand for operands of the epilogue, by their number.
    """

    region: Region
    x: int
    y: int
    extras: tuple[int, ...]
    made: dict[int, Array]


def parts_of(inputs: int, results: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Part]:
    """The phases of an axis that have results.

    Raises:
        SymbolicError: it depends on a run whether a phase has results or meets inputs.
    """
    step = stride // gcd(stride, dilation)
    found = []
    for first in range(stride):
        size = (results - first + stride - 1) // stride
        if is_symbolic(size) and lowest(size) < 1:
            raise SymbolicError(f"it has fewer results than its stride of {stride} for some sizes")
        if size < 1:
            continue
        met = [t for t in range(kernel) if (first + pad - t * dilation) % stride == 0]
        taps = tuple(reversed(met))
        start = (first + pad - taps[0] * dilation) // stride if taps else 0
        spread = step * dilation // stride
        last = start + (len(taps) - 1) * spread + size - 1
        if is_symbolic(last) and lowest(last) < 0 <= highest(last):
            raise SymbolicError("a phase meets no input for some sizes")
        if start > 0 and is_symbolic(inputs) and lowest(inputs) <= start:
            raise SymbolicError("a phase meets no input for some sizes")
        if taps and (highest(last) < 0 or start >= highest(inputs)):
            taps = ()
        found.append(Part(first, size, taps, spread if len(taps) > 1 else 1, start if taps else 0))
    return found


_known: WeakKeyDictionary[Region, list[Phase] | str] = WeakKeyDictionary()


def taken_apart(region: Region) -> list[Phase]:
    """The convolutions of a region that is taken apart."""
    phases = phases_of(region)
    assert not isinstance(phases, str), phases
    return phases


def phases_of(region: Region) -> list[Phase] | str:
    """What ``_phases_of`` finds, once per region."""
    if region not in _known:
        _known[region] = _phases_of(region)
    return _known[region]


def _phases_of(region: Region) -> list[Phase] | str:
    """The convolutions that together do the region, or why it is not taken apart.

    Raises:
        SymbolicError: see ``parts_of``.
    """
    op = region.op
    if not isinstance(op, ConvTranspose):
        return "the anchor is not conv_transpose"
    if not region.all_floats():
        return "not f32 or 16-bit floats"
    if region.anchors != 2 or region.operand(1).const is None:
        return "weights are not constant, or the bias is not in the epilogue"
    spatial = len(op.strides)
    if spatial > 2:
        return f"{spatial} spatial axes"
    if region.out.count == 0 or region.operand(0).view.count == 0:
        return "the result or the input is empty"
    x, y = _four(region.operand(0).view), _four(region.out)
    weight = region.operand(1).const
    assert weight is not None
    taps = weight.reshape(*weight.shape[:2], *(1,) * (2 - spatial), *weight.shape[2:])
    lead = 2 - spatial
    axes = [
        parts_of(x.shape[2 + k], y.shape[2 + k], taps.shape[2 + k], s, p, d)
        for k, (s, p, d) in enumerate(
            zip((1,) * lead + op.strides, (0,) * lead + op.pads[:spatial], (1,) * lead + op.dilations, strict=True)
        )
    ]
    stride = ((1,) * lead + op.strides)[0], op.strides[-1]
    whole = _Whole(region, op.groups, x, y, taps, [_four(e.view) for e in region.extras], stride)
    columns = axes[1]
    if len(columns) > 1 and _alike(columns) and whole.side_by_side is not None:
        return [whole.phase(row, columns) for row in axes[0]]
    return [whole.phase(row, [column]) for row, column in product(*axes)]


def _alike(parts: Sequence[Part]) -> bool:
    """True when all read the same inputs."""
    a = parts[0]
    return all(b.size == a.size and (b.start, b.dilation, len(b.taps)) == (a.start, a.dilation, len(a.taps)) for b in parts)


def _four(view: View) -> View:
    """N, C, W as N, C, 1, W."""
    if len(view.shape) == 4:
        return view
    (n, c, w), (sn, sc, sw) = view.shape, view.strides
    return View((n, c, 1, w), (sn, sc, 0, sw), view.dtype)


class _Whole:
    """What all phases share."""

    def __init__(
        self, region: Region, groups: int, x: View, y: View, taps: Array, extras: list[View], stride: tuple[int, int]
    ) -> None:
        self.region = region
        self.groups = groups
        self.x, self.y = x, y
        self.taps = taps  # [C, O / groups, kh, kw]
        self.extras = extras
        self.stride = stride
        self.channels = y.shape[1]
        self._repeated: dict[int, Array] = {}

    @cached_property
    def side_by_side(self) -> list[int] | None:
        """Per epilogue operand the elements between channels when those of neighbouring columns are counted on; None when the result or an
        operand does not lie like that."""
        if self.groups != 1 or not self._on(self.y):
            return None
        found = []
        for number, view in enumerate(self.extras):
            n, c, h, w = (0 if d == 1 else s for d, s in zip(view.shape, view.strides, strict=True))
            if c == 0 and w == 0:
                found.append(0)
            elif self._on(view):
                found.append(1)
            elif n == h == w == 0 and self.region.extras[number].const is not None:
                found.append(1)
                self._repeat(number, c)
            else:
                return None
        return found

    def _on(self, view: View) -> bool:
        return view.strides[3] == self.channels and (self.channels == 1 or view.strides[1] == 1)

    def _repeat(self, number: int, step: int) -> None:
        """Repeats a constant that varies by channel for every column."""
        const = self.region.extras[number].const
        assert const is not None
        once = const.reshape(-1)[np.arange(self.channels) * step]
        self._repeated[number] = np.tile(once, self.stride[1])

    def phase(self, row: Part, columns: Sequence[Part]) -> Phase:
        """The convolution for these results; several ``columns`` lie side by side."""
        column, wide = columns[0], len(columns) > 1
        meets = bool(row.taps) and any(c.taps for c in columns)
        filters = [self._filters(row, c) for c in columns]
        weight = np.ascontiguousarray(np.concatenate(filters))
        starts = [row.start, column.start]
        if not meets:  # all inputs lie below the image: zeros
            weight, starts = np.zeros((len(weight), weight.shape[1], 1, 1), weight.dtype), [-highest(row.size), 0]
        x, skipped = self._from(starts)
        befores = [max(0, -s) for s in starts]
        spreads = [row.dilation, column.dilation] if meets else [1, 1]
        afters = [
            self._beyond(part.size - 1 + (weight.shape[2 + k] - 1) * spreads[k] - befores[k], x.shape[2 + k])
            for k, part in enumerate((row, column))
        ]
        op = Conv((1, 1), (*befores, *afters), (spreads[0], spreads[1]), self.groups)
        steps = self.side_by_side if wide else None
        shape = (self.y.shape[0], len(weight), row.size, column.size)
        views = [self.y, *self.extras]
        between = [1, *steps] if steps is not None else [v.strides[1] for v in views]
        strided = [
            View(shape, (v.strides[0], step, v.strides[2] * self.stride[0], v.strides[3] * self.stride[1]), v.dtype)
            for v, step in zip(views, between, strict=True)
        ]
        offsets = [row.first * v.strides[2] + column.first * v.strides[3] for v in views]
        made = dict(self._repeated) if wide else {}
        for number in made:
            strided[1 + number] = View(shape, (0, 1, 0, 0), self.extras[number].dtype)
            offsets[1 + number] = 0
        operands = (
            Operand(x, None, self.region.operand(0).name),
            Operand(View.dense(weight.shape, self.region.operand(1).view.dtype), weight, self.region.operand(1).name),
            *(Operand(v, made.get(k, e.const), e.name) for k, (v, e) in enumerate(zip(strided[1:], self.region.extras, strict=True))),
        )  # fmt: skip
        region = Region(self.region.name, op, operands, 2, self.region.epilogue, (strided[0],), self.region.source)
        return Phase(region, skipped, offsets[0], tuple(offsets[1:]), made)

    def _filters(self, row: Part, column: Part) -> Array:
        """The part of the filters, [O, C / groups, rows, columns]."""
        c, o = self.taps.shape[:2]
        part = self.taps[:, :, list(row.taps or (0,))][:, :, :, list(column.taps or (0,))]
        grouped = part.reshape(self.groups, c // self.groups, o, *part.shape[2:]).transpose(0, 2, 1, 3, 4)
        return np.asarray(grouped.reshape(self.groups * o, c // self.groups, *part.shape[2:]))

    def _from(self, starts: Sequence[int]) -> tuple[View, int]:
        """The input without what lies before all that is read, and the elements skipped."""
        shape, offset = list(self.x.shape), 0
        for k, start in enumerate(starts):
            if start > 0:
                shape[2 + k] -= start
                offset += start * self.x.strides[2 + k]
        return View(tuple(shape), self.x.strides, self.x.dtype), offset

    @staticmethod
    def _beyond(last: int, size: int) -> int:
        """Zeros read after the input, when ``last`` is the last input read; 1 stands for any number where only a run knows."""
        more = last - (size - 1)
        if is_symbolic(more):
            return 1 if may_reach(more, 1) else 0
        return max(0, more)
