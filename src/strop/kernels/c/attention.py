"""Scaled dot-product attention that never holds the scores of all queries.

Per head the keys are packed, transposed, into panels [panel][d][vectors of keys] and the values
into panels [panel][t][vectors], both in scratch. Then blocks of ``mr`` queries are taken one after
the other: their scores against all keys (or, for long sequences, a chunk of them) as register tiles
into scratch that stays in the first cache level, the softmax of each row there, and the products
with the values as register tiles again. Over several chunks the maxima, sums and results so far are
corrected as in online softmax (Milakov and Gimelshein 2018, Dao et al. 2022).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.ir.shape import count
from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, accepted, memory_seconds
from strop.kernels.c.axes import Axes
from strop.kernels.c.panels import Panels, balanced, fits, tile_cycles, with_tail
from strop.kernels.c.rows import Tail, Track, address, indices, keep, outer_axes, tree, vectors
from strop.kernels.c.shuffles import widened_square
from strop.kernels.c.tile import MemoryTile, Side, Tile, shorter
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import Writer, from_memory, literal
from strop.kernels.extent import constants_of, highest, is_symbolic, may_reach, typical
from strop.ops.attention import Attention
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Keys whose scores are held at once for one block of queries, when there are more than ``_WHOLE``.
_CHUNK = 512
_WHOLE = 768
#: Vectors per iteration of the loops over a row of scores.
_UNROLL = 4
#: Register tiles worth trying, (mr, nv).
_TILES = (
    (6, 4), (8, 3), (12, 2), (14, 2), (5, 4), (4, 4), (4, 3), (6, 2), (4, 2), (3, 3), (2, 4), (3, 2),
    (2, 3),
)  # fmt: skip
#: Estimated cycles per vector of scores between the two products.
_EXP_CYCLES = 15.0


@dataclass(frozen=True)
class Plan:
    """Sizes and strides. Views are numbered result, q, k, v, mask (where there is one), extras.

    Attributes:
        heads: loops over the leading axes, strides per view.
        s, t, d, e: queries, keys, elements of a key, elements of a value.
        row: elements between neighbours along the first of the last two axes, per view.
        column: the same along the last axis.
        mask: there is one.
    """

    heads: Axes
    s: int
    t: int
    d: int
    e: int
    row: tuple[int, ...]
    column: tuple[int, ...]
    mask: bool


def plan_of(region: Region) -> Plan | str:
    """The plan, or why the region is not done here."""
    if not isinstance(region.op, Attention):
        return "the anchor is not attention"
    if not region.all_floats() or not vectorizable(
        region.epilogue, [v.view.dtype for v in (region.operand(0), *region.extras)]
    ):
        return "not f32 or 16-bit floats, or the epilogue has no vector form"
    q, k, v = (region.operand(i).view for i in range(3))
    if region.out.count == 0 or k.count == 0 or q.count == 0:
        return "an operand or the result is empty"
    views = [region.out, q, k, v]
    mask = region.anchors == 4 and region.operands[3] is not None
    if mask:
        views.append(region.operand(3).view.broadcast((*q.shape[:-1], k.shape[-2])))
    views.extend(e.view for e in region.extras)
    if region.out.strides[-1] != 1 and region.out.shape[-1] > 1:
        return "the elements of a result are not consecutive"
    heads = outer_axes(views, range(len(q.shape) - 2))
    row, column = tuple(x.strides[-2] for x in views), tuple(x.strides[-1] for x in views)
    return Plan(
        heads, q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1], row, (1, *column[1:]), mask
    )


@dataclass(frozen=True)
class Params:
    """mr: queries per tile; nv: vectors of keys or values per tile."""

    mr: int
    nv: int


class AttentionKernel(Kernel[Params]):
    """See the module's text."""

    name = "attention"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        plan = plan_of(region)
        return plan if isinstance(plan, str) else None

    def space(self, region: Region, target: Target) -> list[Params]:
        plan = _plan(region)
        isa = ISAS[target.isa]
        widest = -(-max(plan.t, plan.e) // isa.lanes)
        found = [Params(min(mr, plan.s), min(nv, widest)) for mr, nv in _TILES if fits(mr, nv, isa)]
        found = list(dict.fromkeys(found))
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:6]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        plan = _plan(region)
        isa = ISAS[target.isa]
        lanes = isa.lanes
        keys, values = -(-plan.t // lanes), -(-plan.e // lanes)
        key_bytes, value_bytes = 4 * lanes * keys * plan.d, 4 * lanes * values * plan.t
        seen = 0.5 if isinstance(region.op, Attention) and region.op.causal else 1.0
        cycles = 0.0
        for rows, mr in ((plan.s // params.mr, params.mr), (1, plan.s % params.mr)):
            if not rows or not mr:
                continue
            both = ((keys, plan.d, key_bytes), (values, plan.t, value_bytes))
            products = sum(
                panels.number * tile_cycles(mr, panels.nv, steps, walked, isa, target)
                for width, steps, walked in both
                for panels in balanced(width, params.nv, lanes)
            )
            cycles += rows * (seen * (products + mr * keys * _EXP_CYCLES) + 40.0 * mr)
        cycles += 0.6 * plan.t * plan.d + plan.t * values * 2.0
        return max(
            count(plan.heads.extents) * cycles / (target.ghz * 1e9), memory_seconds(region, target)
        )

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _plan(region: Region) -> Plan:
    return accepted(plan_of(region))


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        op = region.op
        assert isinstance(op, Attention)
        self.region = region
        self.params = params
        self.target = target
        self.op = op
        self.plan = plan = _plan(region)
        self.lanes = ISAS[target.isa].lanes
        self.names = [
            "y",
            "q",
            "k",
            "v",
            *(["mask"] if plan.mask else []),
            *(f"e{i}" for i in range(len(region.extras))),
        ]
        factors = [region.operand(i).view.dtype for i in range(4 if plan.mask else 3)]
        kinds = [region.out.dtype, *factors, *(e.view.dtype for e in region.extras)]
        self.kinds = dict(zip(self.names, kinds, strict=True))
        self.chunked = highest(plan.t) > _WHOLE
        # With any of them, how many keys a block sees is known only at run time.
        self.dynamic = self.chunked or op.causal or is_symbolic(plan.t)
        wide = params.nv * self.lanes
        if self.dynamic:
            self.key_panels = [Panels(0, params.nv, -(-plan.t // wide))]
            self.padded = self.key_panels[0].number * wide
            most = highest(self.padded)
            self.chunk = min(most, -(-_CHUNK // wide) * wide) if self.chunked else most
        else:
            self.key_panels = balanced(-(-plan.t // self.lanes), params.nv, self.lanes)
            self.padded = -(-plan.t // self.lanes) * self.lanes
            self.chunk = self.padded
        self.value_panels = balanced(-(-plan.e // self.lanes), params.nv, self.lanes)
        self.value_width = -(-plan.e // self.lanes) * self.lanes
        self.helpers: list[str] = []

    def emitted(self) -> Emitted:
        plan, mr = self.plan, self.params.mr
        self._block()
        w = Writer()
        for i, name in enumerate(self.names):
            w(f"{'' if i == 0 else 'const '}{self.kinds[name].c} *{name} = a->p[{i}];")
        sizes = {
            "keys": self.padded * plan.d,
            "values": plan.t * self.value_width,
            "scores": mr * self.chunk,
        }
        if self.chunked:
            sizes["sofar"] = mr * self.value_width
        at = 0
        for name, size in sizes.items():
            w(f"float *{name} = (float *)a->scratch{f' + {at}' if at else ''};")
            at += -(-size // 16) * 16
        w("int64_t packed = -1;")
        with w.block("for (int64_t task = begin; task < end; task++)"):
            w(
                f"const int64_t head = task / {self.blocks};"
                if self.blocks > 1
                else "const int64_t head = task;"
            )
            found = indices(w, "head", plan.heads.extents, "i")
            for name, strides in zip(self.names, plan.heads.strides, strict=True):
                w(
                    f"{'' if name == 'y' else 'const '}{self.kinds[name].c} *{name}_head = {address(name, strides, found)};"
                )
            with w.block("if (packed != head)"):
                self._pack_keys(w)
                self._pack_values(w)
                w("packed = head;")
            self._queries(w, list(sizes))
        pointers: tuple[Pointer, ...] = (
            Out(0),
            *(In(i) for i in range(4 if plan.mask else 3)),
            *(In(self.region.anchors + i) for i in range(len(self.region.extras))),
        )
        return Emitted(
            w.text(), pointers, count(plan.heads.extents) * self.blocks, 4 * at, tuple(self.helpers)
        )

    def _block(self) -> None:
        """Chooses queries per task: all of a head, or less when there are more cores than heads."""
        plan, mr = self.plan, self.params.mr
        heads, wanted = typical(count(plan.heads.extents)), 4 * self.target.cores
        self.queries, rows = plan.s, typical(plan.s)
        if self.target.cores > 1 and heads < wanted:
            most = max(1, rows // 48)  # every task packs keys and values anew
            pieces = min(most, -(-wanted // heads))
            if pieces > 1 or not is_symbolic(plan.s):
                self.queries = min(rows, -(-rows // pieces // mr) * mr)
        self.blocks = -(-plan.s // self.queries)

    def _queries(self, w: Writer, scratch: list[str]) -> None:
        """Full tiles of queries, then the rest."""
        plan, mr = self.plan, self.params.mr
        first, last = "0", str(plan.s)
        if self.blocks > 1:
            w(f"const int64_t from = task % {self.blocks} * {self.queries};")
            w(
                f"const int64_t to = from + {self.queries} < {plan.s} ? from + {self.queries} : {plan.s};"
            )
            first, last = "from", "to"
        w(f"int64_t s = {first};")
        with w.block(f"for (; s + {mr} <= {last}; s += {mr})"):
            self._call(w, mr, scratch)
        if is_symbolic(plan.s % mr):
            for height in shorter(mr):
                with w.block(f"if (s + {height} <= {last})"):
                    self._call(w, height, scratch)
                    w(f"s += {height};")
        elif plan.s % mr:
            with w.block(f"if (s < {last})"):
                self._call(w, plan.s % mr, scratch)

    def _call(self, w: Writer, mr: int, scratch: list[str]) -> None:
        row = self.plan.row
        arguments = list(scratch)
        for i, name in enumerate(self.names):
            if name not in ("k", "v"):
                arguments.append(address(f"{name}_head", (row[i],), ("s",)))
        if self.op.causal:
            arguments.append("s")
        name, sizes = self._attend(mr)
        w(f"{name}({', '.join([*arguments, *sizes])});")

    # ---- packing

    def _pack_keys(self, w: Writer) -> None:
        plan = self.plan
        kt, kd = plan.row[2], plan.column[2]
        for panels in self.key_panels:
            wide = panels.nv * self.lanes
            stop = panels.start + wide * panels.number
            with w.loop("panel", stop, wide, panels.start), w.loop("i", wide, self.lanes):
                w(
                    f"const {self.kinds['k'].c} *from = k_head + (panel + i) * {kt};",
                    f"float *to = keys + panel * {plan.d} + i;",
                )
                if kd == 1 and may_reach(plan.t, self.lanes) and plan.d >= self.lanes:
                    with w.block(f"if (panel + i + VL <= {plan.t})"):
                        self._pack_block(w, wide)
                        w("continue;")
                with w.loop("j", plan.d), w.loop("l", self.lanes):
                    value = from_memory(f"from[l * {kt} + j * {kd}]", self.kinds["k"])
                    w(f"to[j * {wide} + l] = panel + i + l < {plan.t} ? {value} : 0;")

    def _pack_block(self, w: Writer, wide: int) -> None:
        """A vector's worth of keys, transposed in registers."""
        plan, kt = self.plan, self.plan.row[2]
        whole = plan.d // self.lanes * self.lanes
        with w.loop("j", whole, self.lanes):
            widened_square(w, self.helpers, self.lanes, self.kinds["k"], ("from + j", kt), (f"to + j * {wide}", wide))
        if whole < plan.d:
            with w.loop("j", plan.d, 1, whole), w.loop("l", self.lanes):
                w(f"to[j * {wide} + l] = {from_memory(f'from[l * {kt} + j]', self.kinds['k'])};")

    def _pack_values(self, w: Writer) -> None:
        plan = self.plan
        source = Track("from", plan.column[3], self.kinds["v"])
        for panels, tail in self._value_runs():
            wide = panels.nv * self.lanes
            stop = panels.start + wide * panels.number
            with w.loop("panel", stop, wide, panels.start), w.loop("t", plan.t):
                w(
                    f"const {self.kinds['v'].c} *from = {address('v_head', (plan.row[3], plan.column[3]), ('t', 'panel'))};"
                )
                w(f"float *to = values + panel * {plan.t} + t * {wide};")
                for i in range(panels.nv):
                    rest = tail if i == panels.nv - 1 else 0
                    w(
                        Track("to", 1).store(
                            f"{i} * VL" if i else "0", source.load(f"{i} * VL" if i else "0", rest)
                        )
                    )

    def _value_runs(self) -> list[tuple[Panels, int]]:
        return list(with_tail(self.value_panels, self.plan.e % self.lanes, self.lanes))

    # ---- one block of queries

    def _attend(self, mr: int) -> tuple[str, list[str]]:
        """Defines the function for ``mr`` queries once and returns its name, and the run-time sizes that it takes behind its operands."""
        w = Writer()
        scratch = ["keys", "values", "scores", *(["sofar"] if self.chunked else [])]
        parameters = [f"float *{name}" for name in scratch]
        parameters += [
            f"{'' if n == 'y' else 'const '}{self.kinds[n].c} *{n}" for n in self.names if n not in ("k", "v")
        ]
        parameters += ["int64_t s"] if self.op.causal else []
        w(f"float inverse[{mr}];")
        if self.chunked:
            w(f"float most[{mr}], sum[{mr}], shrink[{mr}];")
            w(f"for (int64_t r = 0; r < {mr}; r++) most[r] = -INFINITY, sum[r] = 0;")
        with self._chunks(w, mr):
            self._scores(w, mr)
            with w.loop("r", mr):
                self._softmax(w)
            for panels, tail in self._value_runs():
                self._products(w, Tile(mr, panels.nv, tail), panels)
        declared, sizes = constants_of(w.text())
        text = f"({', '.join([*parameters, *declared])}) {{\n{w.text()}\n}}"
        name = f"attend_{mr}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        helper = f"/* {mr} queries against all keys of a head */\nstatic void {name}{text}\n"
        if helper not in self.helpers:
            self.helpers.append(helper)
        return name, sizes

    @contextmanager
    def _chunks(self, w: Writer, mr: int) -> Iterator[None]:
        """The loop over chunks of keys from ``t0`` on, ``seen`` of which the block of queries sees."""
        t = self.plan.t
        if not self.dynamic:
            yield
            return
        if self.op.causal:
            w(f"const int64_t all = s + {mr} < {t} ? s + {mr} : {t};")
        else:
            w(f"const int64_t all = {t};")
        if not self.chunked:
            w("const int64_t seen = all;")
            yield
            return
        with w.block(f"for (int64_t t0 = 0; t0 < all; t0 += {self.chunk})"):
            w(f"const int64_t seen = all - t0 < {self.chunk} ? all - t0 : {self.chunk};")
            yield

    def _scores(self, w: Writer, mr: int) -> None:
        """Products of the queries with all keys of the chunk, into ``scores`` [mr][chunk]."""
        plan = self.plan
        rows = [address("q", (1, plan.column[1]), (str(r * plan.row[1]), "d")) for r in range(mr)]
        w(f"const vf scale = vset1({literal(self.op.scale, dt.f32)});")
        for panels in self.key_panels:
            tile = MemoryTile(mr, panels.nv, left=self.kinds["q"])
            wide = panels.nv * self.lanes
            stop = "seen" if self.dynamic else str(panels.start + wide * panels.number)
            with w.loop("panel", stop, wide, panels.start):
                base = "(t0 + panel)" if self.chunked else "panel"
                tile.declare(w)
                w(f"const float *key = keys + {base} * {plan.d};")
                with w.block(f"for (int64_t d = 0; d < {plan.d}; d++, key += {wide})"):
                    tile.step(w, "key", rows)
                for r in range(mr):
                    for v in range(panels.nv):
                        w(
                            f"vstore(scores + {r * self.chunk + v * self.lanes} + panel, {tile.acc(r, v)} * scale);"
                        )

    def _softmax(self, w: Writer) -> None:
        """Row ``r`` of the scores becomes exponentials; their sum's inverse goes to ``inverse``
        after the last chunk."""
        plan = self.plan
        w(f"float *row = scores + r * {self.chunk};")
        if self.op.causal:
            own = f"s + r + 1{' - t0' if self.chunked else ''}"
            w(f"const int64_t sees = {own} < seen ? {own} : seen;")
        mask = None
        if plan.mask:
            start = address(
                "mask", (plan.row[4], plan.column[4] if self.chunked else 0), ("r", "t0")
            )
            w(f"const {self.kinds['mask'].c} *mask_row = {start};")
            mask = Track("mask_row", plan.column[4], self.kinds["mask"])
        w("vf " + ", ".join(f"m{u} = vset1(-INFINITY)" for u in range(_UNROLL)) + ";")
        for at, tail, u in self._row(w):
            with w.block(""):
                text = f"vload(row + {at})"
                if mask is not None:
                    text = f"{text} + {self._mask(mask, at, tail)}"
                if self.dynamic:
                    limit = "sees" if self.op.causal else "seen"
                    text = f"vselect(viota() < (vi){{0}} + (int32_t)({limit} - {at}), {text}, vset1(-INFINITY))"
                else:
                    text = keep(text, "vset1(-INFINITY)", tail)
                w(f"const vf x = {text};", f"m{u} = vmax_c(x, m{u});")
                if self.dynamic or tail or mask is not None:
                    w(f"vstore(row + {at}, x);")
        w(f"const float top = vhmax({tree('vmax_c', [f'm{u}' for u in range(_UNROLL)])});")
        if self.chunked:
            w("const float peak = most[r] > top ? most[r] : top;")
        else:
            w("const float peak = top;")
        w(
            "const float base = peak == -INFINITY ? 0.0f : peak;  /* sees nothing: all exponentials are 0 */"
        )
        w("vf " + ", ".join(f"s{u} = vzero()" for u in range(_UNROLL)) + ";")
        for at, _, u in self._row(w):
            with w.block(""):
                w(
                    f"const vf x = vexp(vload(row + {at}) - vset1(base));",
                    f"s{u} = s{u} + x;",
                    f"vstore(row + {at}, x);",
                )
        total = f"vhadd({tree('+', [f's{u}' for u in range(_UNROLL)])})"
        if self.chunked:
            w(
                "shrink[r] = vexp(vset1(most[r] - base))[0];",
                "most[r] = peak;",
                f"sum[r] = sum[r] * shrink[r] + {total};",
            )
            total = "sum[r]"
        w(f"const float total = {total};", "inverse[r] = total == 0 ? 0.0f : 1.0f / total;")

    def _row(self, w: Writer) -> Iterator[tuple[str, Tail, int]]:
        """Vectors of a row of scores, as ``rows.vectors``."""
        if not self.dynamic:
            yield from vectors(w, self.plan.t, self.lanes, _UNROLL)
            return
        with w.block("for (int64_t j = 0; j < seen; j += VL)"):
            yield "j", 0, 0

    def _mask(self, mask: Track, at: str, tail: Tail) -> str:
        if not self.dynamic:
            return mask.load(at, tail)
        if mask.step == 0:
            return mask.load(at)
        return mask.load(at, f"seen - {at}")

    def _products(self, w: Writer, tile: Tile, panels: Panels) -> None:
        """Weighted sums of the values, corrected by earlier chunks; after the last one, the
        results."""
        plan = self.plan
        wide = tile.nv * self.lanes
        with w.loop("panel", panels.start + wide * panels.number, wide, panels.start):
            tile.declare(w)
            w(
                f"const float *value = values + panel * {plan.t}{f' + t0 * {wide}' if self.chunked else ''};"
            )
            stop = "seen" if self.dynamic else str(plan.t)
            with w.block(f"for (int64_t t = 0; t < {stop}; t++, value += {wide})"):
                tile.step(w, "value", [f"scores[{r * self.chunk} + t]" for r in range(tile.mr)])
            accs = [(r, v, tile.acc(r, v)) for r in range(tile.mr) for v in range(tile.nv)]
            if self.chunked:
                sofar = {
                    (r, v): f"sofar + {r * self.value_width + v * self.lanes} + panel"
                    for r, v, _ in accs
                }
                with w.block("if (t0 > 0)"):
                    for r, v, acc in accs:
                        w(f"{acc} = vfma(vset1(shrink[{r}]), vload({sofar[r, v]}), {acc});")
                with w.block(f"if (t0 + {self.chunk} < all)"):
                    for r, v, acc in accs:
                        w(f"vstore({sofar[r, v]}, {acc});")
                    w("continue;")
            for r, _, acc in accs:
                w(f"{acc} = {acc} * vset1(inverse[{r}]);")
            sides = [
                Side(address(name, (column,), ("panel",)), row, column, self.kinds[name])
                for name, row, column in zip(self.names, plan.row, plan.column, strict=True)
            ]
            tile.finish(w, self.region.epilogue, sides[5 if plan.mask else 4 :], sides[0])


KERNEL = AttentionKernel()
