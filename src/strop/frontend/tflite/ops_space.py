"""TFLite's resizing, and what moves elements between space and channels or batch."""

from __future__ import annotations

from strop.frontend.tensorflow import blocks
from strop.frontend.tensorflow.slices import paddings
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.registry import tflite_op
from strop.ir.graph import Value


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
