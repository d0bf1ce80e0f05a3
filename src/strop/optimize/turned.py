"""The same op over operands with their axes in another order: what ``cancel_transposes`` may turn.

``turned(node, perm)`` answers how a node would work when the values it reads and makes at full rank
were ``transpose(value, perm)``, or None when it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from strop.ir.graph import Node, Value
from strop.ir.op import Array, Op
from strop.ops.attention import Attention
from strop.ops.conv import Conv
from strop.ops.data import Concat, Expand, Pad, Slice, Split, Tile
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.matmul import MatMul
from strop.ops.norm import LayerNorm, RMSNorm
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.reduce import Reduce
from strop.ops.resize import Resize
from strop.ops.softmax import LogSoftmax, Softmax

Perm = tuple[int, ...]


@dataclass(frozen=True)
class Turned:
    """How a node works on turned values.

    Attributes:
        op: the op to use.
        aligned: operands that must be turned.
        constants: new arrays for constant operands that change.
        results: whether the results are turned; else they stay as they are.
    """

    op: Op
    aligned: tuple[int, ...]
    constants: dict[int, Array]
    results: bool = True


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes ``perm``."""
    return tuple(perm.index(k) for k in range(len(perm)))


def turned(node: Node, perm: Perm) -> Turned | None:
    """The node on values turned by ``perm``, or None."""
    rule = _RULES.get(type(node.op))
    if rule is None or not node.has(0):
        return None
    if isinstance(node.op, _BY_FIRST) and len(node.operand(0).shape) != len(perm):
        return None
    return rule(node, perm)


def _all(node: Node, op: Op, perm: Perm) -> Turned | None:
    """Every operand is turned: full-rank values by transposition, constants by new arrays."""
    aligned: list[int] = []
    constants: dict[int, Array] = {}
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        if value.const is not None:
            if value.const.ndim > len(perm):
                return None
            if value.const.ndim:
                padding = (1,) * (len(perm) - value.const.ndim)
                constants[index] = value.const.reshape(padding + value.const.shape).transpose(perm)
        elif len(value.shape) == len(perm):
            aligned.append(index)
        elif value.shape:
            return None
    return Turned(op, tuple(aligned), constants) if aligned else None


def _full_rank(node: Node, perm: Perm) -> bool:
    return all(len(v.shape) == len(perm) for v in node.outputs)


def _same_op(node: Node, perm: Perm) -> Turned | None:
    return _all(node, node.op, perm) if _full_rank(node, perm) else None


def _along_axis(node: Node, perm: Perm) -> Turned | None:
    axis: int = node.op.attributes()["axis"]
    if not _full_rank(node, perm):
        return None
    return _all(node, node.op.replace(axis=perm.index(axis % len(perm))), perm)


def _slice(node: Node, perm: Perm) -> Turned | None:
    op = node.op
    assert isinstance(op, Slice)
    axes = tuple(perm.index(axis) for axis in op.axes)
    return _all(node, op.replace(axes=axes), perm)


def _pad(node: Node, perm: Perm) -> Turned | None:
    op = node.op
    assert isinstance(op, Pad)
    return _all(node, op.replace(pads=_twice(op.pads, perm)), perm)


def _twice(numbers: Sequence[int], perm: Perm) -> tuple[int, ...]:
    """Begin and end numbers of every axis, in the new order of the axes."""
    rank = len(perm)
    return tuple([numbers[p] for p in perm] + [numbers[rank + p] for p in perm])


def _expand(node: Node, perm: Perm) -> Turned | None:
    op = node.op
    assert isinstance(op, Expand)
    if not len(op.shape) == len(node.operand(0).shape) == len(perm):
        return None
    return _all(node, op.replace(shape=tuple(op.shape[p] for p in perm)), perm)


def _tile(node: Node, perm: Perm) -> Turned | None:
    op = node.op
    assert isinstance(op, Tile)
    return _all(node, op.replace(repeats=tuple(op.repeats[p] for p in perm)), perm)


def _resize(node: Node, perm: Perm) -> Turned | None:
    op = node.op
    assert isinstance(op, Resize)
    if op.roi:
        return None
    sizes, scales = (tuple(t[p] for p in perm) for t in (op.sizes, op.scales))
    return _all(node, op.replace(sizes=sizes, scales=scales), perm)


def _reduce(node: Node, perm: Perm) -> Turned | None:
    op = node.op
    assert isinstance(op, Reduce)
    axes = tuple(sorted(perm.index(axis % len(perm)) for axis in op.axes))
    if op.keepdims:
        return _all(node, op.replace(axes=axes), perm)
    kept = [p for k, p in enumerate(perm) if k not in axes]
    if kept != sorted(kept):
        return None
    return Turned(op.replace(axes=axes), (0,), {}, results=False)


def _norm(node: Node, perm: Perm) -> Turned | None:
    op = node.op
    assert isinstance(op, (LayerNorm, RMSNorm))
    first = op.axis % len(perm)
    if any(perm[k] != k for k in range(first, len(perm))):
        return None
    return Turned(op.replace(axis=first), (0,), {})


def _matmul(node: Node, perm: Perm) -> Turned | None:
    op, rank = node.op, len(perm)
    assert isinstance(op, MatMul)
    a, b = node.operand(0), node.operand(1)
    if len(a.shape) != rank or a.const is not None or rank < 3:
        return None
    if len(b.shape) == 2 and not op.transpose_a and perm[-1] == rank - 1:
        return Turned(op, (0,), {})
    if len(b.shape) == rank and perm[-2:] == (rank - 2, rank - 1):
        return _all(node, op, perm)
    return None


def _attention(node: Node, perm: Perm) -> Turned | None:
    rank = len(perm)
    plain = len(node.inputs) == 3 and all(len(v.shape) == rank for v in node.operands)
    if not plain or perm[-2:] != (rank - 2, rank - 1):
        return None
    return _all(node, node.op, perm)


def _conv(node: Node, perm: Perm) -> Turned | None:
    op, rank = node.op, len(perm)
    assert isinstance(op, Conv)
    to_last = (0, *range(2, rank), 1)
    wanted, other = (to_last, "NHWC") if op.layout == "NCHW" else (inverse(to_last), "NCHW")
    if perm != wanted or node.operand(0).const is not None:
        return None
    return Turned(op.replace(layout=other), (0,), {})


def _linear(node: Node, perm: Perm) -> Turned | None:
    """Scales and zero points that broadcast are turned as other constants are."""
    op = node.op
    assert isinstance(op, (Quantize, Dequantize))
    return _all(node, op, perm) if op.block == 0 and _full_rank(node, perm) else None


_RULES: dict[type[Op], Callable[[Node, Perm], Turned | None]] = {
    Attention: _attention,
    Cast: _same_op,
    Concat: _along_axis,
    Conv: _conv,
    Dequantize: _linear,
    Elementwise: _same_op,
    Expand: _expand,
    LayerNorm: _norm,
    LogSoftmax: _along_axis,
    MatMul: _matmul,
    Pad: _pad,
    Quantize: _linear,
    RMSNorm: _norm,
    Reduce: _reduce,
    Resize: _resize,
    Slice: _slice,
    Softmax: _along_axis,
    Split: _along_axis,
    Tile: _tile,
}


#: Ops whose attributes count axes of operand 0.
_BY_FIRST = (Conv, LayerNorm, Pad, RMSNorm, Reduce, Resize, Slice, Tile)


def is_free(value: Value, perm: Perm) -> bool:
    """True when transposing the value by ``perm`` only moves axes of size 1."""
    moved = [p for p in perm if value.shape[p] != 1]
    return moved == sorted(moved)
