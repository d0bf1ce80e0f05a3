"""TFLite's resizing, and what moves elements between space and channels or batch."""

from __future__ import annotations

import numpy as np

from strop.frontend.tensorflow import blocks
from strop.frontend.tensorflow.slices import paddings
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.emission import NodeWriter
from strop.frontend.tflite.registry import tflite_op, writes
from strop.ir.graph import Value
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


@writes(Resize)
def write_resize(w: NodeWriter) -> None:
    """RESIZE_BILINEAR, or RESIZE_NEAREST_NEIGHBOR with the options that pick the same elements."""
    op, x = w.op, w.value(0)
    assert isinstance(op, Resize) and w.last, "resizing is arranged channels-last"
    if op.mode == "cubic" or op.antialias or op.roi or x.type.rank != 4 or op.sizes[:2] != (x.shape[0], x.shape[3]):
        raise w.refused("only nearest and bilinear resizing of two spatial axes is supported", got=f"mode {op.mode}, {x.type} to {op.sizes}")
    before, after = w.static(x.shape[1:3]), w.static(op.sizes[2:])
    linear = op.mode == "linear"
    fits = [c for c in dict.fromkeys(_COORDINATES.values()) if all(_equal(op, linear, c, b, a, k) for k, (b, a) in enumerate(zip(before, after, strict=True)))]
    if not fits:
        raise w.refused("TensorFlow Lite does not resize at these positions", got=f"{op.coordinates}, {op.nearest}, {before} to {after}", expected="half_pixel, align_corners or asymmetric")
    corners, half = fits[0]
    code, options = ("RESIZE_BILINEAR", "ResizeBilinearOptions") if linear else ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions")
    w.emit(code, [w.operand(0), w.ints(after, "size")], None, options, AlignCorners=corners, HalfPixelCenters=half)


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
