"""ATen ops that view, join, cut and repeat tensors. Result shapes are those that the program declares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.registry import torch_op
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.op import Type
from strop.ir.shape import Dim
from strop.ops.data import Concat, Expand, Slice, Split, Tile, Transpose
from strop.ops.index import Gather, Trilu

# ---- views


@torch_op(
    "aten.view.default", "aten._unsafe_view.default", "aten._reshape_alias.default", "aten.squeeze.default", "aten.squeeze.dim",
    "aten.squeeze.dims", "aten.unsqueeze.default",
)  # fmt: skip
def view(node: NodeContext) -> Value:
    """The same elements in row-major order: all of these differ in nothing but how they say the shape."""
    return node.reshape(node.tensor(), node.result.shape)


@torch_op("aten.expand.default")
def expand(node: NodeContext) -> Value:
    x, shape = node.tensor(), node.result.shape
    return x if x.shape == shape else node.step(Expand(shape), x)


@torch_op("aten.copy.default")
def copy(node: NodeContext) -> Value:
    """The source in the shape and dtype of what it overwrites."""
    x, source = node.tensor(), node.cast(node.tensor("src"), node.result.dtype)
    return source if source.shape == x.shape else node.step(Expand(x.shape), source)


def transposed(node: NodeContext, x: Value, perm: Sequence[int]) -> Value:
    """Axes in another order."""
    return x if list(perm) == list(range(len(perm))) else node.step(Transpose(tuple(perm)), x)


@torch_op("aten.permute.default")
def permute(node: NodeContext) -> Value:
    x = node.tensor()
    return transposed(node, x, [node.normal(a, x.type.rank) for a in node.ints("dims")])


@torch_op("aten.transpose.int")
def transpose(node: NodeContext) -> Value:
    return swapped(node, node.tensor(), node.axis("dim0"), node.axis("dim1"))


def swapped(node: NodeContext, x: Value, a: int, b: int) -> Value:
    """x with two axes in each other's place."""
    perm = list(range(x.type.rank))
    if perm:
        perm[a], perm[b] = perm[b], perm[a]
    return transposed(node, x, perm)


@torch_op("aten.t.default")
def matrix_transpose(node: NodeContext) -> Value:
    x = node.tensor()
    rank = x.type.rank
    return x if rank < 2 else swapped(node, x, rank - 2, rank - 1)


# ---- joining


@torch_op("aten.cat.default")
def cat(node: NodeContext) -> Value:
    """Operands of other dtypes are promoted; PyTorch skips old-style empty ones of rank 1."""
    result = node.result
    parts = [node.cast(t, result.dtype) for t in node.tensors("tensors") if not (t.shape == (0,) and result.rank != 1)]
    if len(parts) == 1:
        return parts[0]
    return node.step(Concat(node.axis(rank=result.rank)), *parts)


@torch_op("aten.stack.default")
def stack(node: NodeContext) -> Value:
    result = node.result
    axis = node.axis(rank=result.rank)
    lone = (*result.shape[:axis], 1, *result.shape[axis + 1 :])
    parts = [node.reshape(node.cast(t, result.dtype), lone) for t in node.tensors("tensors")]
    return parts[0] if len(parts) == 1 else node.step(Concat(axis), *parts)


# ---- cutting


@torch_op("aten.split.Tensor", "aten.split_with_sizes.default")
def split(node: NodeContext) -> tuple[Value, ...]:
    """Parts of the sizes that the program declares."""
    x, axis = node.tensor(), node.axis()
    sizes = tuple(t.shape[axis] for t in node.out if t is not None)
    return (x,) if len(sizes) == 1 else node.steps(Split(axis, sizes), x)


@torch_op("aten.unbind.int")
def unbind(node: NodeContext) -> tuple[Value, ...]:
    x, axis = node.tensor(), node.axis()
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    count = len(node.out)
    parts = (x,) if count == 1 else node.steps(Split(axis, (1,) * count), x)
    return tuple(node.reshape(part, shape) for part in parts)


def cut(node: NodeContext, x: Value, axis: int, start: Dim, length: Dim, step: int = 1) -> Value:
    """``length`` elements along an axis, ``step`` apart."""
    if start == 0 and step == 1 and length == x.shape[axis]:
        return x
    whole = isinstance(length, int) and length == 0
    stop = start if whole else sh.add(start, sh.add(sh.mul(sh.sub(length, 1), step), 1))
    return node.step(Slice((start,), (stop,), (axis,), (step,)), x)


def place(size: Dim, index: Dim) -> Dim:
    """An index that may count from the end, forced into 0..size."""
    if isinstance(index, int) and isinstance(size, int):
        return min(max(index + size if index < 0 else index, 0), size)
    if sh.bounds(index)[1] < 0:
        return sh.maximum(sh.add(size, index), 0)
    return sh.minimum(index, size)


@torch_op("aten.slice.Tensor")
def slice_tensor(node: NodeContext) -> Value:
    """As many elements as the program declares, from the start on."""
    x, axis = node.tensor(), node.axis()
    start = node.arg("start")
    return cut(node, x, axis, place(x.shape[axis], 0 if start is None else start), node.result.shape[axis], node.integer("step"))


@torch_op("aten.select.int")
def select(node: NodeContext) -> Value:
    x, axis, index = node.tensor(), node.axis(), node.arg("index")
    if isinstance(index, Value):
        picked = node.step(Gather(axis), x, index)
        return node.reshape(picked, node.result.shape)
    return node.reshape(cut(node, x, axis, place(x.shape[axis], index), 1), node.result.shape)


# ---- writing into a part


@torch_op("aten.slice_scatter.default", "aten.select_scatter.default")
def slice_scatter(node: NodeContext) -> Value:
    """x with a part replaced: what is before it, the part, what is after it; a part with gaps is picked by index."""
    x, part = node.tensor(), node.cast(node.tensor("src"), node.tensor().dtype)
    axis = node.axis()
    size = x.shape[axis]
    if "select" in node.op:
        start, step = place(size, node.arg("index")), 1
        part = node.reshape(part, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    else:
        given = node.arg("start")
        start, step = place(size, 0 if given is None else given), node.integer("step")
        if not isinstance(part.shape[axis], int) or isinstance(size, int):
            end = size if node.arg("end") is None else place(size, node.arg("end"))
            if start == end:
                return x
        if part.shape != (wanted := (*x.shape[:axis], part.shape[axis], *x.shape[axis + 1 :])):
            part = node.step(Expand(wanted), part)
    length = part.shape[axis]
    if step != 1:
        (total,) = node.static([size])
        (count,) = node.static([length])
        (first,) = node.static([start])
        index = np.arange(total)
        index[first : first + (count - 1) * step + 1 : step] = total + np.arange(count)
        return node.step(Gather(axis), node.step(Concat(axis), x, part), node.const(index))
    stop = sh.add(start, length)
    before = [] if start == 0 else [cut(node, x, axis, 0, start)]
    after = [] if stop == size else [cut(node, x, axis, stop, sh.sub(size, stop))]
    parts = [*before, part, *after]
    return parts[0] if len(parts) == 1 else node.step(Concat(axis), *parts)


# ---- repeating and reordering


@torch_op("aten.repeat.default")
def repeat(node: NodeContext) -> Value:
    x, times = node.tensor(), node.arg("repeats")
    rank = len(times)
    x = node.reshape(x, (*(1,) * (rank - x.type.rank), *x.shape))
    if all(isinstance(t, int) for t in times):
        return node.step(Tile(node.ints("repeats")), x)
    doubled = [d for size, t in zip(x.shape, times, strict=True) for d in (t, size)]
    lone = [d for size in x.shape for d in (1, size)]
    return node.reshape(node.step(Expand(tuple(doubled)), node.reshape(x, lone)), node.result.shape)


@torch_op("aten.repeat_interleave.self_int")
def repeat_interleave(node: NodeContext) -> Value:
    """Every element so many times in a row."""
    x, count = node.tensor(), node.integer("repeats")
    if node.arg("dim") is None:
        x = node.reshape(x, (sh.volume(x.shape),))
    axis = 0 if node.arg("dim") is None else node.axis()
    lone = node.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    wide = node.step(Expand((*x.shape[: axis + 1], count, *x.shape[axis + 1 :])), lone)
    return node.reshape(wide, node.result.shape)


@torch_op("aten.flip.default")
def flip(node: NodeContext) -> Value:
    x = node.tensor()
    axes = sorted({node.normal(a, x.type.rank) for a in node.ints("dims")}) if node.arg("dims") else []
    if not axes or x.type.rank == 0:
        return x
    far = 1 << 40
    return node.step(Slice.of(x.shape, [far] * len(axes), [-far] * len(axes), axes, [-1] * len(axes)), x)


@torch_op("aten.roll.default")
def roll(node: NodeContext) -> Value:
    """The last elements come before the first; without axes, of the elements in row-major order."""
    x, shifts = node.tensor(), node.ints("shifts")
    axes = [node.normal(a, x.type.rank) for a in node.ints("dims")] if node.arg("dims") else []
    shape = x.shape
    if not axes:
        x, axes = node.reshape(x, (sh.volume(shape),)), [0]
    for shift, axis in zip(shifts, axes, strict=True):
        size = x.shape[axis]
        back = shift % size if isinstance(size, int) and size else shift
        if back == 0 or size == 0:
            continue
        head = sh.sub(size, back) if back > 0 else -back
        tail = sh.sub(size, head)
        x = node.step(Concat(axis), cut(node, x, axis, head, tail), cut(node, x, axis, 0, head))
    return node.reshape(x, shape)


@torch_op("aten.diagonal.default")
def diagonal(node: NodeContext) -> Value:
    """The diagonal of two axes as the last one."""
    x, offset = node.tensor(), node.integer("offset")
    rank = x.type.rank
    a, b = node.axis("dim1"), node.axis("dim2")
    rest = [k for k in range(rank) if k not in (a, b)]
    moved = transposed(node, x, [*rest, a, b])
    rows, columns = node.static(moved.shape[-2:])
    flat = node.reshape(moved, (*moved.shape[:-2], rows * columns))
    first = offset if offset >= 0 else -offset * columns
    (count,) = node.static(node.result.shape[-1:])
    return cut(node, flat, rank - 2, first, count, columns + 1)


@torch_op("aten.tril.default", "aten.triu.default")
def triangle(node: NodeContext) -> Value:
    return node.step(Trilu("triu" in node.op, node.integer("diagonal")), node.tensor())


@torch_op("aten.unfold.default")
def unfold(node: NodeContext) -> Value:
    """Windows along an axis, their elements on a new last one."""
    x, axis = node.tensor(), node.axis("dimension")
    size, step = node.integer("size"), node.integer("step")
    (count,) = node.static(node.result.shape[axis : axis + 1])
    index = np.arange(count)[:, None] * step + np.arange(size)
    windows = node.step(Gather(axis), x, node.const(index))
    rest = [k for k in range(windows.type.rank) if k != axis + 1]
    return transposed(node, windows, [*rest, axis + 1])


# ---- channels and places


@torch_op("aten.pixel_shuffle.default")
def pixel_shuffle(node: NodeContext) -> Value:
    """[.., C r r, H, W] to [.., C, H r, W r]."""
    x, r = node.tensor(), node.integer("upscale_factor")
    *lead, channels, height, width = x.shape
    n = len(lead)
    split_ = node.reshape(x, (*lead, sh.floordiv(channels, r * r), r, r, height, width))
    moved = transposed(node, split_, [*range(n), n, n + 3, n + 1, n + 4, n + 2])
    return node.reshape(moved, node.result.shape)


@torch_op("aten.pixel_unshuffle.default")
def pixel_unshuffle(node: NodeContext) -> Value:
    """[.., C, H r, W r] to [.., C r r, H, W]."""
    x, r = node.tensor(), node.integer("downscale_factor")
    *lead, channels, height, width = x.shape
    n = len(lead)
    split_ = node.reshape(x, (*lead, channels, sh.floordiv(height, r), r, sh.floordiv(width, r), r))
    moved = transposed(node, split_, [*range(n), n, n + 2, n + 4, n + 1, n + 3])
    return node.reshape(moved, node.result.shape)


@torch_op("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(node: NodeContext) -> Value:
    x, groups = node.tensor(), node.integer("groups")
    batch, channels, *rest = x.shape
    split_ = node.reshape(x, (batch, groups, sh.floordiv(channels, groups), *rest))
    return node.reshape(swapped(node, split_, 1, 2), x.shape)


@torch_op("aten.as_strided.default")
def as_strided(node: NodeContext) -> Value:
    """Only where it says what the tensor is already; what else it does depends on where the bytes lie."""
    x = node.tensor()
    wanted = Type(x.dtype, node.result.shape)
    strides = sh.contiguous_strides(node.static(wanted.shape))
    if wanted.count != x.type.count or tuple(node.ints("stride")) != strides or node.arg("storage_offset") not in (None, 0):
        raise node.unsupported(
            "views by strides are not supported", got=f"strides {node.arg('stride')}", hint="use reshape, permute, expand or unfold"
        )
    return node.reshape(x, wanted.shape)
