"""Resizing, and moving elements between space and channels or batch, as TensorFlow means them; channels last."""

from __future__ import annotations

from collections.abc import Sequence

from strop.frontend.dims import ratio
from strop.frontend.tensorflow.node import TensorFlowNode
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.data import Pad, Slice
from strop.ops.resize import Resize


def resized(node: TensorFlowNode, x: Value, sizes: Sequence[Dim], linear: bool, corners: bool, half: bool) -> Value:
    """x [N, H, W, C] with other H and W.

    Nearest takes the element below a position, with aligned corners or half pixels the nearest one, the upper one of two.
    """
    if x.type.rank != 4 or len(sizes) != 2 or any(isinstance(s, int) and s < 1 for s in sizes):
        raise node.malformed("x has rank 4, sizes are two positive numbers", got=f"{x.type}, {sizes}")
    if corners and half:
        raise node.unsupported("align_corners with half_pixel_centers is not supported")
    scales = [ratio(have, size) for have, size in zip(x.shape[1:3], sizes, strict=True)]
    if None in scales:
        raise node.unsupported("a free size can only be resized to a whole multiple or a whole part of it", got=f"{x.type} to {sizes}")
    op = Resize(
        (x.shape[0], x.shape[3], *sizes),
        (1.0, 1.0, *scales),  # type: ignore[arg-type]
        "linear" if linear else "nearest",
        "align_corners" if corners else "half_pixel" if half else "asymmetric",
        "round_prefer_ceil" if corners or half else "floor",
    )
    return node.channels_last(node.step(op, node.channels_first(x)))


def depth_to_space(node: TensorFlowNode, x: Value, b: int) -> Value:
    """[N, H, W, b b C] as [N, b H, b W, C]."""
    n, h, w, c = _four(node, x, b)
    if not isinstance(c, int) or c % (b * b):
        raise node.malformed("the channels cannot be cut into blocks", got=x.type, expected=f"a multiple of {b * b}")
    parts = node.turned(node.reshape(x, (n, h, w, b, b, c // (b * b))), (0, 1, 3, 2, 4, 5))
    return node.reshape(parts, (n, sh.mul(h, b), sh.mul(w, b), c // (b * b)))


def space_to_depth(node: TensorFlowNode, x: Value, b: int) -> Value:
    """[N, b H, b W, C] as [N, H, W, b b C]."""
    n, h, w, c = _four(node, x, b)
    if sh.mod(h, b) != 0 or sh.mod(w, b) != 0:
        raise node.malformed("the size cannot be cut into blocks", got=x.type, expected=f"multiples of {b}")
    h, w = sh.floordiv(h, b), sh.floordiv(w, b)
    parts = node.turned(node.reshape(x, (n, h, b, w, b, c)), (0, 1, 3, 2, 4, 5))
    return node.reshape(parts, (n, h, w, sh.mul(c, b * b)))


def _four(node: TensorFlowNode, x: Value, b: int) -> tuple[Dim, ...]:
    if x.type.rank != 4:
        raise node.unsupported("operand 0 has an unsupported rank", got=x.type, expected="rank 4")
    if b < 1:
        raise node.malformed("the block size is not positive", got=b)
    return x.shape


def _checked(node: TensorFlowNode, block: Sequence[int], rank: int) -> None:
    if not 1 <= len(block) < rank or any(b < 1 for b in block):
        raise node.malformed("the block does not fit", got=tuple(block), expected=f"1 to {rank - 1} positive numbers")


def space_to_batch(node: TensorFlowNode, x: Value, block: Sequence[int], paddings: Sequence[int]) -> Value:
    """Pads the axes behind the batch, before all of them, then after, and moves the places in a block in front of the batch."""
    _checked(node, block, x.type.rank)
    count = len(block)
    rest = x.type.rank - 1 - count
    pads = (0, *paddings[:count], *(0,) * rest, 0, *paddings[count:], *(0,) * rest)
    x = node.step(Pad(pads), x) if any(pads) else x
    split = [x.shape[0]]
    for size, b in zip(x.shape[1:], block, strict=False):
        if sh.mod(size, b) != 0:
            raise node.malformed("a padded size cannot be cut into blocks", got=x.type, expected=tuple(block))
        split += [sh.floordiv(size, b), b]
    tail = x.shape[1 + count :]
    places, outer = [2 + 2 * k for k in range(count)], [1 + 2 * k for k in range(count)]
    perm = (*places, 0, *outer, *range(1 + 2 * count, 1 + 2 * count + len(tail)))
    parts = node.turned(node.reshape(x, (*split, *tail)), perm)
    return node.reshape(parts, (sh.mul(x.shape[0], sh.volume(tuple(block))), *split[1::2], *tail))


def batch_to_space(node: TensorFlowNode, x: Value, block: Sequence[int], crops: Sequence[int]) -> Value:
    """Moves places in front of the batch back into blocks, then cuts off crops, before all axes, then after."""
    _checked(node, block, x.type.rank)
    count = len(block)
    volume = sh.volume(tuple(block))
    if sh.mod(x.shape[0], volume) != 0:
        raise node.malformed("the batch cannot be cut into blocks", got=x.type, expected=f"a multiple of {volume}")
    batch, spatial, tail = sh.floordiv(x.shape[0], volume), x.shape[1 : 1 + count], x.shape[1 + count :]
    parts = node.reshape(x, (*block, batch, *spatial, *tail))
    perm = [count]
    for k in range(count):
        perm += [count + 1 + k, k]
    parts = node.turned(parts, (*perm, *range(2 * count + 1, 2 * count + 1 + len(tail))))
    found = node.reshape(parts, (batch, *(sh.mul(s, b) for s, b in zip(spatial, block, strict=True)), *tail))
    cuts = [k for k in range(count) if crops[k] or crops[count + k]]
    if not cuts:
        return found
    starts = [crops[k] for k in cuts]
    stops = [sh.sub(found.shape[1 + k], crops[count + k]) for k in cuts]
    return node.step(Slice.of(found.shape, starts, stops, [1 + k for k in cuts]), found)
