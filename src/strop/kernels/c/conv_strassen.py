"""1x1 convolutions and products with constant weights in seven eighths of the multiplications, by Strassen's algorithm in Winograd's form
(``strassen_forms``).

A task takes a block of positions and halves it, as it halves the input channels and pairs of column panels. Sums of quarters of the rows are
made once per task in scratch; sums of quarters of the weights are stored with the weights, or, to keep these as small as they are, made
in scratch before each product. Quarters that are no sums are read in place. A product is a loop over register tiles; each tile adds to the
partial results, or applies the epilogue and stores, before it leaves the registers.

Rounding is some times that of a plain sum. A NaN or infinity in a row reaches the row it is paired with.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from strop.ir.expr import Expr, Input, substitute
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
from strop.kernels.c.positions import Geometry, evenly_spaced, geometry_of, weight_matrices
from strop.kernels.c.prologue_rows import Rows, apply_prologue
from strop.kernels.c.strassen_forms import (
    PRODUCTS,
    QUARTERS,
    ROW_SUMS,
    WEIGHT_SUMS,
    Product,
    Use,
    multiply,
    weight_parts,
)
from strop.kernels.c.tile import Ahead, Side, Tile, ahead, halves, pack_panels, product_cycles
from strop.kernels.c.writer import Writer, address, define
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Register tiles worth trying, best first where all fit.
_TILES = ((6, 4), (5, 4), (8, 3), (7, 3), (12, 2), (10, 2), (8, 2), (6, 2), (4, 3), (4, 2))
#: Floats added to each row in scratch, so that rows of a tile do not fall into one cache set.
_SKEW = 16
#: Fewest input channels, and fewest positions of a half, for which sums can pay.
_LEAST_K, _LEAST_ROWS = 48, 8


@dataclass(frozen=True)
class Params:
    """mr: positions per register tile; nv: vectors of output channels per tile; rows: positions per task; stored: sums of weights are
    stored, else made while running."""

    mr: int
    nv: int
    rows: int
    stored: bool


class ConvStrassen(Kernel[Params]):
    """See the module's text."""

    name = "conv_strassen"
    in_place = True
    prologue = True

    def accepts(self, region: Region, target: Target) -> str | None:
        g = geometry_of(region)
        if isinstance(g, str):
            return g
        if g.kh * g.kw != 1 or g.pads or g.groups != 1 or g.c_stride != 1:
            return "not a product of rows with consecutive channels"
        if g.c % 2 or g.c < _LEAST_K:
            return f"input channels are odd or fewer than {_LEAST_K}"
        if g.o < 2 * ISAS[target.isa].lanes:
            return "fewer than two vectors of output channels"
        if g.positions < 2 * _LEAST_ROWS:
            return f"fewer than {2 * _LEAST_ROWS} positions"
        if g.flat and g.n != 1:
            return "operands are not evenly spaced over images"
        if not g.flat and (region.has_prologue or any(evenly_spaced(s, g) is None for s in (g.y, *g.extras))):
            return "results are not evenly spaced"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        g = _geometry(region)
        isa = ISAS[target.isa]
        vectors = -(-g.o // isa.lanes)
        found = [
            Params(mr, nv, rows, stored)
            for mr, nv in _TILES
            if 2 * nv <= vectors and mr * nv + nv + 1 <= isa.registers
            for rows in _row_blocks(g, target)
            for stored in ((True, False) if rows >= _MADE_ROWS else (True,))
        ]
        if not found:
            found = [Params(4, 1, rows, True) for rows in _row_blocks(g, target)]
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = _geometry(region)
        lanes = ISAS[target.isa].lanes
        per_fma = lanes / target.fma_lanes
        half = -(-params.rows // 2)
        blocks = -(-g.positions // params.rows)
        cycles = 0.0
        for nv, count in _pairs(g.o, params.nv, lanes):
            tiles = sum(number * product_cycles(g.c // 2, size, nv, 0, lanes, per_fma, target) for _, size, number in _cut(half, params.mr))
            cycles += count * (len(PRODUCTS) * tiles + 9.0 * half * nv)  # partial results are read and written
            if not params.stored:
                cycles += count * len(WEIGHT_SUMS) * 2.5 * (g.c // 2) * nv
        if _odd_vector(g.o, lanes):
            cycles += product_cycles(g.c, params.mr, 1, 0, lanes, per_fma, target) * params.rows / params.mr
        cycles += len(ROW_SUMS) * 2.5 * half * (g.c // 2) / lanes
        if _copies(region, g):
            cycles += 2.0 * params.rows * g.c / lanes
        cycles *= blocks
        weights = 4.0 * g.c * g.o * (7 / 4 if params.stored else 1)
        streamed = blocks * weights / (20.0 if weights < target.l3 // 2 else target.bandwidth / (target.ghz * 1e9))
        cycles = max(cycles, streamed) + 0.1 * min(cycles, streamed)
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()

    def error(self, region: Region, params: Params) -> float | None:
        """Largest difference from exact arithmetic over some rows of standard normal input and the layer's own weights."""
        g = _geometry(region)
        matrix = weight_matrices(region, g)[0][:, : min(g.o // 2 * 2, 64)].astype(np.float32)
        rows = np.random.default_rng(0).standard_normal((16, g.c)).astype(np.float32)
        exact = rows.astype(np.float64) @ matrix.astype(np.float64)
        return float(np.abs(multiply(rows, matrix) - exact).max()) / max(float(np.abs(exact).max()), 1e-30)


#: Fewest positions per task for which sums of weights may be made in every task.
_MADE_ROWS = 96


def _geometry(region: Region) -> Geometry:
    return accepted(geometry_of(region))


def _copies(region: Region, g: Geometry) -> bool:
    """True when rows are first copied: run through a prologue, not evenly spaced, or so far apart that those of a tile share cache sets."""
    return region.has_prologue or not g.flat or (g.row_step * 4) % 4096 == 0


def _row_blocks(g: Geometry, target: Target) -> list[int]:
    """Positions per task worth trying: all, and equal pieces whose sums fit the second cache level or twice that; even numbers."""
    total = g.positions
    if target.cores > 1 and total >= 64 * target.cores:
        total = -(-total // target.cores)
    found = set()
    for room in (target.l2 // 2, 2 * target.l2, target.l3 // 4):
        most = max(2 * _LEAST_ROWS, room // (4 * g.c))
        pieces = -(-total // most)
        size = -(-total // pieces)
        found.add(size if size == g.positions else size + size % 2)
    return sorted(found)


def _pairs(columns: int, nv: int, lanes: int) -> list[tuple[int, int]]:
    """(vectors of a panel, pairs of such panels): as many of ``nv`` as there are, then one narrower pair."""
    vectors = -(-columns // lanes)
    full, rest = divmod(vectors, 2 * nv)
    return [(width, count) for width, count in ((nv, full), (rest // 2, 1)) if width and count]


def _odd_vector(columns: int, lanes: int) -> bool:
    """True when one vector of columns has no partner."""
    return -(-columns // lanes) % 2 == 1


def _cut(rows: int, mr: int) -> list[tuple[int, int, int]]:
    """Rows cut into the fewest tiles of at most ``mr``, as evenly as possible: (first row, rows of a tile, tiles)."""
    if not rows:
        return []
    count = -(-rows // mr)
    size, larger = divmod(rows, count)
    found = [(0, size + 1, larger), (larger * (size + 1), size, count - larger)]
    return [(start, height, number) for start, height, number in found if number and height]


def _padded(row: int, lanes: int) -> int:
    """Elements between rows of ``row`` elements in scratch."""
    return -(-row // lanes) * lanes + _SKEW


@dataclass(frozen=True)
class _Rows:
    """Where the rows of a product are: their first element, elements between them, rows of the upper half, what their tiles fetch."""

    base: str
    step: int
    half: int
    fetch: Ahead | None


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region, self.params, self.target = region, params, target
        self.g = _geometry(region)
        self.lanes = ISAS[target.isa].lanes
        self.k = self.g.c // 2
        self.copies = _copies(region, self.g)
        self.x_row = _padded(self.g.c, self.lanes) if self.copies else self.g.row_step
        self.s_row = _padded(self.k, self.lanes)
        self.pairs = _pairs(self.g.o, params.nv, self.lanes)
        self.odd = _odd_vector(self.g.o, self.lanes)
        self.tail = self.g.o % self.lanes
        self.rows = min(params.rows, self.g.positions)
        self.blocks = -(-self.g.positions // self.rows)
        self.parts = [p.b for p in PRODUCTS] if params.stored else [f"b{q}" for q in QUARTERS]
        self.y_step = evenly_spaced(self.g.y, self.g) or 0
        self.steps = [evenly_spaced(s, self.g) or 0 for s in self.g.extras]
        half = -(-self.rows // 2)
        widest = max(nv for nv, _ in self.pairs) * self.lanes
        #: Floats of scratch: copied rows, row sums, the partial results u and v, a sum of weights.
        self.sizes = (
            self.rows * self.x_row if self.copies else 0,
            len(ROW_SUMS) * half * self.s_row,
            2 * half * widest,
            0 if params.stored else self.k * widest,
        )
        self.helpers: list[str] = []

    def emitted(self) -> Emitted:
        wanted = 1 if self.target.cores == 1 else 2 * self.target.cores
        units = sum(count for _, count in self.pairs) + self.odd
        split = min(units, -(-wanted // self.blocks))
        per_task = -(-units // split)
        split = -(-units // per_task)
        w = Writer()
        pointers: list[Pointer] = [In(0), Packed(self._pack()), Out(0)]
        w("const float *x = a->p[0];", "const float *weights = a->p[1];", "float *y = a->p[2];")
        for k in range(len(self.region.extras)):
            w(f"const float *e{k} = a->p[{len(pointers)}];")
            pointers.append(In(self.region.anchors + k))
        for k in range(self.region.prologues):
            w(f"const float *q{k} = a->p[{len(pointers)}];")
            pointers.append(In(len(self.region.operands) - self.region.prologues + k))
        with w.block("for (int64_t task = begin; task < end; task++)"):
            block = f"task / {split}" if split > 1 else "task"
            w(f"const int64_t from = {block} * {self.rows};" if self.blocks > 1 else "const int64_t from = 0;")
            w(f"const int64_t first = {f'task % {split} * {per_task}' if split > 1 else '0'};")
            w(f"const int64_t last = {f'first + {per_task} < {units} ? first + {per_task} : {units}' if split > 1 else units};")
            self._blocks(w)
        return Emitted(w.text(), tuple(pointers), self.blocks * split, 4 * sum(self.sizes) + 64, tuple(self.helpers))

    def _blocks(self, w: Writer) -> None:
        """The call of a block's function; the last block may be shorter."""
        last = self.g.positions - (self.blocks - 1) * self.rows
        w("float *s = a->scratch;")
        if last == self.rows:
            self._block(w, self.rows)
            return
        with w.block(f"if (from < {(self.blocks - 1) * self.rows})"):
            self._block(w, self.rows)
        with w.block("else"):
            self._block(w, last)

    def _block(self, w: Writer, rows: int) -> None:
        if self.copies:
            self._copy_rows(w, rows)
        x = "s" if self.copies else address("x", ("from", self.x_row))
        sides = [address(f"e{k}", ("from", step)) for k, step in enumerate(self.steps)]
        sums = f"s + {self.sizes[0]}" if self.copies else "s"
        w(f"{self._rows_function(rows)}({', '.join([x, 'weights', address('y', ('from', self.y_step)), *sides, sums, 'first', 'last'])});")

    def _copy_rows(self, w: Writer, rows: int) -> None:
        g = self.g
        if self.region.has_prologue:
            w(f"const int64_t to = from + {rows};")
            apply_prologue(w, self.region, g, self.lanes, "x", Rows("s", self.x_row))
            return
        with w.loop("r", rows):
            if g.flat:
                w(f"const float *row = x + (from + r) * {g.row_step};")
            else:
                w("const int64_t p = from + r;")
                terms = [(f"(p / {g.h * g.w})", g.x_n)] if g.n > 1 else []
                image_row = f"(p / {g.w} % {g.h})" if g.n > 1 else f"(p / {g.w})"
                terms += [(image_row, g.sh * g.x_h)] if g.h > 1 else []
                w(f"const float *row = {address('x', *terms, (f'(p % {g.w})', g.x_step))};")
            w(f"memcpy(s + r * {self.x_row}, row, {g.c} * sizeof(float));")

    def _pack(self) -> Array:
        """Per pair of panels the parts of the weights, [part][k / 2][columns]; then the vector without partner, [k][lanes]."""
        matrix = weight_matrices(self.region, self.g)[0]
        found: list[Array] = []
        start = 0
        for nv, count in self.pairs:
            width = nv * self.lanes
            for _ in range(count):
                parts = weight_parts(matrix, start, start + width, width)
                found.extend(parts[name].reshape(-1) for name in self.parts)
                start += 2 * width
        if self.odd:
            found.append(pack_panels(matrix[:, start:], self.lanes, 1))
        return np.ascontiguousarray(np.concatenate(found), dtype=np.float32)

    # ---- one block of rows

    def _rows_function(self, rows: int) -> str:
        """All products of a block of rows with the panels ``first`` to ``last``."""
        w = Writer()
        half = -(-rows // 2)
        u, v = self.sizes[1], self.sizes[1] + self.sizes[2] // 2
        w(f"float *u = s + {u}, *v = s + {v};")
        if not self.params.stored:
            w(f"float *t = s + {self.sizes[1] + self.sizes[2]};")
        self._row_sums(w, rows, half)
        done, column, at = 0, 0, 0
        for nv, count in self.pairs:
            size = len(self.parts) * self.k * nv * self.lanes
            ends = column + 2 * nv * self.lanes * count == -(-self.g.o // self.lanes) * self.lanes
            with w.block(f"for (int64_t pair = first > {done} ? first : {done}; pair < last && pair < {done + count}; pair++)"):
                w(f"const float *b = weights + {at} + (pair - {done}) * {size};")
                w(f"const int64_t o = {column} + (pair - {done}) * {2 * nv * self.lanes};")
                if ends and self.tail:
                    with w.block(f"if (pair < {done + count - 1})"):
                        self._pair(w, rows, nv, 0)
                        w("continue;")
                self._pair(w, rows, nv, self.tail if ends else 0)
            done, column, at = done + count, column + 2 * nv * self.lanes * count, at + size * count
        if self.odd:
            with w.block(f"if (last > {done})"):
                w(f"const float *b = weights + {at};", f"const int64_t o = {column};")
                self._single(w, rows)
        sides = "".join(f", const float *e{k}" for k in range(len(self.steps)))
        head = f"(const float *x, const float *weights, float *y{sides}, float *s, int64_t first, int64_t last)"
        return self._define(f"rows_{rows}", head, w, f"{rows} positions by pairs of panels of output channels")

    def _row_sums(self, w: Writer, rows: int, half: int) -> None:
        """The sums of quarters of the rows; the lower half of an odd block lacks a row, which counts as zero."""
        k, size = self.k, half * self.s_row
        full = k // self.lanes * self.lanes

        def vector(lower: bool, tail: int) -> None:
            load = f"vload_n({{}}, {tail})".format if tail else "vload({})".format
            w(f"const vf a11 = {load('upper + c')}, a12 = {load(f'upper + {k} + c')};")
            if lower:
                w(f"const vf a21 = {load('lower + c')}, a22 = {load(f'lower + {k} + c')};")
                w("const vf s1 = a21 + a22, s2 = s1 - a11, s3 = a11 - a21, s4 = a12 - s2;")
            else:
                w("const vf s1 = vzero(), s2 = -a11, s3 = a11, s4 = a12 - s2;")
            for number, name in enumerate(ROW_SUMS):
                to = f"to + {number * size} + c" if number else "to + c"
                w(f"vstore_n({to}, {name}, {tail});" if tail else f"vstore({to}, {name});")

        def row(lower: bool) -> None:
            if full:
                with w.loop("c", full, self.lanes):
                    vector(lower, 0)
            if k > full:
                with w.block(""):
                    w(f"const int64_t c = {full};")
                    vector(lower, k - full)

        with w.loop("r", rows - half):
            w(f"const float *upper = x + r * {self.x_row}, *lower = upper + {half * self.x_row};", f"float *to = s + r * {self.s_row};")
            row(True)
        if rows % 2:
            with w.block(""):
                w(f"const float *upper = x + {(half - 1) * self.x_row};", f"float *to = s + {(half - 1) * self.s_row};")
                row(False)

    def _pair(self, w: Writer, rows: int, nv: int, tail: int) -> None:
        """The seven products of one pair of panels."""
        if not self.params.stored:
            w(f"const float *next = b + {len(self.parts) * self.k * nv * self.lanes};")
        for product in PRODUCTS:
            panel = self.k * nv * self.lanes
            if product.b in self.parts:
                at = self.parts.index(product.b) * panel
                weights = f"b + {at}" if at else "b"
            else:
                self._weight_sum(w, product.b, panel)
                weights = "t"
            self._product(w, product, weights, rows, nv, tail)

    def _weight_sum(self, w: Writer, name: str, panel: int) -> None:
        """Makes a sum of quarters of the weights in scratch."""
        terms = []
        for sign, quarter in WEIGHT_SUMS[name]:
            at = self.parts.index(quarter) * panel
            terms.append(f"{'+' if sign > 0 else '-'} vload(b + {f'{at} + ' if at else ''}i)")
        with w.loop("i", panel, self.lanes):
            w(f"vstore(t + i, {' '.join(terms).removeprefix('+ ')});")

    def _product(self, w: Writer, product: Product, weights: str, rows: int, nv: int, tail: int) -> None:
        half = -(-rows // 2)
        if product.a in ROW_SUMS:
            at = ROW_SUMS.index(product.a) * half * self.s_row
            base, step = (f"s + {at}" if at else "s"), self.s_row
        else:
            below, right = product.a[1] == "2", product.a[2] == "2"
            at = (half * self.x_row if below else 0) + (self.k if right else 0)
            base, step = (f"x + {at}" if at else "x"), self.x_row
        lower = [use.to[1] == "2" for use in product.uses if use.to in ("c21", "c22")]
        extent = rows - half if product.a == "a22" else half
        short = rows % 2 == 1 and bool(lower) and extent == half
        cut = _cut(extent, self.params.mr)
        fetch = self._fetch(cut, nv)
        rows_at = _Rows(base, step, half, fetch)
        with w.block("") if fetch is not None and self.params.stored else nullcontext():
            if fetch is not None and self.params.stored:
                w(f"const float *next = {weights} + {self.k * nv * self.lanes};")
            for start, height, number in cut:
                last = start + height * number == extent
                whole = number - 1 if last and short else number
                if whole:
                    with w.loop("p", start + height * whole, height, start):
                        self._call(w, product, weights, rows_at, "p", Tile(height, nv, tail), height)
                if whole < number:
                    self._call(w, product, weights, rows_at, str(start + height * whole), Tile(height, nv, tail), height - 1)

    def _fetch(self, cut: list[tuple[int, int, int]], nv: int) -> Ahead | None:
        """What each tile of a product fetches: its share of the weights that the next product or, where sums are made, the next pair needs."""
        panel = self.k * nv * self.lanes
        tiles = max(1, sum(number for *_, number in cut))
        if self.params.stored:
            return ahead(panel, tiles, self.k)
        return ahead(len(self.parts) * panel, len(PRODUCTS) * tiles, self.k)

    def _call(self, w: Writer, product: Product, weights: str, rows: _Rows, p: str, tile: Tile, lower: int) -> None:
        """Calls the tile's function. ``lower``: its rows that exist in the lower half."""
        width, half = tile.nv * self.lanes, rows.half
        at = f"{p} * {width}"
        arguments = [f"{rows.base} + {p} * {rows.step}", weights, *(["next"] if rows.fetch is not None else [])]
        arguments += [f"{name} + {at}" for name in ("u", "v") if _needs(product, name)]
        result = next((use for use in product.uses if use.to.startswith("c")), None)
        if result is not None:
            below, right = result.to[1] == "2", result.to[2] == "2"
            row = f"({half} + {p})" if below else p
            column = f"(o + {width})" if right else "o"
            arguments.append(address("y", (row, self.y_step), (column, 1)))
            arguments += [
                address(f"e{k}", (row, step), (column, s[3])) for k, (step, s) in enumerate(zip(self.steps, self.g.extras, strict=True))
            ]
            tile = Tile(tile.mr, tile.nv, tile.tail if right else 0)
        else:
            tile = Tile(tile.mr, tile.nv)
        w(f"{self._tile(product, tile, rows, lower)}({', '.join(arguments)});")
        if rows.fetch is not None:
            w(f"next += {rows.fetch.floats(self.k)};")

    def _tile(self, product: Product, tile: Tile, rows: _Rows, lower: int) -> str:
        """Defines the function of a tile of a product once and returns its name."""
        w = Writer()
        self._accumulate(w, tile, self.k, rows.step, rows.fetch)
        names = [name for name in ("u", "v") if _needs(product, name)]
        parameters = ["const float *x", "const float *w", *(["const float *ahead"] if rows.fetch is not None else [])]
        parameters += [f"float *{name}" for name in names]
        for use in product.uses:
            with w.block(""):
                self._finish(w, use, tile, lower)
        if any(use.to.startswith("c") for use in product.uses):
            parameters += ["float *y", *(f"const float *e{k}" for k in range(len(self.steps)))]
        uses = ", ".join(f"{use.to} = {use.source} {'+' if use.sign > 0 else '-'} {product.a} {product.b}" for use in product.uses)
        return self._define(f"tile_{tile.mr}x{tile.nv}", f"({', '.join(parameters)})", w, uses.replace("=  +", "="))

    def _finish(self, w: Writer, use: Use, tile: Tile, lower: int) -> None:
        width = tile.nv * self.lanes
        partial = Side(use.source, width, 1)
        if not use.to.startswith("c"):
            expr = _combined(use, 1) if use.source else Input(0)
            Tile(tile.mr, tile.nv).finish(w, expr, [partial] if use.source else [], Side(use.to, width, 1))
            return
        count = len(self.steps)
        total = _combined(use, 1 + count)
        epilogue = substitute(self.region.epilogue, lambda e: total if e == Input(0) else e if isinstance(e, Input) else None)
        sides = [*self._sides(), partial]
        rows = lower if use.to[1] == "2" else tile.mr
        if rows:
            Tile(rows, tile.nv, tile.tail).finish(w, epilogue, sides, Side("y", self.y_step, 1))

    def _single(self, w: Writer, rows: int) -> None:
        """The vector of columns without partner, as plain products."""
        most = min(rows, 12 if self.lanes == 16 else 6)
        for start, height, number in _cut(rows, most):
            with w.loop("p", start + height * number, height, start):
                sides = [address(f"e{k}", ("p", step), ("o", s[3])) for k, (step, s) in enumerate(zip(self.steps, self.g.extras, strict=True))]
                tile = Tile(height, 1, self.tail, halves(self.tail, ISAS[self.target.isa]))
                arguments = [f"x + p * {self.x_row}", "b", address("y", ("p", self.y_step), ("o", 1)), *sides]
                w(f"{self._plain_tile(tile)}({', '.join(arguments)});")

    def _plain_tile(self, tile: Tile) -> str:
        w = Writer()
        self._accumulate(w, tile, self.g.c, self.x_row)
        tile.finish(w, self.region.epilogue, self._sides(), Side("y", self.y_step, 1))
        parameters = ["const float *x", "const float *w", "float *y", *(f"const float *e{k}" for k in range(len(self.steps)))]
        return self._define(f"tile_{tile.mr}x{tile.nv}", f"({', '.join(parameters)})", w, "plain products")

    @staticmethod
    def _accumulate(w: Writer, tile: Tile, k: int, step: int, fetch: Ahead | None = None) -> None:
        tile.declare(w)
        tile.walk(w, k, "w", [f"x[k + {r * step}]" if r else "x[k]" for r in range(tile.mr)], fetch)

    def _sides(self) -> list[Side]:
        return [Side(f"e{k}", step, s[3]) for k, (step, s) in enumerate(zip(self.steps, self.g.extras, strict=True))]

    def _define(self, stem: str, parameters: str, w: Writer, comment: str) -> str:
        """Adds a function once; returns its name."""
        text = f"{parameters} {{ /* {comment} */\n{w.text()}\n}}"
        return define(self.helpers, stem, text)


def _needs(product: Product, name: str) -> bool:
    """True when a product reads or writes a partial result."""
    return any(name in (use.to, use.source) for use in product.uses)


def _combined(use: Use, index: int) -> Expr:
    """The partial result, operand ``index``, plus or minus the accumulator."""
    return Input(index) + Input(0) if use.sign > 0 else Input(index) - Input(0)


KERNEL = ConvStrassen()
