"""TFLite's resizing, and what moves elements between space and channels or batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.tensorflow import blocks
from strop.frontend.tensorflow.slices import paddings
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.emission import NodeWriter
from strop.frontend.tflite.registry import tflite_op, writes
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.resize import Resize


@tflite_op("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(node: NodeContext) -> Value:
    linear = node.operator.code == "RESIZE_BILINEAR"
    x = node.real(0) if linear else node.moved(0)
    return blocks.resized(node, x, node.dims(1, "size"), linear, bool(node.option("AlignCorners", False)), bool(node.option("HalfPixelCenters", False)))


@tflite_op("DEPTH_TO_SPACE")
def depth_to_space(node: NodeContext) -> Value:
    return blocks.depth_to_space(node, node.moved(0), int(node.option("BlockSize")))


@tflite_op("SPACE_TO_DEPTH")
def space_to_depth(node: NodeContext) -> Value:
    return blocks.space_to_depth(node, node.moved(0), int(node.option("BlockSize")))


@tflite_op("SPACE_TO_BATCH_ND")
def space_to_batch_nd(node: NodeContext) -> Value:
    """Pads, then moves the places in a block in front of the batch."""
    block = node.ints(1, "block_shape")
    return blocks.space_to_batch(node, node.real(0), block, paddings(node, 2, len(block)))


@tflite_op("BATCH_TO_SPACE_ND")
def batch_to_space_nd(node: NodeContext) -> Value:
    """Moves places in front of the batch back into blocks, then cuts off crops."""
    block = node.ints(1, "block_shape")
    return blocks.batch_to_space(node, node.moved(0), block, paddings(node, 2, len(block)))


# ---- written

#: Coordinates of a Resize by the options (AlignCorners, HalfPixelCenters).
_COORDINATES = {"asymmetric": (False, False), "half_pixel": (False, True), "pytorch_half_pixel": (False, True), "half_pixel_symmetric": (False, True), "align_corners": (True, False)}


def resized(op: Resize, shape: Sequence[Dim]) -> tuple[bool, bool] | None:
    """The options (AlignCorners, HalfPixelCenters) with which an operator resizes x[N, C, H, W] as a Resize does; None where none does."""
    if op.mode == "cubic" or op.antialias or op.roi or len(shape) != 4 or op.sizes[:2] != tuple(shape[:2]) or not sh.is_static((*shape[2:], *op.sizes[2:])):
        return None
    sizes = list(zip(sh.static(tuple(shape[2:])), sh.static(op.sizes[2:]), strict=True))
    fits = (c for c in dict.fromkeys(_COORDINATES.values()) if all(_equal(op, op.mode == "linear", c, b, a, k) for k, (b, a) in enumerate(sizes)))
    return next(fits, None)


@writes(Resize)
def write_resize(w: NodeWriter) -> None:
    """RESIZE_BILINEAR, or RESIZE_NEAREST_NEIGHBOR with the options that pick the same elements."""
    op, x = w.op, w.value(0)
    assert isinstance(op, Resize)
    found = resized(op, (x.shape[0], x.shape[-1], *x.shape[1:-1])) if w.last else None
    if found is None:
        raise w.refused("resizing at these positions is not supported", got=f"{x.type} to {sh.show(op.sizes)}, {op.mode}, {op.coordinates}", hint="give the inputs fixed shapes with --shape")
    code, options = ("RESIZE_BILINEAR", "ResizeBilinearOptions") if op.mode == "linear" else ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions")
    w.emit(code, [w.operand(0), w.ints(w.static(op.sizes[2:]), "size")], None, options, AlignCorners=found[0], HalfPixelCenters=found[1])


def _equal(op: Resize, linear: bool, options: tuple[bool, bool], before: int, after: int, axis: int) -> bool:
    """Whether resizing one axis gives the same with these options, tried on numbers that tell."""
    corners, half = options
    ours = op.replace(sizes=(after,), scales=(op.scales[2 + axis],))
    theirs = Resize(
        (after,), (after / before,), op.mode, "align_corners" if corners else "half_pixel" if half else "asymmetric",
        "round_prefer_ceil" if corners or half else "floor",
    )  # fmt: skip
    x = np.arange(before, dtype=np.float32)
    return bool(np.allclose(ours.reference(x)[0], theirs.reference(x)[0], atol=1e-4 if linear else 0.0))
