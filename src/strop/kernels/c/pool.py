"""Maximum and average pools of floats of up to 32 bits, and maxima of 8-bit integers, in 1 to 3 spatial axes, vectors along the channels, borders clipped, epilogue fused.

``direct`` folds all taps of a window at every result. ``rows`` folds whole input rows first, down all spatial axes but the last, into
scratch, and then along the last axis, which takes fewer loads where windows overlap much.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.kernels.base import (
    Emitted,
    In,
    Kernel,
    Out,
    Packed,
    Pointer,
    Region,
    View,
    memory_seconds,
)
from strop.kernels.c.rows import (
    Finish,
    Tail,
    Track,
    address,
    indices,
    row_loop,
    rows_per_task,
    vectors,
)
from strop.kernels.c.vector import FLOATS, mixed, stored, vector_type
from strop.kernels.c.writer import Writer, literal
from strop.kernels.extent import SymbolicError, is_symbolic, may_reach
from strop.ops.base import lowest
from strop.ops.pool import AveragePool, MaxPool
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Longest window along the last axis that is unrolled.
_UNROLL = 9


@dataclass(frozen=True)
class Params:
    """way: ``direct`` or ``rows``; vectors: of channels side by side."""

    way: str
    vectors: int


@dataclass(frozen=True)
class _Axis:
    """A spatial axis: sizes of the input and the result, window, step, dilation, padding before; elements between the input's neighbours."""

    size: int
    out: int
    kernel: int
    step: int
    dilation: int
    before: int
    stride: int

    @property
    def clipped(self) -> bool:
        """Whether some window leaves the input."""
        last = (self.out - 1) * self.step - self.before + (self.kernel - 1) * self.dilation
        return self.before > 0 or may_reach(last, self.size)

    def first(self, position: str) -> str:
        """C text of the input's index under the first tap."""
        text = f"{position} * {self.step}" if self.step > 1 else position
        return f"{text} - {self.before}" if self.before else text


class Pool(Kernel[Params]):
    """See the module's text."""

    name = "pool"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, (MaxPool, AveragePool)):
            return "the anchor is not a pool"
        types = [region.operand(0).view.dtype, *(e.view.dtype for e in region.extras)]
        if not region.all_floats() and not _bytes(region):
            return "neither f32, 16-bit floats nor a maximum of 8- or 16-bit integers"
        if not mixed(region.epilogue, types):
            return "the epilogue has no vector form"
        if region.out.count == 0:
            return "the result is empty"
        if is_symbolic(region.out.shape[1]):
            return "the number of channels is not fixed"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        axes = _axes(region)
        width = -(-region.out.shape[1] // ISAS[target.isa].lanes)
        overlap = len(axes) > 1 and axes[-1].kernel > 1 and any(a.kernel > 1 for a in axes[:-1])
        ways = ("direct", "rows") if overlap else ("direct",)
        found = [Params(way, n) for way in ways for n in (1, 2, 4) if n <= width]
        return sorted(found, key=lambda p: self.cost(region, p, target))

    def cost(self, region: Region, params: Params, target: Target) -> float:
        *outer, last = _axes(region)
        lanes = ISAS[target.isa].lanes
        vectors = -(-region.out.shape[1] // lanes)
        down, along = sh.count([a.kernel for a in outer]), last.kernel
        rows = region.out.shape[0] * sh.count([a.out for a in outer])
        load = 1.5 if region.operand(0).view.strides[1] == 1 else 1.5 * lanes
        if params.way == "direct":
            cycles = rows * last.out * vectors * (down * (along * load + 1.0 / params.vectors) + 6.0)
        else:
            cycles = rows * vectors * (last.size * (down * load + 2.0) + last.out * (1.5 * along + 6.0))
        cycles *= 1.0 + 0.2 / params.vectors
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target)) + 1e-8

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _bytes(region: Region) -> bool:
    """True for the plain maximum of 8- or 16-bit integers whose channels are consecutive."""
    x = region.operand(0).view
    plain = isinstance(region.op, MaxPool) and not region.has_epilogue
    return plain and x.dtype in (dt.u8, dt.i8, dt.i16) and x.strides[1] == 1 and region.out.strides[1] == 1


def _axes(region: Region) -> list[_Axis]:
    op = region.op
    assert isinstance(op, (MaxPool, AveragePool))
    x = region.operand(0).view
    return [
        _Axis(x.shape[2 + k], region.out.shape[2 + k], op.kernel[k], op.strides[k], op.dilations[k], op.pads[k], x.strides[2 + k])
        for k in range(len(op.kernel))
    ]


def _counts(op: AveragePool, axis: int, size: int, out: int) -> list[int]:
    """Taps that count at every position of a result along a spatial axis, at least 1."""
    after = op.pads[len(op.kernel) + axis]
    low, high = (-op.pads[axis], size + after) if op.count_include_pad else (0, size)
    starts = [k * op.strides[axis] - op.pads[axis] for k in range(out)]
    taps = [[s + t * op.dilations[axis] for t in range(op.kernel[axis])] for s in starts]
    return [max(1, sum(low <= at < high for at in places)) for places in taps]


class _Emitter:
    """Holds what the pieces of one emission share. Views are numbered result, x, extras."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region = region
        self.params = params
        self.target = target
        self.lanes = ISAS[target.isa].lanes
        *self.outer, self.last = _axes(region)
        self.channels = region.out.shape[1]
        self.wide = params.vectors * self.lanes
        self.views: list[View] = [region.out, region.operand(0).view, *(e.view for e in region.extras)]
        self.names = ["y", "x", *(f"e{k}" for k in range(len(region.extras)))]
        self.pointers: list[Pointer] = [Out(0), In(0), *(In(region.anchors + k) for k in range(len(region.extras)))]
        self.average = isinstance(region.op, AveragePool)
        #: Type of the elements, and of partial results.
        self.kind = region.operand(0).view.dtype
        self.held = dt.f32 if self.kind in FLOATS else dt.i32
        self.w = Writer()

    def emitted(self) -> Emitted:
        w = self.w
        for k, name in enumerate(self.names):
            w(f"{'' if k == 0 else 'const '}{self.views[k].dtype.c} *{name} = a->p[{k}];")
        scale = self._scales()
        scratch = 0
        if self.params.way == "rows":
            scratch = self.last.size * self.wide * 4
            w(f"{self.held.c} *folded = a->scratch;")
        extents = [self.region.out.shape[0], *(a.out for a in self.outer)]
        rows = sh.count(extents)
        taps = sh.count([a.kernel for a in (*self.outer, self.last)])
        per_task = rows_per_task(rows, self.last.out * self.channels * taps, self.target)
        with row_loop(w, rows, per_task) as row:
            places = indices(w, row, extents, "o")
            self._row(places, scale)
        return Emitted(w.text(), tuple(self.pointers), -(-rows // per_task), scratch)

    # ---- averages

    def _scales(self) -> list[str]:
        """C texts whose product is what a sum is multiplied with; {o} stands for the axis' position. Tables of counts become pointers."""
        op = self.region.op
        if not isinstance(op, AveragePool):
            return []
        constant, found = 1.0, []
        for k, axis in enumerate((*self.outer, self.last)):
            if is_symbolic(axis.size, axis.out):
                found.append(self._share_of(op, axis, f"s{k}" if axis is not self.last else "k"))
                constant *= 1 if found[-1] else axis.kernel
                continue
            counts = _counts(op, k, axis.size, axis.out)
            if len(set(counts)) == 1:
                constant *= counts[0]
                found.append("")
                continue
            name = f"share{k}"
            self.w(f"const float *{name} = a->p[{len(self.pointers)}];")
            self.pointers.append(Packed(1.0 / np.asarray(counts, np.float32)))
            found.append(f"{name}[{{o}}]")
        return [literal(1.0 / constant, dt.f32), *found]

    @staticmethod
    def _share_of(op: AveragePool, axis: _Axis, name: str) -> str:
        """C text of 1 / taps that count along an axis of run-time size, from what ``_clip`` declares; empty when all taps do."""
        if op.ceil_mode and op.count_include_pad:
            raise SymbolicError("windows that begin in the padding count fewer taps")
        if op.count_include_pad or not axis.clipped:
            return ""
        return f"(1.0f / (float)({name}_to - {name}_from))"

    # ---- rows

    def _row(self, places: list[str], scale: list[str]) -> None:
        """One row of results: all positions along the last axis, all channels."""
        w = self.w
        batch, *positions = places
        for k, view in enumerate(self.views):
            strides = (view.strides[0], *(view.strides[2:-1] if k != 1 else ()))
            terms = [batch, *(positions if k != 1 else ())]
            w(f"{'' if k == 0 else 'const '}{view.dtype.c} *{self.names[k]}_row = {address(self.names[k], strides, terms)};")
        for k, (axis, at) in enumerate(zip(self.outer, positions, strict=True)):
            w(f"const int64_t h{k} = {axis.first(at)};")
            self._clip(axis, f"h{k}", f"s{k}")
        if self.average:
            factors = [t.format(o=o) for t, o in zip(scale[1:-1], positions, strict=True) if t]
            w(f"const float share = {' * '.join([scale[0], *factors])};")
        body = self._direct if self.params.way == "direct" else self._folded
        body(scale[-1].format(o="o") if scale else "")

    def _clip(self, axis: _Axis, first: str, name: str) -> None:
        """Declares ``name``_from and ``name``_to, the taps inside the input."""
        if not axis.clipped:
            return
        d = axis.dilation
        low = f"-{first}" if d == 1 else f"(-{first} + {d - 1}) / {d}"
        room = f"{axis.size} - {first}"
        high = room if d == 1 else f"({room} + {d - 1}) / {d}"
        self.w(f"const int64_t {name}_from = {first} < 0 ? {low} : 0;")
        self.w(f"const int64_t {name}_to = {first} + {axis.kernel * d - d} < {axis.size} ? {axis.kernel} : {high};")

    def _bounds(self, axis: _Axis, name: str) -> tuple[str, str]:
        return (f"{name}_from", f"{name}_to") if axis.clipped else ("0", str(axis.kernel))

    def _blocks(self) -> list[tuple[str, int]]:
        """Loops over channels: (head of the loop, elements), the last one may be a narrower block."""
        whole, rest = divmod(self.channels, self.wide)
        found = []
        if whole > 1:
            found.append((f"for (int64_t c = 0; c < {whole * self.wide}; c += {self.wide})", self.wide))
        elif whole == 1:
            found.append(("", self.wide))
        if rest:
            found.append(("", rest))
        return found

    def _channel_loop(self, scope: ExitStack, head: str, width: int) -> None:
        scope.enter_context(self.w.block(head))
        if not head:
            self.w(f"const int64_t c = {0 if width == self.wide or self.channels < self.wide else self.channels - width};")

    def _down(self, scope: ExitStack) -> str:
        """Loops over the taps of the outer spatial axes; returns the C text of the input row's address."""
        strides, terms = [], []
        for k, axis in enumerate(self.outer):
            low, high = self._bounds(axis, f"s{k}")
            scope.enter_context(self.w.loop(f"t{k}", high, start=low))
            strides.append(axis.stride)
            terms.append(f"(h{k} + t{k}{f' * {axis.dilation}' if axis.dilation > 1 else ''})")
        return address("x_row", (*strides, self.views[1].strides[1]), (*terms, "c"))

    def _start(self, count: int) -> None:
        start = "vzero()" if self.average else "vset1(-INFINITY)" if self.held is dt.f32 else f"vset1_i({lowest(self.kind)})"
        self.w(f"{vector_type(self.held)} " + ", ".join(f"m{v} = {start}" for v in range(count)) + ";")

    def _fold(self, loads: Sequence[tuple[str, Tail]], track: Track) -> None:
        for v, (at, tail) in enumerate(loads):
            element = track.load(at, tail)
            larger = "vmax" if self.held is dt.f32 else "vmax_i"
            self.w(f"m{v} = m{v} + {element};" if self.average else f"m{v} = {larger}(m{v}, {element});")

    def _loads(self, width: int) -> list[tuple[str, Tail]]:
        return [(at, tail) for at, tail, _ in vectors(self.w, width, self.lanes, 10**9)]

    def _along(self, loads: Sequence[tuple[str, Tail]], row: str, step: int, stride: int, kind: DType) -> None:
        """Folds the taps of the last axis; ``stride`` elements of type ``kind`` lie between columns of the row, ``step`` between channels."""
        w, axis = self.w, self.last
        low, high = self._bounds(axis, "k")
        jump = axis.dilation * stride
        w(f"const {kind.c} *at = {row};")
        if axis.kernel > _UNROLL:
            with w.loop("k", high, start=low):
                self._fold(loads, Track(f"at + k * {jump}", step, kind))
            return
        with ExitStack() as scope:
            if axis.clipped:
                scope.enter_context(w.block(f"if (k_to - k_from == {axis.kernel})"))
            for k in range(axis.kernel):
                self._fold(loads, Track(f"at + {k * jump}" if k else "at", step, kind))
        if axis.clipped:
            with w.block("else"), w.loop("k", high, start=low):
                self._fold(loads, Track(f"at + k * {jump}", step, kind))

    def _store(self, loads: Sequence[tuple[str, Tail]], share: str) -> None:
        """Scales averages, applies the epilogue and stores the block at position ``o``."""
        w = self.w
        tracks = [
            Track(address(f"{self.names[k]}_row", (view.strides[-1], view.strides[1]), ("o", "c")), view.strides[1], view.dtype)
            for k, view in enumerate(self.views)
        ]
        finish = Finish(w, self.region.epilogue, tracks[0], tracks[2:], anchor=self.kind)
        if self.average:
            w(f"const vf scale = vset1(share{f' * {share}' if share else ''});")
        for v, (at, tail) in enumerate(loads):
            with w.block(""):
                w(f"const {vector_type(self.held)} v = m{v}{' * scale' if self.average else ''};")
                finish.store(at, "v", tail)

    # ---- the two ways

    def _direct(self, share: str) -> None:
        w, axis = self.w, self.last
        with w.loop("o", axis.out):
            w(f"const int64_t left = {axis.first('o')};")
            self._clip(axis, "left", "k")
            for head, width in self._blocks():
                with ExitStack() as scope:
                    self._channel_loop(scope, head, width)
                    loads = self._loads(width)
                    self._start(len(loads))
                    with ExitStack() as taps:
                        row = self._down(taps)
                        self._along(loads, f"{row} + left * {axis.stride}", self.views[1].strides[1], axis.stride, self.kind)
                    self._store(loads, share)

    def _folded(self, share: str) -> None:
        w, axis = self.w, self.last
        for head, width in self._blocks():
            with ExitStack() as scope:
                self._channel_loop(scope, head, width)
                loads = self._loads(width)
                with w.loop("i", axis.size):
                    self._start(len(loads))
                    with ExitStack() as taps:
                        row = self._down(taps)
                        self._fold(loads, Track(f"{row} + i * {axis.stride}", self.views[1].strides[1], self.kind))
                    for v, (at, _) in enumerate(loads):
                        w(stored(self.held, f"folded + i * {self.wide} + {at}", f"m{v}", 1))
                with w.loop("o", axis.out):
                    w(f"const int64_t left = {axis.first('o')};")
                    self._clip(axis, "left", "k")
                    self._start(len(loads))
                    whole = [(at, 0) for at, _ in loads]
                    self._along(whole, f"folded + left * {self.wide}", 1, self.wide, self.held)
                    self._store(loads, share)


KERNEL = Pool()
