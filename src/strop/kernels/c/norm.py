"""LayerNorm, RMSNorm, and GroupNorm and InstanceNorm whose groups lie together in memory.

What is normalized together is a row. A row is read three times from the first cache level (mean,
mean square of the difference, result), or once when it fits the registers. The variance is that of
differences from the mean, so large means cost no precision.
"""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.ir.shape import count
from strop.kernels.base import (
    Emitted,
    In,
    Kernel,
    Out,
    Pointer,
    Region,
    View,
    accepted,
    memory_seconds,
)
from strop.kernels.c.axes import Axes
from strop.kernels.c.rows import (
    Finish,
    Tail,
    Track,
    address,
    indices,
    keep,
    merged,
    nest,
    outer_axes,
    part,
    row_loop,
    rows_per_task,
    split_axis,
    tree,
    vectors,
)
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import Writer, literal, reciprocal
from strop.kernels.extent import typical
from strop.ops.norm import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from strop.target.base import Target
from strop.target.isa.base import Isa
from strop.target.isa.table import ISAS

#: Contiguous elements below which vectors within a row do not pay.
_SHORTEST = 4


@dataclass(frozen=True)
class Plan:
    """How the axes are walked. Views are numbered result, x, scale, bias (where there is one),
    extras.

    Attributes:
        rows: loops over what is normalized apart.
        stats: loops over a row in x's own order; one view.
        final: loops over a row in the result's order; all views.
        length: elements of a row.
        centered: the mean is subtracted.
        bias: there is one.
        epsilon: added to the variance or mean square.
    """

    rows: Axes
    stats: Axes
    final: Axes
    length: int
    centered: bool
    bias: bool
    epsilon: float


def _per_channel(view: View, rank: int, groups: int) -> View:
    """scale or bias [C] as [1, groups, C / groups, 1, ...]."""
    return split_axis(
        View(
            (1, view.shape[0], *(1,) * (rank - 2)),
            (0, view.strides[0], *(0,) * (rank - 2)),
            view.dtype,
        ),
        1,
        groups,
    )


def plan_of(region: Region) -> Plan | str:
    """The plan, or why the region is not done here."""
    op = region.op
    if not isinstance(op, (LayerNorm, RMSNorm, GroupNorm, InstanceNorm)):
        return "the anchor is not a normalization"
    weights = [o.view for o in region.operands[1 : region.anchors] if o is not None]
    if not region.all_floats() or not vectorizable(
        region.epilogue, [e.view.dtype for e in (region.operand(0), *region.extras)]
    ):
        return "not f32 or 16-bit floats, or the epilogue has no vector form"
    if region.out.count == 0:
        return "the result is empty"
    shape = region.out.shape
    rank = len(shape)
    activations = [region.out, region.operand(0).view, *(e.view for e in region.extras)]
    if isinstance(op, (LayerNorm, RMSNorm)):
        first = op.axis % rank
        weights = [v.broadcast(shape) for v in weights]
    else:
        groups = op.groups if isinstance(op, GroupNorm) else shape[1]
        activations = [split_axis(v, 1, groups) for v in activations]
        weights = [_per_channel(v, rank, groups).broadcast(activations[0].shape) for v in weights]
        first = 2
    views = [*activations[:2], *weights, *activations[2:]]
    run, outer = range(first, len(views[0].shape)), range(first)
    stats, final = merged(views[1:2], run), merged(views, run)
    if stats.strides[0][-1] != 1 or final.strides[0][-1] != 1 or final.strides[1][-1] != 1:
        return "what is normalized together is not contiguous"
    length = count(part(views[0], run).shape)
    if min(typical(stats.extents[-1]), typical(final.extents[-1])) < min(_SHORTEST, typical(length)):
        return "contiguous runs are too short"
    return Plan(
        outer_axes(views, outer),
        stats,
        final,
        length,
        not isinstance(op, RMSNorm),
        len(weights) == 2,
        op.epsilon,
    )


@dataclass(frozen=True)
class Params:
    """vectors: per loop iteration; 0: the whole row stays in registers."""

    vectors: int


class Norm(Kernel[Params]):
    """See the module's text."""

    name = "norm"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        plan = plan_of(region)
        return plan if isinstance(plan, str) else None

    def space(self, region: Region, target: Target) -> list[Params]:
        plan = _plan(region)
        isa = ISAS[target.isa]
        whole = -(-min(plan.stats.extents[-1], plan.final.extents[-1]) // isa.lanes)
        single = len(plan.stats.extents) == len(plan.final.extents) == 1
        found = [Params(0)] if single and whole <= _held(isa) else []
        return found + [Params(n) for n in (4, 2, 1, 8) if n <= whole]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        plan = _plan(region)
        lanes = ISAS[target.isa].lanes
        whole = -(-plan.final.extents[-1] // lanes) * count(plan.final.extents[:-1])
        if params.vectors == 0:
            cycles = whole * 5.0 + 25.0
        else:
            cycles = whole * (5.0 + 4.0 / params.vectors) + 40.0
        cycles *= count(plan.rows.extents)
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _plan(region: Region) -> Plan:
    return accepted(plan_of(region))


def _held(isa: Isa) -> int:
    """Vectors of a row that may stay in registers."""
    return isa.registers * 3 // 4


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region = region
        self.params = params
        self.target = target
        self.plan = _plan(region)
        self.lanes = ISAS[target.isa].lanes
        extras = [f"e{k}" for k in range(len(region.extras))]
        self.names = ["y", "x", "scale", *(["bias"] if self.plan.bias else []), *extras]
        self.kinds = [region.out.dtype, *(o.view.dtype for o in region.operands if o is not None)]

    def emitted(self) -> Emitted:
        plan = self.plan
        rows = count(plan.rows.extents)
        per_task = rows_per_task(rows, plan.length, self.target)
        w = Writer()
        for k, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            w(f"{'' if k == 0 else 'const '}{kind.c} *{name} = a->p[{k}];")
        pointers: tuple[Pointer, ...] = (
            Out(0),
            *(
                In(k)
                for k, o in enumerate(self.region.operands[: self.region.anchors])
                if o is not None
            ),
            *(In(self.region.anchors + k) for k in range(len(self.region.extras))),
        )
        with row_loop(w, rows, per_task) as row:
            found = indices(w, row, plan.rows.extents, "i")
            for name, kind, strides in zip(self.names, self.kinds, plan.rows.strides, strict=True):
                w(
                    f"{'' if name == 'y' else 'const '}{kind.c} *{name}_row = {address(name, strides, found)};"
                )
            if self.params.vectors == 0:
                self._registers(w)
            else:
                self._passes(w)
        return Emitted(w.text(), pointers, -(-rows // per_task))

    def _moments(self, w: Writer, name: str, total: str) -> None:
        """Declares a mean as a vector."""
        w(f"const vf {name} = vset1(vhadd({total}) * {reciprocal(self.plan.length)});")

    def _inverse(self, w: Writer, total: str) -> None:
        mean = f"vhadd({total}) * {reciprocal(self.plan.length)}"
        w(f"const vf inverse = vset1(1.0f / sqrtf({mean} + {literal(self.plan.epsilon, dt.f32)}));")

    def _result(
        self, tracks: list[Track], repeated: dict[str, str], value: str, at: str, tail: Tail
    ) -> str:
        """C text of a vector of results; ``value`` is the difference from the mean."""
        scale = repeated.get("scale") or f"{tracks[2].load(at, tail)} * inverse"
        if not self.plan.bias:
            return f"({value} * ({scale}))"
        return f"vfma({value}, {scale}, {repeated.get('bias') or tracks[3].load(at, tail)})"

    def _tracks(self, names: list[str]) -> list[Track]:
        return [
            Track(address(f"{name}_row", strides[:-1], names), strides[-1], kind)
            for name, kind, strides in zip(self.names, self.kinds, self.plan.final.strides, strict=True)
        ]

    def _hoist(self, w: Writer, tracks: list[Track]) -> dict[str, str]:
        """Weights that are one number for the whole run are loaded before it."""
        repeated: dict[str, str] = {}
        if tracks[2].step == 0:
            w(f"const vf k = {tracks[2].load('0')} * inverse;")
            repeated["scale"] = "k"
        if self.plan.bias and tracks[3].step == 0:
            w(f"const vf b = {tracks[3].load('0')};")
            repeated["bias"] = "b"
        return repeated

    def _finish(self, w: Writer, tracks: list[Track]) -> Finish:
        return Finish(w, self.region.epilogue, tracks[0], tracks[4 if self.plan.bias else 3 :])

    # ---- the row in registers

    def _registers(self, w: Writer) -> None:
        plan = self.plan
        tracks = self._tracks([])
        x = tracks[1]
        whole = list(vectors(w, plan.length, self.lanes, 10**9))
        values = [f"v{k}" for k in range(len(whole))]
        for value, (at, tail, _) in zip(values, whole, strict=True):
            w(f"vf {value} = {x.load(at, tail)};")
        if plan.centered:
            self._moments(w, "mean", tree("+", values))
            for value, (_, tail, _) in zip(values, whole, strict=True):
                w(f"{value} = {keep(f'{value} - mean', 'vzero()', tail)};")
        sums = [f"s{u}" for u in range(min(4, len(values)))]
        for k, value in enumerate(values):
            name = sums[k % 4]
            w(
                f"vf {name} = {value} * {value};"
                if k < 4
                else f"{name} = vfma({value}, {value}, {name});"
            )
        self._inverse(w, tree("+", sums))
        repeated = self._hoist(w, tracks)
        finish = self._finish(w, tracks)
        for value, (at, tail, _) in zip(values, whole, strict=True):
            with w.block(""):
                finish.store(at, self._result(tracks, repeated, value, at, tail), tail)

    # ---- passes over the row

    def _sum(self, w: Writer, prefix: str, squares: bool) -> str:
        """Sums a row, or the squares of its differences from the mean; returns the C text of the
        sum's lanes."""
        stats, unroll = self.plan.stats, self.params.vectors
        names = [f"{prefix}{u}" for u in range(unroll)]
        w("vf " + ", ".join(f"{name} = vzero()" for name in names) + ";")
        with nest(w, stats.extents[:-1], "k") as found:
            x = Track(address("x_row", stats.strides[0][:-1], found), 1, self.kinds[1])
            for at, tail, u in vectors(w, stats.extents[-1], self.lanes, unroll):
                if not squares:
                    w(f"{names[u]} = {names[u]} + {x.load(at, tail)};")
                    continue
                with w.block(""):
                    difference = (
                        f"{x.load(at, tail)} - mean" if self.plan.centered else x.load(at, tail)
                    )
                    w(
                        f"const vf d = {keep(difference, 'vzero()', tail) if self.plan.centered else difference};"
                    )
                    w(f"{names[u]} = vfma(d, d, {names[u]});")
        return tree("+", names)

    def _passes(self, w: Writer) -> None:
        plan = self.plan
        if plan.centered:
            self._moments(w, "mean", self._sum(w, "m", False))
        self._inverse(w, self._sum(w, "s", True))
        final = plan.final
        with nest(w, final.extents[:-1], "j") as found:
            tracks = self._tracks(found)
            repeated = self._hoist(w, tracks)
            finish = self._finish(w, tracks)
            for at, tail, _ in vectors(w, final.extents[-1], self.lanes, self.params.vectors):
                with w.block(""):
                    value = (
                        f"({tracks[1].load(at, tail)} - mean)"
                        if plan.centered
                        else tracks[1].load(at, tail)
                    )
                    finish.store(at, self._result(tracks, repeated, value, at, tail), tail)


KERNEL = Norm()
