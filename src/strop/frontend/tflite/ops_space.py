"""TFLite's resizing, and what moves elements between space and channels or batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.dims import ratio
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.emission import NodeWriter
from strop.frontend.tflite.ops_shape import paddings
from strop.frontend.tflite.registry import tflite_op, writes
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.data import Pad, Slice
from strop.ops.resize import Resize


@tflite_op("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(node: NodeContext) -> Value:
    """Nearest takes the element below a position, with aligned corners or half pixels the nearest one, the upper one of two."""
    linear = node.operator.code == "RESIZE_BILINEAR"
    x, sizes = node.real(0) if linear else node.moved(0), node.dims(1, "size")
    if x.type.rank != 4 or len(sizes) != 2 or any(isinstance(s, int) and s < 1 for s in sizes):
        raise node.malformed("x has rank 4, sizes are two positive numbers", got=f"{x.type}, {sizes}")
    corners, half = node.option("AlignCorners", False), node.option("HalfPixelCenters", False)
    if corners and half:
        raise node.unsupported("align_corners with half_pixel_centers is not supported")
    scales = [ratio(have, size) for have, size in zip(x.shape[1:3], sizes, strict=True)]
    if None in scales:
        raise node.unsupported("a free size can only be resized to a whole multiple or a whole part of it", got=f"{x.type} to {sizes}")
    op = Resize(
        (x.shape[0], *sizes, x.shape[3]),
        (1.0, *scales, 1.0),  # type: ignore[arg-type]
        "linear" if linear else "nearest",
        "align_corners" if corners else "half_pixel" if half else "asymmetric",
        "round_prefer_ceil" if corners or half else "floor",
    )
    return node.channels_last(node.step(op.replace(sizes=_first(op.sizes), scales=_first(op.scales)), node.channels_first(x)))


def _first(numbers: tuple[object, ...]) -> tuple[object, ...]:
    """Per-axis numbers with those of the channels second."""
    return (numbers[0], numbers[3], *numbers[1:3])


def _block(node: NodeContext) -> int:
    size = node.option("BlockSize")
    if size < 1:
        raise node.malformed("the block size is not positive", got=size)
    return int(size)


@tflite_op("DEPTH_TO_SPACE")
def depth_to_space(node: NodeContext) -> Value:
    x, b = node.moved(0), _block(node)
    node.rank(0, 4)
    n, h, w, c = x.shape
    if not isinstance(c, int) or c % (b * b):
        raise node.malformed("the channels cannot be cut into blocks", got=x.type, expected=f"a multiple of {b * b}")
    parts = node.turned(node.reshape(x, (n, h, w, b, b, c // (b * b))), (0, 1, 3, 2, 4, 5))
    return node.reshape(parts, (n, sh.mul(h, b), sh.mul(w, b), c // (b * b)))


@tflite_op("SPACE_TO_DEPTH")
def space_to_depth(node: NodeContext) -> Value:
    x, b = node.moved(0), _block(node)
    node.rank(0, 4)
    n, h, w, c = x.shape
    if sh.mod(h, b) != 0 or sh.mod(w, b) != 0:
        raise node.malformed("the size cannot be cut into blocks", got=x.type, expected=f"multiples of {b}")
    h, w = sh.floordiv(h, b), sh.floordiv(w, b)
    parts = node.turned(node.reshape(x, (n, h, b, w, b, c)), (0, 1, 3, 2, 4, 5))
    return node.reshape(parts, (n, h, w, sh.mul(c, b * b)))


def _blocks(node: NodeContext, rank: int) -> tuple[int, ...]:
    found = node.ints(1, "block_shape")
    if not 1 <= len(found) < rank or any(b < 1 for b in found):
        raise node.malformed("the block does not fit", got=found, expected=f"1 to {rank - 1} positive numbers")
    return found


@tflite_op("SPACE_TO_BATCH_ND")
def space_to_batch_nd(node: NodeContext) -> Value:
    """Pads, then moves the places in a block in front of the batch."""
    x = node.real(0)
    block = _blocks(node, x.type.rank)
    count = len(block)
    given = paddings(node, 2, count)
    rest = x.type.rank - 1 - count
    pads = (0, *given[:count], *(0,) * rest, 0, *given[count:], *(0,) * rest)
    x = node.step(Pad(pads), x) if any(pads) else x
    split = [x.shape[0]]
    for size, b in zip(x.shape[1:], block, strict=False):
        if sh.mod(size, b) != 0:
            raise node.malformed("a padded size cannot be cut into blocks", got=x.type, expected=block)
        split += [sh.floordiv(size, b), b]
    tail = x.shape[1 + count :]
    places, outer = [2 + 2 * k for k in range(count)], [1 + 2 * k for k in range(count)]
    perm = (*places, 0, *outer, *range(1 + 2 * count, 1 + 2 * count + len(tail)))
    parts = node.turned(node.reshape(x, (*split, *tail)), perm)
    return node.reshape(parts, (sh.mul(x.shape[0], sh.volume(block)), *split[1::2], *tail))


@tflite_op("BATCH_TO_SPACE_ND")
def batch_to_space_nd(node: NodeContext) -> Value:
    """Moves places in front of the batch back into blocks, then cuts off crops."""
    x = node.moved(0)
    block = _blocks(node, x.type.rank)
    count = len(block)
    crops = paddings(node, 2, count)
    volume = sh.volume(block)
    if sh.mod(x.shape[0], volume) != 0:
        raise node.malformed("the batch cannot be cut into blocks", got=x.type, expected=f"a multiple of {volume}")
    batch, spatial, tail = sh.floordiv(x.shape[0], volume), x.shape[1 : 1 + count], x.shape[1 + count :]
    parts = node.reshape(x, (*block, batch, *spatial, *tail))
    perm = [count]
    for k in range(count):
        perm += [count + 1 + k, k]
    parts = node.turned(parts, (*perm, *range(2 * count + 1, 2 * count + 1 + len(tail))))
    found = node.reshape(parts, (batch, *(sh.mul(s, b) for s, b in zip(spatial, block, strict=True)), *tail))
    cut = [k for k in range(count) if crops[k] or crops[count + k]]
    if not cut:
        return found
    starts = [crops[k] for k in cut]
    stops = [sh.sub(found.shape[1 + k], crops[count + k]) for k in cut]
    return node.step(Slice.of(found.shape, starts, stops, [1 + k for k in cut]), found)


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
