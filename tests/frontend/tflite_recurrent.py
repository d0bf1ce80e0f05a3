"""Recurrent layers of TFLite as files, and what they compute, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.frontend.tflite_models import Array, Maker

STEPS, BATCH, SIZE, HIDDEN = 3, 2, 4, 5
RNG = np.random.default_rng(11)


def weights(*shape: int) -> Array:
    return RNG.uniform(-0.7, 0.7, shape).astype(np.float32)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


class Layer:
    """A file with one layer over x [B, S, I], and ``run``: its results for the next x, state kept."""

    def __init__(self, code: str, options: str, time_major: bool = False, **values: Any) -> None:
        self.maker = Maker()
        self.main = self.maker.main
        self.code, self.options, self.values, self.time_major = code, options, values, time_major
        self.shape: tuple[int, ...] = (STEPS, BATCH, SIZE) if time_major else (BATCH, STEPS, SIZE)
        self.runs: list[Callable[[Array], Array]] = []
        self.single = False

    def finish(self, operands: Sequence[Any], results: Sequence[tuple[int, ...]]) -> None:
        """Operands after the input: arrays, shapes of states, None."""
        numbers = [self.main.input("x", self.shape)]
        for operand in operands:
            if operand is None:
                numbers.append(-1)
            elif isinstance(operand, tuple):
                numbers.append(self.main.tensor(f"state_{len(numbers)}", operand, variable=True))
            else:
                numbers.append(self.main.const(operand))
        self.main.outputs = [self.main.tensor(f"y{k}", shape) for k, shape in enumerate(results)]
        major = {} if self.single else {"TimeMajor": self.time_major}
        self.main.op(self.code, numbers, self.main.outputs, self.options, **major, **self.values)

    def file(self) -> bytes:
        return self.maker.bytes()

    def run(self, x: Array) -> list[Array]:
        """[B, S, H] per direction."""
        return [run(x) for run in self.runs]


def lstm_weights(coupled: bool, peephole: bool) -> tuple[list[Any], dict[str, Array]]:
    """Operands of one direction, without states; and the weights by gate."""
    w = {g: weights(HIDDEN, SIZE) for g in "ifco"}
    r = {f"r{g}": weights(HIDDEN, HIDDEN) for g in "ifco"}
    p = {f"p{g}": weights(HIDDEN) for g in "ifo"}
    b = {f"b{g}": weights(HIDDEN) for g in "ifco"}
    every = {**w, **r, **p, **b}
    left = {"i", "ri", "pi", "bi"} if coupled else set()
    left |= set() if peephole else {"pi", "pf", "po"}
    operands = [None if name in left else every[name] for name in (*"ifco", "ri", "rf", "rc", "ro", "pi", "pf", "po", "bi", "bf", "bc", "bo")]
    return operands, {name: a for name, a in every.items() if name not in left}


def lstm_run(w: dict[str, Array], clip: float, reverse: bool = False) -> Callable[[Array], Array]:
    """tensorflow/lite/kernels/lstm_eval.cc"""
    h, c = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, HIDDEN))

    def run(x: Array) -> Array:
        nonlocal h, c
        y = np.zeros((*x.shape[:2], HIDDEN))
        for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
            sums = {g: x[:, t] @ w[g].T + h @ w[f"r{g}"].T + w[f"b{g}"] for g in "ifco" if g in w}
            f = _sigmoid(sums["f"] + w.get("pf", np.float32(0)) * c)
            i = _sigmoid(sums["i"] + w.get("pi", np.float32(0)) * c) if "i" in w else 1 - f
            c = f * c + i * np.tanh(sums["c"])
            c = np.clip(c, -clip, clip) if clip else c
            h = _sigmoid(sums["o"] + w.get("po", np.float32(0)) * c) * np.tanh(c)
            y[:, t] = h
        return y

    return run


def rnn_run(w: Sequence[Array], reverse: bool = False) -> Callable[[Array], Array]:
    h = np.zeros((BATCH, HIDDEN))

    def run(x: Array) -> Array:
        nonlocal h
        y = np.zeros((*x.shape[:2], HIDDEN))
        for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
            h = np.tanh(x[:, t] @ w[0].T + h @ w[1].T + w[2])
            y[:, t] = h
        return y

    return run


def lstm(coupled: bool = False, peephole: bool = False, clip: float = 0.0, time_major: bool = False, single: bool = False) -> Layer:
    code, options = ("LSTM", "LSTMOptions") if single else ("UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions")
    layer = Layer(code, options, time_major, FusedActivationFunction=4, CellClip=clip)
    operands, w = lstm_weights(coupled, peephole)
    state = (BATCH, HIDDEN)
    layer.single = single
    if single:
        layer.shape = (BATCH, SIZE)
    shape = (BATCH, HIDDEN) if single else (*layer.shape[:2], HIDDEN)
    layer.finish([*operands, None, None, state, state, *([None] * 4)], [shape])
    layer.runs = [lstm_run(w, clip)]
    return layer


def both_lstm(merged: bool) -> Layer:
    layer = Layer("BIDIRECTIONAL_SEQUENCE_LSTM", "BidirectionalSequenceLSTMOptions", FusedActivationFunction=4, MergeOutputs=merged)
    (forward, fw), (backward, bw) = (lstm_weights(False, False) for _ in range(2))
    results = [(BATCH, STEPS, 2 * HIDDEN)] if merged else [(BATCH, STEPS, HIDDEN)] * 2
    layer.finish([*forward, None, None, *backward, None, None, *([(BATCH, HIDDEN)] * 4), *([None] * 9)], results)
    layer.runs = [lstm_run(fw, 0), lstm_run(bw, 0, True)]
    return layer


def rnn(time_major: bool = False, single: bool = False) -> Layer:
    layer = Layer("RNN" if single else "UNIDIRECTIONAL_SEQUENCE_RNN", "RNNOptions" if single else "SequenceRNNOptions", time_major, FusedActivationFunction=4)
    w = [weights(HIDDEN, SIZE), weights(HIDDEN, HIDDEN), weights(HIDDEN)]
    layer.single = single
    if single:
        layer.shape = (BATCH, SIZE)
    layer.finish([*w, (BATCH, HIDDEN)], [(BATCH, HIDDEN) if single else (*layer.shape[:2], HIDDEN)])
    layer.runs = [rnn_run(w)]
    return layer


def both_rnn(merged: bool) -> Layer:
    layer = Layer("BIDIRECTIONAL_SEQUENCE_RNN", "BidirectionalSequenceRNNOptions", FusedActivationFunction=4, MergeOutputs=merged)
    forward, backward = ([weights(HIDDEN, SIZE), weights(HIDDEN, HIDDEN), weights(HIDDEN)] for _ in range(2))
    results = [(BATCH, STEPS, 2 * HIDDEN)] if merged else [(BATCH, STEPS, HIDDEN)] * 2
    layer.finish([*forward, (BATCH, HIDDEN), *backward, (BATCH, HIDDEN), None, None, None], results)
    layer.runs = [rnn_run(forward), rnn_run(backward, True)]
    return layer


def svdf(rank: int, with_bias: bool = True) -> Layer:
    """tensorflow/lite/kernels/internal/reference/svdf.h, with relu."""
    layer = Layer("SVDF", "SVDFOptions", Rank=rank, FusedActivationFunction=1)
    layer.single, layer.shape = True, (BATCH, SIZE)
    filters, memory = 6, 4
    features, times, bias = weights(filters, SIZE), weights(filters, memory), weights(filters // rank) if with_bias else None
    layer.finish([features, times, bias, (BATCH, memory * filters)], [(BATCH, filters // rank)])
    state = np.zeros((BATCH, filters, memory))

    def run(x: Array) -> Array:
        state[:, :, :-1] = state[:, :, 1:].copy()
        state[:, :, -1] = x[:, 0] @ features.T
        found = (state * times).sum(2).reshape(BATCH, filters // rank, rank).sum(2)
        return np.maximum(found + (0 if bias is None else bias), 0)[:, None]

    layer.runs = [run]
    return layer


#: By name; every one makes a new layer with its state at the beginning.
LAYERS: dict[str, Callable[[], Layer]] = {
    "lstm": lstm, "lstm coupled": lambda: lstm(coupled=True), "lstm peephole": lambda: lstm(peephole=True, clip=0.3), "lstm coupled peephole": lambda: lstm(True, True),
    "lstm time major": lambda: lstm(time_major=True), "lstm one step": lambda: lstm(single=True), "lstm both": lambda: both_lstm(False),
    "lstm merged": lambda: both_lstm(True), "rnn": rnn, "rnn time major": lambda: rnn(True), "rnn one step": lambda: rnn(single=True),
    "rnn both": lambda: both_rnn(False), "rnn merged": lambda: both_rnn(True), "svdf": lambda: svdf(1), "svdf rank": lambda: svdf(2, False),
}  # fmt: skip
