"""Recurrent layers over a known number of steps as products and elementwise ops, step by step.

Before: y, y_h = lstm(x[S, B, I], w, r, b).
After: the product of all steps' inputs with w, cut into steps; per step the product of the state with r, gates, the next state; y joined of states.
Unless: weights are computed, samples end at steps of their own, or there are too many steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strop.export.apart import Apart
from strop.ir.graph import Value
from strop.ir.op import Array
from strop.ops.data import Concat, Slice, Split
from strop.ops.matmul import MatMul
from strop.ops.recurrent import GRU, LSTM, RNN, Recurrent

#: Most steps that are written one by one.
MOST_STEPS = 512


def recurrent(a: Apart) -> Sequence[Value] | None:
    """The results of a recurrent layer."""
    op, x = a.node.op, a.node.operand(0)
    assert isinstance(op, Recurrent)
    steps = x.shape[0]
    given = {name: a.node.operand(k) for k, name in enumerate(op.operand_names) if a.node.has(k) and a.node.operand(k).shape != (0,)}
    known = [given[name].const for name in ("w", "r", "b", "p") if name in given]
    if op.projected or "lens" in given or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS or any(array is None for array in known):
        return None
    walks = [_Walk(a, op, given, d).run(steps) for d in range(op.directions)]
    results = [_joined(a, [walk[0] for walk in walks], 1)]
    return [*results, *(_joined(a, [walk[1 + k] for walk in walks], 0) for k in range(len(op.states)))]


def _joined(a: Apart, values: Sequence[Value], axis: int) -> Value:
    return values[0] if len(values) == 1 else a.step(Concat(axis), *values)


@dataclass
class _Walk:
    """One direction of a layer."""

    a: Apart
    op: Recurrent
    given: dict[str, Value]
    d: int

    def __post_init__(self) -> None:
        self.weights = self._array("r")
        self.hidden = self.weights.shape[1]

    def run(self, steps: int) -> list[Value]:
        """y [S, 1, B, H], then the states [1, B, H] after the last step."""
        a, batch = self.a, self.given["x"].shape[1]
        sums = self._steps(steps)
        h, c = (self._state(name) for name in ("h0", "c0"))
        outputs: dict[int, Value] = {}
        for t in range(steps - 1, -1, -1) if self.op.reversed(self.d) else range(steps):
            h, c = self._step(sums[t], h, c)
            outputs[t] = a.reshape(h, (1, 1, batch, self.hidden))
        y = _joined(a, [outputs[t] for t in range(steps)], 0)
        assert h is not None
        last = [h, c] if len(self.op.states) > 1 and c is not None else [h]
        return [y, *(a.reshape(v, (1, batch, self.hidden)) for v in last)]

    def _array(self, name: str) -> Array:
        found = self.given[name].const
        assert found is not None
        part: Array = found[self.d]
        return part

    def _const(self, array: Array) -> Value:
        return self.a.const(np.ascontiguousarray(array))

    def _steps(self, steps: int) -> list[Value]:
        """[B, G H] per step: what feeds the gates beside the state."""
        a, op, x = self.a, self.op, self.given["x"]
        sums = a.step(MatMul(), x, self._const(self._array("w").T))
        if "b" in self.given:
            first, second = np.split(self._array("b"), 2)
            rows = second.reshape(op.gates, -1) * np.array([op.bias_in_sum(gate) for gate in range(op.gates)], second.dtype)[:, None]
            sums = a.apply("add", sums, self._const((first + rows.reshape(-1)).astype(first.dtype)))
        parts = [sums]
        if steps > 1:
            cut = a.graph.add(Split(0, (1,) * steps), [sums], name=f"{a.node.name}.steps", source=a.node.source, before=a.node)
            parts = cut.outputs
        return [a.reshape(part, part.shape[1:]) for part in parts]

    def _state(self, name: str) -> Value | None:
        """[B, H]; None for zeros."""
        if name not in self.given:
            return None
        whole = self.given[name]
        one = whole if whole.shape[0] == 1 else self.a.step(Slice((self.d,), (self.d + 1,), (0,), (1,)), whole)
        return self.a.reshape(one, whole.shape[1:])

    def _act(self, k: int, value: Value, clipped: bool = True) -> Value:
        """Activation k of a sum, which is clipped before."""
        if clipped and math.isfinite(self.op.clip):
            value = self.a.apply("clip", value, lo=-self.op.clip, hi=self.op.clip)
        return self.a.apply_activation(value, *self.op.activations[self.d * self.op.functions + k])

    def _plus(self, value: Value, state: Value | None, weights: Array) -> Value:
        """value + state weights^T"""
        return value if state is None else self.a.apply("add", value, self.a.step(MatMul(), state, self._const(weights.T)))

    def _gates(self, value: Value, count: int) -> list[Value]:
        a = self.a
        return a.graph.add(Split(1, (self.hidden,) * count), [value], name=f"{a.node.name}.gates", source=a.node.source, before=a.node).outputs

    def _step(self, sums: Value, h: Value | None, c: Value | None) -> tuple[Value, Value | None]:
        """State and cell after a step."""
        if isinstance(self.op, LSTM):
            return self._lstm(self.op, sums, h, c)
        if isinstance(self.op, GRU):
            return self._gru(self.op, sums, h), None
        assert isinstance(self.op, RNN)
        return self._act(0, self._plus(sums, h, self.weights)), None

    def _gru(self, op: GRU, sums: Value, h: Value | None) -> Value:
        a, size = self.a, self.hidden
        z, r, n = self._gates(sums, 3)
        z = self._act(0, self._plus(z, h, self.weights[:size]))
        if op.linear_before_reset:
            bias = self._const(self._array("b")[5 * size :]) if "b" in self.given else None
            product = None if h is None else a.step(MatMul(), h, self._const(self.weights[2 * size :].T))
            if bias is not None:
                product = bias if product is None else a.apply("add", product, bias)
            if product is not None:
                r = self._act(0, self._plus(r, h, self.weights[size : 2 * size]))
                n = a.apply("add", n, a.apply("mul", r, product))
        elif h is not None:
            r = self._act(0, self._plus(r, h, self.weights[size : 2 * size]))
            n = self._plus(n, a.apply("mul", r, h), self.weights[2 * size :])
        fresh = a.apply("mul", a.apply("sub", 1.0, z), self._act(1, n))
        return fresh if h is None else a.apply("add", fresh, a.apply("mul", z, h))

    def _lstm(self, op: LSTM, sums: Value, h: Value | None, c: Value | None) -> tuple[Value, Value]:
        a = self.a
        i, o, f, n = self._gates(self._plus(sums, h, self.weights), 4)
        holes = [self._const(part) for part in np.split(self._array("p"), 3)] if "p" in self.given else []

        def seen(gate: Value, place: int, cell: Value | None) -> Value:
            return gate if cell is None or not holes else a.apply("add", gate, a.apply("mul", holes[place], cell))

        i = self._act(0, seen(i, 0, c))
        cell = a.apply("mul", i, self._act(1, n))
        if c is not None:
            f = a.apply("sub", 1.0, i) if op.input_forget else self._act(0, seen(f, 2, c))
            cell = a.apply("add", a.apply("mul", f, c), cell)
        if math.isfinite(op.cell_clip):
            cell = a.apply("clip", cell, lo=-op.cell_clip, hi=op.cell_clip)
        return a.apply("mul", self._act(0, seen(o, 1, cell)), self._act(2, cell, clipped=False)), cell
