"""TensorFlow's ops that pick by index, sort, scatter or count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.saved_model.context import NodeContext
from strop.frontend.saved_model.registry import tf_op
from strop.frontend.tensorflow import picks
from strop.frontend.tensorflow.picks import indices, picked
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ops.cumulative import CumProd, CumSum
from strop.ops.index import GatherND, Trilu
from strop.ops.reduce import ArgReduce
from strop.ops.scatter import ScatterND


@tf_op("GatherV2")
def gather_v2(node: NodeContext) -> Value:
    return picked(node, node.stored(0), indices(node, node.stored(1)), node.integer(2, "axis"), int(node.attr("batch_dims", "i", 0)))


@tf_op("Gather")
def gather(node: NodeContext) -> Value:
    return picked(node, node.stored(0), indices(node, node.stored(1)), 0, 0)


@tf_op("ResourceGather")
def resource_gather(node: NodeContext) -> Value:
    """Slices of a variable."""
    batch = int(node.attr("batch_dims", "i", 0))
    return picked(node, node.variable(node.handle(0)), indices(node, node.stored(1)), batch, batch)


@tf_op("GatherNd")
def gather_nd(node: NodeContext) -> Value:
    return node.step(GatherND(0), node.stored(0), indices(node, node.stored(1)))


@tf_op("ResourceGatherNd")
def resource_gather_nd(node: NodeContext) -> Value:
    return node.step(GatherND(0), node.variable(node.handle(0)), indices(node, node.stored(1)))


@tf_op("ScatterNd")
def scatter_nd(node: NodeContext) -> Value:
    """Operands: indices, updates, shape; what goes to one place is added."""
    updates = node.stored(1)
    blank = node.filled(node.dims(2, "shape"), 0, updates.dtype)
    return node.step(ScatterND("add"), blank, indices(node, node.stored(0)), updates)


@tf_op("TensorScatterUpdate", "TensorScatterAdd", "TensorScatterMax", "TensorScatterMin")
def tensor_scatter(node: NodeContext) -> Value:
    """Operands: x, indices, updates."""
    kind = {"Update": "none", "Add": "add", "Max": "max", "Min": "min"}[node.op.removeprefix("TensorScatter")]
    return node.step(ScatterND(kind), node.stored(0), indices(node, node.stored(1)), node.stored(2))


@tf_op("ArgMax", "ArgMin")
def arg_max(node: NodeContext) -> Value:
    """The first of equal elements."""
    x = node.stored(0)
    axis = node.axis(node.integer(1, "dimension"), x.type.rank)
    found = node.step(ArgReduce("max" if node.op == "ArgMax" else "min", axis, False), x)
    return node.cast(found, node.dtype("output_type") if "output_type" in node.node.attributes else dt.i64)


@tf_op("TopKV2", ports=("values", "indices"))
def top_k(node: NodeContext) -> Sequence[Value]:
    values, places = picks.top_k(node, node.stored(0), node.integer(1, "k"))
    return [values, node.cast(places, dt.i32)]


@tf_op("OneHot")
def one_hot(node: NodeContext) -> Value:
    """Operands: indices, depth, on, off."""
    (depth,) = node.dims(1, "depth")
    return picks.one_hot(node, indices(node, node.stored(0)), depth, int(node.attr("axis", "i", -1)), node.stored(2), node.stored(3))


@tf_op("Where")
def where(node: NodeContext) -> Value:
    return picks.nonzero(node, node.stored(0))


@tf_op("Cumsum", "Cumprod")
def cumsum(node: NodeContext) -> Value:
    x = node.stored(0)
    axis = node.axis(node.integer(1, "axis"), x.type.rank)
    kind = CumSum if node.op == "Cumsum" else CumProd
    return node.step(kind(axis, bool(node.attr("exclusive", "b", False)), bool(node.attr("reverse", "b", False))), x)


@tf_op("MatrixBandPart")
def matrix_band_part(node: NodeContext) -> Value:
    """Keeps so many diagonals below and above the main one; all of them where the number is negative."""
    x, lower, upper = node.stored(0), node.integer(1, "num_lower"), node.integer(2, "num_upper")
    if x.type.rank < 2:
        raise node.malformed("x needs two axes", got=x.type)
    x = node.step(Trilu(True, -lower), x) if lower >= 0 else x  # upper triangles begin at a diagonal, lower ones end at one
    return node.step(Trilu(False, upper), x) if upper >= 0 else x


@tf_op("MatrixDiag")
def matrix_diag(node: NodeContext) -> Value:
    """The last axis as the diagonal of matrices."""
    x = node.stored(0)
    if not x.type.rank:
        raise node.malformed("x needs an axis", got=x.type)
    (size,) = sh.static(x.shape[-1:], node.where)
    eye = node.const(np.eye(size, dtype=np.bool_))
    return node.apply("where", eye, node.reshape(x, (*x.shape, 1)), node.like(0, x))


@tf_op("InvertPermutation")
def invert_permutation(node: NodeContext) -> Value:
    given = node.ints(0, "x")
    if sorted(given) != list(range(len(given))):
        raise node.malformed("x is no permutation", got=given)
    return node.const(np.argsort(given).astype(node.stored(0).dtype.numpy))
