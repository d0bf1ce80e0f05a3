"""Resampling, nearest, linear or cubic, along any axes: tiles of places by channels where these lie innermost, else by places of the last axis.

Indices and weights of all taps are computed when the kernel is emitted, axis by axis, and stored with the weights.
"""

from __future__ import annotations

import math

import numpy as np

from strop.ir import dtype as dt
from strop.kernels.base import Packed, Region, View
from strop.kernels.triton.emit import (
    GpuEmitted,
    Tile,
    Writer,
    literal,
    loaded,
    masked,
    times,
    wide_of,
)
from strop.kernels.triton.parts import GpuKernel, Pointers, finish, is_float, standard
from strop.kernels.triton.places import Params, Places, launch, moved_bytes
from strop.ops.resize import Resize
from strop.target.base import Target

#: Taps along an axis that are written out one by one.
_UNROLLED = 4


class ResizeTaps(GpuKernel[Params]):
    """See the module's text."""

    name = "resize_taps"

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, Resize):
            return "it does not resize"
        x = region.operand(0).view
        if region.op.mode != "nearest" and not is_float(x):
            return "it interpolates other elements than floats of up to 32 bits"
        return None if x.count and region.out.count else "there is nothing to resize"

    def space(self, region: Region, target: Target) -> list[Params]:
        return _places(region).space(region.out)

    def cost(self, region: Region, params: Params, target: Target) -> float:
        op, x = region.op, region.operand(0).view
        assert isinstance(op, Resize)
        taps = math.prod(op.taps(k)[1] for k in op.resized(x.type))
        return _places(region).cost(region.out, params, moved_bytes(region, taps), 4.0 * taps, target)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        w = Writer()
        pointers = standard(region, [("x", 0)])
        tile, programs = _places(region).begin(w, region.out, params)
        _Emitter(w, region, tile, pointers).write()
        return pointers.emitted([launch(w, programs, params)])


def _places(region: Region) -> Places:
    assert isinstance(region.op, Resize)
    return Places.of(region.out, region.op.resized(region.operand(0).view.type))


class _Emitter:
    def __init__(self, w: Writer, region: Region, tile: Tile, pointers: Pointers) -> None:
        assert isinstance(region.op, Resize)
        self.w, self.region, self.tile, self.op = w, region, tile, region.op
        self.x = region.operand(0).view
        self.axes = sorted(self.op.resized(self.x.type), key=lambda k: (-self.x.strides[k], k))
        self.weighted = self.op.mode != "nearest"
        self.cropped = self.op.coordinates == "tf_crop_and_resize"
        for k in self.axes:
            index, weight = self.op.table(self.x.shape[k], k)
            pointers.packed(f"index{k}", dt.i32, Packed(index.astype(np.int32)))
            if self.weighted:
                pointers.packed(f"weight{k}", dt.f32, Packed(weight.astype(np.float32)))
            if self.cropped:
                pointers.packed(f"outside{k}", dt.i8, Packed(self.op.outside(self.x.shape[k], k).astype(np.int8)))

    def write(self) -> None:
        w, tile, x = self.w, self.tile, self.x
        still = [0 if k in self.axes else s for k, s in enumerate(x.strides)]
        text, _ = tile.offset(still, wide_of(x))
        shape = [tile.shaped(f"{b.name} * 0", b) for b in tile.blocks]  # every place has an address
        w(f"place = {' + '.join([*filter(None, [text]), *shape])}")
        inside = tile.mask(tile.blocks)
        self.mask = masked([inside] if inside else [], "0")
        for k in self.axes:
            taps = self.op.taps(k)[1]
            for tap in range(taps if taps <= _UNROLLED else 0):
                for table in ("index", "weight")[: 1 + self.weighted]:
                    w(f"{table}{k}_{tap} = {self._entry(f'{table}{k}', k, taps, str(tap))}")
        value = self._sum(0, "place")
        if self.cropped and self.axes:
            beyond = " | ".join(f"({self._entry(f'outside{k}', k, 1, '0')} != 0)" for k in self.axes)
            w(f"beyond = {beyond}")
            value = f"tl.where(beyond, {literal(self.op.extrapolation, x.dtype)}, {value})"
        w(f"element = {value}")
        finish(self.region, tile, "element", x.dtype)

    def _entry(self, table: str, axis: int, taps: int, tap: str) -> str:
        """Text of a table's entry at the places' index along an axis."""
        shape = self.region.out.shape
        strides = tuple(taps if k == axis else 0 for k in range(len(shape)))
        return self.tile.load(table if tap == "0" else f"{table} + {tap}", View(shape, strides, dt.i32))

    def _sum(self, depth: int, place: str) -> str:
        """Text of what the axes from number ``depth`` on make of x at a place along those before."""
        w, x = self.w, self.x
        if depth == len(self.axes):
            return loaded(f"tl.load(x + {place}{self.mask})", x.dtype)
        axis = self.axes[depth]
        taps = self.op.taps(axis)[1]

        def entry(table: str, tap: str) -> str:
            return f"{table}{axis}_{tap}" if taps <= _UNROLLED else self._entry(f"{table}{axis}", axis, taps, tap)

        def one(tap: str) -> str:
            index = entry("index", tap)
            index = f"{index}.to(tl.int64)" if wide_of(x) else index
            w(f"place{depth} = {place} + {times(index, x.strides[axis])}")
            return self._sum(depth + 1, f"place{depth}")

        if not self.weighted:
            return one("0")
        w(f"sum{depth} = tl.zeros_like({place}).to(tl.float32)")
        if taps <= _UNROLLED:
            for number in range(taps):
                w(f"sum{depth} += {one(str(number))} * {entry('weight', str(number))}")
            return f"sum{depth}"
        with w.block(f"for tap{depth} in range({taps})"):
            w(f"sum{depth} += {one(f'tap{depth}')} * {entry('weight', f'tap{depth}')}")
        return f"sum{depth}"


KERNEL = ResizeTaps()
