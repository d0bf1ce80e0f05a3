"""Convolutions in which every channel has a window of its own, channels-last. Weights are stored as [taps][channels out]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.ir.op import Array
from strop.kernels.base import Packed, Region
from strop.kernels.triton import window
from strop.kernels.triton.emit import GpuEmitted, Tile, Writer
from strop.kernels.triton.parts import GpuKernel, is_float, standard
from strop.kernels.triton.window import Params, Window
from strop.ops.conv import Conv
from strop.target.base import Target


def _window(region: Region) -> Window:
    op = region.op
    assert isinstance(op, Conv)
    return Window(region.operand(1).view.shape[2:], op.strides, op.pads, op.dilations)


class Depthwise(GpuKernel[Params]):
    """See the module's text."""

    name = "depthwise"

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, Conv) or region.op.layout != "NCHW":
            return "it is no convolution"
        if region.operand(1).const is None:
            return "its weights are not known"
        if region.anchors > 2 and region.operands[2] is not None:
            return "its bias is no part of the epilogue"
        if region.op.groups == 1 or region.operand(1).view.shape[1] != 1 or region.operand(1).view.shape[0] != region.op.groups:
            return "its channels do not have a window each"
        return None if is_float(region.operand(0).view, region.out) else "it is not of floats"

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
        masked = channels % params.channels != 0

        def start(tile: Tile) -> None:
            w(f"acc = tl.zeros(({params.places}, {params.channels}), tl.float32)")

        def tap(number: str, element: str, index: Sequence[str]) -> None:
            place = "w + c" if number == "0" else f"w + {number} * {channels} + c"
            mask = f", mask=c < {channels}, other=0.0" if masked else ""
            w(f"acc += {element}.to(tl.float32) * tl.load({place}{mask}).to(tl.float32)[None, :]")

        launch = window.write(w, region, region.operand(0).view, found, params, start, tap, "0.0", lambda tile: "acc")
        return pointers.emitted([launch])


KERNEL = Depthwise()
