"""ATen recurrent layers: LSTM, GRU and RNN of any number of layers and both directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.ops_shape import cut, transposed
from strop.frontend.torch.registry import torch_op
from strop.ir import shape as sh
from strop.ir.graph import Value, scalar_of
from strop.ops.data import Concat, Expand, Split
from strop.ops.recurrent import GRU, LSTM, RNN, TANH, Recurrent, activation

#: PyTorch's gates are i, f, g, o (LSTM) and r, z, n (GRU); ours i, o, f, c and z, r, h.
_ORDER: dict[type[Recurrent], tuple[int, ...]] = {LSTM: (0, 3, 1, 2), GRU: (1, 0, 2), RNN: (0,)}


@torch_op("strop.lstm.default")
def lstm(node: NodeContext) -> tuple[Value, ...]:
    op = LSTM(_direction(node), LSTM.usual() * _directions(node))
    return _layers(node, op, node.tensors("hx"))


@torch_op("strop.gru.default")
def gru(node: NodeContext) -> tuple[Value, ...]:
    """The reset gate applies after the product."""
    op = GRU(_direction(node), GRU.usual() * _directions(node), linear_before_reset=True)
    return _layers(node, op, [node.tensor("hx")])


@torch_op("strop.rnn_tanh.default", "strop.rnn_relu.default")
def rnn(node: NodeContext) -> tuple[Value, ...]:
    function = TANH if "tanh" in node.op else activation("relu")
    return _layers(node, RNN(_direction(node), (function,) * _directions(node)), [node.tensor("hx")])


def _direction(node: NodeContext) -> str:
    return "bidirectional" if node.flag("bidirectional") else "forward"


def _directions(node: NodeContext) -> int:
    return 2 if node.flag("bidirectional") else 1


def _layers(node: NodeContext, op: Recurrent, states: Sequence[Value]) -> tuple[Value, ...]:
    """All layers, each over what the one before gives; the results are the last one's and the states of all."""
    params, layers, directions = node.tensors("params"), node.integer("num_layers"), op.directions
    if node.flag("train") and node.number("dropout") != 0 and layers > 1:
        raise node.unsupported("dropout is for training only", got="training mode", hint="call module.eval() before the export")
    each = 4 if node.flag("has_biases") else 2
    if len(params) != layers * directions * each:
        raise node.unsupported(
            "projections of the state are not supported", got=f"{len(params)} parameters", expected=layers * directions * each,
            hint="make the layer without proj_size",
        )  # fmt: skip
    batch_first = node.flag("batch_first")
    x = node.tensor("input")
    x = transposed(node, x, (1, 0, 2)) if batch_first else x
    finals: list[list[Value]] = []
    for layer in range(layers):
        own = [params[(layer * directions + d) * each : (layer * directions + d + 1) * each] for d in range(directions)]
        first = [_first(node, state, layer * directions, directions) for state in states]
        y, *last = node.steps(op, x, *_weights(node, op, own), None, *first)
        finals.append(last)
        steps, _, batch, size = y.shape
        x = node.reshape(transposed(node, y, (0, 2, 1, 3)), (steps, batch, sh.mul(size, directions)))
    result = transposed(node, x, (1, 0, 2)) if batch_first else x
    together = [list(kind) for kind in zip(*finals, strict=True)]
    return (result, *(kind[0] if len(kind) == 1 else node.step(Concat(0), *kind) for kind in together))


def _first(node: NodeContext, state: Value, start: int, count: int) -> Value | None:
    """The states of one layer's directions before the first step; None for zeros."""
    element = state
    while element.producer is not None and isinstance(element.producer.op, Expand):
        element = element.producer.operand(0)
    if scalar_of(element) == 0 or (element.const is not None and not np.any(element.const)):
        return None
    return cut(node, state, 0, start, count)


def _weights(node: NodeContext, op: Recurrent, own: Sequence[Sequence[Value]]) -> tuple[Value | None, ...]:
    """w, r and b of all directions, with the gates in our order."""
    order = _ORDER[type(op)]
    w, r = (_stacked(node, [_reordered(node, p[k], order) for p in own]) for k in (0, 1))
    if len(own[0]) == 2:
        return w, r, None
    biases = [_joined(node, [_reordered(node, p[k], order) for k in (2, 3)]) for p in own]
    return w, r, _stacked(node, biases)


def _reordered(node: NodeContext, param: Value, order: tuple[int, ...]) -> Value:
    """Blocks of rows in another order."""
    if len(order) == 1:
        return param
    (rows,) = node.static(param.shape[:1])
    if param.const is not None:
        blocks = np.split(param.const, len(order))
        return node.const(np.concatenate([blocks[k] for k in order]))
    parts = node.steps(Split(0, (rows // len(order),) * len(order)), param)
    return node.step(Concat(0), *(parts[k] for k in order))


def _joined(node: NodeContext, parts: Sequence[Value]) -> Value:
    arrays = [p.const for p in parts]
    known = [a for a in arrays if a is not None]
    if len(known) == len(parts):
        return node.const(np.concatenate(known))
    return node.step(Concat(0), *parts)


def _stacked(node: NodeContext, parts: Sequence[Value]) -> Value:
    """Parts of one shape along a new first axis."""
    arrays = [p.const for p in parts]
    known = [a for a in arrays if a is not None]
    if len(known) == len(parts):
        return node.const(known[0][None] if len(known) == 1 else np.stack(known))
    lone = [node.reshape(p, (1, *p.shape)) for p in parts]
    return lone[0] if len(lone) == 1 else node.step(Concat(0), *lone)
