"""Convolutions in which every channel has a window of its own, channels-last, of floats or bytes. Weights are stored as [taps][channels out]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.ir import dtype as dt
from strop.ir.op import Array
from strop.kernels.base import Packed, Region
from strop.kernels.triton import window
from strop.kernels.triton.conv_gemm import convolution
from strop.kernels.triton.emit import VALUE, GpuEmitted, Tile, Writer
from strop.kernels.triton.integers import corrections, is_integer, sums_of, zero_of
from strop.kernels.triton.parts import GpuKernel, standard
from strop.kernels.triton.window import Params, Window
from strop.ops.conv import Conv
from strop.ops.integer import IntegerConv
from strop.target.base import Target


def _window(region: Region) -> Window:
    op = region.op
    assert isinstance(op, (Conv, IntegerConv))
    return Window(region.operand(1).view.shape[2:], op.strides, op.pads, op.dilations)


class Depthwise(GpuKernel[Params]):
    """See the module's text."""

    name = "depthwise"

    def takes(self, region: Region, target: Target) -> str | None:
        reason = convolution(region)
        if reason is not None:
            return reason
        if not isinstance(region.op, (Conv, IntegerConv)):
            return "it is not a product of one type of floats or of integers"
        if region.op.groups == 1 or region.operand(1).view.shape[1] != 1 or region.operand(1).view.shape[0] != region.op.groups:
            return "its channels do not have a window each"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        return window.space(region)

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return window.cost(region, _window(region).taps, params, target)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        w, found = Writer(), _window(region)
        weights = region.operand(1)
        channels = weights.view.shape[0]
        pointers = standard(region, [("x", 0)])

        def packed() -> Array:
            array = weights.logical
            assert array is not None
            return np.ascontiguousarray(array.reshape(channels, found.taps).T)

        pointers.packed("w", weights.view.dtype, Packed(packed))
        byte = is_integer(region.operand(0).view.dtype)
        sums, zero = sums_of(region.operand(0).view.dtype), zero_of(region) if byte else 0
        kind = VALUE[sums.name]

        def corrected() -> Array:
            array = weights.logical
            assert array is not None
            table: Array = corrections(array.reshape(channels, found.taps), zero, dt.i8)[0]
            return table

        if zero:
            pointers.packed("corrections", dt.i32, Packed(corrected))
        masked = channels % params.channels != 0
        mask = f", mask=c < {channels}, other={'0' if byte else '0.0'}" if masked else ""

        def start(tile: Tile) -> None:
            w(f"acc = tl.zeros(({params.places}, {params.channels}), {kind})")
            if zero:
                w(f"acc += tl.load(corrections + c{mask})[None, :]")

        def tap(number: str, element: str, index: Sequence[str]) -> None:
            place = "w + c" if number == "0" else f"w + {number} * {channels} + c"
            w(f"acc += {element}.to({kind}) * tl.load({place}{mask}).to({kind})[None, :]")

        dtype = region.out.dtype if sums.is_float else sums
        launch = window.write(w, region, region.operand(0).view, found, params, start, tap, str(zero) if byte else "0.0", lambda tile: "acc", dtype)
        return pointers.emitted([launch])


KERNEL = Depthwise()
