"""Layer norm and RMS norm over the last axes, a row in registers."""

from __future__ import annotations

import math

from strop.ir import dtype as dt
from strop.kernels.base import Region
from strop.kernels.triton import rows
from strop.kernels.triton.emit import GpuEmitted, Writer
from strop.kernels.triton.parts import finish, standard
from strop.kernels.triton.rows import Params, RowKernel
from strop.ops.base import axis_of
from strop.ops.norm import LayerNorm, RMSNorm
from strop.target.base import Target


class NormRows(RowKernel):
    """See the module's text."""

    name = "norm_rows"
    ops = (LayerNorm, RMSNorm)
    no_such = "it is no norm over the last axes"

    def sizes(self, region: Region) -> tuple[int, int, int]:
        assert isinstance(region.op, (LayerNorm, RMSNorm))
        shape = region.out.shape
        axis = axis_of(region.op, region.op.axis, len(shape))
        return axis, math.prod(shape[axis:]), math.prod(shape[:axis])

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        op, w = region.op, Writer()
        assert isinstance(op, (LayerNorm, RMSNorm))
        axis, length, count = self.sizes(region)
        shape = region.out.shape
        tile = rows.begin(w, shape, tuple(range(axis, len(shape))), params)
        w(f"v = {tile.load('x', region.operand(0).view)}.to(tl.float32)")
        if isinstance(op, LayerNorm):
            inside = tile.mask(tile.blocks[1:])
            w(f"v = v - (tl.sum(v, 1) / {length})[:, None]")
            if inside:
                w(f"v = tl.where({inside}, v, 0.0)")
        w(f"v = v * tl.rsqrt(tl.sum(v * v, 1) / {length} + {op.epsilon!r})[:, None]")
        anchors = [("x", 0), ("scale", 1)]
        w(f"v = v * {tile.load('scale', region.operand(1).view.broadcast(shape))}.to(tl.float32)")
        if region.anchors > 2 and region.operands[2] is not None:
            anchors.append(("shift", 2))
            w(f"v = v + {tile.load('shift', region.operand(2).view.broadcast(shape))}.to(tl.float32)")
        finish(region, tile, "v", dt.f32)
        return standard(region, anchors).emitted([rows.launch(w, count, params)])


KERNEL = NormRows()
