"""Softmax and its logarithm along an axis, a row in registers."""

from __future__ import annotations

from strop.ir import dtype as dt
from strop.kernels.base import Region
from strop.kernels.triton import rows
from strop.kernels.triton.emit import GpuEmitted, Writer
from strop.kernels.triton.parts import GpuKernel, finish, is_float, standard
from strop.kernels.triton.rows import LONGEST, Params
from strop.ops.base import axis_of
from strop.ops.softmax import LogSoftmax, Softmax
from strop.target.base import Target


def _sizes(region: Region) -> tuple[int, int, int]:
    """(axis, its length, rows)."""
    assert isinstance(region.op, (Softmax, LogSoftmax))
    axis = axis_of(region.op, region.op.axis, len(region.out.shape))
    length = region.out.shape[axis]
    return axis, length, region.out.count // max(1, length)


class SoftmaxRows(GpuKernel[Params]):
    """See the module's text."""

    name = "softmax_rows"

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, (Softmax, LogSoftmax)):
            return "it is no softmax"
        if not is_float(region.operand(0).view, region.out):
            return "it is not of floats"
        return None if 0 < _sizes(region)[1] <= LONGEST else "its rows are too long"

    def space(self, region: Region, target: Target) -> list[Params]:
        return rows.space(*_sizes(region)[1:])

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return rows.cost(region, *_sizes(region)[1:], params, target)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        w = Writer()
        axis, _, count = _sizes(region)
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
