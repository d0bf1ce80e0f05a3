"""Softmax and its logarithm along an axis, a row in registers."""

from __future__ import annotations

from strop.ir import dtype as dt
from strop.kernels.base import Region
from strop.kernels.triton import rows
from strop.kernels.triton.emit import GpuEmitted, Writer
from strop.kernels.triton.parts import finish, standard
from strop.kernels.triton.rows import Params, RowKernel
from strop.ops.base import axis_of
from strop.ops.softmax import LogSoftmax, Softmax
from strop.target.base import Target


class SoftmaxRows(RowKernel):
    """See the module's text."""

    name = "softmax_rows"
    ops = (Softmax, LogSoftmax)
    no_such = "it is no softmax"

    def sizes(self, region: Region) -> tuple[int, int, int]:
        assert isinstance(region.op, (Softmax, LogSoftmax))
        axis = axis_of(region.op, region.op.axis, len(region.out.shape))
        length = region.out.shape[axis]
        return axis, length, region.out.count // max(1, length)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        w = Writer()
        axis, _, count = self.sizes(region)
        tile = rows.begin(w, region.out.shape, (axis,), params)
        w(f"v = {tile.load('x', region.operand(0).view)}.to(tl.float32)")
        inside = tile.mask(tile.blocks[1:])
        if inside:
            w(f'v = tl.where({inside}, v, float("-inf"))')
        w("v = v - tl.max(v, 1)[:, None]", "total = tl.sum(tl.exp(v), 1)[:, None]")
        value = "v - tl.log(total)" if isinstance(region.op, LogSoftmax) else "tl.exp(v) / total"
        w(f"v = {value}")
        finish(region, tile, "v", dt.f32)
        return standard(region, [("x", 0)]).emitted([rows.launch(w, count, params)])


KERNEL = SoftmaxRows()
