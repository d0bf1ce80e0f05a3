"""InstanceNorm and GroupNorm over channels-last activations: vectors of channels, statistics over
the pixels.

A task is one image and a block of whole groups. Sums per channel are gathered over all pixels,
joined per group in scratch and spread over the group's channels again: once for a first mean; once
for the differences from it and their squares, which give the variance and the rest that the first
mean lacked. Then the results are written.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from strop.kernels.c.rows import Finish, Track, address, merged, nest
from strop.kernels.c.vector import vectorizable
from strop.kernels.c.writer import Writer, from_memory, literal, reciprocal
from strop.kernels.extent import is_symbolic
from strop.ops.norm import GroupNorm, InstanceNorm
from strop.target.base import Target
from strop.target.isa.table import ISAS


@dataclass(frozen=True)
class Plan:
    """Sizes and strides. Views are numbered result, x, extras.

    Attributes:
        n: images.
        groups: per image.
        size: channels per group.
        pixels: loops over the pixels, strides per view.
        image: elements between images, per view.
        column: elements between channels, per view.
        weights: elements between the numbers of scale and bias.
        epsilon: added to the variance.
    """

    n: int
    groups: int
    size: int
    pixels: Axes
    image: tuple[int, ...]
    column: tuple[int, ...]
    weights: tuple[int, ...]
    epsilon: float


def plan_of(region: Region) -> Plan | str:
    """The plan, or why the region is not done here."""
    op = region.op
    if not isinstance(op, (GroupNorm, InstanceNorm)):
        return "the anchor is not a normalization per channel"
    views: list[View] = [region.out, region.operand(0).view, *(e.view for e in region.extras)]
    if not region.all_floats() or not vectorizable(region.epilogue, [v.dtype for v in views[1:]]):
        return "not f32 or 16-bit floats, or the epilogue has no vector form"
    if region.out.count == 0:
        return "the result is empty"
    if views[0].strides[1] != 1 or views[1].strides[1] != 1 or region.out.shape[1] == 1:
        return "channels are not consecutive"
    n, channels = region.out.shape[:2]
    if is_symbolic(channels):
        return "the number of channels is not fixed"
    groups = op.groups if isinstance(op, GroupNorm) else channels
    image = tuple(v.strides[0] if n > 1 else 0 for v in views)
    pixels = merged(views, range(2, len(region.out.shape)))
    weights = tuple(region.operand(k).view.strides[0] for k in (1, 2))
    column = tuple(v.strides[1] for v in views)
    return Plan(n, groups, channels // groups, pixels, image, column, weights, op.epsilon)


@dataclass(frozen=True)
class Params:
    """vectors: of channels side by side in the loops over pixels."""

    vectors: int


class NormChannels(Kernel[Params]):
    """See the module's text."""

    name = "norm_channels"
    in_place = True
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        plan = plan_of(region)
        return plan if isinstance(plan, str) else None

    def space(self, region: Region, target: Target) -> list[Params]:
        plan = _plan(region)
        isa = ISAS[target.isa]
        width = -(-plan.groups * plan.size // isa.lanes)
        return [Params(n) for n in (4, 2, 1, 8) if n <= width and 3 * n < isa.registers] or [
            Params(1)
        ]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        plan = _plan(region)
        lanes = ISAS[target.isa].lanes
        width = -(-plan.groups * plan.size // lanes)
        per_vector = 5.0 + 6.0 / params.vectors
        cycles = plan.n * width * (count(plan.pixels.extents) * per_vector + 60.0)
        return max(cycles / (target.ghz * 1e9), memory_seconds(region, target))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        return _Emitter(region, params, target).emitted()


def _plan(region: Region) -> Plan:
    return accepted(plan_of(region))


class _Emitter:
    """Holds what the pieces of one emission share."""

    def __init__(self, region: Region, params: Params, target: Target) -> None:
        self.region = region
        self.params = params
        self.plan = _plan(region)
        self.lanes = ISAS[target.isa].lanes
        self.names = ["y", "x", *(f"e{k}" for k in range(len(region.extras)))]
        self.kinds = [v.dtype for v in (region.out, region.operand(0).view, *(e.view for e in region.extras))]
        self.weights = [region.operand(k).view.dtype for k in (1, 2)]
        self.block = max(1, params.vectors * self.lanes // self.plan.size)  # groups per task
        self.blocks = -(-self.plan.groups // self.block)
        self.room = (
            -(-self.block * self.plan.size // self.lanes) * self.lanes
        )  # floats of one scratch row

    def emitted(self) -> Emitted:
        plan = self.plan
        w = Writer()
        (y, x, *extras), (scale, bias) = self.kinds, self.weights
        w(
            f"{y.c} *y = a->p[0];",
            f"const {x.c} *x = a->p[1];",
            f"const {scale.c} *scale = a->p[2];",
            f"const {bias.c} *bias = a->p[3];",
        )
        for k, kind in enumerate(extras):
            w(f"const {kind.c} *e{k} = a->p[{4 + k}];")
        w(
            "float *mean = a->scratch;",
            f"float *factor = mean + {self.room}, *rest = factor + {self.room};",
        )
        with w.block("for (int64_t task = begin; task < end; task++)"):
            n = f"task / {self.blocks}" if self.blocks > 1 else "task"
            if plan.n > 1:
                w(f"const int64_t n = {n};")
            w(
                f"const int64_t c = task % {self.blocks} * {self.block * plan.size};"
                if self.blocks > 1
                else "const int64_t c = 0;"
            )
            for name, kind, image, column in zip(self.names, self.kinds, plan.image, plan.column, strict=True):
                const = "" if name == "y" else "const "
                w(f"{const}{kind.c} *{name}_block = {address(name, (image, column), ('n', 'c'))};")
            for k, name in enumerate(("scale", "bias")):
                w(f"const {self.weights[k].c} *{name}_block = {address(name, (plan.weights[k],), ('c',))};")
            rest = plan.groups - (self.blocks - 1) * self.block
            if rest != self.block:
                with w.block(f"if (c < {(self.blocks - 1) * self.block * plan.size})"):
                    self._groups(w, self.block)
                    w("continue;")
            self._groups(w, rest)
        pointers: tuple[Pointer, ...] = (
            Out(0),
            In(0),
            In(1),
            In(2),
            *(In(self.region.anchors + k) for k in range(len(self.region.extras))),
        )
        return Emitted(w.text(), pointers, plan.n * self.blocks, 12 * self.room)

    def _chunks(self, w: Writer, channels: int) -> Iterator[tuple[str, list[int]]]:
        """Yields (first channel, lanes of each vector, 0 for all) for up to ``vectors`` vectors at
        a time, within loops."""
        wide = self.params.vectors * self.lanes
        whole, rest = divmod(channels, wide)
        if whole:
            with w.loop("b", whole * wide, wide):
                yield "b", [0] * self.params.vectors
        if rest:
            full, tail = divmod(rest, self.lanes)
            with w.block(""):
                w(f"const int64_t b = {whole * wide};")
                yield "b", [0] * full + [tail] * (tail > 0)

    def _groups(self, w: Writer, groups: int) -> None:
        """All of a task: ``groups`` groups from channel c on."""
        channels = groups * self.plan.size
        self._sum(w, channels, False)
        self._join(w, groups, ("mean",), ("mean_sum",))
        self._sum(w, channels, True)
        epsilon = literal(self.plan.epsilon, dt.f32)
        self._join(
            w,
            groups,
            ("factor", "rest"),
            (f"1.0f / sqrtf(factor_sum - rest_sum * rest_sum + {epsilon})", "rest_sum"),
        )
        with w.loop("k", channels):
            step = self.plan.weights[0]
            scale = from_memory(f"scale_block[k{f' * {step}' if step != 1 else ''}]", self.weights[0])
            w(f"factor[k] *= {scale};", "mean[k] += rest[k];")
        self._results(w, channels)

    def _sum(self, w: Writer, channels: int, squares: bool) -> None:
        """Per channel, the sum over pixels: of x to ``mean``; or of the difference from the mean to
        ``rest`` and of its square to ``factor``."""
        for at, tails in self._chunks(w, channels):
            count = range(len(tails))
            w("vf " + ", ".join(f"s{v} = vzero()" for v in count) + ";")
            if squares:
                w("vf " + ", ".join(f"r{v} = vzero()" for v in count) + ";")
                w(
                    "const vf "
                    + ", ".join(f"m{v} = vload(mean + {at} + {v} * VL)" for v in count)
                    + ";"
                )
            with nest(w, self.plan.pixels.extents, "p") as names:
                w(f"const {self.kinds[1].c} *px = {address('x_block', self.plan.pixels.strides[1], names)} + {at};")
                for v, tail in enumerate(tails):
                    value = Track("px", 1, self.kinds[1]).load(f"{v} * VL", tail)
                    if squares:
                        w(
                            f"const vf d{v} = {value} - m{v};",
                            f"s{v} = vfma(d{v}, d{v}, s{v});",
                            f"r{v} = r{v} + d{v};",
                        )
                    else:
                        w(f"s{v} = s{v} + {value};")
            for v in count:
                w(Track("factor" if squares else "mean", 1).store(f"{at} + {v} * VL", f"s{v}"))
                if squares:
                    w(Track("rest", 1).store(f"{at} + {v} * VL", f"r{v}"))

    def _join(self, w: Writer, groups: int, rows: tuple[str, ...], values: tuple[str, ...]) -> None:
        """Gives all channels of a group ``values`` of the means of ``rows`` over the group; the
        mean of a row is called by its name and _sum."""
        size = self.plan.size
        share = reciprocal(size * count(self.plan.pixels.extents))
        with w.loop("g", groups):
            sums = [f"{row}_sum" for row in rows]
            w(f"float {', '.join(f'{name} = 0' for name in sums)};")
            with w.loop("k", size):
                for row, name in zip(rows, sums, strict=True):
                    w(f"{name} += {row}[g * {size} + k];")
            for name in sums:
                w(f"{name} *= {share};")
            with w.loop("k", size):
                for row, value in zip(rows, values, strict=True):
                    w(f"{row}[g * {size} + k] = {value};")

    def _results(self, w: Writer, channels: int) -> None:
        plan = self.plan
        for at, tails in self._chunks(w, channels):
            offsets = [f"{at} + {v} * VL" for v in range(len(tails))]
            for v, (offset, tail) in enumerate(zip(offsets, tails, strict=True)):
                bias = Track("bias_block", plan.weights[1], self.weights[1]).load(offset, tail)
                w(
                    f"const vf m{v} = vload(mean + {offset}), f{v} = vload(factor + {offset}), b{v} = {bias};"
                )
            with nest(w, plan.pixels.extents, "p") as names:
                tracks = [
                    Track(address(f"{name}_block", strides, names), column, kind)
                    for name, kind, strides, column in zip(
                        self.names, self.kinds, plan.pixels.strides, plan.column, strict=True
                    )
                ]
                finish = Finish(w, self.region.epilogue, tracks[0], tracks[2:])
                for v, (offset, tail) in enumerate(zip(offsets, tails, strict=True)):
                    with w.block(""):
                        finish.store(
                            offset, f"vfma({tracks[1].load(offset, tail)} - m{v}, f{v}, b{v})", tail
                        )


KERNEL = NormChannels()
