"""An LSTM of TFLite in integers: 8-bit input, weights and state, 16-bit gates and cell.

Every result is rounded where LiteRT's kernel rounds it: sums of gates to 2^-12, gates and tanh to 2^-15, the cell to its grid, what becomes the state to that of the fifth
intermediate tensor. These integers are the state's and the result's, whose grids may say otherwise what they stand for. Source:
tensorflow/lite/kernels/lstm_eval.cc (LstmStepInteger8x8_16) and unidirectional_sequence_lstm.cc (PopulateQuantizedLstmParams8x8_16).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.grid import Grid
from strop.frontend.tflite.state import state_of
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.op import Array
from strop.ops.data import Concat, Split
from strop.ops.matmul import MatMul
from strop.ops.quantize import Dequantize, Quantize

#: Most steps of a sequence, which are written one by one.
MAX_STEPS = 512
#: Units of the sums of gates and of what lies between -1 and 1.
SUM, UNIT = 2.0**-12, 2.0**-15
_ORDER = "ifco"


@dataclass
class IntegerLSTM:
    """One layer.

    Attributes:
        node: the operator.
        first: number of the operand with the first of its weights (see ``ops_recurrent``).
        states: numbers of the operands with the state and the cell.
        clip: largest amount of the cell; 0 for none.
    """

    node: NodeContext
    first: int
    states: tuple[int, int]
    clip: float

    def __post_init__(self) -> None:
        node = self.node
        self.coupled = not node.has(self.first)
        self.gates = "fco" if self.coupled else "ifco"
        self.state, self.cell = state_of(node, self.states[0], dt.i8), state_of(node, self.states[1], dt.i16)
        grids = [node.grid(k) for k in self.states]
        if any(g is None or g.scale.size != 1 for g in grids) or np.any(grids[1].zero):  # type: ignore[union-attr]
            raise node.malformed("the state or the cell has no scale of its own, or the cell has a zero point")
        self.grid, self.cell_grid = grids[0], grids[1]
        self.made = node.intermediate(4) or grids[0]
        (self.size,) = sh.static(self.state.given.shape[-1:], node.where)

    def run(self, x: Value, axis: int) -> Value:
        """All steps over x, real numbers [.., I] with the steps along ``axis``; the states, i8, in their place."""
        node = self.node
        (steps,) = sh.static((x.shape[axis],), node.where)
        if not 1 <= steps <= MAX_STEPS:
            raise node.unsupported("this number of steps is not supported in integers", got=steps, expected=f"1 to {MAX_STEPS}")
        bias = node.step(Concat(0), *(self._bias(g) for g in self.gates))
        sums = self._rounded(node.apply("add", node.step(MatMul(transpose_b=True), x, self._weights(self.first)), bias), SUM)
        parts = node.steps(Split(axis, (1,) * steps), sums) if steps > 1 else [sums]
        recurrent = self._weights(self.first + 4)
        h, c = self._read(self.state.value, self.grid), self._read(self.cell.value, self.cell_grid)
        found = []
        for part in parts:
            batch = self.state.given.shape[0]
            stored, c = self._step(node.reshape(part, (batch, len(self.gates) * self.size)), recurrent, h, c)
            h = self._read(stored, self.grid)
            found.append(node.reshape(stored, (batch, 1, self.size) if axis else (1, batch, self.size)))
        self.state.value = stored
        self.cell.value = self._stored(c, float(self.cell_grid.scale[0]), dt.i16)  # type: ignore[union-attr]
        return node.step(Concat(axis), *found) if steps > 1 else found[0]

    # ---- operands

    def _weights(self, at: int) -> Value:
        """Weights of all gates, one below the other."""
        node = self.node
        parts, scales = [], []
        for gate in self.gates:
            index = at + _ORDER.index(gate)
            grid, array = node.grid(index), node.array(index, "weights")
            if grid is None or grid.scale.size != 1 or array.dtype != np.int8 or grid.zero.any() or array.ndim != 2 or array.shape[0] != self.size:
                raise node.unsupported("weights of this kind are not supported beside integers", got=node.tensor(index).type, expected="INT8 of one scale, around 0")
            parts.append(array)
            scales.append(np.repeat(grid.scale, len(array)))
        whole = np.concatenate(scales)
        return node.dequantized(node.const(np.concatenate(parts)), Grid(whole, np.zeros(whole.size, np.int64), 0))

    def _bias(self, gate: str) -> Value:
        place = _ORDER.index(gate)
        found = self.node.bias(self.first + 11 + place, 0, self.first + place)
        return self.node.const(np.zeros(self.size, np.float32)) if found is None else found

    def _seen(self, gate: str, total: Value, cell: Value) -> Value:
        """A gate's sum with what it sees of the cell."""
        index = self.first + 8 + "ifo".index(gate)
        if not self.node.has(index):
            return total
        return self._sum(total, self._rounded(self.node.apply("mul", self.node.floats(index), cell), SUM))

    # ---- rounding

    def _stored(self, value: Value, scale: float, dtype: dt.DType, zero: Array | None = None) -> Value:
        node = self.node
        params = [node.scalar(scale, dt.f32)]
        if zero is not None and zero.any():
            params.append(node.const(zero.reshape(()).astype(dtype.numpy)))
        return node.step(Quantize(dtype), value, *params)

    def _rounded(self, value: Value, scale: float) -> Value:
        """On a grid of 16 bits around 0."""
        return self.node.step(Dequantize(), self._stored(value, scale, dt.i16), self.node.scalar(scale, dt.f32))

    def _read(self, stored: Value, grid: Grid | None) -> Value:
        assert grid is not None
        return self.node.dequantized(stored, grid)

    def _sum(self, a: Value, b: Value, unit: float = SUM) -> Value:
        """Of two numbers of one grid of 16 bits; what is too large becomes the largest."""
        return self.node.apply("clip", self.node.apply("add", a, b), lo=-32768 * unit, hi=32767 * unit)

    # ---- a step

    def _step(self, sums: Value, recurrent: Value, h: Value, c: Value) -> tuple[Value, Value]:
        """The next state as it is stored, and the next cell."""
        node, unit = self.node, float(self.cell_grid.scale[0])  # type: ignore[union-attr]
        total = self._sum(sums, self._rounded(node.step(MatMul(transpose_b=True), h, recurrent), SUM))
        gate = dict(zip(self.gates, node.steps(Split(1, (self.size,) * len(self.gates)), total), strict=True))
        forget = self._rounded(node.apply("sigmoid", self._seen("f", gate["f"], c)), UNIT)
        fresh = self._rounded(node.apply("tanh", gate["c"]), UNIT)
        if self.coupled:
            taken = node.apply("sub", node.scalar(32767 * UNIT, dt.f32), forget)
        else:
            taken = self._rounded(node.apply("sigmoid", self._seen("i", gate["i"], c)), UNIT)
        kept = self._rounded(node.apply("mul", forget, c), unit)
        c = self._sum(kept, self._rounded(node.apply("mul", taken, fresh), unit), unit)
        if self.clip > 0:
            most = min(int(self.clip / unit), 32767) * unit
            c = node.apply("clip", c, lo=-most, hi=most)
        opened = self._rounded(node.apply("sigmoid", self._seen("o", gate["o"], c)), UNIT)
        y = node.apply("mul", opened, self._rounded(node.apply("tanh", c), UNIT))
        assert self.made is not None
        return self._stored(y, float(self.made.scale[0]), dt.i8, self.made.zero), c
