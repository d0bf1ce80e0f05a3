"""What kernels of recurrent layers share: where their tiles are, the states they keep, and what follows the products of a step.

A tile is of samples and units of one direction; a program has all gates of its units, so that activations follow their products at once.
States that programs read of each other lie in the workspace. Sums, cells and the states that are not factors of products are f32.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from strop.ir import dtype as dt
from strop.ir.expr import Expr, Input
from strop.kernels.base import In, Out, Region, View
from strop.kernels.recurrence import operands_of, passes_of
from strop.kernels.triton.emit import (
    VALUE,
    Printer,
    Writer,
    ceil_div,
    loaded,
    masked,
    printable,
    stored,
    wide_of,
)
from strop.kernels.triton.parts import Pointers, is_float
from strop.ops.base import select
from strop.ops.recurrent import GRU, LSTM, RNN, Recurrent
from strop.target.base import Target

#: Most samples whose products are made one by one.
FEW = 8


def refusal(region: Region) -> str | None:
    """Why no kernel of recurrent layers takes a region, None where they do."""
    op = region.op
    if not isinstance(op, Recurrent):
        return "it is no recurrent layer"
    if not op.projected:
        return "x is not multiplied with its weights yet"
    operands = operands_of(region)
    floats = [o.view for name, (_, o) in operands.items() if name != "lens"] + list(region.outs)
    if not is_float(*floats) or len({v.dtype for v in floats}) > 1:
        return "it is not of f32, f16 or bf16"
    if region.out.count == 0:
        return "the result is empty"
    if region.has_epilogue:
        return "it has no epilogue"
    if wide_of(operands["r"][1].view) or 2 * region.outs[1].count >= 1 << 31:
        return "weights or states are too large"
    every = [op.activate(d, k, Input(0)) for d in range(op.directions) for k in range(op.functions)]
    return next((reason for e in every if (reason := printable(e, [dt.f32]))), None)


def op_of(region: Region) -> Recurrent:
    """The layer."""
    assert isinstance(region.op, Recurrent)
    return region.op


class Tiles:
    """The tile of a program, ``bm`` samples of ``bn`` units, and its states; holds what the pieces of one emission share.

    Args:
        private: states that only their own program reads: they are variables ``NAME_kept``, and not in the workspace.

    Attributes:
        grid: programs along three axes.
        buffers: text of the pointer of each buffer in the workspace, [D, B, H].
        workspace: bytes of it.
        inside: conditions under which an element of the tile is there.
    """

    def __init__(self, region: Region, bm: int, bn: int, target: Target, private: Collection[str] = ()) -> None:
        self.region, self.target, self.bm, self.bn = region, target, bm, bn
        self.op = op_of(region)
        self.operands = operands_of(region)
        self.steps, self.directions, self.samples, self.hidden = region.out.shape
        self.dtype = region.out.dtype
        self.lens = "lens" in self.operands
        self.grid = (ceil_div(self.hidden, bn), ceil_div(self.samples, bm), self.directions)
        self.rows_checked, self.units_checked = self.samples % bm != 0, self.hidden % bn != 0
        self.count = self.directions * self.samples * self.hidden
        self.workspace = 0
        self.buffers: dict[str, str] = {}
        self.private = private
        self._buffer("state", 2, self.dtype)
        if isinstance(self.op, GRU) or self.lens:
            self._buffer("exact", 2, dt.f32)
        if isinstance(self.op, LSTM):
            self._buffer("cell", 2, dt.f32)
        if len(passes_of(self.op)) > 1:
            self._buffer("reset", 1, self.dtype)
            self._buffer("update", 1, dt.f32)

    def _buffer(self, name: str, copies: int, dtype: dt.DType) -> None:
        if name in self.private:
            return
        at = f"work + {self.workspace // 4}" if self.workspace else "work"
        self.buffers[name] = at if dtype is dt.f32 else f"({at}).to(tl.pointer_type({VALUE[dtype.name]}))"
        self.workspace += ceil_div(copies * self.count * dtype.size, 256) * 256

    def pointers(self) -> Pointers:
        """Parameters: the operands by their names, and the results."""
        found = Pointers.none()
        for name, (number, operand) in self.operands.items():
            found.add(name, operand.view.dtype, In(number))
        for number, view in enumerate(self.region.outs):
            found.add(("y", "y_h", "y_c")[number], view.dtype, Out(number))
        return found

    # ---- places

    def place(self, w: Writer) -> None:
        """Samples ``m``, units ``j``, the direction ``d``, and where the tile's elements are in a buffer."""
        w(f"j = tl.program_id(0) * {self.bn} + tl.arange(0, {self.bn})", f"m = tl.program_id(1) * {self.bm} + tl.arange(0, {self.bm})")
        w("d = tl.program_id(2)" if self.directions > 1 else "d = 0")
        w(f"own = (d * {self.samples} + m[:, None]) * {self.hidden} + j[None, :]")
        inside = [f"(m < {self.samples})[:, None]"] * self.rows_checked + [f"(j < {self.hidden})[None, :]"] * self.units_checked
        if inside:
            w(f"inside = {' & '.join(inside)}")
        self.inside = ["inside"] if inside else []

    def ends(self, w: Writer) -> None:
        """The steps of every sample, where they differ."""
        if self.lens:
            view = self.operands["lens"][1].view
            mask = f", mask=m < {self.samples}, other=0" if self.rows_checked else ""
            w(f"ends = tl.minimum(tl.maximum(tl.load(lens + m * {view.strides[0]}{mask}), 0), {self.steps})")

    def time(self, w: Writer) -> None:
        """The place ``t`` of step ``s``, which samples are ``live``, and where a step's states come from and go to."""
        w(f"old = s % 2 * {self.count}", f"new = {self.count} - old")
        both = self.directions > 1
        backwards = both or self.op.reversed(0)
        if not self.lens:
            turned = f"{self.steps - 1} - s"
            w(f"t = {f'tl.where(d == 1, {turned}, s)' if both else turned if backwards else 's'}")
            return
        w("live = (s < ends)[:, None]")
        turn = "live & (d == 1)" if both else "live"
        w(f"t = tl.where({turn}, ends[:, None] - 1 - s, s)" if backwards else "t = s")

    def load(self, pointer: str, offset: str, dtype: dt.DType, checks: Sequence[str]) -> str:
        """Text of a load in registers' type."""
        return loaded(f"tl.load({pointer} + {offset}{masked(checks)})", dtype)

    def at_time(self, view: View, unit: str, direction: int, samples: int) -> str:
        """Text of the tile's offset in a value per step: ``unit`` is the index along the last axis."""
        t = "(t + tl.zeros((), tl.int64))" if wide_of(view) else "t"
        terms = [f"{t} * {view.strides[0]}", f"m[:, None] * {view.strides[samples]}", f"({unit})[None, :] * {view.strides[-1]}"]
        return " + ".join([*terms, *([f"d * {view.strides[1]}"] if direction else [])])

    def state_at(self, view: View) -> str:
        """Text of the tile's offset in a [D, B, H] operand or result."""
        a, b, c = view.strides
        return f"d * {a} + m[:, None] * {b} + j[None, :] * {c}"

    def weights_at(self, gate: int, unit: str, term: str) -> str:
        """Text of the offset of weights, from units and terms that are spread over axes."""
        view = self.operands["r"][1].view
        at = f"(j{f' + {gate * self.hidden}' if gate else ''}){unit}"
        return f"d * {view.strides[0]} + {at} * {view.strides[1]} + {term} * {view.strides[2]}"

    # ---- states

    def starts(self, w: Writer) -> None:
        """States before the first step."""
        for name, buffers in zip(self.op.states, (("state", "exact"), ("cell",)), strict=False):
            value = f"tl.zeros(({self.bm}, {self.bn}), tl.float32)"
            if name in self.operands:
                view = self.operands[name][1].view
                value = self.load(name, self.state_at(view), view.dtype, self.inside)
            w(f"{name}_first = {value}")
            for buffer in buffers:
                self.keep(w, buffer, f"{name}_first", "own")

    def keep(self, w: Writer, buffer: str, value: str, at: str) -> None:
        """Keeps the tile of a state that there is."""
        if buffer in self.private:
            w(f"{buffer}_kept = {value}")
        elif buffer in self.buffers:
            dtype = self.dtype if buffer in ("state", "reset") else dt.f32
            w(f"tl.store({self.buffers[buffer]} + {at}, {stored(value, dtype)}{within(self.inside)})")

    def kept(self, buffer: str) -> str:
        """Text of the tile of an f32 state that was kept."""
        if buffer in self.private:
            return f"{buffer}_kept"
        old = "" if buffer == "update" else "old + "
        return f"tl.load({self.buffers[buffer]} + {old}own{masked(self.inside)})"

    def handed(self, w: Writer) -> None:
        """Called where everything is stored that other programs wait for."""


class Unit:
    """Writes what follows the products ``a0``, ``a1``, ... of a pass: gates, cell, state."""

    def __init__(self, tiles: Tiles, w: Writer, number: int) -> None:
        self.all, self.w, self.number = tiles, w, number
        self.texts: list[str] = []
        self.types: list[dt.DType] = []
        self.known: dict[str, Expr] = {}
        #: Gates whose part of x is loaded already.
        self.ahead: set[int] = set()

    def named(self, name: str, text: str = "", dtype: dt.DType = dt.f32) -> Expr:
        """An operand of expressions: a variable, defined once where a text is given."""
        if name not in self.known:
            if text:
                self.w(f"{name} = {text}")
            self.known[name] = Input(len(self.texts))
            self.texts.append(name)
            self.types.append(dtype)
        return self.known[name]

    def buffer(self, name: str) -> Expr:
        """The tile of an f32 buffer."""
        return self.named(f"{name}_old", self.all.kept(name))

    def row(self, name: str, start: int) -> Expr | None:
        """A vector of units of an operand [D, ..] from ``start`` on."""
        if name not in self.all.operands:
            return None
        view = self.all.operands[name][1].view
        at = f"d * {view.strides[0]} + (j{f' + {start}' if start else ''})[None, :] * {view.strides[1]}"
        checks = [f"(j < {self.all.hidden})[None, :]"] * self.all.units_checked
        return self.named(f"{name}_{start}", self.all.load(name, at, view.dtype, checks))

    def constants(self) -> None:
        """Loads what is the same at every step."""
        for name, rows in (("b", 2 * self.all.op.gates), ("p", 3)):
            for row in range(rows):
                self.row(name, row * self.all.hidden)

    def product(self, gate: int) -> Expr:
        """The state times the gate's weights, with the bias that belongs to this product only."""
        op, found = self.all.op, self.named(f"a{gate}")
        bias = None if op.bias_in_sum(gate) else self.row("b", (op.gates + gate) * self.all.hidden)
        return found if bias is None else found + bias

    def fed(self, gate: int) -> Expr:
        """What is added to the gate's sum beside the product."""
        every, op = self.all, self.all.op
        found = self.named(f"x{gate}", loaded(f"x{gate}_ahead" if gate in self.ahead else self._x(gate), every.dtype))
        starts = [gate, *([op.gates + gate] if op.bias_in_sum(gate) else [])]
        for start in starts:
            bias = self.row("b", start * every.hidden)
            found = found if bias is None else found + bias
        return found

    def _x(self, gate: int) -> str:
        """Text of a load of the gate's part of x at the step."""
        every, view = self.all, self.all.operands["x"][1].view
        unit = f"d * {self.all.op.gates * every.hidden} + {gate * every.hidden} + j"
        return f"tl.load(x + {every.at_time(view, unit, 0, 1)}{masked(every.inside)})"

    def fetch(self, gates: Sequence[int]) -> None:
        """Loads what will be fed to gates."""
        for gate in gates:
            self.w(f"x{gate}_ahead = {self._x(gate)}")
            self.ahead.add(gate)

    def either(self, values: Sequence[Expr]) -> Expr:
        """The value of the direction at hand."""
        if len(values) == 1 or values[0] == values[1]:
            return values[0]
        return select(self.named("ahead", "d == 0", dt.boolean), *values)

    def let(self, name: str, values: Sequence[Expr]) -> Expr:
        """A variable, from its value per direction."""
        value = self.either(values)
        printer = Printer(self.types, lambda node, _: self.texts[node.index] if isinstance(node, Input) else "", self.w, prefix=f"{name}_")
        self.w(f"{name} = {printer.value(value, dt.f32)}")
        return self.named(name)

    def write(self) -> None:
        """Everything."""
        op, directions = self.all.op, range(self.all.directions)
        if isinstance(op, LSTM):
            sums = [self.product(gate) + self.fed(gate) for gate in range(4)]
            rows = [self.row("p", k * self.all.hidden) for k in range(3)]
            peepholes = [p for p in rows if p is not None]
            before = self.buffer("cell")
            cell = self.let("cell", [op.cell(d, sums, before, peepholes) for d in directions])
            self.let("hidden", [op.hidden(d, sums[1], cell, peepholes) for d in directions])
            if self.all.lens:
                self.w("cell = tl.where(live, cell, cell_old)")
            self.all.keep(self.w, "cell", "cell", "new + own")
        elif isinstance(op, GRU):
            if not self._gru(op):
                return
        else:
            assert isinstance(op, RNN)
            total = self.product(0) + self.fed(0)
            self.let("hidden", [op.hidden(d, total) for d in directions])
        self._finish()

    def _gru(self, op: GRU) -> bool:
        """Whether the state is there after the pass."""
        directions = range(self.all.directions)
        before = self.buffer("exact")
        if op.linear_before_reset:
            z = self.let("z", [op.gate(d, self.product(0) + self.fed(0)) for d in directions])
            r = self.let("opened", [op.gate(d, self.product(1) + self.fed(1)) for d in directions])
            total = r * self.product(2) + self.fed(2)
        elif self.number == 0:
            self.let("z", [op.gate(d, self.product(0) + self.fed(0)) for d in directions])
            self.let("kept", [op.gate(d, self.product(1) + self.fed(1)) * before for d in directions])
            self.all.keep(self.w, "update", "z", "own")
            self.all.keep(self.w, "reset", "kept", "own")
            self.all.handed(self.w)
            return False
        else:
            z, total = self.buffer("update"), self.product(2) + self.fed(2)
        self.let("hidden", [op.hidden(d, z, total, before) for d in directions])
        return True

    def _finish(self) -> None:
        """Stores the state ``hidden``, and at the last step what is left."""
        every, w, outs = self.all, self.w, self.all.region.outs
        shown = "hidden"
        if every.lens:
            self.buffer("exact")
            w("shown = tl.where(live, hidden, 0.0)", "hidden = tl.where(live, hidden, exact_old)")
            shown = "shown"
        for buffer in ("state", "exact"):
            every.keep(w, buffer, "hidden", "new + own")
        every.handed(w)
        mask = within(every.inside)
        w(f"tl.store(y + {every.at_time(outs[0], 'j', 1, 2)}, {stored(shown, every.dtype)}{mask})")
        with w.block(f"if s == {every.steps - 1}"):
            for name, value, view in zip(("y_h", "y_c"), ("hidden", "cell"), outs[1:], strict=False):
                w(f"tl.store({name} + {every.state_at(view)}, {stored(value, every.dtype)}{mask})")


def within(checks: Sequence[str]) -> str:
    """Arguments of a store."""
    return f", mask={' & '.join(checks)}" if checks else ""
