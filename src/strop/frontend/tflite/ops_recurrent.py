"""TFLite's recurrent layers: LSTM, RNN and SVDF, whose state lasts from one run to the next; in integers LSTM alone.

Formulas: tensorflow/lite/kernels/lstm_eval.cc, internal/kernel_utils.cc (RnnBatchStep) and internal/reference/svdf.h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.integer_lstm import IntegerLSTM
from strop.frontend.tflite.registry import tflite_op
from strop.frontend.tflite.state import state_of
from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ops.data import Concat, Slice
from strop.ops.matmul import MatMul
from strop.ops.recurrent import LSTM, RNN, SIGMOID, Activation, activation
from strop.ops.reduce import Reduce

#: ActivationFunctionType of the options.
_FUNCTIONS: dict[int, Activation] = {0: activation("affine"), 1: activation("relu"), 4: activation("tanh")}


def _function(node: NodeContext) -> Activation:
    number = node.option("FusedActivationFunction", 0)
    if number not in _FUNCTIONS:
        raise node.unsupported("this fused activation function is not supported", got=number)
    return _FUNCTIONS[number]


def _floats(node: NodeContext, index: int) -> Value:
    """Weights or an input as f32."""
    if index == 0 and node.grid(0) is not None:
        raise node.unsupported("quantized recurrent layers are not supported", got=node.stored(0).type, expected="FLOAT32", hint="convert the model without integer activations")
    return node.cast(node.floats(index), dt.f32)


def _refuse(node: NodeContext, operands: Sequence[int], what: str) -> None:
    for index in operands:
        if node.has(index):
            raise node.unsupported(f"{what} is not supported", got=node.tensor(index).name)


def _steps_first(node: NodeContext, x: Value) -> Value:
    """[S, B, I] of the input of a sequence."""
    if x.type.rank != 3:
        raise node.malformed("the input is no sequence", got=x.type, expected="rank 3")
    return x if node.option("TimeMajor", False) else node.turned(x, (1, 0, 2))


def _result(node: NodeContext, y: Value) -> Value:
    """[S, 1, B, H] as the operator gives it."""
    steps, _, batch, size = y.shape
    y = node.reshape(y, (steps, batch, size))
    return y if node.option("TimeMajor", False) else node.turned(y, (1, 0, 2))


# ---- LSTM


def _lstm(node: NodeContext, x: Value, first: int, states: tuple[int, int], direction: str) -> Value:
    """One direction over x [S, B, I]: [S, 1, B, H]; the variables get their next values.

    Args:
        first: number of the first of its weights: input to i, f, c, o; recurrent to the same; peepholes of i, f, o; biases of i, f, c, o;
            projection and its bias.
        states: numbers of the operands with the state and the cell.
    """
    _refuse(node, (first + 15, first + 16), "a projection of the state")
    coupled = not node.has(first)  # i is 1 - f: the sigmoid of what feeds f, negated

    def gates(at: int, names: str, count: int) -> list[Value | None]:
        """Operands of the gates i, o, f, c (or i, o, f), in this order, from the file's order ``names``."""
        found = [_floats(node, at + names.index(g)) if node.has(at + names.index(g)) else None for g in "iofc"[:count]]
        if coupled and found[2] is not None:
            found[0] = node.apply("neg", found[2])
        return found

    def joined(parts: list[Value | None]) -> Value:
        if any(part is None for part in parts):
            raise node.malformed("weights of a gate are missing")
        whole = node.step(Concat(0), *parts)
        return node.reshape(whole, (1, *whole.shape))

    w, r = joined(gates(first, "ifco", 4)), joined(gates(first + 4, "ifco", 4))
    biases = gates(first + 11, "ifco", 4)
    (size,) = node.static(r.shape[2:])
    bias = joined([*biases, node.const(np.zeros(4 * size, np.float32))])
    peepholes = gates(first + 8, "ifo", 3)
    p = joined(peepholes) if peepholes[2] is not None else None
    state, cell = (state_of(node, k) for k in states)
    clip = float(node.option("CellClip", 0.0))
    function = _function(node)
    op = LSTM(direction, (SIGMOID, function, function), input_forget=coupled, cell_clip=clip if clip > 0 else math.inf)
    before = [node.reshape(v.value, (1, *v.value.shape)) for v in (state, cell)]
    y, h, c = node.steps(op, x, w, r, bias, None, *before, p)
    state.value, cell.value = node.reshape(h, state.given.shape), node.reshape(c, cell.given.shape)
    return y


def _integers(node: NodeContext, x: Value, axis: int) -> Value:
    """A layer over 8-bit integers x, real numbers of three axes, with the steps along ``axis``."""
    if x.type.rank != 3:
        raise node.malformed("the input is no sequence", got=x.type, expected="rank 3")
    if _function(node) != activation("tanh"):
        raise node.unsupported("other functions than tanh are not supported in integers", got=node.option("FusedActivationFunction", 0))
    _refuse(node, (16, 17), "a projection of the state")
    state, to = node.tensor(18), node.result()
    if state.grid is None or to.grid is None or state.dtype is not to.dtype:
        raise node.malformed("the result is not stored as the state is", got=to.type, expected=state.type)
    return IntegerLSTM(node, 1, (18, 19), float(node.option("CellClip", 0.0))).run(x, axis)


@tflite_op("UNIDIRECTIONAL_SEQUENCE_LSTM")
def unidirectional_sequence_lstm(node: NodeContext) -> Value:
    _refuse(node, range(20, 24), "layer normalization of gates")
    if node.option("DiagonalRecurrentTensors", False):
        raise node.unsupported("diagonal recurrent weights are not supported")
    if node.grid(0) is not None:
        return _integers(node, node.real(0), 0 if node.option("TimeMajor", False) else 1)
    return _result(node, _lstm(node, _steps_first(node, _floats(node, 0)), 1, (18, 19), "forward"))


@tflite_op("LSTM")
def lstm(node: NodeContext) -> Value:
    """One step."""
    if node.option("KernelType", 0) != 0:
        raise node.unsupported("the basic kernel of LSTM is not supported", got=node.option("KernelType"), expected="0 (FULL)")
    _refuse(node, range(20, 24), "layer normalization of gates")
    if node.grid(0) is not None:
        y = _integers(node, node.reshape(node.real(0), (1, *node.stored(0).shape)), 0)
        return node.reshape(y, y.shape[1:])
    x = _floats(node, 0)
    y = _lstm(node, node.reshape(x, (1, *x.shape)), 1, (18, 19), "forward")
    return node.reshape(y, y.shape[2:])


@tflite_op("BIDIRECTIONAL_SEQUENCE_LSTM")
def bidirectional_sequence_lstm(node: NodeContext) -> Sequence[Value]:
    """Forward and backward over the same steps; one result behind the other, or two results."""
    _refuse(node, range(39, 48), "an auxiliary input")
    x = _steps_first(node, _floats(node, 0))
    return _both(node, [_lstm(node, x, 1, (35, 36), "forward"), _lstm(node, x, 18, (37, 38), "reverse")])


def _both(node: NodeContext, results: Sequence[Value]) -> Sequence[Value]:
    found = [_result(node, y) for y in results]
    return [node.step(Concat(2), *found)] if node.option("MergeOutputs", False) else found


# ---- RNN


def _rnn(node: NodeContext, x: Value, first: int, state_index: int, direction: str) -> Value:
    """One direction over x [S, B, I]; ``first`` is the number of the input's weights, then come the state's and the bias."""
    w, r, bias = (_floats(node, first + k) for k in range(3))
    state = state_of(node, state_index)
    both = node.step(Concat(0), bias, node.const(np.zeros(r.shape[0], np.float32)))
    w, r, both, before = (node.reshape(v, (1, *v.shape)) for v in (w, r, both, state.value))
    y, h = node.steps(RNN(direction, (_function(node),)), x, w, r, both, None, before)
    state.value = node.reshape(h, state.given.shape)
    return y


@tflite_op("UNIDIRECTIONAL_SEQUENCE_RNN")
def unidirectional_sequence_rnn(node: NodeContext) -> Value:
    return _result(node, _rnn(node, _steps_first(node, _floats(node, 0)), 1, 4, "forward"))


@tflite_op("RNN")
def rnn(node: NodeContext) -> Value:
    """One step."""
    x = _floats(node, 0)
    y = _rnn(node, node.reshape(x, (1, *x.shape)), 1, 4, "forward")
    return node.reshape(y, y.shape[2:])


@tflite_op("BIDIRECTIONAL_SEQUENCE_RNN")
def bidirectional_sequence_rnn(node: NodeContext) -> Sequence[Value]:
    _refuse(node, range(9, 12), "an auxiliary input")
    x = _steps_first(node, _floats(node, 0))
    return _both(node, [_rnn(node, x, 1, 4, "forward"), _rnn(node, x, 5, 8, "reverse")])


# ---- SVDF


@tflite_op("SVDF")
def svdf(node: NodeContext) -> Value:
    """A queue of products with the feature weights per filter, weighted over time; ``rank`` filters are one unit."""
    x, features, times = (_floats(node, k) for k in range(3))
    rank = node.option("Rank")
    filters, memory = times.shape
    if not (isinstance(filters, int) and isinstance(memory, int) and rank >= 1 and filters % rank == 0 and features.shape[0] == filters):
        raise node.malformed("filters, memory and rank do not fit", got=f"{features.type}, {times.type}, rank {rank}")
    state = state_of(node, 4)
    batch = state.given.shape[0]
    queue = node.reshape(state.value, (batch, filters, memory))
    new = node.reshape(node.step(MatMul(transpose_b=True), x, features), (batch, filters, 1))
    kept = node.step(Slice.of(queue.shape, (1,), (memory,), (2,)), queue)
    queue = node.step(Concat(2), kept, new)
    state.value = node.reshape(queue, state.given.shape)
    weighted = node.apply("mul", queue, times)
    units = node.reshape(weighted, (batch, filters // rank, rank * memory))
    found = node.step(Reduce("sum", (2,), False), units)
    return node.activated(node.apply("add", found, _floats(node, 3)) if node.has(3) else found)
