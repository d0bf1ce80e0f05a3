"""Sizes that only a run knows: elements of tensors that decide over shapes, read as dims over computed symbols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.errors import UnsupportedError
from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Operand, Symbolic
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim, Sym
from strop.ops.elementwise import Cast, make
from strop.ops.sizes import ReadSizes

#: What a size is never above without a range that the caller gives.
UNBOUNDED = (1 << 31) - 1


def unlimited(node: NodeContext, what: str, name: str) -> UnsupportedError:
    """Nothing says how large a size may become."""
    return node.unsupported(
        f"{what} is computed from the model's inputs, and nothing says how large it may become",
        got=name,
        hint=f"give it a range, --shape '{name}[]=1..100' (or shapes={{'{name}[]': '1..100'}}), "
        "or make it a constant when the model is exported",
    )


def found(node: NodeContext, what: str, most: Dim | None, *names: str, opt: int | None = None) -> Sym:
    """A symbol for a size that the node's op finds.

    Args:
        node: the node.
        what: its meaning, for the message.
        most: what it is never above, or None.
        names: values of the model; a range that the caller gives for one of them limits it, too.
        opt: what kernels are tuned for; by default half of ``most``.

    Raises:
        UnsupportedError: nothing limits it.
    """
    limit = UNBOUNDED
    if most is not None:
        limit = min(limit, sh.bounds(most)[1])
        usual = sh.evaluate(most, {s.name: s.opt for s in sh.symbols([most])})
        opt = -(-usual // 2) if opt is None else min(opt, usual)
    given = next((node.session.ranges[name] for name in names if name in node.session.ranges), None)
    if given is not None:
        limit, opt = min(limit, given.most), given.opt
    if limit >= UNBOUNDED:
        raise unlimited(node, what, names[0] if names else node.name)
    return node.session.symbol(f"{names[0] if names else node.name}_{what}", limit, max(0, min(opt or 0, limit)))


def of(node: NodeContext, index: int, what: str, most: Dim | None = None) -> Dim:
    """An operand of one integer as a Dim: known, symbolic, or one that a run finds and that is at most ``most``."""
    operand = node.operand(index)
    if isinstance(operand, Value):
        return read(node, operand, what, (most,))[0]
    dims = node.dims(index, what)
    if len(dims) != 1:
        raise node.malformed(f"operand {what} must have one element", got=f"{len(dims)} elements")
    return dims[0]


def dims(node: NodeContext, index: int, what: str, most: Sequence[Dim | None] | None = None) -> tuple[Dim, ...]:
    """An operand that is a list of integers as Dims; ``most`` gives limits of those that a run finds."""
    operand = node.operand(index)
    return read(node, operand, what, most) if isinstance(operand, Value) else node.dims(index, what)


def read(node: NodeContext, operand: Value, what: str, most: Sequence[Dim | None] | None, name: str = "", opt: int | None = None) -> tuple[Dim, ...]:
    """The elements of a tensor of the graph as Dims that a run finds; ``name`` is the model's for it, by default its own."""
    type = operand.type
    if not type.dtype.is_int or type.rank > 1:
        raise node.malformed(f"operand {what} is no list of integers", got=type)
    (count,) = sh.static(type.shape or (1,), node.where)
    limits = (None,) * count if most is None else most
    if len(limits) != count:
        raise node.malformed(f"operand {what} has another number of elements", got=count, expected=len(limits))
    if count == 0:
        return ()
    symbols = tuple(found(node, what, limit, name or operand.name, *node.results, opt=opt) for limit in limits)
    whole: Operand = operand if type.dtype in (dt.i32, dt.i64) else node.step(Cast(dt.i64), operand)
    node.steps(ReadSizes(symbols), whole)
    return symbols


def bounded(node: NodeContext, index: int, what: str, sizes: Sequence[Dim]) -> tuple[Dim, ...]:
    """Positions along axes of these sizes, which may be negative or beyond the end, as Dims from 0 to the size."""
    operand = node.operand(index)
    if not isinstance(operand, Value):
        return node.dims(index, what)
    ends = as_data(node, sizes)
    whole = node.step(Cast(dt.i64), operand) if operand.type.dtype != dt.i64 else operand
    zero = node.const(np.asarray(0, np.int64))
    from_front = node.step(make("where"), node.step(make("lt"), whole, zero), node.step(make("add"), whole, ends), whole)
    kept = node.step(make("min"), node.step(make("max"), from_front, zero), ends)
    opt = 0 if what == "starts" else UNBOUNDED
    symbols = tuple(found(node, what, size, operand.name, opt=opt) for size in sizes)
    node.steps(ReadSizes(symbols), kept)
    return tuple(sh.minimum(symbol, size) for symbol, size in zip(symbols, sizes, strict=True))


def as_data(node: NodeContext, sizes: Sequence[Dim]) -> Operand:
    """Dims as a list of i64."""
    array = np.empty(len(sizes), object)
    array[:] = list(sizes)
    if sh.is_static(tuple(sizes)):
        return Known("", array.astype(np.int64))
    return Symbolic("", array, dt.i64)
