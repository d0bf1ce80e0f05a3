"""C of a convolution by Winograd's algorithm, see conv_winograd.

A task takes a share of the tiles of every type and some panels of output channels. Which row of V and M belongs to which point of which tile is
worked out first: ``V[filter][rows][channel]``, where a filter's rows are those of the points that own it, type after type, point after point,
tile after tile. ``at_v`` and ``at_m`` hold the offset of each point's first tile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.ir.op import Array
from strop.kernels.base import Emitted, In, Out, Packed, Pointer, Region, accepted
from strop.kernels.c.positions import Geometry, float_geometry
from strop.kernels.c.rows import address
from strop.kernels.c.tile import Side, Tile
from strop.kernels.c.vector import VectorC, loaded, stored
from strop.kernels.c.winograd_cuts import Cuts, TileType, cuts_of
from strop.kernels.c.winograd_transform import transform_c
from strop.kernels.c.writer import Writer, define
from strop.kernels.extent import constants_of, greater, is_symbolic, may_reach, typical
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Floats added to each row of V, so that rows of a register tile do not fall into one cache set.
_SKEW = 16


@dataclass(frozen=True)
class Params:
    """mh, mw: outputs of the largest tile, see winograd_cuts; mr, nv: register tile; blocks: shares that the tiles are divided into."""

    mh: int
    mw: int
    mr: int
    nv: int
    blocks: int


@dataclass(frozen=True)
class Sizes:
    """What follows from geometry and parameters."""

    cuts: Cuts
    lanes: int
    #: Vectors of output channels, and panels of nv of them.
    vectors: int
    panels: int
    #: Floats per row of V, and per row of M.
    ldv: int
    width: int
    #: Most rows of V that a task has.
    rows: int
    #: Tiles of each type in a share where only a run knows how many there are; then there are as many shares as that makes.
    share: tuple[int, ...] = ()

    @property
    def v_size(self) -> int:
        """Floats of V with the skew between filters."""
        return self.rows * self.ldv + self.cuts.filters * self.lanes

    @property
    def m_size(self) -> int:
        """Floats of M with the skew between filters."""
        return self.rows * self.width + self.cuts.filters * self.lanes


def even_axes(region: Region) -> tuple[bool, bool]:
    """Whether rows and columns are cut into equal tiles, because only a run knows how many there are."""
    g = accepted(float_geometry(region.origin or region))
    return is_symbolic(g.h), is_symbolic(g.w)


def sizes_of(g: Geometry, p: Params, target: Target, even: tuple[bool, bool] = (False, False)) -> Sizes:
    """The sizes of a layer."""
    lanes = ISAS[target.isa].lanes
    cuts = cuts_of(g, p.mh, p.mw, even)
    vectors = -(-g.o // lanes)
    share: tuple[int, ...] = ()
    if is_symbolic(g.n, g.h, g.w):
        share = tuple(-(-typical(cuts.images * t.count) // p.blocks) for t in cuts.types)
        shares = [share]
    else:
        shares = [cuts.counts(b, p.blocks) for b in range(p.blocks)]
    most = max(sum(n * len(t.filters) for n, t in zip(counts, cuts.types, strict=True)) for counts in shares)
    return Sizes(cuts, lanes, vectors, -(-vectors // p.nv), -(-g.c // lanes) * lanes + _SKEW, p.nv * lanes, most, share)


def pieces_of(rows: int, mr: int) -> dict[int, int]:
    """Register tiles that ``rows`` are cut into, all nearly as high: height to how many."""
    pieces = -(-rows // mr)
    low, higher = divmod(rows, pieces)
    return {h: n for h, n in ((low + 1, higher), (low, pieces - higher)) if n}


@dataclass(frozen=True)
class _Function:
    """A static function: its name, and the run-time constants that it takes behind its operands."""

    name: str
    sizes: tuple[str, ...]

    def call(self, *arguments: str) -> str:
        """C text of a call."""
        return f"{self.name}({', '.join([*arguments, *self.sizes])});"


class Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region, self.params, self.target = region, params, target
        g = accepted(float_geometry(region))
        self.g = g
        self.x_type, self.y_type = region.operand(0).view.dtype, region.out.dtype
        self.e_types = [e.view.dtype for e in region.extras]
        self.sizes = sizes_of(g, params, target, even_axes(region))
        self.cuts = self.sizes.cuts
        self.lanes = self.sizes.lanes
        self.split = self._panel_blocks()
        self.helpers: list[str] = []
        #: Filters do not stay in the second cache level: those of the next point are fetched while this one is multiplied.
        self.ahead = 4 * self.cuts.filters * g.c * self.sizes.vectors * self.lanes > target.l2 // 3
        #: V does not: the next register tile's rows are fetched too.
        self.far_v = 4 * self.sizes.v_size > target.l2 // 2
        #: Inputs, or results and what the epilogue reads, come from further away: those of the next tile are fetched.
        self.far_x = typical(self.x_type.size * g.n * g.in_h * g.in_w * g.c) > target.l2 // 2
        self.far_y = typical(self.y_type.size * g.n * g.h * g.w * g.o) > target.l2 // 2
        self.offsets = [sum(len(t.filters) for t in self.cuts.types[:k]) for k in range(len(self.cuts.types) + 1)]

    def _panel_blocks(self) -> int:
        """Pieces that the panels are divided into, so that all cores are busy; each repeats the data transform."""
        s, cores, blocks = self.sizes, self.target.cores, self.params.blocks

        def rounds(split: int) -> float:
            per_task = -(-s.panels // split)
            share = 0.1 + per_task * min(1.0, self.params.nv / s.vectors)
            return -(-blocks * -(-s.panels // per_task) // cores) * share

        best = min(range(1, s.panels + 1), key=lambda k: (rounds(k), k))
        return -(-s.panels // -(-s.panels // best))

    def _blocks(self) -> int:
        """Shares that the tiles are divided into."""
        counts = [self.g.n * t.count for t in self.cuts.types]
        most = 0
        for count, share in zip(counts, self.sizes.share, strict=False):
            most = greater(most, -(-count // share))
        return most if self.sizes.share else self.params.blocks

    def emitted(self) -> Emitted:
        s = self.sizes
        w = Writer()
        pointers: list[Pointer] = [In(0), Packed(self._pack), Out(0)]
        w(f"const {self.x_type.c} *x = a->p[0];", "const float *filters = a->p[1];", f"{self.y_type.c} *y = a->p[2];")
        for k, kind in enumerate(self.e_types):
            w(f"const {kind.c} *e{k} = a->p[{3 + k}];")
            pointers.append(In(self.region.anchors + k))
        total = self.offsets[-1]
        w(f"float *v = a->scratch, *m = v + {s.v_size};", f"{self.x_type.c} *zeros = ({self.x_type.c} *)(m + {s.m_size});")
        w(f"int64_t at_v[{total}], at_m[{total}], rows[{self.cuts.filters}], first[{self.cuts.filters}];")
        w(f"memset(zeros, 0, {s.ldv} * sizeof({self.x_type.c}));")
        tables = self._tables()
        with w.block("for (int64_t task = begin; task < end; task++)"):
            w(f"const int64_t block = task / {self.split}, pb = task % {self.split};")
            self._rows(w, tables)
            for k, tile in enumerate(self.cuts.types):
                self._inputs(w, k, tile)
            per_task = -(-s.panels // self.split)
            w(f"const int64_t last_panel = (pb + 1) * {per_task} < {s.panels} ? (pb + 1) * {per_task} : {s.panels};")
            with w.block(f"for (int64_t panel = pb * {per_task}; panel < last_panel; panel++)"):
                self._panel(w)
        scratch = 4 * (s.v_size + s.m_size + s.ldv + 64)
        return Emitted(w.text(), tuple(pointers), self._blocks() * self.split, scratch, tuple(self.helpers))

    def _pack(self) -> Array:
        """Transformed filters, [panel][filter][c][columns of the panel]."""
        g, s = self.g, self.sizes
        weight = self.region.operand(1).const
        assert weight is not None
        taps = weight.reshape(g.o, g.c, g.kh, g.kw)
        parts: list[Array] = []
        for first in range(0, g.o, s.width):
            panel = np.ascontiguousarray(taps[first : first + s.width].transpose(2, 3, 1, 0), dtype=np.float64)
            count = panel.shape[-1]
            packed = np.zeros((self.cuts.filters, g.c, -(-count // self.lanes) * self.lanes), np.float32)
            for number, point in enumerate(self.cuts.transformed(panel)):
                packed[number, :, :count] = point
            parts.append(packed.reshape(-1))
        return np.concatenate(parts)

    # ---- where everything lies

    def _tables(self) -> str:
        """Name of a table of all points' filters, type after type."""
        numbers = [f for t in self.cuts.types for f in t.filters]
        kind = "uint8_t" if self.cuts.filters <= 256 else "uint16_t"
        text = f"[{len(numbers)}] = {{{', '.join(map(str, numbers))}}};\n"
        name = f"filter_of_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.helpers.append(f"static const {kind} {name}{text}")
        return name

    def _rows(self, w: Writer, table: str) -> None:
        """The tiles of the task, the rows of each filter, and where each point's rows begin."""
        s, blocks, images = self.sizes, self.params.blocks, self.g.n
        for k, tile in enumerate(self.cuts.types):
            total = images * tile.count
            if s.share:
                w(f"const int64_t from{k} = block * {s.share[k]}, left{k} = {total} - from{k};")
                w(f"const int64_t count{k} = left{k} < 0 ? 0 : left{k} < {s.share[k]} ? left{k} : {s.share[k]};")
                continue
            w(f"const int64_t from{k} = block * {total} / {blocks};")
            w(f"const int64_t count{k} = (block + 1) * {total} / {blocks} - from{k};")
        w("memset(rows, 0, sizeof rows);")
        for k in range(len(self.cuts.types)):
            with w.loop("p", self.offsets[k + 1], start=self.offsets[k]):
                w(f"rows[{table}[p]] += count{k};")
        w("int64_t sum = 0;")
        with w.loop("f", self.cuts.filters):
            w("first[f] = sum;", "sum += rows[f];", "rows[f] = 0;")
        for k in range(len(self.cuts.types)):
            with w.loop("p", self.offsets[k + 1], start=self.offsets[k]):
                w(f"const int64_t f = {table}[p], row = first[f] + rows[f];")
                w(f"at_v[p] = row * {s.ldv} + f * {self.lanes};", f"at_m[p] = row * {s.width} + f * {self.lanes};")
                w(f"rows[f] += count{k};")

    def _define(self, stem: str, parameters: str, w: Writer) -> _Function:
        declared, sizes = constants_of(w.text())
        text = f"({', '.join([parameters, *declared])}) {{\n{w.text()}\n}}"
        return _Function(define(self.helpers, stem, text), tuple(sizes))

    # ---- inputs

    def _inputs(self, w: Writer, k: int, tile: TileType) -> None:
        """Transforms the inputs of all tiles of one type."""
        g, (nh, nw) = self.g, (tile.fh.inputs, tile.fw.inputs)
        where = f"v + t * {self.sizes.ldv}", f"at_v + {self.offsets[k]}"
        first_h, first_w = tile.h.start * g.sh - g.pad_top, tile.w.start * g.sw - g.pad_left
        last_h = first_h + (tile.h.count - 1) * tile.h.m * g.sh + nh
        last_w = first_w + (tile.w.count - 1) * tile.w.m * g.sw + nw
        with w.block(f"for (int64_t t = 0; t < count{k}; t++)"):
            self._place(w, k, tile)
            w(f"const int64_t ih = th * {tile.h.m * g.sh} + {first_h}, iw = tw * {tile.w.m * g.sw} + {first_w};")
            w(f"const {self.x_type.c} *from = x + n * {g.x_n} + ih * {g.x_h} + iw * {g.x_w};")
            call = self._input_function(tile, False).call("from", *where)
            if min(first_h, first_w) >= 0 and not may_reach(last_h, g.in_h + 1) and not may_reach(last_w, g.in_w + 1):
                w(call)
                return
            with w.block(f"if (ih >= 0 && ih <= {g.in_h - nh} && iw >= 0 && iw <= {g.in_w - nw})"):
                w(call, "continue;")
            w(f"const {self.x_type.c} *px[{nh * nw}];")
            with w.loop("i", nh), w.loop("j", nw):
                inside = f"ih + i >= 0 && ih + i < {g.in_h} && iw + j >= 0 && iw + j < {g.in_w}"
                w(f"px[i * {nw} + j] = {inside} ? from + i * {g.x_h} + j * {g.x_w} : zeros;")
            w(self._input_function(tile, True).call("px", "from", *where))

    def _place(self, w: Writer, k: int, tile: TileType) -> None:
        """Image, row and column of tile t of the task's tiles of type k."""
        w(f"const int64_t n = (from{k} + t) / {tile.count};")
        w(f"const int64_t th = (from{k} + t) / {tile.w.count} % {tile.h.count}, tw = (from{k} + t) % {tile.w.count};")

    def _input_function(self, tile: TileType, border: bool) -> _Function:
        """Transforms one tile's inputs into its row of every point; at a border pixels are named by pointers."""
        g, fh, fw = self.g, tile.fh, tile.fw
        w = Writer()
        full = g.c // self.lanes * self.lanes

        def vectors(tail: int) -> None:
            w(f"vf s[{fh.points}][{fw.inputs}];")
            with w.loop("j", fw.inputs):
                for i in range(fh.inputs):
                    where = f"px[{i * fw.inputs} + j] + c" if border else f"x + {i * g.x_h} + j * {g.x_w} + c"
                    w(f"const vf d{i} = {loaded(self.x_type, where, 1, tail)};")
                    if self.far_x:
                        w(f"__builtin_prefetch(x + {i * g.x_h} + (j + {fw.m * g.sw}) * {g.x_w} + c, 0, 2);")
                w(*transform_c(fh.bt, [f"d{i}" for i in range(fh.inputs)], [f"s[{i}][j]" for i in range(fh.points)], "t"))
            with w.loop("i", fh.points):
                w(f"vf {', '.join(f'r{j}' for j in range(fw.points))};")
                w(*transform_c(fw.bt, [f"s[i][{j}]" for j in range(fw.inputs)], [f"r{j}" for j in range(fw.points)], "u"))
                for j in range(fw.points):
                    w(f"vstore(v + at[i * {fw.points} + {j}] + c, r{j});")

        if full:
            with w.loop("c", full, self.lanes):
                vectors(0)
        if g.c > full:
            with w.block(""):
                w(f"const int64_t c = {full};")
                vectors(g.c - full)
        kind = self.x_type.c
        source = f"const {kind} *const *px, const {kind} *x" if border else f"const {kind} *x"
        return self._define("transform_input", f"{source}, float *v, const int64_t *at", w)

    # ---- one panel

    def _panel(self, w: Writer) -> None:
        g, s, nv = self.g, self.sizes, self.params.nv
        rest = s.vectors % nv
        w(f"const float *u = filters + panel * {self.cuts.filters * g.c * s.width};", f"const int64_t o = panel * {s.width};")
        if (rest or g.o % self.lanes) and s.panels > 1:
            with w.block(f"if (panel < {s.panels - 1})"):
                self._product(w, nv, 0)
                w("continue;")
        self._product(w, rest or nv, g.o % self.lanes)

    def _product(self, w: Writer, nv: int, tail: int) -> None:
        """The matrix products of all filters for one panel, then the way back."""
        g, s = self.g, self.sizes
        size = g.c * nv * self.lanes
        with w.loop("f", self.cuts.filters):
            w(f"const float *vf_ = v + first[f] * {s.ldv} + f * {self.lanes};")
            w(f"float *mf = m + first[f] * {s.width} + f * {self.lanes};")
            w(self._rows_function(nv).call("rows[f]", "vf_", f"u + f * {size}", "mf"))
        for k, tile in enumerate(self.cuts.types):
            function = self._output_function(tile, nv, tail)
            over = tile.h.over or tile.w.over
            with w.block(f"for (int64_t t = 0; t < count{k}; t++)"):
                self._place(w, k, tile)
                w(f"const int64_t oh = th * {tile.h.m} + {tile.h.start}, ow = tw * {tile.w.m} + {tile.w.start};")
                if over:
                    w(f"const int64_t rows = {g.h} - oh, cols = {g.w} - ow;")
                sides = [_at(f"e{i}", e) for i, e in enumerate(g.extras)]
                ends = ["rows", "cols"] if over else []
                w(function.call(f"m + t * {s.width}", f"at_m + {self.offsets[k]}", _at("y", g.y), *sides, *ends))

    def _heights(self) -> list[int]:
        """All numbers of rows that a filter has in some task."""
        if self.sizes.share:
            return list(range(1, 1 + max(self.cuts.filter_rows(self.sizes.share).values())))
        shares = {self.cuts.counts(b, self.params.blocks) for b in range(self.params.blocks)}
        return sorted({rows for share in shares for rows in self.cuts.filter_rows(share).values() if rows})

    def _rows_function(self, nv: int) -> _Function:
        """Multiplies all rows of one filter, register tile by register tile. Several share the work of fetching the next filter; a single
        one reads its filter at the pace at which the processor fetches it by itself."""
        mr, step = self.params.mr, nv * self.lanes
        cases: dict[int, set[int]] = {}
        for rows in self._heights():
            pieces = -(-rows // mr)
            for height in pieces_of(rows, mr):
                cases.setdefault(height, set()).add(-(-nv // pieces) if pieces > 1 else 0)
        w = Writer()
        w("if (!rows) return;")
        w(f"const int64_t pieces = (rows + {mr - 1}) / {mr}, low = rows / pieces, higher = rows % pieces;")
        ahead = self.ahead
        if ahead:
            w(f"const int64_t lines = pieces > 1 ? ({nv - 1} + pieces) / pieces : 0;", f"const float *next = u + {self.g.c * step};")
        with w.loop("k", "pieces"):
            w("const int64_t height = low + (k < higher);")
            with w.block("switch (height * 8 + lines)" if ahead else "switch (height)"):
                for height, speeds in sorted(cases.items()):
                    for lines in sorted(speeds) if ahead else [0]:
                        label = height * 8 + lines if ahead else height
                        call = self._gemm(Tile(height, nv), lines).call("v", "u", "m", *(["next"] if lines else []))
                        w(f"case {label}: {call} break;")
            w(f"v += height * {self.sizes.ldv};", f"m += height * {self.sizes.width};")
            if ahead:
                w(f"next += lines * {self.g.c * self.lanes};")
        return self._define(f"products_{nv}", "int64_t rows, const float *v, const float *u, float *m", w)

    def _gemm(self, tile: Tile, lines: int) -> _Function:
        """One register tile; ``lines`` vectors per channel are fetched ahead."""
        w = Writer()
        step = tile.nv * self.lanes
        tile.declare(w)
        with w.block(f"for (int64_t c = 0; c < {self.g.c}; c++, u += {step})"):
            for k in range(lines):
                w(f"__builtin_prefetch(next + c * {lines * self.lanes} + {k * self.lanes}, 0, 2);")
            if self.far_v:
                w(f"__builtin_prefetch(v + {tile.mr * self.sizes.ldv} + c * {min(tile.mr, 16)}, 0, 2);")
            tile.step(w, "u", [f"v[c + {r * self.sizes.ldv}]" if r else "v[c]" for r in range(tile.mr)])
        tile.finish(w, Input(0), [], Side("m", self.sizes.width, 1))
        next_ = ", const float *next" if lines else ""
        return self._define(f"product_{tile.mr}x{tile.nv}", f"const float *v, const float *u, float *m{next_}", w)

    def _output_function(self, tile: TileType, nv: int, tail: int) -> _Function:
        """Transforms one tile back, applies the epilogue and stores the part of it that exists."""
        fh, fw = tile.fh, tile.fw
        over_h, over_w = tile.h.over > 0, tile.w.over > 0
        w = Writer()

        def vector(offset: str, partial: int) -> None:
            w(f"vf s[{fh.m}][{fw.points}];")
            shared = self._shared(w, offset, partial)
            with w.loop("j", fw.points):
                for i in range(fh.points):
                    w(f"const vf q{i} = vload(m + at[{i * fw.points} + j] + {offset});")
                w(*transform_c(fh.at, [f"q{i}" for i in range(fh.points)], [f"s[{i}][j]" for i in range(fh.m)], "t"))
            with w.loop("i", f"({fh.m} < rows ? {fh.m} : rows)" if over_h else fh.m):
                w(f"vf {', '.join(f'r{j}' for j in range(fw.m))};")
                w(*transform_c(fw.at, [f"s[i][{j}]" for j in range(fw.points)], [f"r{j}" for j in range(fw.m)], "u"))
                if self.far_y:
                    self._fetch(w, fw.m, offset)
                for j in range(fw.m):
                    with w.block(f"if ({j} < cols)" if over_w and j >= fw.m - tile.w.over else ""):
                        self._store(w, j, offset, partial, shared)

        full = nv - (1 if tail else 0)
        if full:
            with w.loop("k", full * self.lanes, self.lanes):
                vector("k", 0)
        if tail:
            with w.block(""):
                vector(str(full * self.lanes), tail)
        sides = "".join(f", const {kind.c} *e{k}" for k, kind in enumerate(self.e_types))
        ends = ", int64_t rows, int64_t cols" if over_h or over_w else ""
        return self._define("transform_output", f"const float *m, const int64_t *at, {self.y_type.c} *y{sides}{ends}", w)

    def _fetch(self, w: Writer, columns: int, offset: str) -> None:
        """Fetches what row i of the next tile in the row of tiles will store and read."""
        for base, strides in (("y", self.g.y), *((f"e{k}", e) for k, e in enumerate(self.g.extras))):
            if strides[2]:
                for j in range(columns):
                    w(f"__builtin_prefetch({_pixel(base, strides, j + columns, offset)}, {int(base == 'y')}, 2);")

    def _shared(self, w: Writer, offset: str, tail: int) -> dict[int, str]:
        """Operands of the epilogue that are the same for all pixels are loaded once."""
        names: dict[int, str] = {}
        for k, strides in enumerate(self.g.extras):
            if strides[1] == strides[2] == 0:
                names[k + 1] = f"b{k}"
                w(f"const vf b{k} = {self._load(k, 0, offset, tail)};")
        return names

    def _store(self, w: Writer, j: int, offset: str, tail: int, shared: dict[int, str]) -> None:
        g = self.g

        def load(index: int) -> str:
            if index == 0:
                return f"r{j}"
            return shared.get(index) or self._load(index - 1, j, offset, tail)

        text = VectorC([dt.f32, *self.e_types], load, w).print(self.region.epilogue, self.y_type)
        w(stored(self.y_type, _pixel("y", g.y, j, offset), text, 1, tail))

    def _load(self, k: int, j: int, offset: str, tail: int) -> str:
        """C text of one vector of an epilogue operand."""
        strides = self.g.extras[k]
        return loaded(self.e_types[k], _pixel(f"e{k}", strides, j, offset), strides[3], tail)


def _pixel(base: str, strides: Sequence[int], j: int, offset: str) -> str:
    """C address of channel ``offset`` of pixel (i, j) of a tile."""
    column = f" + {offset} * {strides[3]}" if strides[3] not in (0, 1) else f" + {offset}" if strides[3] else ""
    return f"{base} + i * {strides[1]} + {j * strides[2]}{column}" if strides[1] or strides[2] else f"{base}{column}"


def _at(base: str, strides: Sequence[int]) -> str:
    """C address of a tile's first pixel and a panel's first channel."""
    return address(base, strides, ("n", "oh", "ow", "o"))
