"""Largest or mean element of sliding windows, channels-last: of floats, and the largest of bytes. The largest f8e4m3 is found among f16, which hold them all."""

from __future__ import annotations

from collections.abc import Sequence

from strop.ir import dtype as dt
from strop.kernels.base import Region
from strop.kernels.triton import window
from strop.kernels.triton.emit import GpuEmitted, Tile, Writer
from strop.kernels.triton.parts import GpuKernel, is_float, standard
from strop.kernels.triton.window import Params, Window
from strop.ops.base import lowest
from strop.ops.integer import FACTORS
from strop.ops.pool import AveragePool, MaxPool
from strop.target.base import Target


class Pooling(GpuKernel[Params]):
    """See the module's text."""

    name = "pooling"

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, (MaxPool, AveragePool)):
            return "it is no pool"
        dtype = region.operand(0).view.dtype
        if isinstance(region.op, MaxPool) and dtype in FACTORS:
            return None
        return None if is_float(region.operand(0).view) else "it is not of floats, nor the largest of bytes"

    def space(self, region: Region, target: Target) -> list[Params]:
        return window.space(region)

    def cost(self, region: Region, params: Params, target: Target) -> float:
        assert isinstance(region.op, (MaxPool, AveragePool))
        return window.cost(region, Window(region.op.kernel, (), (), ()).taps, params, target)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        op, w, x = region.op, Writer(), region.operand(0).view
        assert isinstance(op, (MaxPool, AveragePool))
        found = Window(op.kernel, op.strides, op.pads, op.dilations)
        largest = isinstance(op, MaxPool)
        byte = x.dtype in FACTORS
        short = largest and x.dtype is dt.f8e4m3
        kind = "tl.int32" if byte else "tl.float16" if short else "tl.float32"
        start = str(lowest(x.dtype)) if byte or short else 'float("-inf")' if largest else "0.0"

        def begin(tile: Tile) -> None:
            w(f"acc = tl.full(({params.places}, {params.channels}), {start}, {kind})")

        def tap(number: str, element: str, index: Sequence[str]) -> None:
            if byte:
                w(f"acc = tl.maximum(acc, {element}.to(tl.int32))")
            elif largest:
                w(f"acc = tl.maximum(acc, {element}.to({kind}), propagate_nan=tl.PropagateNan.ALL)")
            else:
                w(f"acc += {element}.to(tl.float32)")

        def last(tile: Tile) -> str:
            if isinstance(op, AveragePool):
                self._divide(w, op, region)
            return "acc.to(tl.float32)" if short else "acc"

        launch = window.write(w, region, x, found, params, begin, tap, start, last, dt.i32 if byte else x.dtype)
        return standard(region, [("x", 0)]).emitted([launch])

    @staticmethod
    def _divide(w: Writer, op: AveragePool, region: Region) -> None:
        """Divides by the taps that count."""
        x, out = region.operand(0).view, region.out
        factors, constant = [], 1
        for k, size in enumerate(op.kernel):
            extent, reach = x.shape[2 + k], (out.shape[2 + k] - 1) * op.strides[k] - op.pads[k] + (size - 1) * op.dilations[k]
            low = -op.pads[k] if op.count_include_pad else 0
            high = extent + op.pads[len(op.kernel) + k] if op.count_include_pad else extent
            if low <= -op.pads[k] and reach < high:
                constant *= size
                continue
            taps = " + ".join(
                f"((at{k} + {t * op.dilations[k]} >= {low}) & (at{k} + {t * op.dilations[k]} < {high})).to(tl.float32)" for t in range(size)
            )
            w(f"counted{k} = tl.maximum({taps}, 1.0)")
            factors.append(f"counted{k}")
        w(f"acc = acc / ({' * '.join([*factors, f'{float(constant)}'])}){'[:, None]' if factors else ''}")


KERNEL = Pooling()
