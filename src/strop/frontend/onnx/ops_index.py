"""ONNX ops that pick, place or order elements by index."""

from __future__ import annotations

import numpy as np

from strop.frontend.onnx import sizes
from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Operand
from strop.frontend.onnx.registry import onnx_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.op import Array
from strop.ir.shape import Dim
from strop.ops.data import Concat, Expand, Reshape, Slice
from strop.ops.elementwise import Cast, make
from strop.ops.index import Gather, GatherElements, GatherND, OneHot, TopK
from strop.ops.matmul import MatMul
from strop.ops.reduce import Reduce
from strop.ops.scatter import ScatterElements, ScatterND


@onnx_op("Gather", since=1)
def gather(node: NodeContext) -> Operand:
    return node.step(Gather(node.axis(default=0)), node.operand(0), node.operand(1))


@onnx_op("GatherElements", since=11)
def gather_elements(node: NodeContext) -> Operand:
    return node.step(GatherElements(node.axis(default=0)), node.operand(0), node.operand(1))


@onnx_op("GatherND", since=11)
def gather_nd(node: NodeContext) -> Operand:
    """batch_dims comes with opset 12."""
    return node.step(GatherND(node.integer("batch_dims", 0)), node.operand(0), node.operand(1))


@onnx_op("Scatter", since=9, until=10)
@onnx_op("ScatterElements", since=11)
def scatter_elements(node: NodeContext) -> Operand:
    """add and mul come with opset 16, max and min with 18."""
    op = ScatterElements(node.axis(default=0), node.text("reduction", "none", _reductions(node)))
    return node.step(op, *node.required())


@onnx_op("ScatterND", since=11)
def scatter_nd(node: NodeContext) -> Operand:
    return node.step(ScatterND(node.text("reduction", "none", _reductions(node))), *node.required())


def _reductions(node: NodeContext) -> tuple[str, ...]:
    if node.opset < 16:
        return ("none",)
    return ("none", "add", "mul") if node.opset < 18 else ("none", "add", "mul", "max", "min")


@onnx_op("OneHot", since=9)
def one_hot(node: NodeContext) -> Operand:
    """Indices and depth of any numeric type."""
    indices = node.operand(0)
    if indices.type.dtype not in (dt.i32, dt.i64):
        indices = node.step(Cast(dt.i64), indices)
    given = node.operand(1)
    if isinstance(given, Known):
        depth: Dim = int(node.scalar(1, "depth"))
    elif isinstance(given, Value):
        whole = node.step(Cast(dt.i64), given) if given.type.dtype.is_float else given
        (depth,) = sizes.read(node, node.value(whole), "depth", None, given.name)
    else:
        depth = sizes.of(node, 1, "depth")
    axis = node.axis(default=-1, rank=indices.type.rank + 1)
    return node.step(OneHot(depth, axis), indices, node.operand(2))


@onnx_op("TopK", since=1, until=9)
def top_k_1(node: NodeContext) -> tuple[Operand, ...]:
    return node.steps(TopK(node.axis(default=-1), node.integer("k"), True), node.operand(0))


@onnx_op("TopK", since=10)
def top_k_10(node: NodeContext) -> tuple[Operand, ...]:
    """Results are in order whether the model asks for it or not."""
    node.ignore("sorted")
    axis = node.axis(default=-1)
    k = sizes.of(node, 1, "K", node.shape(0)[axis] if node.rank(0) else None)
    return node.steps(TopK(axis, k, node.flag("largest", True)), node.operand(0))


@onnx_op("ReverseSequence", since=10)
def reverse_sequence(node: NodeContext) -> Operand:
    """The first sequence_lens[b] steps of sample b in reverse order, the rest as it is."""
    x, lengths = node.operand(0), node.operand(1)
    time, batch = node.integer("time_axis", 0), node.integer("batch_axis", 1)
    if {time, batch} != {0, 1} or x.type.rank < 2:
        raise node.malformed(
            "axes do not fit", got=f"time_axis {time}, batch_axis {batch}", expected="0 and 1"
        )
    (steps,) = sh.static(x.type.shape[time : time + 1], node.where)
    node.check_size((steps,), 8)
    step = node.const(np.arange(steps).reshape((-1, 1) if time == 0 else (1, -1)))
    samples = x.type.shape[batch]
    length = node.step(Reshape((1, samples) if time == 0 else (samples, 1)), lengths)
    inside = node.step(make("lt"), step, length)
    last = node.step(make("sub"), length, node.const(np.asarray(1)))
    index = node.step(make("where"), inside, node.step(make("sub"), last, step), step)
    column = node.step(Reshape((*index.type.shape, *(1,) * (x.type.rank - 2))), index)
    return node.step(GatherElements(time), x, node.step(Expand(x.type.shape), column))


@onnx_op("TensorScatter", since=24)
def tensor_scatter(node: NodeContext) -> Operand:
    """The update in the place of the cache's elements from the write index of each sample on; circular wraps round."""
    cache, update, start = node.operand(0), node.operand(1), node.optional(2)
    axis = node.axis(default=-2)
    circular = node.text("mode", "linear", ("linear", "circular")) == "circular"
    rank = cache.type.rank
    size, length = sh.static((cache.type.shape[axis], update.type.shape[axis]), node.where)
    if axis == 0 or update.type.rank != rank or not 0 < length <= size:
        raise node.malformed("operands do not fit", got=f"{cache.type} and {update.type}, axis {axis}")
    node.check_size((size,), 8)
    column = (size, *(1,) * (rank - axis - 1))
    at: Operand = node.const(np.arange(size).reshape(column))
    if start is not None:
        first = node.step(Reshape((*start.type.shape, *(1,) * (rank - 1))), start)
        at = node.step(make("sub"), at, first)
    if circular:
        at = node.step(make("mod"), at, node.const(np.asarray(size)))
    last = node.const(np.asarray(length - 1))
    fresh = node.step(
        make("and"),
        node.step(make("ge"), at, node.const(np.asarray(0))),
        node.step(make("le"), at, last),
    )
    inside = node.step(make("min"), node.step(make("max"), at, node.const(np.asarray(0))), last)
    index = node.step(Expand(cache.type.shape), inside)
    return node.step(make("where"), fresh, node.step(GatherElements(axis), update, index), cache)


#: Most comparisons that n-grams are spelled out as.
MAX_COMPARISONS = 1 << 14


@onnx_op("TfIdfVectorizer", since=9)
def tf_idf(node: NodeContext) -> Operand:
    """How often the n-grams of a pool of integers occur, their elements up to max_skip_count apart; weighted in mode IDF and TFIDF."""
    mode = node.text("mode", allowed=("TF", "IDF", "TFIDF"))
    least, most = node.integer("min_gram_length"), node.integer("max_gram_length")
    skips, starts = node.integer("max_skip_count"), node.integers("ngram_counts")
    places, pool = node.integers("ngram_indexes"), node.integers("pool_int64s", ())
    weights = node.floats("weights", ()) if node.has("weights") else ()
    if node.has("pool_strings"):
        raise node.unsupported("element type STRING is not supported", got="pool_strings")
    x = node.operand(0)
    if x.type.rank not in (1, 2) or x.type.dtype not in (dt.i32, dt.i64):
        raise node.malformed("operand 0 does not fit", got=x.type, expected="integers of rank 1 or 2")
    if x.type.dtype is not dt.i64:
        x = node.step(Cast(dt.i64), x)
    lead, (length,) = x.type.shape[:-1], sh.static(x.type.shape[-1:], node.where)
    tried = len(starts) * (len(starts) + 1) // 2 * (min(skips, length) + 1)
    if tried > MAX_COMPARISONS:
        raise node.unsupported("too many n-grams", got=f"{tried} comparisons", expected=f"at most {MAX_COMPARISONS}")
    counts: list[Operand] = []
    for size, begin in enumerate(starts, 1):
        end = starts[size] if size < len(starts) else len(pool)
        grams = np.asarray(pool[begin:end], np.int64)
        if grams.size % size:
            raise node.malformed("ngram_counts do not fit the pool", got=starts)
        if grams.size and least <= size <= most:
            gaps = range(1, (skips if size > 1 else 0) + 2)
            counts.append(_counted(node, x, grams.reshape(-1, size), gaps, length))
        elif grams.size:
            zero = node.filled((*sh.static(lead, node.where), grams.size // size), np.zeros(1, np.float32))
            counts.append(zero)
    width = max(places, default=-1) + 1
    if not counts or sum(int(c.type.static_shape[-1]) for c in counts) != len(places):
        raise node.malformed("ngram_indexes do not fit the pool", got=f"{len(places)} numbers")
    every = counts[0] if len(counts) == 1 else node.step(Concat(len(lead)), *counts)
    node.check_size((len(places), width), 4)
    table = np.zeros((len(places), width), np.float32)
    scale = np.asarray(weights or (1.0,) * len(places), np.float32)
    if scale.size != len(places):
        raise node.malformed("weights do not fit", got=scale.size, expected=len(places))
    if mode == "IDF":
        every = node.step(make("min"), every, node.like(1, every))
    table[np.arange(len(places)), places] = 1.0 if mode == "TF" else scale
    return node.step(MatMul(), every, node.const(table))


def _counted(node: NodeContext, x: Operand, grams: Array, gaps: range, length: int) -> Operand:
    """How often each n-gram [G, size] occurs along the last axis of x, its elements ``gap`` apart for each gap: [.., G]."""
    lead, size = x.type.shape[:-1], grams.shape[1]
    total: Operand | None = None
    for gap in gaps:
        span = length - (size - 1) * gap
        if span < 1:
            continue
        hit: Operand | None = None
        for k in range(size):
            cut = Slice.of(x.type.shape, [k * gap], [k * gap + span], [len(lead)], [1])
            column = node.step(Reshape((*lead, span, 1)), node.step(cut, x))
            same = node.step(make("eq"), column, node.const(grams[:, k]))
            hit = same if hit is None else node.step(make("and"), hit, same)
        assert hit is not None
        number = node.step(Reduce("sum", (len(lead),), False), node.step(Cast(dt.f32), hit))
        total = number if total is None else node.step(make("add"), total, number)
    if total is None:
        return node.filled((*sh.static(lead, node.where), len(grams)), np.zeros(1, np.float32))
    return total
