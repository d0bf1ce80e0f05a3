"""Matrix product of two run-time operands in register tiles, batched and transposed as the views
say.

A tile is ``mr`` rows of a, broadcast element by element, against ``nv`` vectors of columns of b.
The columns are read in place where they are consecutive, or a panel of them is packed into scratch
as [k][nv vectors] first, which also serves transposed operands and partial vectors. When only the
rows of the result are consecutive the product of the transposes is formed. Leading axes along which
b repeats are more rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.shape import count
from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, View, memory_seconds
from strop.kernels.c.axes import Axes
from strop.kernels.c.panels import fits, tile_cycles
from strop.kernels.c.rows import Tail, Track, address, indices, outer_axes
from strop.kernels.c.shuffles import widened_square
from strop.kernels.c.tile import MemoryTile, Side, shorter
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import Writer, from_memory
from strop.kernels.extent import SymbolicError, constants_of, is_symbolic, typical
from strop.ops.matmul import MatMul
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Register tiles worth trying, (mr, nv).
_TILES = (
    (6, 4), (8, 3), (12, 2), (14, 2), (5, 4), (4, 6), (4, 4), (7, 3), (4, 3), (6, 2), (5, 2), (4, 2),
    (3, 3), (2, 4), (3, 2), (2, 8), (2, 12), (1, 4), (1, 8), (1, 12), (1, 16), (1, 24),
)  # fmt: skip
#: Multiply-adds (of vectors) below which a task does not pay.
_GRAIN = 20_000


@dataclass(frozen=True)
class Plan:
    """Sizes and strides of out[m, n] = sum over k of a[m, k] b[k, n], for every iteration of
    ``batch``.

    Attributes:
        batch: loops over leading axes; strides of result, a, b, extras.
        m, n, k: sizes.
        a: elements between rows and between k.
        b: elements between k and between columns.
        out: elements between rows and between columns.
        extras: the same per epilogue operand.
        operands: which of the region's operands a and b are.
    """

    batch: Axes
    m: int
    n: int
    k: int
    a: tuple[int, int]
    b: tuple[int, int]
    out: tuple[int, int]
    extras: tuple[tuple[int, int], ...]
    operands: tuple[int, int] = (0, 1)

    def transposed(self) -> Plan:
        """The same product as out^T = b^T a^T."""
        strides = tuple(
            self.batch.strides[i] for i in (0, 2, 1, *range(3, len(self.batch.strides)))
        )
        extras = tuple(e[::-1] for e in self.extras)
        batch = Axes(self.batch.extents, strides)
        return Plan(
            batch,
            self.n,
            self.m,
            self.k,
            self.b[::-1],
            self.a[::-1],
            self.out[::-1],
            extras,
            self.operands[::-1],
        )

    def folded(self) -> Plan:
        """Leading axes along which b repeats and all others go on evenly become rows."""
        plan = self
        while plan.batch.extents[-1] > 1:
            last = [s[-1] for s in plan.batch.strides]
            rows = [plan.out[0], plan.a[0], *(e[0] for e in plan.extras)]
            moving = [last[0], last[1], *last[3:]]
            if last[2] != 0 or (
                plan.m > 1
                and any(step != plan.m * row for step, row in zip(moving, rows, strict=True))
            ):
                return plan
            size = plan.batch.extents[-1]
            if plan.m == 1:
                rows = moving
            extents = plan.batch.extents[:-1] or (1,)
            strides = tuple(s[:-1] or (0,) for s in plan.batch.strides)
            plan = replace(
                plan,
                batch=Axes(extents, strides),
                m=plan.m * size,
                a=(rows[1], plan.a[1]),
                out=(rows[0], plan.out[1]),
                extras=tuple((row, e[1]) for row, e in zip(rows[2:], plan.extras, strict=True)),
            )
        return plan


def _last_two(view: View, row: bool, column: bool) -> tuple[tuple[int, int], View]:
    """Strides of the matrix axes (0 where absent) and the view of the leading axes."""
    strides = list(view.strides)
    n = strides.pop() if column else 0
    m = strides.pop() if row else 0
    return (m, n), View(view.shape[: len(strides)], tuple(strides), view.dtype)


def plan_of(region: Region) -> Plan | str:
    """The plan with consecutive result columns, or why the region is not done here."""
    op = region.op
    if not isinstance(op, MatMul):
        return "the anchor is not matmul"
    if not region.all_floats() or not vectorizable(
        region.epilogue, [v.view.dtype for v in (region.operand(0), *region.extras)]
    ):
        return "not f32 or 16-bit floats, or the epilogue has no vector form"
    a, b = region.operand(0).view, region.operand(1).view
    if 0 in (a.count, b.count, region.out.count):
        return "an operand or the result is empty"
    rows, columns = len(a.shape) > 1, len(b.shape) > 1
    a_row, a_lead = _last_two(a, rows, True)
    b_row, b_lead = _last_two(b, True, columns)
    shape_a = a.shape[-2:] if rows else (1, *a.shape)
    shape_b = b.shape[-2:] if columns else (*b.shape, 1)
    if op.transpose_a:
        a_row, shape_a = a_row[::-1], shape_a[::-1]
    if op.transpose_b:
        b_row, shape_b = b_row[::-1], shape_b[::-1]
    ends = [_last_two(v, rows, columns) for v in (region.out, *(e.view for e in region.extras))]
    lead = ends[0][1].shape
    views = [ends[0][1], a_lead.broadcast(lead), b_lead.broadcast(lead), *(v for _, v in ends[1:])]
    batch = outer_axes(views, range(len(lead)))
    plan = Plan(
        batch,
        shape_a[0],
        shape_b[1],
        shape_a[1],
        a_row,
        b_row,
        ends[0][0],
        tuple(s for s, _ in ends[1:]),
    )
    for found in (plan, plan.transposed()):
        if found.n > 1 and found.out[1] == 1:
            return found.folded()
    if plan.n == 1 and plan.m == 1:
        return replace(plan, out=(0, 1))
    return "neither rows nor columns of the result are consecutive"


@dataclass(frozen=True)
class Params:
    """mr: rows per tile; nv: vectors of columns per tile; pack: panels of columns are copied to
    scratch first."""

    mr: int
    nv: int
    pack: bool


class MatMulKernel(Kernel[Params]):
    """See the module's text."""

    name = "matmul"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        plan = plan_of(region)
        return plan if isinstance(plan, str) else None

    def space(self, region: Region, target: Target) -> list[Params]:
        plan = _plan(region)
        isa = ISAS[target.isa]
        width = -(-plan.n // isa.lanes)
        tiles = dict.fromkeys(
            (min(mr, plan.m), min(nv, width)) for mr, nv in _TILES if fits(mr, nv, isa)
        )
        packs = [True] if plan.b[1] != 1 else [False, True] if plan.m >= 8 else [False]
        found = [Params(mr, nv, pack) for mr, nv in tiles for pack in packs]
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:8]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        plan = _plan(region)
        isa = ISAS[target.isa]
        lanes = isa.lanes
        width = -(-plan.n // lanes)
        cycles = 0.0
        for rows, mr in ((plan.m // params.mr, params.mr), (1, plan.m % params.mr)):
            for panels, nv in ((width // params.nv, params.nv), (1, width % params.nv)):
                if rows and mr and panels and nv:
                    walked = 4 * plan.k * nv * lanes
                    cycles += rows * panels * tile_cycles(mr, nv, plan.k, walked, isa, target)
        if params.pack:
            cycles += (
                plan.k
                * width
                * (1.5 if plan.b[1] == 1 else 0.6 * lanes if plan.b[0] == 1 else 2.0 * lanes)
            )
        elif (
            plan.n % lanes or 4 * plan.k * plan.n > target.l2
        ):  # masked loads, or every row of b on another page
            cycles *= 1.05
        if not params.pack and 4 * plan.b[0] % 4096 == 0:  # all rows of b meet in few cache lines
            cycles *= 1.3
        streamed = memory_seconds(region, target)
        if (
            plan.b[1] == 1 and 4 * plan.k * plan.n > target.l2
        ):  # short pieces of every row of b are read at a time
            streamed *= 1.0 + 400.0 / (4 * params.nv * lanes)
        computed = count(plan.batch.extents) * cycles / (target.ghz * 1e9)
        return max(computed, streamed) + 0.1 * min(computed, streamed)

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _plan(region: Region) -> Plan:
    plan = plan_of(region)
    assert isinstance(plan, Plan), plan
    return plan


def kinds_of(region: Region, plan: Plan) -> list[DType]:
    """Types of the result, the two factors and the epilogue's operands."""
    factors = [region.operand(k).view.dtype for k in plan.operands]
    return [region.out.dtype, *factors, *(e.view.dtype for e in region.extras)]


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region = region
        self.params = params
        self.target = target
        self.plan = plan = _plan(region)
        self.lanes = ISAS[target.isa].lanes
        self.vectors = -(-plan.n // self.lanes)
        self.panels = -(-self.vectors // params.nv)
        self.wide = params.nv * self.lanes
        self.names = ["y", "lhs", "rhs", *(f"e{i}" for i in range(len(region.extras)))]
        self.kinds = kinds_of(region, plan)
        self.helpers: list[str] = []
        self._block()

    def _block(self) -> None:
        """Chooses panels and rows per task."""
        plan, mr = self.plan, self.params.mr
        if is_symbolic(plan.n) and not self.params.pack:
            raise SymbolicError("partial panels of columns are read from scratch only")
        batch, panels = typical(count(plan.batch.extents)), typical(self.panels)
        m, k = typical(plan.m), typical(plan.k)
        self.panels_per_task, self.rows = self.panels, plan.m
        wanted = 4 * self.target.cores
        if self.target.cores > 1 and batch < wanted:
            work = m * k * self.params.nv  # of one panel
            fewest = max(1, -(-_GRAIN // work))
            per_task = min(panels, max(fewest, panels * batch // wanted))
            if per_task < panels or not is_symbolic(self.panels):
                self.panels_per_task = per_task
            tasks = batch * -(-panels // per_task)
            if tasks < wanted:
                most = max(1, m * k * self.params.nv * per_task // _GRAIN)
                pieces = min(most, -(-wanted // tasks), max(1, m // (4 * mr)))
                if pieces > 1 or not is_symbolic(plan.m):
                    self.rows = -(-m // pieces // mr) * mr
        self.panel_blocks = -(-self.panels // self.panels_per_task)
        self.row_blocks = -(-plan.m // self.rows)

    def emitted(self) -> Emitted:
        plan = self.plan
        w = Writer()
        for i, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            w(f"{'' if i == 0 else 'const '}{kind.c} *{name} = a->p[{i}];")
        if self.params.pack:
            w("float *packed = a->scratch;")
        blocks = self.panel_blocks * self.row_blocks
        with w.block("for (int64_t task = begin; task < end; task++)"):
            w(
                f"const int64_t outer = task / {blocks};"
                if blocks > 1
                else "const int64_t outer = task;"
            )
            found = indices(w, "outer", plan.batch.extents, "i")
            for name, kind, strides in zip(self.names, self.kinds, plan.batch.strides, strict=True):
                w(
                    f"{'' if name == 'y' else 'const '}{kind.c} *{name}_at = {address(name, strides, found)};"
                )
            first, last = "0", str(self.panels)
            if self.panel_blocks > 1:
                per = self.panels_per_task
                w(f"const int64_t first = task % {self.panel_blocks} * {per};")
                w(
                    f"const int64_t last = first + {per} < {self.panels} ? first + {per} : {self.panels};"
                )
                first, last = "first", "last"
            with w.block(f"for (int64_t panel = {first}; panel < {last}; panel++)"):
                self._panel(w)
        pointers: tuple[Pointer, ...] = (
            Out(0),
            *(In(i) for i in plan.operands),
            *(In(self.region.anchors + i) for i in range(len(self.region.extras))),
        )
        scratch = 4 * plan.k * self.wide if self.params.pack else 0
        tasks = count(plan.batch.extents) * blocks
        return Emitted(w.text(), pointers, tasks, scratch, tuple(self.helpers))

    def _panel(self, w: Writer) -> None:
        """One panel; the last one may be narrower."""
        w(f"const int64_t n = panel * {self.wide};")
        if is_symbolic(self.plan.n):
            self._any_columns(w)
            return
        rest = self.vectors - (self.panels - 1) * self.params.nv
        tail = self.plan.n % self.lanes
        if self.panels == 1 or (rest == self.params.nv and not tail):
            self._columns(w, rest, tail)
            return
        with w.block(f"if (panel < {self.panels - 1})"):
            self._columns(w, self.params.nv, 0)
            w("continue;")
        self._columns(w, rest, tail)

    def _any_columns(self, w: Writer) -> None:
        """A panel of which only a run knows how many vectors there are; the last one counts as partial."""
        with w.block(f"if (n + {self.wide} <= {self.plan.n})"):
            self._columns(w, self.params.nv, 0)
            w("continue;")
        for nv in reversed(range(1, self.params.nv + 1)):
            bound = f" + {(nv - 1) * self.lanes}" if nv > 1 else ""
            with w.block(f"if (n{bound} < {self.plan.n})"):
                w(f"const int64_t tail = {self.plan.n} - n{f' - {(nv - 1) * self.lanes}' if nv > 1 else ''};")
                self._columns(w, nv, "tail")
                if nv > 1:
                    w("continue;")

    def _columns(self, w: Writer, nv: int, tail: Tail) -> None:
        plan, mr = self.plan, self.params.mr
        if self.params.pack:
            self._pack(w, nv, tail)
        first, last = "0", str(plan.m)
        if self.row_blocks > 1:
            w(f"const int64_t from = task / {self.panel_blocks} % {self.row_blocks} * {self.rows};")
            w(f"const int64_t to = from + {self.rows} < {plan.m} ? from + {self.rows} : {plan.m};")
            first, last = "from", "to"
        w(f"int64_t m = {first};")
        with w.block(f"for (; m + {mr} <= {last}; m += {mr})"):
            self._call(w, self._shape(mr, nv, tail))
        if is_symbolic(plan.m % mr):
            for height in shorter(mr):
                with w.block(f"if (m + {height} <= {last})"):
                    self._call(w, self._shape(height, nv, tail))
                    w(f"m += {height};")
        elif plan.m % mr:
            with w.block(f"if (m < {last})"):
                self._call(w, self._shape(plan.m % mr, nv, tail))

    def _shape(self, mr: int, nv: int, tail: Tail) -> MemoryTile:
        """The register tile."""
        return MemoryTile(mr, nv, tail, left=self.kinds[1], right=dt.f32 if self.params.pack else self.kinds[2])

    def _call(self, w: Writer, tile: MemoryTile) -> None:
        plan = self.plan
        b = "packed" if self.params.pack else address("rhs_at", (plan.b[1],), ("n",))
        sides = [address("y_at", plan.out, ("m", "n"))]
        sides += [address(f"e{i}_at", strides, ("m", "n")) for i, strides in enumerate(plan.extras)]
        name, sizes = self._tile(tile)
        w(f"{name}({', '.join([address('lhs_at', (plan.a[0],), ('m',)), b, *sides, *sizes])});")

    # ---- packing

    def _pack(self, w: Writer, nv: int, tail: Tail) -> None:
        """Columns n .. of b to ``packed`` [k][nv vectors], zeros behind the last."""
        plan, wide = self.plan, nv * self.lanes
        step, column = plan.b
        if column == 1:
            with w.loop("k", plan.k):
                source = Track(address("rhs_at", (step, 1), ("k", "n")), 1, self.kinds[2])
                packed = Track(address("packed", (wide,), ("k",)), 1)
                for v in range(nv):
                    at = f"{v} * VL" if v else "0"
                    w(packed.store(at, source.load(at, tail if v == nv - 1 else 0)))
            return
        whole = nv - (1 if tail else 0)
        blocks = plan.k // self.lanes * self.lanes if step == 1 and whole else 0
        if blocks:
            with w.loop("k", blocks, self.lanes), w.loop("v", whole * self.lanes, self.lanes):
                block = address("rhs_at", (1, column), ("k", "(n + v)"))
                into = f"packed + k * {wide} + v"
                widened_square(w, self.helpers, self.lanes, self.kinds[2], (block, column), (into, wide))
        if blocks != plan.k and whole:
            with w.loop("k", plan.k, 1, blocks), w.loop("v", whole * self.lanes):
                value = from_memory(f"*({address('rhs_at', (step, column), ('k', '(n + v)'))})", self.kinds[2])
                w(f"packed[k * {wide} + v] = {value};")
        if tail:
            start = whole * self.lanes
            with w.loop("k", plan.k), w.loop("v", self.lanes):
                value = from_memory(f"*({address('rhs_at', (step, column), ('k', f'(n + {start} + v)'))})", self.kinds[2])
                w(f"packed[k * {wide} + {start} + v] = v < {tail} ? {value} : 0;")

    # ---- the tile

    def _tile(self, tile: MemoryTile) -> tuple[str, list[str]]:
        """Defines the tile's function once and returns its name, and the run-time sizes that it takes behind its operands."""
        plan = self.plan
        w = Writer()
        tile.declare(w)
        step = tile.nv * self.lanes if self.params.pack else plan.b[0]
        rows = [
            address("a", (1, plan.a[1]), (str(r * plan.a[0]), "k")) for r in range(tile.mr)
        ]
        with w.block(f"for (int64_t k = 0; k < {plan.k}; k++, b += {step})"):
            if self.params.pack or not tile.tail:
                tile.step(w, "b", rows)
            else:
                self._masked_step(w, tile, rows)
        y, a, _, *extras = self.kinds
        sides = [Side(f"e{i}", row, column, kind) for i, ((row, column), kind) in enumerate(zip(plan.extras, extras, strict=True))]
        tile.finish(w, self.region.epilogue, sides, Side("y", plan.out[0], plan.out[1], y))
        parameters = [
            f"const {a.c} *a",
            f"const {tile.right.c} *b",
            f"{y.c} *y",
            *(f"const {kind.c} *e{i}" for i, kind in enumerate(extras)),
        ]
        declared, sizes = constants_of(w.text())
        if isinstance(tile.tail, str):
            declared, sizes = [*declared, f"int64_t {tile.tail}"], [*sizes, tile.tail]
        text = f"({', '.join([*parameters, *declared])}) {{\n{w.text()}\n}}"
        name = f"product_{tile.mr}x{tile.nv}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        helper = f"/* {tile.mr} rows by {tile.nv} vectors of columns, {plan.k} products each */\nstatic void {name}{text}\n"
        if helper not in self.helpers:
            self.helpers.append(helper)
        return name, sizes

    @staticmethod
    def _masked_step(w: Writer, tile: MemoryTile, rows: Sequence[str]) -> None:
        """``Tile.step`` on columns in place, the last vector of which is partial."""
        column = Track("b", 1, tile.right)
        for v in range(tile.nv):
            tail = tile.tail if v == tile.nv - 1 else 0
            w(f"const vf w{v} = {column.load(f'{v} * VL' if v else '0', tail)};")
        for r, element in enumerate(rows):
            with w.block(""):
                w(f"const vf e = {tile.element(element)};")
                for v in range(tile.nv):
                    w(f"{tile.acc(r, v)} = vfma(e, w{v}, {tile.acc(r, v)});")


KERNEL = MatMulKernel()
