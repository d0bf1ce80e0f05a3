"""ATen and torchvision ops that read at computed positions: grid sampling, regions of interest, deformable convolution; and col2im."""

from __future__ import annotations

from math import prod

import numpy as np

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.ops_shape import cut
from strop.frontend.torch.registry import torch_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops.conv import ConvTranspose
from strop.ops.matmul import MatMul
from strop.ops.reduce import Reduce
from strop.ops.roi import RoiAlign
from strop.ops.sampling import PADDINGS, DeformColumns, GridSample

_MODES = ("linear", "nearest", "cubic")


@torch_op("aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default")
def grid_sampler(node: NodeContext) -> Value:
    mode, padding = node.integer("interpolation_mode"), node.integer("padding_mode")
    return node.step(GridSample(_MODES[mode], PADDINGS[padding], node.flag("align_corners")), node.tensor("input"), node.tensor("grid"))


@torch_op("torchvision.roi_align.default")
def roi_align(node: NodeContext) -> Value:
    """Regions [R, 5]: the number of the picture, left, top, right, bottom."""
    x, regions = node.tensor("input"), node.tensor("rois")
    images = node.cast(node.reshape(cut(node, regions, 1, 0, 1), regions.shape[:1]), dt.i64)
    size = (node.integer("pooled_height"), node.integer("pooled_width"))
    op = RoiAlign(size, node.number("spatial_scale"), max(node.integer("sampling_ratio"), 0), "avg", node.flag("aligned"))
    return node.step(op, x, cut(node, regions, 1, 1, 4), images)


@torch_op("torchvision.deform_conv2d.default")
def deform_conv(node: NodeContext) -> Value:
    """The columns that the taps read, then one product per group."""
    x, weight = node.tensor("input"), node.tensor("weight")
    outputs, per_group, *kernel = node.static(weight.shape)
    groups = node.integer("groups")
    pair = {name: (node.integer(f"{name}_h"), node.integer(f"{name}_w")) for name in ("stride", "pad", "dilation")}
    op = DeformColumns((kernel[0], kernel[1]), pair["stride"], (*pair["pad"], *pair["pad"]), pair["dilation"], node.integer("offset_groups"))
    mask = (node.tensor("mask"),) if node.flag("use_mask") else ()
    columns = node.step(op, x, node.tensor("offset"), *mask)
    batch, _, _, *out = columns.shape
    depth = per_group * prod(kernel)
    right = node.reshape(columns, (batch, groups, depth, sh.volume(tuple(out))))
    left = node.reshape(weight, (groups, outputs // groups, depth))
    result = node.reshape(node.step(MatMul(), left, right), (batch, outputs, *out))
    return node.apply("add", result, node.reshape(node.tensor("bias"), (outputs, 1, 1)))


@torch_op("aten.col2im.default")
def col2im(node: NodeContext) -> Value:
    """The sum of blocks at their places: a transposed convolution whose weights put every tap where it belongs."""
    x, size = node.tensor(), node.ints("output_size", 2)
    kernel, dilation, stride, padding = (node.ints(n, 2) for n in ("kernel_size", "dilation", "stride", "padding"))
    lone = x.type.rank == 2
    x = node.reshape(x, (1, *x.shape)) if lone else x
    taps = prod(kernel)
    depth, _ = node.static(x.shape[1:])
    rooms = [s + 2 * p - d * (k - 1) - 1 for s, p, d, k in zip(size, padding, dilation, kernel, strict=True)]
    counts = [room // t + 1 for room, t in zip(rooms, stride, strict=True)]
    extra = tuple(room % t for room, t in zip(rooms, stride, strict=True))
    weights = np.broadcast_to(np.eye(taps), (depth // taps, taps, taps)).reshape(depth, 1, *kernel)
    op = ConvTranspose(stride, padding * 2, dilation, depth // taps, extra)
    spread = node.reshape(x, (x.shape[0], depth, *counts))
    result = node.step(op, spread, node.const(weights.astype(x.dtype.numpy)))
    return node.reshape(result, result.shape[1:]) if lone else result


@torch_op("aten._cdist_forward.default")
def cdist(node: NodeContext) -> Value:
    """Distances [.., P, R] between rows of x1[.., P, M] and x2[.., R, M]."""
    a, b, order = node.tensor("x1"), node.tensor("x2"), node.number("p")
    rows, columns = node.reshape(a, (*a.shape[:-1], 1, a.shape[-1])), node.reshape(b, (*b.shape[:-2], 1, *b.shape[-2:]))
    between = node.apply("sub", rows, columns)
    axes = (between.type.rank - 1,)
    if order in (1.0, 2.0):
        return node.step(Reduce("l1" if order == 1.0 else "l2", axes, False), between)
    if order == float("inf"):
        return node.step(Reduce("max", axes, False), node.apply("abs", between))
    powers = node.apply("pow", node.apply("abs", between), node.like(order, between))
    return node.apply("pow", node.step(Reduce("sum", axes, False), powers), node.like(1 / order, between))
