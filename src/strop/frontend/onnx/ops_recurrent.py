"""ONNX LSTM, GRU and RNN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Operand
from strop.frontend.onnx.registry import onnx_op
from strop.ops.data import Transpose
from strop.ops.elementwise import FUNCTIONS
from strop.ops.recurrent import DIRECTIONS, GRU, LSTM, RNN, Activation, Recurrent, activation

#: ONNX activation to elementwise function. Alpha and beta default to the function's own params.
_ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Affine": "affine",
    "LeakyRelu": "leaky_relu",
    "ThresholdedRelu": "thresholded_relu",
    "ScaledTanh": "scaled_tanh",
    "HardSigmoid": "hard_sigmoid",
    "Elu": "elu",
    "Softsign": "softsign",
    "Softplus": "softplus",
}
_WORDS = {name.lower(): function for name, function in _ACTIVATIONS.items()}
LayerT = TypeVar("LayerT", bound=Recurrent)


@onnx_op("RNN", since=7)
def rnn(node: NodeContext) -> tuple[Operand, ...]:
    return _layer(node, _made(node, RNN))


@onnx_op("GRU", since=7)
def gru(node: NodeContext) -> tuple[Operand, ...]:
    after = bool(node.integer("linear_before_reset", 0))
    return _layer(node, _made(node, GRU).replace(linear_before_reset=after))


@onnx_op("LSTM", since=7)
def lstm(node: NodeContext) -> tuple[Operand, ...]:
    coupled = bool(node.integer("input_forget", 0))
    return _layer(node, _made(node, LSTM).replace(input_forget=coupled))


def _made(node: NodeContext, kind: type[LayerT]) -> LayerT:
    """The op with the attributes that all layers share."""
    direction = node.text("direction", "forward").lower()
    if direction not in DIRECTIONS:
        raise node.malformed(
            "attribute direction has an unknown value", direction, ", ".join(DIRECTIONS)
        )
    clip = node.number("clip", math.inf)
    if not clip >= 0:
        raise node.malformed("attribute clip is negative", got=clip)
    times = 2 if direction == "bidirectional" else 1
    return kind(direction, _activations(node, kind, times), clip)


def _activations(
    node: NodeContext, kind: type[Recurrent], directions: int
) -> tuple[Activation, ...]:
    """The activations of all directions. Those that have an alpha or beta take the next number given for it, in order."""
    alphas, betas = (list(node.floats(f"activation_{w}", ())) for w in ("alpha", "beta"))
    if not node.has("activations"):
        return kind.usual() * directions
    names = node.strings("activations")
    if len(names) != kind.functions * directions:
        raise node.malformed(
            "attribute activations does not fit", ", ".join(names), f"{kind.functions * directions} names"
        )
    found = []
    for name in names:
        function = _WORDS.get(name.lower())
        if function is None:
            raise node.malformed(
                "attribute activations has an unknown name", name, ", ".join(_ACTIVATIONS)
            )
        params = {k for k, _ in FUNCTIONS[function].params}
        alpha = alphas.pop(0) if "alpha" in params and alphas else None
        beta = betas.pop(0) if "beta" in params and betas else None
        found.append(activation(function, alpha, beta))
    return tuple(found)


def _layer(node: NodeContext, op: Recurrent) -> tuple[Operand, ...]:
    """The layer; with layout 1 between transposes from and to [batch, ...]."""
    operands = [node.optional(i) for i in range(max(len(op.names), len(node)))]
    for name, index in (("X", 0), ("W", 1), ("R", 2)):
        if node.rank(index) != 3:
            raise node.malformed(f"operand {name} has the wrong rank", node.operand(index).type, "rank 3")
    size = node.shape(2)[2]
    if node.integer("hidden_size", size if isinstance(size, int) else 0) != size:
        raise node.malformed("attribute hidden_size does not fit R", node.integer("hidden_size"), size)
    batch_first = node.opset >= 14 and node.flag("layout")
    if batch_first:
        for index, name in enumerate(op.names):
            given = operands[index]
            if given is not None and name in ("x", *op.states):
                operands[index] = _turned(node, given, (1, 0, 2))
    results = node.steps(op, *operands)
    if not batch_first:
        return results
    turned = [_turned(node, results[0], (2, 0, 1, 3))]
    return (*turned, *(_turned(node, state, (1, 0, 2)) for state in results[1:]))


def _turned(node: NodeContext, x: Operand, perm: Sequence[int]) -> Operand:
    if x.type.rank != len(perm):
        raise node.malformed("an operand has the wrong rank", x.type, f"rank {len(perm)}")
    return node.step(Transpose(tuple(perm)), x)
