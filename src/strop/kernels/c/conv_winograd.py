"""Convolution of stride 1 with fewer multiplications: F(mh x mw, kh x kw) after Lavin and Gray (2015), for square kernels and for kernels
of one row or column, e.g. F(4x4, 3x3), F(2x2, 5x5), F(1x2, 1x7).

A task takes a run of output tiles. Their inputs are transformed once into scratch, ``V[point][tile][channel]``; then, panel of output channels by
panel, one matrix product per transform point gives ``M[point][tile][column]``, which is transformed back, run through the epilogue and stored while it is
still in the second cache level. Padding is a zero-filled patch for the tiles that need it. Filters are transformed when they are packed.

Rounding grows with the number of transform points: about 1e-6 relative for 4, 1e-5 for 6 or 8 of unit-variance data. A NaN or infinity in the
input reaches all outputs of its tile.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Input
from strop.ir.op import Array
from strop.kernels.base import Emitted, In, Kernel, Out, Packed, Pointer, Region, memory_seconds
from strop.kernels.c.positions import Geometry, geometry_of
from strop.kernels.c.tile import Side, Tile, pack_panels
from strop.kernels.c.vector import VectorC
from strop.kernels.c.winograd_matrices import Filtering, filtering, transform_c
from strop.kernels.c.writer import Writer
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Floats added to each row of V, so that rows of a tile do not fall into one cache set.
_SKEW = 16
#: Most bytes of V per task.
_SCRATCH = 4 << 20


#: Kernel (rows, columns) -> outputs per tile (rows, columns) whose transforms round little enough, most saving first.
_TRANSFORMS: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (3, 3): ((4, 4), (2, 2)),
    (5, 5): ((2, 2),),
    (1, 3): ((1, 4), (1, 2)),
    (3, 1): ((4, 1), (2, 1)),
    (1, 5): ((1, 4), (1, 2)),
    (5, 1): ((4, 1), (2, 1)),
    (1, 7): ((1, 2),),
    (7, 1): ((2, 1),),
}


@dataclass(frozen=True)
class Params:
    """mh, mw: outputs per tile; mr, nv: register tile; tiles: output tiles per task."""

    mh: int
    mw: int
    mr: int
    nv: int
    tiles: int


class ConvWinograd(Kernel[Params]):
    """See the module's text."""

    name = "conv_winograd"
    in_place = True

    def accepts(self, region: Region, target: Target) -> str | None:
        g = geometry_of(region)
        if isinstance(g, str):
            return g
        if (g.sh, g.sw, g.dh, g.dw) != (1, 1, 1, 1):
            return "strided or dilated"
        if not _outputs(g):
            return f"no transform for {g.kh}x{g.kw}"
        if g.groups != 1 or g.c_stride != 1 or g.c < 8:
            return "grouped, planar or with few channels"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        g = _geometry(region)
        isa = ISAS[target.isa]
        vectors = -(-g.o // isa.lanes)
        found: list[Params] = []
        for mh, mw in _outputs(g):
            total = _tiles(g, mh, mw)
            for mr, nv in ((6, 4), (4, 4), (7, 3), (8, 3), (8, 2), (12, 2), (4, 2), (6, 2), (4, 1)):
                if nv > vectors or mr * nv + nv + 1 > isa.registers or mr > total:
                    continue
                found.extend(Params(mh, mw, mr, nv, t) for t in _blocks(g, mh, mw, mr, total, target))
        if not found:
            found = [Params(*_outputs(g)[-1], 1, 1, 1)]
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:12]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        g = _geometry(region)
        lanes = ISAS[target.isa].lanes
        points = _points(g, params.mh, params.mw)
        total = g.n * _tiles(g, params.mh, params.mw)
        vectors = -(-g.o // lanes)
        blocks = -(-total // params.tiles)
        rows, rest = divmod(params.tiles, params.mr)
        per_k = max(params.mr * params.nv * lanes / target.fma_lanes, params.nv * lanes * 4 / 32.0 + params.mr * 0.5)
        waste = (rows + bool(rest)) * params.mr / params.tiles if rest > params.mr // 2 else 1.0
        gemm = total / params.mr * waste * (vectors / params.nv) * points * (g.c * per_k + 30.0)
        held = 4 * points * params.tiles * (g.c + _SKEW + params.nv * lanes)
        reach = 5.0 if held < target.l2 * 7 // 10 else 9.0
        transform = total * points * (-(-g.c // lanes) + vectors) * reach
        if reach > 5.0:  # V is read from the last cache level for every panel
            transform += 4.0 * points * total * g.c * -(-vectors // params.nv) / 20.0
        filters = 4.0 * points * g.c * vectors * lanes
        rate = 14.0 if filters < target.l3 // 2 else target.bandwidth / (target.ghz * 1e9)
        stream = blocks * filters / (32.0 if filters < target.l2 // 3 else rate)
        cycles = max(gemm, stream) + 0.3 * min(gemm, stream) + transform
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()

    def error(self, region: Region, params: Params) -> float | None:
        """Largest difference from exact arithmetic over a few tiles of standard normal input and the layer's own filters."""
        g = _geometry(region)
        fh, fw = filtering(params.mh, g.kh), filtering(params.mw, g.kw)
        weight = region.operand(1).const
        assert weight is not None
        filters = weight.reshape(g.o, g.c, g.kh, g.kw)[: min(g.o, 32)]
        tiles = np.random.default_rng(0).standard_normal((4, g.c, fh.taps, fw.taps))
        results = [_simulate(fh, fw, tiles, filters, kind) for kind in (np.float32, np.float64)]
        scale = max(float(np.abs(results[1]).max()), 1e-30)
        return float(np.abs(results[0] - results[1]).max()) / scale


def _simulate(fh: Filtering, fw: Filtering, tiles: Array, filters: Array, kind: type[np.floating[Any]]) -> Array:
    """Results [tile, o, mh, mw] of the algorithm in one float type; filters are transformed in f64 and rounded, as they are packed."""
    (ah, gh, bh), (aw, gw, bw) = ([np.array(m, np.float64) for m in (f.at, f.g, f.bt)] for f in (fh, fw))
    u = (gh @ filters.astype(np.float64) @ gw.T).astype(kind)
    v = bh.astype(kind) @ tiles.astype(kind) @ bw.T.astype(kind)
    products = np.einsum("tcij,ocij->toij", v, u, dtype=kind)
    return np.asarray(ah.astype(kind) @ products @ aw.T.astype(kind))


def _geometry(region: Region) -> Geometry:
    g = geometry_of(region)
    assert isinstance(g, Geometry), g
    return g


def _outputs(g: Geometry) -> list[tuple[int, int]]:
    """Outputs per tile (rows, columns) for which there are accurate transforms, most saving first; empty when there are none."""
    if (g.kh, g.kw) not in _TRANSFORMS:
        return []
    found = [m for m in _TRANSFORMS[g.kh, g.kw] if m[0] <= g.h + 1 and m[1] <= g.w + 1]
    return found or [_TRANSFORMS[g.kh, g.kw][-1]]


def _points(g: Geometry, mh: int, mw: int) -> int:
    """Products per tile, input channel and output channel."""
    return (mh + g.kh - 1) * (mw + g.kw - 1)


def _tiles(g: Geometry, mh: int, mw: int) -> int:
    """Output tiles of one image."""
    return -(-g.h // mh) * -(-g.w // mw)


def _blocks(g: Geometry, mh: int, mw: int, mr: int, total: int, target: Target) -> list[int]:
    """Tiles per task worth trying: V in half the second cache level; one slab of V there, at most a few MiB of scratch."""
    points = _points(g, mh, mw)
    slab = max(mr, target.l2 // 4 // (4 * g.c))
    scratch = max(mr, _SCRATCH // (4 * points * (g.c + _SKEW)))
    most = min(total, slab, scratch)
    small = max(mr, target.l2 // 2 // (4 * points * (g.c + 64)))
    found = {most, min(small, most), min(2 * small, most)}
    if total > most:  # equal pieces rather than a short last one
        found.add(-(-total // -(-total // most)))
    return sorted({min(total, -(-t // mr) * mr) for t in found})


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region, self.params, self.target = region, params, target
        self.g = _geometry(region)
        self.fh: Filtering = filtering(params.mh, self.g.kh)
        self.fw: Filtering = filtering(params.mw, self.g.kw)
        self.ah, self.aw = self.fh.taps, self.fw.taps
        self.points = self.ah * self.aw
        self.lanes = ISAS[target.isa].lanes
        self.vectors = -(-self.g.o // self.lanes)
        self.panels = -(-self.vectors // params.nv)
        self.tiles_w = -(-self.g.w // params.mw)
        self.tiles = _tiles(self.g, params.mh, params.mw)
        self.ldv = self.g.c + _SKEW
        self.width = params.nv * self.lanes
        self.helpers: list[str] = []

    def emitted(self) -> Emitted:
        g, p = self.g, self.params
        blocks = -(-self.tiles // p.tiles)
        wanted = 1 if self.target.cores == 1 else 2 * self.target.cores
        split = min(self.panels, -(-wanted // (g.n * blocks)))
        per_task = -(-self.panels // split)
        split = -(-self.panels // per_task)
        w = Writer()
        pointers: list[Pointer] = [In(0), Packed(self._pack()), Out(0)]
        w("const float *x = a->p[0];", "const float *filters = a->p[1];", "float *y = a->p[2];")
        for k in range(len(self.region.extras)):
            w(f"const float *e{k} = a->p[{3 + k}];")
            pointers.append(In(self.region.anchors + k))
        v_size = self.points * p.tiles * self.ldv
        m_size = self.points * p.tiles * self.width
        w("float *v = a->scratch;", f"float *m = v + {v_size};", f"float *patch = m + {m_size};")
        with w.block("for (int64_t task = begin; task < end; task++)"):
            w(f"const int64_t n = task / {blocks * split}, block = task / {split} % {blocks}, pb = task % {split};")
            w(f"const int64_t first = block * {p.tiles};")
            w(f"const int64_t count = first + {p.tiles} < {self.tiles} ? {p.tiles} : {self.tiles} - first;")
            self._inputs(w)
            w(f"const int64_t last_panel = (pb + 1) * {per_task} < {self.panels} ? (pb + 1) * {per_task} : {self.panels};")
            with w.block(f"for (int64_t panel = pb * {per_task}; panel < last_panel; panel++)"):
                self._panel(w)
        scratch = 4 * (v_size + m_size + self.points * self.ldv + 64)
        return Emitted(w.text(), tuple(pointers), g.n * blocks * split, scratch, tuple(self.helpers))

    def _pack(self) -> Array:
        """Transformed filters, [panel][point][c][columns of the panel]."""
        weight = self.region.operand(1).const
        assert weight is not None
        kh, kw = self.g.kh, self.g.kw
        taps = np.ascontiguousarray(
            weight.reshape(self.g.o, self.g.c, kh, kw).transpose(2, 3, 1, 0), dtype=np.float64
        )
        gh, gw = (np.array(f.g, dtype=np.float64) for f in (self.fh, self.fw))
        half = [[sum(gw[b, s] * taps[r, s] for s in range(kw)) for b in range(self.aw)] for r in range(kh)]
        u = [
            np.asarray(sum(gh[i, r] * half[r][j] for r in range(kh)), dtype=np.float32)
            for i in range(self.ah)
            for j in range(self.aw)
        ]
        parts: list[Array] = []
        for panel in range(self.panels):
            columns = slice(panel * self.width, (panel + 1) * self.width)
            parts.extend(pack_panels(point[:, columns], self.lanes, self.params.nv) for point in u)
        return np.concatenate(parts)

    # ---- inputs

    def _inputs(self, w: Writer) -> None:
        g, p = self.g, self.params
        name = self._input_function()
        with w.block("for (int64_t t = 0; t < count; t++)"):
            w(f"const int64_t ih = (first + t) / {self.tiles_w} * {p.mh} - {g.pad_top};")
            w(f"const int64_t iw = (first + t) % {self.tiles_w} * {p.mw} - {g.pad_left};")
            w(f"const float *from = x + n * {g.x_n} + ih * {g.x_h} + iw * {g.x_w};")
            inside = f"ih >= 0 && ih + {self.ah} <= {g.in_h} && iw >= 0 && iw + {self.aw} <= {g.in_w}"
            with w.block(f"if ({inside})"):
                w(f"{name}(from, {g.x_h}, {g.x_w}, v + t * {self.ldv});", "continue;")
            with w.loop("i", self.ah), w.loop("j", self.aw):
                w(f"float *to = patch + (i * {self.aw} + j) * {g.c};")
                with w.block(f"if (ih + i >= 0 && ih + i < {g.in_h} && iw + j >= 0 && iw + j < {g.in_w})"):
                    w(f"memcpy(to, from + i * {g.x_h} + j * {g.x_w}, {g.c} * sizeof(float));")
                with w.block("else"):
                    w(f"memset(to, 0, {g.c} * sizeof(float));")
            w(f"{name}(patch, {self.aw * g.c}, {g.c}, v + t * {self.ldv});")

    def _input_function(self) -> str:
        """Transforms one tile's inputs into its row of every point's slab."""
        ah, aw, c = self.ah, self.aw, self.g.c
        w = Writer()
        full = c // self.lanes * self.lanes

        def vectors(load: str, store: str) -> None:
            w(f"vf s[{ah}][{aw}];")
            with w.loop("j", aw):
                for i in range(ah):
                    w(f"const vf d{i} = {load.format(f'x + {i} * row + j * pixel + c')};")
                w(*transform_c(self.fh.bt, [f"d{i}" for i in range(ah)], [f"s[{i}][j]" for i in range(ah)], "t"))
            with w.loop("i", ah):
                w(f"vf {', '.join(f'r{j}' for j in range(aw))};")
                w(*transform_c(self.fw.bt, [f"s[i][{j}]" for j in range(aw)], [f"r{j}" for j in range(aw)], "u"))
                for j in range(aw):
                    address = f"v + (i * {aw} + {j}) * {self.params.tiles * self.ldv} + c"
                    w(store.format(address, f"r{j}"))

        if full:
            with w.loop("c", full, self.lanes):
                vectors("vload({0})", "vstore({0}, {1});")
        if c > full:
            with w.block(""):
                w(f"const int64_t c = {full};")
                vectors(f"vload_n({{0}}, {c - full})", "vstore({0}, {1});")
        return self._define("transform_input", "(const float *x, int64_t row, int64_t pixel, float *v)", w)

    def _define(self, stem: str, parameters: str, w: Writer) -> str:
        text = f"{parameters} {{\n{w.text()}\n}}"
        name = f"{stem}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        helper = f"static void {name}{text}\n"
        if helper not in self.helpers:
            self.helpers.append(helper)
        return name

    # ---- one panel

    def _panel(self, w: Writer) -> None:
        g, p = self.g, self.params
        rest = self.vectors % p.nv
        size = self.points * g.c * self.width
        w(f"const float *u = filters + panel * {size};", f"const int64_t o = panel * {self.width};")
        if (rest or g.o % self.lanes) and self.panels > 1:
            with w.block(f"if (panel < {self.panels - 1})"):
                self._product(w, p.nv, False)
                w("continue;")
            self._product(w, rest or p.nv, True)
        else:
            self._product(w, rest or p.nv, True)

    def _product(self, w: Writer, nv: int, last: bool) -> None:
        """The matrix products of all points for one panel, then the way back."""
        g, p = self.g, self.params
        columns = nv * self.lanes
        with w.loop("point", self.points):
            w(f"const float *vp = v + point * {p.tiles * self.ldv};")
            w(f"const float *up = u + point * {g.c * columns};")
            w(f"float *mp = m + point * {p.tiles * columns};")
            w("int64_t t = 0;")
            for mr in sorted({p.mr, max(1, p.mr // 2), 1}, reverse=True):
                with w.block(f"for (; t + {mr} <= count; t += {mr})"):
                    w(f"{self._gemm(Tile(mr, nv))}(vp + t * {self.ldv}, up, mp + t * {columns});")
        tail = g.o % self.lanes if last else 0
        name = self._output_function(nv, tail)
        with w.block("for (int64_t t = 0; t < count; t++)"):
            w(f"const int64_t oh = (first + t) / {self.tiles_w} * {p.mh}, ow = (first + t) % {self.tiles_w} * {p.mw};")
            w(f"const int64_t rows = oh + {p.mh} <= {g.h} ? {p.mh} : {g.h} - oh;")
            w(f"const int64_t cols = ow + {p.mw} <= {g.w} ? {p.mw} : {g.w} - ow;")
            sides = [_at(f"e{k}", s) for k, s in enumerate(g.extras)]
            w(f"{name}({', '.join([f'm + t * {columns}', _at('y', g.y), *sides, 'rows', 'cols'])});")

    def _gemm(self, tile: Tile) -> str:
        w = Writer()
        step = tile.nv * self.lanes
        tile.declare(w)
        with w.block(f"for (int64_t c = 0; c < {self.g.c}; c++, u += {step})"):
            tile.step(w, "u", [f"v[c + {r * self.ldv}]" if r else "v[c]" for r in range(tile.mr)])
        tile.finish(w, Input(0), [], Side("m", step, 1))
        return self._define(f"product_{tile.mr}x{tile.nv}", "(const float *v, const float *u, float *m)", w)

    def _output_function(self, nv: int, tail: int) -> str:
        """Transforms one tile back, applies the epilogue and stores the part of it that exists."""
        g, p, ah, aw = self.g, self.params, self.ah, self.aw
        slab = p.tiles * nv * self.lanes
        w = Writer()

        def vector(offset: str, partial: int) -> None:
            w(f"vf s[{p.mh}][{aw}], r[{p.mh}][{p.mw}];")
            with w.loop("j", aw):
                for i in range(ah):
                    w(f"const vf q{i} = vload(m + (j + {i * aw}) * {slab} + {offset});")
                w(*transform_c(self.fh.at, [f"q{i}" for i in range(ah)], [f"s[{i}][j]" for i in range(p.mh)], "t"))
            with w.loop("i", p.mh):
                names = [f"s[i][{j}]" for j in range(aw)]
                w(*transform_c(self.fw.at, names, [f"r[i][{j}]" for j in range(p.mw)], "u"))
            with w.block(f"if (rows == {p.mh} && cols == {p.mw})"):
                self._store(w, str(p.mh), str(p.mw), offset, partial)
            with w.block("else"):
                self._store(w, "rows", "cols", offset, partial)

        full = nv - (1 if tail else 0)
        if full:
            with w.loop("k", full * self.lanes, self.lanes):
                vector("k", 0)
        if tail:
            with w.block(""):
                vector(str(full * self.lanes), tail)
        sides = "".join(f", const float *e{k}" for k in range(len(g.extras)))
        parameters = f"(const float *m, float *y{sides}, int64_t rows, int64_t cols)"
        return self._define("transform_output", parameters, w)

    def _store(self, w: Writer, rows: str, cols: str, offset: str, tail: int) -> None:
        g = self.g

        def address(base: str, strides: tuple[int, int, int, int]) -> str:
            column = f" + {offset} * {strides[3]}" if strides[3] not in (0, 1) else f" + {offset}" if strides[3] else ""
            return f"{base} + i * {strides[1]} + j * {strides[2]}{column}"

        def load(index: int) -> str:
            if index == 0:
                return "r[i][j]"
            strides = g.extras[index - 1]
            where = address(f"e{index - 1}", strides)
            if strides[3] == 0:
                return f"vset1(*({where}))"
            if strides[3] == 1:
                return f"vload_n({where}, {tail})" if tail else f"vload({where})"
            return f"vgather_n({where}, {strides[3]}, {tail})" if tail else f"vgather({where}, {strides[3]})"

        with w.loop("i", rows), w.loop("j", cols):
            printer = VectorC([dt.f32] * (1 + len(g.extras)), load, w)
            text = printer.print(self.region.epilogue)
            where = address("y", g.y)
            w(f"vstore_n({where}, {text}, {tail});" if tail else f"vstore({where}, {text});")


def _at(base: str, strides: tuple[int, int, int, int]) -> str:
    terms = [base]
    for stride, var in zip(strides, ("n", "oh", "ow", "o"), strict=True):
        if stride:
            terms.append(f"{var} * {stride}" if stride != 1 else var)
    return " + ".join(terms)


KERNEL = ConvWinograd()
