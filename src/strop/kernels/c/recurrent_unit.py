"""What a recurrent layer does with a vector of units once the products of a step are there: gates, cell, state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.ir.expr import Expr, Input
from strop.kernels.c.rows import Track
from strop.kernels.c.vector import VectorC
from strop.kernels.c.writer import Writer
from strop.ops.recurrent import GRU, LSTM, RNN, Recurrent


@dataclass(frozen=True)
class Rows:
    """How the rows of a tile lie; the C variables ``x_row``, ``y_row`` and the buffers' names point to the tile's first unit.

    Attributes:
        op: the layer.
        hidden: units.
        padded: elements between rows of a buffer in scratch, and between slots.
        slots: names of the vectors in ``added``: what is added to the sum of gate i, ``b{i}``, and to its product only,
            ``r{i}``; peephole weights ``p{i}``.
        x: elements between neighbouring units of x.
        y: the same of the first result.
    """

    op: Recurrent
    hidden: int
    padded: int
    slots: tuple[str, ...]
    x: int
    y: int

    def at(self, buffer: str, at: str) -> str:
        """C text of an address in row ``r`` of a buffer."""
        return f"{buffer} + r * {self.padded}" + (f" + {at}" if at != "0" else "")


class Unit:
    """Writes what happens to one vector of units of row ``r`` after the product.

    Args:
        rows: how they lie.
        w: where to write.
        at: first unit, counted from the tile's.
        tail: lanes that are used; 0 is all.
        products: C text of the products, by gate.
    """

    def __init__(self, rows: Rows, w: Writer, at: str, tail: int, products: dict[int, str]) -> None:
        self.rows, self.w, self.at, self.tail, self.products = rows, w, at, tail, products
        self.texts: list[str] = []

    def input(self, text: str) -> Expr:
        """An operand of expressions, by its C text."""
        if text not in self.texts:
            self.texts.append(text)
        return Input(self.texts.index(text))

    def buffer(self, name: str) -> Expr:
        """A vector of a buffer in scratch."""
        return self.input(f"vload({self.rows.at(name, self.at)})")

    def slot(self, name: str) -> Expr | None:
        """A vector of ``added``."""
        if name not in self.rows.slots:
            return None
        offset = self.rows.slots.index(name) * self.rows.padded + int(self.at)
        return self.input(f"vload(added + {offset})" if offset else "vload(added)")

    def product(self, gate: int) -> Expr:
        """The state times the gate's weights, with the bias that belongs to this product only."""
        bias = self.slot(f"r{gate}")
        found = self.input(self.products[gate])
        return found if bias is None else found + bias

    def fed(self, gate: int) -> Expr:
        """What x adds to the gate's sum."""
        offset = gate * self.rows.hidden + int(self.at)
        found = self.input(Track("x_row", self.rows.x).load(str(offset), self.tail))
        bias = self.slot(f"b{gate}")
        return found if bias is None else found + bias

    def total(self, gate: int) -> Expr:
        """The gate's sum."""
        return self.product(gate) + self.fed(gate)

    def store(self, buffer: str, text: str) -> None:
        """Stores a vector in a buffer."""
        self.w(f"vstore({self.rows.at(buffer, self.at)}, {text});")

    def write(self, d: int, number: int) -> None:
        """Everything for a pass of direction ``d``."""
        op = self.rows.op
        first = number == 0
        if isinstance(op, LSTM):
            self._lstm(op, d)
            return
        if isinstance(op, GRU) and not op.linear_before_reset and first:
            self._gates(op, d)
            return
        if isinstance(op, GRU):
            if op.linear_before_reset:
                z = op.gate(d, self.total(0))
                new = op.gate(d, self.total(1)) * self.product(2) + self.fed(2)
            else:
                z, new = self.buffer("update"), self.total(2)
            state = op.hidden(d, z, new, self.buffer("state"))
        else:
            assert isinstance(op, RNN)
            state = op.hidden(d, self.total(0))
        self._finish(self._printed([("state_now", state)]))

    def _lstm(self, op: LSTM, d: int) -> None:
        sums = [self.total(gate) for gate in range(4)]
        peepholes = [p for p in (self.slot(f"p{i}") for i in range(3)) if p is not None]
        cell = op.cell(d, sums, self.buffer("cell"), peepholes)
        now = self.input("cell_now")
        state = op.hidden(d, sums[1], now, peepholes)
        text = self._printed([("cell_now", cell), ("state_now", state)])
        self.store("cell", "cell_now")
        self._finish(text)

    def _gates(self, op: GRU, d: int) -> None:
        """The first pass of a GRU that resets before the product."""
        z, r = op.gate(d, self.total(0)), op.gate(d, self.total(1)) * self.buffer("state")
        self._printed([("z", z), ("kept", r)])
        self.store("update", "z")
        self.store("reset", "kept")

    def _printed(self, values: Sequence[tuple[str, Expr]]) -> str:
        """Computes variables; returns the last one's name."""
        printer = VectorC([dt.f32] * len(self.texts), lambda i: self.texts[i], self.w)
        for name, value in values:
            text = printer.print(value)
            self.w(f"const vf {name} = {text};")
        return values[-1][0]

    def _finish(self, state: str) -> None:
        self.store("fresh", state)
        self.w(Track("y_row", self.rows.y).store(self.at, state, self.tail))
