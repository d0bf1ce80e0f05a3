"""ATen ops that pick, place or order elements by index."""

from __future__ import annotations

import numpy as np

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.ops_shape import cut, transposed
from strop.frontend.torch.promote import result_type, values
from strop.frontend.torch.registry import torch_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops.data import Concat, Expand
from strop.ops.index import Gather, GatherElements, GatherND, OneHot, TopK
from strop.ops.reduce import Reduce
from strop.ops.scatter import ScatterElements, ScatterND


def _index(node: NodeContext, index: Value) -> Value:
    """An index operand in a dtype that ops take."""
    return index if index.dtype in (dt.i32, dt.i64) else node.cast(index, dt.i64)


@torch_op("aten.index_select.default")
def index_select(node: NodeContext) -> Value:
    x = node.tensor()
    if x.type.rank == 0:
        return node.reshape(x, node.result.shape)
    index = _index(node, node.tensor("index"))
    return node.step(Gather(node.axis()), x, node.reshape(index, (sh.volume(index.shape),)))


@torch_op("aten.gather.default")
def gather(node: NodeContext) -> Value:
    x, index = node.tensor(), _index(node, node.tensor("index"))
    if x.type.rank == 0 or index.type.rank == 0:
        return node.reshape(x, node.result.shape)
    return node.step(GatherElements(node.axis()), x, index)


# ---- advanced indexing


def _places(node: NodeContext) -> tuple[list[int], list[Value]]:
    """The axes that are indexed and their indices; UnsupportedError for masks, whose result has no known shape."""
    found = [(k, i) for k, i in enumerate(node.arg("indices")) if i is not None]
    for _, index in found:
        if index.dtype in (dt.boolean, dt.u8):
            raise node.unsupported(
                "indexing by a mask is not supported: how many elements it picks depends on the data",
                got=index.type, hint="use torch.where(mask, a, b), or multiply with the mask",
            )  # fmt: skip
    return [k for k, _ in found], [_index(node, i) for _, i in found]


def _together(node: NodeContext, indices: list[Value]) -> Value:
    """Indices of several axes as one operand, broadcast: [.., number of axes]."""
    shape = sh.broadcast(*(i.shape for i in indices), where=node.where)
    parts = []
    for index in indices:
        wide = node.cast(index, dt.i64)
        wide = wide if wide.shape == shape else node.step(Expand(shape), wide)
        parts.append(node.reshape(wide, (*shape, 1)))
    return parts[0] if len(parts) == 1 else node.step(Concat(len(shape)), *parts)


def _adjacent(axes: list[int]) -> bool:
    return axes == list(range(axes[0], axes[0] + len(axes)))


def _front(axes: list[int], rank: int) -> list[int]:
    """The permutation that brings the indexed axes to the front."""
    return [*axes, *(k for k in range(rank) if k not in axes)]


def _inverse(perm: list[int]) -> list[int]:
    return [perm.index(k) for k in range(len(perm))]


def _spread(axes: list[int], rank: int, index_rank: int) -> list[int]:
    """Permutation of a result [index axes, other axes] to PyTorch's order: the index axes in the place of adjacent indexed ones."""
    total = index_rank + rank - len(axes)
    if not _adjacent(axes):
        return list(range(total))
    first = axes[0]
    return [*range(index_rank, index_rank + first), *range(index_rank), *range(index_rank + first, total)]


@torch_op("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index_tensor(node: NodeContext) -> Value:
    x = node.tensor()
    axes, indices = _places(node)
    if len(axes) == 1:
        return node.step(Gather(axes[0]), x, indices[0])
    together = _together(node, indices)
    picked = node.step(GatherND(0), transposed(node, x, _front(axes, x.type.rank)), together)
    return transposed(node, picked, _spread(axes, x.type.rank, together.type.rank - 1))


@torch_op("aten.index_put.default", "aten._unsafe_index_put.default")
def index_put(node: NodeContext) -> Value:
    """Elements at indices set or added to; through a mask only one number can be set."""
    x, given = node.tensor(), node.arg("indices")
    new = node.cast(node.tensor("values"), x.dtype)
    masked = len(given) == 1 and given[0] is not None and given[0].dtype is dt.boolean and not node.flag("accumulate")
    if masked and sh.volume(new.shape) == 1:
        mask = node.reshape(given[0], (*given[0].shape, *(1,) * (x.type.rank - given[0].type.rank)))
        return node.apply("where", mask, node.reshape(new, ()), x)
    axes, indices = _places(node)
    rank = x.type.rank
    together = _together(node, indices)
    spread = _spread(axes, rank, together.type.rank - 1)
    front = _front(axes, rank)
    moved = transposed(node, x, front)
    wanted = (*together.shape[:-1], *moved.shape[len(axes) :])
    outside = tuple(wanted[k] for k in spread)
    new = new if new.shape == outside else node.step(Expand(outside), new)
    updates = transposed(node, new, _inverse(spread))
    placed = node.step(ScatterND("add" if node.flag("accumulate") else "none"), moved, together, updates)
    return transposed(node, placed, _inverse(front))


# ---- scatter

_REDUCTIONS = {"add": "add", "sum": "add", "multiply": "mul", "prod": "mul", "amax": "max", "amin": "min"}


@torch_op(
    "aten.scatter.src", "aten.scatter.value", "aten.scatter.reduce", "aten.scatter.value_reduce", "aten.scatter_add.default",
    "aten.scatter_reduce.two",
)  # fmt: skip
def scatter(node: NodeContext) -> Value:
    """The source may be larger than the index; what lies beyond is not read."""
    x, index = node.tensor(), _index(node, node.tensor("index"))
    word = "add" if "scatter_add" in node.op else node.arg("reduce")
    if word is not None and word not in _REDUCTIONS:
        raise node.unsupported("this reduction is not supported", got=word, expected=", ".join(_REDUCTIONS))
    if node.arg("include_self") is False:
        raise node.unsupported("include_self=False is not supported", hint="start from a tensor of the neutral element")
    if isinstance(node.arg("src"), Value):
        source = node.cast(node.tensor("src"), x.dtype)
        for axis in range(source.type.rank):
            source = cut(node, source, axis, 0, index.shape[axis])
    else:
        source = node.filled(index.shape, node.number("value"), x.dtype)
    lone = x.type.rank == 0
    x, index, source = (node.reshape(v, (1,)) if lone else v for v in (x, index, source))
    op = ScatterElements(0 if lone else node.axis(), "none" if word is None else _REDUCTIONS[word])
    result = node.step(op, x, index, source)
    return node.reshape(result, ()) if lone else result


# ---- order


@torch_op("aten.topk.default")
def top_k(node: NodeContext) -> tuple[Value, ...]:
    """In order, whether that is asked for or not."""
    return node.steps(TopK(node.axis(), node.integer("k"), node.flag("largest")), node.tensor())


@torch_op("aten.sort.default", "aten.sort.stable", "aten.argsort.default", "aten.argsort.stable")
def sort(node: NodeContext) -> tuple[Value, ...]:
    """Equal elements stay in order."""
    x, axis = node.tensor(), node.axis()
    number = node.cast(x, dt.u8) if x.dtype is dt.boolean else x
    if x.type.rank == 0:
        found: tuple[Value, ...] = (x, node.scalar(0, dt.i64))
    else:
        (size,) = node.static([x.shape[axis]])
        ordered, places = node.steps(TopK(axis, size, node.flag("descending")), number)
        found = (node.cast(ordered, x.dtype), places)
    return found[1:] if "argsort" in node.op else found


@torch_op("aten.bucketize.Tensor", "aten.searchsorted.Tensor", "aten.bucketize.Scalar", "aten.searchsorted.Scalar")
def bucketize(node: NodeContext) -> Value:
    """How many of the sorted numbers are smaller; with ``right`` also those that are equal."""
    if node.arg("sorter") is not None:
        raise node.unsupported("a sorter is not supported", got="sorter", hint="sort the sequence first")
    right = node.flag("right") or node.arg("side") == "right"
    edges = node.tensor("boundaries" if "bucketize" in node.op else "sorted_sequence")
    number = node.arg("self")
    kind = result_type([edges, number])
    edges, x = values(node, [edges, number], kind)
    if edges.type.rank > 1:
        edges = node.reshape(edges, (*edges.shape[:-1], 1, edges.shape[-1]))
    below = node.apply("le" if right else "lt", edges, node.reshape(x, (*x.shape, 1)))
    counted = node.cast(below, node.result.dtype)
    return node.step(Reduce("sum", (counted.type.rank - 1,), False), counted)


@torch_op("aten.one_hot.default")
def one_hot(node: NodeContext) -> Value:
    depth = node.integer("num_classes")
    if depth < 0:
        raise node.unsupported("how many classes there are depends on the data", got=depth, hint="give num_classes")
    return node.step(OneHot(depth, -1), _index(node, node.tensor()), node.const(np.asarray([0, 1], np.int64)))
