"""Convolution and constant-weight matrix multiplication as register-tiled products over output positions.

Positions are (n, h, w) triples; the innermost axis is cut into tiles of ``mr`` positions by ``nv`` vectors of output channels. Weights are
packed into panels of ``nv`` vectors, [panel][k][nv * lanes]; activations are read in place and broadcast, or, when the convolution pads, from a
zero-padded copy of the task's input rows in scratch. Output channels must be consecutive; input channels consecutive, or few.
Activations of 16 bits are widened on the way into scratch, 16-bit weights when they are packed, or, where few rows share them, when they are loaded.

A panel is walked over all positions of a task before the next one, so that it stays in the first or second cache level while the task's
activations stay in the second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.op import Array
from strop.kernels.base import (
    Emitted,
    In,
    Kernel,
    Out,
    Packed,
    Pointer,
    Region,
    accepted,
    memory_seconds,
)
from strop.kernels.c.positions import Geometry, weight_matrices, wide_geometry
from strop.kernels.c.prologue_rows import Rows, apply_prologue
from strop.kernels.c.rows import vectors
from strop.kernels.c.tile import (
    Ahead,
    NarrowTile,
    Part,
    Side,
    Tile,
    ahead,
    halves,
    is_zero_point,
    pack_panels,
    product_cycles,
    shorter,
)
from strop.kernels.c.vector import loaded, stored, vectorizable
from strop.kernels.c.writer import Writer, address
from strop.kernels.extent import constants_of, is_symbolic, lesser, typical
from strop.target.base import Target
from strop.target.isa.table import ISAS

_MR = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)
_NV = (1, 2, 3, 4, 6)
#: Estimated cycles per element that is copied into a padded scratch.
COPY_CYCLES = 0.3
#: Share of the shorter one of computing and moving that does not hide behind the other: of tiles that wait for memory alike, those that compute
#: faster read it faster too.
_UNHIDDEN = 0.02
#: Rows up to which 16-bit weights stay so.
_FEW_ROWS = 16


@dataclass(frozen=True)
class Walk:
    """Loops over k: outer ones as (name, extent, elements per step), then ``inner`` steps at ``index`` elements."""

    outer: tuple[tuple[str, int, int], ...]
    inner: int
    index: str


@dataclass(frozen=True)
class Params:
    """mr: positions per tile; nv: vectors of output channels per tile."""

    mr: int
    nv: int


def walk_of(g: Geometry, rows: int) -> Walk:
    """How k is walked; ``weight_matrices`` orders k alike. ``rows``: of a plane in scratch."""
    tap_row, tap = g.dh * g.line, g.dw * g.pixel
    if g.c_stride != 1:
        plane = rows * g.line if g.copies else g.c_stride
        index = "k" if tap == 1 else f"k * {tap}"
        return Walk((("c", g.c, plane), ("kh", g.kh, tap_row)), g.kw, index)
    if tap == g.c or g.kw == 1:  # the taps of a row and their channels are consecutive
        return Walk((("kh", g.kh, tap_row),), g.kw * g.c, "k")
    return Walk((("kh", g.kh, tap_row), ("kw", g.kw, tap)), g.c, "k")


class ConvDirect(Kernel[Params]):
    """See the module's text."""

    name = "conv_direct"
    in_place = True
    prologue = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        return awkward(region, wide_geometry(region))

    def space(self, region: Region, target: Target) -> list[Params]:
        g = _geometry(region)
        isa = ISAS[target.isa]
        width = -(-g.o // isa.lanes)
        longest = g.row_extent
        found: list[Params] = []
        for nv in _NV:
            if nv > width:
                continue
            fitting = [mr for mr in _MR if mr <= longest and mr * nv + nv + 1 <= isa.registers]
            found.extend(Params(mr, nv) for mr in fitting)
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = _geometry(region)
        isa = ISAS[target.isa]
        lanes = isa.lanes
        per_fma = lanes / target.fma_lanes
        vectors = -(-g.o // lanes)
        whole, rest = divmod(vectors, params.nv)
        widths: list[tuple[int, float]] = [(whole, params.nv), (1 if rest else 0, rest)]
        if halves(g.o % lanes, isa):  # the last panel ends with half a vector
            widths = [(vectors // params.nv - (not rest), params.nv), (1, (rest or params.nv) - 0.5)]
        rows, last = divmod(g.row_extent, params.mr)
        cycles = 0.0
        for count_v, nv in widths:
            for count_r, mr in ((rows, params.mr), (1 if last else 0, last)):
                if count_v and count_r:
                    cycles += count_v * count_r * product_cycles(g.k, mr, nv, 4 * g.row_step, lanes, per_fma, target)
        cycles *= g.groups * g.n * (g.h if g.row_extent == g.w else 1)
        if region.has_prologue or (g.flat and region.operand(0).view.dtype is not dt.f32):
            cycles += 3.0 * g.n * g.w * (-(-g.c // lanes))
        if g.copies:
            cycles += COPY_CYCLES * g.n * g.groups * g.c * g.padded_h * g.padded_w
        compute, memory = cycles / (target.ghz * 1e9), memory_seconds(region, target)
        return max(compute, memory) + _UNHIDDEN * min(compute, memory)

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return Emitter(region, params, target).emitted()


def awkward(region: Region, g: Geometry | str) -> str | None:
    """Why a region of floats with this geometry is not walked here; None when it is."""
    if isinstance(g, str):
        return g
    if not vectorizable(region.epilogue, [e.view.dtype for e in (region.operand(0), *region.extras)]):
        return "the epilogue has no vector form"
    if g.c_stride != 1 and g.c > 8:
        return "input channels are not consecutive"
    if region.has_prologue and (not g.flat or g.c_stride != 1):
        return "a prologue needs evenly spaced positions with consecutive channels"
    return None


def _geometry(region: Region) -> Geometry:
    return accepted(wide_geometry(region))


def _narrow_weights(region: Region, g: Geometry) -> DType | None:
    """The 16-bit type that packed weights keep: where few rows share them, reading them takes the time; None where they become f32."""
    kind = region.operand(1).view.dtype
    return kind if kind in (dt.bf16, dt.f16) and typical(g.positions) <= _FEW_ROWS else None


class Emitter:
    """Holds what the pieces of one emission share."""

    #: C types of activations as tiles read them, and of packed weights; bytes of each.
    s_type, w_type = "float", "float"
    s_item = item = 4
    #: C text behind an element that is copied into scratch, if it is changed there.
    changed = ""
    #: Type of scratch rows where they are converted.
    scratch_type = dt.f32
    #: Activations that a step takes together.
    group = 1
    #: Byte that padding is filled with.
    fill = "0"

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region = region
        self.params = params
        self.target = target
        self.g = self.geometry(region)
        #: C type of activations in memory; another one than tiles read is converted on the way into scratch.
        self.x_type = self._memory_type()
        self.narrow = _narrow_weights(region, self.g) if self.s_type == "float" else None
        if self.narrow is not None:
            self.w_type, self.item = self.narrow.c, self.narrow.size
        self.lanes = ISAS[target.isa].lanes
        self.vectors = -(-self.g.o // self.lanes)
        self.panels = -(-self.vectors // params.nv)
        self.panel_size = self.depth * params.nv * self.lanes
        self.helpers: list[str] = []
        #: Rows of a task are first run through the prologue, or only converted, into scratch.
        self.prologue = region.has_prologue or (self.x_type != self.s_type and not self.g.copies)
        self.group_room = -(-self.g.c // self.group) * self.group
        self.row_step = self.group_room if self.prologue else self.g.row_step

    @staticmethod
    def geometry(region: Region) -> Geometry:
        """How the kernel sees the region."""
        return _geometry(region)

    def _memory_type(self) -> str:
        """C type by which activations are read from memory."""
        kind = self.region.operand(0).view.dtype
        return kind.c if kind.is_float else self.s_type

    @property
    def depth(self) -> int:
        """Packed weights per output channel."""
        return self.g.k

    def emitted(self) -> Emitted:
        g = self.g
        self._block()
        w = Writer()
        pointers: list[Pointer] = [In(0), Packed(self._pack), Out(0)]
        w(f"const {self.x_type} *x = a->p[0];", f"const {self.w_type} *weights = a->p[1];", f"{self.region.out.dtype.c} *y = a->p[2];")
        for k, extra in enumerate(self.region.extras):
            w(f"const {extra.view.dtype.c} *e{k} = a->p[{3 + k}];")
            pointers.append(In(self.region.anchors + k))
        for k in range(len(g.prologue)):
            w(f"const {self.region.prologue_operands[k].view.dtype.c} *q{k} = a->p[{len(pointers)}];")
            pointers.append(In(len(self.region.operands) - self.region.prologues + k))
        self._declare(w, pointers)
        with w.block("for (int64_t task = begin; task < end; task++)"):
            self._task(w)
        scratch = self.scratch_items * self.s_item if g.copies or self.prologue else 0
        return Emitted(w.text(), tuple(pointers), self.tasks, scratch, tuple(self.helpers))

    def _declare(self, w: Writer, pointers: list[Pointer]) -> None:
        """Further pointers of the kernel."""

    def _pack(self) -> Array:
        """Weights of all groups, each packed into panels, k in the order the tile walks."""
        return np.concatenate([pack_panels(m, self.lanes, self.params.nv, self.narrow or dt.f32) for m in weight_matrices(self.region, self.g)])

    @property
    def group_size(self) -> int:
        """One group's packed weights."""
        return self.depth * self.vectors * self.lanes

    def _block(self) -> None:
        """Chooses rows (or positions of a flat row) and panels per task."""
        g, target = self.g, self.target
        budget = self._activation_budget()
        if g.flat:
            align = self.params.mr
            rows = max(align, budget // max(1, self.s_item * g.c) // align * align)
            self.axis = g.w
        else:
            per_row = self.s_item * g.c * typical(g.padded_w) * g.sh
            rows = max(1, (budget - self.s_item * g.c * typical(g.padded_w) * g.halo) // max(1, per_row))
            align = 1
            self.axis = g.h
        axis, outer = typical(self.axis), g.groups * typical(g.n)
        rows = min(rows, axis)
        wanted = 1 if target.cores == 1 else 4 * target.cores
        row_blocks = -(-axis // rows)
        if outer * row_blocks * self.panels >= wanted > outer * row_blocks and self._heavy_weights():
            split = min(self.panels, -(-wanted // (outer * row_blocks)))
        else:
            split = 1
            if outer * row_blocks < wanted:
                pieces = -(-wanted // outer)
                rows = max(align, -(-axis // pieces // align) * align)
                row_blocks = -(-axis // rows)
                if outer * row_blocks < wanted:
                    split = min(self.panels, -(-wanted // (outer * row_blocks)))
        if is_symbolic(self.axis) and g.flat:
            rows = -(-rows // align) * align
        self.rows = rows
        self.row_blocks = -(-self.axis // rows)
        self.panels_per_task = -(-self.panels // split)
        self.panel_blocks = -(-self.panels // self.panels_per_task)
        self.tasks = g.groups * g.n * self.row_blocks * self.panel_blocks
        self.in_rows = (lesser(rows, g.h) - 1) * g.sh + g.halo + 1
        self.fetch = self._fetch()
        self.scratch_items = self.group_room * rows + 64 if self.prologue else g.c * self.in_rows * g.padded_w + 64

    def _heavy_weights(self) -> bool:
        return self.item * self.group_size * self.g.groups > self.target.l2

    def _activation_budget(self) -> int:
        """Bytes of input per task. Small weights stay in the second cache level while blocks of input pass by; large ones are streamed
        once per task, so that a task then takes all the input that the last level holds, unless it has to be copied."""
        if self.g.copies or self.prologue or self.item * self.group_size <= self.target.l2 // 2:
            return self.target.l2 // 3
        return self.target.l3 // 4

    def _fetch(self) -> Ahead | None:
        """What each tile fetches of the next panel; nothing when all panels stay near."""
        if self.panels == 1 or self.item * self.group_size <= self.target.l1:
            return None
        rows = min(self.rows, typical(self.axis))
        tiles = -(-rows // self.params.mr) if self.g.flat else rows * -(-typical(self.g.w) // self.params.mr)
        return ahead(self.panel_size * self.item // 4, tiles, self.steps, self.inner)

    @property
    def inner(self) -> int:
        """Steps of a tile's innermost loop."""
        return self._walk().inner

    @property
    def steps(self) -> int:
        """Steps of a tile."""
        return self.g.k

    # ---- one task

    def _task(self, w: Writer) -> None:
        g = self.g
        inner = 1
        axes = self._task_axes()
        for name, extent in reversed(axes):
            text = f"task / {inner}" if inner != 1 else "task"
            w(f"const int64_t {name} = {text}{f' % {extent}' if name != axes[0][0] else ''};")
            inner *= extent
        if self.row_blocks > 1:
            w(f"const int64_t from = rb * {self.rows};")
            w(f"const int64_t to = from + {self.rows} < {self.axis} ? from + {self.rows} : {self.axis};")
        else:
            w(f"const int64_t from = 0, to = {self.axis};")
        group = [("group", g.c * g.c_stride)] if g.groups > 1 else []
        w(f"const {self.x_type} *xn = {address('x', *([('n', g.x_n)] if g.n > 1 else []), *group)};")
        if g.copies:
            self._copy_rows(w)
        elif self.prologue:
            w(f"{self.s_type} *xs = a->scratch;")
            self._fill_rows(w)
        with self._panel_loop(w):
            self._panel(w)

    def _fill_rows(self, w: Writer) -> None:
        """Rows of a flat task, run through the prologue or converted, into scratch."""
        apply_prologue(w, self.region, self.g, self.lanes, "xn", Rows("xs", self.group_room, self.scratch_type))

    def _task_axes(self) -> list[tuple[str, int]]:
        """What a task number stands for, outermost first; axes of extent 1 are left out."""
        axes = [("n", self.g.n), ("group", self.g.groups), ("rb", self.row_blocks), ("pb", self.panel_blocks)]
        return [(name, extent) for name, extent in axes if extent > 1]

    def _panel_loop(self, w: Writer) -> AbstractContextManager[None]:
        """The loop over the panels of a task."""
        if self.panels == 1:
            return nullcontext()
        if self.panel_blocks == 1:
            return w.loop("panel", self.panels)
        end = f"(pb + 1) * {self.panels_per_task}"
        w(f"const int64_t last_panel = {end} < {self.panels} ? {end} : {self.panels};")
        return w.loop("panel", "last_panel", start=f"pb * {self.panels_per_task}")

    def _panel(self, w: Writer) -> None:
        """One panel: all positions of the task; the last one may be narrower."""
        g, p = self.g, self.params
        panel = [("panel", self.panel_size)] if self.panels > 1 else []
        w(f"const {self.w_type} *wp = {address('weights', *([('group', self.group_size)] if g.groups > 1 else []), *panel)};")
        if self._moves_columns:
            column = [("panel", p.nv * self.lanes)] if self.panels > 1 else []
            w(f"const int64_t o = {address('', *([('group', g.o)] if g.groups > 1 else []), *column)};")
        rest, tail = self.vectors % p.nv, g.o % self.lanes
        if self.panels > 1 and (rest or tail):
            with w.block(f"if (panel < {self.panels - 1})"):
                self._positions(w, p.nv, 0)
                w("continue;")
        self._positions(w, rest or p.nv, tail)

    @property
    def _moves_columns(self) -> bool:
        """True when the first output channel is not the same everywhere."""
        return self.panels > 1 or self.g.groups > 1

    def _copy_rows(self, w: Writer) -> None:
        """Zero-padded copy of the input rows of this task into scratch, laid out like the input."""
        g = self.g
        kind = self.s_type
        w(f"{kind} *xs = a->scratch;")
        w(f"const int64_t in_from = from * {g.sh} - {g.pad_top};")
        w(f"const int64_t in_rows = (to - from - 1) * {g.sh} + {g.halo + 1};")
        channels = g.c if g.c_stride != 1 else 1
        width = 1 if g.c_stride != 1 else g.c  # floats per pixel within one plane
        line = g.padded_w * width
        with w.loop("c", channels) if channels > 1 else w.block(""):
            plane = "xs" + (f" + c * {self.in_rows * line}" if channels > 1 else "")
            with w.block("for (int64_t r = 0; r < in_rows; r++)"):
                w(f"{kind} *to_row = {plane} + r * {line};")
                w("const int64_t ih = in_from + r;")
                with w.block(f"if (ih < 0 || ih >= {g.in_h})"):
                    w(f"memset(to_row, {self.fill}, {line} * sizeof({kind}));", "continue;")
                w(f"const {self.x_type} *from_row = xn + ih * {g.x_h}" + (f" + c * {g.c_stride};" if channels > 1 else ";"))
                left, inner = g.pad_left * width, g.in_w_used * width
                if left:
                    w(f"memset(to_row, {self.fill}, {left} * sizeof({kind}));")
                if self.x_type != kind:
                    self._convert(w, f"to_row + {left}", width)
                elif g.x_w == width:
                    self._copy_run(w, f"to_row + {left}", inner)
                else:
                    with w.loop("i", g.in_w_used), w.loop("j", width):
                        w(f"to_row[{left} + i * {width} + j] = from_row[i * {g.x_w} + j]{self.changed};")
                if line - left - inner:
                    w(f"memset(to_row + {left + inner}, {self.fill}, {line - left - inner} * sizeof({kind}));")
            self._behind_rows(w, f"{plane} + in_rows * {line}")

    def _copy_run(self, w: Writer, to: str, count: int) -> None:
        """Copies so many elements of an input row from ``from_row``."""
        if not self.changed:
            w(f"memcpy({to}, from_row, {count} * sizeof({self.s_type}));")
            return
        with w.loop("i", count):
            w(f"({to})[i] = from_row[i]{self.changed};")

    def _behind_rows(self, w: Writer, end: str) -> None:
        """What else is to be done where rows that were copied end."""

    def _convert(self, w: Writer, to: str, width: int) -> None:
        """Copies the pixels of an input row, ``width`` elements each, from ``from_row`` as the type that tiles read."""
        g, kind = self.g, self.region.operand(0).view.dtype
        one = g.x_w == width  # one run
        with nullcontext() if one else w.loop("i", g.in_w_used):
            length = g.in_w_used * width if one else width
            start, target = ("from_row", to) if one else (f"from_row + i * {g.x_w}", f"{to} + i * {width}")
            for at, tail, _ in vectors(w, length, self.lanes):
                w(stored(self.scratch_type, f"{target} + {at}", loaded(kind, f"{start} + {at}", 1, tail), 1, tail))

    # ---- positions of one panel

    def _positions(self, w: Writer, nv: int, tail: int) -> None:
        """Walks all positions of the task with full tiles, then the remaining ones with a shorter tile."""
        g, mr = self.g, self.params.mr
        full, rest = divmod(g.w, mr)
        if self.fetch is not None:
            w(f"const {self.w_type} *next = wp + {self.panel_size};")
        if is_symbolic(rest):
            self._any_positions(w, nv, tail, shorter(mr))
            return
        if g.flat:  # tasks start at multiples of mr, so only the very last tile is short
            self._any_positions(w, nv, tail, [rest] if rest else [])
            return
        with w.block("for (int64_t h = from; h < to; h++)"):
            if full:
                with w.loop("p", full * mr, mr):
                    self._call(w, self._shape(mr, nv, tail), "p")
            if rest:
                self._call(w, self._shape(rest, nv, tail), str(full * mr))

    def _whole_tiles(self, w: Writer, tile: Tile, stop: str) -> None:
        """As many tiles from p to ``stop`` as there are; p is behind them then."""
        with w.block(f"for (; p + {tile.mr} <= {stop}; p += {tile.mr})"):
            self._call(w, tile, "p")

    def _shape(self, mr: int, nv: int, tail: int) -> Tile:
        """The register tile."""
        if self.narrow is not None:
            return NarrowTile(mr, nv, tail, stored=self.narrow)
        return Tile(mr, nv, tail, halves(tail, ISAS[self.target.isa]))

    def _any_positions(self, w: Writer, nv: int, tail: int, heights: Sequence[int]) -> None:
        """``_positions`` of rows of any length: behind the full tiles shorter ones, the tallest first, each where there is room for it."""
        mr = self.params.mr
        with ExitStack() as scope:
            start, stop = "from", "to"
            if not self.g.flat:
                scope.enter_context(w.block("for (int64_t h = from; h < to; h++)"))
                start, stop = "0", str(self.g.w)
            w(f"int64_t p = {start};")
            self._whole_tiles(w, self._shape(mr, nv, tail), stop)
            for height in heights:
                with w.block(f"if (p + {height} <= {stop})"):
                    self._call(w, self._shape(height, nv, tail), "p")
                    w(f"p += {height};")

    def _call(self, w: Writer, tile: Tile, p: str) -> None:
        name, sizes = self._tile(tile)
        w(f"{name}({', '.join([*self._arguments(p), *sizes])});")
        if self.fetch is not None:
            w(f"next += {self._fetched};")

    def _arguments(self, p: str) -> list[str]:
        """What a tile's function gets at position p, for ``_parameters``."""
        g = self.g
        h = "" if g.flat else "h"
        sides = [self._at(f"e{k}", s, h, p) for k, s in enumerate(g.extras)]
        ahead_at = ["next"] if self.fetch is not None else []
        return [self._input(p) + self._channel, "wp", self._at("y", g.y, h, p), *sides, *self._more_arguments(), *ahead_at]

    @property
    def _fetched(self) -> int:
        """Elements of the next panel that a tile fetches."""
        return self.fetch.floats(self.steps) * 4 // self.item if self.fetch is not None else 0

    def _input(self, p: str) -> str:
        """C text of the address of what position p of row h reads first."""
        g = self.g
        if self.prologue:
            return f"xs + ({p} - from) * {self.row_step}"
        if g.copies:
            return f"xs + (h - from) * {g.sh * g.line} + {p} * {g.sw * g.pixel}"
        if g.flat:
            return f"xn + {p} * {g.x_step}"
        return f"xn + h * {g.sh * g.x_h} + {p} * {g.x_step}"

    def _at(self, base: str, strides: tuple[int, int, int, int], h: str, p: str) -> str:
        """C text of an operand's address at the position (n, h, p) and output channel o."""
        names = ("n" if self.g.n > 1 else "", h, p, "o" if self._moves_columns else "")
        return address(base, *[(var, stride) for stride, var in zip(strides, names, strict=True) if var])

    #: C text added to the address of the first input channel.
    _channel = ""

    def _more_arguments(self) -> list[str]:
        """What a tile takes behind its epilogue operands."""
        return []

    def _more_parameters(self) -> list[str]:
        """C parameters for ``_more_arguments``."""
        return []

    # ---- the tile

    def _start(self, w: Writer, tile: Tile) -> None:
        """Declares a tile's accumulators."""
        tile.declare(w)

    def _rows(self, tile: Tile) -> list[str]:
        """C text of what each row of a tile multiplies with in step k."""
        index = self._walk().index
        return [f"xk[{index}{f' + {r * self.row_step}' if r else ''}]" for r in range(tile.mr)]

    def _walk(self) -> Walk:
        """How a tile walks k."""
        return walk_of(self.g, self.in_rows)

    def _walk_products(self, w: Writer, tile: Tile) -> None:
        """The loops over k."""
        with ExitStack() as nest:
            terms = ["x"]
            for name, extent, stride in self._walk().outer:
                if extent > 1:
                    nest.enter_context(w.loop(name, extent))
                    terms.append(f"{name} * {stride}")
            w(f"const {self.s_type} *xk = {' + '.join(terms)};")
            self._run_of_k(w, tile)

    def _run_of_k(self, w: Writer, tile: Tile) -> None:
        """The innermost loop."""
        tile.walk(w, self.inner, "w", self._rows(tile), self.fetch)

    def _parts(self, w: Writer, tile: Tile) -> list[Part]:
        """The pieces of a tile's epilogue."""
        extras, out = self.region.extras, self.region.out.dtype
        sides = [Side(f"e{k}", s[2], s[3], e.view.dtype, is_zero_point(e)) for k, (s, e) in enumerate(zip(self.g.extras, extras, strict=True))]
        return tile.parts(w, self.region.epilogue, sides, Side("y", self.g.y[2], 1, out))

    def _results(self, w: Writer, tile: Tile) -> None:
        """Applies the epilogue to a tile and stores it."""
        for part in self._parts(w, tile):
            part.write()

    def _parameters(self) -> list[str]:
        """C parameters of a tile's function."""
        extras = [f"const {e.view.dtype.c} *e{k}" for k, e in enumerate(self.region.extras)]
        fetched = [f"const {self.w_type} *ahead"] if self.fetch is not None else []
        return [f"const {self.s_type} *x", f"const {self.w_type} *w", f"{self.region.out.dtype.c} *y", *extras, *self._more_parameters(), *fetched]

    def _tile(self, tile: Tile) -> tuple[str, list[str]]:
        """Defines the tile's function once and returns its name, and the run-time sizes that it takes behind its operands."""
        w = Writer()
        self._start(w, tile)
        self._walk_products(w, tile)
        self._results(w, tile)
        return self._defined("tile", tile, w.text(), self._parameters())

    def _defined(self, stem: str, tile: Tile, body: str, parameters: list[str]) -> tuple[str, list[str]]:
        """Defines a function around a tile once and returns its name, and the run-time sizes that it takes behind its parameters."""
        declared, sizes = constants_of(body)
        text = f"({', '.join([*parameters, *declared])}) {{\n{body}\n}}"
        what = f"/* {tile.mr} positions by {tile.nv} vectors of output channels, {self.g.k} products each */"
        digest = hashlib.sha256((what + text).encode()).hexdigest()[:8]  # kernels share helpers that are the same to the letter
        name = f"{stem}_{tile.mr}x{tile.nv}_{digest}"
        helper = f"{what}\nstatic void {name}{text}\n"
        if helper not in self.helpers:
            self.helpers.append(helper)
        return name, sizes


KERNEL = ConvDirect()
