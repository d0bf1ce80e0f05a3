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


# ---- integers

#: Scales of the input, the state and the cell, and zero points of the first two.
X_SCALE, H_SCALE, C_SCALE, X_ZERO, H_ZERO = 0.02, 1 / 128, 2.0**-11, -7, 3


def _whole(value: Array, low: int = -32768, high: int = 32767) -> Array:
    """Rounded as integers of 16 bits, or fewer."""
    return np.clip(np.rint(value), low, high)


class IntegerLSTM(Layer):
    """An LSTM of 8-bit integers, in integers: tensorflow/lite/kernels/lstm_eval.cc, LstmStepInteger8x8_16."""

    def __init__(self, coupled: bool = False, peephole: bool = False, clip: float = 0.0, time_major: bool = False, single: bool = False, grids: bool = False) -> None:
        code, options = ("LSTM", "LSTMOptions") if single else ("UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions")
        super().__init__(code, options, time_major, FusedActivationFunction=4, CellClip=clip)
        self.single, self.clip, self.coupled = single, clip, coupled
        self.made = (0.009, -2) if grids else (H_SCALE, H_ZERO)
        gates = "fco" if coupled else "ifco"
        rng = np.random.default_rng(5)
        self.scales = {name: float(rng.uniform(0.004, 0.009)) for name in (*gates, *(f"r{g}" for g in gates))}
        self.w = {name: rng.integers(-127, 128, (HIDDEN, HIDDEN if name[0] == "r" else SIZE)).astype(np.int8) for name in self.scales}
        self.b = {g: rng.integers(-3000, 3000, HIDDEN).astype(np.int32) for g in gates}
        self.p = {g: rng.integers(-9000, 9000, HIDDEN).astype(np.int16) for g in ("fo" if coupled else "ifo")} if peephole else {}
        self.h, self.c = np.full((BATCH, HIDDEN), H_ZERO), np.zeros((BATCH, HIDDEN))
        main = self.main
        self.shape = (BATCH, SIZE) if single else self.shape
        numbers = [main.input("x", self.shape, "INT8", scale=X_SCALE, zero=X_ZERO)]
        numbers += [main.const(self.w[n], scale=self.scales[n]) if n in self.w else -1 for n in ("i", "f", "c", "o", "ri", "rf", "rc", "ro")]
        numbers += [main.const(self.p[g], scale=2.0**-14) if g in self.p else -1 for g in "ifo"]
        numbers += [main.const(self.b[g], scale=self.scales[g] * X_SCALE) if g in self.b else -1 for g in "ifco"] + [-1, -1]
        numbers.append(main.tensor("h", (BATCH, HIDDEN), "INT8", scale=H_SCALE, zero=H_ZERO, variable=True))
        numbers += [main.tensor("c", (BATCH, HIDDEN), "INT16", scale=C_SCALE, zero=0, variable=True), -1, -1, -1, -1]
        main.outputs = [main.tensor("y0", (BATCH, HIDDEN) if single else (*self.shape[:2], HIDDEN), "INT8", scale=0.02 if grids else H_SCALE, zero=H_ZERO)]
        between = [main.tensor(f"between_{k}", (1,), "INT8", scale=self.made[0], zero=self.made[1]) for k in range(5)] if grids else []
        main.op(code, numbers, main.outputs, options, intermediates=between, **({} if single else {"TimeMajor": time_major}), **self.values)

    def _gate(self, g: str, x: Array) -> Array:
        """Units of 2^-12."""
        own = ((x - X_ZERO) @ self.w[g].T.astype(np.int64) + self.b[g]) * (self.scales[g] * X_SCALE * 4096)
        return _whole(_whole(own) + _whole((self.h - H_ZERO) @ self.w[f"r{g}"].T.astype(np.int64) * (self.scales[f"r{g}"] * H_SCALE * 4096)))

    def _opened(self, g: str, x: Array) -> Array:
        """Of a gate that sees the cell, units of 2^-15."""
        total = self._gate(g, x)
        if g in self.p:
            total = _whole(total + _whole(self.p[g] * 2.0**-14 * self.c * C_SCALE * 4096))
        return _whole(_sigmoid(total / 4096) * 32768)

    def run(self, x: Array) -> list[Array]:
        """Integers [B, S, I] to integers [B, S, H]."""
        found = np.zeros((*x.shape[:2], HIDDEN), np.int8)
        for t in range(x.shape[1]):
            at = x[:, t].astype(np.int64)
            f, g = self._opened("f", at), _whole(np.tanh(self._gate("c", at) / 4096) * 32768)
            i = 32767 - f if self.coupled else self._opened("i", at)
            self.c = _whole(_whole(f * self.c / 32768) + _whole(i * g * 2.0**-30 / C_SCALE))
            if self.clip:
                self.c = np.clip(self.c, -int(self.clip / C_SCALE), int(self.clip / C_SCALE))
            y = self._opened("o", at) * _whole(np.tanh(self.c * C_SCALE) * 32768) * 2.0**-30
            self.h = _whole(_whole(y / self.made[0]) + self.made[1], -128, 127).astype(np.int64)
            found[:, t] = self.h
        return [found]


#: By name.
INTEGER_LAYERS: dict[str, Callable[[], IntegerLSTM]] = {
    "lstm": IntegerLSTM, "coupled": lambda: IntegerLSTM(coupled=True), "peephole": lambda: IntegerLSTM(peephole=True, clip=0.4),
    "coupled peephole": lambda: IntegerLSTM(True, True), "time major": lambda: IntegerLSTM(time_major=True), "one step": lambda: IntegerLSTM(single=True),
    "grids of their own": lambda: IntegerLSTM(grids=True),
}  # fmt: skip
