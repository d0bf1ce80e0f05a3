"""ONNX ops that make, shape, join and cut tensors. What only concerns shapes is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import numpy as np

from strop.frontend.onnx import sizes
from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Operand, from_dims
from strop.frontend.onnx.registry import onnx_op
from strop.frontend.onnx.tensors import element_type
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim, DimExpr
from strop.ops.data import (
    Concat,
    Expand,
    Identity,
    Pad,
    Reshape,
    Slice,
    Split,
    Tile,
    Transpose,
)
from strop.ops.elementwise import Cast, make
from strop.ops.index import Trilu
from strop.ops.reduce import Reduce
from strop.ops.sizes import Iota

# ---- constants and shapes


@onnx_op("Constant", since=1)
def constant(node: NodeContext) -> Operand:
    forms = [name for name in node.attributes if name.startswith(("value", "sparse_value"))]
    if len(forms) != 1:
        raise node.malformed("needs exactly one value attribute", got=", ".join(forms) or "none")
    match forms[0]:
        case "value":
            return node.const(node.tensor("value"))
        case "sparse_value":
            return node.const(node.sparse_tensor("sparse_value"))
        case "value_int":
            return node.const(np.asarray(node.integer("value_int"), np.int64))
        case "value_ints":
            return node.const(np.asarray(node.integers("value_ints"), np.int64))
        case "value_float":
            return node.const(np.asarray(node.number("value_float"), np.float32))
        case "value_floats":
            return node.const(np.asarray(node.floats("value_floats"), np.float32))
    raise node.unsupported(
        f"attribute {forms[0]} is not supported", expected="a value that is not a string"
    )


@onnx_op("ConstantOfShape", since=9)
def constant_of_shape(node: NodeContext) -> Operand:
    """One element repeated; over symbolic dims it becomes an Expand."""
    element = node.tensor("value") if node.has("value") else np.zeros(1, np.float32)
    if element.size != 1:
        raise node.malformed(
            "attribute value must have one element", got=f"shape {list(element.shape)}"
        )
    dims = sizes.dims(node, 0, "input")
    if sh.is_static(dims):
        return node.filled([int(d) for d in dims if isinstance(d, int)], element)
    return node.step(Expand(dims), node.const(element.reshape(())))


@onnx_op("Shape", since=1)
def shape(node: NodeContext) -> Operand:
    """The operand's shape, or a part of it from opset 15 on."""
    dims = node.shape(0)
    start, end = node.integer("start", 0), node.integer("end", len(dims))
    part = dims[slice(max(start + len(dims), 0) if start < 0 else start, end)]
    return from_dims(_objects(part), dt.i64)


@onnx_op("Size", since=1)
def size(node: NodeContext) -> Operand:
    out = np.empty((), dtype=object)
    out[()] = sh.volume(node.shape(0))
    return from_dims(out, dt.i64)


def _objects(dims: Sequence[Dim]) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    out = np.empty(len(dims), dtype=object)
    for index, dim in enumerate(dims):
        out[index] = dim
    return out


@onnx_op("Range", since=11)
def arange(node: NodeContext) -> Operand:
    """start + i * delta."""
    node.ignore("stash_type")  # half precision is computed in f32 anyway
    if not all(isinstance(o, Known) for o in node.required()):
        return _computed_range(node)
    start, limit, delta = (
        node.scalar(i, name) for i, name in enumerate(("start", "limit", "delta"))
    )
    dtype = node.dtype(0)
    if delta == 0:
        raise node.malformed("delta is zero")
    if dtype.is_int:
        count = max(-((start - limit) // delta), 0)
    else:
        quotient = (limit - start) / delta
        if not np.isfinite(quotient):
            raise node.malformed("its length is not finite", got=quotient)
        count = max(ceil(quotient), 0)
    node.check_size((count,), 8)
    steps = np.arange(count, dtype=np.int64 if dtype.is_int else np.float64)
    wide = np.float32 if dtype in (dt.f16, dt.bf16) else steps.dtype
    return node.const((start + steps.astype(wide) * np.asarray(delta, wide)).astype(dtype.numpy))


def _computed_range(node: NodeContext) -> Operand:
    """A range of a length that follows from dims, or that a run finds."""
    first, last, step = node.required()
    dtype = first.type.dtype
    if dtype in (dt.f16, dt.bf16):
        raise node.unsupported("a range of half precision must be known when the model is built", got=first.type)
    scalars = tuple(o if o.type.rank == 0 else node.step(Reshape(()), o) for o in (first, last, step))
    count: Dim
    if dtype.is_int and isinstance(step, Known) and not any(isinstance(o, Value) for o in (first, last)):
        delta = int(node.scalar(2, "delta"))
        if delta == 0:
            raise node.malformed("delta is zero")
        start, limit = (sizes.of(node, k, name) for k, name in enumerate(("start", "limit")))
        span = sh.sub(limit, start) if delta > 0 else sh.sub(start, limit)
        count = sh.maximum(sh.ceildiv(span, abs(delta)), 0)
    else:
        span_data = node.step(make("sub"), scalars[1], scalars[0])
        wide = dt.f64 if dtype.is_int or dtype == dt.f64 else dtype
        parts = (node.step(Cast(wide), o) if o.type.dtype != wide else o for o in (span_data, scalars[2]))
        whole = node.step(make("ceil"), node.step(make("div"), *parts))
        number = node.step(Cast(dt.i64), node.step(make("max"), whole, node.like(0, whole)))
        count = sizes.read(node, node.value(number), "length", None, node.results[0])[0]
    steps = node.step(Iota(count, dtype))
    return node.step(make("add"), scalars[0], node.step(make("mul"), steps, scalars[2]))


@onnx_op("EyeLike", since=9)
def eye_like(node: NodeContext) -> Operand:
    rows_columns = sh.static(node.shape(0), node.where)
    if len(rows_columns) != 2:
        raise node.malformed("operand 0 must be a matrix", got=node.operand(0).type)
    dtype = element_type(node.integer("dtype"), node.where) if node.has("dtype") else node.dtype(0)
    node.check_size(rows_columns, dtype.size)
    return node.const(
        np.eye(*rows_columns, k=node.integer("k", 0), dtype=np.uint8).astype(dtype.numpy)
    )


@onnx_op("Identity", since=1)
def identity(node: NodeContext) -> Operand:
    return node.step(Identity(), node.operand(0))


# ---- shape changes


def quotient(total: Dim, part: Dim) -> Dim:
    """total / part, which divides it: common symbolic factors cancel."""
    number, factors = _factors(total)
    divisor, others = _factors(part)
    rest: list[Dim] = []
    for factor in factors:
        if factor in others:
            others.remove(factor)
        else:
            rest.append(factor)
    if divisor == 0:
        return 0
    if not others and number % divisor == 0:
        result: Dim = number // divisor
        for factor in rest:
            result = sh.mul(factor, result)
        return result
    return sh.floordiv(total, part)


def _factors(dim: Dim) -> tuple[int, list[Dim]]:
    """A number and symbolic factors whose product the dim is."""
    if isinstance(dim, int):
        return dim, []
    if isinstance(dim, DimExpr) and dim.op == "mul":
        parts = [_factors(a) for a in dim.args]
        return prod(n for n, _ in parts), [f for _, fs in parts for f in fs]
    return 1, [dim]


@onnx_op("Reshape", since=5)
def reshape(node: NodeContext) -> Operand:
    """0 copies the dim at its place (without allowzero), -1 takes what is left."""
    x, literal = node.operand(0), node.flag("allowzero")
    have = x.type.shape
    if isinstance(node.operand(1), Value):
        return node.step(Reshape(_read_shape(node, literal)), x)
    wanted = node.dims(1, "shape")
    dims: list[Dim] = []
    for index, dim in enumerate(wanted):
        if dim == 0 and not literal:
            if index >= len(have):
                raise node.malformed(
                    "0 at a place that operand 0 has no axis for", got=tuple(wanted)
                )
            dim = have[index]
        if isinstance(dim, int) and dim < -1:
            raise node.malformed("negative dim", got=tuple(wanted))
        dims.append(dim)
    if dims.count(-1) > 1:
        raise node.malformed("more than one -1", got=tuple(wanted))
    if -1 in dims:
        rest = sh.volume(tuple(d for d in dims if d != -1))
        total = sh.volume(have)
        if rest == 0 or (isinstance(total, int) and isinstance(rest, int) and total % rest):
            raise node.malformed("-1 has no solution", got=f"{x.type} to {sh.show(wanted)}")
        dims[dims.index(-1)] = quotient(total, rest)
    return node.step(Reshape(tuple(dims)), x)


def _read_shape(node: NodeContext, literal: bool) -> tuple[Dim, ...]:
    """A shape that a run finds: its 0s and -1 are worked out in the graph."""
    have, shape = node.shape(0), node.operand(1)
    (rank,) = sh.static(shape.type.shape, node.where)
    total = sh.volume(have)
    if shape.type.dtype != dt.i64:
        shape = node.step(Cast(dt.i64), shape)
    if not literal:
        kept = sizes.as_data(node, tuple(have[k] if k < len(have) else 0 for k in range(rank)))
        zero = node.const(np.asarray(0, np.int64))
        shape = node.step(make("where"), node.step(make("eq"), shape, zero), kept, shape)
    open_ = node.step(make("lt"), shape, node.const(np.asarray(0, np.int64)))
    one = node.const(np.asarray(1, np.int64))
    others = node.step(Reduce("prod", (0,), True), node.step(make("where"), open_, one, shape))
    rest = node.step(make("div"), sizes.as_data(node, (total,)), node.step(make("max"), others, one))
    shape = node.step(make("where"), open_, rest, shape)
    if rank < 2 or total == 0:
        return (total,) if rank == 1 else node.dims(1, "shape")
    first = node.step(Slice.of((rank,), [0], [rank - 1]), shape)
    found = sizes.read(node, node.value(first), "shape", (total,) * (rank - 1), node.value(node.operand(1)).name, 1)
    return *found, sh.floordiv(total, sh.maximum(sh.volume(found), 1))


@onnx_op("Flatten", since=1)
def flatten(node: NodeContext) -> Operand:
    x, axis = node.operand(0), node.integer("axis", 1)
    rank = x.type.rank
    if not -rank <= axis <= rank:
        raise node.malformed("attribute axis out of range", got=axis, expected=f"-{rank}..{rank}")
    axis += rank if axis < 0 else 0
    return node.step(Reshape((sh.volume(x.type.shape[:axis]), sh.volume(x.type.shape[axis:]))), x)


def _squeeze(node: NodeContext, axes: tuple[int, ...] | None) -> Operand:
    x = node.operand(0)
    dims = x.type.shape
    if axes is None:
        if not sh.is_static(dims):
            raise node.unsupported("which axes have size 1 depends on symbolic dims", got=x.type)
        gone = {k for k, d in enumerate(dims) if d == 1}
    else:
        gone = set(node.normal_axes(axes, len(dims)))
        if any(isinstance(dims[k], int) and dims[k] != 1 for k in gone):
            raise node.malformed(
                "an axis that goes does not have size 1", got=f"axes {axes} of {x.type}"
            )
    return node.step(Reshape(tuple(d for k, d in enumerate(dims) if k not in gone)), x)


@onnx_op("Squeeze", since=1, until=12)
def squeeze_1(node: NodeContext) -> Operand:
    return _squeeze(node, node.optional_integers("axes"))


@onnx_op("Squeeze", since=13)
def squeeze_13(node: NodeContext) -> Operand:
    return _squeeze(node, None if node.optional(1) is None else node.ints(1, "axes"))


def _unsqueeze(node: NodeContext, axes: tuple[int, ...]) -> Operand:
    x = node.operand(0)
    rank = x.type.rank + len(axes)
    new = set(node.normal_axes(axes, rank))
    old = iter(x.type.shape)
    return node.step(Reshape(tuple(1 if k in new else next(old) for k in range(rank))), x)


@onnx_op("Unsqueeze", since=1, until=12)
def unsqueeze_1(node: NodeContext) -> Operand:
    return _unsqueeze(node, node.integers("axes"))


@onnx_op("Unsqueeze", since=13)
def unsqueeze_13(node: NodeContext) -> Operand:
    return _unsqueeze(node, node.ints(1, "axes"))


@onnx_op("Transpose", since=1)
def transpose(node: NodeContext) -> Operand:
    default = tuple(reversed(range(node.rank(0))))
    return node.step(Transpose(node.integers("perm", default)), node.operand(0))


@onnx_op("DepthToSpace", since=1)
def depth_to_space(node: NodeContext) -> Operand:
    """The channels are [block, block, rest] (DCR) or [rest, block, block] (CRD)."""
    mode = node.text("mode", "DCR", ("DCR", "CRD"))
    x, block = _image(node)
    n, c, h, w = x.type.shape
    if block < 1 or (isinstance(c, int) and c % (block * block)):
        raise node.malformed("blocksize does not fit the channels", got=f"{block} and {c}")
    rest = quotient(c, block * block)
    split: tuple[Dim, ...] = (n, block, block, rest, h, w)
    perm = (0, 3, 4, 1, 5, 2)
    if mode == "CRD":
        split, perm = (n, rest, block, block, h, w), (0, 1, 4, 2, 5, 3)
    blocks = node.step(Transpose(perm), node.step(Reshape(split), x))
    return node.step(Reshape((n, rest, sh.mul(h, block), sh.mul(w, block))), blocks)


@onnx_op("SpaceToDepth", since=1)
def space_to_depth(node: NodeContext) -> Operand:
    """The channels of the result are [block, block, channels] (DCR) or [channels, block, block] (CRD, from opset 28 on)."""
    mode = node.text("mode", "DCR", ("DCR", "CRD"))
    x, block = _image(node)
    n, c, h, w = x.type.shape
    if block < 1 or any(isinstance(d, int) and d % block for d in (h, w)):
        raise node.malformed("blocksize does not fit the image", got=f"{block} and {x.type}")
    rows, columns = quotient(h, block), quotient(w, block)
    parts = node.step(Reshape((n, c, rows, block, columns, block)), x)
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    moved = node.step(Transpose(perm), parts)
    return node.step(Reshape((n, sh.mul(c, block * block), rows, columns)), moved)


def _image(node: NodeContext) -> tuple[Operand, int]:
    """Operand 0 of rank 4 and the blocksize."""
    if node.rank(0) != 4:
        raise node.malformed("operand 0 must be [N, C, H, W]", got=node.operand(0).type)
    return node.operand(0), node.integer("blocksize")


@onnx_op("Expand", since=8)
def expand(node: NodeContext) -> Operand:
    x = node.operand(0)
    dims = list(sizes.dims(node, 1, "shape"))
    node.check_dims(dims)
    if isinstance(node.operand(1), Value):  # where the operand has a size, a run finds it or 1
        for k in range(1, min(len(dims), x.type.rank) + 1):
            dims[-k] = dims[-k] if x.type.shape[-k] == 1 else x.type.shape[-k]
    return node.step(Expand(tuple(dims)), x)


@onnx_op("Tile", since=6)
def tile(node: NodeContext) -> Operand:
    repeats = sizes.dims(node, 1, "repeats")
    node.check_dims(repeats)
    return node.step(Tile(repeats), node.operand(0))


# ---- joining and cutting


@onnx_op("Concat", since=4)
def concat(node: NodeContext) -> Operand:
    return node.step(Concat(node.integer("axis")), *node.required())


@onnx_op("Slice", since=1, until=9)
def slice_1(node: NodeContext) -> Operand:
    starts, ends = node.integers("starts"), node.integers("ends")
    return _slice(node, starts, ends, node.optional_integers("axes"), None)


@onnx_op("Slice", since=10)
def slice_10(node: NodeContext) -> Operand:
    axes = None if node.optional(3) is None else node.ints(3, "axes")
    steps = None if node.optional(4) is None else node.ints(4, "steps")
    (count,) = sh.static(node.operand(1).type.shape, node.where)
    chosen = node.normal_axes(range(count) if axes is None else axes, node.rank(0))
    lengths = [node.shape(0)[axis] for axis in chosen]
    if any(step < 0 for step in steps or ()) and any(isinstance(node.operand(k), Value) for k in (1, 2)):
        raise node.unsupported(
            "where a slice that walks backwards begins and ends must be known when the model is built", got=f"steps {steps}"
        )
    starts, ends = (sizes.bounded(node, k, what, lengths) for k, what in ((1, "starts"), (2, "ends")))
    return _slice(node, starts, ends, chosen, steps)


def _slice(
    node: NodeContext,
    starts: tuple[Dim, ...],
    ends: tuple[Dim, ...],
    axes: tuple[int, ...] | None,
    steps: tuple[int, ...] | None,
) -> Operand:
    x = node.operand(0)
    chosen = node.normal_axes(range(len(starts)) if axes is None else axes, x.type.rank)
    return node.step(Slice.of(x.type.shape, starts, ends, chosen, steps), x)


@onnx_op("Split", since=2, until=12)
def split_2(node: NodeContext) -> tuple[Operand, ...]:
    axis = node.axis(default=0)
    sizes = node.optional_integers("split")
    return _split(node, axis, _even(node, axis) if sizes is None else sizes)


@onnx_op("Split", since=13, until=17)
def split_13(node: NodeContext) -> tuple[Operand, ...]:
    axis = node.axis(default=0)
    return _split(
        node, axis, _even(node, axis) if node.optional(1) is None else _read_split(node, axis)
    )


def _read_split(node: NodeContext, axis: int) -> tuple[Dim, ...]:
    """The sizes of the parts; where a run finds them, the last one is what the others leave."""
    if not isinstance(node.operand(1), Value):
        return node.dims(1, "split")
    total = node.shape(0)[axis]
    found = sizes.dims(node, 1, "split", (total,) * len(node.wanted))
    rest = total
    for part in found[:-1]:
        rest = sh.sub(rest, part)
    return *found[:-1], sh.maximum(rest, 0)


@onnx_op("Split", since=18)
def split_18(node: NodeContext) -> tuple[Operand, ...]:
    """num_outputs parts of equal size, the last one smaller."""
    axis = node.axis(default=0)
    if not node.has("num_outputs"):
        return split_13(node)
    count = node.integer("num_outputs")
    if node.optional(1) is not None or count < 1:
        raise node.malformed("needs either split or a positive num_outputs", got=count)
    total = node.shape(0)[axis]
    if count > MAX_PARTS:
        raise node.malformed("too many parts", got=count, expected=f"at most {MAX_PARTS}")
    if not isinstance(total, int):
        return _split(node, axis, (quotient(total, count),) * count)
    part = -(-total // count)
    return _split(node, axis, [max(min(part, total - k * part), 0) for k in range(count)])


#: Most results of a Split.
MAX_PARTS = 1 << 16


def _even(node: NodeContext, axis: int) -> tuple[Dim, ...]:
    """As many equal parts as the node has results."""
    total, count = node.shape(0)[axis], len(node.wanted)
    if isinstance(total, int) and total % count:
        raise node.malformed(f"axis {axis} cannot be split evenly", got=f"{total} into {count}")
    return (quotient(total, count),) * count


def _split(node: NodeContext, axis: int, sizes: Sequence[Dim]) -> tuple[Operand, ...]:
    if len(sizes) != len(node.wanted):
        raise node.malformed(
            "number of parts and of results differ", got=f"{len(sizes)} and {len(node.wanted)}"
        )
    node.check_dims(sizes)
    return node.steps(Split(axis, tuple(sizes)), node.operand(0))


# ---- padding

_PAD_MODES = ("constant", "reflect", "edge")


@onnx_op("Pad", since=2, until=10)
def pad_2(node: NodeContext) -> Operand:
    mode, value = node.text("mode", "constant", _PAD_MODES), node.number("value", 0.0)
    return _pad(node, node.integers("pads"), None, mode, value)


@onnx_op("Pad", since=11)
def pad_11(node: NodeContext) -> Operand:
    """Pads, value and, from opset 18 on, axes are operands."""
    mode = node.text("mode", "constant", (*_PAD_MODES, "wrap") if node.opset >= 19 else _PAD_MODES)
    value = 0.0 if node.optional(2) is None else float(node.scalar(2, "constant_value"))
    axes = None if node.optional(3) is None else node.ints(3, "axes")
    return _pad(node, node.ints(1, "pads"), axes, mode, value)


def _pad(
    node: NodeContext, pads: tuple[int, ...], axes: tuple[int, ...] | None, mode: str, value: float
) -> Operand:
    x = node.operand(0)
    rank = x.type.rank
    chosen = tuple(range(rank)) if axes is None else node.normal_axes(axes, rank)
    if len(pads) != 2 * len(chosen):
        raise node.malformed("pads do not fit", got=pads, expected=f"{2 * len(chosen)} numbers")
    full = [0] * (2 * rank)
    for index, axis in enumerate(chosen):
        full[axis], full[rank + axis] = pads[index], pads[len(chosen) + index]
    return node.step(Pad(tuple(full), mode, value), x)


@onnx_op("Trilu", since=14)
def trilu(node: NodeContext) -> Operand:
    k = 0 if node.optional(1) is None else int(node.scalar(1, "k"))
    return node.step(Trilu(node.flag("upper", True), k), node.operand(0))
