"""Depthwise convolution over channels-last activations: vectors of channels, register tiles of
neighbouring output pixels.

A tile is ``width`` output pixels of one row by one vector of channels. Every input vector under the
tile is loaded once per kernel row and multiplied into all accumulators it touches. Taps that fall
into the padding left and right are left out when the code is made: the tiles of a row are sorted
into runs with equal taps, so the long inner run has no checks at all. Rows above and below are
skipped as whole kernel rows.

Weights are packed as [multiplier][channel vector][kh][kw][lanes], padded with zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from strop.ir.dtype import DType
from strop.ir.op import Array
from strop.kernels.base import (
    Emitted,
    In,
    Kernel,
    Out,
    Packed,
    Region,
    View,
    accepted,
    memory_seconds,
)
from strop.kernels.c.tile import Side, Tile, shorter
from strop.kernels.c.vector import loaded, vectorizable
from strop.kernels.c.writer import Writer
from strop.kernels.extent import is_symbolic, lesser, may_reach, typical
from strop.ops.conv import Conv
from strop.target.base import Target
from strop.target.isa.base import Isa
from strop.target.isa.table import ISAS

#: Tile widths worth trying.
_WIDTHS = (4, 5, 6, 7, 8, 10, 12, 14)
#: Runs of unlike tiles in one row above which the code would be long for little use.
_MAX_RUNS = 24
#: Multiply-adds (of vectors) below which a task does not pay.
_GRAIN = 20_000
#: Cycles until a multiply-add's result can be used again.
_LATENCY = 4


@dataclass(frozen=True)
class Window:
    """One spatial axis: input size, result size, and how the window moves."""

    size: int
    out: int
    kernel: int
    stride: int
    pad: int
    dilation: int

    def taps(self, start: int, count: int) -> tuple[tuple[int, int], ...]:
        """(pixel of the tile, tap) pairs inside the input, for outputs start .. start + count."""
        return tuple(
            (pixel, tap)
            for tap in range(self.kernel)
            for pixel in range(count)
            if 0 <= (start + pixel) * self.stride - self.pad + tap * self.dilation < self.size
        )

    @property
    def clips(self) -> bool:
        """True when some output's window leaves the input."""
        last = (self.out - 1) * self.stride - self.pad + (self.kernel - 1) * self.dilation
        return self.pad > 0 or may_reach(last, self.size)

    @property
    def moves(self) -> bool:
        """True when only a run knows the sizes."""
        return is_symbolic(self.size, self.out)


@dataclass(frozen=True)
class Run:
    """Neighbouring tiles of ``width`` outputs with equal taps: ``tiles`` of them from output
    ``start`` on. Without taps (None): they are those from ``kw_from`` to ``kw_to`` of the code."""

    start: int
    width: int
    tiles: int
    taps: tuple[tuple[int, int], ...] | None


def runs(window: Window, width: int) -> list[Run]:
    """A row of outputs cut into tiles, equal neighbours joined."""
    found: list[Run] = []
    for start in range(0, window.out, width):
        count = min(width, window.out - start)
        taps = window.taps(start, count)
        last = found[-1] if found else None
        if last is not None and last.width == count and last.taps == taps:
            found[-1] = Run(last.start, last.width, last.tiles + 1, taps)
        else:
            found.append(Run(start, count, 1, taps))
    return found


@dataclass(frozen=True)
class Geometry:
    """Sizes and strides (n, channel, row, column; in elements) of a depthwise region."""

    n: int
    channels: int
    multiplier: int
    rows: Window
    columns: Window
    x: tuple[int, int, int, int]
    y: tuple[int, int, int, int]
    extras: tuple[tuple[int, int, int, int], ...]

    @property
    def taps(self) -> int:
        """Multiply-adds per output."""
        return self.rows.kernel * self.columns.kernel


def geometry_of(region: Region) -> Geometry | str:
    """The geometry, or why the region is not done here."""
    op = region.op
    if not isinstance(op, Conv):
        return "the anchor is not conv"
    inputs = [o.view.dtype for o in (region.operand(0), *region.extras)]
    if not region.all_floats() or not vectorizable(region.epilogue, [inputs[0], *inputs[1:]]):
        return "not f32 or 16-bit floats, or the epilogue has no vector form"
    if region.anchors != 2 or region.operand(1).const is None:
        return "weights are not constant, or the bias is not in the epilogue"
    x, w, out = region.operand(0).view, region.operand(1).view, region.out
    rank = len(x.shape)
    if rank not in (3, 4):
        return f"{rank - 2} spatial axes"
    if op.groups < 2 or w.shape[1] != 1:
        return "not depthwise"
    if out.count == 0:
        return "the result is empty"
    channel, spatial = op.channel_axis(rank), op.spatial_axes(rank)

    def strides(view: View) -> tuple[int, int, int, int]:
        s = [0 if d == 1 else s for d, s in zip(view.shape, view.strides, strict=True)]
        return (s[0], s[channel], s[spatial[0]] if rank == 4 else 0, s[spatial[-1]])

    k = rank - 2
    windows = [
        Window(x.shape[a], out.shape[a], w.shape[2 + i], op.strides[i], op.pads[i], op.dilations[i])
        for i, a in enumerate(spatial)
    ]
    rows = windows[0] if k == 2 else Window(1, 1, 1, 1, 0, 1)
    extras = tuple(strides(e.view) for e in region.extras)
    multiplier = out.shape[channel] // op.groups
    g = Geometry(
        x.shape[0], op.groups, multiplier, rows, windows[-1], strides(x), strides(out), extras
    )
    if g.x[1] != 1 or g.y[1] != 1:
        return "channels are not consecutive"
    return g


@dataclass(frozen=True)
class Params:
    """width: output pixels per tile; by_channel: one vector of channels is walked over all pixels
    of a task with its weights kept, else all channels of a tile before the next tile; unroll:
    kernel rows are written out instead of looped over."""

    width: int
    by_channel: bool
    unroll: bool


class ConvDepthwise(Kernel[Params]):
    """See the module's text."""

    name = "conv_depthwise"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        g = geometry_of(region)
        if isinstance(g, str):
            return g
        if not g.columns.moves and len(runs(g.columns, min(g.columns.out, 8))) > _MAX_RUNS:
            return "too many unlike tiles in a row"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        g = _geometry(region)
        isa = ISAS[target.isa]
        limit = isa.registers - 4
        widths = {min(w, g.columns.out) for w in _WIDTHS if w <= limit}
        widths = {w for w in widths if len(runs(g.columns, w)) <= _MAX_RUNS} or {
            min(8, g.columns.out)
        }
        found = [
            Params(width, by_channel, unroll)
            for width in sorted(widths)
            for by_channel in (False, True)
            for unroll in (False, True)
            if not (unroll and (g.rows.kernel == 1 or g.taps * width > 400))
        ]
        found.sort(key=lambda p: (self.cost(region, p, target), p.unroll))
        return found[:10]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = _geometry(region)
        isa = ISAS[target.isa]
        vectors = -(-g.channels // isa.lanes)
        held = params.unroll and params.by_channel and _held(g, params, isa)
        rows = (
            sum(len(g.rows.taps(oh, 1)) for oh in range(g.rows.out)) / g.rows.out
        )  # kernel rows inside the input
        cycles = sum(
            _tile_cycles(g, run, rows, held, isa, target) * run.tiles
            for run in runs(g.columns, params.width)
        )
        under_row = 4 * isa.lanes * g.rows.kernel * g.columns.size
        if (
            params.by_channel and under_row > target.l1 // 2
        ):  # one line of every pixel: rows fall out of the first cache
            cycles *= 1.15
        elif not params.by_channel:
            cycles *= 1.05
        cycles *= g.n * g.rows.out * vectors * g.multiplier
        computed, moved = cycles / (target.ghz * 1e9), memory_seconds(region, target)
        return max(computed, moved) + 0.1 * min(computed, moved)

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _geometry(region: Region) -> Geometry:
    return accepted(geometry_of(region))


def _held(g: Geometry, params: Params, isa: Isa) -> bool:
    """True when all weights of a channel vector stay in registers."""
    return g.taps + params.width + 2 <= isa.registers


def _tile_cycles(g: Geometry, run: Run, rows: float, held: bool, isa: Isa, target: Target) -> float:
    per_fma = isa.lanes / target.fma_lanes
    per_load = 1.0 if isa.lanes == 16 else 0.5
    taps = run.taps or ()
    pixels = {pixel * g.columns.stride + tap * g.columns.dilation for pixel, tap in taps}
    loads = len(pixels) + (0 if held else g.columns.kernel)
    longest = max((sum(p == pixel for p, _ in taps) for pixel in range(run.width)), default=0)
    products = max(len(taps) * per_fma, loads * per_load)
    return max(rows * products + 2.0 * run.width + 6.0, rows * longest * _LATENCY)


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region = region
        self.params = params
        self.target = target
        self.g = _geometry(region)
        self.isa = ISAS[target.isa]
        self.kind = region.operand(0).view.dtype
        self.vectors = -(-self.g.channels // self.isa.lanes)
        self.tail = self.g.channels % self.isa.lanes
        self.runs = [] if self.g.columns.moves else runs(self.g.columns, params.width)
        self.hold = params.unroll and params.by_channel and _held(self.g, params, self.isa)
        self._block()

    def _block(self) -> None:
        """Chooses output rows and channel vectors per task."""
        g = self.g
        wanted = 1 if self.target.cores == 1 else 4 * self.target.cores
        outer, height = typical(g.n) * g.multiplier, typical(g.rows.out)
        per_row = self.vectors * typical(g.columns.out) * g.taps
        rows = max(1, min(height, -(-_GRAIN // per_row)))
        rows = max(rows, -(-height * outer // wanted) if outer < wanted else height)
        self.rows = min(rows, height)
        self.row_blocks = -(-g.rows.out // self.rows)
        row_blocks = -(-height // self.rows)
        pieces = 1
        if outer * row_blocks < wanted:
            heavy = height * per_row // (outer * row_blocks) // _GRAIN
            pieces = max(1, min(self.vectors, -(-wanted // (outer * row_blocks)), heavy))
        self.block = -(-self.vectors // pieces)
        self.channel_blocks = -(-self.vectors // self.block)
        self.tasks = g.n * g.multiplier * self.row_blocks * self.channel_blocks

    def emitted(self) -> Emitted:
        w = Writer()
        w(f"const {self.kind.c} *x = a->p[0];", "const float *weights = a->p[1];", f"{self.region.out.dtype.c} *y = a->p[2];")
        for k, extra in enumerate(self.region.extras):
            w(f"const {extra.view.dtype.c} *e{k} = a->p[{3 + k}];")
        with w.block("for (int64_t task = begin; task < end; task++)"):
            self._task(w)
        extras = (In(self.region.anchors + k) for k in range(len(self.g.extras)))
        return Emitted(w.text(), (In(0), Packed(self._pack()), Out(0), *extras), self.tasks)

    def _pack(self) -> Array:
        g, lanes = self.g, self.isa.lanes
        const = self.region.operand(1).const
        assert const is not None
        weight = np.zeros((self.vectors * lanes, g.multiplier, g.taps), np.float32)
        weight[: g.channels] = const.reshape(g.channels, g.multiplier, g.taps)
        packed = weight.reshape(self.vectors, lanes, g.multiplier, g.taps).transpose(2, 0, 3, 1)
        return np.ascontiguousarray(packed)

    # ---- one task

    def _task(self, w: Writer) -> None:
        g, lanes = self.g, self.isa.lanes
        blocks = self.row_blocks * self.channel_blocks
        outer = f"task / {blocks}" if blocks > 1 else "task"
        if g.n > 1:
            w(f"const int64_t n = {outer}{f' / {g.multiplier}' if g.multiplier > 1 else ''};")
        if g.multiplier > 1:
            w(f"const int64_t m = {outer} % {g.multiplier};")
            w(f"const float *weights_m = weights + m * {self.vectors * lanes * g.taps};")
        if self.row_blocks > 1:
            w(
                f"const int64_t from = task / {self.channel_blocks} % {self.row_blocks} * {self.rows};"
            )
            w(
                f"const int64_t to = from + {self.rows} < {g.rows.out} ? from + {self.rows} : {g.rows.out};"
            )
        if self.channel_blocks > 1:
            step, stop = (
                self.block * lanes,
                g.channels - self.tail,
            )  # from stop on the vector is partial
            w(f"const int64_t first = task % {self.channel_blocks} * {step};")
            w(f"const int64_t last = first + {step} < {stop} ? first + {step} : {stop};")
        if self.params.by_channel:
            for tail in self._channels(w):
                self._weights(w)
                with self._rows(w):
                    for run in self._tiles(w):
                        self._tile(w, run, tail)
            return
        with self._rows(w):
            for run in self._tiles(w):
                for tail in self._channels(w):
                    self._weights(w)
                    self._tile(w, run, tail)

    def _channels(self, w: Writer) -> Iterator[int]:
        """Yields within a loop over whole vectors of channels, and once more within the partial
        vector's block."""
        split = self.channel_blocks > 1
        stop = self.g.channels - self.tail
        if stop:
            first, last = ("first", "last") if split else ("0", str(stop))
            with w.block(f"for (int64_t c = {first}; c < {last}; c += VL)"):
                yield 0
        if self.tail:
            with w.block(f"if (first + {self.block * self.isa.lanes} > {stop})" if split else ""):
                w(f"const int64_t c = {stop};")
                yield self.tail

    def _weights(self, w: Writer) -> None:
        g = self.g
        base = "weights_m" if g.multiplier > 1 else "weights"
        w(f"const float *wc = {base} + c * {g.taps};")
        if self.hold:
            for k in range(g.taps):
                w(f"const vf w{k} = vload(wc + {k} * VL);")

    @contextmanager
    def _rows(self, w: Writer) -> Iterator[None]:
        """The loop over output rows, with the kernel rows that lie inside the input."""
        g = self.g
        start, stop = ("from", "to") if self.row_blocks > 1 else (0, g.rows.out)
        with w.loop("oh", stop, 1, start):
            w(f"const int64_t ih = oh * {g.rows.stride} - {g.rows.pad};")
            if not self.params.unroll and g.rows.clips:
                d = g.rows.dilation
                above, below = ("-ih", f"{g.rows.size} - ih") if d == 1 else (
                    f"({d - 1} - ih) / {d}", f"({g.rows.size + d - 1} - ih) / {d}")  # fmt: skip
                w(f"const int64_t kh_from = ih < 0 ? {above} : 0;")
                w(f"const int64_t kh_to = {below} < {g.rows.kernel} ? {below} : {g.rows.kernel};")
            yield

    def _tiles(self, w: Writer) -> Iterator[Run]:
        """Yields within the loops over the tiles of a row."""
        for run in self.runs:
            with self._run(w, run):
                yield run
        if self.g.columns.moves:
            yield from self._any_tiles(w)

    def _any_tiles(self, w: Writer) -> Iterator[Run]:
        """``_tiles`` of a row whose length only a run knows: outputs near the borders one by one, the others in tiles with all taps."""
        c = self.g.columns
        first = lesser(-(-c.pad // c.stride), c.out)
        stop = lesser((c.size - 1 + c.pad - (c.kernel - 1) * c.dilation) // c.stride + 1, c.out)
        if c.pad:
            with w.loop("ow", first):
                self._clip(w)
                yield Run(0, 1, 1, None)
        with w.block(""):
            w(f"int64_t ow = {first};")
            for width in (self.params.width, *shorter(self.params.width)):
                run = Run(0, width, 1, tuple((pixel, tap) for tap in range(c.kernel) for pixel in range(width)))
                with w.block(f"{'for (;' if width == self.params.width else 'if ('} ow + {width} <= {stop}"
                             f"{f'; ow += {width}' if width == self.params.width else ''})"):  # fmt: skip
                    yield run
                    if width != self.params.width:
                        w(f"ow += {width};")
            if c.clips:
                with w.block(f"for (; ow < {c.out}; ow++)"):
                    self._clip(w)
                    yield Run(0, 1, 1, None)

    def _clip(self, w: Writer) -> None:
        """Declares which taps of an output lie inside the row."""
        c = self.g.columns
        d = c.dilation
        w(f"const int64_t iw = ow * {c.stride} - {c.pad};")
        w(f"const int64_t kw_from = iw < 0 ? (-iw + {d - 1}) / {d} : 0;")
        w(f"const int64_t kw_to = iw + {(c.kernel - 1) * d} < {c.size} ? {c.kernel} : ({c.size} - iw + {d - 1}) / {d};")

    @contextmanager
    def _run(self, w: Writer, run: Run) -> Iterator[None]:
        """The loop over the tiles of a run."""
        if run.tiles == 1:
            with w.block(""):
                w(f"const int64_t ow = {run.start};")
                yield
        else:
            stop = run.start + run.width * run.tiles
            with w.loop("ow", stop, run.width, run.start):
                yield

    # ---- one tile

    def _tile(self, w: Writer, run: Run, tail: int) -> None:
        g = self.g
        tile = Tile(run.width, 1, tail)
        tile.declare(w)
        if run.taps != ():
            self._products(w, tile, run)
        sides = [self._side(f"e{k}", s, e.view.dtype) for k, (s, e) in enumerate(zip(g.extras, self.region.extras, strict=True))]
        tile.finish(w, self.region.epilogue, sides, self._side("y", g.y, self.region.out.dtype))

    def _side(self, base: str, strides: tuple[int, int, int, int], dtype: DType) -> Side:
        n, channel, row, column = strides
        m = self.g.multiplier
        terms = [base]
        parts = [
            (n if self.g.n > 1 else 0, "n"),
            (row, "oh"),
            (column, "ow"),
            (channel * m, "c"),
            (channel if m > 1 else 0, "m"),
        ]
        terms += [name if s == 1 else f"{name} * {s}" for s, name in parts if s]
        return Side(" + ".join(terms), column, channel * m, dtype)

    def _products(self, w: Writer, tile: Tile, run: Run) -> None:
        g = self.g
        n, _, row, column = g.x
        terms = [
            "x",
            *(f"{name} * {s}" for name, s in (("n", n if g.n > 1 else 0), ("ih", row)) if s),
            "c",
        ]
        w(
            f"const {self.kind.c} *xt = {' + '.join(terms)} + (ow * {g.columns.stride} - {g.columns.pad}) * {column};"
        )
        if self.params.unroll:
            for kh in range(g.rows.kernel):
                at = f"ih + {kh * g.rows.dilation}"
                clip = f"if ({at} >= 0 && {at} < {g.rows.size})" if g.rows.clips else ""
                with w.block(clip):
                    offset = kh * g.rows.dilation * row
                    self._kernel_row(w, tile, run, f"xt + {offset}" if offset else "xt", str(kh))
            return
        start, stop = ("kh_from", "kh_to") if g.rows.clips else ("0", str(g.rows.kernel))
        with w.loop("kh", stop, 1, start):
            w(f"const {self.kind.c} *xk = xt + kh * {g.rows.dilation * row};")
            self._kernel_row(w, tile, run, "xk", "kh")

    def _kernel_row(self, w: Writer, tile: Tile, run: Run, x: str, kh: str) -> None:
        """One kernel row: each input vector under the tile once, into all accumulators it touches."""
        g = self.g
        if run.taps is None:
            with w.loop("kw", "kw_to", start="kw_from"):
                address = f"{x} + kw * {g.columns.dilation * g.x[3]}"
                w(f"const vf e = {loaded(self.kind, address, 1, tile.tail)};")
                w(f"{tile.acc(0, 0)} = vfma(e, vload(wc + ({kh} * {g.columns.kernel} + kw) * VL), {tile.acc(0, 0)});")
            return
        used = sorted({tap for _, tap in run.taps})
        if self.hold:
            names = {tap: f"w{int(kh) * g.columns.kernel + tap}" for tap in used}
        else:
            names = {tap: f"w{tap}" for tap in used}
            for tap in used:
                index = (
                    str(int(kh) * g.columns.kernel + tap)
                    if kh.isdigit()
                    else f"({kh} * {g.columns.kernel} + {tap})"
                )
                w(f"const vf w{tap} = vload(wc + {index} * VL);")
        touched: dict[int, list[tuple[int, int]]] = {}
        for pixel, tap in run.taps:
            touched.setdefault(pixel * g.columns.stride + tap * g.columns.dilation, []).append(
                (pixel, tap)
            )
        for position in sorted(touched):
            address = f"{x} + {position * g.x[3]}"
            with w.block(""):
                w(f"const vf e = {loaded(self.kind, address, 1, tile.tail)};")
                for pixel, tap in touched[position]:
                    acc = tile.acc(pixel, 0)
                    w(f"{acc} = vfma(e, {names[tap]}, {acc});")


KERNEL = ConvDepthwise()
