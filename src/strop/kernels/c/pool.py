"""Max and average pooling over channels-last images: a vector of channels per accumulator, one window at a time.

Windows that lie inside the image have their taps unrolled; those at a border walk only the taps that exist.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, View, memory_seconds
from strop.kernels.c.rows import Finish, Track
from strop.kernels.c.writer import Writer
from strop.ops.pool import AveragePool, MaxPool
from strop.target.base import Target
from strop.target.isa.table import ISAS


@dataclass(frozen=True)
class Params:
    """unroll: vectors of channels whose windows are gathered together."""

    unroll: int


class Pool(Kernel[Params]):
    """See the module's text."""

    name = "pool"
    in_place = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, (MaxPool, AveragePool)):
            return "the anchor is no pool"
        if not region.all_f32():
            return "not f32"
        x, y = region.operand(0).view, region.out
        if len(x.shape) not in (3, 4):
            return f"{len(x.shape) - 2} spatial axes"
        if x.shape[1] != 1 and (x.strides[1] != 1 or y.strides[1] != 1):
            return "channels are not consecutive"
        return None if y.count else "empty"

    def space(self, region: Region, target: Target) -> list[Params]:
        vectors = -(-region.out.shape[1] // ISAS[target.isa].lanes)
        return [Params(u) for u in (1, 2, 4) if u <= vectors]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        assert isinstance(region.op, (MaxPool, AveragePool))
        taps = 1
        for k in region.op.kernel:
            taps *= k
        n, c, *spatial = region.out.shape
        windows = n
        for size in spatial:
            windows *= size
        vectors = -(-c // ISAS[target.isa].lanes)
        step = 2.0 if isinstance(region.op, MaxPool) else 1.0
        cycles = windows * (10.0 + vectors * (taps * (step + 1.0 / params.unroll) + 4.0))
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


@dataclass(frozen=True)
class _Axis:
    """One spatial axis of a pool."""

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    def inside(self) -> tuple[int, int]:
        """Window positions [first, end) whose taps all exist."""
        reach = (self.kernel - 1) * self.dilation
        first = -(-self.before // self.stride)
        end = (self.size - 1 - reach + self.before) // self.stride + 1
        first = min(max(first, 0), self.out)
        return first, max(first, min(end, self.out))

    def taps_before(self, bound: int, start: str) -> str:
        """C text: how many taps of the window that starts at ``start`` lie before ``bound``, at least 0, at most all."""
        need = f"({bound} - {start} + {self.dilation - 1}) / {self.dilation}" if self.dilation > 1 else f"({bound} - {start})"
        return f"({start} >= {bound} ? 0 : {need} > {self.kernel} ? {self.kernel} : {need})"


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region, self.params, self.target = region, params, target
        op = region.op
        assert isinstance(op, (MaxPool, AveragePool))
        self.op = op
        self.x, self.y = (_four(v) for v in (region.operand(0).view, region.out))
        self.sides = [_four(e.view) for e in region.extras]
        rank = len(op.kernel)
        lead = (1,) * (2 - rank)
        kernel, strides, dilations = lead + op.kernel, lead + op.strides, lead + op.dilations
        before, after = (0,) * (2 - rank) + op.pads[:rank], (0,) * (2 - rank) + op.pads[rank:]
        self.h, self.w = (
            _Axis(self.x.shape[2 + k], self.y.shape[2 + k], kernel[k], strides[k], dilations[k], before[k], after[k])
            for k in range(2)
        )
        self.lanes = ISAS[target.isa].lanes
        self.helpers: list[str] = []

    def emitted(self) -> Emitted:
        n, _, oh, ow = self.y.shape
        rows = 1 if self.target.cores > 1 else oh
        blocks = -(-oh // rows)
        w = Writer()
        pointers: list[Pointer] = [In(0), Out(0), *(In(self.region.anchors + k) for k in range(len(self.sides)))]
        w("const float *x = a->p[0];", "float *y = a->p[1];")
        w(*(f"const float *e{k} = a->p[{2 + k}];" for k in range(len(self.sides))))
        full, partial = self._window(True), self._window(False)
        with w.block("for (int64_t task = begin; task < end; task++)"):
            w(f"const int64_t n = task / {blocks}, from = task % {blocks} * {rows};")
            w(f"const int64_t to = from + {rows} < {oh} ? from + {rows} : {oh};")
            with w.block("for (int64_t oh = from; oh < to; oh++)"):
                w(f"const int64_t ih = oh * {self.h.stride} - {self.h.before};")
                self._taps(w, self.h, "ih", "h")
                first, end = self.w.inside()
                with w.block(f"for (int64_t ow = 0; ow < {ow}; ow++)"):
                    w(f"const int64_t iw = ow * {self.w.stride} - {self.w.before};")
                    out = ", ".join([self._at("y", self.y), *(self._at(f"e{k}", s) for k, s in enumerate(self.sides))])
                    start = f"x + n * {self.x.strides[0]} + ih * {self.x.strides[2]} + iw * {self.x.strides[3]}"
                    inside = f"h1 - h0 == {self.h.kernel} && ow >= {first} && ow < {end}"
                    with w.block(f"if ({inside})"):
                        w(f"{full}({start}, {out});", "continue;")
                    self._taps(w, self.w, "iw", "w")
                    skip = f"h0 * {self.h.dilation * self.x.strides[2]} + w0 * {self.w.dilation * self.x.strides[3]}"
                    w(f"{partial}({start} + {skip}, {out}, h1 - h0, w1 - w0, {self._divisor()});")
        return Emitted(w.text(), tuple(pointers), n * blocks, 0, tuple(self.helpers))

    @staticmethod
    def _taps(w: Writer, axis: _Axis, start: str, name: str) -> None:
        """Declares the taps [name0, name1) that exist."""
        w(f"const int64_t {name}0 = {axis.taps_before(0, start)}, {name}1 = {axis.taps_before(axis.size, start)};")

    def _divisor(self) -> str:
        if isinstance(self.op, MaxPool):
            return "1"
        if not self.op.count_include_pad:
            return "(h1 - h0) * (w1 - w0)"
        counts = [f"({a.taps_before(a.size + a.after, s)})" for a, s in ((self.h, "ih"), (self.w, "iw"))]
        return " * ".join(counts)

    @staticmethod
    def _at(base: str, view: View) -> str:
        terms = [base]
        for axis, var in ((0, "n"), (2, "oh"), (3, "ow")):
            if view.strides[axis] and view.shape[axis] != 1:
                terms.append(f"{var} * {view.strides[axis]}")
        return " + ".join(terms)

    def _window(self, full: bool) -> str:
        """Defines the function of one window over all channels: with constant taps, or with as many as there are."""
        w = Writer()
        is_max = isinstance(self.op, MaxPool)
        count = self.h.kernel * self.w.kernel
        if full and not is_max:
            w(f"const vf share = vset1(1.0f / {count}.0f);")
        elif not is_max:
            w("const vf share = vset1(1.0f / (float)(divisor > 0 ? divisor : 1));")
        tracks = [Track(f"e{k}", 0 if s.shape[1] == 1 else s.strides[1]) for k, s in enumerate(self.sides)]
        finish = Finish(w, self.region.epilogue, Track("y", 1), tracks)
        channels = self.y.shape[1]
        whole, tail = divmod(channels, self.lanes)
        step = self.params.unroll
        looped = whole // step * step
        if looped:
            with w.loop("c", looped * self.lanes, step * self.lanes):
                self._gather(w, finish, "c", step, 0, full)
        for k in range(looped, whole):
            with w.block(""):
                self._gather(w, finish, str(k * self.lanes), 1, 0, full)
        if tail:
            with w.block(""):
                self._gather(w, finish, str(whole * self.lanes), 1, tail, full)
        sides = "".join(f", const float *e{k}" for k in range(len(self.sides)))
        more = "" if full else ", int64_t rows, int64_t cols, int64_t divisor"
        text = f"(const float *x, float *y{sides}{more}) {{\n{w.text()}\n}}"
        name = f"{'inner' if full else 'border'}_window_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.helpers.append(f"static void {name}{text}\n")
        return name

    def _gather(self, w: Writer, finish: Finish, at: str, vectors: int, tail: int, full: bool) -> None:
        """Folds the window of ``vectors`` vectors of channels from ``at`` on, and stores them."""
        is_max = isinstance(self.op, MaxPool)
        start = "vset1(-INFINITY)" if is_max else "vzero()"
        places = [f"{at} + {u} * VL" if u else at for u in range(vectors)]
        w("vf " + ", ".join(f"s{u} = {start}" for u in range(vectors)) + ";")
        rows, cols = (str(self.h.kernel), str(self.w.kernel)) if full else ("rows", "cols")
        with w.loop("i", rows), w.loop("j", cols):
            w(f"const float *t = x + i * {self.h.dilation * self.x.strides[2]} + j * {self.w.dilation * self.x.strides[3]};")
            for u, place in enumerate(places):
                value = f"vload_n(t + {place}, {tail})" if tail else f"vload(t + {place})"
                w(f"s{u} = vmax(s{u}, {value});" if is_max else f"s{u} = s{u} + {value};")
        for u, place in enumerate(places):
            with w.block(""):
                finish.store(place, f"s{u}" if is_max else f"(s{u} * share)", tail)


def _four(view: View) -> View:
    """A 1-D image (N, C, W) as (N, C, 1, W)."""
    if len(view.shape) == 4:
        return view
    n, c, size = view.shape
    sn, sc, step = view.strides
    return View((n, c, 1, size), (sn, sc, 0, step), view.dtype)


KERNEL = Pool()
