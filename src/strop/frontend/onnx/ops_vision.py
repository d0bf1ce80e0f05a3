"""ONNX ops of vision models: sampling at computed positions, regions of interest, columns and unpooling."""

from __future__ import annotations

from math import prod

import numpy as np

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Operand
from strop.frontend.onnx.ops_nn import window
from strop.frontend.onnx.registry import onnx_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ops.conv import ConvTranspose
from strop.ops.data import Pad, Reshape
from strop.ops.elementwise import Cast, make
from strop.ops.matmul import MatMul
from strop.ops.roi import MaxRoiPool, RoiAlign
from strop.ops.sampling import PADDINGS, TAPS, DeformColumns, GridSample
from strop.ops.scatter import ScatterElements

_OLD_MODES = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}


@onnx_op("GridSample", since=16)
def grid_sample(node: NodeContext) -> Operand:
    """The linear and cubic modes have other names before opset 20."""
    if node.opset < 20:
        mode = _OLD_MODES[node.text("mode", "bilinear", tuple(_OLD_MODES))]
    else:
        mode = node.text("mode", "linear", tuple(TAPS))
    padding = node.text("padding_mode", "zeros", PADDINGS)
    op = GridSample(mode, padding, node.flag("align_corners"))
    return node.step(op, node.operand(0), node.operand(1))


@onnx_op("RoiAlign", since=10)
def roi_align(node: NodeContext) -> Operand:
    """Regions may be smaller than an element from opset 16 on, where half_pixel becomes the default."""
    mode = node.text("mode", "avg", ("avg", "max"))
    half = False
    if node.opset >= 16:
        allowed = ("half_pixel", "output_half_pixel")
        half = node.text("coordinate_transformation_mode", "half_pixel", allowed) == "half_pixel"
    size = (node.integer("output_height", 1), node.integer("output_width", 1))
    op = RoiAlign(
        size, node.number("spatial_scale", 1.0), node.integer("sampling_ratio", 0), mode, half
    )
    return node.step(op, node.operand(0), node.operand(1), node.operand(2))


@onnx_op("MaxRoiPool", since=1)
def max_roi_pool(node: NodeContext) -> Operand:
    size = node.integers("pooled_shape")
    if len(size) != 2:
        raise node.malformed("attribute pooled_shape does not fit", got=size, expected="2 numbers")
    op = MaxRoiPool((size[0], size[1]), node.number("spatial_scale", 1.0))
    return node.step(op, node.operand(0), node.operand(1))


@onnx_op("DeformConv", since=19)
def deform_conv(node: NodeContext) -> Operand:
    """The columns that the taps read, then one product per group."""
    x, w, offset = node.operand(0), node.operand(1), node.operand(2)
    bias, mask = node.optional(3), node.optional(4)
    if x.type.rank != 4 or w.type.rank != 4:
        raise node.unsupported("only images [N, C, H, W] are supported", got=f"{x.type}, {w.type}")
    outputs, per_group, *kernel = sh.static(w.type.shape, node.where)
    declared = node.optional_integers("kernel_shape")
    if declared is not None and declared != tuple(kernel):
        raise node.malformed("kernel_shape does not fit the weights", got=declared, expected=kernel)
    groups, pads = node.integer("group", 1), node.integers("pads", (0, 0, 0, 0))
    strides, dilations = window(node, "strides", 2), window(node, "dilations", 2)
    if len(pads) != 4 or groups < 1 or outputs % groups or x.type.shape[1] != per_group * groups:
        raise node.malformed("attributes do not fit", got=f"group {groups}, pads {pads}, {x.type}, {w.type}")
    op = DeformColumns(
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (pads[0], pads[1], pads[2], pads[3]),
        (dilations[0], dilations[1]),
        node.integer("offset_group", 1),
    )
    columns = node.step(op, x, offset, *(() if mask is None else (mask,)))
    batch, _, _, *out = columns.type.shape
    depth = per_group * prod(kernel)
    right = node.step(Reshape((batch, groups, depth, sh.volume(tuple(out)))), columns)
    left = node.step(Reshape((groups, outputs // groups, depth)), w)
    result = node.step(Reshape((batch, outputs, *out)), node.step(MatMul(), left, right))
    if bias is None:
        return result
    return node.step(make("add"), result, node.step(Reshape((outputs, 1, 1)), bias))


@onnx_op("Col2Im", since=18)
def col2im(node: NodeContext) -> Operand:
    """The sum of blocks at their places: a transposed convolution whose weights put every tap where it belongs."""
    x, size, block = node.operand(0), node.ints(1, "image_shape"), node.ints(2, "block_shape")
    rank = len(size)
    if x.type.rank != 3 or not 1 <= rank <= 3 or len(block) != rank or not x.type.dtype.is_float:
        raise node.malformed("operands do not fit", got=f"{x.type}, image {size}, block {block}")
    strides, dilations = window(node, "strides", rank), window(node, "dilations", rank)
    pads = node.integers("pads", (0,) * (2 * rank))
    batch, depth, blocks = x.type.shape
    taps = prod(block)
    if len(pads) != 2 * rank or taps < 1 or not isinstance(depth, int) or depth % taps:
        raise node.malformed("attributes do not fit", got=f"pads {pads}, block {block}, {x.type}")
    counts, extra = [], []
    for k in range(rank):
        room = size[k] + pads[k] + pads[rank + k] - dilations[k] * (block[k] - 1) - 1
        if room < 0:
            raise node.malformed("a block is larger than its image", got=f"{block} in {size}")
        counts.append(room // strides[k] + 1)
        extra.append(room % strides[k])
    if blocks != prod(counts):
        raise node.malformed("the blocks do not fit", got=x.type, expected=f"{prod(counts)} blocks")
    channels = depth // taps
    node.check_size((channels, taps, taps), 4)
    weights = np.broadcast_to(np.eye(taps), (channels, taps, taps)).reshape(depth, 1, *block)
    op = ConvTranspose(strides, pads, dilations, channels, tuple(extra))
    spread = node.step(Reshape((batch, depth, *counts)), x)
    return node.step(op, spread, node.const(weights.astype(x.type.dtype.numpy)))


@onnx_op("MaxUnpool", since=9)
def max_unpool(node: NodeContext) -> Operand:
    """Every element at the place its index names, zeros elsewhere; a larger output_shape adds zeros at the end."""
    x, indices = node.operand(0), node.operand(1)
    rank = x.type.rank - 2
    if rank < 1 or indices.type.shape != x.type.shape:
        raise node.malformed("operands do not fit", got=f"{x.type} and {indices.type}")
    kernel, strides = window(node, "kernel_shape", rank, None), window(node, "strides", rank)
    pads = node.integers("pads", (0,) * (2 * rank))
    if len(pads) != 2 * rank:
        raise node.malformed("attribute pads does not fit", got=pads)
    sizes = list(sh.static(x.type.shape, node.where))
    for k in range(rank):
        sizes[2 + k] = (sizes[2 + k] - 1) * strides[k] - pads[k] - pads[rank + k] + kernel[k]
    wanted = sizes if node.optional(2) is None else list(node.ints(2, "output_shape"))
    if len(wanted) != len(sizes) or any(w < s for w, s in zip(wanted, sizes, strict=True)):
        raise node.malformed("output_shape does not fit", got=wanted, expected=f"at least {sizes}")
    count = prod(sizes)
    blank = node.filled((count,), np.zeros(1, x.type.dtype.numpy))
    at = node.step(Reshape((x.type.count,)), indices)
    if at.type.dtype not in (dt.i32, dt.i64):
        at = node.step(Cast(dt.i64), at)
    flat = node.step(Reshape((x.type.count,)), x)
    whole = node.step(Reshape(tuple(sizes)), node.step(ScatterElements(0), blank, at, flat))
    if wanted == sizes:
        return whole
    more = tuple(w - s for w, s in zip(wanted, sizes, strict=True))
    return node.step(Pad((*(0,) * len(sizes), *more), "constant", 0.0), whole)
