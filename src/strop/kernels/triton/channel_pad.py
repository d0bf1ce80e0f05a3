"""Channels of a constant behind those of a value, and places around it, channels-last: what convolutions of few channels read."""

from __future__ import annotations

from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.kernels.base import Region, View
from strop.kernels.triton.emit import (
    Block,
    GpuEmitted,
    Launch,
    Tile,
    Writer,
    ceil_div,
    literal,
    masked,
    power_of_two,
    times,
    wide_of,
)
from strop.kernels.triton.parts import GpuKernel, finish, is_float, standard, traffic
from strop.ops.data import Pad
from strop.target.base import Target

_MOST = 16


@dataclass(frozen=True)
class Params:
    """Places of a tile, and warps."""

    places: int
    warps: int


class ChannelPad(GpuKernel[Params]):
    """See the module's text."""

    name = "channel_pad"

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, Pad) or region.op.mode != "constant" or len(region.out.shape) < 3:
            return "it is no padding with a constant"
        pads, rank = region.op.pads, len(region.out.shape)
        if pads[0] or pads[rank] or pads[1] or min(pads) < 0 or pads[rank + 1] <= 0 or region.out.shape[1] > _MOST:
            return "it does not pad behind a few channels"
        if region.anchors != 1:
            return "its value is an operand"
        return None if is_float(region.operand(0).view) else "it is not of floats"

    def space(self, region: Region, target: Target) -> list[Params]:
        return [Params(places, warps) for places in (64, 128, 256, 512) for warps in (1, 2, 4, 8) if 2 <= places // (32 * warps) <= 16 or places == 64]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        count = region.out.count // region.out.shape[1]
        each = params.places / (32 * params.warps)
        waves = ceil_div(ceil_div(count, params.places), target.cores * max(1, min(32, 64 // params.warps)))
        return max(traffic(region, target), waves * (900 + each * 40) / (target.ghz * 1e9) + 2e-6) * (1.0 + 0.01 * abs(each - 4))

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        op, w, x, shape = region.op, Writer(), region.operand(0).view, region.out.shape
        assert isinstance(op, Pad)
        axes = (0, *range(2, len(shape)))
        size = power_of_two(shape[1])
        count = region.out.count // shape[1]
        w(f"m = tl.program_id(0) * {params.places} + tl.arange(0, {params.places})", f"c = tl.arange(0, {size})")
        m = Block("m", axes, tuple(shape[a] for a in axes), params.places, count % params.places != 0)
        tile = Tile(w, (m, Block("c", (1,), (shape[1],), size, size != shape[1])))
        masks = [f"(c < {x.shape[1]})[None, :]", *([f"(m < {count})[:, None]"] if m.checked else [])]
        shift = sum(op.pads[a] * x.strides[a] for a in axes)
        rows = (m.offset(w, [x.strides[a] for a in axes], wide_of(x)) or "m * 0") + (f" - {shift}" if shift else "")
        for number, a in enumerate(axes):
            if x.shape[a] != shape[a]:
                w(f"at{a} = {m.axis(w, number)} - {op.pads[a]}")
                masks.append(f"((at{a} >= 0) & (at{a} < {x.shape[a]}))[:, None]")
        other = literal(op.value, dt.f32)
        w(f"v = tl.load(x + ({rows})[:, None] + {times('c[None, :]', x.strides[1])}{masked(masks, other)}).to(tl.float32)")
        finish(region, tile, "v", dt.f32, View(shape, region.out.strides, region.out.dtype))
        return standard(region, [("x", 0)]).emitted([Launch(w.text(), (ceil_div(count, params.places), 1, 1), params.warps, 1)])


KERNEL = ChannelPad()
