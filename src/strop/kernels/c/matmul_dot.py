"""Matrix product as dot products: vectors lie along k, which must be consecutive in both operands.

Good where packing would cost more than it saves: few rows, or a matrix times a vector. ``mr`` by
``nr`` vector accumulators are summed across their lanes at the end; a vector's worth of results is
gathered in scratch before the epilogue.
"""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir.shape import count
from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, accepted, memory_seconds
from strop.kernels.c.matmul import Plan, kinds_of, plan_of
from strop.kernels.c.rows import Finish, Track, address, indices, vectors
from strop.kernels.c.tile import shorter
from strop.kernels.c.writer import Writer
from strop.kernels.extent import is_symbolic, typical
from strop.target.base import Target
from strop.target.isa.table import ISAS

#: Tiles of dot products worth trying, (mr, nr).
_TILES = ((1, 4), (1, 8), (2, 4), (4, 4), (3, 4), (2, 8), (4, 2), (2, 2))
#: Estimated cycles to add up a vector's lanes.
_ACROSS = 8.0
#: Multiply-adds (of vectors) below which a task does not pay.
_GRAIN = 20_000


@dataclass(frozen=True)
class Params:
    """mr: rows per tile; nr: columns per tile."""

    mr: int
    nr: int


class MatMulDot(Kernel[Params]):
    """See the module's text."""

    name = "matmul_dot"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        plan = plan_of(region)
        if isinstance(plan, str):
            return plan
        if is_symbolic(plan.n):
            return "the number of columns is not fixed"
        if plan.k > 1 and (plan.a[1] != 1 or plan.b[0] != 1):
            return "the summed axis is not consecutive in both operands"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        plan = _plan(region)
        isa = ISAS[target.isa]
        tiles = [
            (mr, min(nr, plan.n))
            for mr, nr in _TILES
            if mr <= plan.m and mr * nr + mr + 1 <= isa.registers
        ]
        found = [Params(mr, nr) for mr, nr in dict.fromkeys(tiles)]
        found.sort(key=lambda p: self.cost(region, p, target))
        return found[:4]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        plan = _plan(region)
        lanes = ISAS[target.isa].lanes
        per_fma, per_load = lanes / target.fma_lanes, 1.0 if lanes == 16 else 0.5
        mr, nr = params.mr, params.nr
        step = max(mr * nr * per_fma, (mr + nr) * per_load, 4.0)
        tile = -(-plan.k // lanes) * step + mr * nr * _ACROSS + 10.0
        cycles = -(-plan.m // mr) * -(-plan.n // nr) * tile + plan.m * -(-plan.n // lanes) * 10.0
        return max(
            count(plan.batch.extents) * cycles / (target.ghz * 1e9), memory_seconds(region, target)
        )

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _plan(region: Region) -> Plan:
    return accepted(plan_of(region))


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region = region
        self.params = params
        self.plan = plan = _plan(region)
        self.lanes = ISAS[target.isa].lanes
        self.names = ["y", "lhs", "rhs", *(f"e{i}" for i in range(len(region.extras)))]
        self.kinds = kinds_of(region, plan)
        self.groups = -(-plan.n // self.lanes)  # vectors of columns
        batch = typical(count(plan.batch.extents))
        self.per_task = self.groups
        if target.cores > 1 and batch < 4 * target.cores:
            fewest = max(1, -(-_GRAIN * self.lanes // (typical(plan.m) * typical(plan.k) * self.lanes)))
            self.per_task = min(
                self.groups, max(fewest, -(-self.groups * batch // (4 * target.cores)))
            )
        self.blocks = -(-self.groups // self.per_task)

    def emitted(self) -> Emitted:
        plan = self.plan
        w = Writer()
        for i, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            w(f"{'' if i == 0 else 'const '}{kind.c} *{name} = a->p[{i}];")
        w("float *dots = a->scratch;")
        with w.block("for (int64_t task = begin; task < end; task++)"):
            w(
                f"const int64_t outer = task / {self.blocks};"
                if self.blocks > 1
                else "const int64_t outer = task;"
            )
            found = indices(w, "outer", plan.batch.extents, "i")
            for name, kind, strides in zip(self.names, self.kinds, plan.batch.strides, strict=True):
                w(
                    f"{'' if name == 'y' else 'const '}{kind.c} *{name}_at = {address(name, strides, found)};"
                )
            first, tail = "0", plan.n % self.lanes
            last, stop = str(plan.n - tail), plan.n - tail
            if self.blocks > 1:
                step = self.per_task * self.lanes
                w(f"const int64_t from = task % {self.blocks} * {step};")
                w(f"const int64_t to = from + {step} < {stop} ? from + {step} : {stop};")
                first, last = "from", "to"
            if stop:
                with w.block(f"for (int64_t n = {first}; n < {last}; n += VL)"):
                    self._rows(w, self.lanes)
            if tail:
                with w.block(
                    f"if (from + {self.per_task * self.lanes} > {stop})" if self.blocks > 1 else ""
                ):
                    w(f"const int64_t n = {stop};")
                    self._rows(w, tail)
        pointers: tuple[Pointer, ...] = (
            Out(0),
            *(In(i) for i in plan.operands),
            *(In(self.region.anchors + i) for i in range(len(self.region.extras))),
        )
        scratch = 4 * self.params.mr * self.lanes
        return Emitted(w.text(), pointers, count(plan.batch.extents) * self.blocks, scratch)

    def _rows(self, w: Writer, columns: int) -> None:
        """All rows against ``columns`` columns, at most a vector, from n on."""
        mr, m = self.params.mr, self.plan.m
        if is_symbolic(m % mr):
            w("int64_t m = 0;")
            for height in (mr, *shorter(mr)):
                with w.block(f"{'while' if height == mr else 'if'} (m + {height} <= {m})"):
                    self._tiles(w, height, columns)
                    w(f"m += {height};")
            return
        whole = m // mr * mr
        with w.loop("m", whole, mr):
            self._tiles(w, mr, columns)
        if whole != m:
            with w.block(""):
                w(f"const int64_t m = {whole};")
                self._tiles(w, m - whole, columns)

    def _tiles(self, w: Writer, mr: int, columns: int) -> None:
        plan, nr = self.plan, self.params.nr
        w(f"const {self.kinds[1].c} *left = {address('lhs_at', (plan.a[0],), ('m',))};")
        whole = columns // nr * nr
        if whole:
            with w.loop("j", whole, nr):
                self._dots(w, mr, nr)
        if whole < columns:
            with w.block(""):
                w(f"const int64_t j = {whole};")
                self._dots(w, mr, columns - whole)
        partial = columns if columns < self.lanes else 0
        for r in range(mr):
            with w.block(""):
                at = (f"(m + {r})" if r else "m", "n")
                tracks = [
                    Track(address(name, strides, at), strides[1], kind)
                    for name, strides, kind in zip(
                        ("y_at", *(f"e{i}_at" for i in range(len(plan.extras)))),
                        (plan.out, *plan.extras),
                        (self.kinds[0], *self.kinds[3:]),
                        strict=True,
                    )
                ]
                finish = Finish(w, self.region.epilogue, tracks[0], tracks[1:])
                w(f"const vf dot = vload(dots + {r * self.lanes});")
                finish.store("0", "dot", partial)

    def _dots(self, w: Writer, mr: int, nr: int) -> None:
        """mr by nr dot products to ``dots`` [mr][lanes] from column j on."""
        plan = self.plan
        w(f"const {self.kinds[2].c} *right = {address('rhs_at', (plan.b[1],), ('(n + j)',))};")
        names = [[f"c{r}_{c}" for c in range(nr)] for r in range(mr)]
        for row in names:
            w("vf " + ", ".join(f"{name} = vzero()" for name in row) + ";")
        for at, tail, _ in vectors(w, plan.k, self.lanes, var="k"):
            with w.block(""):
                for c in range(nr):
                    w(f"const vf w{c} = {Track(_plus('right', c * plan.b[1]), 1, self.kinds[2]).load(at, tail)};")
                for r in range(mr):
                    w(f"const vf v{r} = {Track(_plus('left', r * plan.a[0]), 1, self.kinds[1]).load(at, tail)};")
                    for c in range(nr):
                        w(f"{names[r][c]} = vfma(v{r}, w{c}, {names[r][c]});")
        for r in range(mr):
            for c in range(nr):
                w(f"dots[{r * self.lanes} + j{f' + {c}' if c else ''}] = vhadd({names[r][c]});")


def _plus(base: str, offset: int) -> str:
    return f"{base} + {offset}" if offset else base


KERNEL = MatMulDot()
