"""Recurrent layers (TensorRT's RNNv2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from strop.errors import OptionError, ShapeError
from strop.frontend.network.layer import Emitter, Layer, Tensor
from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ir.op import Array
from strop.ops import recurrent
from strop.ops.data import Concat
from strop.ops.data import Slice as SliceOp

#: Operation to its gates, in the order of the op's weights.
GATES = {
    "relu": ("input",),
    "tanh": ("input",),
    "lstm": ("input", "output", "forget", "cell"),
    "gru": ("update", "reset", "hidden"),
}


@dataclass(eq=False)
class RNN(Layer):
    """A stack of recurrent layers over x [.., S, E] with at most one axis before, the samples.

    Operands: x, optionally lengths i32 [..] (steps of every sample), the first states [.., L, H], and for LSTM the first cells. L counts
    both directions of a bidirectional layer.
    Results: the last layer's states of every step [.., S, H], both directions side by side; the last states [.., L, H]; for LSTM the
    last cells.

    Formulas are those of ONNX's layers of the name, GRU with the linear part before the reset (TensorRT, RNNOperation).

    Attributes:
        layers: how many.
        hidden: H.
        steps: the most that S may be.
        op: relu, tanh, lstm or gru.
        bidirectional: a second direction per layer.
        skip_input: the first layer takes x as it is for all gates, without weights; E is H.
    """

    kind: ClassVar[str] = "RNN"
    arity: ClassVar[tuple[int, int | None]] = (1, 4)

    layers: int
    hidden: int
    steps: int
    op: str
    bidirectional: bool = False
    skip_input: bool = False
    _weights: dict[tuple[int, str, bool], Array] = field(default_factory=dict, repr=False)
    _biases: dict[tuple[int, str, bool], Array] = field(default_factory=dict, repr=False)

    def results(self) -> int:
        return 3 if self.op == "lstm" else 2

    def check(self) -> None:
        if self.op not in GATES:
            raise OptionError("unknown recurrent operation", where=self.name, got=self.op, expected=", ".join(GATES))
        if min(self.layers, self.hidden, self.steps) < 1:
            raise ShapeError("sizes must be positive", where=self.name, got=(self.layers, self.hidden, self.steps))

    def set_weights(self, layer: int, gate: str, is_input: bool, array: Any) -> None:
        """Weights of a gate, [H, size]: ``is_input`` those that multiply the layer's input, else those for its state.

        Layers of two directions have two numbers, 2 l and 2 l + 1.
        """
        self._weights[self._key(layer, gate, is_input)] = np.asarray(array)
        self._changed()

    def set_bias(self, layer: int, gate: str, is_input: bool, array: Any) -> None:
        """Biases of a gate, [H]; those that are not given are 0."""
        self._biases[self._key(layer, gate, is_input)] = np.asarray(array)
        self._changed()

    def set_operand(self, role: str, tensor: Tensor) -> None:
        """Gives ``lengths``, ``state`` or ``cell`` as a tensor."""
        self.set_input(("x", "lengths", "state", "cell").index(role), tensor)

    def _changed(self) -> None:
        if self._network is not None:
            self._network.layer_changed(self)

    def _key(self, layer: int, gate: str, is_input: bool) -> tuple[int, str, bool]:
        count = self.layers * self._directions
        if not 0 <= layer < count or gate not in GATES[self.op]:
            raise ShapeError(
                "no such gate", where=self.name, got=f"layer {layer}, gate {gate}", expected=f"layer 0..{count - 1}, gate {', '.join(GATES[self.op])}"
            )
        return layer, gate, is_input

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    # ---- emission

    def emit(self, e: Emitter, *inputs: Value) -> list[Value]:
        x, lengths, state, cell = [*inputs, None, None, None][:4]
        assert x is not None
        if x.type.rank not in (2, 3):
            raise e.fail("input has the wrong rank", x.type, "[S, E] or [N, S, E]")
        steps = x.shape[-2]
        if isinstance(steps, int) and steps > self.steps:
            raise e.fail("more steps than the layer was made for", steps, self.steps)
        lone = x.type.rank == 2
        if lone:
            x = e.reshape(x, (1, *x.shape))
        samples = x.shape[0]
        if lengths is not None:
            lengths = e.reshape(e.cast(lengths, dt.i32), (samples,))
        states = [None if s is None else self._first(e, s, lone) for s in (state, cell)]
        y = e.transpose(x, (1, 0, 2))
        ends: list[list[Value]] = []
        for layer in range(self.layers):
            y, last = self._layer(e, y, layer, lengths, states)
            ends.append(last)
        found = [e.transpose(y, (1, 0, 2))]
        for k in range(len(ends[0])):
            whole = ends[0][k] if self.layers == 1 else e(Concat(0), *(end[k] for end in ends))
            found.append(e.transpose(whole, (1, 0, 2)))
        return [e.reshape(v, v.shape[1:]) for v in found] if lone else found

    def _first(self, e: Emitter, state: Value, lone: bool) -> Value:
        """[N, L, H] to [L, N, H]."""
        whole = e.reshape(state, (1, *state.shape)) if lone and state.type.rank == 2 else state
        if whole.type.rank != 3:
            raise e.fail("a first state has the wrong rank", state.type, "[.., L, H]")
        return e.transpose(whole, (1, 0, 2))

    def _layer(self, e: Emitter, x: Value, layer: int, lengths: Value | None, states: list[Value | None]) -> tuple[Value, list[Value]]:
        d = self._directions
        size = x.shape[-1]
        if not isinstance(size, int):
            raise e.unsupported("a free size of the input", got=x.type)
        numbers = range(layer * d, layer * d + d)
        w, r, b = (e.const(a, x.dtype) for a in self._stacked(numbers, size))
        first = [None if s is None else e(SliceOp((layer * d,), (layer * d + d,), (0,), (1,)), s) for s in states]
        op = self._op()
        given = dict(zip(("x", "w", "r", "b", "lens", "h0", "c0"), (x, w, r, b, lengths, *first)))
        y, *last = e.all(op, *(given.get(name) for name in op.operand_names))
        steps, _, samples, hidden = y.shape
        if d == 1:
            return e.reshape(y, (steps, samples, hidden)), last
        turned = e.transpose(y, (0, 2, 1, 3))
        return e.reshape(turned, (steps, samples, 2 * self.hidden)), last

    def _op(self) -> recurrent.Recurrent:
        direction = "bidirectional" if self.bidirectional else "forward"
        if self.op == "lstm":
            return recurrent.LSTM(direction, recurrent.LSTM.usual() * self._directions)
        if self.op == "gru":
            return recurrent.GRU(direction, recurrent.GRU.usual() * self._directions, linear_before_reset=True)
        return recurrent.RNN(direction, (recurrent.activation(self.op),) * self._directions)

    def _stacked(self, numbers: range, size: int) -> tuple[Array, Array, Array]:
        """w [D, G H, I], r [D, G H, H] and b [D, 2 G H] of one layer."""
        h, gates = self.hidden, GATES[self.op]
        skipped = self.skip_input and numbers[0] < self._directions
        if skipped and size != h:
            raise ShapeError("a layer without input weights needs inputs of the size of its state", where=self.name, got=size, expected=h)
        w, r, b = [], [], []
        for number in numbers:
            w.append(np.concatenate([np.eye(h) if skipped else self._matrix(number, g, True, size) for g in gates]))
            r.append(np.concatenate([self._matrix(number, g, False, h) for g in gates]))
            b.append(np.concatenate([self._vector(number, g, is_input) for is_input in (True, False) for g in gates]))
        return np.stack(w), np.stack(r), np.stack(b)

    def _matrix(self, number: int, gate: str, is_input: bool, size: int) -> Array:
        found = self._weights.get((number, gate, is_input))
        where = f"layer {number}, gate {gate}, {'input' if is_input else 'state'}"
        if found is None:
            raise ShapeError("weights are missing", where=self.name, got=where)
        if found.size != self.hidden * size:
            raise ShapeError("weights have the wrong number of elements", where=f"{self.name}, {where}", got=found.size, expected=f"{self.hidden} x {size}")
        return found.reshape(self.hidden, size)

    def _vector(self, number: int, gate: str, is_input: bool) -> Array:
        found = self._biases.get((number, gate, is_input))
        if found is None or found.size == 0:
            return np.zeros(self.hidden)
        if found.size != self.hidden:
            raise ShapeError("biases have the wrong number of elements", where=self.name, got=found.size, expected=self.hidden)
        return found.reshape(-1)
