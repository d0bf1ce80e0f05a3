"""ATen padding in all its modes."""

from __future__ import annotations

from collections.abc import Sequence

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.registry import torch_op
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.data import Concat, Pad

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def padded(node: NodeContext, mode: str, value: float) -> Value:
    """``self`` padded as ``pad`` says: before and after the last axis, then the one before it, and so on."""
    x, pads = node.tensor(), node.arg("pad", node.arg("padding"))
    rank = x.type.rank
    if not all(isinstance(p, int) for p in pads):
        return _dynamic(node, x, pads, mode, value)
    full = [0] * (2 * rank)
    for index in range(len(pads) // 2):
        axis = rank - 1 - index
        full[axis], full[rank + axis] = int(pads[2 * index]), int(pads[2 * index + 1])
    return x if not any(full) else node.step(Pad(tuple(full), mode, value), x)


def _dynamic(node: NodeContext, x: Value, pads: Sequence[Dim], mode: str, value: float) -> Value:
    """Amounts that depend on dynamic dims: blocks of the constant are joined on."""
    if mode != "constant":
        raise node.unsupported("amounts of padding depend on dynamic dims", got=f"mode {mode}", expected="mode constant")
    for index in range(len(pads) // 2):
        axis = x.type.rank - 1 - index
        parts = [x]
        for amount, at_end in ((pads[2 * index], False), (pads[2 * index + 1], True)):
            if amount == 0:
                continue
            if not isinstance(amount, int) and sh.bounds(amount)[0] < 0:
                raise node.unsupported("an amount of padding may be negative", got=amount)
            block = node.filled((*x.shape[:axis], amount, *x.shape[axis + 1 :]), value, x.dtype)
            parts = [*parts, block] if at_end else [block, *parts]
        x = parts[0] if len(parts) == 1 else node.step(Concat(axis), *parts)
    return x


@torch_op("aten.constant_pad_nd.default")
def constant_pad(node: NodeContext) -> Value:
    return padded(node, "constant", node.number("value"))


@torch_op("aten.pad.default")
def pad(node: NodeContext) -> Value:
    value = 0.0 if node.arg("value") is None else node.number("value")
    return padded(node, _MODES[str(node.arg("mode"))], value)


@torch_op(*(f"aten.reflection_pad{k}d.default" for k in (1, 2, 3)))
def reflection_pad(node: NodeContext) -> Value:
    return padded(node, "reflect", 0.0)


@torch_op(*(f"aten.replication_pad{k}d.default" for k in (1, 2, 3)))
def replication_pad(node: NodeContext) -> Value:
    return padded(node, "edge", 0.0)

